//! Small random worlds, and random changes of them: every row is made from a few small numbers, so that rows meet often, and some rows
//! name what is not there.

#![allow(dead_code, reason = "each test file uses its own part of the worlds")]

use portcullis::domain::record::*;
use portcullis::domain::{
    Catalog, Keep, MembershipId, OrganizationId, PermissionSlug, ResourceId, ResourceTypeSlug, Shard, UserId,
};
use proptest::prelude::*;

use super::reference_model::World;

pub const MEMBERS: u8 = 6;
pub const GROUPS: u8 = 3;
pub const RESOURCES: u8 = 9;
pub const PERMISSIONS: u8 = 4;
pub const ENVIRONMENT_ROLES: u8 = 4;
pub const CUSTOM_ROLES: u8 = 2;

/// What a random row is made from.
pub type Seed = (u8, u8, u8, u8);

/// An environment with `organizations` organizations.
pub fn world(organizations: usize) -> impl Strategy<Value = World> {
    let seeds = prop::collection::vec(prop::collection::vec(any::<Seed>(), 10..70), organizations);
    (prop::collection::vec(any::<Seed>(), 4..20), seeds).prop_map(|(catalog, organizations)| {
        let organizations = (0..).zip(organizations).map(|(place, seeds)| {
            let mut rows: OrganizationRows = [OrganizationRecord::Resource(root(place))].into_iter().collect();
            seeds.iter().for_each(|&seed| put(&mut rows, organization_record(place, seed)));
            (organization(place), rows)
        });
        let mut world = World { catalog: CatalogRows::default(), organizations: organizations.collect() };
        (0..PERMISSIONS).for_each(|place| put(&mut world.catalog, CatalogRecord::Permission(permission_row(place))));
        catalog.iter().for_each(|&seed| put(&mut world.catalog, catalog_record(seed)));
        world
    })
}

/// Random changes of one organization.
pub fn changes(organization: u8) -> impl Strategy<Value = Vec<Change<OrganizationRecord>>> {
    prop::collection::vec((any::<Seed>(), prop::bool::weighted(0.6)), 0..12).prop_map(move |seeds| {
        let change = |(seed, put)| {
            let record = organization_record(organization, seed);
            if put { Change::Put(record) } else { Change::Delete(record.key()) }
        };
        seeds.into_iter().map(change).collect()
    })
}

/// Random changes of the catalog.
pub fn catalog_changes() -> impl Strategy<Value = Vec<Change<CatalogRecord>>> {
    prop::collection::vec((any::<Seed>(), prop::bool::weighted(0.7)), 0..5).prop_map(|seeds| {
        let change = |(seed, put)| {
            let record = catalog_record(seed);
            if put { Change::Put(record) } else { Change::Delete(record.key()) }
        };
        seeds.into_iter().map(change).collect()
    })
}

/// A store's idea of a change: the row with this key is replaced, or gone.
pub fn apply<R: Record>(rows: &mut R::Rows, change: &Change<R>)
where
    R::Rows: Default + FromIterator<R> + IntoRecords<R>,
{
    let key = change.key();
    let put = match change {
        Change::Put(record) => Some(record.clone()),
        Change::Delete(_) => None,
    };
    let others = std::mem::take(rows).records().into_iter().filter(|record| record.key() != key);
    *rows = others.chain(put).collect();
}

pub fn put<R: Record>(rows: &mut R::Rows, record: R)
where
    R::Rows: Default + FromIterator<R> + IntoRecords<R>,
{
    apply(rows, &Change::Put(record));
}

pub trait IntoRecords<R> {
    fn records(self) -> Vec<R>;
}

impl IntoRecords<OrganizationRecord> for OrganizationRows {
    fn records(self) -> Vec<OrganizationRecord> {
        self.into_records().collect()
    }
}

impl IntoRecords<CatalogRecord> for CatalogRows {
    fn records(self) -> Vec<CatalogRecord> {
        self.into_records().collect()
    }
}

/// The engine's view of a world.
pub fn built(world: &World) -> (Catalog, Vec<Shard>) {
    let catalog = Catalog::build(&world.catalog).unwrap().value;
    let shard = |(id, rows): &(OrganizationId, OrganizationRows)| {
        Shard::build(&catalog, id, rows, Keep { assignment_ids: true }).unwrap().value
    };
    let shards = world.organizations.iter().map(shard).collect();
    (catalog, shards)
}

pub fn organization(place: u8) -> OrganizationId {
    id(format!("org_{place}"))
}

pub fn membership(organization: u8, place: u8) -> MembershipId {
    id(format!("om_{organization}_{place}"))
}

pub fn user(place: u8) -> UserId {
    id(format!("user_{place}"))
}

pub fn permission(place: u8) -> PermissionSlug {
    id(format!("thing:act{place}"))
}

pub fn resource(organization: u8, place: u8) -> ResourceId {
    id(format!("authz_resource_{organization}_{place}"))
}

pub fn root_id(organization: u8) -> ResourceId {
    id(format!("authz_resource_{organization}_root"))
}

/// The type of the resource at `place`, and its external id, which it has in every organization.
pub fn external(place: u8) -> (ResourceTypeSlug, String) {
    (id(["workspace", "project", "app"][usize::from(place % 3)]), format!("x{place}"))
}

pub fn root(organization: u8) -> Resource {
    Resource {
        id: root_id(organization),
        resource_type: id("organization"),
        external_id: id(format!("org_{organization}")),
        parent: None,
    }
}

