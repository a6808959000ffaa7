//! The facts a store holds, row by row, and how they change.
//!
//! A row names other rows by *id*, never by slug: a slug may be given to another role later, an id may not. Any row may arrive before
//! the rows it names; until they are there it grants nothing.
//!
//! The root resource of an organization is named by leaving the name out (`resource: None`, `parent: None`). Naming it by its id means
//! the same, and [`digest`](super::digest) treats both alike.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::id::{
    AssignmentId, ExternalId, GroupId, MembershipId, OrganizationId, PermissionSlug, ResourceId, ResourceTypeSlug,
    RoleId, RoleSlug, UserId,
};

/// One row of facts.
pub trait Record: Debug + Clone + Eq + Serialize + DeserializeOwned {
    /// What makes the row the same row: putting a second record with an equal key replaces the first.
    type Key: Debug + Clone + Eq + Hash + Serialize + DeserializeOwned;
    /// A whole set of such rows, sorted by kind.
    type Rows: Debug + Clone + Eq + Serialize + DeserializeOwned;

    /// The key of this row.
    fn key(&self) -> Self::Key;
}

/// One change of one row. The store expands cascades: removing a group comes with the removal of its members and assignments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", bound = "")]
pub enum Change<R: Record> {
    /// The row is there now, with this content.
    Put(R),
    /// The row is gone.
    Delete(R::Key),
}

impl<R: Record> Change<R> {
    /// The key of the row that changes.
    pub fn key(&self) -> R::Key {
        match self {
            Self::Put(record) => record.key(),
            Self::Delete(key) => key.clone(),
        }
    }
}

/// What became of one set of rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", bound = "")]
pub enum Delta<R: Record> {
    /// These rows changed; of two changes of one row the later counts.
    Changes(Vec<Change<R>>),
    /// These are all rows there are; a row that is not among them is gone.
    Reset(Box<R::Rows>),
}

/// The share of the catalog, or of one organization, in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The environment's declarations. Within one transaction this part is applied before the others.
    Catalog(Delta<CatalogRecord>),
    /// One organization's facts.
    Organization {
        /// Whose.
        id: OrganizationId,
        /// What became of them.
        delta: Delta<OrganizationRecord>,
    },
}

/// A permission that the environment declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// `project:edit`
    pub slug: PermissionSlug,
    /// The type it is declared for; plays no part in a decision (WorkOS contract R3).
    pub resource_type: ResourceTypeSlug,
}

/// A resource type, other than `organization`, which always exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceType {
    /// `project`
    pub slug: ResourceTypeSlug,
    /// Types that a parent of such a resource may have.
    pub parents: Vec<ResourceTypeSlug>,
}

/// A role of the whole environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentRole {
    /// `role_…`
    pub id: RoleId,
    /// `admin`
    pub slug: RoleSlug,
    /// The type of the resources it may be assigned on.
    pub resource_type: ResourceTypeSlug,
    /// Place in the environment's priority order; 0 is the highest.
    pub priority: u32,
    /// What it permits; order and repetition mean nothing.
    pub permissions: Vec<PermissionSlug>,
}

/// Whether a membership has one organization role or several (WorkOS contract R17).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoleMode {
    /// One: of all sources the role with the highest priority.
    #[default]
    Single,
    /// All of them, added up.
    Multiple,
}

/// Settings of the environment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EnvironmentSettings {
    /// One organization role for each membership, or several.
    pub role_mode: RoleMode,
    /// The role that stands in for a missing direct organization role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_role: Option<RoleId>,
}

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

/// A row of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogRecord {
    /// A permission.
    Permission(Permission),
    /// A resource type.
    ResourceType(ResourceType),
    /// An environment role.
    Role(EnvironmentRole),
    /// The settings; there is one row of them.
    Settings(EnvironmentSettings),
}

