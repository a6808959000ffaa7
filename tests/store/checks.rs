//! Checks and discovery, as clients see them (WorkOS contract, section 1.7).

use serde_json::json;

use crate::support::{READER, Running, on_every_engine};

struct Company {
    org: String,
    root: String,
    ada: String,
    bob: String,
    workspace: String,
    project: String,
    app: String,
}

async fn company(store: &Running, role_mode: &str) -> Company {
    store.usual_model(role_mode).await;
    let org = store.organization("Acme").await;
    let (ada, bob) = (store.member(&org, "ada").await, store.member(&org, "bob").await);
    let workspace = store.resource(&org, "workspace", "w1", None).await;
    let project = store.resource(&org, "project", "p1", Some(&workspace)).await;
    let app = store.resource(&org, "app", "a1", Some(&project)).await;
    Company { root: store.root(&org).await, org, ada, bob, workspace, project, app }
}

fn check(membership: &str) -> String {
    format!("/authorization/organization_memberships/{membership}/check")
}

/// R2, R3, R5, R6: a role counts on its resource and below, whatever the permission's type, and never above or beside.
#[test]
fn roles_count_where_they_are_held_and_below() {
    on_every_engine(async |store| {
        let Company { org, ada, bob, workspace, project, app, root } = company(store, "multiple").await;
        let beside = store.resource(&org, "project", "p2", Some(&workspace)).await;
        store.assign(&ada, "project-editor", &project).await;
        assert!(store.may(&ada, "project:edit", &project).await);
        assert!(store.may(&ada, "project:edit", &app).await);
        assert!(!store.may(&ada, "project:edit", &workspace).await);
        assert!(!store.may(&ada, "project:edit", &beside).await);
        assert!(!store.may(&ada, "project:edit", &root).await);
        assert!(!store.may(&bob, "project:edit", &project).await);
        // An organization role is a role on the root.
        store.assign(&bob, "admin", &root).await;
        assert!(store.may(&bob, "project:edit", &beside).await);
    });
}

/// R1: the subject is a membership. The user behind it, who may be in several organizations, is not.
#[test]
fn a_user_is_no_subject() {
    on_every_engine(async |store| {
        let Company { ada, project, .. } = company(store, "multiple").await;
        store.assign(&ada, "project-editor", &project).await;
        let membership = store.get(&format!("/user_management/organization_memberships/{ada}")).await.is(200);
        let user = membership["user_id"].as_str().unwrap();
        let body = json!({"permission_slug": "project:edit", "resource_id": project});
        store.post(&check(user), body).await.is_error(404, "entity_not_found");
    });
}

/// R7: roles only add; one with less takes nothing from one with more, wherever it is held.
#[test]
fn roles_take_nothing_away() {
    on_every_engine(async |store| {
        let Company { org, ada, workspace, project, .. } = company(store, "multiple").await;
        store.assign(&ada, "workspace-admin", &workspace).await;
        assert!(store.may(&ada, "project:edit", &project).await);
        store.assign(&ada, "project-viewer", &project).await;
        let group = store.group(&org, "viewers", &[&ada]).await;
        store.assign_group(&group, "project-viewer", Some(&project)).await;
        assert!(store.may(&ada, "project:edit", &project).await);
        assert!(store.may(&ada, "project:view", &project).await);
    });
}

/// Rule T, D10 (a permission that nobody declared is not granted), and what is not there.
#[test]
fn the_question_has_to_make_sense() {
    on_every_engine(async |store| {
        let Company { org, ada, project, .. } = company(store, "multiple").await;
        store.assign(&ada, "project-editor", &project).await;
        let named =
            json!({"permission_slug": "project:edit", "resource_type_slug": "project", "resource_external_id": "p1"});
        assert_eq!(store.post(&check(&ada), named).await.is(200), json!({"authorized": true}));
        let wide = json!({"permission_slug": "project:edit", "resource_type_slug": "organization", "resource_external_id": org});
        assert_eq!(store.post(&check(&ada), wide).await.is(200), json!({"authorized": false}));
        for target in [json!({}), json!({"resource_external_id": "p1"}), json!({"resource_type_slug": "project"})] {
            let mut body = target;
            body["permission_slug"] = json!("project:edit");
            store.post(&check(&ada), body).await.is_error(422, "invalid_resource_target");
        }
        // One way to name the resource, not two.
        let both = json!({"permission_slug": "project:edit", "resource_id": project, "resource_external_id": "p1",
                          "resource_type_slug": "project"});
        store.post(&check(&ada), both).await.is_error(422, "invalid_resource_target");
        store.post(&check(&ada), json!({"resource_id": project})).await.is_error(422, "invalid_request_parameters");
        let body = json!({"permission_slug": "project:edit", "resource_id": project});
        store.post(&check("om_nobody"), body).await.is_error(404, "entity_not_found");
        let other = store.organization("Other").await;
        let elsewhere = store.resource(&other, "project", "p1", None).await;
        for resource in ["authz_resource_nothing", &elsewhere] {
            let body = json!({"permission_slug": "project:edit", "resource_id": resource});
            store.post(&check(&ada), body).await.is_error(404, "entity_not_found");
        }
        let body = json!({"permission_slug": "nobody:knows", "resource_id": project});
        assert_eq!(store.post(&check(&ada), body).await.is(200), json!({"authorized": false}));
        let reader = format!("Bearer {READER}");
        let reader = [("authorization", reader.as_str())];
        let body = Some(json!({"permission_slug": "project:edit", "resource_id": project}));
        assert!(store.send("POST", &check(&ada), body, &reader).await.is(200)["authorized"] == true);
    });
}

