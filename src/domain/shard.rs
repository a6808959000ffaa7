//! One organization's facts: immutable, dense, indexed; and the questions that decisions ask of them.
//!
//! Memberships, groups and resources are numbered in order of first mention; resource 0 is the root. A row that another row names, but
//! that is not there, has a number and counts for nothing: its grants are asleep, and whatever hangs below it hangs right below the
//! root, where it has what every resource of the organization has and no more.
//!
//! Everything lies in pages behind `Arc`, so the next shard after a change shares all but a few kilobytes with this one.

mod chain;
mod holders;
mod labels;
mod names;
mod pages;
mod records;
mod roles;
mod row;

use std::iter;
use std::sync::{Arc, OnceLock};

use smallvec::SmallVec;

use self::chain::Chain;
pub(super) use self::holders::Holders;
pub(super) use self::labels::Labels;
pub(super) use self::names::{Entered, Full, Known, Names};
pub(super) use self::pages::Pages;
pub use self::roles::RoleIndex;
pub(super) use self::roles::{Asked, RoleFault, Roles};
pub(super) use self::row::Row;
use super::catalog::{Catalog, Generation};
use super::digest::Digest;
use super::id::{MembershipId, OrganizationId, PermissionSlug, ResourceRef, ResourceTypeSlug, UserId};
use super::record::{MembershipStatus, RoleMode};

/// A resource may stand at most this far below the root.
pub const MAX_DEPTH: usize = 64;

/// The root resource.
pub(super) const ROOT: u32 = 0;

/// The mark of whatever other rows only name.
pub(super) const ABSENT: u8 = 0;

/// The mark of a group that is there.
pub(super) const THERE: u8 = 1;

/// Marks of memberships.
const ACTIVE: u8 = 1;
const INACTIVE: u8 = 2;
const PENDING: u8 = 3;

/// One organization's facts. Built and advanced in [`build`](super::build).
#[derive(Debug, Clone)]
pub struct Shard {
    pub(super) organization: OrganizationId,
    pub(super) generation: Generation,
    /// Memberships, with their users as aliases.
    pub(super) members: Names,
    /// Memberships, marked with their status.
    pub(super) member_holders: Holders,
    pub(super) groups: Names,
    /// Groups, marked when they are there.
    pub(super) group_holders: Holders,
    /// Resources, with their external ids as aliases, tagged by place in `types`.
    pub(super) resources: Names,
    pub(super) tree: Pages<Node>,
    pub(super) types: Arc<Vec<ResourceTypeSlug>>,
    /// No resource stands further below the root; the bound is not always tight.
    pub(super) depth: usize,
    pub(super) roles: Arc<Roles>,
    /// The roles that the identity provider gives to memberships, on the root; empty where it gives none.
    pub(super) provided: Holders,
    pub(super) labels: Option<Box<AssignmentIds>>,
    /// Named rows when it was built from all its rows, and memberships, groups and resources removed since.
    pub(super) built: u32,
    pub(super) deleted: u32,
    pub(super) digest: OnceLock<Digest>,
}

/// Assignment ids of memberships and groups.
#[derive(Debug, Clone, Default)]
pub(super) struct AssignmentIds {
    pub(super) members: Labels,
    pub(super) groups: Labels,
}

/// What the tree knows of a resource: whether it is there, and what it stands below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node(u32);

/// By which grant an ask was met: numbers that mean something together with the catalog and shard of the decision only.
/// [`Shard::describe`] puts it into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The token's own claim.
    Claim,
    /// A role in the facts.
    Grant(Grant),
    /// The token's claim and an organization role in the facts.
    Both(Grant),
}

/// A role that a membership holds, for one ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    pub(super) member: u32,
    pub(super) holder: Holder,
    pub(super) role: RoleIndex,
    /// The resource the role is held on.
    pub(super) on: u32,
    /// The resource that was asked for, the root for an organization-wide ask.
    pub(super) asked: u32,
}

