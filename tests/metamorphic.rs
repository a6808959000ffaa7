//! What must hold between two worlds, whatever the right answer in either: monotony, names, isolation, inheritance, groups.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod reference_model;
mod worlds;

use std::collections::BTreeMap;

use portcullis::domain::record::*;
use portcullis::domain::{Catalog, Keep, MembershipId, OrganizationRows, Record, ResourceRef, Shard};
use proptest::prelude::*;
use reference_model::World;
use worlds::*;

/// The plain check for every membership, permission and resource of one organization, by their names.
fn answers(world: &World, place: u8) -> BTreeMap<(u8, u8, String), bool> {
    let catalog = Catalog::build(&world.catalog).unwrap().value;
    let (id, rows) = &world.organizations[usize::from(place)];
    let shard = Shard::build(&catalog, id, rows, Keep::default()).unwrap().value;
    let mut answers = BTreeMap::new();
    let resources = (0..RESOURCES).map(|number| resource(place, number)).chain([root_id(place)]);
    for resource in resources {
        for member in 0..MEMBERS {
            for act in 0..PERMISSIONS {
                let reference = ResourceRef::Id(resource.as_str().into());
                let allowed = shard.check(&catalog, &membership(place, member), &permission(act), &reference);
                answers.insert((member, act, resource.to_string()), allowed);
            }
        }
    }
    answers
}

/// In multiple-roles mode. Without a default role, which takes itself away where a direct organization role is added, and
/// without roles of an identity provider, which take the place of direct ones.
fn additive(mut world: World) -> World {
    world.catalog.settings = Some(EnvironmentSettings { role_mode: RoleMode::Multiple, default_role: None });
    for (_, rows) in &mut world.organizations {
        rows.settings = None;
        rows.members.iter_mut().for_each(|member| member.identity_provider_roles.clear());
    }
    world
}

fn rename(text: &str) -> String {
    format!("{}~{}", text.chars().rev().collect::<String>(), text.len())
}

/// The same rows under other ids, in another order. Slugs, types and users are not ids.
fn renamed(rows: OrganizationRows) -> OrganizationRows {
    let text = serde_json::to_value(&rows).unwrap();
    let mut rows: OrganizationRows = serde_json::from_value(renamed_json(text, "")).unwrap();
    rows.members.reverse();
    rows.groups.reverse();
    rows.group_members.reverse();
    rows.resources.reverse();
    rows.roles.reverse();
    rows.assignments.reverse();
    rows.group_assignments.reverse();
    rows
}

