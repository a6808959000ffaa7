//! Rows that name something that is not there, counted.

use super::{Anomalies, Anomaly};
use crate::domain::catalog::Catalog;
use crate::domain::record::{CustomRole, OrganizationRecord};
use crate::domain::shard::{Node, ROOT, RoleIndex, Shard};

impl Shard {
    /// Counts what is missing for one row.
    pub(super) fn note_missing(&self, catalog: &Catalog, record: &OrganizationRecord, anomalies: &mut Anomalies) {
        let member = |id: &crate::domain::id::MembershipId| self.members.find(id.as_str());
        let group = |id: &crate::domain::id::GroupId| self.groups.find(id.as_str());
        match record {
            OrganizationRecord::Member(member) => {
                for role in &member.identity_provider_roles {
                    self.note_role(catalog, self.roles.find(catalog, role), anomalies);
                }
            }
            OrganizationRecord::Group(_) => {}
            OrganizationRecord::GroupMember(edge) => {
                self.note_member(member(&edge.membership), anomalies);
                self.note_group(group(&edge.group), anomalies);
            }
            OrganizationRecord::Resource(resource) => {
                self.note_parent(self.resources.find(resource.id.as_str()), anomalies);
            }
            OrganizationRecord::Role(role) => note_permissions(catalog, role, anomalies),
            OrganizationRecord::Assignment(assignment) => {
                self.note_member(member(&assignment.membership), anomalies);
                self.note_grant(
                    catalog,
                    self.grant(catalog, assignment.resource.as_ref(), &assignment.role),
                    anomalies,
                );
            }
            OrganizationRecord::GroupAssignment(assignment) => {
                self.note_group(group(&assignment.group), anomalies);
                self.note_grant(
                    catalog,
                    self.grant(catalog, assignment.resource.as_ref(), &assignment.role),
                    anomalies,
                );
            }
            OrganizationRecord::Settings(settings) => {
                for role in settings.default_role.iter().chain(&settings.priorities) {
                    self.note_role(catalog, self.roles.find(catalog, role), anomalies);
                }
            }
        }
    }

    /// Counts what is missing for all rows; quick when nothing is.
    pub(super) fn note_all_missing(&self, catalog: &Catalog, anomalies: &mut Anomalies) {
        self.roles.records().for_each(|role| note_permissions(catalog, role, anomalies));
        if let Some(settings) = self.roles.settings() {
            self.note_missing(catalog, &OrganizationRecord::Settings(settings.clone()), anomalies);
        }
        let complete = (0..self.members.len()).all(|member| self.status(member).is_some())
            && (0..self.groups.len()).all(|group| self.has_group(group))
            && self.tree.iter().all(Node::is_there)
            && catalog.undeclared_roles() == 0
            && self.roles.indices().all(|role| self.roles.view(catalog, role).is_some());
        if complete {
            return;
        }
        (0..self.tree.len()).for_each(|row| self.note_parent(Some(row), anomalies));
        for member in 0..self.members.len() {
            for role in self.provided.get(member).grants.roles_on(ROOT) {
                self.note_role(catalog, Some(role), anomalies);
            }
            let held = self.member_holders.get(member);
            for &group in held.groups {
                self.note_member(Some(member), anomalies);
                self.note_group(Some(group), anomalies);
            }
            for grant in held.grants.iter() {
                self.note_member(Some(member), anomalies);
                self.note_grant(catalog, Some(grant), anomalies);
            }
        }
        for group in 0..self.groups.len() {
            for grant in self.group_holders.get(group).grants.iter() {
                self.note_group(Some(group), anomalies);
                self.note_grant(catalog, Some(grant), anomalies);
            }
        }
    }

    fn note_member(&self, row: Option<u32>, anomalies: &mut Anomalies) {
        let Some(row) = row else { return };
        if self.status(row).is_none() {
            anomalies.note(Anomaly::MissingMember, format_args!("`{}`", self.members.id(row)));
        }
    }

    fn note_group(&self, row: Option<u32>, anomalies: &mut Anomalies) {
        let Some(row) = row else { return };
        if !self.has_group(row) {
            anomalies.note(Anomaly::MissingGroup, format_args!("`{}`", self.groups.id(row)));
        }
    }

    fn note_parent(&self, row: Option<u32>, anomalies: &mut Anomalies) {
        let Some(node) = row.and_then(|row| self.tree.get(row)).filter(|node| node.is_there()) else { return };
        if node.parent() != ROOT && !self.is_there(node.parent()) {
            anomalies.note(Anomaly::MissingParent, format_args!("`{}`", self.resources.id(node.parent())));
        }
    }

    fn note_grant(&self, catalog: &Catalog, grant: Option<(u32, RoleIndex)>, anomalies: &mut Anomalies) {
        let Some((on, role)) = grant else { return };
        if !self.is_there(on) {
            anomalies.note(Anomaly::MissingResource, format_args!("`{}`", self.resources.id(on)));
        }
        self.note_role(catalog, Some(role), anomalies);
    }

    fn note_role(&self, catalog: &Catalog, role: Option<RoleIndex>, anomalies: &mut Anomalies) {
        let Some(role) = role else { return };
        if self.roles.view(catalog, role).is_none() {
            let id = self.roles.id(catalog, role).map_or("", AsRef::as_ref);
            anomalies.note(Anomaly::MissingRole, format_args!("`{id}`"));
        }
    }

    fn is_there(&self, resource: u32) -> bool {
        self.tree.get(resource).is_some_and(Node::is_there)
    }
}

fn note_permissions(catalog: &Catalog, role: &CustomRole, anomalies: &mut Anomalies) {
    for slug in role.permissions.iter().filter(|slug| catalog.permission(slug).is_none()) {
        anomalies.note(Anomaly::MissingPermission, format_args!("`{slug}` of role `{}`", role.slug));
    }
}
