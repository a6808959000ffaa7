//! A shard from all rows at once.
//!
//! What has an id of its own is numbered first, in the order of its rows; then what connects two of them is looked up, many at a time. Most
//! of the time would go by waiting for memory, one id after the other. What is left is work that two threads share, where there is much of it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use foldhash::fast::RandomState;

use super::draft::refused;
use super::{Anomalies, Anomaly, BuildError, Keep};
use crate::domain::at_once::at_once;
use crate::domain::catalog::Catalog;
use crate::domain::id::{AssignmentId, OrganizationId, ResourceId, ResourceTypeSlug, RoleId};
use crate::domain::record::{Group, Member, OrganizationRows, Resource};
use crate::domain::shard::{
    ABSENT, AssignmentIds, Entered, Holders, Labels, Names, Node, Pages, ROOT, RoleIndex, Roles, Shard, THERE, mark,
};

/// From this number of rows on a second thread pays.
const PARALLEL: usize = 20_000;

/// A grant: who, on which resource, which role.
type Grant = (u32, u32, RoleIndex);

/// The shard of these rows; not yet looked at as a whole.
pub(super) fn shard(
    catalog: &Catalog,
    organization: &OrganizationId,
    rows: &OrganizationRows,
    keep: Keep,
) -> Result<(Shard, Anomalies), BuildError> {
    let mut roles = define(catalog, rows)?;
    let (people, resources) = at_once(
        rows.members.len() + rows.resources.len() >= PARALLEL,
        || (Marked::members(&rows.members), Marked::groups(&rows.groups)),
        || Tree::of(&rows.resources),
    );
    let (mut members, mut groups, mut resources) = (people.0?, people.1?, resources?);
    let mut anomalies = members.anomalies;
    anomalies.append(resources.anomalies);

    let names = (&mut members.names, &mut groups.names);
    let edges = memberships(names, rows)?;
    let mut ends = Ends { catalog, holders: &mut members.names, resources: &mut resources.names, roles: &mut roles };
    let of_members =
        ends.connect(&rows.assignments, |row| (row.membership.as_str(), row.resource.as_ref(), &row.role))?;
    let mut ends = Ends { holders: &mut groups.names, ..ends };
    let of_groups =
        ends.connect(&rows.group_assignments, |row| (row.group.as_str(), row.resource.as_ref(), &row.role))?;

    let provided = provided(catalog, &mut roles, &members.names, &rows.members)?;
    members.marks.resize(members.names.len() as usize, ABSENT);
    groups.marks.resize(groups.names.len() as usize, ABSENT);
    resources.nodes.resize(resources.names.len() as usize, Node::absent());
    let member_holders = Holders::pack(&members.marks, &edges, &of_members);
    let group_holders = Holders::pack(&groups.marks, &[], &of_groups);
    let labels = keep.assignment_ids.then(|| {
        let (members, groups) =
            (rows.assignments.iter().map(|row| &row.id), rows.group_assignments.iter().map(|row| &row.id));
        Box::new(AssignmentIds {
            members: Labels::pack(&member_holders, of_members.iter().copied().zip(members.map(text))),
            groups: Labels::pack(&group_holders, of_groups.iter().copied().zip(groups.map(text))),
        })
    });
    let (mut members, mut groups, mut names) = (members.names, groups.names, resources.names);
    members.settle();
    groups.settle();
    names.settle();
    let shard = Shard {
        organization: organization.clone(),
        generation: catalog.generation(),
        members,
        member_holders,
        provided,
        groups,
        group_holders,
        resources: names,
        tree: Pages::of(&resources.nodes),
        types: Arc::new(resources.types),
        depth: 0,
        roles: Arc::new(roles),
        labels,
        built: 0,
        deleted: 0,
        digest: OnceLock::new(),
    };
    Ok((shard, anomalies))
}

/// The organization's own roles and its settings.
fn define(catalog: &Catalog, rows: &OrganizationRows) -> Result<Roles, BuildError> {
    let mut roles = Roles::default();
    for role in &rows.roles {
        roles.define(catalog, &role.id, Some(role.clone())).map_err(|fault| refused(fault, &role.id))?;
    }
    roles.configure(catalog, rows.settings.clone()).map_err(|_| BuildError::TooManyRoles)?;
    Ok(roles)
}

