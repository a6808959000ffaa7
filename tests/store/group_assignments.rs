//! Role assignments of groups, as clients see them (WorkOS contract, section 1.6).

use serde_json::{Value, json};

use crate::support::{Running, on_every_engine};

fn of(group: &str) -> String {
    format!("/authorization/groups/{group}/role_assignments")
}

struct Company {
    org: String,
    root: String,
    ada: String,
    eng: String,
    project: String,
}

async fn company(store: &Running, role_mode: &str) -> Company {
    store.usual_model(role_mode).await;
    let org = store.organization("Acme").await;
    let ada = store.member(&org, "ada").await;
    let eng = store.group(&org, "eng", &[&ada]).await;
    let project = store.resource(&org, "project", "p1", None).await;
    Company { root: store.root(&org).await, org, ada, eng, project }
}

/// R29, D11: a group has a role once, organization-wide without a resource, and its members have it at once.
#[test]
fn a_group_is_given_a_role_once_and_loses_it() {
    on_every_engine(async |store| {
        let Company { ada, eng, project, root, .. } = company(store, "multiple").await;
        let body = json!({"role_slug": "project-editor", "resource_id": project});
        let given = store.post(&of(&eng), body.clone()).await.is(201);
        let id = given["id"].as_str().unwrap_or_default().to_owned();
        assert!(id.starts_with("gra_"), "{id}");
        assert_eq!((&given["object"], &given["group_id"]), (&json!("group_role_assignment"), &json!(eng)));
        assert_eq!(given["role"], json!({"slug": "project-editor"}));
        assert_eq!(given["resource"]["external_id"], "p1");
        store.post(&of(&eng), body.clone()).await.is_error(409, "duplicate_group_role_assignment");
        assert_eq!(store.get(&format!("{}/{id}", of(&eng))).await.is(200), given);
        assert!(store.may(&ada, "project:edit", &project).await, "D11: at once");
        // Without a resource it is organization-wide.
        let wide = store.post(&of(&eng), json!({"role_slug": "admin"})).await.is(201);
        assert_eq!(wide["resource"]["id"], json!(root));
        let on_root = json!({"role_slug": "admin", "resource_id": root});
        store.post(&of(&eng), on_root).await.is_error(409, "duplicate_group_role_assignment");
        assert_eq!(store.get(&of(&eng)).await.listed("/role/slug"), ["admin", "project-editor"]);
        store.delete_with(&of(&eng), json!({"role_slug": "admin"})).await.is(204);
        store.delete_with(&of(&eng), json!({"role_slug": "admin"})).await.is_error(404, "entity_not_found");
        store.delete(&format!("{}/{id}", of(&eng))).await.is(204);
        store.delete(&format!("{}/{id}", of(&eng))).await.is_error(404, "entity_not_found");
        store.get(&format!("{}/{id}", of(&eng))).await.is_error(404, "entity_not_found");
        assert!(!store.may(&ada, "project:edit", &project).await);
    });
}

/// R14, R8, rule T.
#[test]
fn what_does_not_fit_is_refused() {
    on_every_engine(async |store| {
        let Company { eng, project, .. } = company(store, "multiple").await;
        let other = store.organization("Other").await;
        let elsewhere = store.resource(&other, "project", "p9", None).await;
        for (body, status, code) in [
            (json!({"role_slug": "admin", "resource_id": project}), 422, "invalid_role_scope"),
            (json!({"role_slug": "project-editor"}), 422, "invalid_role_scope"),
            (json!({"role_slug": "project-editor", "resource_id": elsewhere}), 404, "entity_not_found"),
            (json!({"role_slug": "nothing"}), 404, "entity_not_found"),
            (json!({"role_slug": "admin", "resource_type_slug": "project"}), 422, "invalid_resource_target"),
            (
                json!({"role_slug": "project-editor", "resource_id": project, "resource_type_slug": "project",
                       "resource_external_id": "p1"}),
                422,
                "invalid_resource_target",
            ),
            (json!({}), 422, "invalid_request_parameters"),
        ] {
            store.post(&of(&eng), body.clone()).await.is_error(status, code);
            let answer = store.put(&of(&eng), json!({"role_assignments": [body]})).await;
            assert_eq!(answer.body["code"], code, "{answer:?}");
            assert_eq!(answer.status, status, "{answer:?}");
        }
        assert!(store.get(&of(&eng)).await.listed("/id").is_empty());
        store.get(&of("group_nobody")).await.is_error(404, "entity_not_found");
        store.post(&of("group_nobody"), json!({"role_slug": "admin"})).await.is_error(404, "entity_not_found");
    });
}

