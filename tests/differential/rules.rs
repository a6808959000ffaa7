//! Generated rules: pairs of an open one and one that asks for more, so close to each other that a path of the one, read a little
//! otherwise, is a path of the other (bypass case A1: every pair, not a favourite one).

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// A pair, and a request path for each of the two.
pub struct Pair {
    pub rules: String,
    pub open: String,
    pub closed: String,
}

const WORDS: [&str; 14] =
    ["public", "admin", "a", "v1.0", "files", "x-y", "private", "_", "api", "~me", "login", "o'hara", "a+b", "static"];

/// As many pairs, each below a first segment of its own or side by side with others.
pub fn pairs(chance: &mut StdRng, count: usize) -> Vec<Pair> {
    (0..count).map(|number| pair(chance, number)).collect()
}

fn pair(chance: &mut StdRng, number: usize) -> Pair {
    let mut word = || WORDS.choose(chance).copied().unwrap_or("a");
    let (one, other, leaf) = (format!("{}{number}", word()), format!("{}-{number}", word()), word());
    let asks = ["authenticated: true", "require: \"billing:view\"", "require: \"org:manage\""];
    let (asks, turn) = (asks[chance.random_range(0..3)], chance.random_range(0..7));
    let rule =
        |name: &str, matching: &str, asks: &str| format!("- {{id: {name}-{number}, match: {{{matching}}}, {asks}}}\n");
    let open = |matching: &str| rule("open", matching, "public: true");
    let closed = |matching: &str| rule("closed", matching, asks);
    let (first, second, from, to) = match turn {
        // Two areas side by side.
        0 => (
            open(&format!("path: \"/{one}/{{rest...}}\"")),
            closed(&format!("path: \"/{other}/{{rest...}}\"")),
            format!("/{one}/{leaf}"),
            format!("/{other}/{leaf}"),
        ),
        // A closed area inside an open one.
        1 => (
            open(&format!("path: \"/{one}/{{rest...}}\"")),
            closed(&format!("path: \"/{one}/{other}/{{rest...}}\"")),
            format!("/{one}/{leaf}"),
            format!("/{one}/{other}/{leaf}"),
        ),
        // A literal in front of a capture.
        2 => (
            open(&format!("path: \"/{one}/{{name}}\"")),
            closed(&format!("path: /{one}/{other}")),
            format!("/{one}/{leaf}"),
            format!("/{one}/{other}"),
        ),
        // An open leaf in a closed area.
        3 => (
            open(&format!("path: \"/{one}/{{name}}/{other}\"")),
            closed(&format!("path: \"/{one}/{{rest...}}\"")),
            format!("/{one}/{leaf}/{other}"),
            format!("/{one}/{leaf}/x"),
        ),
        // By method.
        4 => (
            open(&format!("methods: [GET], path: \"/{one}/{{name}}\"")),
            closed(&format!("methods: [POST, DELETE], path: \"/{one}/{{name}}\"")),
            format!("/{one}/{leaf}"),
            format!("/{one}/{leaf}"),
        ),
        // By host.
        5 => (
            open(&format!("hosts: [api.test], path: \"/{one}/{{name}}\"")),
            closed(&format!("hosts: [\"*.test\"], path: \"/{one}/{{rest...}}\"")),
            format!("/{one}/{leaf}"),
            format!("/{one}/{leaf}"),
        ),
        // By length.
        _ => (
            open(&format!("path: /{one}")),
            closed(&format!("path: \"/{one}/{{rest...}}\"")),
            format!("/{one}"),
            format!("/{one}/{leaf}"),
        ),
    };
    Pair { rules: format!("{first}{second}"), open: from, closed: to }
}
