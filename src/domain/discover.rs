//! The same walk, other questions: what may this membership do here, where may it do that, who may, why, and what would be missing.
//!
//! Answers follow [`Shard::check`] (WorkOS contract R2, R42 to R44, D3): organization roles count as they are now, never as a token says.

use std::fmt;

use serde::Serialize;

use super::catalog::Catalog;
use super::id::{
    AssignmentId, ExternalId, GroupId, Id, MembershipId, PermissionSlug, ResourceId, ResourceRef, ResourceTypeSlug,
    RoleId, RoleSlug,
};
use super::record::{Member, MembershipStatus, Resource};
use super::shard::{Asked, Basis, Grant, Holder, ROOT, RoleIndex, Shard};

/// Where to look for resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Within<'a> {
    /// Right below this one.
    Children(ResourceRef<'a>),
    /// Anywhere below this one.
    Descendants(ResourceRef<'a>),
    /// Everywhere but the root.
    All,
}

/// A membership that may do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Who.
    pub member: Member,
    /// By which grant: the nearest to the resource.
    pub basis: Basis,
    /// Whether that grant is on the very resource, not inherited (WorkOS contract R44).
    pub direct: bool,
}

/// A basis in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description {
    /// Whether the token's own claim was used.
    pub claim: bool,
    /// The role in the facts, where one was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantDescription>,
}

/// A grant in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GrantDescription {
    /// Whose.
    pub membership: MembershipId,
    /// From where.
    pub via: Via,
    /// Which role.
    pub role: RoleSlug,
    /// Its id.
    pub role_id: RoleId,
    /// From the resource that was asked for up to the one the role is held on; one resource when they are the same.
    pub path: Vec<ResourceName>,
    /// The assignment, where its id is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assignment: Option<AssignmentId>,
}

/// Where a membership has a role from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// Assigned to the membership itself.
    Direct,
    /// Assigned to this group, which the membership is in.
    Group(GroupId),
    /// Given by the identity provider.
    IdentityProvider,
    /// Standing in for a missing direct organization role.
    DefaultRole,
}

/// A resource, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResourceName {
    /// Its type.
    pub resource_type: ResourceTypeSlug,
    /// The upstream application's id of it; the organization's id for the root.
    pub external_id: ExternalId,
    /// The store's id; a root may have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<ResourceId>,
}

/// The assignment that would turn a denial into a permit: of all roles that may be assigned nearest to the resource the one with the
/// fewest permissions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NearestGrant {
    /// Which role.
    pub role: RoleSlug,
    /// Its id.
    pub role_id: RoleId,
    /// On which resource.
    pub on: ResourceName,
}

impl Shard {
    /// Every permission that [`check`](Self::check) would find on the resource, sorted; none for an unknown or inactive membership.
    pub fn effective_permissions(
        &self,
        catalog: &Catalog,
        membership: &MembershipId,
        resource: &ResourceRef<'_>,
    ) -> Vec<PermissionSlug> {
        let (Some(member), Some(resource)) = (self.active_member(membership), self.resource(resource)) else {
            return Vec::new();
        };
        if !catalog.covers(self.catalog_at_least()) {
            return Vec::new();
        }
        let mut roles: Vec<RoleIndex> = self.organization_roles(catalog, member).map(|(_, role)| role).collect();
        let chain = self.chain(resource);
        for (_, row) in self.rows_of(member) {
            roles.extend(chain.iter().flat_map(|&on| row.roles_on(on)));
        }
        roles.sort_unstable();
        roles.dedup();
        let held = |asked| roles.iter().any(|&role| self.permits(catalog, role, asked));
        let permissions = catalog.permissions().map(|(index, permission)| Asked { index, slug: &permission.slug });
        let mut slugs: Vec<_> = permissions.filter(|&asked| held(asked)).map(|asked| asked.slug.clone()).collect();
        slugs.sort_unstable();
        slugs
    }

    /// Every resource within `within` on which [`check`](Self::check) would find the permission.
    pub fn reachable(
        &self,
        catalog: &Catalog,
        membership: &MembershipId,
        permission: &PermissionSlug,
        within: &Within<'_>,
    ) -> Vec<Resource> {
        let (Some(member), Some(asked)) = (self.active_member(membership), self.asked(catalog, permission)) else {
            return Vec::new();
        };
        let top = match within {
            Within::Children(top) | Within::Descendants(top) => match self.resource(top) {
                Some(top) => top,
                None => return Vec::new(),
            },
            Within::All => ROOT,
        };
        let everywhere = self.organization_grant(catalog, member, asked).is_some();
        let inside = |row: u32| match within {
            Within::Children(_) => self.parent_of(row) == top,
            Within::Descendants(_) | Within::All => {
                top == ROOT || self.chain(row).iter().skip(1).any(|&above| above == top)
            }
        };
        (1..self.tree.len())
            .filter(|&row| self.tree.get(row).is_some_and(|node| node.is_there()) && inside(row))
            .filter(|&row| everywhere || self.resource_grant(catalog, member, asked, row).is_some())
            .filter_map(|row| self.resource_record(row))
            .collect()
    }

    /// Every active membership for which [`check`](Self::check) finds the permission: on the resource, or organization-wide without one.
    pub fn who_has_access(
        &self,
        catalog: &Catalog,
        permission: &PermissionSlug,
        resource: Option<&ResourceRef<'_>>,
    ) -> Vec<Access> {
        let resource = match resource {
            None => Some(ROOT),
            Some(resource) => self.resource(resource),
        };
        let (Some(asked), Some(resource)) = (self.asked(catalog, permission), resource) else { return Vec::new() };
        let access = |row| {
            let member = self.member_record(catalog, row).filter(|member| member.status == MembershipStatus::Active)?;
            let grant = self.nearest(catalog, row, asked, resource)?;
            Some(Access { member, basis: Basis::Grant(grant), direct: grant.on == resource })
        };
        (0..self.members.len()).filter_map(access).collect()
    }