#[test]
fn replacing_keeps_what_stays() {
    on_every_engine(async |store| {
        let Company { ada, eng, project, .. } = company(store, "multiple").await;
        let kept = store.assign_group(&eng, "project-viewer", Some(&project)).await;
        store.assign_group(&eng, "billing-admin", None).await;
        let by_name =
            json!({"role_slug": "project-viewer", "resource_external_id": "p1", "resource_type_slug": "project"});
        let all = json!({"role_assignments": [by_name.clone(), {"role_slug": "admin"}, by_name]});
        let replaced = store.put(&of(&eng), all.clone()).await;
        let revision = replaced.revision();
        let replaced = replaced.is(200);
        assert_eq!(replaced["object"], "list");
        let rows = replaced["data"].as_array().cloned().unwrap_or_default();
        let slugs: Vec<&Value> = rows.iter().map(|row| &row["role"]["slug"]).collect();
        assert_eq!(slugs, [&json!("admin"), &json!("project-viewer")]);
        assert_eq!(rows[1]["id"], json!(kept));
        assert_eq!(store.put(&of(&eng), all).await.revision(), revision, "nothing changed");
        assert!(
            store
                .may(&ada, "org:manage", &store.root(rows[0]["resource"]["external_id"].as_str().unwrap()).await)
                .await
        );
        store.put(&of(&eng), json!({"role_assignments": []})).await.is(200);
        assert!(store.get(&of(&eng)).await.listed("/id").is_empty());
        let many = vec![json!({"role_slug": "admin"}); 101];
        store.put(&of(&eng), json!({"role_assignments": many})).await.is_error(422, "too_long");
        store.put(&of(&eng), json!({})).await.is_error(422, "invalid_request_parameters");
    });
}

/// D16: the PATCH of the Python client.
#[test]
fn adjusting_skips_what_is_so_already() {
    on_every_engine(async |store| {
        let Company { eng, project, .. } = company(store, "multiple").await;
        let viewer = json!({"role_slug": "project-viewer", "resource_id": project});
        let by_name =
            json!({"role_slug": "project-viewer", "resource_external_id": "p1", "resource_type_slug": "project"});
        let admin = json!({"role_slug": "admin"});
        let first = store.patch(&of(&eng), json!({"add": [viewer, admin]})).await;
        let revision = first.revision();
        first.is(204);
        let same = json!({"add": [viewer, admin], "remove": [{"role_slug": "billing-admin"}]});
        assert_eq!(store.patch(&of(&eng), same).await.revision(), revision, "nothing changed");
        let both = json!({"add": [viewer], "remove": [by_name]});
        store.patch(&of(&eng), both).await.is_error(422, "conflicting_entries");
        store.patch(&of(&eng), json!({"remove": [viewer], "add": [{"role_slug": "billing-admin"}]})).await.is(204);
        assert_eq!(store.get(&of(&eng)).await.listed("/role/slug"), ["billing-admin", "admin"]);
        store.patch(&of(&eng), json!({})).await.is_error(422, "empty");
        let many = vec![admin.clone(); 60];
        store.patch(&of(&eng), json!({"add": many, "remove": many})).await.is_error(422, "too_long");
        // All or nothing.
        let spoilt = json!({"remove": [admin], "add": [{"role_slug": "nothing"}]});
        store.patch(&of(&eng), spoilt).await.is_error(404, "entity_not_found");
        assert_eq!(store.get(&of(&eng)).await.listed("/role/slug"), ["billing-admin", "admin"]);
    });
}

