//! Advancing by changes gives what building from the changed rows gives: the same digest, the same answers, whatever the batches.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod reference_model;
mod worlds;

use portcullis::domain::build::BuildError;
use portcullis::domain::record::*;
use portcullis::domain::{
    Ask, Caller, Catalog, Decision, Delta, DenyReason, Digest, Facts, Grants, Keep, OrganizationRows, Requirement,
    ResourceId, ResourceRef, Scope, Shard, decide,
};
use proptest::prelude::*;
use worlds::*;

fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: (config.cases / 2).max(1), ..config }
}

/// Every answer of the plain check, in a fixed order.
fn answers(catalog: &Catalog, shard: &Shard, organization: u8) -> Vec<bool> {
    let mut answers = Vec::new();
    let resources = (0..RESOURCES).map(|place| resource(organization, place)).chain([root_id(organization)]);
    for resource in resources {
        for place in 0..=PERMISSIONS {
            for member in 0..=MEMBERS {
                let resource = ResourceRef::Id(resource.as_str().into());
                answers.push(shard.check(catalog, &membership(organization, member), &permission(place), &resource));
            }
        }
    }
    answers
}

/// Rows in words, in a fixed order, without the name of the root.
fn sorted(rows: OrganizationRows, root: &ResourceId) -> Vec<String> {
    let below = |resource: Option<ResourceId>| resource.filter(|id| id != root);
    let mut rows: Vec<_> = rows
        .into_records()
        .map(|record| match record {
            OrganizationRecord::Assignment(row) => {
                format!("{:?}", Assignment { resource: below(row.resource.clone()), ..row })
            }
            OrganizationRecord::GroupAssignment(row) => {
                format!("{:?}", GroupAssignment { resource: below(row.resource.clone()), ..row })
            }
            OrganizationRecord::Resource(row) => format!("{:?}", Resource { parent: below(row.parent.clone()), ..row }),
            other => format!("{other:?}"),
        })
        .collect();
    rows.sort();
    rows
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn changes_applied_give_what_the_changed_rows_give(
        world in world(2),
        steps in prop::collection::vec((catalog_changes(), changes(0), changes(1), any::<(bool, bool, bool)>()), 1..6),
    ) {
        let mut world = world;
        let (mut catalog, mut shards) = built(&world);
        for (catalog_changes, first, second, (ask_digest, split, reset)) in steps {
            if ask_digest {
                shards.iter().for_each(|shard| { shard.digest(&catalog); });
            }
            catalog_changes.iter().for_each(|change| apply(&mut world.catalog, change));
            let delta = if reset { Delta::Reset(Box::new(world.catalog.clone())) } else { Delta::Changes(catalog_changes) };
            catalog = catalog.advance(&delta).unwrap().value;
            for (place, changes) in [first, second].into_iter().enumerate() {
                changes.iter().for_each(|change| apply(&mut world.organizations[place].1, change));
                // A shard that nothing happened to stays with its old catalog.
                if changes.is_empty() {
                    continue;
                }
                let shard = &mut shards[place];
                let (head, tail) = changes.split_at(if split { changes.len() / 2 } else { 0 });
                *shard = shard.advance(&catalog, &Delta::Changes(head.to_vec())).unwrap().value;
                *shard = shard.advance(&catalog, &Delta::Changes(tail.to_vec())).unwrap().value;
            }

            let (rebuilt_catalog, rebuilt) = built(&world);
            prop_assert_eq!(catalog.digest(), rebuilt_catalog.digest());
            prop_assert_eq!(catalog.digest(), Digest::of_catalog(&world.catalog));
            for (place, (shard, rebuilt)) in (0..).zip(shards.iter().zip(&rebuilt)) {
                let (id, rows) = &world.organizations[usize::from(place)];
                let root = root_id(place);
                prop_assert_eq!(sorted(shard.rows(&catalog), &root), sorted(rows.clone(), &root));
                prop_assert_eq!(sorted(rebuilt.rows(&rebuilt_catalog), &root), sorted(rows.clone(), &root));
                prop_assert_eq!(shard.digest(&catalog), rebuilt.digest(&rebuilt_catalog));
                prop_assert_eq!(answers(&catalog, shard, place), answers(&rebuilt_catalog, rebuilt, place));
                prop_assert_eq!(shard.digest(&catalog), Digest::of_organization(id, rows));
            }
        }
    }

    #[test]
    fn a_shard_is_built_again_from_the_rows_it_gives_back(world in world(1)) {
        let (catalog, shards) = built(&world);
        let rows = shards[0].rows(&catalog);
        let json = serde_json::to_string(&rows).unwrap();
        let read: OrganizationRows = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&read, &rows);
        let again = Shard::build(&catalog, &organization(0), &read, shards[0].keep()).unwrap().value;
        prop_assert_eq!(sorted(again.rows(&catalog), &root_id(0)), sorted(rows, &root_id(0)));
        prop_assert_eq!(again.digest(&catalog), shards[0].digest(&catalog));
    }
}

