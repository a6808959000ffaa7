//! What takes a restart: the parts of a configuration that are built into the running services. A reload that changes them has to say so.

use std::hash::{DefaultHasher, Hasher};

use serde_json::Value;

use crate::yaml::Node;

/// Keys at the top of the file that a reload does not put in force, or not all of.
const KEYS: [&str; 8] = ["listen", "status", "admin", "upgrade", "facts", "limits", "threads", "log"];

/// Those of `limits` that a reload does put in force.
const LIMITS: [&str; 7] = ["head", "header_fields", "target", "client_timeout", "body_rate", "max_body", "token_cache"];

/// Those of a listener's `tls` that a reload does put in force.
const CERTIFICATE: [&str; 2] = ["certificate", "key"];

/// What a process was started with, of all that it cannot change while it runs. Holds no text of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltIn([u64; KEYS.len()]);

impl BuiltIn {
    /// What is built in of `document`, with `contents` of files that are named under these keys.
    pub(super) fn of(document: &Node, contents: &[(&str, Vec<u8>)]) -> Self {
        Self(KEYS.map(|key| fingerprint(key, document.get(key), contents)))
    }

    /// The top-level keys under which something else is written in `other`.
    pub fn changed(&self, other: &Self) -> Vec<&'static str> {
        let both = self.0.iter().zip(&other.0);
        KEYS.into_iter().zip(both).filter_map(|(key, (ours, theirs))| (ours != theirs).then_some(key)).collect()
    }
}

/// Tells two values of `key` apart; what of it a reload does put in force does not count.
fn fingerprint(key: &str, node: Option<&Node>, contents: &[(&str, Vec<u8>)]) -> u64 {
    let mut value: Value = node.and_then(|node| node.read().ok()).unwrap_or_default();
    let members = value.as_object_mut();
    match (key, members) {
        ("limits", Some(limits)) => limits.retain(|limit, _| !LIMITS.contains(&limit.as_str())),
        ("facts", Some(facts)) => _ = facts.remove("max_staleness"),
        _ => {}
    }
    if key == "listen" {
        // Another certificate is shown from then on; that there is one at all is built in.
        let tls =
            value.as_array_mut().into_iter().flatten().filter_map(|listener| listener.get_mut("tls")?.as_object_mut());
        tls.for_each(|tls| tls.retain(|file, _| !CERTIFICATE.contains(&file.as_str())));
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(value.to_string().as_bytes());
    for (_, content) in contents.iter().filter(|(of, _)| *of == key) {
        hasher.write_usize(content.len());
        hasher.write(content);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    const TEXT: &str = "
listen: [{address: '127.0.0.1:1'}, {address: '127.0.0.1:4', tls: {certificate: c, key: k, client_ca: a}}]
admin: {address: '127.0.0.1:2', token: a}
upstreams: {app: {servers: ['a:1'], paths: {case: sensitive}}}
facts: {source: file, file: f, max_staleness: 5m}
limits: {connections: 5, head: 1KiB, token_cache: 1MiB}
forward_token: true
routes: []
";

    fn of(text: &str) -> BuiltIn {
        BuiltIn::of(&yaml::parse("c.yaml", text, None).unwrap(), &[])
    }

    #[test]
    fn what_is_built_in_is_told_from_what_a_reload_puts_in_force() {
        for (from, to, expected) in [
            ("routes: []", "routes: [{}]", &[][..]),
            ("case: sensitive", "case: insensitive", &[]),
            ("5m", "6m", &[]),
            ("token_cache: 1MiB", "token_cache: 2MiB", &[]),
            ("{connections: 5, head: 1KiB, token_cache: 1MiB}", "{token_cache: 1MiB, connections: 5, head: 1KiB}", &[]),
            ("head: 1KiB", "head: 2KiB, target: 1KiB", &[]),
            ("connections: 5", "connections: 6", &["limits"]),
            ("connections: 5", "of_tomorrow: 6", &["limits"]),
            ("token: a", "token: b", &["admin"]),
            ("127.0.0.1:1", "127.0.0.1:3", &["listen"]),
            ("certificate: c, key: k", "key: l, certificate: d", &[]),
            (", client_ca: a", "", &["listen"]),
            (", tls: {certificate: c, key: k, client_ca: a}", "", &["listen"]),
            ("a:1", "a:2", &[]),
            ("file: f", "file: g", &["facts"]),
            ("forward_token: true\n", "trusted_proxies: []\n", &[]),
            ("token: a}", "token: b}\nthreads: 3", &["admin", "threads"]),
        ] {
            assert!(TEXT.contains(from));
            assert_eq!(of(TEXT).changed(&of(&TEXT.replace(from, to))), expected, "{from} -> {to}");
        }
    }

    #[test]
    fn what_stands_in_the_files_counts() {
        let document = yaml::parse("c.yaml", TEXT, None).unwrap();
        let of = |contents: &[(&str, &str)]| {
            let contents: Vec<_> = contents.iter().map(|(key, text)| (*key, text.as_bytes().to_vec())).collect();
            BuiltIn::of(&document, &contents)
        };
        let before = of(&[("listen", "ab"), ("listen", "c"), ("facts", "d")]);
        assert_eq!(before.changed(&of(&[("listen", "a"), ("listen", "bc"), ("facts", "d")])), ["listen"]);
        assert_eq!(before.changed(&of(&[("listen", "ab"), ("listen", "c"), ("facts", "e")])), ["facts"]);
        assert!(before.changed(&of(&[("listen", "ab"), ("facts", "d"), ("listen", "c")])).is_empty());
    }
}