/// What makes a [`CatalogRecord`] the same row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogKey {
    /// A permission.
    Permission(PermissionSlug),
    /// A resource type.
    ResourceType(ResourceTypeSlug),
    /// An environment role.
    Role(RoleId),
    /// The settings.
    Settings,
}

/// All rows of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CatalogRows {
    /// Permissions, in any order.
    pub permissions: Vec<Permission>,
    /// Resource types, in any order.
    pub resource_types: Vec<ResourceType>,
    /// Environment roles, in any order.
    pub roles: Vec<EnvironmentRole>,
    /// Settings; the default ones when the row is missing.
    pub settings: Option<EnvironmentSettings>,
}

impl Record for CatalogRecord {
    type Key = CatalogKey;
    type Rows = CatalogRows;

    fn key(&self) -> CatalogKey {
        match self {
            Self::Permission(permission) => CatalogKey::Permission(permission.slug.clone()),
            Self::ResourceType(kind) => CatalogKey::ResourceType(kind.slug.clone()),
            Self::Role(role) => CatalogKey::Role(role.id.clone()),
            Self::Settings(_) => CatalogKey::Settings,
        }
    }
}

impl CatalogRows {
    /// Every row, kind by kind.
    pub fn into_records(self) -> impl Iterator<Item = CatalogRecord> {
        let settings = self.settings.into_iter().map(CatalogRecord::Settings);
        (self.permissions.into_iter().map(CatalogRecord::Permission))
            .chain(self.resource_types.into_iter().map(CatalogRecord::ResourceType))
            .chain(self.roles.into_iter().map(CatalogRecord::Role))
            .chain(settings)
    }
}

impl FromIterator<CatalogRecord> for CatalogRows {
    fn from_iter<I: IntoIterator<Item = CatalogRecord>>(records: I) -> Self {
        let mut rows = Self::default();
        for record in records {
            match record {
                CatalogRecord::Permission(permission) => rows.permissions.push(permission),
                CatalogRecord::ResourceType(kind) => rows.resource_types.push(kind),
                CatalogRecord::Role(role) => rows.roles.push(role),
                CatalogRecord::Settings(settings) => rows.settings = Some(settings),
            }
        }
        rows
    }
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

/// The changes that count: for each row the last one.
pub(super) fn last_for_each_row<R: Record>(changes: &[Change<R>]) -> Vec<&Change<R>> {
    if changes.len() < 2 {
        return changes.iter().collect();
    }
    let mut seen = HashSet::with_capacity(changes.len());
    changes.iter().rev().filter(|change| seen.insert(change.key())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_written_as_the_feed_carries_them() {
        let put = r#"{"put":{"assignment":{"membership":"om_1","role":"role_1","resource":"authz_resource_1"}}}"#;
        let change: Change<OrganizationRecord> = serde_json::from_str(put).unwrap();
        let Change::Put(OrganizationRecord::Assignment(assignment)) = &change else { panic!("{change:?}") };
        assert_eq!(
            (assignment.id.as_ref(), assignment.resource.as_ref().map(AsRef::as_ref)),
            (None, Some("authz_resource_1"))
        );
        assert_eq!(serde_json::to_string(&change).unwrap(), put);
        let delete = r#"{"organization":{"id":"org_1","delta":{"changes":[{"delete":{"member":"om_1"}},{"delete":"settings"}]}}}"#;
        let part: Part = serde_json::from_str(delete).unwrap();
        assert_eq!(serde_json::to_string(&part).unwrap(), delete);
    }

    #[test]
    fn of_two_changes_of_one_row_the_later_counts() {
        let member = |status| Member { id: "om_1".parse().unwrap(), user: "user_1".parse().unwrap(), status };
        let put = |status| Change::Put(OrganizationRecord::Member(member(status)));
        let changes = [put(MembershipStatus::Active), put(MembershipStatus::Pending)];
        assert_eq!(last_for_each_row(&changes), [&changes[1]]);
    }
}
