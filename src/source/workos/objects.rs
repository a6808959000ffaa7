//! What is read of the objects that the server lists (WorkOS contract, section 2). Servers may send more than that.

use serde::{Deserialize, Deserializer};

use super::pages::Listed;
use crate::domain::record::MembershipStatus;
use crate::domain::{
    AssignmentId, ExternalId, GroupId, MembershipId, OrganizationId, PermissionSlug, ResourceId, ResourceTypeSlug,
    RoleId, RoleSlug, UserId,
};

#[derive(Debug, Deserialize)]
pub(super) struct Permission {
    id: String,
    pub(super) slug: PermissionSlug,
    #[serde(default = "ResourceTypeSlug::organization")]
    pub(super) resource_type_slug: ResourceTypeSlug,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Role {
    pub(super) id: RoleId,
    pub(super) slug: RoleSlug,
    #[serde(rename = "type")]
    pub(super) kind: RoleKind,
    #[serde(default = "ResourceTypeSlug::organization")]
    pub(super) resource_type_slug: ResourceTypeSlug,
    pub(super) permissions: Vec<PermissionSlug>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum RoleKind {
    EnvironmentRole,
    OrganizationRole,
}

/// All roles: a list without pages.
#[derive(Debug, Deserialize)]
pub(super) struct Roles {
    pub(super) data: Vec<Role>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RoleName {
    pub(super) slug: RoleSlug,
}

#[derive(Debug, Deserialize)]
pub(super) struct Membership {
    pub(super) id: MembershipId,
    pub(super) user_id: UserId,
    pub(super) organization_id: OrganizationId,
    #[serde(deserialize_with = "status")]
    pub(super) status: MembershipStatus,
    pub(super) role: Option<RoleName>,
    pub(super) roles: Option<Vec<RoleName>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Resource {
    pub(super) id: ResourceId,
    pub(super) external_id: ExternalId,
    pub(super) resource_type_slug: ResourceTypeSlug,
    pub(super) organization_id: OrganizationId,
    pub(super) parent_resource_id: Option<ResourceId>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RoleAssignment {
    pub(super) id: AssignmentId,
    pub(super) organization_membership_id: MembershipId,
    pub(super) role: RoleName,
    pub(super) resource: AssignedResource,
    pub(super) source: Option<AssignmentSource>,
}

#[derive(Debug, Deserialize)]
pub(super) struct AssignedResource {
    pub(super) id: ResourceId,
    pub(super) resource_type_slug: ResourceTypeSlug,
}

#[derive(Debug, Deserialize)]
pub(super) struct AssignmentSource {
    pub(super) group_role_assignment_id: Option<AssignmentId>,
    pub(super) group: Option<GroupName>,
}

#[derive(Debug, Deserialize)]
pub(super) struct GroupName {
    pub(super) id: GroupId,
}

#[derive(Debug, Deserialize)]
pub(super) struct Organization {
    pub(super) external_id: Option<ExternalId>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Checked {
    pub(super) authorized: bool,
}

/// A status that is not known counts for as little as one that is switched off.
fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MembershipStatus, D::Error> {
    Ok(match String::deserialize(deserializer)?.as_str() {
        "active" => MembershipStatus::Active,
        "pending" => MembershipStatus::Pending,
        _ => MembershipStatus::Inactive,
    })
}

impl Listed for Permission {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Listed for Membership {
    fn id(&self) -> &str {
        self.id.as_str()
    }
}

impl Listed for Resource {
    fn id(&self) -> &str {
        self.id.as_str()
    }
}

impl Listed for RoleAssignment {
    fn id(&self) -> &str {
        self.id.as_str()
    }
}
