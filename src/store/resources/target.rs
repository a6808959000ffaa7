//! The resource that a request is about: by id, or by type and external id (rule T of the WorkOS contract, section 1).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;

use super::{ResourceRow, find, find_external, root};
use crate::domain::{ExternalId, OrganizationId, ResourceId, ResourceTypeSlug};
use crate::store::error::{FieldError, StoreError};

/// Which resource. Part of a body; either the id, or type and external id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub(in crate::store) struct Target {
    /// `authz_resource_…`; excludes the other two.
    #[serde(default)]
    pub(in crate::store) resource_id: Option<ResourceId>,
    /// The upstream application's id; goes with `resource_type_slug`.
    #[serde(default)]
    pub(in crate::store) resource_external_id: Option<ExternalId>,
    /// `project`; goes with `resource_external_id`.
    #[serde(default)]
    pub(in crate::store) resource_type_slug: Option<ResourceTypeSlug>,
}

impl Target {
    /// Exactly one of the two forms.
    ///
    /// # Errors
    /// [`StoreError::Unprocessable`] for both, neither, or half of the second; [`StoreError::NotFound`] when it is not a resource of this
    /// organization.
    pub(in crate::store) async fn resolve(
        &self,
        connection: &mut AnyConnection,
        organization: &OrganizationId,
    ) -> Result<ResourceRow, StoreError> {
        match (&self.resource_id, &self.resource_external_id, &self.resource_type_slug) {
            (Some(id), None, None) => {
                let found = find(connection, id).await?;
                if found.organization != *organization {
                    return Err(StoreError::not_found("resource", id));
                }
                Ok(found)
            }
            (None, Some(external_id), Some(resource_type)) => {
                find_external(connection, organization, resource_type, external_id).await
            }
            _ => Err(StoreError::Unprocessable {
                code: "invalid_resource_target",
                message: "expected either `resource_id`, or `resource_external_id` with `resource_type_slug`".into(),
                errors: vec![FieldError::new("resource_id", "invalid_resource_target")],
            }),
        }
    }

    /// As [`resolve`](Self::resolve); nothing at all means the organization's root resource.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub(in crate::store) async fn resolve_or_root(
        &self,
        connection: &mut AnyConnection,
        organization: &OrganizationId,
    ) -> Result<ResourceRow, StoreError> {
        if *self == Self::default() {
            root(connection, organization).await
        } else {
            self.resolve(connection, organization).await
        }
    }
}
