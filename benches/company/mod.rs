//! An organization of any size for the benches: memberships with 8 roles each on resources of a tree of depth 5, each in one group, every
//! group with 20 roles. That makes 10 assignments for each membership, 8 direct and 2 through groups.

#![allow(dead_code, reason = "each bench uses its own part")]

use portcullis::domain::record::*;
use portcullis::domain::{
    Ask, Caller, Catalog, Decision, ExternalId, Facts, Grants, GroupId, Keep, MembershipId, OrganizationId,
    OrganizationRows, PermissionSlug, Requirement, ResourceId, ResourceRef, ResourceTypeSlug, RoleId, Scope, Shard,
    UserId, decide,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

pub const ROLES: usize = 32;
pub const PERMISSIONS: usize = 256;

/// The size to run with: as asked for in a bench, small when criterion only tries whether everything works (`--test`, or `cargo test`).
pub fn sized(assignments: usize) -> usize {
    let mut arguments = std::env::args();
    let bench =
        arguments.any(|argument| argument == "--bench") && !std::env::args().any(|argument| argument == "--test");
    if bench { assignments } else { assignments.min(5_000) }
}

pub fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: impl AsRef<str>) -> T {
    text.as_ref().parse().expect("an identifier")
}

/// Ids as long as the real ones: a prefix and 26 characters.
fn long<T: std::str::FromStr<Err: std::fmt::Debug>>(prefix: &str, place: usize) -> T {
    // Spread over the alphabet of ULIDs, distinct for distinct places.
    let spread = (place as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    id(format!("{prefix}_{:026X}", spread & ((1 << 104) - 1)))
}

pub fn organization() -> OrganizationId {
    long("org", 0)
}

pub fn membership(place: usize) -> MembershipId {
    long("om", place)
}

pub fn user(place: usize) -> UserId {
    long("user", place)
}

pub fn group(place: usize) -> GroupId {
    long("group", place)
}

pub fn resource(place: usize) -> ResourceId {
    long("authz_resource", place)
}

pub fn external(place: usize) -> ExternalId {
    id(format!("proj-{place:08}"))
}

pub fn role(place: usize) -> RoleId {
    long("role", place)
}

pub fn permission(place: usize) -> PermissionSlug {
    id(format!("project:act{place}"))
}

pub fn kind() -> ResourceTypeSlug {
    id("project")
}

/// The permissions of a role: every eighth, so that about every second role lacks what is asked for.
fn permissions_of(role: usize) -> Vec<usize> {
    (0..PERMISSIONS).filter(|place| place % 8 == role % 8).collect()
}

pub fn catalog() -> Catalog {
    let permissions = (0..PERMISSIONS).map(|place| Permission { slug: permission(place), resource_type: kind() });
    let roles = (0..ROLES).map(|place| EnvironmentRole {
        id: role(place),
        slug: id(format!("role-{place}")),
        resource_type: kind(),
        priority: place as u32,
        permissions: permissions_of(place).into_iter().map(permission).collect(),
    });
    let rows = CatalogRows {
        permissions: permissions.collect(),
        resource_types: vec![ResourceType { slug: kind(), parents: vec![id("organization"), kind()] }],
        roles: roles.collect(),
        settings: Some(EnvironmentSettings { role_mode: RoleMode::Multiple, default_role: None }),
    };
    Catalog::build(&rows).expect("a catalog").value
}

/// An organization, and which role stands where.
pub struct Company {
    pub members: usize,
    pub rows: OrganizationRows,
    /// For each direct assignment: membership, role, resource.
    pub grants: Vec<(u32, u16, u32)>,
}

impl Company {
    /// About `assignments` assignments, 8 of 10 direct.
    pub fn of(assignments: usize) -> Self {
        let mut random = SmallRng::seed_from_u64(7);
        let members = sized(assignments) / 10;
        let (resources, groups) = (members, members.div_ceil(10));
        let ids: Vec<_> = (0..resources).map(resource).collect();
        let roles: Vec<_> = (0..ROLES).map(role).collect();
        let mut rows = OrganizationRows::default();
        rows.resources.push(Resource {
            id: long("authz_resource", usize::MAX / 2),
            resource_type: id("organization"),
            external_id: id(organization().as_str()),
            parent: None,
        });
        for place in 0..resources {
            // Five levels, each ten times as wide as the one above: 1/10000, 1/1000, 1/100, 1/10, the rest.
            let level = |part: usize| resources / part;
            let parent = [(10_usize, 100_usize), (100, 1_000), (1_000, 10_000)]
                .iter()
                .find(|(below, _)| place >= level(*below))
                .map(|(below, above)| level(*above) + random.random_range(0..(level(*below) - level(*above)).max(1)))
                .or((place >= level(10_000).max(1)).then(|| random.random_range(0..level(10_000).max(1))));
            rows.resources.push(Resource {
                id: ids[place].clone(),
                resource_type: kind(),
                external_id: external(place),
                parent: parent.filter(|parent| *parent < place).map(|parent| ids[parent].clone()),
            });
        }
        let group_ids: Vec<_> = (0..groups).map(group).collect();
        rows.groups = group_ids.iter().map(|id| Group { id: id.clone() }).collect();
        for id in &group_ids {
            for _ in 0..20 {
                rows.group_assignments.push(GroupAssignment {
                    id: None,
                    group: id.clone(),
                    role: roles[random.random_range(0..ROLES)].clone(),
                    resource: Some(ids[random.random_range(0..resources)].clone()),
                });
            }
        }
        let mut grants = Vec::with_capacity(members * 8);
        for place in 0..members {
            let id = membership(place);
            rows.members.push(Member {
                id: id.clone(),
                user: user(place),
                status: MembershipStatus::Active,
                identity_provider_roles: Vec::new(),
            });
            let group = group_ids[random.random_range(0..groups)].clone();
            rows.group_members.push(GroupMember { group, membership: id.clone() });
            for _ in 0..8 {
                let (role, resource) = (random.random_range(0..ROLES), random.random_range(0..resources));
                grants.push((place as u32, role as u16, resource as u32));
                rows.assignments.push(Assignment {
                    id: None,
                    membership: id.clone(),
                    role: roles[role].clone(),
                    resource: Some(ids[resource].clone()),
                });
            }
        }
        Self { members, rows, grants }
    }

    pub fn shard(&self, catalog: &Catalog) -> Shard {
        Shard::build(catalog, &organization(), &self.rows, Keep::default()).expect("a shard").value
    }
}

/// One question, all its texts its own.
pub struct Question {
    pub user: UserId,
    pub organization: OrganizationId,
    pub membership: MembershipId,
    pub permission: PermissionSlug,
    pub kind: ResourceTypeSlug,
    pub external: ExternalId,
}

impl Question {
    pub fn new(member: usize, permission: PermissionSlug, resource: usize) -> Self {
        Self {
            user: user(member),
            organization: organization(),
            membership: membership(member),
            permission,
            kind: kind(),
            external: external(resource),
        }
    }

    /// A question of a random membership: about a resource it holds a fitting role on, or about any.
    pub fn random(company: &Company, random: &mut SmallRng, granted: bool) -> Self {
        let (member, role, resource) = company.grants[random.random_range(0..company.grants.len())];
        let fitting = permissions_of(role.into());
        if granted {
            let permission = permission(fitting[random.random_range(0..fitting.len())]);
            Self::new(member as usize, permission, resource as usize)
        } else {
            let permission = permission(random.random_range(0..PERMISSIONS));
            Self::new(member as usize, permission, random.random_range(0..company.members))
        }
    }

    /// What the sidecar does for one request, from texts to permit.
    pub fn ask(&self, catalog: &Catalog, shard: &Shard) -> Decision {
        let resource = ResourceRef::External { resource_type: &self.kind, external_id: self.external.as_str().into() };
        let ask = Ask { permission: &self.permission, resource: Some(resource), grants: Grants::Token };
        let mut asks = smallvec::SmallVec::new();
        asks.push(ask);
        let requirement = Requirement { organization: None, scope: Scope::All(asks) };
        let caller = Caller {
            user: &self.user,
            organization: Some(&self.organization),
            membership: Some(&self.membership),
            permissions: &[],
        };
        decide(&requirement, Some(caller), Facts::Known { catalog, shard: Some(shard) })
    }
}
