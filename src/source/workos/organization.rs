//! One organization, read as a whole or not at all.
//!
//! ```text
//! roles, resources     the outline
//! memberships          with the organization roles that each has in effect
//! assignments          of each resource below the root, or of each active membership, whichever are fewer
//! roles, resources     once more: had they changed, what was read in between would belong to neither state
//! ```
//!
//! The server answers about one moment per question, so what is read is put together from many. With an outline that stayed the same,
//! every grant that comes of it was a true one at some moment of the reading.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::client::{AskError, Client};
use super::encoded;
use super::objects::{Membership, Organization, Resource, Role, RoleAssignment, RoleKind, Roles};
use super::pages::list;
use crate::domain::record::{
    self, Assignment, CustomRole, Group, GroupAssignment, GroupMember, Member, MembershipStatus, OrganizationRows,
    OrganizationSettings,
};
use crate::domain::{GroupId, IdError, MembershipId, OrganizationId, ResourceId, RoleId, RoleSlug};

/// Lists that are asked for at the same time.
const AT_ONCE: usize = 16;
/// How often an organization that changes meanwhile is read.
const TRIES: usize = 3;

/// What the rest hangs on.
#[derive(PartialEq, Eq)]
struct Outline {
    roles: Vec<Role>,
    resources: Vec<Resource>,
    root: Option<ResourceId>,
}

/// What was read of an organization.
pub(super) struct Read {
    pub(super) rows: OrganizationRows,
    /// The environment's roles as this organization's list has them.
    pub(super) environment_roles: Vec<Role>,
}

/// Reads `organization`; `None` when there is none. `known` are the environment's roles.
pub(super) async fn read(
    client: &Client,
    organization: &OrganizationId,
    known: &[Role],
) -> Result<Option<Read>, AskError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match read_once(client, organization, known).await {
            Err(AskError::Changed(_)) if tries < TRIES => {}
            other => return other,
        }
    }
}

async fn read_once(client: &Client, id: &OrganizationId, known: &[Role]) -> Result<Option<Read>, AskError> {
    let outline = match outline(client, id).await {
        Ok(outline) => outline,
        Err(error) if error.is_not_found() => return gone(client, id).await,
        Err(error) => return Err(error),
    };
    let path = format!(
        "/user_management/organization_memberships?organization_id={}&statuses=active%2Cinactive%2Cpending",
        encoded(id.as_str())
    );
    let memberships: Vec<Membership> = list(client, &path).await?;
    if let Some(foreign) = memberships.iter().find(|one| one.organization_id != *id) {
        return Err(AskError::implausible(&path, format!("membership `{}` is of another organization", foreign.id)));
    }
    let held = assignments(client, &outline, &memberships).await?;
    if self::outline(client, id).await? != outline {
        return Err(AskError::Changed("its roles or resources are others than before".to_owned()));
    }
    let rows = Draft { id, outline: &outline, known }.rows(&memberships, held)?;
    let environment_roles = outline.roles.into_iter().filter(|role| role.kind == RoleKind::EnvironmentRole).collect();
    Ok(Some(Read { rows, environment_roles }))
}

/// That there is no such organization takes two answers.
async fn gone(client: &Client, id: &OrganizationId) -> Result<Option<Read>, AskError> {
    let path = format!("/organizations/{}", encoded(id.as_str()));
    match client.get::<Organization>(&path).await {
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
        Ok(_) => Err(AskError::implausible(&path, "the organization is there, and a list of it was not found")),
    }
}

async fn outline(client: &Client, id: &OrganizationId) -> Result<Outline, AskError> {
    let organization = encoded(id.as_str());
    let path = format!("/authorization/organizations/{organization}/roles");
    let roles: Roles = client.get(&path).await?;
    let mut seen = HashSet::new();
    if let Some(twice) = roles.data.iter().find(|role| !seen.insert(&role.id)) {
        return Err(AskError::implausible(&path, format!("role `{}` comes a second time", twice.id)));
    }
    let path = format!("/authorization/resources?organization_id={organization}");
    let mut resources: Vec<Resource> = list(client, &path).await?;
    if let Some(foreign) = resources.iter().find(|one| one.organization_id != *id) {
        return Err(AskError::implausible(&path, format!("resource `{}` is of another organization", foreign.id)));
    }
    let is_listed = resources.iter().any(|resource| resource.resource_type_slug.is_organization());
    if !is_listed && resources.iter().any(|resource| resource.parent_resource_id.is_some()) {
        resources.push(root(client, id).await?);
    }
    resources.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    let root = resources.iter().find(|resource| resource.resource_type_slug.is_organization());
    let root = root.map(|root| root.id.clone());
    let ids: HashSet<_> = resources.iter().map(|resource| &resource.id).collect();
    let missing = resources.iter().filter_map(|resource| resource.parent_resource_id.as_ref());
    if let Some(missing) = missing.into_iter().find(|parent| !ids.contains(parent)) {
        return Err(AskError::Changed(format!("resource `{missing}` has resources below it and is not listed")));
    }
    Ok(Outline { roles: roles.data, resources, root })
}

