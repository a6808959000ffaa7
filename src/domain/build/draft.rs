//! The next shard in the making: one row put in or taken out at a time.

use std::sync::{Arc, OnceLock};

use super::{Anomalies, BuildError};
use crate::domain::catalog::Catalog;
use crate::domain::digest::Digest;
use crate::domain::id::{GroupId, MembershipId, ResourceId, ResourceTypeSlug, RoleId};
use crate::domain::record::{
    Assignment, AssignmentKey, Change, CustomRole, Group, GroupAssignment, GroupAssignmentKey, GroupMember, Member,
    OrganizationKey, OrganizationRecord, OrganizationSettings, Resource,
};
use crate::domain::shard::{ABSENT, Node, ROOT, RoleFault, RoleIndex, Shard, THERE, mark};

/// A shard in the making.
pub(super) struct Draft<'a> {
    catalog: &'a Catalog,
    shard: Shard,
    anomalies: Anomalies,
    /// Kept up to date when the shard we started from had one.
    digest: Option<Digest>,
}

impl<'a> Draft<'a> {
    /// The shard after `shard`, the same so far.
    pub(super) fn after(shard: &Shard, catalog: &'a Catalog) -> Self {
        let digest = shard.digest.get().copied();
        let shard = Shard { digest: OnceLock::new(), generation: catalog.generation(), ..shard.clone() };
        Self { catalog, shard, anomalies: Anomalies::default(), digest }
    }

    /// The finished shard.
    pub(super) fn finish(self) -> (Shard, Anomalies) {
        if let Some(digest) = self.digest {
            let _ = self.shard.digest.set(digest);
        }
        (self.shard, self.anomalies)
    }

    /// Takes out what a change takes out: the row it deletes, or the former content of the row it puts.
    pub(super) fn retract(&mut self, change: &Change<OrganizationRecord>) -> Result<(), BuildError> {
        match change {
            Change::Put(OrganizationRecord::Member(member)) => self.remove_member(&member.id, false),
            Change::Put(OrganizationRecord::Resource(resource)) => self.remove_resource(&resource.id, false),
            Change::Put(_) => {}
            Change::Delete(OrganizationKey::Member(id)) => self.remove_member(id, true),
            Change::Delete(OrganizationKey::Group(id)) => self.remove_group(id),
            Change::Delete(OrganizationKey::GroupMember(edge)) => self.remove_group_member(edge),
            Change::Delete(OrganizationKey::Resource(id)) => self.remove_resource(id, true),
            Change::Delete(OrganizationKey::Role(id)) => self.define(id, None)?,
            Change::Delete(OrganizationKey::Assignment(key)) => self.remove_assignment(key),
            Change::Delete(OrganizationKey::GroupAssignment(key)) => self.remove_group_assignment(key),
            Change::Delete(OrganizationKey::Settings) => self.configure(None)?,
        }
        Ok(())
    }

    /// Puts in what a change puts in, after [`retract`](Self::retract).
    pub(super) fn put(&mut self, record: &OrganizationRecord) -> Result<(), BuildError> {
        match record {
            OrganizationRecord::Member(member) => self.put_member(member),
            OrganizationRecord::Group(group) => self.put_group(group),
            OrganizationRecord::GroupMember(edge) => self.put_group_member(edge),
            OrganizationRecord::Resource(resource) => self.put_resource(resource),
            OrganizationRecord::Role(role) => self.define(&role.id, Some(role)),
            OrganizationRecord::Assignment(assignment) => self.put_assignment(assignment),
            OrganizationRecord::GroupAssignment(assignment) => self.put_group_assignment(assignment),
            OrganizationRecord::Settings(settings) => self.configure(Some(settings)),
        }
    }

    /// Puts a membership in that is not there.
    fn put_member(&mut self, member: &Member) -> Result<(), BuildError> {
        let row = self.shard.members.describe(member.id.as_str(), 0, member.user.as_str())?;
        self.shard.member_holders.set_mark(row, mark(member.status));
        self.shard.members.link(row);
        for role in &member.identity_provider_roles {
            let role = self.role(role)?;
            self.shard.provided.add_grant(row, ROOT, role);
        }
        self.add(|| OrganizationRecord::Member(member.clone()));
        Ok(())
    }

    fn put_group(&mut self, group: &Group) -> Result<(), BuildError> {
        let row = self.group(&group.id)?;
        if !self.shard.has_group(row) {
            self.shard.group_holders.set_mark(row, THERE);
            self.add(|| OrganizationRecord::Group(group.clone()));
        }
        Ok(())
    }

