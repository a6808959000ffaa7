//! Role assignments of memberships, as clients see them (WorkOS contract, section 1.5).

use serde_json::json;

use crate::support::{Running, on_every_engine};

fn of(membership: &str) -> String {
    format!("/authorization/organization_memberships/{membership}/role_assignments")
}

struct Company {
    org: String,
    root: String,
    ada: String,
    workspace: String,
    project: String,
}

async fn company(store: &Running, role_mode: &str) -> Company {
    store.usual_model(role_mode).await;
    let org = store.organization("Acme").await;
    let ada = store.member(&org, "ada").await;
    let workspace = store.resource(&org, "workspace", "w1", None).await;
    let project = store.resource(&org, "project", "p1", Some(&workspace)).await;
    Company { root: store.root(&org).await, org, ada, workspace, project }
}

#[test]
fn a_role_is_assigned_listed_and_removed() {
    on_every_engine(async |store| {
        let Company { org, ada, project, workspace, .. } = company(store, "multiple").await;
        let named =
            json!({"role_slug": "project-editor", "resource_external_id": "p1", "resource_type_slug": "project"});
        let assigned = store.post(&of(&ada), named.clone()).await.is(201);
        assert_eq!(assigned["object"], "role_assignment");
        assert_eq!(assigned["organization_membership_id"], json!(ada));
        assert_eq!(assigned["role"], json!({"slug": "project-editor"}));
        let on = json!({"id": project, "external_id": "p1", "resource_type_slug": "project"});
        assert_eq!(assigned["resource"], on);
        let direct = json!({"type": "direct", "group_role_assignment_id": null, "group": null});
        assert_eq!(assigned["source"], direct, "nullable keys are there");
        assert!(store.may(&ada, "project:edit", &project).await);
        let by_id = format!("/authorization/resources/{project}/role_assignments");
        assert_eq!(store.get(&by_id).await.is(200)["data"], json!([assigned]));
        let by_name = format!("/authorization/organizations/{org}/resources/project/p1/role_assignments");
        assert_eq!(store.get(&by_name).await.is(200)["data"], json!([assigned]));
        assert!(store.get(&format!("{by_id}?role_slug=project-viewer")).await.listed("/id").is_empty());
        assert_eq!(store.get(&format!("{by_id}?role_slug=project-editor")).await.listed("/id").len(), 1);
        store.delete_with(&of(&ada), named.clone()).await.is(204);
        assert!(!store.may(&ada, "project:edit", &project).await);
        store.delete_with(&of(&ada), named).await.is_error(404, "entity_not_found");
        let again = store.assign(&ada, "workspace-admin", &workspace).await;
        let bob = store.member(&org, "bob").await;
        store.delete(&format!("{}/{again}", of(&bob))).await.is_error(404, "entity_not_found");
        store.delete(&format!("{}/{again}", of(&ada))).await.is(204);
        store.delete(&format!("{}/{again}", of(&ada))).await.is_error(404, "entity_not_found");
    });
}

/// D5: the same again is the same assignment, and no new revision.
#[test]
fn assigning_twice_is_assigning_once() {
    on_every_engine(async |store| {
        let Company { ada, project, .. } = company(store, "multiple").await;
        let body = json!({"role_slug": "project-editor", "resource_id": project});
        let first = store.post(&of(&ada), body.clone()).await;
        let again = store.post(&of(&ada), body).await;
        assert_eq!(first.revision(), again.revision());
        assert_eq!(first.is(201), again.is(201));
    });
}

/// R14, D9: a role is assigned on resources of its own type only.
#[test]
fn a_role_fits_resources_of_its_type() {
    on_every_engine(async |store| {
        let Company { ada, project, workspace, root, .. } = company(store, "multiple").await;
        for (role, resource) in [("project-editor", &workspace), ("project-editor", &root), ("admin", &project)] {
            let body = json!({"role_slug": role, "resource_id": resource});
            store.post(&of(&ada), body).await.is_error(422, "invalid_role_scope");
        }
    });
}

/// Rule T: exactly one way of naming the resource.
#[test]
fn the_resource_is_named_in_exactly_one_way() {
    on_every_engine(async |store| {
        let Company { ada, project, .. } = company(store, "multiple").await;
        for target in [
            json!({}),
            json!({"resource_external_id": "p1"}),
            json!({"resource_type_slug": "project"}),
            json!({"resource_id": project, "resource_external_id": "p1", "resource_type_slug": "project"}),
            json!({"resource_id": project, "resource_type_slug": "project"}),
        ] {
            let mut body = target;
            body["role_slug"] = json!("project-editor");
            store.post(&of(&ada), body.clone()).await.is_error(422, "invalid_resource_target");
            store.delete_with(&of(&ada), body).await.is_error(422, "invalid_resource_target");
        }
    });
}