/// The organization's root resource, for servers that do not list it. Its external id is the organization's id, or the external id that the
/// organization was given (WorkOS contract R35).
async fn root(client: &Client, id: &OrganizationId) -> Result<Resource, AskError> {
    let organization = encoded(id.as_str());
    let path = |external_id: &str| {
        format!("/authorization/organizations/{organization}/resources/organization/{}", encoded(external_id))
    };
    match client.get(&path(id.as_str())).await {
        Err(error) if error.is_not_found() => {}
        other => return other,
    }
    let found: Organization = client.get(&format!("/organizations/{organization}")).await?;
    let external_id = found.external_id.as_ref().map_or(id.as_str(), AsRef::as_ref);
    client.get(&path(external_id)).await
}

/// Who holds what below the root. What counts for the whole organization is in the memberships.
async fn assignments(
    client: &Client,
    outline: &Outline,
    memberships: &[Membership],
) -> Result<Vec<RoleAssignment>, AskError> {
    let below = || outline.resources.iter().filter(|resource| Some(&resource.id) != outline.root.as_ref());
    let active = || memberships.iter().filter(|one| one.status == MembershipStatus::Active);
    if below().next().is_none() {
        return Ok(Vec::new());
    }
    let of_membership = |one: &Membership| {
        format!("/authorization/organization_memberships/{}/role_assignments", encoded(one.id.as_str()))
    };
    let on_resource =
        |one: &Resource| format!("/authorization/resources/{}/role_assignments", encoded(one.id.as_str()));
    let by_membership = active().count() <= below().count();
    let paths: Vec<String> =
        if by_membership { active().map(of_membership).collect() } else { below().map(on_resource).collect() };
    let lists = stream::iter(paths).map(|path| async move {
        let held: Result<Vec<RoleAssignment>, _> = list(client, &path).await;
        match held {
            // It was there a moment ago.
            Err(error) if error.is_not_found() => Err(AskError::Changed(format!("`{path}` is not there any more"))),
            other => other,
        }
    });
    lists.buffer_unordered(AT_ONCE).try_concat().await
}

/// What was read, about to become rows.
struct Draft<'a> {
    id: &'a OrganizationId,
    outline: &'a Outline,
    known: &'a [Role],
}

