//! Rows that name what is not there: each is counted by itself, when everything is built and when it comes alone.

use portcullis::domain::record::*;
use portcullis::domain::{Anomalies, Catalog, Change, Delta, Keep, OrganizationId, Shard};

use super::acme::{acme, id, om, user};

/// One permission, one role on it, one type below the organization, and one role that was taken away again.
fn catalog() -> Catalog {
    let role = |name: &str| EnvironmentRole {
        id: id(name),
        slug: id(name),
        resource_type: id("organization"),
        priority: 0,
        permissions: vec![id("org:view")],
    };
    let rows = CatalogRows {
        permissions: vec![Permission { slug: id("org:view"), resource_type: id("organization") }],
        resource_types: vec![ResourceType { slug: id("project"), parents: vec![id("organization")] }],
        roles: vec![role("admin"), role("former")],
        settings: Some(EnvironmentSettings { role_mode: RoleMode::Multiple, default_role: Some(id("admin")) }),
    };
    let built = Catalog::build(&rows).unwrap();
    assert_eq!(counts(&built.anomalies), []);
    built.value.advance(&Delta::Changes(vec![Change::Delete(CatalogKey::Role(id("former")))])).unwrap().value
}

fn counts(anomalies: &Anomalies) -> Vec<(&'static str, u64)> {
    anomalies.counts().map(|(anomaly, count)| (anomaly.code(), count)).collect()
}

/// Everything that the rows of the tests name.
fn sound() -> OrganizationRows {
    OrganizationRows {
        members: vec![Member {
            id: om("alice"),
            user: user("alice"),
            status: MembershipStatus::Active,
            identity_provider_roles: vec![id("admin")],
        }],
        groups: vec![Group { id: id("engineers") }],
        group_members: vec![GroupMember { group: id("engineers"), membership: om("alice") }],
        resources: vec![project("api", None), project("web", Some("api"))],
        roles: vec![custom("own", "org:view")],
        assignments: vec![assignment("alice", "own", Some("api"))],
        group_assignments: vec![group_assignment("engineers", "admin", Some("web"))],
        settings: Some(OrganizationSettings { default_role: Some(id("own")), priorities: vec![id("admin")] }),
    }
}

fn project(name: &str, parent: Option<&str>) -> Resource {
    Resource { id: id(name), resource_type: id("project"), external_id: id(name), parent: parent.map(id) }
}

fn custom(name: &str, permission: &str) -> CustomRole {
    CustomRole { id: id(name), slug: id(name), resource_type: id("project"), permissions: vec![id(permission)] }
}

fn assignment(member: &str, role: &str, on: Option<&str>) -> Assignment {
    Assignment { id: None, membership: om(member), role: id(role), resource: on.map(id) }
}

fn group_assignment(group: &str, role: &str, on: Option<&str>) -> GroupAssignment {
    GroupAssignment { id: None, group: id(group), role: id(role), resource: on.map(id) }
}

