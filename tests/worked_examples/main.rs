//! The worked examples of the WorkOS documentation, each as it is told there, and the table of what each source of a permission is worth
//! to `grants: token`, `live` and `both`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod acme;
mod claims;
mod missing;

use portcullis::domain::discover::{NearestGrant, Via};
use portcullis::domain::record::*;
use portcullis::domain::{
    Ask, Basis, Caller, Change, Decision, DenyReason, Facts, Grants, Grounds, MembershipId, OrganizationId,
    Requirement, ResourceRef, ResourceTypeSlug, RoleId, Scope, TokenFault, UserId, decide,
};

use self::acme::{Acme, acme, company, id, om, reason, sorted, user};

#[test]
fn one_role_on_a_workspace_gives_access_to_every_project_and_app_in_it() {
    let acme = company(RoleMode::Single).assign("alice", "workspace-admin", Some("engineering"));
    for (permission, resource) in
        [("workspace:edit", "engineering"), ("project:edit", "api"), ("project:view", "mobile"), ("app:edit", "web")]
    {
        assert!(acme.can("alice", permission, resource), "{permission} on {resource}");
        assert!(!acme.can("bob", permission, resource));
    }
    assert!(!acme.can("alice", "project:edit", "sensitive"), "another workspace");
    assert!(!acme.can("alice", "workspace:edit", "authz_resource_acme"), "nothing flows up");
}

#[test]
fn direct_and_inherited_access_are_both_valid_and_independent() {
    let acme = company(RoleMode::Single)
        .assign("alice", "workspace-admin", Some("engineering"))
        .assign("alice", "project-editor", Some("api"))
        .assign("bob", "project-editor", Some("api"));
    assert!(acme.can("bob", "project:edit", "api"));
    assert!(!acme.can("bob", "project:edit", "mobile"), "a sibling");
    assert!(!acme.can("bob", "project:edit", "engineering"), "the parent");
    // Removing the one above removes what was inherited; the direct one on the child stays.
    let acme = acme.unassign("alice", "workspace-admin", Some("engineering"));
    assert!(acme.can("alice", "project:edit", "api"));
    assert!(!acme.can("alice", "project:edit", "mobile"));
    assert!(!acme.can("alice", "app:edit", "web"));
}

#[test]
fn a_permission_is_inherited_by_descendants_of_any_type() {
    let acme = company(RoleMode::Single).assign("alice", "workspace-admin", Some("engineering"));
    assert!(acme.can("alice", "workspace:edit", "api"), "the type a permission is declared for filters nothing");
}

#[test]
fn two_roles_on_one_project_add_up_and_so_do_roles_elsewhere() {
    for mode in [RoleMode::Single, RoleMode::Multiple] {
        let acme = company(mode)
            .assign("alice", "project-editor", Some("api"))
            .assign("alice", "project-reviewer", Some("api"))
            .assign("alice", "project-viewer", Some("sensitive"));
        assert!(acme.can("alice", "project:edit", "api") && acme.can("alice", "project:review", "api"));
        assert!(acme.can("alice", "project:view", "sensitive") && !acme.can("alice", "project:edit", "sensitive"));
    }
}

#[test]
fn alice_has_baseline_access_the_engineering_workspace_and_a_look_at_the_sensitive_project() {
    let acme = company(RoleMode::Single)
        .group("engineers", &["alice"])
        .assign("alice", "org-member", None)
        .assign_group("engineers", "workspace-admin", Some("engineering"))
        .assign("alice", "project-viewer", Some("sensitive"));
    assert!(acme.can_organization_wide("alice", "org:view"));
    assert!(acme.can("alice", "app:edit", "web"));
    assert!(acme.can("alice", "project:view", "sensitive"));
    assert!(!acme.can("alice", "project:edit", "sensitive"));
    let permissions =
        acme.shard.effective_permissions(&acme.catalog, &om("alice"), &ResourceRef::Id("sensitive".into()));
    assert_eq!(permissions, sorted(&["org:view", "project:view"]));

    // One check, and the basis tells which source it was.
    let Decision::Allow(permit) =
        acme.asks("alice", &[], "app:edit", Some(ResourceRef::Id("web".into())), Grants::Token)
    else {
        panic!("denied");
    };
    let Grounds::Granted(basis) = permit.grounds() else { panic!("{:?}", permit.grounds()) };
    let words = acme.shard.describe(&acme.catalog, basis);
    let grant = words.grant.as_ref().unwrap();
    assert_eq!((grant.role.as_str(), &grant.via), ("workspace-admin", &Via::Group(id("engineers"))));
    assert_eq!(
        grant.path.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["app:web", "project:api", "workspace:engineering"]
    );
    assert_eq!(
        words.to_string(),
        "role `workspace-admin` on workspace:engineering > project:api > app:web, through group `engineers` (`gra_engineers_workspace-admin`)"
    );
}

