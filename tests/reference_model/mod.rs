//! A second implementation of the decision, to judge the first by: linear searches over the raw rows, nothing interned, nothing indexed,
//! nothing shared with the engine but the words. Slow and obvious on purpose.

#![allow(dead_code, reason = "each test file uses its own part of the model")]

use portcullis::domain::record::{CustomRole, EnvironmentRole, MembershipStatus, Resource, RoleMode};
use portcullis::domain::{
    Ask, Caller, CatalogRows, DenyReason, Grants, MembershipId, OrganizationId, OrganizationRows, PermissionSlug,
    Requirement, ResourceRef, RoleId, Scope, TokenFault,
};

/// The rows of an environment.
#[derive(Debug, Clone, Default)]
pub struct World {
    pub catalog: CatalogRows,
    pub organizations: Vec<(OrganizationId, OrganizationRows)>,
}

/// One organization's rows, and the environment's.
#[derive(Clone, Copy)]
pub struct Model<'a> {
    catalog: &'a CatalogRows,
    organization: &'a OrganizationId,
    rows: &'a OrganizationRows,
}

#[derive(Clone, Copy)]
enum Role<'a> {
    Environment(&'a EnvironmentRole),
    Custom(&'a CustomRole),
}

impl World {
    pub fn organization(&self, id: &OrganizationId) -> Option<Model<'_>> {
        let (organization, rows) = self.organizations.iter().find(|(other, _)| other == id)?;
        Some(Model { catalog: &self.catalog, organization, rows })
    }

    pub fn model(&self, place: usize) -> Model<'_> {
        let (organization, rows) = &self.organizations[place];
        Model { catalog: &self.catalog, organization, rows }
    }

    /// The denial reason, or nothing when allowed.
    pub fn decide(&self, requirement: &Requirement<'_>, caller: Option<Caller<'_>>) -> Option<DenyReason> {
        if matches!(requirement.scope, Scope::Public | Scope::Preflight) {
            return None;
        }
        let Some(caller) = caller else { return Some(DenyReason::MissingToken) };
        if let Some(value) = &requirement.organization {
            match caller.organization {
                None => return Some(DenyReason::BadToken(TokenFault::MissingClaim)),
                Some(organization) if organization.as_str() != value => return Some(DenyReason::WrongOrganization),
                Some(_) => {}
            }
        }
        match &requirement.scope {
            Scope::Public | Scope::Preflight | Scope::Authenticated => None,
            Scope::All(_) | Scope::Any(_) if caller.organization.is_none() => {
                Some(DenyReason::BadToken(TokenFault::MissingClaim))
            }
            Scope::All(asks) => asks.iter().find_map(|ask| self.judge(ask, caller)),
            Scope::Any(asks) => {
                let reasons: Vec<_> = asks.iter().map(|ask| self.judge(ask, caller)).collect();
                if reasons.contains(&None) {
                    return None;
                }
                let outage = |reason: &Option<DenyReason>| *reason == Some(DenyReason::FactsUnavailable);
                if reasons.iter().all(outage) { reasons[0] } else { Some(DenyReason::NotGranted) }
            }
        }
    }

    fn judge(&self, ask: &Ask<'_>, caller: Caller<'_>) -> Option<DenyReason> {
        let organization = caller.organization.unwrap();
        let claimed = caller.permissions.contains(ask.permission);
        let names_an_organization = matches!(&ask.resource, Some(ResourceRef::External { resource_type, .. })
            if resource_type.as_str() == "organization");
        let needs_facts = ask.grants != Grants::Token || (ask.resource.is_some() && !names_an_organization);

        let mut member = None;
        if needs_facts {
            let Some(model) = self.organization(organization) else { return Some(DenyReason::UnknownMembership) };
            match model.identify(caller) {
                Err(reason) => return Some(reason),
                Ok(id) => member = Some((model, id)),
            }
        }
        let elsewhere = |resource: &ResourceRef<'_>| match resource {
            ResourceRef::External { external_id, .. } => external_id != organization.as_str(),
            ResourceRef::Id(_) => false,
        };
        let mut resource = None;
        match &ask.resource {
            None => {}
            Some(reference) if names_an_organization && elsewhere(reference) => {
                return Some(DenyReason::UnknownResource);
            }
            Some(_) if names_an_organization => {}
            Some(reference) => match member.unwrap().0.resource(reference) {
                None => return Some(DenyReason::UnknownResource),
                Some(found) => resource = Some(found),
            },
        }
        let live = || member.is_some_and(|(model, id)| model.holds_organization_wide(id, ask.permission));
        let organization_wide = match ask.grants {
            Grants::Token => claimed,
            Grants::Live => live(),
            Grants::Both => claimed && live(),
        };
        let on_resource = || {
            let (model, id) = member.unwrap();
            model.below_root(resource.unwrap()).iter().any(|ancestor| model.holds_on(id, ask.permission, ancestor))
        };
        if organization_wide || (resource.is_some() && on_resource()) { None } else { Some(DenyReason::NotGranted) }
    }
}

impl<'a> Model<'a> {
    /// The plain check: a role with the permission on the resource, on an ancestor, or organization-wide.
    pub fn check(self, membership: &MembershipId, permission: &PermissionSlug, resource: &ResourceRef<'_>) -> bool {
        let active =
            self.rows.members.iter().any(|row| row.id == *membership && row.status == MembershipStatus::Active);
        let root = match resource {
            ResourceRef::External { resource_type, external_id } => {
                resource_type.as_str() == "organization" && external_id == self.organization.as_str()
            }
            ResourceRef::Id(_) => false,
        };
        let found = self.resource(resource);
        if !active || !(root || found.is_some()) {
            return false;
        }
        self.holds_organization_wide(membership, permission)
            || found.is_some_and(|resource| {
                self.below_root(resource).iter().any(|ancestor| self.holds_on(membership, permission, ancestor))
            })
    }