fn catalog() -> Catalog {
    let role = EnvironmentRole {
        id: id("role_admin"),
        slug: id("admin"),
        resource_type: id("workspace"),
        priority: 0,
        permissions: vec![permission(0)],
    };
    let permissions = vec![Permission { slug: permission(0), resource_type: id("workspace") }];
    Catalog::build(&CatalogRows { permissions, roles: vec![role], ..CatalogRows::default() }).unwrap().value
}

fn folder(place: usize, parent: Option<usize>) -> Resource {
    let name = |place| id(format!("r{place}"));
    Resource {
        id: name(place),
        resource_type: id("folder"),
        external_id: id(format!("x{place}")),
        parent: parent.map(name),
    }
}

/// A chain of `depth` folders below the root; an admin on the topmost.
fn chain(depth: usize) -> OrganizationRows {
    OrganizationRows {
        members: vec![Member {
            id: membership(0, 0),
            user: user(0),
            status: MembershipStatus::Active,
            identity_provider_roles: Vec::new(),
        }],
        resources: (0..depth).map(|place| folder(place, place.checked_sub(1))).collect(),
        assignments: vec![Assignment {
            id: None,
            membership: membership(0, 0),
            role: id("role_admin"),
            resource: Some(id("r0")),
        }],
        ..OrganizationRows::default()
    }
}

fn shard(rows: &OrganizationRows) -> Result<Shard, BuildError> {
    Shard::build(&catalog(), &organization(0), rows, Keep::default()).map(|built| built.value)
}

fn put(resource: Resource) -> Change<OrganizationRecord> {
    Change::Put(OrganizationRecord::Resource(resource))
}

fn reaches(shard: &Shard, catalog: &Catalog, place: usize) -> bool {
    shard.check(catalog, &membership(0, 0), &permission(0), &ResourceRef::Id(format!("r{place}").into()))
}

#[test]
fn sixty_four_levels_are_walked_and_sixty_five_refused() {
    assert!(reaches(&shard(&chain(64)).unwrap(), &catalog(), 63));
    assert_eq!(shard(&chain(65)).unwrap_err(), BuildError::TooDeep { resource: id("r64") });
    let mut rows = chain(10_000);
    rows.resources.reverse();
    assert!(matches!(shard(&rows).unwrap_err(), BuildError::TooDeep { .. }));
}

#[test]
fn a_shard_is_not_advanced_beyond_sixty_four_levels() {
    let catalog = catalog();
    let before = shard(&chain(64)).unwrap();
    let deeper = Delta::Changes(vec![put(folder(64, Some(63)))]);
    assert_eq!(before.advance(&catalog, &deeper).unwrap_err(), BuildError::TooDeep { resource: id("r64") });
    // The lower half moves below a chain of its own length: its end sinks out of reach, though the moved resource does not.
    let mut changes: Vec<_> = (100..140).map(|place| put(folder(place, (place > 100).then(|| place - 1)))).collect();
    changes.push(put(folder(30, Some(139))));
    let error = before.advance(&catalog, &Delta::Changes(changes)).unwrap_err();
    assert!(matches!(error, BuildError::TooDeep { .. }), "{error}");
    // All of it one level lower: the moved resource itself is far from the bound.
    let lower = Delta::Changes(vec![put(folder(99, None)), put(folder(0, Some(99)))]);
    assert_eq!(before.advance(&catalog, &lower).unwrap_err(), BuildError::TooDeep { resource: id("r63") });
    // Moving up is fine, any number of times.
    let mut moved = before;
    for parent in (0..30).rev() {
        moved = moved.advance(&catalog, &Delta::Changes(vec![put(folder(31, Some(parent)))])).unwrap().value;
        assert!(reaches(&moved, &catalog, 63));
    }
}

