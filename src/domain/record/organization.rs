//! The rows of one organization.

use serde::{Deserialize, Serialize};

use super::Record;
use crate::domain::id::{
    AssignmentId, ExternalId, GroupId, MembershipId, PermissionSlug, ResourceId, ResourceTypeSlug, RoleId, RoleSlug,
    UserId,
};

/// Whether a membership counts (WorkOS contract R11): only an active one is ever granted anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MembershipStatus {
    /// It counts.
    Active,
    /// Switched off; its rows are kept.
    Inactive,
    /// Invited, not accepted yet.
    Pending,
}

/// A membership: one user in one organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `om_…`
    pub id: MembershipId,
    /// `user_…`
    pub user: UserId,
    /// Whether it counts.
    pub status: MembershipStatus,
    /// The roles that the identity provider gives it; they stand in for its direct organization roles (WorkOS contract R27). Order and
    /// repetition mean nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identity_provider_roles: Vec<RoleId>,
}

/// A group. Groups hold memberships, never groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// `group_…`
    pub id: GroupId,
}

/// A membership in a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GroupMember {
    /// Which group.
    pub group: GroupId,
    /// Which membership.
    pub membership: MembershipId,
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// `authz_resource_…`
    pub id: ResourceId,
    /// The root has type `organization`, and nothing else has.
    pub resource_type: ResourceTypeSlug,
    /// The upstream application's id: unique within the type.
    pub external_id: ExternalId,
    /// The resource right above; `None` for the root, and for what stands right below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ResourceId>,
}

/// A role of one organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomRole {
    /// `role_…`
    pub id: RoleId,
    /// `org-auditor`
    pub slug: RoleSlug,
    /// The type of the resources it may be assigned on.
    pub resource_type: ResourceTypeSlug,
    /// What it permits; order and repetition mean nothing.
    pub permissions: Vec<PermissionSlug>,
}

/// A role of one membership on one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// `role_assignment_…`, for people to read; not part of the key, and not of the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<AssignmentId>,
    /// Who holds it.
    pub membership: MembershipId,
    /// Which role.
    pub role: RoleId,
    /// On which resource; `None` = organization-wide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceId>,
}

/// What makes an [`Assignment`] the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AssignmentKey {
    /// Who holds it.
    pub membership: MembershipId,
    /// Which role.
    pub role: RoleId,
    /// On which resource; `None` = organization-wide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceId>,
}

/// A role of every member of one group on one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupAssignment {
    /// `gra_…`, for people to read; not part of the key, and not of the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<AssignmentId>,
    /// Whose members hold it.
    pub group: GroupId,
    /// Which role.
    pub role: RoleId,
    /// On which resource; `None` = organization-wide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceId>,
}

/// What makes a [`GroupAssignment`] the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GroupAssignmentKey {
    /// Whose members hold it.
    pub group: GroupId,
    /// Which role.
    pub role: RoleId,
    /// On which resource; `None` = organization-wide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceId>,
}

/// Settings of one organization; an organization without the row follows the environment (WorkOS contract R21, D20).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrganizationSettings {
    /// Its own default role, before the environment's. One that does not exist means: no default role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_role: Option<RoleId>,
    /// Its own priority order, highest first. Roles that are not in it come after, in the environment's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub priorities: Vec<RoleId>,
}

/// A row of one organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrganizationRecord {
    /// A membership.
    Member(Member),
    /// A group.
    Group(Group),
    /// A membership in a group.
    GroupMember(GroupMember),
    /// A resource.
    Resource(Resource),
    /// A custom role.
    Role(CustomRole),
    /// A role assignment.
    Assignment(Assignment),
    /// A group role assignment.
    GroupAssignment(GroupAssignment),
    /// The settings; there is at most one row of them.
    Settings(OrganizationSettings),
}

/// What makes an [`OrganizationRecord`] the same row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrganizationKey {
    /// A membership.
    Member(MembershipId),
    /// A group.
    Group(GroupId),
    /// A membership in a group.
    GroupMember(GroupMember),
    /// A resource.
    Resource(ResourceId),
    /// A custom role.
    Role(RoleId),
    /// A role assignment.
    Assignment(AssignmentKey),
    /// A group role assignment.
    GroupAssignment(GroupAssignmentKey),
    /// The settings.
    Settings,
}