    fn identify(self, caller: Caller<'_>) -> Result<&'a MembershipId, DenyReason> {
        let row = match caller.membership {
            Some(id) => {
                let row = self.rows.members.iter().find(|row| row.id == *id).ok_or(DenyReason::UnknownMembership)?;
                if row.user != *caller.user {
                    return Err(DenyReason::BadToken(TokenFault::IdentityMismatch));
                }
                row
            }
            None => {
                let rows: Vec<_> = self.rows.members.iter().filter(|row| row.user == *caller.user).collect();
                match *rows.as_slice() {
                    [row] => row,
                    _ => return Err(DenyReason::UnknownMembership),
                }
            }
        };
        if row.status == MembershipStatus::Active { Ok(&row.id) } else { Err(DenyReason::MembershipInactive) }
    }

    fn resource(self, reference: &ResourceRef<'_>) -> Option<&'a Resource> {
        self.rows.resources.iter().find(|row| match reference {
            ResourceRef::Id(id) => row.id.as_str() == id,
            ResourceRef::External { resource_type, external_id } => {
                row.resource_type == **resource_type && row.external_id.as_str() == external_id
            }
        })
    }

    /// The resource and its ancestors, without the root.
    fn below_root(self, resource: &'a Resource) -> Vec<&'a Resource> {
        let mut line = vec![];
        let mut next = Some(resource);
        while let Some(resource) = next.filter(|resource| resource.resource_type.as_str() != "organization") {
            line.push(resource);
            next = resource.parent.as_ref().and_then(|id| self.rows.resources.iter().find(|row| row.id == *id));
        }
        line
    }

    fn groups(self, membership: &MembershipId) -> Vec<&'a str> {
        let edges = self.rows.group_members.iter().filter(|edge| edge.membership == *membership);
        let exists = |id: &str| self.rows.groups.iter().any(|group| group.id.as_str() == id);
        edges.map(|edge| edge.group.as_str()).filter(|id| exists(id)).collect()
    }

    fn holds_on(self, membership: &MembershipId, permission: &PermissionSlug, resource: &Resource) -> bool {
        let groups = self.groups(membership);
        let direct = self.rows.assignments.iter();
        let direct = direct.filter(|row| row.membership == *membership && row.resource.as_ref() == Some(&resource.id));
        let by_group = self.rows.group_assignments.iter();
        let by_group =
            by_group.filter(|row| groups.contains(&row.group.as_str()) && row.resource.as_ref() == Some(&resource.id));
        direct.map(|row| &row.role).chain(by_group.map(|row| &row.role)).any(|role| self.permits(role, permission))
    }

    fn holds_organization_wide(self, membership: &MembershipId, permission: &PermissionSlug) -> bool {
        self.organization_roles(membership).iter().any(|role| self.permits(role, permission))
    }

    /// The organization roles a membership has now.
    pub fn organization_roles(self, membership: &MembershipId) -> Vec<&'a RoleId> {
        let root = self.rows.resources.iter().find(|row| row.resource_type.as_str() == "organization");
        let on_root = |resource: &Option<_>| resource.is_none() || resource.as_ref() == root.map(|root| &root.id);
        let direct = self.rows.assignments.iter();
        let direct = direct.filter(|row| row.membership == *membership && on_root(&row.resource));
        let members = self.rows.members.iter().filter(|row| row.id == *membership);
        let provided = members.flat_map(|row| &row.identity_provider_roles);
        let mut roles: Vec<&RoleId> = provided.filter(|id| self.role(id).is_some()).collect();
        if roles.is_empty() {
            roles.extend(direct.map(|row| &row.role).filter(|id| self.role(id).is_some()));
        }
        if roles.is_empty() {
            let own = self.rows.settings.as_ref().and_then(|settings| settings.default_role.as_ref());
            let environment = self.catalog.settings.as_ref().and_then(|settings| settings.default_role.as_ref());
            roles.extend(own.or(environment).filter(|id| self.role(id).is_some()));
        }
        let groups = self.groups(membership);
        let by_group = self.rows.group_assignments.iter();
        let by_group = by_group.filter(|row| groups.contains(&row.group.as_str()) && on_root(&row.resource));
        roles.extend(by_group.map(|row| &row.role).filter(|id| self.role(id).is_some()));
        if self.catalog.settings.as_ref().is_none_or(|settings| settings.role_mode == RoleMode::Single) {
            roles.sort_by_key(|id| self.rank(id));
            roles.truncate(1);
        }
        roles
    }

    fn rank(self, id: &RoleId) -> (usize, u32, String) {
        let order = self.rows.settings.as_ref().map(|settings| settings.priorities.as_slice()).unwrap_or_default();
        let own = order.iter().position(|other| other == id).unwrap_or(usize::MAX);
        let environment = match self.role(id) {
            Some(Role::Environment(role)) => role.priority,
            _ => u32::MAX,
        };
        (own, environment, id.to_string())
    }

    fn role(self, id: &RoleId) -> Option<Role<'a>> {
        let custom = self.rows.roles.iter().find(|role| role.id == *id).map(Role::Custom);
        custom.or_else(|| self.catalog.roles.iter().find(|role| role.id == *id).map(Role::Environment))
    }

    fn permits(self, role: &RoleId, permission: &PermissionSlug) -> bool {
        let declared = self.catalog.permissions.iter().any(|row| row.slug == *permission);
        declared
            && match self.role(role) {
                None => false,
                Some(Role::Environment(role)) => role.permissions.contains(permission),
                Some(Role::Custom(role)) => role.permissions.contains(permission),
            }
    }
}
