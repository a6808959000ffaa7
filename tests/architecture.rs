//! The rules of the house, checked on the sources themselves.
//!
//! The map in `src/lib.rs` is the law: it says on which floor every room lies, and a room imports from lower floors
//! only. The other rules keep each framework behind its door and each proof value with the one file that may make it.
//! Every rule is first shown to fail on a few lines that break it, then held against `src/`.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use self::source::Source;

#[path = "architecture/source.rs"]
mod source;

/// Crates that stay behind a door, and the places that may name them.
const KEPT_CRATES: [(&str, &[&str]); 3] = [
    ("pingora", &["proxy", "app"]),
    ("axum", &["proxy", "authz", "socket/pages", "store", "admin", "cli/demo"]),
    ("sqlx", &["store"]),
];

/// Proof values, and the only place that may build each.
const PROOFS: [(&str, &str); 2] = [("Permit", "domain/decision"), ("Verified", "token")];

/// Rooms that compute and never wait.
const NEVER_ASYNC: [&str; 3] = ["domain", "rules", "yaml"];

/// What reads a clock.
const CLOCKS: [[&str; 2]; 2] = [["SystemTime", "now"], ["Instant", "now"]];

/// Who may read a clock: the wiring, and whoever measures how long something took.
const MAY_READ_CLOCKS: [&str; 3] = ["app", "telemetry", "proxy"];

/// A file with more lines than this, tests left out, holds a second noun.
const MOST_LINES: usize = 500;

/// All rooms, their floors, and what their files say.
struct House {
    /// Room to floor, as the map in `src/lib.rs` has them; `main` stands above all.
    floors: BTreeMap<String, u32>,
    /// The modules that `src/lib.rs` declares.
    declared: Vec<String>,
    /// Every file that is not a test.
    sources: Vec<Source>,
}