/// Where a membership has a role from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// Assigned to the membership.
    Direct,
    /// Assigned to a group it is in.
    Group(u32),
    /// Given by the identity provider, before what is assigned to the membership.
    IdentityProvider,
    /// Standing in for a missing direct organization role.
    Default,
}

/// What a shard weighs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// Arrays that decisions walk: grants, groups, statuses, the tree.
    pub decision: usize,
    /// Ids and external ids, with their indexes.
    pub names: usize,
    /// The part of `names` that is text.
    pub text: usize,
    /// Assignment ids, where they are kept.
    pub assignment_ids: usize,
    /// Custom roles, settings, and the shard itself.
    pub other: usize,
    /// Number of role assignments, of memberships and of groups.
    pub assignments: usize,
    /// Number of named rows: memberships, groups, resources. A membership and a resource have two names each.
    pub rows: usize,
}

impl Shard {
    /// Whose facts these are.
    pub fn organization(&self) -> &OrganizationId {
        &self.organization
    }

    /// The catalog must have grown at least this far, or its places mean something else than here.
    pub fn catalog_at_least(&self) -> Generation {
        self.generation
    }

    /// The plain check of the WorkOS contract (R2): whether an active membership holds a role with this permission on the resource or on
    /// any ancestor of it, the root included. Whatever is unknown is `false`.
    pub fn check(
        &self,
        catalog: &Catalog,
        membership: &MembershipId,
        permission: &PermissionSlug,
        resource: &ResourceRef<'_>,
    ) -> bool {
        let Some(index) = catalog.permission(permission).filter(|_| catalog.covers(self.generation)) else {
            return false;
        };
        let asked = Asked { index, slug: permission };
        let (Some(member), Some(resource)) = (self.active_member(membership), self.resource(resource)) else {
            return false;
        };
        self.organization_grant(catalog, member, asked).is_some()
            || self.resource_grant(catalog, member, asked, resource).is_some()
    }

    /// Whether this is a membership of the organization, whatever its status.
    pub fn has_member(&self, membership: &MembershipId) -> bool {
        self.member(membership).is_some()
    }

    /// Whether this is a resource of the organization.
    pub fn has_resource(&self, resource: &ResourceRef<'_>) -> bool {
        self.resource(resource).is_some()
    }

    /// What the shard weighs.
    pub fn memory(&self) -> Memory {
        let names = [self.members.bytes(), self.groups.bytes(), self.resources.bytes()];
        Memory {
            decision: self.member_holders.bytes()
                + self.provided.bytes()
                + self.group_holders.bytes()
                + self.tree.bytes(),
            names: names.iter().map(|(all, _)| all).sum(),
            text: names.iter().map(|(_, text)| text).sum(),
            assignment_ids: self.labels.as_ref().map_or(0, |ids| ids.members.bytes() + ids.groups.bytes()),
            other: size_of::<Self>() + self.roles.bytes() + self.types.len() * 64,
            assignments: self.member_holders.grants() + self.group_holders.grants(),
            rows: [&self.members, &self.groups, &self.resources].iter().map(|names| names.len() as usize).sum(),
        }
    }

    /// The status of a membership, if it is there.
    pub(super) fn status(&self, member: u32) -> Option<MembershipStatus> {
        match self.member_holders.mark(member) {
            ACTIVE => Some(MembershipStatus::Active),
            INACTIVE => Some(MembershipStatus::Inactive),
            PENDING => Some(MembershipStatus::Pending),
            _ => None,
        }
    }

    /// Whether a group is there.
    pub(super) fn has_group(&self, group: u32) -> bool {
        self.group_holders.mark(group) == THERE
    }

    /// The number and status of a membership that is there.
    pub(super) fn member(&self, id: &MembershipId) -> Option<(u32, MembershipStatus)> {
        let member = self.members.find(id.as_str())?;
        Some((member, self.status(member)?))
    }

