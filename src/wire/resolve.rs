//! The names of one organization's facts turned into ids.

use std::collections::{HashMap, HashSet};

use super::grant::ResourceName;
use super::ids::derived;
use super::model::{Environment, KnownRole, NAME_CHARACTERS, organization_role, unknown_type};
use super::organization::{OrganizationSpec, ResourceSpec};
use super::spot::Spot;
use crate::domain::record::{
    Assignment, AssignmentKey, CustomRole, Group, GroupAssignment, GroupMember, Member, OrganizationRows,
    OrganizationSettings, Resource, RoleMode,
};
use crate::domain::shard::MAX_DEPTH;
use crate::domain::{
    AssignmentId, BuildError, Catalog, ExternalId, Facts, GroupId, IdError, Keep, MembershipId, OrganizationId,
    ResourceId, ResourceTypeSlug, RoleId, RoleSlug, Shard,
};
use crate::yaml::{Node, Problems};

/// Beginnings of ids that stores make up: an external id that looks like one would be ambiguous (decision D2).
const RESERVED: [&str; 7] = ["authz_resource_", "gra_", "group_", "om_", "org_", "role_", "user_"];

/// The beginning that makes an external id look like an id that a store makes up (decision D2).
pub fn reserved_start(external_id: &str) -> Option<&'static str> {
    RESERVED.into_iter().find(|start| external_id.starts_with(start))
}

impl Environment {
    /// Turns the names of `spec`, which was read from `node`, into ids.
    ///
    /// # Errors
    /// Everything that is wrong with it: what is named and not there, roles on resources of another type, repetitions, circles.
    pub fn organization(&self, spec: &OrganizationSpec, node: &Node) -> Result<OrganizationRows, Problems> {
        let mut resolver = Resolver {
            environment: self,
            organization: &spec.id,
            roles: HashMap::new(),
            members: HashSet::new(),
            groups: HashSet::new(),
            resources: HashMap::new(),
            assigned: HashSet::new(),
            assignment_ids: HashSet::new(),
            settled: HashSet::new(),
            rows: OrganizationRows::default(),
            problems: Problems::default(),
        };
        let spot = Spot(node);
        resolver.roles(spec, spot);
        resolver.memberships(spec, spot.key("memberships"));
        resolver.groups(spec, spot.key("groups"));
        resolver.resources(spec, spot.key("resources"));
        resolver.assignments(spec, spot.key("assignments"));
        resolver.group_assignments(spec, spot.key("group_assignments"));
        let Resolver { rows, problems, .. } = resolver;
        problems.into_result().map(|()| rows)
    }
}

/// Facts to decide on, without a world around them.
#[derive(Debug)]
pub struct Sample {
    /// Permissions, environment roles, resource types, settings.
    pub catalog: Catalog,
    /// The organization.
    pub shard: Shard,
}

impl Sample {
    /// The facts that `spec`, which was read from `node`, describes: for rule tests and for questions asked without a running sidecar.
    ///
    /// # Errors
    /// As [`Environment::organization`].
    pub fn new(environment: &Environment, spec: &OrganizationSpec, node: &Node) -> Result<Self, Problems> {
        let rows = environment.organization(spec, node)?;
        let refused = |error: BuildError| Problems::from(node.problem(error.to_string()));
        let catalog = Catalog::build(environment.rows()).map_err(refused)?.value;
        let keep = Keep { assignment_ids: true };
        let shard = Shard::build(&catalog, &spec.id, &rows, keep).map_err(refused)?.value;
        Ok(Self { catalog, shard })
    }

    /// What a decision may look at.
    pub fn facts(&self) -> Facts<'_> {
        Facts::Known { catalog: &self.catalog, shard: Some(&self.shard) }
    }
}

/// The names that are known so far, and the rows made of them.
struct Resolver<'a> {
    environment: &'a Environment,
    organization: &'a OrganizationId,
    roles: HashMap<&'a RoleSlug, KnownRole>,
    members: HashSet<&'a MembershipId>,
    groups: HashSet<&'a GroupId>,
    resources: HashMap<(&'a ResourceTypeSlug, &'a ExternalId), ResourceId>,
    assigned: HashSet<AssignmentKey>,
    assignment_ids: HashSet<AssignmentId>,
    /// Memberships with a direct organization role.
    settled: HashSet<MembershipId>,
    rows: OrganizationRows,
    problems: Problems,
}

impl<'a> Resolver<'a> {
    fn report(&mut self, at: Spot<'_>, message: impl Into<String>) {
        self.problems.0.push(at.problem(message));
    }