fn renamed_json(value: serde_json::Value, key: &str) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Array(items) => items.into_iter().map(|item| renamed_json(item, key)).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(key, value)| (key.clone(), renamed_json(value, &key))).collect()
        }
        Value::String(text)
            if [
                "id",
                "membership",
                "group",
                "role",
                "resource",
                "parent",
                "default_role",
                "priorities",
                "identity_provider_roles",
            ]
            .contains(&key) =>
        {
            rename(&text).into()
        }
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: (ProptestConfig::default().cases / 4).max(1), ..ProptestConfig::default() })]

    /// I13
    #[test]
    fn taking_anything_away_never_allows_more(world in world(1), place in any::<prop::sample::Index>()) {
        let world = additive(world);
        let before = answers(&world, 0);
        let mut less = world.clone();
        let records: Vec<_> = less.organizations[0].1.clone().into_records().collect();
        let gone: OrganizationKey = place.get(&records).key();
        // A resource takes what is below it with it, as the store does.
        let mut keys = vec![gone];
        while let Some(key) = keys.pop() {
            if let OrganizationKey::Resource(id) = &key {
                let rows = &less.organizations[0].1;
                keys.extend(rows.resources.iter().filter(|row| row.parent.as_ref() == Some(id)).map(|row| OrganizationKey::Resource(row.id.clone())));
            }
            apply(&mut less.organizations[0].1, &Change::<OrganizationRecord>::Delete(key));
        }
        for (question, allowed) in answers(&less, 0) {
            prop_assert!(before[&question] || !allowed, "{:?} became allowed", question);
        }
    }

    /// I13, for the catalog
    #[test]
    fn taking_a_permission_from_a_role_never_allows_more(world in world(1), role in any::<prop::sample::Index>(), act in any::<prop::sample::Index>()) {
        let world = additive(world);
        prop_assume!(!world.catalog.roles.is_empty());
        let before = answers(&world, 0);
        let mut less = world;
        let place = role.index(less.catalog.roles.len());
        let permissions = &mut less.catalog.roles[place].permissions;
        prop_assume!(!permissions.is_empty());
        permissions.remove(act.index(permissions.len()));
        for (question, allowed) in answers(&less, 0) {
            prop_assert!(before[&question] || !allowed, "{:?} became allowed", question);
        }
    }

    /// I14
    #[test]
    fn other_ids_and_another_order_change_nothing(world in world(1)) {
        let mut world = world;
        // Priorities are total and explicit; ties would be broken by id.
        let listed = |rows: &OrganizationRows| rows.roles.iter().map(|role| role.id.clone()).chain((0..ENVIRONMENT_ROLES).map(|place| id(format!("role_{place}")))).collect();
        let rows = &mut world.organizations[0].1;
        let default_role = rows.settings.take().and_then(|settings| settings.default_role);
        rows.settings = Some(OrganizationSettings { default_role, priorities: listed(rows) });
        let before = answers(&world, 0);

        let catalog: CatalogRows = serde_json::from_value(renamed_json(serde_json::to_value(&world.catalog).unwrap(), "")).unwrap();
        let mut catalog = catalog;
        catalog.roles.reverse();
        catalog.permissions.reverse();
        let rows = renamed(world.organizations[0].1.clone());
        let catalog = Catalog::build(&catalog).unwrap().value;
        let shard = Shard::build(&catalog, &organization(0), &rows, Keep::default()).unwrap().value;
        for ((member, act, resource), allowed) in before {
            let membership: MembershipId = id(rename(membership(0, member).as_str()));
            let now = shard.check(&catalog, &membership, &permission(act), &ResourceRef::Id(rename(&resource).into()));
            prop_assert_eq!(now, allowed, "member {} act {} on {}", member, act, resource);
        }
    }

    /// I15
    #[test]
    fn organizations_do_not_influence_each_other(world in world(2)) {
        let before = answers(&world, 0);
        let mut alone = world.clone();
        alone.organizations[1].1 = OrganizationRows::default();
        prop_assert_eq!(answers(&alone, 0), before);
        // Nobody of one is known in the other, and nothing of one is found in the other.
        let (catalog, shards) = built(&world);
        for member in 0..MEMBERS {
            for number in 0..RESOURCES {
                let of = |organization, resource_of| {
                    let resource = resource(resource_of, number);
                    shards[0].check(&catalog, &membership(organization, member), &permission(0), &ResourceRef::Id(resource.as_str().into()))
                };
                prop_assert!(!of(1, 0) && !of(0, 1) && !of(1, 1));
            }
        }
    }

    /// I16
    #[test]
    fn a_grant_on_an_ancestor_is_a_grant_on_each_descendant(world in world(1), place in any::<prop::sample::Index>()) {
        let rows = &world.organizations[0].1;
        let on_resources: Vec<_> = rows.assignments.iter().filter(|row| {
            row.resource.as_ref().is_some_and(|id| rows.resources.iter().any(|resource| !resource.resource_type.is_organization() && resource.id == *id))
        }).cloned().collect();
        prop_assume!(!on_resources.is_empty());
        let moved = place.get(&on_resources).clone();
        let mut spread = world.clone();
        let rows = &mut spread.organizations[0].1;
        rows.assignments.retain(|row| row.key() != moved.key());
        let mut covered = vec![moved.resource.clone().unwrap()];
        while let Some(top) = covered.pop() {
            covered.extend(rows.resources.iter().filter(|row| row.parent.as_ref() == Some(&top)).map(|row| row.id.clone()));
            put(rows, OrganizationRecord::Assignment(Assignment { resource: Some(top), ..moved.clone() }));
        }
        prop_assert_eq!(answers(&spread, 0), answers(&world, 0));
    }

    /// I16
    #[test]
    fn moving_a_subtree_moves_exactly_what_it_inherits(world in world(1), from in any::<prop::sample::Index>()) {
        let rows = &world.organizations[0].1;
        let movable: Vec<_> = rows.resources.iter().filter(|row| !row.resource_type.is_organization()).cloned().collect();
        prop_assume!(!movable.is_empty());
        let top = from.get(&movable);
        let mut moved = world.clone();
        put(&mut moved.organizations[0].1, OrganizationRecord::Resource(Resource { parent: None, ..top.clone() }));
        let parent = |id: &str| rows.resources.iter().find(|row| row.id.as_str() == id).and_then(|row| row.parent.clone());
        let below = |id: &str| {
            let mut at = Some(id.to_owned());
            while let Some(id) = at {
                if id == top.id.as_str() { return true; }
                at = parent(&id).map(|id| id.to_string());
            }
            false
        };
        let (before, after) = (answers(&world, 0), answers(&moved, 0));
        for (question @ (member, act, resource), allowed) in &after {
            if !below(resource) {
                prop_assert_eq!(before[question], *allowed, "{:?} is not below the moved resource", question);
            } else {
                // What is left is what it has on itself and below, and organization-wide.
                prop_assert!(before[question] || !allowed, "{:?} was gained by moving to the root", question);
                let top_now = after[&(*member, *act, top.id.to_string())];
                prop_assert!(*allowed || !top_now, "{:?} does not inherit from the moved resource", question);
            }
        }
    }

    /// I17
    #[test]
    fn a_grant_of_a_group_is_the_grant_of_every_member(world in world(1)) {
        let world = additive(world);
        let mut flat = world.clone();
        let rows = &mut flat.organizations[0].1;
        for assignment in std::mem::take(&mut rows.group_assignments) {
            let exists = rows.groups.iter().any(|group| group.id == assignment.group);
            let members: Vec<_> = rows.group_members.iter().filter(|edge| exists && edge.group == assignment.group).map(|edge| edge.membership.clone()).collect();
            for membership in members {
                let GroupAssignment { role, resource, .. } = assignment.clone();
                put(rows, OrganizationRecord::Assignment(Assignment { id: None, membership, role, resource }));
            }
        }
        rows.group_members.clear();
        prop_assert_eq!(answers(&flat, 0), answers(&world, 0));
    }
}
