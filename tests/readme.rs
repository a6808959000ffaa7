//! What the README shows is what is there: files are quoted as they are, snippets load, commands exist.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::Path;

use portcullis::config::{self, Environment};

/// A fenced block of the README: what stands behind the fence, and what it holds.
struct Block {
    info: Vec<String>,
    text: String,
}

struct Nothing;

impl Environment for Nothing {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn blocks() -> Vec<Block> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in readme.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => {
                open = Some(Block { info: info.split(' ').map(str::to_owned).collect(), text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

#[test]
fn the_readme_quotes_files_as_they_are() {
    let mut quoted = Vec::new();
    for block in blocks() {
        let Some(file) = block.info.get(1).filter(|word| word.contains('/')) else { continue };
        let there = std::fs::read_to_string(root().join(file)).unwrap();
        assert_eq!(block.text, there, "README.md and {file} differ");
        quoted.push(file.clone());
    }
    assert_eq!(quoted, ["config/quickstart/portcullis.yaml", "config/quickstart/facts.yaml"]);
}

/// A snippet marked `part` is some top-level keys of a configuration; the others are filled in.
#[test]
fn every_part_of_a_configuration_that_the_readme_shows_loads() {
    let rest = [
        ("version", "1"),
        ("listen", "[{address: 127.0.0.1:0}]"),
        ("upstreams", "{app: {servers: [\"127.0.0.1:1\"]}}"),
        (
            "tokens",
            "[{name: session, issuer: i, audience: none, required_claims: [sid], jwks_file: keys.json, algorithms: [RS256]}]",
        ),
        ("facts", "{source: file, file: facts.yaml}"),
        ("routes", "[{id: health, match: {path: /healthz}, public: true}]"),
    ];
    let parts: Vec<_> =
        blocks().into_iter().filter(|block| block.info.get(1).is_some_and(|word| word == "part")).collect();
    assert!(parts.len() >= 5, "there are {} of them", parts.len());
    for part in parts {
        let mut text = part.text.clone();
        for (key, value) in rest {
            if !part.text.lines().any(|line| line.starts_with(&format!("{key}:"))) {
                text += &format!("{key}: {value}\n");
            }
        }
        let read = config::parse("README.md", &text, &root().join("config/quickstart"), &Nothing);
        assert!(read.is_ok(), "{}\n{text}", read.unwrap_err());
    }
}

#[test]
fn set_up_is_two_commands_at_the_top() {
    let first = blocks().into_iter().next().unwrap();
    let commands: Vec<_> = first.text.lines().map(|line| line.split('#').next().unwrap().trim()).collect();
    assert_eq!(commands, ["cargo run --release -- demo", "cargo test"]);
}

#[test]
fn links_lead_somewhere() {
    for file in ["README.md", "docs/decisions.md", "docs/operations.md", "docs/threat-model.md", "docs/testing.md"] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let target = root().join(file).parent().unwrap().join(link.split('#').next().unwrap());
            assert!(target.exists(), "{file} links to {link}, which is not there");
        }
    }
}

#[test]
fn every_series_is_explained_and_every_explained_series_exists() {
    let names = |file: &str| -> std::collections::BTreeSet<String> {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        words.filter(|word| word.starts_with("portcullis_")).map(str::to_owned).collect()
    };
    let there: std::collections::BTreeSet<_> =
        names("src/telemetry/metrics.rs").union(&names("src/telemetry/streams.rs")).cloned().collect();
    assert_eq!(names("docs/operations.md"), there);
    let used = names("config/prometheus/portcullis.rules.yml");
    let used: Vec<_> = used.union(&names("README.md")).cloned().collect();
    for name in used {
        assert!(there.contains(name.trim_end_matches("_bucket")), "there is no series {name}");
    }
}

/// The texts of all files below that are Rust.
fn sources(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *into += &std::fs::read_to_string(&path).unwrap();
        }
    }
}

/// Tests are named whole, or by how they begin: `row_31_…`. Some are made by a macro, from a name and a closure.
#[test]
fn tests_that_documents_name_exist() {
    let mut code = String::new();
    sources(&root().join("src"), &mut code);
    sources(&root().join("tests"), &mut code);
    let is_name = |text: &str| text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    let (mut named, mut missing) = (0, Vec::new());
    for document in ["docs/bypasses.md", "docs/faults.md", "docs/threat-model.md"] {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        for quoted in text.split('`').skip(1).step_by(2) {
            let (begin, is_whole) = quoted.strip_suffix('…').map_or((quoted, true), |begin| (begin, false));
            if !is_name(begin) || (is_whole && begin.matches('_').count() < 3) {
                continue;
            }
            named += 1;
            let there = if is_whole {
                code.contains(&format!("fn {begin}(")) || code.contains(&format!("{begin}: |"))
            } else {
                code.contains(&format!("fn {begin}"))
            };
            if !there {
                missing.push(format!("{document}: {quoted}"));
            }
        }
    }
    assert_eq!(missing, [""; 0]);
    assert!(named > 100, "{named} only");
}
