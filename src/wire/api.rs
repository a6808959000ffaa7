//! The objects of the WorkOS authorization API, as our store answers them and as any such server does (WorkOS contract, section 2).
//!
//! A key that may be null is always there; a key that may be absent is left out when it has nothing to say.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "object", rename = "list")]
pub struct List<T> {
    /// The objects.
    pub data: Vec<T>,
    /// Where it goes on.
    pub list_metadata: ListMetadata,
}

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListMetadata {
    /// The id to ask for what comes before; null at the beginning.
    pub before: Option<String>,
    /// The id to ask for what comes after; null at the end.
    pub after: Option<String>,
}

/// A permission of the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "object", rename = "permission")]
pub struct Permission {
    /// `perm_…`
    pub id: String,
    /// `project:edit`
    pub slug: String,
    /// For people.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// Whether it cannot be deleted.
    pub system: bool,
    /// The type it is declared for.
    pub resource_type_slug: String,
    /// When it was created.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// A role, of the environment or of one organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "object", rename = "role")]
pub struct Role {
    /// `role_…`
    pub id: String,
    /// `project-viewer`
    pub slug: String,
    /// For people.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// Whose.
    #[serde(rename = "type")]
    pub kind: RoleKind,
    /// The type of the resources it may be assigned on.
    pub resource_type_slug: String,
    /// The slugs of what it permits, sorted.
    pub permissions: Vec<String>,
    /// When it was created.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// Whose a role is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RoleKind {
    /// Of all organizations.
    EnvironmentRole,
    /// Of one.
    OrganizationRole,
}

/// A role by its slug.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoleName {
    /// `project-viewer`
    pub slug: String,
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "object", rename = "authorization_resource")]
pub struct Resource {
    /// `authz_resource_…`
    pub id: String,
    /// The upstream application's id.
    pub external_id: String,
    /// For people.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// `project`
    pub resource_type_slug: String,
    /// Whose.
    pub organization_id: String,
    /// The resource above; null for the root only.
    pub parent_resource_id: Option<String>,
    /// When it was created.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// The resource of an assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AssignedResource {
    /// `authz_resource_…`
    pub id: String,
    /// The upstream application's id.
    pub external_id: String,
    /// `project`
    pub resource_type_slug: String,
}

/// A role that a membership has on a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "object", rename = "role_assignment")]
pub struct RoleAssignment {
    /// `role_assignment_…`
    pub id: String,
    /// Who has it.
    pub organization_membership_id: String,
    /// Which role.
    pub role: RoleName,
    /// On what.
    pub resource: AssignedResource,
    /// By what.
    pub source: AssignmentSource,
    /// Since when.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// What a role assignment comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AssignmentSource {
    /// Whether it was given to the membership itself or to a group.
    #[serde(rename = "type")]
    pub kind: SourceKind,
    /// The assignment of the group.
    pub group_role_assignment_id: Option<String>,
    /// The group.
    pub group: Option<GroupName>,
}

/// Whether a role was given to the membership itself or to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// To the membership.
    Direct,
    /// To a group that it is in.
    Group,
}

/// A group by id and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupName {
    /// `group_…`
    pub id: String,
    /// For people.
    pub name: String,
}

/// A role that every member of a group has on a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "object", rename = "group_role_assignment")]
pub struct GroupRoleAssignment {
    /// `gra_…`
    pub id: String,
    /// Whose members have it.
    pub group_id: String,
    /// Which role.
    pub role: RoleName,
    /// On what; the root resource when it is organization-wide.
    pub resource: AssignedResource,
    /// Since when.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// A group of memberships.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "object", rename = "group")]
pub struct Group {
    /// `group_…`
    pub id: String,
    /// Whose.
    pub organization_id: String,
    /// For people.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// When it was created.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// A user in an organization.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "object", rename = "organization_membership")]
pub struct Membership {
    /// `om_…`
    pub id: String,
    /// Who.
    pub user_id: String,
    /// Where.
    pub organization_id: String,
    /// The organization's name.
    pub organization_name: String,
    /// Whether it counts.
    pub status: MembershipStatus,
    /// Whether an identity provider made it.
    pub directory_managed: bool,
    /// Anything.
    pub custom_attributes: Map<String, Value>,
    /// The organization role of highest priority; absent in the base form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleName>,
    /// All organization roles; absent in the base form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<RoleName>>,
    /// The user; absent in the base form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// When it was created.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// Whether a membership counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MembershipStatus {
    /// It does.
    Active,
    /// It was switched off.
    Inactive,
    /// The invitation was not accepted yet.
    Pending,
}

/// An organization.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "object", rename = "organization")]
pub struct Organization {
    /// `org_…`
    pub id: String,
    /// For people.
    pub name: String,
    /// Its internet domains.
    pub domains: Vec<OrganizationDomain>,
    /// Texts by key.
    pub metadata: Map<String, Value>,
    /// The upstream application's id.
    pub external_id: Option<String>,
    /// Its customer number at Stripe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_customer_id: Option<String>,
    /// Whether people with other domains may belong to it.
    pub allow_profiles_outside_organization: bool,
    /// When it was created.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// An internet domain of an organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "object", rename = "organization_domain")]
pub struct OrganizationDomain {
    /// `org_domain_…`
    pub id: String,
    /// Whose.
    pub organization_id: String,
    /// `example.com`
    pub domain: String,
    /// `pending`, `verified`.
    pub state: String,
    /// When it was created.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "object", rename = "user")]
pub struct User {
    /// `user_…`
    pub id: String,
    /// The address, in lower case.
    pub email: String,
    /// Given name.
    pub first_name: Option<String>,
    /// Family name.
    pub last_name: Option<String>,
    /// Full name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A picture.
    pub profile_picture_url: Option<String>,
    /// Whether the address was proven to be theirs.
    pub email_verified: bool,
    /// The upstream application's id.
    pub external_id: Option<String>,
    /// Texts by key.
    pub metadata: Map<String, Value>,
    /// When they last signed in.
    pub last_sign_in_at: Option<String>,
    /// `de-DE`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// When it was created.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "object", rename = "event")]
pub struct Event {
    /// `event_…`
    pub id: String,
    /// `role.created`
    pub event: String,
    /// The object it is about.
    pub data: Value,
    /// When.
    pub created_at: String,
}

/// A change of a grant, and who made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "object", rename = "audit_entry")]
pub struct AuditEntry {
    /// `audit_…`
    pub id: String,
    /// The name of the API key that it was made with.
    pub key: String,
    /// `role_assignment.created`
    pub action: String,
    /// The revision that has it first: `r1.<epoch>.<seq>`.
    pub revision: String,
    /// Whose grant.
    pub organization_id: Option<String>,
    /// What the grant is: ids of membership or group, role, resource.
    pub details: Value,
    /// When.
    pub created_at: String,
}