#[test]
fn a_missing_ancestor_that_appears_counts_for_the_depth() {
    let catalog = catalog();
    let mut rows = chain(64);
    rows.resources.remove(0);
    let before = shard(&rows).unwrap();
    assert!(!reaches(&before, &catalog, 63), "the admin role is on a resource that is not there");
    let after = before.advance(&catalog, &Delta::Changes(vec![put(folder(0, None))])).unwrap().value;
    assert!(reaches(&after, &catalog, 63));
    let above = Delta::Changes(vec![put(folder(99, None)), put(folder(0, Some(99)))]);
    assert!(matches!(before.advance(&catalog, &above).unwrap_err(), BuildError::TooDeep { .. }));
}

#[test]
fn cycles_are_refused_and_the_former_shard_stays() {
    let catalog = catalog();
    let mut rows = chain(3);
    rows.resources[0].parent = Some(id("r2"));
    assert!(matches!(shard(&rows).unwrap_err(), BuildError::Cycle { .. }));
    let before = shard(&chain(3)).unwrap();
    for parent in 0..3 {
        let change = Delta::Changes(vec![put(folder(0, Some(parent)))]);
        assert!(matches!(before.advance(&catalog, &change).unwrap_err(), BuildError::Cycle { .. }), "below r{parent}");
    }
    assert!(reaches(&before, &catalog, 2));
    // Within one transaction only the end counts.
    let swap = Delta::Changes(vec![put(folder(0, Some(2))), put(folder(1, None)), put(folder(2, Some(1)))]);
    assert!(reaches(&before.advance(&catalog, &swap).unwrap().value, &catalog, 0));
}

#[test]
fn two_resources_with_one_name_are_refused() {
    let catalog = catalog();
    let twin = Resource { id: id("twin"), ..folder(1, None) };
    let duplicate = BuildError::DuplicateExternalId { resource_type: id("folder"), external_id: id("x1") };
    let mut rows = chain(2);
    rows.resources.push(twin.clone());
    assert_eq!(shard(&rows).unwrap_err(), duplicate);
    let before = shard(&chain(2)).unwrap();
    assert_eq!(before.advance(&catalog, &Delta::Changes(vec![put(twin.clone())])).unwrap_err(), duplicate);
    // Its predecessor goes in the same transaction, named later.
    let replaced = Delta::Changes(vec![put(twin), Change::Delete(OrganizationKey::Resource(id("r1")))]);
    assert!(before.advance(&catalog, &replaced).is_ok());
}

#[test]
fn a_second_root_is_refused_and_the_root_can_be_named_later() {
    let catalog = catalog();
    let mut rows = chain(1);
    rows.assignments[0].resource = Some(root_id(0));
    let before = shard(&rows).unwrap();
    assert!(!reaches(&before, &catalog, 0), "nothing is assigned on a resource that is not there");
    let named = before.advance(&catalog, &Delta::Changes(vec![put(root(0))])).unwrap().value;
    assert!(reaches(&named, &catalog, 0));
    let second = put(Resource { id: id("second"), ..root(0) });
    let error = named.advance(&catalog, &Delta::Changes(vec![second.clone()])).unwrap_err();
    assert!(matches!(error, BuildError::SecondRoot { .. }), "{error}");
    // Its name is deleted: what is held on the root is held on the organization, and another name may take its place.
    let deleted = Change::Delete(OrganizationKey::Resource(root(0).id));
    let unnamed = named.advance(&catalog, &Delta::Changes(vec![deleted])).unwrap().value;
    rows.assignments[0].resource = None;
    assert_eq!(unnamed.digest(&catalog), shard(&rows).unwrap().digest(&catalog));
    let renamed = unnamed.advance(&catalog, &Delta::Changes(vec![second])).unwrap().value;
    rows.resources.push(Resource { id: id("second"), ..root(0) });
    assert_eq!(renamed.digest(&catalog), shard(&rows).unwrap().digest(&catalog));
    assert!(reaches(&renamed, &catalog, 0));
}

