//! `facts`.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::Reader;
use super::raw::{self, FactsSource};
use crate::domain::record::ResourceType;
use crate::source::FeedSettings;
use crate::source::workos::{self, ApiKey, ServerUrl};
use crate::sync::Ttl;
use crate::wire::{Environment, Model};
use crate::yaml::{Node, Placed};

/// Where facts come from, and how old they may be.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Where they come from.
    pub origin: Origin,
    /// How old they may be where a route does not say otherwise.
    pub max_staleness: Duration,
    /// The most memory they may take, bytes.
    pub max_memory: u64,
}

/// Where facts come from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Nowhere.
    Nowhere,
    /// A file.
    File(PathBuf),
    /// The bundled store.
    Store(Store),
    /// A server that speaks the WorkOS API.
    Workos(Workos),
}

/// The bundled store, and what of it is kept here.
#[derive(Debug, Clone)]
pub struct Store {
    /// Where it is.
    pub feed: FeedSettings,
    /// Whether every organization is kept in memory.
    pub everything: bool,
    /// The folder in which the last good facts survive a restart.
    pub persist: Option<PathBuf>,
}

/// A server that speaks the WorkOS API, and how often it is asked.
#[derive(Debug, Clone)]
pub struct Workos {
    /// Where it is.
    pub server: workos::Settings,
    /// How long the facts of one organization live.
    pub ttl: Ttl,
    /// How often events are asked for; `None` = never.
    pub events: Option<Duration>,
}

impl Facts {
    /// No facts.
    pub const NONE: Self =
        Self { origin: Origin::Nowhere, max_staleness: Duration::from_secs(300), max_memory: 512 * 1024 * 1024 };

    /// Whether there are any.
    pub fn exist(&self) -> bool {
        !matches!(self.origin, Origin::Nowhere)
    }

    /// Whether the source lists revocations, so that a route can require the list.
    pub fn lists_revocations(&self) -> bool {
        match self.origin {
            Origin::Store(_) => true,
            Origin::Nowhere | Origin::File(_) | Origin::Workos(_) => false,
        }
    }

    /// Whether the source says what is revoked, be it a list or not.
    pub fn hear_of_revocations(&self) -> bool {
        match &self.origin {
            Origin::Store(_) => true,
            Origin::Workos(workos) => workos.events.is_some(),
            Origin::Nowhere | Origin::File(_) => false,
        }
    }

    /// The shortest time that facts of an organization live before they are read again; zero where they are not.
    pub fn shortest_life(&self) -> Duration {
        match &self.origin {
            Origin::Workos(workos) => workos.ttl.min,
            Origin::Nowhere | Origin::File(_) | Origin::Store(_) => Duration::ZERO,
        }
    }

    /// Whether the server can be asked for a single permission.
    pub fn can_be_checked(&self) -> bool {
        matches!(self.origin, Origin::Workos(_))
    }
}

