//! What takes a restart: the parts of a configuration that are built into the running services. A reload that changes them has to say so.

use std::hash::{DefaultHasher, Hasher};

use serde_json::Value;

use crate::yaml::Node;

/// Keys at the top of the file that a reload does not put in force, or not all of.
const KEYS: [&str; 13] = [
    "listen",
    "status",
    "admin",
    "upgrade",
    "upstreams",
    "facts",
    "trusted_proxies",
    "identity_headers",
    "header_prefix",
    "forward_token",
    "limits",
    "threads",
    "log",
];

/// What a process was started with, of all that it cannot change while it runs. Holds no text of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltIn([u64; KEYS.len()]);

impl BuiltIn {
    pub(super) fn of(document: &Node) -> Self {
        Self(KEYS.map(|key| fingerprint(key, document.get(key))))
    }

    /// The top-level keys under which something else is written in `other`. Files that are named there are not compared.
    pub fn changed(&self, other: &Self) -> Vec<&'static str> {
        let both = self.0.iter().zip(&other.0);
        KEYS.into_iter().zip(both).filter_map(|(key, (ours, theirs))| (ours != theirs).then_some(key)).collect()
    }
}

/// Tells two values of `key` apart; what of it a reload does put in force does not count.
fn fingerprint(key: &str, node: Option<&Node>) -> u64 {
    let mut value: Value = node.and_then(|node| node.read().ok()).unwrap_or_default();
    let members = value.as_object_mut();
    match (key, members) {
        ("limits", Some(limits)) => _ = limits.remove("token_cache"),
        ("facts", Some(facts)) => _ = facts.remove("max_staleness"),
        ("upstreams", Some(upstreams)) => {
            for upstream in upstreams.values_mut().filter_map(Value::as_object_mut) {
                upstream.remove("paths");
            }
        }
        _ => {}
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(value.to_string().as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    const TEXT: &str = "
listen: [{address: '127.0.0.1:1'}]
admin: {address: '127.0.0.1:2', token: a}
upstreams: {app: {servers: ['a:1'], paths: {case: sensitive}}}
facts: {source: file, file: f, max_staleness: 5m}
limits: {head: 1KiB, token_cache: 1MiB}
forward_token: true
routes: []
";

    fn of(text: &str) -> BuiltIn {
        BuiltIn::of(&yaml::parse("c.yaml", text, None).unwrap())
    }

    #[test]
    fn what_is_built_in_is_told_from_what_a_reload_puts_in_force() {
        for (from, to, expected) in [
            ("routes: []", "routes: [{}]", &[][..]),
            ("case: sensitive", "case: insensitive", &[]),
            ("5m", "6m", &[]),
            ("token_cache: 1MiB", "token_cache: 2MiB", &[]),
            ("{head: 1KiB, token_cache: 1MiB}", "{token_cache: 1MiB, head: 1KiB}", &[]),
            ("head: 1KiB", "head: 2KiB", &["limits"]),
            ("token: a", "token: b", &["admin"]),
            ("127.0.0.1:1", "127.0.0.1:3", &["listen"]),
            ("a:1", "a:2", &["upstreams"]),
            ("file: f", "file: g", &["facts"]),
            ("forward_token: true\n", "trusted_proxies: []\n", &["trusted_proxies", "forward_token"]),
        ] {
            assert!(TEXT.contains(from));
            assert_eq!(of(TEXT).changed(&of(&TEXT.replace(from, to))), expected, "{from} -> {to}");
        }
    }
}