impl House {
    /// Reads files given as (path relative to `src/`, content). One of them is `lib.rs`.
    fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut house = Self { floors: BTreeMap::new(), declared: Vec::new(), sources: Vec::new() };
        for (path, text) in files {
            let source = Source::read(path, text);
            if path == "lib.rs" {
                house.floors = text.lines().filter_map(map_row).collect();
                house.declared = source.declared.clone();
            }
            house.sources.push(source);
        }
        let above = house.floors.values().max().map_or(0, |top| top + 1);
        house.floors.insert("main".to_owned(), above);
        let tests: Vec<_> = house.sources.iter().flat_map(|source| source.test_modules.clone()).collect();
        house.sources.retain(|source| !tests.iter().any(|test| source.module.starts_with(test)));
        house
    }

    /// The house as it stands in this repository.
    fn as_built() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        collect(&root, &root, &mut files);
        Self::read(files.iter().map(|(path, text)| (path.as_str(), text.as_str())))
    }

    /// Imports that go sideways or up.
    fn wrong_imports(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for source in self.sources.iter().filter(|source| source.room() != "lib") {
            let room = source.room();
            for mention in &source.mentions {
                let [first, other, ..] = mention.segments.as_slice() else { continue };
                if first != "crate" || other == room {
                    continue;
                }
                let place = format!("`{}:{}` imports `{other}`", source.path, mention.line);
                match (self.floors.get(room), self.floors.get(other)) {
                    (Some(floor), Some(below)) if below < floor => {}
                    (Some(floor), Some(_)) => {
                        wrong.push(format!("{place}; {room} is floor {floor} and may import {}", self.below(*floor)));
                    }
                    (None, _) => wrong.push(format!("{place}; {room} has no floor in the map of `lib.rs`")),
                    (_, None) => wrong.push(format!("{place}, which has no floor in the map of `lib.rs`")),
                }
            }
        }
        wrong.sort();
        wrong.dedup();
        wrong
    }

    fn below(&self, floor: u32) -> String {
        let rooms: Vec<&str> =
            self.floors.iter().filter(|(_, other)| **other < floor).map(|(room, _)| room.as_str()).collect();
        if rooms.is_empty() { "nothing from this crate".to_owned() } else { format!("only {}", rooms.join(", ")) }
    }

    /// Frameworks outside their doors.
    fn misplaced_crates(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (kept, places) in KEPT_CRATES {
            for source in self.sources.iter().filter(|source| !places.iter().any(|place| source.lies_in(place))) {
                let names = |segment: &String| *segment == kept || segment.starts_with(&format!("{kept}_"));
                for mention in source.mentions.iter().filter(|mention| mention.segments.first().is_some_and(names)) {
                    let places = places.join(", ");
                    wrong.push(format!("`{}:{}` names `{kept}`, which stays in {places}", source.path, mention.line));
                }
            }
        }
        wrong
    }

    /// Asynchronous code in rooms that never wait.
    fn misplaced_async(&self) -> Vec<String> {
        let sources = self.sources.iter().filter(|source| NEVER_ASYNC.contains(&source.room()));
        sources
            .flat_map(|source| {
                let room = source.room();
                source
                    .asynchronous
                    .iter()
                    .map(move |line| format!("`{}:{line}` is asynchronous; {room} never waits", source.path))
            })
            .collect()
    }

    /// Proof values built where they prove nothing.
    fn forged_proofs(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (proof, place) in PROOFS {
            for source in self.sources.iter().filter(|source| !source.lies_in(place)) {
                for built in source.built.iter().filter(|built| built.name == proof) {
                    let Source { path, .. } = source;
                    wrong.push(format!("`{path}:{}` builds a `{proof}`, which only `{place}` may", built.line));
                }
            }
        }
        wrong
    }

    /// Clocks read where time is an argument.
    fn clock_readers(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for source in self.sources.iter().filter(|source| !MAY_READ_CLOCKS.iter().any(|place| source.lies_in(place))) {
            for mention in &source.mentions {
                let reads = CLOCKS.iter().any(|clock| mention.segments.ends_with(&clock.map(str::to_owned)));
                if reads {
                    let Source { path, .. } = source;
                    wrong.push(format!("`{path}:{}` reads a clock; time is an argument there", mention.line));
                }
            }
        }
        wrong
    }

    /// Files in which a second noun has moved in.
    fn long_files(&self) -> Vec<String> {
        let long = self.sources.iter().filter(|source| source.code_lines > MOST_LINES);
        long.map(|Source { path, code_lines, .. }| {
            format!("`{path}` has {code_lines} lines without its tests, at most {MOST_LINES} are allowed")
        })
        .collect()
    }

    /// Differences between the map in `src/lib.rs` and the modules that are there.
    fn map_errors(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for room in self.floors.keys().filter(|room| *room != "main" && !self.declared.contains(room)) {
            wrong.push(format!("the map of `lib.rs` names `{room}`, which is no module"));
        }
        for room in self.declared.iter().filter(|room| !self.floors.contains_key(*room)) {
            wrong.push(format!("`{room}` is a module and has no row in the map of `lib.rs`"));
        }
        wrong
    }
}