/// R32: in multiple-roles mode the union, in single-role mode the highest priority.
#[test]
fn organization_roles_of_all_sources_come_together() {
    on_every_engine(async |store| {
        let Company { ada, eng, root, .. } = company(store, "multiple").await;
        store.assign(&ada, "billing-admin", &root).await;
        store.assign_group(&eng, "admin", None).await;
        let roles = store.roles(&ada).await;
        assert!(roles.starts_with(&["admin".to_owned(), "billing-admin".to_owned()]), "{roles:?}");
    });
    on_every_engine(async |store| {
        let Company { ada, eng, root, .. } = company(store, "single").await;
        store.assign(&ada, "billing-admin", &root).await;
        store.assign_group(&eng, "admin", None).await;
        assert_eq!(store.roles(&ada).await, ["admin"]);
    });
}

/// R33, D1: who loses the organization role in effect falls back to the default role, not to the direct role of before.
#[test]
fn in_single_role_mode_losing_the_role_in_effect_resets_to_the_default() {
    for way in 0..4 {
        on_every_engine(async |store| {
            let Company { ada, eng, root, project, .. } = company(store, "single").await;
            store.assign(&ada, "billing-admin", &root).await;
            store.assign(&ada, "project-editor", &project).await;
            let given = store.assign_group(&eng, "admin", None).await;
            assert_eq!(store.roles(&ada).await, ["admin"]);
            let path = of(&eng);
            match way {
                0 => store.delete(&format!("{path}/{given}")).await.is(204),
                1 => store.delete_with(&path, json!({"role_slug": "admin"})).await.is(204),
                2 => store.put(&path, json!({"role_assignments": []})).await.is(200),
                _ => store.patch(&path, json!({"remove": [{"role_slug": "admin"}]})).await.is(204),
            };
            assert_eq!(store.roles(&ada).await, ["member"], "way {way}");
            assert!(store.may(&ada, "project:edit", &project).await, "roles on resources are never touched");
        });
    }
}

/// D1: a role that was not in effect, or that another source gives, is lost without consequences.
#[test]
fn in_single_role_mode_losing_another_role_changes_nothing() {
    on_every_engine(async |store| {
        let Company { org, ada, eng, root, .. } = company(store, "single").await;
        store.assign(&ada, "admin", &root).await;
        store.assign_group(&eng, "billing-admin", None).await;
        store.delete_with(&of(&eng), json!({"role_slug": "billing-admin"})).await.is(204);
        assert_eq!(store.roles(&ada).await, ["admin"], "the direct role was in effect");
        store.assign_group(&eng, "admin", None).await;
        store.delete_with(&of(&eng), json!({"role_slug": "admin"})).await.is(204);
        assert_eq!(store.roles(&ada).await, ["admin"], "the direct role gives it too");
        let ops = store.group(&org, "ops", &[&ada]).await;
        store.assign(&ada, "billing-admin", &root).await;
        store.assign_group(&eng, "admin", None).await;
        store.assign_group(&ops, "admin", None).await;
        store.delete_with(&of(&eng), json!({"role_slug": "admin"})).await.is(204);
        assert_eq!(store.roles(&ada).await, ["admin"], "another group gives it too");
        // Replacing by something higher outranks a direct role without taking it away.
        store.put(&of(&ops), json!({"role_assignments": []})).await.is(200);
        store.assign(&ada, "billing-admin", &root).await;
        store.assign_group(&ops, "member", None).await;
        store.put(&of(&ops), json!({"role_assignments": [{"role_slug": "admin"}]})).await.is(200);
        assert_eq!(store.roles(&ada).await, ["admin"]);
        let direct = format!("/authorization/organization_memberships/{ada}/role_assignments?resource_id={root}");
        let direct = store.get(&direct).await.listed("/role/slug");
        assert!(direct.contains(&"billing-admin".to_owned()), "{direct:?}");
    });
}