    /// The id, or a problem in its place.
    fn id<T>(&mut self, at: Spot<'_>, id: Result<T, IdError>) -> Option<T> {
        id.map_err(|error| self.report(at, error.to_string())).ok()
    }

    /// A custom role first, then the environment's (WorkOS contract R23, decision D17).
    fn role(&self, slug: &RoleSlug) -> Option<&KnownRole> {
        self.roles.get(slug).or_else(|| self.environment.role(slug))
    }

    fn roles(&mut self, spec: &'a OrganizationSpec, at: Spot<'_>) {
        let list = at.key("roles");
        let mut ids = HashSet::new();
        for (index, role) in spec.roles.iter().enumerate() {
            let at = list.item(index);
            self.environment.check_role(role, at, &mut self.problems);
            let id =
                role.id.clone().map_or_else(|| derived("role", &[self.organization.as_str(), role.slug.as_str()]), Ok);
            let Some(id) = self.id(at, id) else { continue };
            if self.environment.role(&role.slug).is_some() {
                self.report(at.key("slug"), format!("role `{}` is declared by the model already", role.slug));
            }
            let known = KnownRole { id: id.clone(), resource_type: role.resource_type.clone() };
            if self.roles.insert(&role.slug, known).is_some() {
                self.report(at.key("slug"), format!("role `{}` is declared twice", role.slug));
            } else if !ids.insert(id.clone()) || self.environment.has_role_id(&id) {
                self.report(at.key("id"), format!("role id `{id}` is given twice"));
            }
            self.rows.roles.push(CustomRole {
                id,
                slug: role.slug.clone(),
                resource_type: role.resource_type.clone(),
                permissions: role.permissions.clone(),
            });
        }
        self.settings(spec, at);
    }

    fn settings(&mut self, spec: &OrganizationSpec, at: Spot<'_>) {
        let mut settings = OrganizationSettings::default();
        if let Some(slug) = &spec.default_role {
            match organization_role(slug, self.role(slug)) {
                Ok(role) => settings.default_role = Some(role.id.clone()),
                Err(why) => self.report(at.key("default_role"), why),
            }
        }
        for (index, slug) in spec.role_priority.iter().enumerate() {
            let at = at.key("role_priority").item(index);
            match organization_role(slug, self.role(slug)).map(|role| role.id.clone()) {
                Ok(id) if settings.priorities.contains(&id) => {
                    self.report(at, format!("role `{slug}` is listed twice"))
                }
                Ok(id) => settings.priorities.push(id),
                Err(why) => self.report(at, why),
            }
        }
        self.rows.settings = (settings != OrganizationSettings::default()).then_some(settings);
    }

    fn memberships(&mut self, spec: &'a OrganizationSpec, list: Spot<'_>) {
        let mut users = HashSet::new();
        for (index, membership) in spec.memberships.iter().enumerate() {
            let at = list.item(index);
            if !self.members.insert(&membership.id) {
                self.report(at.key("id"), format!("membership `{}` is given twice", membership.id));
                continue;
            }
            if !users.insert(&membership.user) {
                self.report(at.key("user"), format!("user `{}` has two memberships here", membership.user));
            }
            self.rows.members.push(Member {
                id: membership.id.clone(),
                user: membership.user.clone(),
                status: membership.status,
            });
            for (index, slug) in membership.roles.iter().enumerate() {
                let at = at.key("roles").item(index);
                match organization_role(slug, self.role(slug)) {
                    Ok(_) => self.assign(at, &membership.id, slug, &ResourceName::Organization, None),
                    Err(why) => self.report(at, why),
                }
            }
        }
    }
    fn groups(&mut self, spec: &'a OrganizationSpec, list: Spot<'_>) {
        for (index, group) in spec.groups.iter().enumerate() {
            let at = list.item(index);
            if !self.groups.insert(&group.id) {
                self.report(at.key("id"), format!("group `{}` is given twice", group.id));
                continue;
            }
            self.rows.groups.push(Group { id: group.id.clone() });
            let mut members = HashSet::with_capacity(group.members.len());
            for (index, membership) in group.members.iter().enumerate() {
                let at = at.key("members").item(index);
                if !self.members.contains(membership) {
                    self.report(at, format!("membership `{membership}` is not in this organization"));
                } else if !members.insert(membership) {
                    self.report(at, format!("membership `{membership}` is listed twice"));
                } else {
                    let edge = GroupMember { group: group.id.clone(), membership: membership.clone() };
                    self.rows.group_members.push(edge);
                }
            }
        }
    }

