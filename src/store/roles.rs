//! Roles of the environment and of organizations (WorkOS contract, sections 1.2 and 1.3).

mod custom;
mod environment;
mod order;
mod removal;
mod settings;
mod stored;

use sqlx::{AnyConnection, Row};

use super::api::Operation;
use super::error::StoreError;
use super::transaction::Transaction;
use crate::domain::{OrganizationId, PermissionSlug, ResourceTypeSlug, RoleId, RoleSlug};

pub(super) use order::Order;
pub(super) use removal::Removal;
pub(super) use stored::{Happened, StoredRole, of_environment, of_organizations};

pub(super) fn operations() -> Vec<Operation> {
    [environment::operations(), custom::operations(), settings::operations()].into_iter().flatten().collect()
}

/// A role as other nouns need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RoleRow {
    pub(super) id: RoleId,
    pub(super) slug: RoleSlug,
    /// `None`: of the environment.
    pub(super) organization: Option<OrganizationId>,
    pub(super) resource_type: ResourceTypeSlug,
}

/// The role that this slug means in this organization: its own, else the environment's (WorkOS contract R23).
///
/// # Errors
/// [`StoreError::NotFound`]
pub(super) async fn resolve(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
    slug: &RoleSlug,
) -> Result<RoleRow, StoreError> {
    let statement = "SELECT id, slug, organization_id, resource_type_slug FROM roles WHERE slug = $1 \
                     AND (organization_id = $2 OR organization_id IS NULL) ORDER BY organization_id IS NULL LIMIT 1";
    let statement = sqlx::query(statement).bind(slug.clone()).bind(organization.clone());
    let row = statement.fetch_optional(connection).await?.ok_or_else(|| StoreError::not_found("role", slug))?;
    Ok(RoleRow {
        id: row.try_get("id")?,
        slug: row.try_get("slug")?,
        organization: row.try_get("organization_id")?,
        resource_type: row.try_get("resource_type_slug")?,
    })
}

/// The organization-wide role that this slug means in this organization.
///
/// # Errors
/// [`StoreError::NotFound`], and 422 `invalid_role` for a role that is assigned on resources.
pub(super) async fn resolve_organization_wide(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
    slug: &RoleSlug,
    field: &str,
) -> Result<RoleRow, StoreError> {
    let role = resolve(connection, organization, slug).await?;
    if !role.resource_type.is_organization() {
        let message =
            format!("role `{slug}` is of type `{}`, expected a role of type `organization`", role.resource_type);
        return Err(StoreError::invalid(field, "invalid_role", message));
    }
    Ok(role)
}

/// The role that stands in for a missing direct organization role: the organization's own default, else the environment's.
pub(super) async fn default_of(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
) -> Result<Option<RoleId>, StoreError> {
    let statement = "SELECT COALESCE((SELECT default_role FROM organizations WHERE id = $1), \
                     (SELECT default_role FROM settings WHERE one = 1)) AS default_role";
    let row = sqlx::query(statement).bind(organization.clone()).fetch_one(connection).await?;
    Ok(row.try_get("default_role")?)
}

/// Takes a permission out of every role (WorkOS contract R26).
pub(super) async fn forget_permission(tx: &mut Transaction<'_>, slug: &PermissionSlug) -> Result<(), StoreError> {
    let mut holders = stored::holders(tx.connection, slug).await?;
    if holders.is_empty() {
        return Ok(());
    }
    let statement = "UPDATE roles SET updated_at = $1 \
                     WHERE id IN (SELECT role_id FROM role_permissions WHERE permission_slug = $2)";
    tx.execute(sqlx::query(statement).bind(tx.now().0).bind(slug.clone())).await?;
    tx.execute(sqlx::query("DELETE FROM role_permissions WHERE permission_slug = $1").bind(slug.clone())).await?;
    let now = tx.now();
    for role in &mut holders {
        role.permissions.retain(|held| held != slug);
        role.updated_at = now;
        role.note(tx);
        role.audit(tx, Happened::Updated, &[], std::slice::from_ref(slug));
        role.publish(tx, Happened::Updated)?;
    }
    Ok(())
}
