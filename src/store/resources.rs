//! Resources: what roles are held on (WorkOS contract, section 1.4).

mod target;

use sqlx::{AnyConnection, Row};

use super::api::Operation;
use super::error::StoreError;
use super::rows;
use crate::domain::record::Resource;
use crate::domain::{ExternalId, OrganizationId, ResourceId, ResourceTypeSlug};

pub(super) use target::Target;

pub(super) fn operations() -> Vec<Operation> {
    Vec::new()
}

/// A resource as other nouns need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResourceRow {
    pub(super) organization: OrganizationId,
    /// The root is the one without a parent.
    pub(super) resource: Resource,
}

/// The resource with this id.
///
/// # Errors
/// [`StoreError::NotFound`]
pub(super) async fn find(connection: &mut AnyConnection, id: &ResourceId) -> Result<ResourceRow, StoreError> {
    let statement =
        "SELECT id, organization_id, resource_type_slug, external_id, parent_id FROM resources WHERE id = $1";
    let row = sqlx::query(statement).bind(id.clone()).fetch_optional(connection).await?;
    let row = row.ok_or_else(|| StoreError::not_found("resource", id))?;
    Ok(ResourceRow { organization: row.try_get("organization_id")?, resource: rows::resource(&row)? })
}

/// The resource of an organization with this type and external id. The root is found by the organization's id, and by the
/// organization's own external id (WorkOS contract R35, our decision D2).
///
/// # Errors
/// [`StoreError::NotFound`]
pub(super) async fn find_external(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
    resource_type: &ResourceTypeSlug,
    external_id: &ExternalId,
) -> Result<ResourceRow, StoreError> {
    let statement = "SELECT r.id, r.organization_id, r.resource_type_slug, r.external_id, r.parent_id FROM resources r \
                     WHERE r.organization_id = $1 AND r.resource_type_slug = $2 AND (r.external_id = $3 OR (r.parent_id \
                     IS NULL AND EXISTS (SELECT 1 FROM organizations o WHERE o.id = $1 AND o.external_id = $3)))";
    let statement =
        sqlx::query(statement).bind(organization.clone()).bind(resource_type.clone()).bind(external_id.clone());
    let row = statement.fetch_optional(connection).await?;
    let row = row.ok_or_else(|| StoreError::not_found("resource", format!("{resource_type}:{external_id}")))?;
    Ok(ResourceRow { organization: row.try_get("organization_id")?, resource: rows::resource(&row)? })
}

/// The root resource of an organization.
///
/// # Errors
/// [`StoreError::NotFound`] when there is no such organization.
pub(super) async fn root(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
) -> Result<ResourceRow, StoreError> {
    let statement = "SELECT id, organization_id, resource_type_slug, external_id, parent_id FROM resources \
                     WHERE organization_id = $1 AND parent_id IS NULL";
    let row = sqlx::query(statement).bind(organization.clone()).fetch_optional(connection).await?;
    let row = row.ok_or_else(|| StoreError::not_found("organization", organization))?;
    Ok(ResourceRow { organization: row.try_get("organization_id")?, resource: rows::resource(&row)? })
}
