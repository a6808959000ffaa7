//! The rows of a catalog: what an environment declares.

use serde::{Deserialize, Serialize};

use super::Record;
use crate::domain::id::{PermissionSlug, ResourceTypeSlug, RoleId, RoleSlug};

/// A permission that the environment declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// `project:edit`
    pub slug: PermissionSlug,
    /// The type it is declared for; plays no part in a decision (WorkOS contract R3).
    pub resource_type: ResourceTypeSlug,
}

/// A resource type, other than `organization`, which always exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceType {
    /// `project`
    pub slug: ResourceTypeSlug,
    /// Types that a parent of such a resource may have.
    pub parents: Vec<ResourceTypeSlug>,
}

/// A role of the whole environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentRole {
    /// `role_…`
    pub id: RoleId,
    /// `admin`
    pub slug: RoleSlug,
    /// The type of the resources it may be assigned on.
    pub resource_type: ResourceTypeSlug,
    /// Place in the environment's priority order; 0 is the highest.
    pub priority: u32,
    /// What it permits; order and repetition mean nothing.
    pub permissions: Vec<PermissionSlug>,
}

/// Whether a membership has one organization role or several (WorkOS contract R17).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoleMode {
    /// One: of all sources the role with the highest priority.
    #[default]
    Single,
    /// All of them, added up.
    Multiple,
}

/// Settings of the environment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EnvironmentSettings {
    /// One organization role for each membership, or several.
    pub role_mode: RoleMode,
    /// The role that stands in for a missing direct organization role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_role: Option<RoleId>,
}

/// A row of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogRecord {
    /// A permission.
    Permission(Permission),
    /// A resource type.
    ResourceType(ResourceType),
    /// An environment role.
    Role(EnvironmentRole),
    /// The settings; there is one row of them.
    Settings(EnvironmentSettings),
}

/// What makes a [`CatalogRecord`] the same row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogKey {
    /// A permission.
    Permission(PermissionSlug),
    /// A resource type.
    ResourceType(ResourceTypeSlug),
    /// An environment role.
    Role(RoleId),
    /// The settings.
    Settings,
}

/// All rows of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CatalogRows {
    /// Permissions, in any order.
    pub permissions: Vec<Permission>,
    /// Resource types, in any order.
    pub resource_types: Vec<ResourceType>,
    /// Environment roles, in any order.
    pub roles: Vec<EnvironmentRole>,
    /// Settings; the default ones when the row is missing.
    pub settings: Option<EnvironmentSettings>,
}

impl Record for CatalogRecord {
    type Key = CatalogKey;
    type Rows = CatalogRows;

    fn key(&self) -> CatalogKey {
        match self {
            Self::Permission(permission) => CatalogKey::Permission(permission.slug.clone()),
            Self::ResourceType(kind) => CatalogKey::ResourceType(kind.slug.clone()),
            Self::Role(role) => CatalogKey::Role(role.id.clone()),
            Self::Settings(_) => CatalogKey::Settings,
        }
    }
}

impl CatalogRows {
    /// Every row, kind by kind.
    pub fn into_records(self) -> impl Iterator<Item = CatalogRecord> {
        let settings = self.settings.into_iter().map(CatalogRecord::Settings);
        (self.permissions.into_iter().map(CatalogRecord::Permission))
            .chain(self.resource_types.into_iter().map(CatalogRecord::ResourceType))
            .chain(self.roles.into_iter().map(CatalogRecord::Role))
            .chain(settings)
    }
}

impl FromIterator<CatalogRecord> for CatalogRows {
    fn from_iter<I: IntoIterator<Item = CatalogRecord>>(records: I) -> Self {
        let mut rows = Self::default();
        for record in records {
            match record {
                CatalogRecord::Permission(permission) => rows.permissions.push(permission),
                CatalogRecord::ResourceType(kind) => rows.resource_types.push(kind),
                CatalogRecord::Role(role) => rows.roles.push(role),
                CatalogRecord::Settings(settings) => rows.settings = Some(settings),
            }
        }
        rows
    }
}