#[test]
fn can_this_user_edit_this_project() {
    let acme = company(RoleMode::Single).assign("alice", "project-editor", Some("api"));
    let api: ResourceTypeSlug = id("project");
    let ask = |name: &str, claims: &[&str], resource: &str| {
        let resource = ResourceRef::External { resource_type: &api, external_id: resource.to_owned().into() };
        reason(acme.asks(name, claims, "project:edit", Some(resource), Grants::Token))
    };
    // The token holds project:edit for all projects: yes. Otherwise it depends on this project.
    assert_eq!(ask("bob", &["project:edit"], "mobile"), Ok(()));
    assert_eq!(ask("alice", &["org:view"], "api"), Ok(()));
    assert_eq!(ask("alice", &["org:view"], "mobile"), Err(DenyReason::NotGranted));
    assert_eq!(ask("bob", &["project:edit"], "nowhere"), Err(DenyReason::UnknownResource));
}

#[test]
fn everybody_in_the_finance_group_has_the_billing_admin_role() {
    for mode in [RoleMode::Single, RoleMode::Multiple] {
        let acme = company(mode)
            .role("billing-admin", "organization", &["billing:manage"])
            .group("finance", &["alice"])
            .assign_group("finance", "billing-admin", None);
        assert!(acme.can_organization_wide("alice", "billing:manage"));
        assert!(!acme.can_organization_wide("bob", "billing:manage"));
        let acme = acme.join("finance", "bob");
        assert!(acme.can_organization_wide("bob", "billing:manage"));
        let acme = acme.leave("finance", "alice");
        assert!(!acme.can_organization_wide("alice", "billing:manage"));
        let acme = acme.unassign_group("finance", "billing-admin", None);
        assert!(!acme.can_organization_wide("bob", "billing:manage"));
    }
}

#[test]
fn engineers_edit_the_shared_workspace_and_a_new_engineer_does_so_on_joining() {
    let acme = company(RoleMode::Single).group("engineers", &["alice"]).assign_group(
        "engineers",
        "editor",
        Some("engineering"),
    );
    assert!(acme.can("alice", "project:edit", "api") && !acme.can("bob", "project:edit", "api"));
    assert!(acme.join("engineers", "bob").can("bob", "project:edit", "api"));
}

#[test]
fn removing_one_of_two_sources_leaves_the_other() {
    let both = || {
        company(RoleMode::Multiple)
            .group("engineers", &["alice"])
            .group("platform", &["alice"])
            .assign_group("engineers", "editor", Some("engineering"))
            .assign_group("platform", "editor", Some("engineering"))
            .assign("alice", "editor", Some("engineering"))
    };
    let without_direct = both().unassign("alice", "editor", Some("engineering"));
    assert!(without_direct.can("alice", "project:edit", "api"));
    let with_one = without_direct.leave("engineers", "alice");
    assert!(with_one.can("alice", "project:edit", "api"));
    assert!(!with_one.leave("platform", "alice").can("alice", "project:edit", "api"));
    let with_direct =
        both().delete(OrganizationKey::Group(id("engineers"))).delete(OrganizationKey::Group(id("platform")));
    assert!(with_direct.can("alice", "project:edit", "api"), "a deleted group takes nothing else along");
}