/// A row of the map, `//! | 0 ground | [`domain`] | … |`, as (room, floor).
fn map_row(line: &str) -> Option<(String, u32)> {
    let mut cells = line.strip_prefix("//! |")?.split('|');
    let floor = cells.next()?.split_whitespace().next()?.parse().ok()?;
    let room = cells.next()?.trim().strip_prefix("[`")?.strip_suffix("`]")?;
    Some((room.to_owned(), floor))
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            files.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

mod the_house_as_built {
    use super::House;

    #[track_caller]
    fn nothing(wrong: &[String]) {
        assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    }

    #[test]
    fn imports_from_lower_floors_only() {
        nothing(&House::as_built().wrong_imports());
    }

    #[test]
    fn keeps_each_framework_behind_its_door() {
        nothing(&House::as_built().misplaced_crates());
    }

    #[test]
    fn never_waits_where_it_computes() {
        nothing(&House::as_built().misplaced_async());
    }

    #[test]
    fn makes_proof_values_in_one_place_each() {
        nothing(&House::as_built().forged_proofs());
    }

    #[test]
    fn reads_clocks_only_where_it_measures() {
        nothing(&House::as_built().clock_readers());
    }

    #[test]
    fn has_no_file_with_two_nouns() {
        nothing(&House::as_built().long_files());
    }

    #[test]
    fn is_the_one_on_the_map() {
        nothing(&House::as_built().map_errors());
    }
}

mod a_rule_fails {
    use super::House;

    const LIB: &str = "
//! | floor | module | what lives there |
//! |---|---|---|
//! | 0 ground | [`domain`] | words |
//! | 1 speech | [`rules`] | routes |
//! | 2 engines | [`token`] | tokens |
//! | 2 engines | [`live`] | the world |
//! | 3 rooms | [`gate`] | verdicts |
pub mod domain; pub mod rules; pub mod token; pub mod live; pub mod gate;
";

    /// What one rule says of one file in a small house.
    fn findings(rule: impl Fn(&House) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
        rule(&House::read([("lib.rs", LIB), (path, text)]))
    }

    #[test]
    fn in_plain_sentences() {
        assert_eq!(
            findings(House::wrong_imports, "domain/build.rs", "\nuse crate::token::Verified;"),
            ["`domain/build.rs:2` imports `token`; domain is floor 0 and may import nothing from this crate"]
        );
        assert_eq!(
            findings(House::wrong_imports, "token/jwt.rs", "use crate::live::World;"),
            ["`token/jwt.rs:1` imports `live`; token is floor 2 and may import only domain, rules"]
        );
        assert_eq!(
            findings(House::wrong_imports, "gate.rs", "use crate::cellar::Wine;"),
            ["`gate.rs:1` imports `cellar`, which has no floor in the map of `lib.rs`"]
        );
        assert_eq!(
            findings(House::wrong_imports, "cellar.rs", "use crate::domain::Id;"),
            ["`cellar.rs:1` imports `domain`; cellar has no floor in the map of `lib.rs`"]
        );
    }

    #[test]
    fn on_every_way_to_write_an_import() {
        for text in [
            "use crate::gate::Gate;",
            "use crate::{domain::Id, gate::{self, Gate}};",
            "use crate::gate as other;",
            "use super::super::gate::Gate;",
            "use portcullis::gate::Gate;",
            "fn f() -> crate::gate::Gate { todo!() }",
            "fn f() { crate::gate::check(); }",
            "fn f(x: Vec<Option<crate::gate::Gate>>) {}",
            "fn f() { println!(\"{}\", crate::gate::check()); }",
            "macro_rules! m { ($x:expr) => { $crate::gate::check($x) }; }",
            "mod inner { fn f() { super::super::super::gate::check(); } }",
            "impl crate::gate::Door for X {}",
            "use crate::*;",
            "#[crate::gate::attribute] struct X;",
        ] {
            assert_eq!(findings(House::wrong_imports, "token/jwt.rs", text).len(), 1, "{text}");
        }
    }

    #[test]
    fn but_not_on_what_is_allowed() {
        for text in [
            "use crate::domain::Id; use crate::rules::RouteTable;",
            "use crate::token::keys::Keys; use super::keys::Keys; use super::Verified; use self::inner::X;",
            "pub(crate) struct X; pub(super) struct Y; pub(in crate::token) struct Z;",
            "use gate::Gate; use std::sync::Arc;",
            "/// See [`crate::gate`].\nstruct X;",
            "#[cfg(test)] mod tests { use crate::gate::Gate; use pingora::X; }",
            "#[cfg(all(test, unix))] use crate::gate::Gate;",
            "impl X { #[cfg(test)] fn f() { crate::gate::check(); } }",
        ] {
            assert_eq!(findings(House::wrong_imports, "token/jwt.rs", text), Vec::<String>::new(), "{text}");
        }
        assert!(findings(House::wrong_imports, "main.rs", "use portcullis::gate;").is_empty());
    }

    #[test]
    fn not_on_a_test_that_lives_in_its_own_file() {
        let house = House::read([
            ("lib.rs", LIB),
            ("token/jwt.rs", "#[cfg(test)]\nmod tests;"),
            ("token/jwt/tests.rs", "use crate::gate::Gate; use pingora::X;"),
        ]);
        assert!(house.wrong_imports().is_empty());
        assert!(house.misplaced_crates().is_empty());
    }

    #[test]
    fn when_a_framework_leaves_its_door() {
        for (path, text, expected) in [
            ("gate.rs", "use pingora::proxy::Session;", 1),
            ("gate.rs", "fn f(s: &pingora_core::Server) {}", 1),
            ("proxy/mod.rs", "use pingora::proxy::Session;", 0),
            ("app.rs", "use pingora::server::Server;", 0),
            ("application.rs", "use pingora::server::Server;", 1),
            ("live.rs", "extern crate axum;", 1),
            ("store/roles.rs", "use axum::Json; use sqlx::Row;", 0),
            ("admin.rs", "use axum::Json; use sqlx::Row;", 1),
            ("cli/demo.rs", "use axum::Json;", 0),
            ("cli/demo_upstream.rs", "use axum::Json;", 0),
            ("cli/explain.rs", "use axum::Json;", 1),
        ] {
            assert_eq!(findings(House::misplaced_crates, path, text).len(), expected, "{path}: {text}");
        }
    }

    #[test]
    fn when_a_room_that_computes_begins_to_wait() {
        for text in [
            "async fn f() {}",
            "trait T { async fn f(); }",
            "fn f() { let x = async { 1 }; }",
            "fn f() { g(async move |x| x); }",
            "fn f() { select! { x = async { 1 } => x } }",
        ] {
            assert_eq!(findings(House::misplaced_async, "rules/compile.rs", text).len(), 1, "{text}");
            assert_eq!(findings(House::misplaced_async, "gate.rs", text).len(), 0, "{text}");
        }
    }

    #[test]
    fn when_a_proof_is_forged() {
        for text in [
            "fn f() { Permit { grounds }; }",
            "fn f() { domain::Permit { grounds }; }",
            "impl Permit { fn f() -> Self { Self { grounds } } }",
            "fn f() { Verified(principal); }",
            "fn f() { Verified { principal }; }",
            "fn f() { x.map(token::Verified); }",
            "impl<T> Verified<T> { fn f(x: T) -> Self { Self(x) } }",
            "fn f() { vec![Verified(principal)]; }",
        ] {
            assert_eq!(findings(House::forged_proofs, "gate.rs", text).len(), 1, "{text}");
        }
        assert!(findings(House::forged_proofs, "domain/decision.rs", "fn f() { Permit { grounds }; }").is_empty());
        assert!(findings(House::forged_proofs, "token/mod.rs", "fn f() { Verified(principal); }").is_empty());
        assert_eq!(findings(House::forged_proofs, "domain/shard.rs", "fn f() { Permit { grounds }; }").len(), 1);
        for text in ["fn f(Verified(x): Verified<X>) {}", "fn f(p: &Permit) -> Permit { p.clone() }"] {
            assert!(findings(House::forged_proofs, "gate.rs", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn when_a_clock_is_read_in_passing() {
        for text in [
            "fn f() { std::time::SystemTime::now(); }",
            "fn f() { Instant::now(); }",
            "fn f() { tokio::time::Instant::now(); }",
            "fn f() { x.unwrap_or_else(Instant::now); }",
        ] {
            assert_eq!(findings(House::clock_readers, "live.rs", text).len(), 1, "{text}");
            assert_eq!(findings(House::clock_readers, "app.rs", text).len(), 0, "{text}");
            assert_eq!(findings(House::clock_readers, "telemetry/log.rs", text).len(), 0, "{text}");
        }
        assert!(findings(House::clock_readers, "live.rs", "fn f(now: SystemTime, i: Instant) {}").is_empty());
    }

    #[test]
    fn when_a_file_outgrows_its_noun() {
        let code = "struct X;\n".repeat(super::MOST_LINES);
        assert!(findings(House::long_files, "gate.rs", &code).is_empty());
        let tests = format!("{code}#[cfg(test)]\nmod tests {{\n{code}}}\n");
        assert!(findings(House::long_files, "gate.rs", &tests).is_empty());
        let longer = format!("{code}struct Y;\n");
        assert_eq!(
            findings(House::long_files, "gate.rs", &longer),
            ["`gate.rs` has 501 lines without its tests, at most 500 are allowed"]
        );
    }

    #[test]
    fn when_the_map_and_the_house_differ() {
        let missing = LIB.replace("pub mod gate;", "");
        assert_eq!(
            House::read([("lib.rs", missing.as_str())]).map_errors(),
            ["the map of `lib.rs` names `gate`, which is no module"]
        );
        let unmapped = format!("{LIB}pub mod cellar;");
        assert_eq!(
            House::read([("lib.rs", unmapped.as_str())]).map_errors(),
            ["`cellar` is a module and has no row in the map of `lib.rs`"]
        );
        assert!(House::read([("lib.rs", LIB)]).map_errors().is_empty());
    }
}