#[test]
fn each_row_that_names_what_is_missing_is_counted_by_itself() {
    let (catalog, organization): (_, OrganizationId) = (catalog(), acme());
    let build = |rows: &OrganizationRows| Shard::build(&catalog, &organization, rows, Keep::default()).unwrap();
    let whole = build(&sound());
    assert_eq!(counts(&whole.anomalies), []);
    let provided = |role| Member {
        id: om("bob"),
        user: user("bob"),
        status: MembershipStatus::Active,
        identity_provider_roles: vec![id(role)],
    };
    let edge =
        |group, member| OrganizationRecord::GroupMember(GroupMember { group: id(group), membership: om(member) });
    let settings = |default: &str, first: &str| {
        let (default_role, priorities) = (Some(id(default)), vec![id(first)]);
        OrganizationRecord::Settings(OrganizationSettings { default_role, priorities })
    };
    for (record, missing) in [
        (OrganizationRecord::Member(provided("former")), "missing_role"),
        (OrganizationRecord::Member(provided("nowhere")), "missing_role"),
        (edge("engineers", "nobody"), "missing_member"),
        (edge("nobodies", "alice"), "missing_group"),
        (OrganizationRecord::Resource(project("ios", Some("nowhere"))), "missing_parent"),
        (OrganizationRecord::Role(custom("other", "org:fly")), "missing_permission"),
        (OrganizationRecord::Assignment(assignment("nobody", "admin", None)), "missing_member"),
        (OrganizationRecord::Assignment(assignment("alice", "nowhere", None)), "missing_role"),
        (OrganizationRecord::Assignment(assignment("alice", "former", None)), "missing_role"),
        (OrganizationRecord::Assignment(assignment("alice", "admin", Some("nowhere"))), "missing_resource"),
        (OrganizationRecord::GroupAssignment(group_assignment("nobodies", "admin", None)), "missing_group"),
        (OrganizationRecord::GroupAssignment(group_assignment("engineers", "former", None)), "missing_role"),
        (settings("nowhere", "admin"), "missing_role"),
        (settings("admin", "former"), "missing_role"),
    ] {
        let mut rows: Vec<_> = sound().into_records().collect();
        rows.retain(|row| row.key() != record.key());
        rows.push(record.clone());
        assert_eq!(counts(&build(&rows.into_iter().collect()).anomalies), [(missing, 1)], "built with {record:?}");
        let alone = whole.value.advance(&catalog, &Delta::Changes(vec![Change::Put(record.clone())])).unwrap();
        assert_eq!(counts(&alone.anomalies), [(missing, 1)], "advanced by {record:?}");
        assert_eq!(alone.anomalies.total(), 1);
    }
}

#[test]
fn the_first_eight_are_named_and_all_are_counted() {
    let mut rows = sound();
    let nobodies = (0..12).map(|place| assignment(&format!("nobody{place}"), "nowhere", None));
    rows.assignments.extend(nobodies);
    // Memberships and resources are read apart, and counted together.
    rows.members.extend(rows.members.clone());
    rows.resources.push(rows.resources[0].clone());
    let built = Shard::build(&catalog(), &acme(), &rows, Keep::default()).unwrap();
    assert_eq!(counts(&built.anomalies), [("missing_member", 12), ("missing_role", 12), ("repeated_row", 2)]);
    assert_eq!((built.anomalies.total(), built.anomalies.examples().len()), (26, 8));
}

#[test]
fn a_catalog_counts_what_its_own_rows_lack() {
    let rows = CatalogRows {
        permissions: vec![Permission { slug: id("org:view"), resource_type: id("organization") }],
        resource_types: vec![
            ResourceType { slug: id("project"), parents: vec![id("organization"), id("workspace")] },
            ResourceType { slug: id("app"), parents: vec![id("project")] },
        ],
        roles: vec![EnvironmentRole {
            id: id("admin"),
            slug: id("admin"),
            resource_type: id("organization"),
            priority: 0,
            permissions: vec![id("org:view"), id("org:fly")],
        }],
        settings: Some(EnvironmentSettings { role_mode: RoleMode::Single, default_role: Some(id("member")) }),
    };
    let Some(built) = Catalog::build(&rows).ok() else { panic!("missing names are no contradiction") };
    assert_eq!(counts(&built.anomalies), [("missing_role", 1), ("missing_permission", 1), ("missing_type", 1)]);
    let catalog = built.value;
    assert_eq!(catalog.settings(), rows.settings.as_ref());
    assert_eq!(catalog.role(&id("admin")).map(|role| role.permissions.len()), Some(2));
    assert_eq!(catalog.role(&id("member")), None);
    assert!(catalog.resource_type(&id("app")).is_some() && catalog.resource_type(&id("workspace")).is_none());
    assert!(Catalog::empty().settings().is_none());
}

#[test]
fn catalogs_are_told_apart_by_their_rows_in_any_order() {
    let permission = |slug: &str| Permission { slug: id(slug), resource_type: id("organization") };
    let digest = |slugs: &[&str]| {
        let permissions = slugs.iter().map(|slug| permission(slug)).collect();
        Catalog::build(&CatalogRows { permissions, ..CatalogRows::default() }).unwrap().value.digest()
    };
    assert_eq!(digest(&["a:one", "a:two"]), digest(&["a:two", "a:one"]));
    assert_ne!(digest(&["a:one", "a:two"]), digest(&["a:one", "a:three"]));
    assert_ne!(digest(&["a:one"]), Catalog::empty().digest());
}
