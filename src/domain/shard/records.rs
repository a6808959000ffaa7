//! A shard as rows again: for persistence, for the digest, for building it anew.

use super::{Holders, ROOT, Shard};
use crate::domain::catalog::Catalog;
use crate::domain::digest::Digest;
use crate::domain::id::{AssignmentId, Id, ResourceId, RoleId};
use crate::domain::record::{
    Assignment, Group, GroupAssignment, GroupMember, Member, OrganizationRecord, OrganizationRows, Resource,
};
use crate::domain::shard::RoleIndex;

impl Shard {
    /// Every row, kind by kind. The root is named by leaving it out, as [`record`](crate::domain::record) says.
    pub fn records(&self, catalog: &Catalog) -> impl Iterator<Item = OrganizationRecord> {
        let members =
            (0..self.members.len()).filter_map(|row| self.member_record(catalog, row)).map(OrganizationRecord::Member);
        let groups = (0..self.groups.len())
            .filter(|&row| self.has_group(row))
            .map(|row| OrganizationRecord::Group(Group { id: Id::known(self.groups.id(row)) }));
        let edges = (0..self.members.len()).flat_map(move |member| {
            let membership = Id::known(self.members.id(member));
            self.member_holders.get(member).groups.iter().map(move |&group| {
                let group = Id::known(self.groups.id(group));
                OrganizationRecord::GroupMember(GroupMember { group, membership: membership.clone() })
            })
        });
        let resources =
            (0..self.tree.len()).filter_map(|row| self.resource_record(row)).map(OrganizationRecord::Resource);
        let roles = self.roles.records().cloned().map(OrganizationRecord::Role);
        let settings = self.roles.settings().cloned().map(OrganizationRecord::Settings);
        let assignments = grants(&self.member_holders, self.members.len()).filter_map(|(member, on, role)| {
            Some(OrganizationRecord::Assignment(Assignment {
                id: self.assignment_id(member, on, role),
                membership: Id::known(self.members.id(member)),
                role: self.roles.id(catalog, role)?.clone(),
                resource: self.resource_name(on),
            }))
        });
        let group_assignments = grants(&self.group_holders, self.groups.len()).filter_map(|(group, on, role)| {
            Some(OrganizationRecord::GroupAssignment(GroupAssignment {
                id: self.group_assignment_id(group, on, role),
                group: Id::known(self.groups.id(group)),
                role: self.roles.id(catalog, role)?.clone(),
                resource: self.resource_name(on),
            }))
        });
        (members.chain(groups).chain(edges).chain(resources))
            .chain(roles.chain(settings).chain(assignments).chain(group_assignments))
    }

    /// All rows, kind by kind.
    pub fn rows(&self, catalog: &Catalog) -> OrganizationRows {
        self.records(catalog).collect()
    }

    /// The digest of all rows. The first call goes through all of them; from then on the next shards keep it up to date.
    pub fn digest(&self, catalog: &Catalog) -> Digest {
        *self.digest.get_or_init(|| {
            let fingerprints = self.records(catalog).map(|record| self.fingerprint(&record));
            fingerprints.fold(Digest::default(), Digest::plus)
        })
    }

    pub(in crate::domain) fn fingerprint(&self, record: &OrganizationRecord) -> Digest {
        Digest::of_organization_row(&self.organization, self.root_name(), record)
    }

    /// The membership at `row`, if it is there.
    pub(in crate::domain) fn member_record(&self, catalog: &Catalog, row: u32) -> Option<Member> {
        let status = self.status(row)?;
        let provided = self.provided.get(row).grants.roles_on(ROOT);
        let mut identity_provider_roles: Vec<RoleId> =
            provided.filter_map(|role| self.roles.id(catalog, role).cloned()).collect();
        identity_provider_roles.sort_unstable();
        let (id, user) = (Id::known(self.members.id(row)), Id::known(self.members.alias(row)));
        Some(Member { id, user, status, identity_provider_roles })
    }

    /// The resource at `row`, if it is there.
    pub(in crate::domain) fn resource_record(&self, row: u32) -> Option<Resource> {
        let node = self.tree.get(row).filter(|node| node.is_there())?;
        let id = self.resources.id(row);
        if id.is_empty() {
            return None;
        }
        Some(Resource {
            id: Id::known(id),
            resource_type: self.types.get(usize::from(self.resources.tag(row)))?.clone(),
            external_id: Id::known(self.resources.alias(row)),
            parent: self.resource_name(node.parent()),
        })
    }

    /// The id of the assignment of `role` on `on` to a membership, where it is kept.
    pub(in crate::domain) fn assignment_id(&self, member: u32, on: u32, role: RoleIndex) -> Option<AssignmentId> {
        let labels = &self.labels.as_ref()?.members;
        labels.get(self.member_holders.position(member, on, role)?).map(Id::known)
    }

    /// The id of the assignment of `role` on `on` to a group, where it is kept.
    pub(in crate::domain) fn group_assignment_id(&self, group: u32, on: u32, role: RoleIndex) -> Option<AssignmentId> {
        let labels = &self.labels.as_ref()?.groups;
        labels.get(self.group_holders.position(group, on, role)?).map(Id::known)
    }

    /// What an assignment of `role` on `resource` would look like in a row, if both were ever named.
    pub(in crate::domain) fn grant(
        &self,
        catalog: &Catalog,
        resource: Option<&ResourceId>,
        role: &RoleId,
    ) -> Option<(u32, RoleIndex)> {
        let on = match resource {
            None => ROOT,
            Some(id) => self.resources.find(id.as_str())?,
        };
        Some((on, self.roles.find(catalog, role)?))
    }

    fn root_name(&self) -> Option<&str> {
        Some(self.resources.id(ROOT)).filter(|id| !id.is_empty())
    }

    /// How a row names a resource: the root by nothing.
    fn resource_name(&self, row: u32) -> Option<ResourceId> {
        (row != ROOT).then(|| Id::known(self.resources.id(row)))
    }
}

fn grants(holders: &Holders, count: u32) -> impl Iterator<Item = (u32, u32, RoleIndex)> {
    (0..count).flat_map(|row| holders.get(row).grants.iter().map(move |(on, role)| (row, on, role)))
}