/// What was answered before is forgotten with what it was about.
#[test]
fn a_question_about_what_is_gone_has_no_answer() {
    on_every_engine(async |store| {
        let Company { org, ada, workspace, .. } = company(store, "multiple").await;
        let other = store.resource(&org, "project", "p2", Some(&workspace)).await;
        store.assign(&ada, "project-editor", &other).await;
        let by_id = json!({"permission_slug": "project:edit", "resource_id": other});
        let named =
            json!({"permission_slug": "project:edit", "resource_type_slug": "project", "resource_external_id": "p2"});
        for body in [&by_id, &named, &by_id, &named] {
            assert_eq!(store.post(&check(&ada), body.clone()).await.is(200), json!({"authorized": true}));
        }
        store.delete(&format!("/authorization/resources/{other}?cascade_delete=true")).await.is(204);
        for body in [&by_id, &named] {
            store.post(&check(&ada), body.clone()).await.is_error(404, "entity_not_found");
        }
        store.resource(&org, "project", "p2", Some(&workspace)).await;
        assert_eq!(store.post(&check(&ada), named.clone()).await.is(200), json!({"authorized": false}));
        store.delete(&format!("/user_management/organization_memberships/{ada}")).await.is(200);
        store.post(&check(&ada), named).await.is_error(404, "entity_not_found");
    });
}

/// R11, D4: only an active membership is authorized; its rows are kept.
#[test]
fn an_inactive_membership_is_not_authorized() {
    on_every_engine(async |store| {
        let Company { ada, project, .. } = company(store, "multiple").await;
        store.assign(&ada, "project-editor", &project).await;
        let membership = format!("/user_management/organization_memberships/{ada}");
        store.put(&format!("{membership}/deactivate"), json!({})).await.is(200);
        assert!(!store.may(&ada, "project:edit", &project).await);
        let permissions = format!("/authorization/organization_memberships/{ada}/resources/{project}/permissions");
        assert!(store.get(&permissions).await.listed("/slug").is_empty());
        store.put(&format!("{membership}/reactivate"), json!({})).await.is(200);
        assert!(store.may(&ada, "project:edit", &project).await);
    });
}

/// R42: effective permissions are exactly what would pass a check, on every path.
#[test]
fn effective_permissions_are_what_a_check_finds() {
    on_every_engine(async |store| {
        let Company { ada, workspace, project, root, .. } = company(store, "multiple").await;
        store.assign(&ada, "workspace-admin", &workspace).await;
        store.assign(&ada, "billing-admin", &root).await;
        let of = format!("/authorization/organization_memberships/{ada}/resources");
        for path in [
            format!("{of}/{project}/permissions"),
            format!("{of}/project/p1/permissions"),
            format!("/authorization/resources/{project}/organization_memberships/{ada}/permissions"),
        ] {
            let mut slugs = store.get(&format!("{path}?limit=100")).await.listed("/slug");
            slugs.sort_unstable();
            let expected = ["app:edit", "billing:manage", "project:edit", "project:view", "workspace:edit"];
            assert_eq!(slugs, expected, "{path}");
            for slug in ["org:manage", "app:edit", "billing:manage", "workspace:edit"] {
                let found = slugs.iter().any(|other| other == slug);
                assert_eq!(store.may(&ada, slug, &project).await, found, "{slug}");
            }
            let first = store.get(&format!("{path}?limit=2")).await.is(200);
            assert_eq!(first["data"][0]["object"], "permission");
            let after = first["list_metadata"]["after"].as_str().unwrap_or_default().to_owned();
            let rest = store.get(&format!("{path}?limit=100&after={after}")).await.listed("/slug");
            assert_eq!(rest.len(), 3);
        }
        store.get(&format!("{of}/authz_resource_nothing/permissions")).await.is_error(404, "entity_not_found");
        let nobody = format!("/authorization/organization_memberships/om_nobody/resources/{project}/permissions");
        store.get(&nobody).await.is_error(404, "entity_not_found");
    });
}