/// What the identity provider gives; of two rows of one membership the later counts.
fn provided(catalog: &Catalog, roles: &mut Roles, names: &Names, members: &[Member]) -> Result<Holders, BuildError> {
    let mut last: HashMap<u32, &[RoleId]> = HashMap::new();
    for member in members {
        // Most organizations have none, and pay nothing for it.
        if member.identity_provider_roles.is_empty() && last.is_empty() {
            continue;
        }
        let Some(row) = names.find(member.id.as_str()) else { continue };
        last.insert(row, &member.identity_provider_roles);
    }
    let mut provided = Holders::pack(&[], &[], &[]);
    for (row, ids) in last {
        for id in ids {
            let role = roles.intern(catalog, id).map_err(|fault| refused(fault, id))?;
            provided.add_grant(row, ROOT, role);
        }
    }
    Ok(provided)
}

/// Memberships, or groups.
struct Marked {
    names: Names,
    marks: Vec<u8>,
    anomalies: Anomalies,
}

impl Marked {
    fn members(rows: &[Member]) -> Result<Self, BuildError> {
        let mut names = Names::with_capacity(rows.len(), rows.len());
        let mut marks = Vec::with_capacity(rows.len());
        let mut anomalies = Anomalies::default();
        for member in rows {
            let (id, user) = (member.id.as_str(), member.user.as_str());
            let row = match names.enter(id, 0, user)? {
                Entered::New(row) => row,
                Entered::Old(row) => {
                    anomalies.note(Anomaly::RepeatedRow, format_args!("membership `{id}`"));
                    names.unlink(row);
                    names.rename(row, id, 0, user)?;
                    row
                }
            };
            names.link(row);
            put(&mut marks, row, mark(member.status));
        }
        Ok(Self { names, marks, anomalies })
    }

    fn groups(rows: &[Group]) -> Result<Self, BuildError> {
        let mut names = Names::with_capacity(rows.len(), 0);
        for group in rows {
            names.intern(group.id.as_str())?;
        }
        let marks = vec![THERE; names.len() as usize];
        Ok(Self { names, marks, anomalies: Anomalies::default() })
    }
}

/// Resources.
struct Tree {
    names: Names,
    nodes: Vec<Node>,
    types: Vec<ResourceTypeSlug>,
    anomalies: Anomalies,
}

impl Tree {
    fn of(rows: &[Resource]) -> Result<Self, BuildError> {
        let mut names = Names::with_capacity(rows.len(), rows.len());
        names.reserve()?;
        let mut tree = Self {
            names,
            nodes: Vec::with_capacity(rows.len() + 1),
            types: Vec::new(),
            anomalies: Anomalies::default(),
        };
        tree.nodes.push(Node::below(ROOT));
        let root = rows.iter().find(|resource| resource.resource_type.is_organization());
        if let Some(root) = root {
            let tag = tree.type_place(&root.resource_type)?;
            tree.names.rename(ROOT, root.id.as_str(), tag, root.external_id.as_str())?;
        }
        let below: Vec<_> = rows.iter().filter(|resource| Some(&resource.id) != root.map(|root| &root.id)).collect();
        let mut places = Vec::with_capacity(below.len());
        for resource in &below {
            places.push(tree.enter(resource)?);
        }
        let parents = below.iter().map(|resource| resource.parent.as_ref().map_or("", AsRef::as_ref));
        for ((resource, row), parent) in below.iter().zip(places).zip(tree.names.find_all(parents)) {
            let parent = known(&mut tree.names, resource.parent.as_ref(), parent)?;
            put(&mut tree.nodes, row, Node::below(parent));
        }
        Ok(tree)
    }

    fn enter(&mut self, resource: &Resource) -> Result<u32, BuildError> {
        if resource.resource_type.is_organization() {
            return Err(BuildError::SecondRoot { resource: resource.id.clone() });
        }
        let tag = self.type_place(&resource.resource_type)?;
        let (id, external_id) = (resource.id.as_str(), resource.external_id.as_str());
        let row = match self.names.enter(id, tag, external_id)? {
            Entered::New(row) => row,
            Entered::Old(row) => {
                self.anomalies.note(Anomaly::RepeatedRow, format_args!("resource `{id}`"));
                self.names.unlink(row);
                self.names.rename(row, id, tag, external_id)?;
                row
            }
        };
        if !self.names.link_alone(row) {
            let (resource_type, external_id) = (resource.resource_type.clone(), resource.external_id.clone());
            return Err(BuildError::DuplicateExternalId { resource_type, external_id });
        }
        Ok(row)
    }

