//! The shape of `facts`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::ResourceTypeSlug;
use crate::wire::ResourceTypeSpec;
use crate::yaml::{Placed, Secret, Size, Span};

/// Where facts come from and how old they may be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Facts {
    /// `store`, `workos`, `file`, or `none` when every route is decided from the token alone.
    pub source: FactsSource,
    /// With `source: file`: the file, read again whenever it changes.
    pub file: Option<Placed<PathBuf>>,
    /// With `source: store`: where it is, such as `http://127.0.0.1:9902`. With `source: workos`: what all paths of the API are below, such
    /// as `https://api.workos.com`.
    pub url: Option<Placed<String>>,
    /// With `source: store`: a sync key. With `source: workos`: the API key.
    pub key: Option<Secret>,
    /// With `source: store` or `workos`: accept plain http to another machine.
    pub insecure: Option<bool>,
    /// With `source: store` over https: PEM certificates to trust instead of the system's.
    pub ca: Option<Placed<PathBuf>>,
    /// With `source: store`: which organizations are in memory; `on_demand` unless written.
    pub organizations: Option<Residents>,
    /// With `source: store`: a folder in which the last good facts survive a restart.
    pub persist: Option<Placed<PathBuf>>,
    /// With `source: workos`: how long facts of one organization live before they are read again.
    pub ttl: Option<Lives>,
    /// With `source: workos`: the most requests in a second, checks included; 100 unless written.
    pub rate: Option<u32>,
    /// With `source: workos`: how often events are asked for, `0s` for never; every second unless written.
    pub events: Option<Span>,
    /// With `source: workos`: how long a check for `verify: live` may take; one second unless written.
    pub check_within: Option<Span>,
    /// With `source: workos`: what the API does not tell.
    pub model: Option<ResourceTypes>,
    /// Facts older than this are not decided on, unless a route says `on_stale: serve`.
    #[serde(default = "five_minutes")]
    pub max_staleness: Span,
    /// The most memory that facts may take.
    #[serde(default = "half_a_gibibyte")]
    pub max_memory: Size,
}

/// Where facts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum FactsSource {
    /// A file of records.
    File,
    /// The bundled store: `portcullis store`.
    Store,
    /// A server that speaks the WorkOS API.
    Workos,
    /// Nowhere: the token is all there is.
    None,
}

/// Which organizations are in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Residents {
    /// Those that requests ask for.
    OnDemand,
    /// All of them.
    All,
}

/// How long facts live: random between the two.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Lives {
    /// At least so long.
    pub min: Span,
    /// At most so long.
    pub max: Span,
}

impl Default for Lives {
    fn default() -> Self {
        Self { min: Span(Duration::from_secs(10)), max: Span(Duration::from_secs(30)) }
    }
}

/// The part of a model that the WorkOS API does not tell.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ResourceTypes {
    /// Resource types by slug. `organization` always exists and is not listed.
    pub resource_types: BTreeMap<ResourceTypeSlug, ResourceTypeSpec>,
}

fn five_minutes() -> Span {
    Span(Duration::from_secs(300))
}

fn half_a_gibibyte() -> Size {
    Size(512 * 1024 * 1024)
}
