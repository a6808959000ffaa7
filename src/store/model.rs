//! The model of the environment: resource types, settings, and the file that declares them all.

mod types;

use async_trait::async_trait;
use sqlx::AnyConnection;

use super::api::Operation;
use super::error::StoreError;
use super::transaction::{Reply, Transaction, Write};
use crate::domain::record::{EnvironmentRole, EnvironmentSettings, RoleMode};
use crate::domain::{CatalogRecord, ResourceTypeSlug, RoleId, RoleSlug};

pub(super) use types::types;

pub(super) fn operations() -> Vec<Operation> {
    Vec::new()
}

/// What every environment begins with: single-role mode and the role `member`, the default one (WorkOS contract R16).
pub(super) struct Seed;

#[async_trait]
impl Write for Seed {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let settings = sqlx::query("SELECT one FROM settings").fetch_optional(&mut *tx.connection).await?;
        if settings.is_some() {
            return Ok(Reply::no_content());
        }
        let now = tx.now();
        let role = RoleId::new(&tx.id("role_"))?;
        let statement = "INSERT INTO roles (id, slug, name, resource_type_slug, priority, created_at, updated_at) \
                         VALUES ($1, 'member', 'Member', 'organization', 0, $2, $2)";
        tx.execute(sqlx::query(statement).bind(role.clone()).bind(now.0)).await?;
        let statement = "INSERT INTO settings (one, role_mode, default_role, external_ids) VALUES (1, 'single', $1, 'per_organization')";
        tx.execute(sqlx::query(statement).bind(role.clone())).await?;
        tx.put_catalog(CatalogRecord::Role(EnvironmentRole {
            id: role.clone(),
            slug: RoleSlug::new("member")?,
            resource_type: ResourceTypeSlug::organization(),
            priority: 0,
            permissions: Vec::new(),
        }));
        let settings = EnvironmentSettings { role_mode: RoleMode::Single, default_role: Some(role) };
        tx.put_catalog(CatalogRecord::Settings(settings));
        Ok(Reply::no_content())
    }
}

/// # Errors
/// [`StoreError::NotFound`] when there is no such resource type.
pub(super) async fn require_resource_type(
    connection: &mut AnyConnection,
    slug: &ResourceTypeSlug,
) -> Result<(), StoreError> {
    if slug.is_organization() {
        return Ok(());
    }
    let statement = sqlx::query("SELECT slug FROM resource_types WHERE slug = $1").bind(slug.clone());
    match statement.fetch_optional(connection).await? {
        Some(_) => Ok(()),
        None => Err(StoreError::not_found("resource type", slug)),
    }
}
