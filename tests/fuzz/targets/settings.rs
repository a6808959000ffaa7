//! F6: what operators write.

use std::path::Path;

use portcullis::config::{self, Environment};
use portcullis::wire::Facts;
use portcullis::yaml::{self, Problems};

struct Variables;

impl Environment for Variables {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "A").then(|| "a: [b".to_owned())
    }
}

/// Files: the same text is the same configuration, and whatever is wrong has its place in that text.
pub fn f06_configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // They may name files, which are read: not those that never end.
    if ["dev", "proc", "sys"].iter().any(|folder| text.contains(folder)) {
        return;
    }
    let nowhere = Path::new("/nonexistent/portcullis");
    let sidecar = || config::parse("file.yaml", text, nowhere, &Variables).map(|sidecar| format!("{sidecar:?}"));
    judged(text, &sidecar(), &sidecar());
    let store = || config::store::parse("file.yaml", text, nowhere, &Variables).map(|store| format!("{store:?}"));
    judged(text, &store(), &store());
    let node = || yaml::parse("file.yaml", text, None);
    let shown = || node().map(|node| format!("{node:?}"));
    judged(text, &shown(), &shown());
    let Ok(node) = node() else { return };
    let facts = || Facts::read(&node, &|_| Err(Problems::default()));
    judged(text, &facts(), &facts());
}

/// Twice the same, or refused twice for the same reasons, each with its place.
fn judged<T: PartialEq + std::fmt::Debug>(text: &str, one: &Result<T, Problems>, again: &Result<T, Problems>) {
    let lines = text.split(['\n', '\r']).count();
    match (one, again) {
        (Ok(one), Ok(again)) => assert_eq!(one, again),
        (Err(one), Err(again)) => {
            assert_eq!(one.to_string(), again.to_string());
            for problem in &one.0 {
                let said = problem.to_string();
                let line =
                    said.strip_prefix("file.yaml:").and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
                assert!(line.is_some_and(|line| (1..=lines + 1).contains(&line)), "{said}");
            }
        }
        _ => panic!("read in two ways"),
    }
}