/// R43, D3: direct children of the parent for which a check is true.
#[test]
fn discovery_lists_direct_children() {
    on_every_engine(async |store| {
        let Company { org, ada, bob, workspace, project, app, root } = company(store, "multiple").await;
        store.resource(&org, "project", "p2", Some(&workspace)).await;
        store.assign(&ada, "project-editor", &project).await;
        store.assign(&bob, "admin", &root).await;
        let list = async |who: &str, permission: &str, parent: &str| {
            let path = format!("/authorization/organization_memberships/{who}/resources");
            store.get(&format!("{path}?permission_slug={permission}&{parent}&order=asc")).await.listed("/external_id")
        };
        let below = format!("parent_resource_id={workspace}");
        assert_eq!(list(&ada, "project:edit", &below).await, ["p1"]);
        let named = "parent_resource_type_slug=workspace&parent_resource_external_id=w1";
        assert_eq!(list(&ada, "project%3Aedit", named).await, ["p1"]);
        assert_eq!(list(&bob, "project:edit", &below).await, ["p1", "p2"]);
        assert_eq!(list(&bob, "project:edit", &format!("parent_resource_id={root}")).await, ["w1"]);
        assert_eq!(list(&ada, "project:edit", &format!("parent_resource_id={project}")).await, ["a1"]);
        assert_eq!(list(&ada, "nobody:knows", &below).await, [""; 0]);
        let path = format!("/authorization/organization_memberships/{ada}/resources");
        let found = store.get(&format!("{path}?permission_slug=project:edit&parent_resource_id={project}")).await;
        assert_eq!(found.is(200)["data"][0], store.get(&format!("/authorization/resources/{app}")).await.is(200));
        let path = format!("{path}?permission_slug=project:edit");
        store.get(&path).await.is_error(422, "invalid_parent_resource");
        store.get(&format!("{path}&{below}&{named}")).await.is_error(422, "invalid_parent_resource");
        store.get(&format!("{path}&parent_resource_id=authz_resource_x")).await.is_error(404, "entity_not_found");
    });
}

/// R44: direct = by an assignment on this very resource, to the membership or a group; indirect = in any way.
#[test]
fn memberships_for_a_resource_are_direct_or_all() {
    on_every_engine(async |store| {
        let Company { org, ada, bob, workspace, project, root, .. } = company(store, "multiple").await;
        let (eve, zoe) = (store.member(&org, "eve").await, store.member(&org, "zoe").await);
        let group = store.group(&org, "eng", &[&zoe]).await;
        store.assign(&ada, "project-editor", &project).await;
        store.assign(&bob, "workspace-admin", &workspace).await;
        store.assign(&eve, "admin", &root).await;
        store.assign_group(&group, "project-viewer", Some(&project)).await;
        for path in [
            format!("/authorization/resources/{project}/organization_memberships"),
            format!("/authorization/organizations/{org}/resources/project/p1/organization_memberships"),
        ] {
            let list = async |query: &str| store.get(&format!("{path}?order=asc&permission_slug={query}")).await;
            assert_eq!(list("project:view").await.listed("/id"), [ada.as_str(), &zoe]);
            assert_eq!(list("project:view&assignment=direct").await.listed("/id"), [ada.as_str(), &zoe]);
            let all = list("project:view&assignment=indirect").await;
            assert_eq!(all.listed("/id"), [ada.as_str(), &bob, &eve, &zoe]);
            assert_eq!(list("project:edit&assignment=indirect").await.listed("/id"), [ada.as_str(), &bob, &eve]);
            list("project:view&assignment=odd").await.is_error(422, "invalid_request_parameters");
            let row = list("project:view&limit=1").await.is(200);
            let row = &row["data"][0];
            assert_eq!(
                (&row["object"], &row["user"]["email"]),
                (&json!("organization_membership"), &json!("ada@example.com"))
            );
            assert!(row.get("role").is_none() && row.get("roles").is_none(), "{row}");
        }
        let nothing = "/authorization/resources/authz_resource_x/organization_memberships?permission_slug=project:view";
        store.get(nothing).await.is_error(404, "entity_not_found");
    });
}