    /// The number and status of the membership of a user; nothing when there are several.
    pub(super) fn member_of(&self, user: &UserId) -> Option<(u32, MembershipStatus)> {
        match self.members.find_alias(0, user.as_str()) {
            Known::Row(member) => Some((member, self.status(member)?)),
            Known::Nothing | Known::Several => None,
        }
    }

    /// The number and status of a membership that is there, and whether it is this user's.
    pub(super) fn member_as(&self, id: &MembershipId, user: &UserId) -> Option<(u32, MembershipStatus, bool)> {
        let (member, alias) = self.members.find_with_alias(id.as_str())?;
        Some((member, self.status(member)?, alias == user.as_str().as_bytes()))
    }

    /// The number of a membership that counts.
    pub(super) fn active_member(&self, id: &MembershipId) -> Option<u32> {
        let (member, status) = self.member(id)?;
        (status == MembershipStatus::Active).then_some(member)
    }

    /// The number of a resource that is there.
    pub(super) fn resource(&self, resource: &ResourceRef<'_>) -> Option<u32> {
        let row = match resource {
            ResourceRef::Id(id) => self.resources.find(id)?,
            ResourceRef::External { resource_type, external_id } if resource_type.is_organization() => {
                return (external_id == self.organization.as_str()).then_some(ROOT);
            }
            ResourceRef::External { resource_type, external_id } => {
                match self.resources.find_alias(self.type_place(resource_type)?, external_id) {
                    Known::Row(row) => row,
                    Known::Nothing | Known::Several => return None,
                }
            }
        };
        self.tree.get(row)?.is_there().then_some(row)
    }

    /// The resource and what it stands below, nearest first, without the root.
    #[inline]
    pub(super) fn chain(&self, resource: u32) -> Chain {
        Chain::above(&self.tree, resource)
    }