/// So many of everything that it is built by two threads, and lies on many pages.
const MANY: usize = 25_000;

/// Members who are admins of one folder each, and every third of a group that is admin of another.
fn large() -> OrganizationRows {
    let numbered = |kind: &str, place: usize| format!("{kind}_{place}");
    let member = |place| Member {
        id: id(numbered("om", place)),
        user: id(numbered("user", place)),
        status: MembershipStatus::Active,
        identity_provider_roles: Vec::new(),
    };
    let assignment = |place| Assignment {
        id: None,
        membership: id(numbered("om", place)),
        role: id("role_admin"),
        resource: Some(id(format!("r{place}"))),
    };
    let in_group = |place| GroupMember { group: id("group_0"), membership: id(numbered("om", place)) };
    OrganizationRows {
        members: (0..MANY).map(member).collect(),
        groups: vec![Group { id: id("group_0") }],
        group_members: (0..MANY).step_by(3).map(in_group).collect(),
        resources: (0..=MANY).map(|place| folder(place, None)).collect(),
        assignments: (0..MANY).map(assignment).collect(),
        group_assignments: vec![GroupAssignment {
            id: None,
            group: id("group_0"),
            role: id("role_admin"),
            resource: Some(id(format!("r{MANY}"))),
        }],
        ..OrganizationRows::default()
    }
}

#[test]
fn every_row_of_a_large_organization_is_found() {
    let catalog = catalog();
    let may = |shard: &Shard, member: usize, on: usize| {
        let resource = ResourceRef::Id(format!("r{on}").into());
        shard.check(&catalog, &id(format!("om_{member}")), &permission(0), &resource)
    };
    let rows = large();
    let mut shard = shard(&rows).unwrap();
    for place in 0..MANY {
        assert!(may(&shard, place, place), "{place}");
        assert!(!may(&shard, place, (place + 1) % MANY), "{place}");
        assert_eq!(may(&shard, place, MANY), place % 3 == 0, "{place}");
    }
    // One by one as well.
    for place in (0..MANY).step_by(MANY / 50) {
        let row = Assignment { resource: Some(id("r0")), ..rows.assignments[place].clone() };
        let change = Change::Put(OrganizationRecord::Assignment(row));
        shard = shard.advance(&catalog, &Delta::Changes(vec![change])).unwrap().value;
        assert!(may(&shard, place, 0) && may(&shard, place, place) && !may(&shard, place + 1, 0), "{place}");
    }
}