#[test]
fn single_role_mode_takes_the_highest_priority_over_all_sources() {
    let acme = company(RoleMode::Single)
        .group("leads", &["alice"])
        .assign("alice", "org-member", None)
        .assign_group("leads", "admin", None);
    assert!(acme.can_organization_wide("alice", "org:manage"));
    assert!(!acme.can_organization_wide("alice", "org:view"), "one role, not both");
    // A direct role above the group's stays.
    let acme = acme.assign("bob", "admin", None).group("guests", &["bob"]).assign_group("guests", "org-member", None);
    assert!(acme.can_organization_wide("bob", "org:manage") && !acme.can_organization_wide("bob", "org:view"));
}

#[test]
fn single_role_mode_falls_back_to_the_default_role_when_the_group_role_goes() {
    let acme = company(RoleMode::Single)
        .settings(RoleMode::Single, Some("org-member"))
        .group("leads", &["alice"])
        .assign_group("leads", "admin", None);
    assert!(acme.can_organization_wide("alice", "org:manage"));
    let acme = acme.unassign_group("leads", "admin", None);
    assert!(!acme.can_organization_wide("alice", "org:manage") && acme.can_organization_wide("alice", "org:view"));
}

#[test]
fn multiple_roles_mode_adds_all_sources_up() {
    let acme = company(RoleMode::Multiple)
        .group("leads", &["alice"])
        .assign("alice", "org-member", None)
        .assign_group("leads", "admin", None);
    assert!(acme.can_organization_wide("alice", "org:manage") && acme.can_organization_wide("alice", "org:view"));
    assert!(acme.can("alice", "project:edit", "sensitive"), "an organization role counts on every resource");
}

#[test]
fn every_member_has_the_default_role_until_it_has_one_of_its_own() {
    for mode in [RoleMode::Single, RoleMode::Multiple] {
        let acme = company(mode).settings(mode, Some("org-member"));
        assert!(acme.can_organization_wide("alice", "org:view"));
        let acme = acme.assign("alice", "admin", None);
        assert!(acme.can_organization_wide("alice", "org:manage") && !acme.can_organization_wide("alice", "org:view"));
        // The role is deleted: the default role is back.
        let acme = acme.declare(Change::Delete(CatalogKey::Role(id("admin"))));
        assert!(acme.can_organization_wide("alice", "org:view") && !acme.can_organization_wide("alice", "org:manage"));
    }
}

#[test]
fn deleting_a_role_in_multiple_roles_mode_leaves_the_others() {
    let acme = company(RoleMode::Multiple).assign("alice", "admin", None).assign("alice", "org-member", None);
    let acme = acme.declare(Change::Delete(CatalogKey::Role(id("admin"))));
    assert!(acme.can_organization_wide("alice", "org:view") && !acme.can_organization_wide("alice", "org:manage"));
}

#[test]
fn a_role_created_again_with_the_same_slug_does_not_revive_assignments() {
    let acme = company(RoleMode::Multiple)
        .assign("alice", "admin", None)
        .declare(Change::Delete(CatalogKey::Role(id("admin"))));
    let again = EnvironmentRole {
        id: id("admin_2"),
        slug: id("admin"),
        resource_type: id("organization"),
        priority: 0,
        permissions: vec![id("org:manage")],
    };
    assert!(!acme.declare(Change::Put(CatalogRecord::Role(again))).can_organization_wide("alice", "org:manage"));
}

#[test]
fn to_move_from_one_default_role_to_another_set_the_new_one_then_delete_the_old_one() {
    let acme = company(RoleMode::Single)
        .role("guest", "organization", &["org:peek"])
        .settings(RoleMode::Single, Some("org-member"));
    let acme =
        acme.settings(RoleMode::Single, Some("guest")).declare(Change::Delete(CatalogKey::Role(id("org-member"))));
    assert!(acme.can_organization_wide("alice", "org:peek") && !acme.can_organization_wide("alice", "org:view"));
}