    /// A role with the permission that the membership holds on the resource or on an ancestor below the root.
    pub(super) fn resource_grant(
        &self,
        catalog: &Catalog,
        member: u32,
        asked: Asked<'_>,
        resource: u32,
    ) -> Option<Grant> {
        let chain = self.chain(resource);
        let grant = |holder, row: Row<'_>| {
            let (on, role) = row.find(&chain, |role| self.permits(catalog, role, asked))?;
            Some(Grant { member, holder, role, on, asked: resource })
        };
        let held = self.member_holders.get(member);
        grant(Holder::Direct, held.grants).or_else(|| {
            held.groups.iter().find_map(|&group| {
                let held = self.group_holders.get(group);
                if held.mark == THERE { grant(Holder::Group(group), held.grants) } else { None }
            })
        })
    }

    /// The roles a membership holds on resources: assigned to itself, then group by group.
    pub(super) fn rows_of(&self, member: u32) -> impl Iterator<Item = (Holder, Row<'_>)> {
        let by_groups =
            self.groups_of(member).map(|group| (Holder::Group(group), self.group_holders.get(group).grants));
        iter::once((Holder::Direct, self.member_holders.get(member).grants)).chain(by_groups)
    }

    /// An organization role with the permission that the membership has now.
    pub(super) fn organization_grant(&self, catalog: &Catalog, member: u32, asked: Asked<'_>) -> Option<Grant> {
        let (holder, role) =
            self.organization_roles(catalog, member).find(|&(_, role)| self.permits(catalog, role, asked))?;
        Some(Grant { member, holder, role, on: ROOT, asked: ROOT })
    }

    /// The organization roles a membership has now: in multiple-roles mode all of them, in single-role mode the highest.
    pub(super) fn organization_roles(
        &self,
        catalog: &Catalog,
        member: u32,
    ) -> impl Iterator<Item = (Holder, RoleIndex)> {
        let by_groups = self.groups_of(member).flat_map(move |group| {
            let roles = self.group_holders.get(group).grants.roles_on(ROOT);
            roles.filter(move |&role| self.exists(catalog, role)).map(move |role| (Holder::Group(group), role))
        });
        let all = self.base_roles(catalog, member).into_iter().chain(by_groups);
        let (single, multiple) = match catalog.role_mode() {
            RoleMode::Single => (all.min_by_key(|&(_, role)| self.roles.rank(catalog, role)), None),
            RoleMode::Multiple => (None, Some(all)),
        };
        single.into_iter().chain(multiple.into_iter().flatten())
    }

    /// The organization roles a membership has by itself: those of the identity provider (WorkOS contract R27), else those assigned to it,
    /// else the default role (R16). The default role stands in for a missing direct organization role in both modes.
    fn base_roles(&self, catalog: &Catalog, member: u32) -> SmallVec<[(Holder, RoleIndex); 4]> {
        let there = |holder, row: Row<'_>| {
            let roles = row.roles_on(ROOT).filter(|&role| self.exists(catalog, role));
            roles.map(|role| (holder, role)).collect::<SmallVec<[_; 4]>>()
        };
        let mut roles = there(Holder::IdentityProvider, self.provided.get(member).grants);
        if roles.is_empty() {
            roles = there(Holder::Direct, self.member_holders.get(member).grants);
        }
        if roles.is_empty() {
            let default = self.roles.default_role(catalog).filter(|&role| self.exists(catalog, role));
            roles.extend(default.map(|role| (Holder::Default, role)));
        }
        roles
    }

    /// The groups of a membership that are there.
    pub(super) fn groups_of(&self, member: u32) -> impl Iterator<Item = u32> {
        let groups = self.member_holders.get(member).groups.iter().copied();
        groups.filter(|&group| self.has_group(group))
    }

    pub(super) fn permits(&self, catalog: &Catalog, role: RoleIndex, asked: Asked<'_>) -> bool {
        self.roles.view(catalog, role).is_some_and(|role| role.permits(asked))
    }

    fn exists(&self, catalog: &Catalog, role: RoleIndex) -> bool {
        self.roles.view(catalog, role).is_some()
    }

    pub(super) fn type_place(&self, slug: &ResourceTypeSlug) -> Option<u16> {
        let place = self.types.iter().position(|other| other == slug)?;
        u16::try_from(place).ok()
    }
}

/// The mark of a membership with this status.
pub(super) fn mark(status: MembershipStatus) -> u8 {
    match status {
        MembershipStatus::Active => ACTIVE,
        MembershipStatus::Inactive => INACTIVE,
        MembershipStatus::Pending => PENDING,
    }
}

impl Node {
    const THERE: u32 = 1 << 31;

    /// A resource that is there, right below `parent`. Numbers of resources are below 2^31.
    pub(super) fn below(parent: u32) -> Self {
        Self(parent | Self::THERE)
    }

    /// A resource that is only named by others.
    pub(super) fn absent() -> Self {
        Self(ROOT)
    }

    pub(super) fn is_there(self) -> bool {
        self.0 & Self::THERE != 0
    }

    pub(super) fn parent(self) -> u32 {
        self.0 & !Self::THERE
    }
}

impl Basis {
    /// The same for an ask about `resource`.
    pub(super) fn asked_on(self, resource: u32) -> Self {
        let on = |grant| Grant { asked: resource, ..grant };
        match self {
            Self::Claim => Self::Claim,
            Self::Grant(grant) => Self::Grant(on(grant)),
            Self::Both(grant) => Self::Both(on(grant)),
        }
    }

    /// The role in the facts, where there was one.
    pub fn grant(&self) -> Option<Grant> {
        match self {
            Self::Claim => None,
            Self::Grant(grant) | Self::Both(grant) => Some(*grant),
        }
    }
}

impl Memory {
    /// Bytes of everything.
    pub fn total(&self) -> usize {
        self.decision + self.names + self.assignment_ids + self.other
    }
}