    fn type_place(&mut self, slug: &ResourceTypeSlug) -> Result<u16, BuildError> {
        let place = self.types.iter().position(|other| other == slug).unwrap_or_else(|| {
            self.types.push(slug.clone());
            self.types.len() - 1
        });
        u16::try_from(place).map_err(|_| BuildError::TooManyTypes)
    }
}

/// Who is in which group, by number; whoever is only named gets one.
fn memberships(
    (members, groups): (&mut Names, &mut Names),
    rows: &OrganizationRows,
) -> Result<Vec<(u32, u32)>, BuildError> {
    let rows = &rows.group_members;
    let found = at_once(
        rows.len() >= PARALLEL,
        || members.find_all(rows.iter().map(|row| row.membership.as_str())),
        || groups.find_all(rows.iter().map(|row| row.group.as_str())),
    );
    let mut edges = Vec::with_capacity(rows.len());
    for (row, (member, group)) in rows.iter().zip(found.0.into_iter().zip(found.1)) {
        let member = member.map_or_else(|| members.intern(row.membership.as_str()), Ok)?;
        let group = group.map_or_else(|| groups.intern(row.group.as_str()), Ok)?;
        edges.push((member, group));
    }
    Ok(edges)
}

/// What assignments connect.
struct Ends<'a> {
    catalog: &'a Catalog,
    holders: &'a mut Names,
    resources: &'a mut Names,
    roles: &'a mut Roles,
}

impl Ends<'_> {
    /// The grants of these rows, by number; whatever is only named gets one.
    fn connect<'r, R: Sync>(
        &mut self,
        rows: &'r [R],
        parts: impl Fn(&'r R) -> (&'r str, Option<&'r ResourceId>, &'r RoleId) + Sync,
    ) -> Result<Vec<Grant>, BuildError> {
        let look_up = |rows: &'r [R]| {
            let holders = self.holders.find_all(rows.iter().map(|row| parts(row).0));
            let resources = self.resources.find_all(rows.iter().map(|row| parts(row).1.map_or("", AsRef::as_ref)));
            (holders, resources, find_roles(self.catalog, self.roles, rows.iter().map(|row| parts(row).2)))
        };
        let (first, last) = rows.split_at(rows.len() / 2);
        let found = at_once(rows.len() >= PARALLEL, || look_up(first), || look_up(last));
        let mut grants = Vec::with_capacity(rows.len());
        for (rows, (holders, resources, roles)) in [(first, found.0), (last, found.1)] {
            for (row, ((holder, on), role)) in rows.iter().zip(holders.into_iter().zip(resources).zip(roles)) {
                let holder = holder.map_or_else(|| self.holders.intern(parts(row).0), Ok)?;
                let on = match on {
                    Some(on) => on,
                    None => known(self.resources, parts(row).1, None)?,
                };
                let role = match role {
                    Some(role) => role,
                    None => {
                        let id = parts(row).2;
                        self.roles.intern(self.catalog, id).map_err(|fault| refused(fault, id))?
                    }
                };
                grants.push((holder, on, role));
            }
        }
        Ok(grants)
    }
}

/// For each id the role, where it has a place. Few roles make up many rows, so each is looked up once.
fn find_roles<'r>(catalog: &Catalog, roles: &Roles, ids: impl Iterator<Item = &'r RoleId>) -> Vec<Option<RoleIndex>> {
    let mut seen: HashMap<&str, Option<RoleIndex>, RandomState> = HashMap::default();
    ids.map(|id| *seen.entry(id.as_str()).or_insert_with(|| roles.find(catalog, id))).collect()
}

/// The number of a resource: the one that was `found`, else that of the root for no name, else one of its own.
fn known(names: &mut Names, id: Option<&ResourceId>, found: Option<u32>) -> Result<u32, BuildError> {
    match (found, id) {
        (Some(row), _) => Ok(row),
        (None, None) => Ok(ROOT),
        (None, Some(id)) => Ok(names.intern(id.as_str())?),
    }
}

/// Puts `value` at `row`, which is at most one past the end.
fn put<T>(values: &mut Vec<T>, row: u32, value: T) {
    match values.get_mut(row as usize) {
        Some(slot) => *slot = value,
        None => values.push(value),
    }
}

fn text(id: &Option<AssignmentId>) -> &str {
    id.as_ref().map_or("", AsRef::as_ref)
}
