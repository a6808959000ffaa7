//! What a token minted now would say, and whom the facts know.

use portcullis::domain::record::{Assignment, Member, MembershipStatus, OrganizationRecord, Resource, RoleMode};
use portcullis::domain::{
    Ask, Basis, Caller, Decision, DenyReason, Facts, Grants, Grounds, PermissionSlug, Requirement, ResourceRef, Scope,
    TokenFault, decide,
};

use super::acme::{Acme, acme, company, id, om, reason, sorted, user};

fn roles_of(acme: &Acme, member: &str) -> Vec<String> {
    let claims = acme.shard.claims(&acme.catalog, &om(member)).unwrap();
    assert_eq!(claims.role.as_ref(), claims.roles.first(), "the role is the first of the roles");
    claims.roles.iter().map(ToString::to_string).collect()
}

#[test]
fn a_token_names_its_organization_roles_and_their_permissions_and_nothing_held_on_a_resource() {
    let acme = company(RoleMode::Multiple).assign("alice", "org-member", None).assign("alice", "admin", None).assign(
        "alice",
        "project-viewer",
        Some("sensitive"),
    );
    let claims = acme.shard.claims(&acme.catalog, &om("alice")).unwrap();
    assert_eq!((claims.member.id, claims.member.user), (om("alice"), user("alice")));
    assert_eq!(claims.organization, super::acme::acme());
    assert_eq!(claims.permissions, sorted(&["org:manage", "org:view", "project:edit"]));
    assert_eq!(roles_of(&acme, "alice"), ["admin", "org-member"], "the highest priority first, not the first assigned");
}

#[test]
fn in_single_role_mode_a_token_names_one_role() {
    let acme = company(RoleMode::Single).assign("alice", "org-member", None).assign("alice", "admin", None);
    assert_eq!(roles_of(&acme, "alice"), ["admin"]);
}

#[test]
fn a_role_held_twice_is_named_once() {
    let acme = company(RoleMode::Multiple)
        .assign("alice", "admin", None)
        .group("admins", &["alice"])
        .assign_group("admins", "admin", None);
    assert_eq!(roles_of(&acme, "alice"), ["admin"]);
}

#[test]
fn a_membership_that_is_not_active_has_no_roles_and_an_unknown_one_no_token() {
    let acme =
        company(RoleMode::Multiple).member_with("dave", MembershipStatus::Inactive).assign("dave", "admin", None);
    let claims = acme.shard.claims(&acme.catalog, &om("dave")).unwrap();
    assert_eq!((claims.role, claims.roles, claims.permissions), (None, vec![], vec![]));
    assert_eq!(acme.shard.claims(&acme.catalog, &om("nobody")), None);
}

#[test]
fn the_organization_knows_its_members_and_resources_and_no_others() {
    let company = company(RoleMode::Single).assign("carol", "admin", None);
    let shard = &company.shard;
    assert_eq!(shard.organization(), &acme());
    assert!(shard.has_member(&om("alice")));
    assert!(!shard.has_member(&om("nobody")));
    assert!(!shard.has_member(&om("carol")), "named by an assignment only");
    assert_eq!(shard.membership_of(&user("alice")), Some(om("alice")));
    assert_eq!(shard.membership_of(&user("nobody")), None);
    let (project, organization) = (id("project"), id("organization"));
    for (resource, expected) in [
        (ResourceRef::Id("api".into()), true),
        (ResourceRef::Id("nowhere".into()), false),
        (ResourceRef::External { resource_type: &project, external_id: "api".into() }, true),
        (ResourceRef::External { resource_type: &project, external_id: "engineering".into() }, false),
        (ResourceRef::External { resource_type: &organization, external_id: "org_acme".into() }, true),
        (ResourceRef::External { resource_type: &organization, external_id: "org_other".into() }, false),
    ] {
        assert_eq!(shard.has_resource(&resource), expected, "{resource}");
    }
}

#[test]
fn what_is_held_on_a_resource_is_not_organization_wide() {
    let acme = company(RoleMode::Single)
        .assign("alice", "admin", None)
        .assign("bob", "project-editor", Some("api"))
        .assign("bob", "org-member", None);
    let basis = |member: &str, claims: &[&str], permission: &str, grants| {
        let resource = Some(ResourceRef::Id("api".into()));
        let Decision::Allow(permit) = acme.asks(member, claims, permission, resource, grants) else {
            panic!("{member} may");
        };
        let Grounds::Granted(basis) = permit.grounds() else { panic!("{:?}", permit.grounds()) };
        *basis
    };
    let edit = "project:edit";
    assert!(basis("alice", &[edit], edit, Grants::Token).is_organization_wide());
    assert!(basis("alice", &[edit], edit, Grants::Both).is_organization_wide());
    let live = basis("alice", &[], edit, Grants::Live);
    assert!(live.is_organization_wide() && matches!(live, Basis::Grant(_)));
    assert!(!basis("bob", &[], edit, Grants::Live).is_organization_wide());
    let words = acme.shard.describe(&acme.catalog, &live);
    let path = words.grant.unwrap().path;
    assert_eq!(
        path.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["project:api", "workspace:engineering", "organization:org_acme"],
        "from what was asked for up to where it is held"
    );
}