/// All rows of one organization.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OrganizationRows {
    /// Memberships, in any order, like everything below.
    pub members: Vec<Member>,
    /// Groups.
    pub groups: Vec<Group>,
    /// Memberships in groups.
    pub group_members: Vec<GroupMember>,
    /// Resources, the root among them.
    pub resources: Vec<Resource>,
    /// Custom roles.
    pub roles: Vec<CustomRole>,
    /// Role assignments; those that members have through groups are not rows.
    pub assignments: Vec<Assignment>,
    /// Group role assignments.
    pub group_assignments: Vec<GroupAssignment>,
    /// Settings; the environment's rule when the row is missing.
    pub settings: Option<OrganizationSettings>,
}

impl Record for OrganizationRecord {
    type Key = OrganizationKey;
    type Rows = OrganizationRows;

    fn key(&self) -> OrganizationKey {
        match self {
            Self::Member(member) => OrganizationKey::Member(member.id.clone()),
            Self::Group(group) => OrganizationKey::Group(group.id.clone()),
            Self::GroupMember(edge) => OrganizationKey::GroupMember(edge.clone()),
            Self::Resource(resource) => OrganizationKey::Resource(resource.id.clone()),
            Self::Role(role) => OrganizationKey::Role(role.id.clone()),
            Self::Assignment(assignment) => OrganizationKey::Assignment(assignment.key()),
            Self::GroupAssignment(assignment) => OrganizationKey::GroupAssignment(assignment.key()),
            Self::Settings(_) => OrganizationKey::Settings,
        }
    }
}

impl Assignment {
    /// What makes it the same assignment.
    pub fn key(&self) -> AssignmentKey {
        AssignmentKey { membership: self.membership.clone(), role: self.role.clone(), resource: self.resource.clone() }
    }
}

impl GroupAssignment {
    /// What makes it the same assignment.
    pub fn key(&self) -> GroupAssignmentKey {
        GroupAssignmentKey { group: self.group.clone(), role: self.role.clone(), resource: self.resource.clone() }
    }
}

impl OrganizationRows {
    /// The root resource, where its row is there.
    pub fn root(&self) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.resource_type.is_organization())
    }

    /// Every row, kind by kind.
    pub fn into_records(self) -> impl Iterator<Item = OrganizationRecord> {
        let settings = self.settings.into_iter().map(OrganizationRecord::Settings);
        (self.members.into_iter().map(OrganizationRecord::Member))
            .chain(self.groups.into_iter().map(OrganizationRecord::Group))
            .chain(self.group_members.into_iter().map(OrganizationRecord::GroupMember))
            .chain(self.resources.into_iter().map(OrganizationRecord::Resource))
            .chain(self.roles.into_iter().map(OrganizationRecord::Role))
            .chain(self.assignments.into_iter().map(OrganizationRecord::Assignment))
            .chain(self.group_assignments.into_iter().map(OrganizationRecord::GroupAssignment))
            .chain(settings)
    }
}

impl FromIterator<OrganizationRecord> for OrganizationRows {
    fn from_iter<I: IntoIterator<Item = OrganizationRecord>>(records: I) -> Self {
        let mut rows = Self::default();
        for record in records {
            match record {
                OrganizationRecord::Member(member) => rows.members.push(member),
                OrganizationRecord::Group(group) => rows.groups.push(group),
                OrganizationRecord::GroupMember(edge) => rows.group_members.push(edge),
                OrganizationRecord::Resource(resource) => rows.resources.push(resource),
                OrganizationRecord::Role(role) => rows.roles.push(role),
                OrganizationRecord::Assignment(assignment) => rows.assignments.push(assignment),
                OrganizationRecord::GroupAssignment(assignment) => rows.group_assignments.push(assignment),
                OrganizationRecord::Settings(settings) => rows.settings = Some(settings),
            }
        }
        rows
    }
}