#[test]
fn an_organization_may_have_its_own_default_role_and_priorities() {
    let settings = |default_role: Option<&str>, priorities: &[&str]| {
        OrganizationRecord::Settings(OrganizationSettings {
            default_role: default_role.map(id),
            priorities: priorities.iter().map(id::<RoleId>).collect(),
        })
    };
    let custom = CustomRole {
        id: id("auditor"),
        slug: id("org-auditor"),
        resource_type: id("organization"),
        permissions: vec![id("org:manage")],
    };
    let acme = company(RoleMode::Single)
        .settings(RoleMode::Single, Some("org-member"))
        .put(OrganizationRecord::Role(custom))
        .put(settings(Some("auditor"), &[]));
    assert!(acme.can_organization_wide("alice", "org:manage"));
    // Of the two roles the organization prefers the lower one.
    let acme = acme
        .group("everybody", &["alice"])
        .assign("alice", "admin", None)
        .assign_group("everybody", "org-member", None)
        .put(settings(None, &["org-member", "admin"]));
    assert!(acme.can_organization_wide("alice", "org:view") && !acme.can_organization_wide("alice", "org:manage"));
    // Its own default role does not exist: none stands in, least of all a stronger one of the environment.
    let acme =
        company(RoleMode::Single).settings(RoleMode::Single, Some("admin")).put(settings(Some("unheard-of"), &[]));
    assert!(!acme.can_organization_wide("alice", "org:manage"));
}

#[test]
fn when_the_permissions_of_a_role_change_everyone_with_the_role_sees_it_at_once() {
    let acme = company(RoleMode::Single).assign("alice", "project-viewer", Some("api"));
    assert!(!acme.can("alice", "project:comment", "api"));
    let acme = acme.redefine("project-viewer", "project", 7, &["project:comment"]);
    assert!(acme.can("alice", "project:comment", "api") && !acme.can("alice", "project:view", "api"));
    let acme = acme.declare(Change::Delete(CatalogKey::Permission(id("project:comment"))));
    assert!(!acme.can("alice", "project:comment", "api"));
}

#[test]
fn a_custom_role_keeps_a_permission_that_is_declared_only_later() {
    let custom = CustomRole {
        id: id("auditor"),
        slug: id("org-auditor"),
        resource_type: id("organization"),
        permissions: vec![id("org:audit")],
    };
    let acme = company(RoleMode::Single).put(OrganizationRecord::Role(custom)).assign("alice", "auditor", None);
    assert!(!acme.can_organization_wide("alice", "org:audit"), "nobody declared it");
    // The catalog grows; the shard stays as it was built.
    let acme = acme.role("other", "organization", &["org:other", "org:audit"]);
    assert!(acme.can_organization_wide("alice", "org:audit"));
    assert!(!acme.can_organization_wide("alice", "org:other"));
}

#[test]
fn when_a_resource_is_deleted_its_assignments_are_gone() {
    let acme = company(RoleMode::Single).assign("alice", "project-editor", Some("api"));
    let acme = acme
        .unassign("alice", "project-editor", Some("api"))
        .delete(OrganizationKey::Resource(id("web")))
        .delete(OrganizationKey::Resource(id("api")));
    assert!(!acme.can("alice", "project:edit", "api"));
    let again = acme.resource("project", "api", Some("engineering"));
    assert!(!again.can("alice", "project:edit", "api"));
}

#[test]
fn when_a_membership_is_removed_or_switched_off_it_can_nothing_and_switched_on_it_can_again() {
    let acme = company(RoleMode::Single).assign("alice", "project-editor", Some("api"));
    for status in [MembershipStatus::Inactive, MembershipStatus::Pending] {
        let off = company(RoleMode::Single).assign("alice", "project-editor", Some("api")).member_with("alice", status);
        assert!(!off.can("alice", "project:edit", "api"));
        let resource = Some(ResourceRef::Id("api".into()));
        assert_eq!(
            reason(off.asks("alice", &["project:edit"], "project:edit", resource, Grants::Token)),
            Err(DenyReason::MembershipInactive)
        );
        assert!(off.member("alice").can("alice", "project:edit", "api"));
    }
    let gone = acme.delete(OrganizationKey::Member(om("alice")));
    assert!(!gone.can("alice", "project:edit", "api"));
    assert_eq!(reason(gone.asks("alice", &[], "org:view", None, Grants::Live)), Err(DenyReason::UnknownMembership));
}