pub fn organization_record(o: u8, (kind, a, b, c): Seed) -> OrganizationRecord {
    match kind % 21 {
        0..4 => OrganizationRecord::Member(Member {
            id: membership(o, a % MEMBERS),
            // Now and then two memberships of one user.
            user: user(if b % 9 == 0 { a.wrapping_add(1) % MEMBERS } else { a % MEMBERS }),
            status: match c % 6 {
                0 => MembershipStatus::Inactive,
                1 => MembershipStatus::Pending,
                _ => MembershipStatus::Active,
            },
            identity_provider_roles: provided_roles(o, (a, b, c)),
        }),
        4 => OrganizationRecord::Group(Group { id: group(o, a) }),
        5..8 => OrganizationRecord::GroupMember(GroupMember { group: group(o, a), membership: membership(o, b % 7) }),
        8..12 => {
            let place = a % RESOURCES;
            let (resource_type, external_id) = external(place);
            // Parents have smaller numbers, so there are no cycles; one number stands for nothing, one for the root by name.
            let parent = match b % (place + 3) {
                parent if parent < place => Some(resource(o, parent)),
                parent if parent == place => None,
                parent if parent == place + 1 => Some(root_id(o)),
                _ => Some(resource(o, 77)),
            };
            let id = resource(o, place);
            OrganizationRecord::Resource(Resource { id, resource_type, external_id: self::id(external_id), parent })
        }
        12 => OrganizationRecord::Role(CustomRole {
            id: id(format!("role_custom_{o}_{}", a % CUSTOM_ROLES)),
            slug: id(format!("org-custom-{}", a % CUSTOM_ROLES)),
            resource_type: external(b).0,
            permissions: permissions(c),
        }),
        13..17 => OrganizationRecord::Assignment(Assignment {
            id: (c % 2 == 0).then(|| id(format!("role_assignment_{a}_{b}_{c}"))),
            membership: membership(o, a % 7),
            role: role(o, b),
            resource: place(o, c, (a % 7 + b % 7) % 2 == 0),
        }),
        17..20 => OrganizationRecord::GroupAssignment(GroupAssignment {
            id: (c % 2 == 0).then(|| id(format!("gra_{a}_{b}_{c}"))),
            group: group(o, a),
            role: role(o, b),
            resource: place(o, c, (a % 4 + b % 7) % 2 == 0),
        }),
        _ => OrganizationRecord::Settings(OrganizationSettings {
            default_role: (a % 3 > 0).then(|| role(o, b)),
            priorities: (0..c % 5).map(|place| role(o, b.wrapping_mul(3).wrapping_add(place))).collect(),
        }),
    }
}

pub fn catalog_record((kind, a, b, c): Seed) -> CatalogRecord {
    match kind % 12 {
        0..3 => CatalogRecord::Permission(permission_row(a % (PERMISSIONS + 1))),
        3 => CatalogRecord::ResourceType(ResourceType {
            slug: external(a).0,
            parents: vec![id("organization"), external(b).0],
        }),
        4..10 => {
            let place = a % ENVIRONMENT_ROLES;
            CatalogRecord::Role(EnvironmentRole {
                id: role(0, place),
                slug: id(format!("role-{place}")),
                resource_type: if c % 2 == 0 { id("organization") } else { external(c).0 },
                // Never equal for two roles.
                priority: u32::from(b % 5) * u32::from(ENVIRONMENT_ROLES) + u32::from(place),
                permissions: permissions(c),
            })
        }
        _ => CatalogRecord::Settings(EnvironmentSettings {
            role_mode: if a % 2 == 0 { RoleMode::Single } else { RoleMode::Multiple },
            default_role: (b % 3 > 0).then(|| id(format!("role_{}", c % (ENVIRONMENT_ROLES + 1)))),
        }),
    }
}

fn permission_row(place: u8) -> Permission {
    Permission { slug: permission(place), resource_type: external(place).0 }
}

fn permissions(mask: u8) -> Vec<PermissionSlug> {
    (0..=PERMISSIONS).filter(|place| mask >> place & 1 == 1).map(permission).collect()
}

fn group(organization: u8, place: u8) -> portcullis::domain::GroupId {
    id(format!("group_{organization}_{}", place % (GROUPS + 1)))
}

/// An environment role, a custom role of the organization, or one that never is.
fn role(organization: u8, place: u8) -> portcullis::domain::RoleId {
    match place % (ENVIRONMENT_ROLES + CUSTOM_ROLES + 1) {
        place if place < ENVIRONMENT_ROLES => id(format!("role_{place}")),
        place if place < ENVIRONMENT_ROLES + CUSTOM_ROLES => {
            id(format!("role_custom_{organization}_{}", place - ENVIRONMENT_ROLES))
        }
        _ => id("role_none"),
    }
}

/// Now and then one role or two of the identity provider, some of them unknown; sorted, as the engine gives them back.
fn provided_roles(organization: u8, (a, b, c): (u8, u8, u8)) -> Vec<portcullis::domain::RoleId> {
    let mut roles = match c % 4 {
        0 => vec![role(organization, b)],
        1 => vec![role(organization, b), role(organization, a)],
        _ => Vec::new(),
    };
    roles.sort_unstable();
    roles.dedup();
    roles
}

/// Where a role is assigned: organization-wide, with the root named or not (either way always the same for one holder and role, because
/// both are one row), or on a resource.
fn place(organization: u8, place: u8, named: bool) -> Option<ResourceId> {
    match place % (RESOURCES + 4) {
        0..3 => named.then(|| root_id(organization)),
        place => Some(resource(organization, place - 3)),
    }
}

pub fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: impl AsRef<str>) -> T {
    text.as_ref().parse().unwrap()
}
