//! Roles of the environment and of organizations (WorkOS contract, sections 1.2 and 1.3).

use sqlx::{AnyConnection, Row};

use super::api::Operation;
use super::error::StoreError;
use super::transaction::Transaction;
use crate::domain::{OrganizationId, PermissionSlug, ResourceTypeSlug, RoleId, RoleSlug};

pub(super) fn operations() -> Vec<Operation> {
    Vec::new()
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
    tx.execute(sqlx::query("DELETE FROM role_permissions WHERE permission_slug = $1").bind(slug.clone())).await?;
    Ok(())
}