#[test]
fn moving_a_resource_changes_what_it_inherits_at_once() {
    let acme = company(RoleMode::Single).assign("alice", "workspace-admin", Some("engineering"));
    assert!(acme.can("alice", "app:edit", "web"));
    let acme = acme.resource("project", "api", Some("research"));
    assert!(!acme.can("alice", "app:edit", "web") && !acme.can("alice", "project:edit", "api"));
    assert!(acme.can("alice", "project:edit", "mobile"));
}

#[test]
fn a_denial_names_the_nearest_grant_that_would_allow() {
    let acme = company(RoleMode::Single);
    let nearest = |permission: &str, resource: Option<&str>| {
        let resource = resource.map(|id| ResourceRef::Id(id.to_owned().into()));
        acme.shard
            .nearest_grant(&acme.catalog, &id(permission), resource.as_ref())
            .map(|grant: NearestGrant| grant.to_string())
    };
    assert_eq!(nearest("project:edit", Some("api")).as_deref(), Some("role `project-editor` on project:api"));
    assert_eq!(nearest("project:view", Some("web")).as_deref(), Some("role `project-viewer` on project:api"));
    assert_eq!(nearest("app:edit", Some("web")).as_deref(), Some("role `workspace-admin` on workspace:engineering"));
    assert_eq!(nearest("org:manage", None).as_deref(), Some("role `admin` on organization:org_acme"));
    assert_eq!(nearest("no:such", Some("api")), None);
}

/// For each source of `project:edit` on project api: what `grants: token`, `live` and `both` say organization-wide, and on the project, to
/// a token that claims the permission and to one that does not.
#[test]
fn what_each_source_is_worth_under_each_kind_of_grants() {
    type Source = fn(Acme) -> Acme;
    let sources: [(&str, Source, bool, bool); 8] = [
        // source, set-up, whether it counts organization-wide, whether it counts on the project
        ("nothing", |acme| acme, false, false),
        ("direct organization role", |acme| acme.assign("alice", "admin", None), true, false),
        ("group organization role", |acme| acme.group("g", &["alice"]).assign_group("g", "admin", None), true, false),
        ("default role", |acme| acme.settings(RoleMode::Multiple, Some("admin")), true, false),
        ("direct role on the project", |acme| acme.assign("alice", "project-editor", Some("api")), false, true),
        ("direct role on the workspace", |acme| acme.assign("alice", "editor", Some("engineering")), false, true),
        (
            "group role on the project",
            |acme| acme.group("g", &["alice"]).assign_group("g", "project-editor", Some("api")),
            false,
            true,
        ),
        (
            "group role on the workspace",
            |acme| acme.group("g", &["alice"]).assign_group("g", "editor", Some("engineering")),
            false,
            true,
        ),
    ];
    let project: ResourceTypeSlug = id("project");
    let organization: ResourceTypeSlug = id("organization");
    for (source, set_up, wide, on_project) in sources {
        let acme = set_up(company(RoleMode::Multiple));
        for claimed in [false, true] {
            let claims: &[&str] = if claimed { &["project:edit"] } else { &[] };
            for (grants, organization_wide) in
                [(Grants::Token, claimed), (Grants::Live, wide), (Grants::Both, claimed && wide)]
            {
                let ask = |resource| reason(acme.asks("alice", claims, "project:edit", resource, grants));
                let expected = |allowed| if allowed { Ok(()) } else { Err(DenyReason::NotGranted) };
                let api = ResourceRef::External { resource_type: &project, external_id: "api".into() };
                let whole = ResourceRef::External { resource_type: &organization, external_id: "org_acme".into() };
                let other = ResourceRef::External { resource_type: &organization, external_id: "org_other".into() };
                let case = format!("{source}, claimed: {claimed}, {grants:?}");
                assert_eq!(ask(None), expected(organization_wide), "{case}, organization-wide");
                assert_eq!(ask(Some(whole)), expected(organization_wide), "{case}, on the organization by name");
                assert_eq!(
                    ask(Some(ResourceRef::Id("authz_resource_acme".into()))),
                    expected(organization_wide),
                    "{case}, on the root"
                );
                assert_eq!(ask(Some(api)), expected(organization_wide || on_project), "{case}, on the project");
                assert_eq!(ask(Some(other)), Err(DenyReason::UnknownResource), "{case}, on another organization");
            }
        }
    }
}