impl Reader<'_> {
    pub(super) fn facts(&mut self) -> Facts {
        let document = self.document;
        let Some(node) = document.get("facts").filter(|node| !node.is_null()) else { return Facts::NONE };
        let Some(raw) = self.read::<raw::Facts>(node) else { return Facts::NONE };
        self.useless(node, raw.source);
        let (max_staleness, max_memory) = (raw.max_staleness.0, raw.max_memory.0);
        let origin = match raw.source {
            FactsSource::None => Some(Origin::Nowhere),
            FactsSource::File => match &raw.file {
                Some(file) => Some(Origin::File(self.path(file))),
                None => {
                    self.problem_at("facts", "`source: file` needs `file`");
                    None
                }
            },
            FactsSource::Store => self.store(node, raw).map(Origin::Store),
            FactsSource::Workos => self.workos(node, raw).map(Origin::Workos),
        };
        if let (Some(Origin::Workos(workos)), Some(staleness)) = (&origin, node.get("max_staleness"))
            && max_staleness < workos.ttl.max
        {
            let message =
                "`max_staleness` is shorter than `ttl.max`: facts would be refused before they are read again";
            self.problems.push(staleness.problem(message));
        }
        // Whatever is missing was reported. Rules are not to be told that there are no facts when there ought to be some.
        let origin = origin.unwrap_or(Origin::File(PathBuf::new()));
        Facts { origin, max_staleness, max_memory }
    }

    /// Keys that would never be looked at.
    fn useless(&mut self, node: &Node, source: FactsSource) {
        let (word, used): (_, &[&str]) = match source {
            FactsSource::None => ("none", &[]),
            FactsSource::File => ("file", &["file"]),
            FactsSource::Store => ("store", &["url", "key", "insecure", "ca", "organizations", "persist"]),
            FactsSource::Workos => {
                ("workos", &["url", "key", "insecure", "ttl", "rate", "events", "check_within", "model"])
            }
        };
        let of_any = ["source", "max_staleness", "max_memory"];
        for (key, _, value) in node.entries() {
            if !of_any.contains(&key) && !used.contains(&key) {
                self.problems.push(value.problem(format!("`{key}` has no use with `source: {word}`")));
            }
        }
    }

    fn store(&mut self, node: &Node, raw: raw::Facts) -> Option<Store> {
        let key = raw.key.filter(|key| !key.is_empty()).map(|key| key.expose().to_owned());
        if key.is_none() {
            let place = node.get("key").unwrap_or(node);
            self.problems.push(place.problem("`source: store` needs `key`, one of the store's `sync_keys`"));
        }
        let Some(Placed { value, place }) = raw.url else {
            self.problem_at("facts", "`source: store` needs `url`, such as http://127.0.0.1:9902");
            return None;
        };
        // The same care as with any server that a key is sent to.
        let url = self.accept(&place, ServerUrl::new(&value, raw.insecure.unwrap_or_default()));
        let url = url.and_then(|url| url.as_str().parse::<Uri>().ok());
        if url.as_ref().is_some_and(|url| url.path() != "/") {
            self.problems.push(place.problem(format!("url `{value}` has a path, expected the store's address only")));
        }
        let ca = raw.ca.and_then(|Placed { value, place }| {
            let path = self.file(&value);
            let read = std::fs::read(&path).map_err(|error| format!("`{}` cannot be read: {error}", path.display()));
            let ca = self.accept(&place, read)?;
            self.contents.push(("facts", ca.clone()));
            Some(ca)
        });
        let persist = raw.persist.map(|folder| self.path(&folder));
        let everything = raw.organizations == Some(raw::Residents::All);
        Some(Store { feed: FeedSettings { url: url?, key: key?, ca }, everything, persist })
    }

    fn workos(&mut self, node: &Node, raw: raw::Facts) -> Option<Workos> {
        let at = |key: &str| node.get(key).unwrap_or(node);
        let url = match raw.url {
            Some(Placed { value, place }) => {
                self.accept(&place, ServerUrl::new(&value, raw.insecure.unwrap_or_default()))
            }
            None => {
                self.problem_at("facts", "`source: workos` needs `url`, such as https://api.workos.com");
                None
            }
        };
        let key = match raw.key.filter(|key| !key.is_empty()) {
            Some(key) => Some(ApiKey::new(key.expose().to_owned())),
            None => {
                self.problems.push(at("key").problem("`source: workos` needs `key`, an API key that may read"));
                None
            }
        };
        let ttl = raw.ttl.unwrap_or_default();
        let ttl = Ttl { min: ttl.min.0, max: ttl.max.0 };
        if ttl.min.is_zero() || ttl.max < ttl.min {
            self.problems.push(at("ttl").problem("`ttl` needs a `min` above 0 and a `max` that is not below it"));
        }
        let rate = raw.rate.unwrap_or(100);
        if rate == 0 {
            self.problems.push(at("rate").problem("`rate` is 0: nothing could be asked"));
        }
        let check_within = raw.check_within.map_or(Duration::from_secs(1), |span| span.0);
        if check_within.is_zero() {
            self.problems.push(at("check_within").problem("`check_within` is 0: no check could be answered"));
        }
        let resource_types = match raw.model {
            Some(model) => self.resource_types(&model, at("model")),
            None => Vec::new(),
        };
        let events = raw.events.map_or(Duration::from_secs(1), |span| span.0);
        Some(Workos {
            server: workos::Settings { url: url?, key: key?, requests_per_second: rate, check_within, resource_types },
            ttl,
            events: Some(events).filter(|events| !events.is_zero()),
        })
    }

    fn resource_types(&mut self, model: &raw::ResourceTypes, node: &Node) -> Vec<ResourceType> {
        let model = Model { resource_types: model.resource_types.clone(), ..Model::default() };
        match Environment::new(&model, node) {
            Ok(environment) => environment.rows().resource_types.clone(),
            Err(problems) => {
                self.problems.extend(problems);
                Vec::new()
            }
        }
    }
}