#[test]
fn a_shard_never_meets_a_catalog_that_it_was_not_built_with() {
    let role = |name: &str| EnvironmentRole {
        id: id(format!("role_{name}")),
        slug: id(name),
        resource_type: id("organization"),
        priority: 0,
        permissions: vec![permission(if name == "strong" { 1 } else { 0 })],
    };
    let rows = |roles: [&str; 2]| CatalogRows {
        permissions: [0, 1]
            .map(|place| Permission { slug: permission(place), resource_type: id("organization") })
            .to_vec(),
        roles: roles.map(role).to_vec(),
        ..CatalogRows::default()
    };
    let catalog = Catalog::build(&rows(["weak", "strong"])).unwrap().value;
    let other = Catalog::build(&rows(["strong", "weak"])).unwrap().value;
    let mut organization_rows = chain(1);
    organization_rows.assignments[0] =
        Assignment { role: id("role_weak"), resource: None, ..organization_rows.assignments[0].clone() };
    let shard = Shard::build(&catalog, &organization(0), &organization_rows, Keep::default()).unwrap().value;

    let strong = permission(1);
    let ask = Ask { permission: &strong, resource: None, grants: Grants::Live };
    let requirement = Requirement { organization: None, scope: Scope::All([ask].into_iter().collect()) };
    let (user, organization, membership) = (user(0), organization(0), membership(0, 0));
    let caller =
        Caller { user: &user, organization: Some(&organization), membership: Some(&membership), permissions: &[] };
    let reason = |catalog| match decide(&requirement, Some(caller), Facts::Known { catalog, shard: Some(&shard) }) {
        Decision::Allow(_) => None,
        Decision::Deny(denial) => Some(denial.reason),
    };
    assert_eq!(reason(&catalog), Some(DenyReason::NotGranted));
    assert_eq!(reason(&other), Some(DenyReason::FactsUnavailable), "places mean something else there");
    assert!(!shard.check(&other, &membership, &strong, &ResourceRef::Id("r0".into())));
    assert_eq!(shard.advance(&other, &Delta::Changes(vec![])).unwrap_err(), BuildError::OtherCatalog);
    // The same rows in another order are fine for a catalog that grew out of the one the shard knows.
    let reset = catalog.advance(&Delta::Reset(Box::new(rows(["strong", "weak"])))).unwrap().value;
    assert_eq!(reason(&reset), Some(DenyReason::NotGranted));
    assert!(!catalog.covers(other.generation()) && reset.covers(catalog.generation()));
}

#[test]
fn wear_is_repaired_without_a_difference() {
    let catalog = catalog();
    let mut rows = chain(2);
    let mut worn = shard(&rows).unwrap();
    worn.digest(&catalog);
    let after_one = worn.memory().total();
    for place in 100..6_100 {
        let member = Member {
            id: id(format!("om_{place}")),
            user: id(format!("user_{place}")),
            status: MembershipStatus::Active,
            identity_provider_roles: Vec::new(),
        };
        let key = OrganizationKey::Member(member.id.clone());
        worn = worn
            .advance(&catalog, &Delta::Changes(vec![Change::Put(OrganizationRecord::Member(member))]))
            .unwrap()
            .value;
        worn = worn.advance(&catalog, &Delta::Changes(vec![Change::Delete(key)])).unwrap().value;
    }
    assert!(worn.memory().total() < after_one + 400_000, "{:?}", worn.memory());
    assert!(worn.memory().rows < 2_000, "of 6,000 that came and went the last thousand still have a number");
    rows.resources.reverse();
    assert_eq!(worn.digest(&catalog), shard(&rows).unwrap().digest(&catalog));
    assert!(reaches(&worn, &catalog, 1));
}

#[test]
fn one_row_that_goes_keeps_its_number_because_building_everything_again_would_not_pay() {
    let catalog = catalog();
    let before = shard(&chain(3)).unwrap();
    let came = before.advance(&catalog, &Delta::Changes(vec![put(folder(9, None))])).unwrap().value;
    let gone = came.advance(&catalog, &Delta::Changes(vec![Change::Delete(OrganizationKey::Resource(id("r9")))]));
    let gone = gone.unwrap().value;
    assert!(!gone.has_resource(&ResourceRef::Id("r9".into())));
    assert_eq!((before.memory().rows + 1, came.memory().rows), (came.memory().rows, gone.memory().rows));
}

#[test]
fn wear_of_groups_and_resources_counts_as_well() {
    let (catalog, mut worn) = (catalog(), shard(&chain(2)).unwrap());
    let group = |place: usize| Group { id: id(format!("group_{place}")) };
    let turns: [&dyn Fn(usize) -> [Change<OrganizationRecord>; 2]; 2] = [
        &|place| {
            let key = OrganizationKey::Group(group(place).id);
            [Change::Put(OrganizationRecord::Group(group(place))), Change::Delete(key)]
        },
        &|place| {
            let key = OrganizationKey::Resource(folder(place, None).id);
            [put(folder(place, None)), Change::Delete(key)]
        },
    ];
    for turn in turns {
        for change in (100..1_250).flat_map(turn) {
            worn = worn.advance(&catalog, &Delta::Changes(vec![change])).unwrap().value;
        }
        assert!(worn.memory().rows < 500, "{:?}", worn.memory());
    }
}