#[test]
fn a_membership_that_changes_hands_is_the_new_users_only() {
    let before = company(RoleMode::Single).assign("alice", "admin", None);
    let handed = Member {
        id: om("alice"),
        user: user("carol"),
        status: MembershipStatus::Active,
        identity_provider_roles: Vec::new(),
    };
    let after = before.put(OrganizationRecord::Member(handed));
    assert_eq!(after.shard.membership_of(&user("carol")), Some(om("alice")));
    assert_eq!(after.shard.membership_of(&user("alice")), None);
    let permission: PermissionSlug = id("org:manage");
    let ask = |name: &str| {
        let (user, organization, membership) = (user(name), acme(), om("alice"));
        let caller =
            Caller { user: &user, organization: Some(&organization), membership: Some(&membership), permissions: &[] };
        let ask = Ask { permission: &permission, resource: None, grants: Grants::Live };
        let requirement = Requirement { organization: None, scope: Scope::All([ask].into_iter().collect()) };
        let facts = Facts::Known { catalog: &after.catalog, shard: Some(&after.shard) };
        reason(decide(&requirement, Some(caller), facts))
    };
    assert_eq!(ask("carol"), Ok(()));
    assert_eq!(ask("alice"), Err(DenyReason::BadToken(TokenFault::IdentityMismatch)));
}

#[test]
fn a_resource_with_another_external_id_is_not_known_by_its_former_one() {
    let project = id("project");
    let renamed = Resource {
        id: id("api"),
        resource_type: id("project"),
        external_id: id("backend"),
        parent: Some(id("engineering")),
    };
    let company = company(RoleMode::Single).put(OrganizationRecord::Resource(renamed));
    let known = |name: &str| {
        company.shard.has_resource(&ResourceRef::External { resource_type: &project, external_id: name.into() })
    };
    assert!(known("backend") && !known("api"));
}

#[test]
fn each_of_many_grants_of_one_membership_counts_and_none_other() {
    let names: Vec<String> = (0..80).map(|place| format!("w{place}")).collect();
    let acme = names.iter().fold(company(RoleMode::Single), |acme, name| acme.resource("workspace", name, None));
    names.iter().enumerate().fold(acme, |acme, (place, name)| {
        let acme = acme.assign("alice", "editor", Some(name));
        for (other, name) in names.iter().enumerate() {
            assert_eq!(acme.can("alice", "project:edit", name), other <= place, "{name} of {}", place + 1);
        }
        acme
    });
}

#[test]
fn an_assignment_put_again_has_its_new_id() {
    let acme = company(RoleMode::Single).assign("alice", "admin", None);
    let again = Assignment {
        id: Some(id("role_assignment_again")),
        membership: om("alice"),
        role: id("admin"),
        resource: None,
    };
    let acme = acme.put(OrganizationRecord::Assignment(again));
    let access = acme.shard.who_has_access(&acme.catalog, &id("org:manage"), None);
    let words = acme.shard.describe(&acme.catalog, &access[0].basis);
    assert_eq!(
        words.to_string(),
        "role `admin` on organization:org_acme, assigned to the membership (`role_assignment_again`)"
    );
}

#[test]
fn who_has_access_tells_what_is_held_on_the_very_resource_from_what_comes_from_above() {
    let acme = company(RoleMode::Single)
        .member("carol")
        .assign("alice", "project-editor", Some("api"))
        .assign("bob", "workspace-admin", Some("engineering"))
        .assign("carol", "admin", None);
    let found = acme.shard.who_has_access(&acme.catalog, &id("project:edit"), Some(&ResourceRef::Id("api".into())));
    let words: Vec<_> = found
        .iter()
        .map(|access| {
            let grant = acme.shard.describe(&acme.catalog, &access.basis).grant.unwrap();
            (access.member.user.to_string(), access.direct, grant.path.len())
        })
        .collect();
    assert_eq!(
        words,
        [("user_alice".to_owned(), true, 1), ("user_bob".to_owned(), false, 2), ("user_carol".to_owned(), false, 3)],
        "and each names the way from the project up to where the role is held"
    );
}