    fn resources(&mut self, spec: &'a OrganizationSpec, list: Spot<'_>) {
        self.root(list);
        let mut ids: HashSet<ResourceId> = self.rows.resources.iter().map(|root| root.id.clone()).collect();
        for (index, resource) in spec.resources.iter().enumerate() {
            let at = list.item(index);
            self.check_resource(resource, at);
            let parts = [self.organization.as_str(), resource.resource_type.as_str(), resource.id.as_str()];
            let id = resource.resource_id.clone().map_or_else(|| derived("authz_resource", &parts), Ok);
            let Some(id) = self.id(at, id) else { continue };
            if self.resources.insert((&resource.resource_type, &resource.id), id.clone()).is_some() {
                let name = format!("{}:{}", resource.resource_type, resource.id);
                self.report(at.key("id"), format!("resource `{name}` is given twice"));
            } else if !ids.insert(id.clone()) {
                self.report(at.key("resource_id"), format!("resource id `{id}` is given twice"));
            }
        }
        for (index, resource) in spec.resources.iter().enumerate() {
            let at = list.item(index).key("parent");
            let parent = self.parent(resource, at);
            let Some(id) = self.resources.get(&(&resource.resource_type, &resource.id)) else { continue };
            self.rows.resources.push(Resource {
                id: id.clone(),
                resource_type: resource.resource_type.clone(),
                external_id: resource.id.clone(),
                parent,
            });
        }
        self.check_depth(spec, list);
    }

    /// The organization itself, known by the organization's id (decision D2).
    fn root(&mut self, at: Spot<'_>) {
        let resource_type = ResourceTypeSlug::organization();
        let organization = self.organization.as_str();
        let id = derived("authz_resource", &[organization, resource_type.as_str(), organization]);
        let (Some(id), Some(external_id)) = (self.id(at, id), self.id(at, organization.parse())) else { return };
        self.rows.resources.push(Resource { id, resource_type, external_id, parent: None });
    }

    fn check_resource(&mut self, resource: &ResourceSpec, at: Spot<'_>) {
        if resource.resource_type.is_organization() {
            self.report(at.key("type"), "the resource of type `organization` exists by itself and is not listed");
        } else if !self.environment.types().contains(&resource.resource_type) {
            self.report(at.key("type"), unknown_type(&resource.resource_type));
        }
        if let Some(prefix) = reserved_start(resource.id.as_str()) {
            self.report(
                at.key("id"),
                format!("external id `{}` begins with `{prefix}`, as ids of the store do", resource.id),
            );
        }
        let characters = resource.name.as_ref().map_or(0, |name| name.chars().count());
        if characters > NAME_CHARACTERS {
            let why = format!("name has {characters} characters, at most {NAME_CHARACTERS} are allowed");
            self.report(at.key("name"), why);
        }
    }

    /// The id of the parent; `None` for the organization, and where there is a problem.
    fn parent(&mut self, resource: &ResourceSpec, at: Spot<'_>) -> Option<ResourceId> {
        let organization = ResourceTypeSlug::organization();
        let (parent_type, id) = match &resource.parent {
            ResourceName::Organization => (&organization, None),
            ResourceName::Named { resource_type, external_id } => {
                let id = self.resources.get(&(resource_type, external_id)).cloned();
                if id.is_none() {
                    self.report(at, format!("resource `{}` is not in this organization", resource.parent));
                }
                (resource_type, id)
            }
        };
        let types = self.environment.types();
        let allowed = types.parents(&resource.resource_type);
        if !allowed.is_empty() && !allowed.contains(parent_type) {
            let allowed: Vec<_> = allowed.iter().map(|allowed| format!("`{allowed}`")).collect();
            let why = format!("the parent is of type `{parent_type}`, expected {}", allowed.join(" or "));
            self.report(at, why);
        }
        id
    }

    /// Walks up from every resource: a walk that does not end within [`MAX_DEPTH`] steps (decision D7) is too deep or goes in a circle.
    fn check_depth(&mut self, spec: &OrganizationSpec, list: Spot<'_>) {
        let parents: HashMap<&ResourceId, &ResourceId> =
            self.rows.resources.iter().filter_map(|resource| Some((&resource.id, resource.parent.as_ref()?))).collect();
        for (index, resource) in spec.resources.iter().enumerate() {
            let Some(id) = self.resources.get(&(&resource.resource_type, &resource.id)) else { continue };
            let above = || std::iter::successors(parents.get(id).copied(), |id| parents.get(*id).copied());
            let why = if above().take(MAX_DEPTH).any(|other| other == id) {
                "the chain of parents leads back to the resource itself".to_owned()
            } else if above().nth(MAX_DEPTH - 1).is_some() {
                format!("more than {MAX_DEPTH} levels below the organization")
            } else {
                continue;
            };
            self.problems.0.push(list.item(index).key("parent").problem(why));
        }
    }