/// R8: nothing of another organization is found.
#[test]
fn other_organizations_are_not_found() {
    on_every_engine(async |store| {
        let Company { ada, project, .. } = company(store, "multiple").await;
        let other = store.organization("Other").await;
        let elsewhere = store.resource(&other, "project", "p9", None).await;
        let not_found = "entity_not_found";
        let body = json!({"role_slug": "project-editor", "resource_id": elsewhere});
        store.post(&of(&ada), body).await.is_error(404, not_found);
        let body = json!({"role_slug": "no-such-role", "resource_id": project});
        store.post(&of(&ada), body).await.is_error(404, not_found);
        let body = json!({"role_slug": "project-editor", "resource_id": project});
        store.post(&of("om_nobody"), body).await.is_error(404, not_found);
        store.get(&of("om_nobody")).await.is_error(404, not_found);
    });
}

/// R19, D18: in single-role mode a second organization role takes the place of the first, in one transaction.
#[test]
fn in_single_role_mode_a_second_organization_role_replaces_the_first() {
    on_every_engine(async |store| {
        let Company { ada, root, project, .. } = company(store, "single").await;
        store.assign(&ada, "billing-admin", &root).await;
        assert_eq!(store.roles(&ada).await, ["billing-admin"]);
        store.assign(&ada, "admin", &root).await;
        assert_eq!(store.roles(&ada).await, ["admin"]);
        let on_root = store.get(&format!("{}?resource_type_slug=organization", of(&ada))).await;
        assert_eq!(on_root.listed("/role/slug"), ["admin"]);
        // R19: roles on resources are always many.
        store.assign(&ada, "project-viewer", &project).await;
        store.assign(&ada, "project-editor", &project).await;
        assert_eq!(store.get(&format!("{}?resource_id={project}", of(&ada))).await.listed("/id").len(), 2);
    });
}

/// R16: where no organization role is left, the default role stands in.
#[test]
fn the_default_role_stands_in_for_a_removed_one() {
    on_every_engine(async |store| {
        let Company { ada, root, .. } = company(store, "multiple").await;
        store.assign(&ada, "billing-admin", &root).await;
        store.assign(&ada, "admin", &root).await;
        for role in ["member", "billing-admin", "admin"] {
            let body = json!({"role_slug": role, "resource_id": root});
            store.delete_with(&of(&ada), body).await.is(204);
        }
        assert_eq!(store.roles(&ada).await, ["member"]);
        // It stands in without an assignment, so there is none to remove.
        let body = json!({"role_slug": "member", "resource_id": root});
        store.delete_with(&of(&ada), body).await.is_error(404, "entity_not_found");
        assert_eq!(store.roles(&ada).await, ["member"]);
    });
}

/// R30: what comes through a group is listed with its source. D6: it cannot be removed here.
#[test]
fn roles_through_groups_are_listed_and_stay_with_the_group() {
    on_every_engine(async |store| {
        let Company { org, ada, project, root, .. } = company(store, "multiple").await;
        let group = store.group(&org, "eng", &[&ada]).await;
        let on_project = store.assign_group(&group, "project-editor", Some(&project)).await;
        store.assign_group(&group, "billing-admin", None).await;
        let all = store.get(&format!("{}?limit=100", of(&ada))).await.is(200);
        let through: Vec<_> =
            all["data"].as_array().into_iter().flatten().filter(|row| row["source"]["type"] == "group").collect();
        assert_eq!(through.len(), 2, "{all}");
        let listed = store.get(&format!("{}?resource_external_id=p1", of(&ada))).await.is(200);
        let row = &listed["data"][0];
        assert_eq!(row["source"]["group_role_assignment_id"], json!(on_project));
        assert_eq!(row["source"]["group"], json!({"id": group, "name": "eng"}));
        let expected =
            format!("role_assignment_{}_{}", on_project.trim_start_matches("gra_"), ada.trim_start_matches("om_"));
        assert_eq!(row["id"], json!(expected));
        let on = store.get(&format!("/authorization/resources/{project}/role_assignments")).await.is(200);
        assert_eq!(on["data"], json!([row]));
        let refused = "group_sourced_role_assignment";
        store.delete(&format!("{}/{expected}", of(&ada))).await.is_error(422, refused);
        let body = json!({"role_slug": "project-editor", "resource_id": project});
        store.delete_with(&of(&ada), body.clone()).await.is_error(422, refused);
        // Held in both ways, the direct one goes and the other stays.
        store.assign(&ada, "project-editor", &project).await;
        store.delete_with(&of(&ada), body).await.is(204);
        assert!(store.may(&ada, "project:edit", &project).await);
        let on_root = format!("/authorization/resources/{root}/role_assignments?role_slug=billing-admin");
        assert_eq!(store.get(&on_root).await.listed("/source/type"), ["group"]);
    });
}

