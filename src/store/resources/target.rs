//! The resource that a request is about, or the parent that it names: by id, or by type and external id (rule T of the WorkOS contract,
//! section 1).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;

use super::{ResourceRow, find, find_external, root};
use crate::domain::{ExternalId, OrganizationId, ResourceId, ResourceRef, ResourceTypeSlug};
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

/// Which parent. Part of a body or a query; either the id, or type and external id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub(in crate::store) struct Parent {
    /// `authz_resource_…`; excludes the other two.
    #[serde(default)]
    pub(in crate::store) parent_resource_id: Option<ResourceId>,
    /// The upstream application's id; goes with `parent_resource_type_slug`.
    #[serde(default)]
    pub(in crate::store) parent_resource_external_id: Option<ExternalId>,
    /// `workspace`; goes with `parent_resource_external_id`.
    #[serde(default)]
    pub(in crate::store) parent_resource_type_slug: Option<ResourceTypeSlug>,
}

/// One of the two forms.
type Form<'a> = (Option<&'a ResourceId>, Option<&'a ResourceTypeSlug>, Option<&'a ExternalId>);

impl Target {
    /// What is named, if it is exactly one of the two forms.
    pub(in crate::store) fn named(&self) -> Option<ResourceRef<'_>> {
        match (&self.resource_id, &self.resource_type_slug, &self.resource_external_id) {
            (Some(id), None, None) => Some(ResourceRef::Id(id.as_str().into())),
            (None, Some(resource_type), Some(external_id)) => {
                Some(ResourceRef::External { resource_type, external_id: external_id.as_str().into() })
            }
            _ => None,
        }
    }

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
        let form = (self.resource_id.as_ref(), self.resource_type_slug.as_ref(), self.resource_external_id.as_ref());
        look_up(connection, organization, form).await?.ok_or_else(|| {
            let message = "expected either `resource_id`, or `resource_external_id` with `resource_type_slug`";
            ambiguous("resource_id", "invalid_resource_target", message)
        })
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

impl Parent {
    /// Whether no parent is named.
    pub(in crate::store) fn is_absent(&self) -> bool {
        *self == Self::default()
    }

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
        let form = (
            self.parent_resource_id.as_ref(),
            self.parent_resource_type_slug.as_ref(),
            self.parent_resource_external_id.as_ref(),
        );
        look_up(connection, organization, form).await?.ok_or_else(|| {
            let message =
                "expected either `parent_resource_id`, or `parent_resource_external_id` with `parent_resource_type_slug`";
            ambiguous("parent_resource_id", "invalid_parent_resource", message)
        })
    }
}

/// `None` when it is not exactly one of the two forms.
async fn look_up(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
    form: Form<'_>,
) -> Result<Option<ResourceRow>, StoreError> {
    match form {
        (Some(id), None, None) => {
            let found = find(connection, id).await?;
            if found.organization != *organization {
                return Err(StoreError::not_found("resource", id));
            }
            Ok(Some(found))
        }
        (None, Some(resource_type), Some(external_id)) => {
            find_external(connection, organization, resource_type, external_id).await.map(Some)
        }
        _ => Ok(None),
    }
}

fn ambiguous(field: &str, code: &'static str, message: &'static str) -> StoreError {
    StoreError::Unprocessable { code, message: message.into(), errors: vec![FieldError::new(field, code)] }
}