impl Draft<'_> {
    fn rows(&self, memberships: &[Membership], held: Vec<RoleAssignment>) -> Result<OrganizationRows, AskError> {
        let slugs = self.slugs();
        let mut rows = OrganizationRows {
            members: memberships.iter().map(member).collect(),
            resources: self.outline.resources.iter().map(|one| self.resource(one)).collect(),
            roles: self.custom_roles(),
            settings: Some(self.settings()),
            ..OrganizationRows::default()
        };
        for one in memberships {
            let slugs_of = match (&one.roles, &one.role) {
                (Some(roles), _) => roles.as_slice(),
                (None, Some(role)) => std::slice::from_ref(role),
                (None, None) => {
                    let what = format!("membership `{}` has neither `role` nor `roles`", one.id);
                    return Err(AskError::implausible("/user_management/organization_memberships", what));
                }
            };
            let distinct: BTreeSet<_> = slugs_of.iter().map(|role| &role.slug).collect();
            for slug in distinct {
                let (membership, role) = (one.id.clone(), role_called(&slugs, slug)?);
                rows.assignments.push(Assignment { id: None, membership, role, resource: None });
            }
        }
        self.grants(memberships, held, &slugs, &mut rows)?;
        Ok(rows)
    }

    /// Which role a slug stands for: the organization's own before the environment's (R23).
    fn slugs(&self) -> HashMap<&RoleSlug, &Role> {
        let (own, shared): (Vec<&Role>, Vec<&Role>) =
            self.outline.roles.iter().partition(|role| role.kind == RoleKind::OrganizationRole);
        self.known.iter().chain(shared).chain(own).map(|role| (&role.slug, role)).collect()
    }

    fn resource(&self, one: &Resource) -> record::Resource {
        record::Resource {
            id: one.id.clone(),
            resource_type: one.resource_type_slug.clone(),
            external_id: one.external_id.clone(),
            parent: one.parent_resource_id.clone().filter(|parent| Some(parent) != self.outline.root.as_ref()),
        }
    }

    fn custom_roles(&self) -> Vec<CustomRole> {
        let own = self.outline.roles.iter().filter(|role| role.kind == RoleKind::OrganizationRole);
        own.map(|role| CustomRole {
            id: role.id.clone(),
            slug: role.slug.clone(),
            resource_type: role.resource_type_slug.clone(),
            permissions: role.permissions.clone(),
        })
        .collect()
    }

    /// The order of the list is the order of priority (R20). The default role is in effect where the memberships say so, and nowhere else.
    fn settings(&self) -> OrganizationSettings {
        let wide = self.outline.roles.iter().filter(|role| role.resource_type_slug.is_organization());
        OrganizationSettings { default_role: None, priorities: wide.map(|role| role.id.clone()).collect() }
    }

    /// Grants below the root. Those through groups become a group's again where that says the same; where a server has not dealt them out
    /// to all members yet, they stay what they are: the grant of one member.
    fn grants(
        &self,
        memberships: &[Membership],
        held: Vec<RoleAssignment>,
        slugs: &HashMap<&RoleSlug, &Role>,
        rows: &mut OrganizationRows,
    ) -> Result<(), AskError> {
        let members: HashSet<&MembershipId> = memberships.iter().map(|one| &one.id).collect();
        let resources: HashSet<&ResourceId> = self.outline.resources.iter().map(|one| &one.id).collect();
        let mut through: BTreeMap<GroupId, Vec<(RoleAssignment, RoleId)>> = BTreeMap::new();
        let mut direct = Vec::new();
        for one in held {
            if one.resource.resource_type_slug.is_organization() {
                continue;
            }
            if !members.contains(&one.organization_membership_id) {
                let what = format!("membership `{}` holds a role and is not listed", one.organization_membership_id);
                return Err(AskError::Changed(what));
            }
            if !resources.contains(&one.resource.id) {
                let what = format!("a role is held on resource `{}`, which is not listed", one.resource.id);
                return Err(AskError::Changed(what));
            }
            let role = role_called(slugs, &one.role.slug)?;
            match one.source.as_ref().and_then(|source| source.group.as_ref()) {
                Some(group) => through.entry(group.id.clone()).or_default().push((one, role)),
                None => direct.push((one, role)),
            }
        }
        for (group, grants) in through {
            direct.extend(of_group(&group, grants, rows));
        }
        let mut seen = HashSet::new();
        let plain = direct.into_iter().map(|(one, role)| Assignment {
            id: Some(one.id),
            membership: one.organization_membership_id,
            role,
            resource: Some(one.resource.id),
        });
        rows.assignments.extend(plain.filter(|row| seen.insert(row.key())));
        tracing::debug!(organization = %self.id, memberships = members.len(), "organization was read");
        Ok(())
    }
}

/// Enters a group and what its members hold through it, if all of them hold the same; else gives it back.
fn of_group(
    group: &GroupId,
    grants: Vec<(RoleAssignment, RoleId)>,
    rows: &mut OrganizationRows,
) -> Vec<(RoleAssignment, RoleId)> {
    let members: BTreeSet<&MembershipId> = grants.iter().map(|(one, _)| &one.organization_membership_id).collect();
    let mut held: BTreeMap<(&RoleId, &ResourceId), &RoleAssignment> = BTreeMap::new();
    let mut distinct = HashSet::new();
    for (one, role) in &grants {
        held.entry((role, &one.resource.id)).or_insert(one);
        distinct.insert((&one.organization_membership_id, role, &one.resource.id));
    }
    if distinct.len() != members.len() * held.len() {
        return grants;
    }
    rows.groups.push(Group { id: group.clone() });
    rows.group_members
        .extend(members.into_iter().map(|id| GroupMember { group: group.clone(), membership: id.clone() }));
    rows.group_assignments.extend(held.into_iter().map(|((role, resource), one)| GroupAssignment {
        id: one.source.as_ref().and_then(|source| source.group_role_assignment_id.clone()),
        group: group.clone(),
        role: role.clone(),
        resource: Some(resource.clone()),
    }));
    Vec::new()
}

fn member(one: &Membership) -> Member {
    Member { id: one.id.clone(), user: one.user_id.clone(), status: one.status, identity_provider_roles: Vec::new() }
}

/// The id of the role called `slug`. One that nobody lists grants nothing: its id is then one that no role has, and it is counted as
/// missing like any other.
fn role_called(slugs: &HashMap<&RoleSlug, &Role>, slug: &RoleSlug) -> Result<RoleId, AskError> {
    match slugs.get(slug) {
        Some(role) => Ok(role.id.clone()),
        None => {
            let id = format!("unlisted:{slug}").parse();
            id.map_err(|error: IdError| AskError::Changed(error.to_string()))
        }
    }
}