#[test]
fn an_organization_wide_ask_of_the_token_needs_no_facts_and_any_other_does() {
    let (permission, permissions) = (id("project:edit"), sorted(&["project:edit"]));
    let (user, organization) = (user("alice"), acme());
    let kind: ResourceTypeSlug = id("organization");
    let caller = Caller { user: &user, organization: Some(&organization), membership: None, permissions: &permissions };
    let ask = |resource: Option<ResourceRef<'_>>, grants| {
        let scope = Scope::All([Ask { permission: &permission, resource, grants }].into_iter().collect());
        reason(decide(&Requirement { organization: None, scope }, Some(caller), Facts::Unavailable))
    };
    let root = || Some(ResourceRef::External { resource_type: &kind, external_id: "org_acme".into() });
    assert_eq!(ask(None, Grants::Token), Ok(()));
    assert_eq!(ask(root(), Grants::Token), Ok(()));
    for (resource, grants) in [
        (None, Grants::Live),
        (None, Grants::Both),
        (root(), Grants::Live),
        (Some(ResourceRef::Id("api".into())), Grants::Token),
    ] {
        assert_eq!(ask(resource, grants), Err(DenyReason::FactsUnavailable));
    }
}

#[test]
fn user_organization_and_membership_must_be_one_row() {
    let company = company(RoleMode::Multiple).assign("alice", "admin", None);
    let permission = id("org:manage");
    let ask = |user: &UserId, organization: Option<&OrganizationId>, membership: Option<&MembershipId>, known: bool| {
        let scope =
            Scope::All([Ask { permission: &permission, resource: None, grants: Grants::Live }].into_iter().collect());
        let caller = Caller { user, organization, membership, permissions: &[] };
        let facts = Facts::Known { catalog: &company.catalog, shard: known.then_some(&company.shard) };
        reason(decide(&Requirement { organization: None, scope }, Some(caller), facts))
    };
    let (alice, bob, om_alice, om_nobody, here, there) =
        (user("alice"), user("bob"), om("alice"), om("nobody"), acme(), id("org_other"));
    let mismatch = Err(DenyReason::BadToken(TokenFault::IdentityMismatch));
    assert_eq!(ask(&alice, Some(&here), Some(&om_alice), true), Ok(()));
    assert_eq!(ask(&alice, Some(&here), None, true), Ok(()), "found by user and organization");
    assert_eq!(ask(&bob, Some(&here), Some(&om_alice), true), mismatch);
    assert_eq!(
        ask(&alice, Some(&there), Some(&om_alice), true),
        mismatch,
        "facts of another organization than the token's"
    );
    assert_eq!(ask(&alice, Some(&here), Some(&om_nobody), true), Err(DenyReason::UnknownMembership));
    assert_eq!(ask(&user("nobody"), Some(&here), None, true), Err(DenyReason::UnknownMembership));
    assert_eq!(ask(&alice, Some(&here), Some(&om_alice), false), Err(DenyReason::UnknownMembership));
    assert_eq!(ask(&alice, None, Some(&om_alice), true), Err(DenyReason::BadToken(TokenFault::MissingClaim)));
}

#[test]
fn basis_says_whether_the_claim_the_facts_or_both_were_needed() {
    let acme = company(RoleMode::Multiple).assign("alice", "admin", None);
    let basis = |claims: &[&str], grants| match acme.asks("alice", claims, "org:manage", None, grants) {
        Decision::Allow(permit) => match permit.grounds() {
            Grounds::Granted(basis) => *basis,
            other => panic!("{other:?}"),
        },
        Decision::Deny(denial) => panic!("{denial:?}"),
    };
    assert_eq!(basis(&["org:manage"], Grants::Token), Basis::Claim);
    assert!(matches!(basis(&[], Grants::Live), Basis::Grant(_)));
    assert!(matches!(basis(&["org:manage"], Grants::Both), Basis::Both(_)));
    let words = acme.shard.describe(&acme.catalog, &basis(&[], Grants::Live)).to_string();
    assert_eq!(
        words,
        "role `admin` on organization:org_acme, assigned to the membership (`role_assignment_alice_admin`)"
    );
}
