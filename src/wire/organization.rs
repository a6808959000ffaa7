//! One organization's facts, as people write them.

use std::collections::HashSet;

use serde::Deserialize;

use super::grant::{Grant, ResourceName};
use super::model::{Environment, RoleSpec};
use crate::domain::record::MembershipStatus;
use crate::domain::{
    ExternalId, GroupId, MembershipId, OrganizationId, ResourceId, ResourceTypeSlug, RoleSlug, UserId,
};

/// One organization.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrganizationSpec {
    /// `org_…`
    pub id: OrganizationId,
    /// For people.
    pub name: Option<String>,
    /// The organization role of memberships that were given none; the model's when absent.
    pub default_role: Option<RoleSlug>,
    /// Its own priority order of organization roles, highest first; roles left out come after, in the model's order.
    #[serde(default)]
    pub role_priority: Vec<RoleSlug>,
    /// Custom roles.
    #[serde(default)]
    pub roles: Vec<RoleSpec>,
    /// Memberships.
    #[serde(default)]
    pub memberships: Vec<MembershipSpec>,
    /// Groups.
    #[serde(default)]
    pub groups: Vec<GroupSpec>,
    /// Resources, in any order. The organization itself is not listed.
    #[serde(default)]
    pub resources: Vec<ResourceSpec>,
    /// Role assignments: `om_ada project-viewer project:42`.
    #[serde(default)]
    pub assignments: Vec<Grant<MembershipId>>,
    /// Group role assignments: `group_eng workspace-admin workspace:ws-1`.
    #[serde(default)]
    pub group_assignments: Vec<Grant<GroupId>>,
}

/// One user in the organization.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MembershipSpec {
    /// `om_…`
    pub id: MembershipId,
    /// `user_…`
    pub user: UserId,
    /// Only an active membership is granted anything.
    #[serde(default = "active")]
    #[schemars(with = "Option<Status>")]
    pub status: MembershipStatus,
    /// Organization roles; the default role when there are none.
    #[serde(default)]
    pub roles: Vec<RoleSlug>,
}

/// The words for a status, for the schema.
#[derive(schemars::JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "a description, never a value")]
enum Status {
    Active,
    Inactive,
    Pending,
}

/// A set of memberships.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// `group_…`
    pub id: GroupId,
    /// For people.
    pub name: Option<String>,
    /// Who is in it.
    #[serde(default)]
    pub members: Vec<MembershipId>,
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceSpec {
    /// Its type.
    #[serde(rename = "type")]
    pub resource_type: ResourceTypeSlug,
    /// The upstream application's id, unique within the type. Write numbers in quotes.
    pub id: ExternalId,
    /// For people. At most 48 characters.
    pub name: Option<String>,
    /// What it stands in, such as `workspace:ws-1`; the organization when absent.
    #[serde(default)]
    pub parent: ResourceName,
    /// `authz_resource_…`; derived from organization, type and id when absent.
    pub resource_id: Option<ResourceId>,
}

fn active() -> MembershipStatus {
    MembershipStatus::Active
}

impl OrganizationSpec {
    /// An organization without anything in it.
    pub fn empty(id: OrganizationId) -> Self {
        Self {
            id,
            name: None,
            default_role: None,
            role_priority: Vec::new(),
            roles: Vec::new(),
            memberships: Vec::new(),
            groups: Vec::new(),
            resources: Vec::new(),
            assignments: Vec::new(),
            group_assignments: Vec::new(),
        }
    }

    /// Adds every membership and resource that is named somewhere and described nowhere, for tests that only care about grants.
    ///
    /// Such a membership is active and belongs to `user_of` it; such a resource stands in resources of its own, up to the organization.
    pub fn invent_missing(&mut self, environment: &Environment, user_of: impl Fn(&MembershipId) -> UserId) {
        let mut members: HashSet<_> = self.memberships.iter().map(|membership| membership.id.clone()).collect();
        let named = self.assignments.iter().map(|grant| &grant.subject);
        for id in named.chain(self.groups.iter().flat_map(|group| &group.members)) {
            if members.insert(id.clone()) {
                self.memberships.push(MembershipSpec {
                    id: id.clone(),
                    user: user_of(id),
                    status: MembershipStatus::Active,
                    roles: Vec::new(),
                });
            }
        }
        let parents = self.resources.iter().map(|resource| &resource.parent);
        let granted = self.assignments.iter().map(|grant| &grant.resource);
        let granted_to_groups = self.group_assignments.iter().map(|grant| &grant.resource);
        let named: Vec<_> = parents.chain(granted).chain(granted_to_groups).cloned().collect();
        for name in named {
            self.invent_resource(environment, name);
        }
    }

    fn invent_resource(&mut self, environment: &Environment, name: ResourceName) {
        let ResourceName::Named { resource_type, external_id } = name else { return };
        let same = |known: &ResourceSpec| known.resource_type == resource_type && known.id == external_id;
        if self.resources.iter().any(same) {
            return;
        }
        let parent_type = environment.types().parents(&resource_type).iter().find(|parent| **parent != resource_type);
        let parent = match parent_type {
            Some(parent) if !parent.is_organization() => {
                ResourceName::Named { resource_type: parent.clone(), external_id: external_id.clone() }
            }
            _ => ResourceName::Organization,
        };
        self.resources.push(ResourceSpec {
            resource_type,
            id: external_id,
            name: None,
            parent: parent.clone(),
            resource_id: None,
        });
        self.invent_resource(environment, parent);
    }
}