    /// The assignment nearest to the resource, organization-wide without one, that would grant the permission to anybody. `None` when no role
    /// holds the permission or the resource is unknown.
    pub fn nearest_grant(
        &self,
        catalog: &Catalog,
        permission: &PermissionSlug,
        resource: Option<&ResourceRef<'_>>,
    ) -> Option<NearestGrant> {
        let asked = self.asked(catalog, permission)?;
        let resource = match resource {
            None => ROOT,
            Some(resource) => self.resource(resource)?,
        };
        let environment = (0..catalog.roles.len()).filter_map(RoleIndex::environment);
        let roles: Vec<_> = environment
            .chain(self.roles.indices())
            .filter_map(|role| self.roles.view(catalog, role))
            .filter(|role| role.permits(asked))
            .collect();
        self.chain(resource).iter().copied().chain([ROOT]).find_map(|on| {
            let on = self.resource_words(on);
            let fitting = roles.iter().filter(|role| *role.resource_type() == on.resource_type);
            let role = fitting.min_by_key(|role| (role.breadth(), role.slug()))?;
            Some(NearestGrant { role: role.slug().clone(), role_id: role.id().clone(), on })
        })
    }

    /// Puts a basis into words. `catalog` and this shard must be those of the decision.
    pub fn describe(&self, catalog: &Catalog, basis: &Basis) -> Description {
        let claim = matches!(basis, Basis::Claim | Basis::Both(_));
        Description { claim, grant: basis.grant().and_then(|grant| self.describe_grant(catalog, grant)) }
    }

    fn describe_grant(&self, catalog: &Catalog, grant: Grant) -> Option<GrantDescription> {
        let Grant { member, holder, role, on, asked } = grant;
        let view = self.roles.view(catalog, role)?;
        let (via, assignment) = match holder {
            Holder::Direct => (Via::Direct, self.assignment_id(member, on, role)),
            Holder::Group(group) => {
                (Via::Group(Id::known(self.groups.id(group))), self.group_assignment_id(group, on, role))
            }
            Holder::IdentityProvider => (Via::IdentityProvider, None),
            Holder::Default => (Via::DefaultRole, None),
        };
        let chain = self.chain(asked);
        let below = chain.iter().copied().take_while(|&row| row != on);
        Some(GrantDescription {
            membership: Id::known(self.members.id(member)),
            via,
            role: view.slug().clone(),
            role_id: view.id().clone(),
            path: below.chain([on]).map(|row| self.resource_words(row)).collect(),
            assignment,
        })
    }

    /// The grant nearest to the resource: assigned to the membership before assigned to a group, organization-wide last.
    fn nearest(&self, catalog: &Catalog, member: u32, asked: Asked<'_>, resource: u32) -> Option<Grant> {
        let chain = self.chain(resource);
        let on_resource = chain.iter().find_map(|&on| {
            self.rows_of(member).find_map(|(holder, row)| {
                let role = row.roles_on(on).find(|&role| self.permits(catalog, role, asked))?;
                Some(Grant { member, holder, role, on, asked: resource })
            })
        });
        on_resource.or_else(|| {
            let grant = self.organization_grant(catalog, member, asked)?;
            Some(Grant { asked: resource, ..grant })
        })
    }

    fn asked<'a>(&self, catalog: &Catalog, permission: &'a PermissionSlug) -> Option<Asked<'a>> {
        let index = catalog.permission(permission).filter(|_| catalog.covers(self.catalog_at_least()))?;
        Some(Asked { index, slug: permission })
    }

    /// What a resource stands right below; the root where that is missing.
    fn parent_of(&self, row: u32) -> u32 {
        self.chain(row).get(1).copied().unwrap_or(ROOT)
    }

    fn resource_words(&self, row: u32) -> ResourceName {
        match self.resource_record(row) {
            Some(Resource { id, resource_type, external_id, .. }) => {
                ResourceName { resource_type, external_id, id: Some(id) }
            }
            None => ResourceName {
                resource_type: Id::known(ResourceTypeSlug::ORGANIZATION),
                external_id: Id::known(self.organization.as_str()),
                id: None,
            },
        }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.claim, &self.grant) {
            (true, None) => f.write_str("the token's claim"),
            (true, Some(grant)) => write!(f, "the token's claim, and {grant}"),
            (false, Some(grant)) => grant.fmt(f),
            (false, None) => f.write_str("a role that is not there any more"),
        }
    }
}

impl fmt::Display for GrantDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "role `{}`", self.role)?;
        if let Some((on, below)) = self.path.split_last() {
            write!(f, " on {on}")?;
            for resource in below.iter().rev() {
                write!(f, " > {resource}")?;
            }
        }
        match &self.via {
            Via::Direct => f.write_str(", assigned to the membership")?,
            Via::Group(group) => write!(f, ", through group `{group}`")?,
            Via::IdentityProvider => f.write_str(", given by the identity provider")?,
            Via::DefaultRole => f.write_str(", the default role")?,
        }
        match &self.assignment {
            Some(id) => write!(f, " (`{id}`)"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.resource_type, self.external_id)
    }
}

impl fmt::Display for NearestGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "role `{}` on {}", self.role, self.on)
    }
}