#[test]
fn direct_and_derived_assignments_share_their_pages() {
    on_every_engine(async |store| {
        let Company { org, ada, .. } = company(store, "multiple").await;
        let group = store.group(&org, "eng", &[&ada]).await;
        for number in 0..4 {
            let project = store.resource(&org, "project", &format!("q{number}"), None).await;
            store.assign(&ada, "project-viewer", &project).await;
            store.assign_group(&group, "project-editor", Some(&project)).await;
        }
        let whole = store.get(&format!("{}?limit=100&order=asc", of(&ada))).await.listed("/id");
        let mut paged = Vec::new();
        let mut after = String::new();
        loop {
            let page = store.get(&format!("{}?limit=3&order=asc{after}", of(&ada))).await.is(200);
            for row in page["data"].as_array().into_iter().flatten() {
                paged.push(row["id"].as_str().unwrap_or_default().to_owned());
            }
            let Some(last) = page["list_metadata"]["after"].as_str() else { break };
            after = format!("&after={last}");
        }
        assert_eq!(paged, whole);
        assert!(whole.len() >= 8, "{whole:?}");
    });
}

/// Our decision D17: a slug is looked up once; assignments and the log have the id, so that another slug changes nothing.
#[test]
fn d17_a_role_that_is_renamed_is_the_same_role() {
    on_every_engine(async |store| {
        let Company { ada, project, .. } = company(store, "multiple").await;
        store.assign(&ada, "project-editor", &project).await;
        let mut model = store.get("/portcullis/v1/model").await.is(200);
        let role = model["roles"].as_array_mut().unwrap().iter_mut().find(|role| role["slug"] == "project-editor");
        let role = role.unwrap();
        role["slug"] = json!("project-writer");
        let role = role["id"].as_str().unwrap().to_owned();
        store.put("/portcullis/v1/model", model).await.is(200);
        assert!(store.may(&ada, "project:edit", &project).await);
        let held = store.get(&format!("{}?resource_id={project}", of(&ada))).await;
        assert_eq!(held.listed("/role/slug"), ["project-writer"]);
        let pool = sqlx::AnyPool::connect(&store.database).await.unwrap();
        let rows = sqlx::query("SELECT parts FROM changes ORDER BY seq").fetch_all(&pool).await.unwrap();
        let parts: Vec<String> = rows.iter().map(|row| sqlx::Row::get(row, "parts")).collect();
        pool.close().await;
        let assigned: Vec<_> = parts.iter().filter(|parts| parts.contains(&project) && parts.contains(&ada)).collect();
        assert_eq!(assigned.len(), 1, "{parts:?}");
        assert!(assigned[0].contains(&role) && !assigned[0].contains("project-editor"), "{assigned:?}");
    });
}

/// R9, R24: what a custom role permits counts at once, and another organization does not see the role.
#[test]
fn a_role_is_looked_up_once_when_it_is_assigned() {
    on_every_engine(async |store| {
        let Company { org, ada, project, .. } = company(store, "multiple").await;
        let roles = format!("/authorization/organizations/{org}/roles");
        let new = json!({"slug": "org-editor", "name": "Editor", "resource_type_slug": "project"});
        store.post(&roles, new).await.is(201);
        store.put(&format!("{roles}/org-editor/permissions"), json!({"permissions": ["project:edit"]})).await.is(200);
        store.assign(&ada, "org-editor", &project).await;
        assert!(store.may(&ada, "project:edit", &project).await);
        store.put(&format!("{roles}/org-editor/permissions"), json!({"permissions": []})).await.is(200);
        assert!(!store.may(&ada, "project:edit", &project).await, "R9: at once");
        let other = store.organization("Other").await;
        let bob = store.member(&other, "bob").await;
        let elsewhere = store.resource(&other, "project", "p1", None).await;
        let body = json!({"role_slug": "org-editor", "resource_id": elsewhere});
        store.post(&of(&bob), body).await.is_error(404, "entity_not_found");
    });
}