#[test]
fn a_shard_asks_for_the_catalog_that_it_was_advanced_with() {
    let (before, catalog) = (shard(&chain(1)).unwrap(), catalog());
    let slug = id("late:permission");
    let late = CatalogRecord::Permission(Permission { slug, resource_type: id("organization") });
    let grown = catalog.advance(&Delta::Changes(vec![Change::Put(late)])).unwrap().value;
    assert_ne!(grown.generation(), catalog.generation());
    let after = before.advance(&grown, &Delta::Changes(vec![put(folder(1, Some(0)))])).unwrap().value;
    assert_eq!((before.catalog_at_least(), after.catalog_at_least()), (catalog.generation(), grown.generation()));
    assert!(reaches(&after, &grown, 1) && !reaches(&after, &catalog, 1), "the former catalog is not enough any more");
}

#[test]
fn a_custom_role_never_takes_the_id_of_an_environment_role() {
    let (catalog, before) = (catalog(), shard(&chain(1)).unwrap());
    let taken = CustomRole {
        id: id("role_admin"),
        slug: id("org-admin"),
        resource_type: id("folder"),
        permissions: Vec::new(),
    };
    let put = Delta::Changes(vec![Change::Put(OrganizationRecord::Role(taken))]);
    assert_eq!(before.advance(&catalog, &put).unwrap_err(), BuildError::RoleIdTaken { role: id("role_admin") });
    // There is no custom role of that id that could go, and the environment role stays.
    let delete = Delta::Changes(vec![Change::Delete(OrganizationKey::Role(id("role_admin")))]);
    assert!(reaches(&before.advance(&catalog, &delete).unwrap().value, &catalog, 0));
}

#[test]
fn the_row_of_the_root_can_go_again() {
    let catalog = catalog();
    let mut rows = chain(2);
    rows.resources.push(root(0));
    let named = shard(&rows).unwrap();
    let root_id = root_id(0);
    let by_id = ResourceRef::Id(root_id.as_str().into());
    assert!(named.has_resource(&by_id));
    let deleted = Delta::Changes(vec![Change::Delete(OrganizationKey::Resource(root_id.clone()))]);
    let gone = named.advance(&catalog, &deleted).unwrap().value;
    assert!(!gone.has_resource(&by_id));
    assert_eq!(gone.digest(&catalog), shard(&chain(2)).unwrap().digest(&catalog));
    assert!(reaches(&gone, &catalog, 1));
}

#[test]
fn rows_that_name_what_is_missing_are_counted_and_sleep() {
    let catalog = catalog();
    let mut rows = chain(2);
    rows.resources[1].parent = Some(id("nowhere"));
    rows.assignments.push(Assignment {
        id: None,
        membership: id("om_none"),
        role: id("role_none"),
        resource: Some(id("none")),
    });
    rows.group_members.push(GroupMember { group: id("group_none"), membership: membership(0, 0) });
    let built = Shard::build(&catalog, &organization(0), &rows, Keep::default()).unwrap();
    let counts: Vec<_> = built.anomalies.counts().map(|(anomaly, count)| (anomaly.code(), count)).collect();
    assert_eq!(
        counts,
        [
            ("missing_member", 1),
            ("missing_group", 1),
            ("missing_role", 1),
            ("missing_resource", 1),
            ("missing_parent", 1)
        ]
    );
    assert!(built.anomalies.examples().contains(&"missing_parent: `nowhere`".to_owned()));
    assert_eq!(built.anomalies.total(), 5);
    assert!(
        !reaches(&built.value, &catalog, 1),
        "a resource without its parent inherits nothing from former ancestors"
    );
}
