//! An organization that is built one row at a time, in the words of the examples.

use portcullis::domain::record::*;
use portcullis::domain::{
    Ask, Caller, Catalog, Change, Decision, Delta, DenyReason, Facts, Grants, Keep, MembershipId, OrganizationId,
    PermissionSlug, Requirement, ResourceRef, Scope, Shard, UserId, decide,
};

pub fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: impl AsRef<str>) -> T {
    text.as_ref().parse().unwrap()
}

/// An environment and one organization, `org_acme`. Roles have the slug as id; memberships, groups and resources are named by one word.
pub struct Acme {
    pub catalog: Catalog,
    pub shard: Shard,
    priorities: u32,
}

impl Acme {
    pub fn new(mode: RoleMode) -> Self {
        let catalog = Catalog::empty();
        let root = Resource {
            id: id("authz_resource_acme"),
            resource_type: id("organization"),
            external_id: id("org_acme"),
            parent: None,
        };
        let rows = OrganizationRows { resources: vec![root], ..OrganizationRows::default() };
        let keep = Keep { assignment_ids: true };
        let shard = Shard::build(&catalog, &id("org_acme"), &rows, keep).unwrap().value;
        Self { catalog, shard, priorities: 0 }.settings(mode, None)
    }

    pub fn settings(self, role_mode: RoleMode, default_role: Option<&str>) -> Self {
        let settings = EnvironmentSettings { role_mode, default_role: default_role.map(id) };
        self.declare(Change::Put(CatalogRecord::Settings(settings)))
    }

    /// An environment role below all former ones.
    pub fn role(mut self, slug: &str, resource_type: &str, permissions: &[&str]) -> Self {
        self.priorities += 1;
        let priority = self.priorities;
        self.redefine(slug, resource_type, priority, permissions)
    }

    pub fn redefine(mut self, slug: &str, resource_type: &str, priority: u32, permissions: &[&str]) -> Self {
        for &permission in permissions {
            let permission = Permission { slug: id(permission), resource_type: id("organization") };
            self = self.declare(Change::Put(CatalogRecord::Permission(permission)));
        }
        let role = EnvironmentRole {
            id: id(slug),
            slug: id(slug),
            resource_type: id(resource_type),
            priority,
            permissions: permissions.iter().map(id).collect(),
        };
        self.declare(Change::Put(CatalogRecord::Role(role)))
    }

    pub fn declare(mut self, change: Change<CatalogRecord>) -> Self {
        self.catalog = self.catalog.advance(&Delta::Changes(vec![change])).unwrap().value;
        self
    }

    pub fn change(mut self, change: Change<OrganizationRecord>) -> Self {
        self.shard = self.shard.advance(&self.catalog, &Delta::Changes(vec![change])).unwrap().value;
        self
    }

    pub fn put(self, record: OrganizationRecord) -> Self {
        self.change(Change::Put(record))
    }

    pub fn delete(self, key: OrganizationKey) -> Self {
        self.change(Change::Delete(key))
    }

    pub fn member(self, name: &str) -> Self {
        self.member_with(name, MembershipStatus::Active)
    }

    pub fn member_with(self, name: &str, status: MembershipStatus) -> Self {
        self.put(OrganizationRecord::Member(Member {
            id: om(name),
            user: user(name),
            status,
            identity_provider_roles: Vec::new(),
        }))
    }

    pub fn group(self, name: &str, members: &[&str]) -> Self {
        let group = self.put(OrganizationRecord::Group(Group { id: id(name) }));
        members.iter().fold(group, |acme, member| acme.join(name, member))
    }

    pub fn join(self, group: &str, member: &str) -> Self {
        self.put(OrganizationRecord::GroupMember(GroupMember { group: id(group), membership: om(member) }))
    }

    pub fn leave(self, group: &str, member: &str) -> Self {
        self.delete(OrganizationKey::GroupMember(GroupMember { group: id(group), membership: om(member) }))
    }

    pub fn resource(self, resource_type: &str, name: &str, parent: Option<&str>) -> Self {
        let (resource_type, external_id) = (id(resource_type), id(name));
        self.put(OrganizationRecord::Resource(Resource {
            id: id(name),
            resource_type,
            external_id,
            parent: parent.map(id),
        }))
    }

