//! How upstreams read paths.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an upstream reads paths (`upstreams.<name>.paths`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PathReading {
    /// Whether `/Admin` is `/admin`.
    pub case: PathCase,
    /// Whether `/admin/` is `/admin`.
    pub trailing_slash: TrailingSlash,
}

/// Whether an upstream distinguishes upper and lower case in paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathCase {
    /// It does.
    #[default]
    Exact,
    /// It does not.
    Ignore,
}

/// Whether an upstream distinguishes a path with and without a slash at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrailingSlash {
    /// It does.
    #[default]
    Distinct,
    /// It does not.
    Same,
}
