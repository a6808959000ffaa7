//! What a token minted now would say of a membership: its organization-wide roles and permissions (WorkOS contract, section 5).

use super::catalog::Catalog;
use super::id::{Id, MembershipId, OrganizationId, PermissionSlug, ResourceRef, ResourceTypeSlug, RoleSlug, UserId};
use super::record::Member;
use super::shard::{Basis, ROOT, Shard};

/// The claims that AuthKit would set for a membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Whose.
    pub member: Member,
    /// The organization.
    pub organization: OrganizationId,
    /// The highest-priority organization role.
    pub role: Option<RoleSlug>,
    /// All organization roles, highest priority first.
    pub roles: Vec<RoleSlug>,
    /// The permissions of these roles, sorted.
    pub permissions: Vec<PermissionSlug>,
}

impl Shard {
    /// The claims of a membership as of now; `None` when it is unknown. One that is not active has no roles.
    pub fn claims(&self, catalog: &Catalog, membership: &MembershipId) -> Option<Claims> {
        let (row, _) = self.member(membership)?;
        let member = self.member_record(catalog, row)?;
        let mut roles = Vec::new();
        if self.active_member(membership).is_some() {
            let mut held: Vec<_> = self.organization_roles(catalog, row).map(|(_, role)| role).collect();
            held.sort_by_key(|&role| self.roles.rank(catalog, role));
            held.dedup();
            roles.extend(held.into_iter().filter_map(|role| Some(self.roles.view(catalog, role)?.slug().clone())));
        }
        let organization_type = ResourceTypeSlug::new(ResourceTypeSlug::ORGANIZATION).ok()?;
        let root = ResourceRef::External {
            resource_type: &organization_type,
            external_id: self.organization().as_str().into(),
        };
        Some(Claims {
            member,
            organization: self.organization().clone(),
            role: roles.first().cloned(),
            roles,
            permissions: self.effective_permissions(catalog, membership, &root),
        })
    }

    /// The membership of a user; `None` when there is none, or more than one.
    pub fn membership_of(&self, user: &UserId) -> Option<MembershipId> {
        let (row, _) = self.member_of(user)?;
        Some(Id::known(self.members.id(row)))
    }
}

impl Basis {
    /// Whether this holds in the whole organization: the token's claim, or an organization role.
    pub fn is_organization_wide(&self) -> bool {
        match self {
            Self::Claim | Self::Both(_) => true,
            Self::Grant(grant) => grant.on == ROOT,
        }
    }
}