    fn assignments(&mut self, spec: &OrganizationSpec, list: Spot<'_>) {
        for (index, grant) in spec.assignments.iter().enumerate() {
            let at = list.item(index);
            if !self.members.contains(&grant.subject) {
                let why = format!("membership `{}` is not in this organization", grant.subject);
                self.report(at.key("membership"), why);
                continue;
            }
            self.assign(at, &grant.subject, &grant.role, &grant.resource, grant.id.as_ref());
        }
    }

    fn assign(
        &mut self,
        at: Spot<'_>,
        membership: &MembershipId,
        role: &RoleSlug,
        resource: &ResourceName,
        id: Option<&AssignmentId>,
    ) {
        let Some((role_id, resource_id)) = self.grant(at, role, resource) else { return };
        let single = self.environment.role_mode() == RoleMode::Single && resource_id.is_none();
        let id = self.assignment_id("role_assignment", at, id, [membership.as_str(), role.as_str()], resource);
        let assignment = Assignment { id, membership: membership.clone(), role: role_id, resource: resource_id };
        if !self.assigned.insert(assignment.key()) {
            self.report(at, format!("membership `{membership}` has role `{role}` on `{resource}` already"));
        } else if single && !self.settled.insert(membership.clone()) {
            self.report(
                at,
                format!("membership `{membership}` has an organization role already, and `role_mode` is `single`"),
            );
        }
        self.rows.assignments.push(assignment);
    }

    fn group_assignments(&mut self, spec: &OrganizationSpec, list: Spot<'_>) {
        let mut assigned = HashSet::new();
        for (index, grant) in spec.group_assignments.iter().enumerate() {
            let at = list.item(index);
            let (group, role, resource) = (&grant.subject, &grant.role, &grant.resource);
            if !self.groups.contains(group) {
                self.report(at.key("group"), format!("group `{group}` is not in this organization"));
                continue;
            }
            let Some((role_id, resource_id)) = self.grant(at, role, resource) else { continue };
            let id = self.assignment_id("gra", at, grant.id.as_ref(), [group.as_str(), role.as_str()], resource);
            let assignment = GroupAssignment { id, group: group.clone(), role: role_id, resource: resource_id };
            if !assigned.insert(assignment.key()) {
                self.report(at, format!("group `{group}` has role `{role}` on `{resource}` already"));
            }
            self.rows.group_assignments.push(assignment);
        }
    }

    /// Role and resource of a grant, if they are there and fit each other (WorkOS contract R14, decision D9).
    fn grant(
        &mut self,
        at: Spot<'_>,
        role: &RoleSlug,
        resource: &ResourceName,
    ) -> Option<(RoleId, Option<ResourceId>)> {
        let known = self.role(role).cloned();
        if known.is_none() {
            self.report(at.key("role"), format!("role `{role}` is not declared"));
        }
        let organization = ResourceTypeSlug::organization();
        let (resource_type, id) = match resource {
            ResourceName::Organization => (&organization, None),
            ResourceName::Named { resource_type, external_id } => {
                let id = self.resources.get(&(resource_type, external_id)).cloned();
                if id.is_none() {
                    self.report(at.key("resource"), format!("resource `{resource}` is not in this organization"));
                    return None;
                }
                (resource_type, id)
            }
        };
        let known = known?;
        if known.resource_type != *resource_type {
            let expected = &known.resource_type;
            let why =
                format!("role `{role}` is assigned on a resource of type `{resource_type}`, expected `{expected}`");
            self.report(at.key("resource"), why);
        }
        Some((known.id, id))
    }

    fn assignment_id(
        &mut self,
        prefix: &str,
        at: Spot<'_>,
        given: Option<&AssignmentId>,
        [subject, role]: [&str; 2],
        resource: &ResourceName,
    ) -> Option<AssignmentId> {
        let parts = [self.organization.as_str(), subject, role, &resource.to_string()];
        let id = given.cloned().map_or_else(|| derived(prefix, &parts), Ok);
        let id = self.id(at, id)?;
        if !self.assignment_ids.insert(id.clone()) && given.is_some() {
            self.report(at.key("id"), format!("assignment id `{id}` is given twice"));
        }
        Some(id)
    }
}

#[cfg(test)]
mod tests;