    /// Puts a resource in that is not there and is not the root.
    fn put_resource(&mut self, resource: &Resource) -> Result<(), BuildError> {
        let parent = self.resource(resource.parent.as_ref())?;
        let tag = self.type_place(&resource.resource_type)?;
        let names = &mut self.shard.resources;
        let row = names.describe(resource.id.as_str(), tag, resource.external_id.as_str())?;
        if !names.link_alone(row) {
            let (resource_type, external_id) = (resource.resource_type.clone(), resource.external_id.clone());
            return Err(BuildError::DuplicateExternalId { resource_type, external_id });
        }
        self.grow();
        self.shard.tree.set(row, Node::below(parent));
        self.add(|| OrganizationRecord::Resource(resource.clone()));
        Ok(())
    }

    fn define(&mut self, id: &RoleId, role: Option<&CustomRole>) -> Result<(), BuildError> {
        if let Some(former) = self.shard.roles.record(id).cloned() {
            self.subtract(|| OrganizationRecord::Role(former));
        }
        let define = Arc::make_mut(&mut self.shard.roles).define(self.catalog, id, role.cloned());
        define.map_err(|fault| refused(fault, id))?;
        if let Some(role) = role {
            self.add(|| OrganizationRecord::Role(role.clone()));
        }
        Ok(())
    }

    fn configure(&mut self, settings: Option<&OrganizationSettings>) -> Result<(), BuildError> {
        if let Some(former) = self.shard.roles.settings().cloned() {
            self.subtract(|| OrganizationRecord::Settings(former));
        }
        let configure = Arc::make_mut(&mut self.shard.roles).configure(self.catalog, settings.cloned());
        configure.map_err(|_| BuildError::TooManyRoles)?;
        if let Some(settings) = settings {
            self.add(|| OrganizationRecord::Settings(settings.clone()));
        }
        Ok(())
    }

    fn put_group_member(&mut self, edge: &GroupMember) -> Result<(), BuildError> {
        let (member, group) = (self.member(&edge.membership)?, self.group(&edge.group)?);
        if self.shard.member_holders.add_group(member, group) {
            self.add(|| OrganizationRecord::GroupMember(edge.clone()));
        }
        Ok(())
    }

    fn put_assignment(&mut self, assignment: &Assignment) -> Result<(), BuildError> {
        let member = self.member(&assignment.membership)?;
        let (on, role) = (self.resource(assignment.resource.as_ref())?, self.role(&assignment.role)?);
        let shard = &mut self.shard;
        let new = shard.member_holders.add_grant(member, on, role);
        if let Some(labels) = &mut shard.labels {
            let id = assignment.id.as_ref().map_or("", AsRef::as_ref);
            labels.members.follow(&shard.member_holders, (member, on, role), new, id);
        }
        if new {
            self.add(|| OrganizationRecord::Assignment(assignment.clone()));
        }
        Ok(())
    }

    fn put_group_assignment(&mut self, assignment: &GroupAssignment) -> Result<(), BuildError> {
        let group = self.group(&assignment.group)?;
        let (on, role) = (self.resource(assignment.resource.as_ref())?, self.role(&assignment.role)?);
        let shard = &mut self.shard;
        let new = shard.group_holders.add_grant(group, on, role);
        if let Some(labels) = &mut shard.labels {
            let id = assignment.id.as_ref().map_or("", AsRef::as_ref);
            labels.groups.follow(&shard.group_holders, (group, on, role), new, id);
        }
        if new {
            self.add(|| OrganizationRecord::GroupAssignment(assignment.clone()));
        }
        Ok(())
    }

    /// Takes a membership out; `gone` unless it is about to be put in again.
    fn remove_member(&mut self, id: &MembershipId, gone: bool) {
        let Some((row, _)) = self.shard.member(id) else { return };
        if let Some(record) = self.shard.member_record(self.catalog, row) {
            self.subtract(|| OrganizationRecord::Member(record));
        }
        let provided: Vec<_> = self.shard.provided.get(row).grants.roles_on(ROOT).collect();
        for role in provided {
            self.shard.provided.remove_grant(row, ROOT, role);
        }
        self.shard.members.unlink(row);
        self.shard.member_holders.set_mark(row, ABSENT);
        self.shard.deleted += u32::from(gone);
    }

    fn remove_group(&mut self, id: &GroupId) {
        let Some(row) = self.shard.groups.find(id.as_str()) else { return };
        if self.shard.has_group(row) {
            self.shard.group_holders.set_mark(row, ABSENT);
            self.shard.deleted += 1;
            self.subtract(|| OrganizationRecord::Group(Group { id: id.clone() }));
        }
    }