    pub fn assign(self, member: &str, role: &str, resource: Option<&str>) -> Self {
        let key = id(format!("role_assignment_{member}_{role}"));
        let (membership, role, resource) = (om(member), id(role), resource.map(id));
        self.put(OrganizationRecord::Assignment(Assignment { id: Some(key), membership, role, resource }))
    }

    pub fn unassign(self, member: &str, role: &str, resource: Option<&str>) -> Self {
        let (membership, role, resource) = (om(member), id(role), resource.map(id));
        self.delete(OrganizationKey::Assignment(AssignmentKey { membership, role, resource }))
    }

    pub fn assign_group(self, group: &str, role: &str, resource: Option<&str>) -> Self {
        let key = id(format!("gra_{group}_{role}"));
        let (group, role, resource) = (id(group), id(role), resource.map(id));
        self.put(OrganizationRecord::GroupAssignment(GroupAssignment { id: Some(key), group, role, resource }))
    }

    pub fn unassign_group(self, group: &str, role: &str, resource: Option<&str>) -> Self {
        let (group, role, resource) = (id(group), id(role), resource.map(id));
        self.delete(OrganizationKey::GroupAssignment(GroupAssignmentKey { group, role, resource }))
    }

    /// What the access check says.
    pub fn can(&self, member: &str, permission: &str, resource: &str) -> bool {
        self.shard.check(&self.catalog, &om(member), &id(permission), &ResourceRef::Id(resource.into()))
    }

    pub fn can_organization_wide(&self, member: &str, permission: &str) -> bool {
        self.can(member, permission, "authz_resource_acme")
    }

    /// What the sidecar says to a token with these permissions.
    pub fn asks(
        &self,
        member: &str,
        claims: &[&str],
        permission: &str,
        resource: Option<ResourceRef<'_>>,
        grants: Grants,
    ) -> Decision {
        let (permission, permissions) = (id(permission), sorted(claims));
        let ask = Ask { permission: &permission, resource, grants };
        let requirement = Requirement { organization: None, scope: Scope::All([ask].into_iter().collect()) };
        let (user, organization, membership) = (user(member), acme(), om(member));
        let caller = Caller {
            user: &user,
            organization: Some(&organization),
            membership: Some(&membership),
            permissions: &permissions,
        };
        decide(&requirement, Some(caller), Facts::Known { catalog: &self.catalog, shard: Some(&self.shard) })
    }
}

pub fn om(name: &str) -> MembershipId {
    id(format!("om_{name}"))
}

pub fn user(name: &str) -> UserId {
    id(format!("user_{name}"))
}

pub fn acme() -> OrganizationId {
    id("org_acme")
}

pub fn sorted(slugs: &[&str]) -> Vec<PermissionSlug> {
    let mut slugs: Vec<_> = slugs.iter().map(id).collect();
    slugs.sort();
    slugs
}

pub fn reason(decision: Decision) -> Result<(), DenyReason> {
    match decision {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(denial) => Err(denial.reason),
    }
}

/// Workspaces engineering and research; projects api and mobile in the first, sensitive in the second; app web in api.
pub fn company(mode: RoleMode) -> Acme {
    Acme::new(mode)
        .role("admin", "organization", &["org:manage", "project:edit"])
        .role("org-member", "organization", &["org:view"])
        .role(
            "workspace-admin",
            "workspace",
            &["workspace:edit", "project:view", "project:edit", "app:view", "app:edit"],
        )
        .role("editor", "workspace", &["project:edit"])
        .role("project-editor", "project", &["project:view", "project:edit"])
        .role("project-reviewer", "project", &["project:view", "project:review"])
        .role("project-viewer", "project", &["project:view"])
        .resource("workspace", "engineering", None)
        .resource("workspace", "research", None)
        .resource("project", "api", Some("engineering"))
        .resource("project", "mobile", Some("engineering"))
        .resource("project", "sensitive", Some("research"))
        .resource("app", "web", Some("api"))
        .member("alice")
        .member("bob")
}
