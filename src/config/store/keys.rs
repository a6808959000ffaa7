//! `api_keys` and `sync_keys`: item by item, so that every problem keeps its place.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{OwnKey, Reader};
use crate::domain::OrganizationId;
use crate::store::{ApiKey, Scope, SyncKey};
use crate::yaml::{Node, Placed};

/// A key in full, with every scope, or its hash; read by itself, so that problems keep their places.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "for the JSON Schema only")]
#[serde(untagged)]
pub(super) enum ApiKeySpec {
    Text(String),
    Hash(HashedApiKey),
}

/// An API key by its hash.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HashedApiKey {
    /// What it is known by in the audit log.
    name: Placed<String>,
    /// SHA-256 of the key, in hexadecimal.
    sha256: Placed<String>,
    /// What it may be used for.
    scopes: Placed<Vec<ScopeSpec>>,
}

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ScopeSpec {
    /// Reading, checks included.
    Read,
    /// Writing.
    Write,
    /// Making tokens.
    Mint,
}

/// A key in full, for all organizations, or its hash; read by itself as well.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "for the JSON Schema only")]
#[serde(untagged)]
pub(super) enum SyncKeySpec {
    Text(String),
    Hash(HashedSyncKey),
}

/// A key of sidecars by its hash.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HashedSyncKey {
    /// What it is known by.
    name: Placed<String>,
    /// SHA-256 of the key, in hexadecimal.
    sha256: Placed<String>,
    /// `all`, or a list of ids.
    organizations: Placed<OrganizationsSpec>,
}

/// Whose facts a sidecar may read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected `all` or a list of ids")]
pub(super) enum OrganizationsSpec {
    Word(String),
    Ids(Vec<OrganizationId>),
}

impl<'a> Reader<'a> {
    pub(super) fn api_keys(&mut self, list: &Placed<Vec<IgnoredAny>>) -> (Vec<ApiKey>, Option<OwnKey>) {
        let all = [Scope::Read, Scope::Write, Scope::Mint];
        if list.is_empty() {
            self.problems.push(list.problem("`api_keys` is empty: nobody could use the store"));
        }
        let (mut keys, mut own) = (Vec::new(), None);
        let mut names = BTreeSet::new();
        for (node, number) in self.items("api_keys").zip(1..) {
            if let Some(text) = node.as_str() {
                if self.is_key(node, text) {
                    keys.push(ApiKey::new(&format!("api_key_{number}"), text, all.to_vec()));
                    own.get_or_insert_with(|| OwnKey(text.to_owned()));
                }
                continue;
            }
            let Some(HashedApiKey { name, sha256, scopes }) = self.read(node) else { continue };
            self.new_name(&mut names, &name);
            if scopes.is_empty() {
                self.problems.push(scopes.problem("`scopes` is empty: the key would be good for nothing"));
            }
            let scopes = scopes.iter().map(|scope| match scope {
                ScopeSpec::Read => Scope::Read,
                ScopeSpec::Write => Scope::Write,
                ScopeSpec::Mint => Scope::Mint,
            });
            let scopes = scopes.collect();
            keys.extend(self.sha256(&sha256).map(|sha256| ApiKey::hashed(&name, sha256, scopes)));
        }
        (keys, own)
    }

    pub(super) fn sync_keys(&mut self) -> Vec<SyncKey> {
        let mut keys = Vec::new();
        let mut names = BTreeSet::new();
        for (node, number) in self.items("sync_keys").zip(1..) {
            if let Some(text) = node.as_str() {
                if self.is_key(node, text) {
                    let sha256 = crate::store::sha256(text);
                    keys.push(SyncKey::hashed(&format!("sync_key_{number}"), sha256, None));
                }
                continue;
            }
            let Some(HashedSyncKey { name, sha256, organizations }) = self.read(node) else { continue };
            self.new_name(&mut names, &name);
            let Placed { value, place } = organizations;
            let organizations = match value {
                OrganizationsSpec::Ids(ids) => Some(ids.into_iter().collect()),
                OrganizationsSpec::Word(word) => {
                    if word != "all" {
                        let message = format!("organizations is `{word}`, expected `all` or a list of ids");
                        self.problems.push(place.problem(message));
                    }
                    None
                }
            };
            let sha256 = self.sha256(&sha256);
            keys.extend(sha256.map(|sha256| SyncKey::hashed(&name, sha256, organizations)));
        }
        keys
    }

    /// The items of the list at a top-level key.
    fn items(&self, key: &str) -> impl Iterator<Item = &'a Node> + use<'a> {
        self.document.get(key).map(Node::items).unwrap_or_default().iter()
    }

    fn read<T: serde::de::DeserializeOwned>(&mut self, node: &Node) -> Option<T> {
        match node.read_all() {
            Ok(value) => Some(value),
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }

    fn is_key(&mut self, node: &Node, text: &str) -> bool {
        let good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !good {
            self.problems.push(node.problem("a key is empty or has characters other than visible ASCII"));
        }
        good
    }

    fn new_name(&mut self, names: &mut BTreeSet<String>, name: &Placed<String>) {
        if name.is_empty() || name.chars().any(char::is_control) {
            self.problems.push(name.problem("the name of a key is empty or has control characters"));
        } else if !names.insert(name.value.clone()) {
            self.problems.push(name.problem(format!("another key is called `{}`", name.value)));
        }
    }

    fn sha256(&mut self, text: &Placed<String>) -> Option<[u8; 32]> {
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let is_hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        let found = bytes.filter(|_| is_hexadecimal && text.len() == 64).and_then(|bytes| bytes.try_into().ok());
        if found.is_none() {
            self.problems.push(text.problem("`sha256` is not 64 hexadecimal digits"));
        }
        found
    }
}
