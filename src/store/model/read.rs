//! The model as it is stored.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, Row};

use super::types::types;
use crate::domain::{PermissionSlug, ResourceTypeSlug, RoleId};
use crate::store::error::StoreError;
use crate::store::roles::{StoredRole, of_environment};
use crate::store::rows::{self, read_all};
use crate::wire::{ExternalIds, Model, PermissionSpec, ResourceTypeSpec, RoleSpec};

/// Everything the environment declares, as stored.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) settings: Settings,
    pub(super) types: super::types::Types,
    pub(super) permissions: BTreeMap<PermissionSlug, StoredPermission>,
    /// Highest priority first.
    pub(super) roles: Vec<StoredRole>,
}

/// The settings of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) role_mode: crate::domain::record::RoleMode,
    pub(super) default_role: Option<RoleId>,
    pub(super) external_ids: ExternalIds,
}

/// A permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredPermission {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) resource_type: ResourceTypeSlug,
    pub(super) system: bool,
}

impl Stored {
    /// All of it.
    pub(super) async fn read(connection: &mut AnyConnection) -> Result<Self, StoreError> {
        let settings = "SELECT role_mode, default_role, external_ids FROM settings WHERE one = 1";
        let row = sqlx::query(settings).fetch_one(&mut *connection).await?;
        let settings = Settings {
            role_mode: rows::role_mode(&row.try_get::<String, _>("role_mode")?),
            default_role: row.try_get("default_role")?,
            external_ids: match row.try_get::<String, _>("external_ids")?.as_str() {
                "global" => ExternalIds::Global,
                _ => ExternalIds::PerOrganization,
            },
        };
        let permissions = "SELECT slug, name, description, resource_type_slug, is_system FROM permissions";
        let permissions = read_all(connection, sqlx::query(permissions), |row| {
            let permission = StoredPermission {
                name: row.try_get("name")?,
                description: row.try_get("description")?,
                resource_type: row.try_get("resource_type_slug")?,
                system: row.try_get::<i64, _>("is_system")? != 0,
            };
            Ok((row.try_get("slug")?, permission))
        })
        .await?;
        Ok(Self {
            settings,
            types: types(connection).await?,
            permissions: permissions.into_iter().collect(),
            roles: of_environment(connection).await?,
        })
    }

    /// In the form of the file.
    pub(super) fn model(self) -> Model {
        let default_role = self.roles.iter().find(|role| Some(&role.id) == self.settings.default_role.as_ref());
        let default_role = default_role.map(|role| role.slug.clone());
        let types = self.types.0.into_iter().map(|(slug, parents)| (slug, ResourceTypeSpec { parents }));
        let permissions = self.permissions.into_iter().map(|(slug, permission)| PermissionSpec {
            slug,
            name: Some(permission.name),
            description: permission.description,
            resource_type: permission.resource_type,
        });
        let roles = self.roles.into_iter().map(|role| RoleSpec {
            id: Some(role.id),
            slug: role.slug,
            name: Some(role.name),
            description: role.description,
            resource_type: role.resource_type,
            permissions: role.permissions,
        });
        Model {
            role_mode: self.settings.role_mode,
            default_role,
            external_ids: self.settings.external_ids,
            resource_types: types.collect(),
            permissions: permissions.collect(),
            roles: roles.collect(),
        }
    }
}