    /// Takes a resource out that is not the root; `gone` unless it is about to be put in again.
    fn remove_resource(&mut self, id: &ResourceId, gone: bool) {
        let Some(row) = self.shard.resources.find(id.as_str()) else { return };
        let Some(record) = self.shard.resource_record(row) else { return };
        self.subtract(|| OrganizationRecord::Resource(record));
        self.shard.resources.unlink(row);
        self.shard.tree.set(row, Node::absent());
        self.shard.deleted += u32::from(gone);
    }

    fn remove_group_member(&mut self, edge: &GroupMember) {
        let shard = &mut self.shard;
        let rows = (shard.members.find(edge.membership.as_str()), shard.groups.find(edge.group.as_str()));
        if let (Some(member), Some(group)) = rows
            && shard.member_holders.remove_group(member, group)
        {
            self.subtract(|| OrganizationRecord::GroupMember(edge.clone()));
        }
    }

    fn remove_assignment(&mut self, key: &AssignmentKey) {
        let shard = &mut self.shard;
        let Some(member) = shard.members.find(key.membership.as_str()) else { return };
        let Some((on, role)) = shard.grant(self.catalog, key.resource.as_ref(), &key.role) else { return };
        let position = shard.member_holders.position(member, on, role);
        if shard.member_holders.remove_grant(member, on, role) {
            if let (Some(labels), Some(position)) = (&mut shard.labels, position) {
                labels.members.remove(position);
            }
            let AssignmentKey { membership, role, resource } = key.clone();
            self.subtract(|| OrganizationRecord::Assignment(Assignment { id: None, membership, role, resource }));
        }
    }

    fn remove_group_assignment(&mut self, key: &GroupAssignmentKey) {
        let shard = &mut self.shard;
        let Some(group) = shard.groups.find(key.group.as_str()) else { return };
        let Some((on, role)) = shard.grant(self.catalog, key.resource.as_ref(), &key.role) else { return };
        let position = shard.group_holders.position(group, on, role);
        if shard.group_holders.remove_grant(group, on, role) {
            if let (Some(labels), Some(position)) = (&mut shard.labels, position) {
                labels.groups.remove(position);
            }
            let GroupAssignmentKey { group, role, resource } = key.clone();
            self.subtract(|| OrganizationRecord::GroupAssignment(GroupAssignment { id: None, group, role, resource }));
        }
    }

    /// The number of a membership, a new one if nothing named it before. So below for the rest.
    fn member(&mut self, id: &MembershipId) -> Result<u32, BuildError> {
        Ok(self.shard.members.intern(id.as_str())?)
    }

    fn group(&mut self, id: &GroupId) -> Result<u32, BuildError> {
        Ok(self.shard.groups.intern(id.as_str())?)
    }

    fn resource(&mut self, id: Option<&ResourceId>) -> Result<u32, BuildError> {
        let Some(id) = id else { return Ok(ROOT) };
        let row = self.shard.resources.intern(id.as_str())?;
        self.grow();
        Ok(row)
    }

    fn role(&mut self, id: &RoleId) -> Result<RoleIndex, BuildError> {
        if let Some(role) = self.shard.roles.find(self.catalog, id) {
            return Ok(role);
        }
        Arc::make_mut(&mut self.shard.roles).intern(self.catalog, id).map_err(|fault| refused(fault, id))
    }

    fn type_place(&mut self, slug: &ResourceTypeSlug) -> Result<u16, BuildError> {
        if let Some(place) = self.shard.type_place(slug) {
            return Ok(place);
        }
        let types = Arc::make_mut(&mut self.shard.types);
        types.push(slug.clone());
        u16::try_from(types.len() - 1).map_err(|_| BuildError::TooManyTypes)
    }

    /// Gives resources that are only named so far their place in the tree.
    fn grow(&mut self) {
        let shard = &mut self.shard;
        while shard.tree.len() < shard.resources.len() {
            shard.tree.push(Node::absent());
        }
    }

    fn add(&mut self, record: impl FnOnce() -> OrganizationRecord) {
        if let Some(digest) = self.digest {
            self.digest = Some(digest.plus(self.shard.fingerprint(&record())));
        }
    }

    fn subtract(&mut self, record: impl FnOnce() -> OrganizationRecord) {
        if let Some(digest) = self.digest {
            self.digest = Some(digest.minus(self.shard.fingerprint(&record())));
        }
    }
}

pub(super) fn refused(fault: RoleFault, role: &RoleId) -> BuildError {
    match fault {
        RoleFault::TooMany => BuildError::TooManyRoles,
        RoleFault::IdTaken => BuildError::RoleIdTaken { role: role.clone() },
    }
}
