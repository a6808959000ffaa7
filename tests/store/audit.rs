//! Who changed which grant; and whether the log says what the tables say.

use portcullis::store::Settings;
use serde_json::{Value, json};

use crate::support::{Running, on_every_engine, settings};

const AUDIT: &str = "/portcullis/v1/audit";

#[test]
fn every_change_of_a_grant_is_listed() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let (org, other) = (store.organization("Acme").await, store.organization("Other").await);
        let (ada, bob) = (store.member(&org, "ada").await, store.member(&other, "bob").await);
        let group = store.group(&org, "eng", &[&ada]).await;
        let project = store.resource(&org, "project", "p1", None).await;
        let path = format!("/authorization/organization_memberships/{ada}/role_assignments");
        let assigned = store.post(&path, json!({"role_slug": "project-editor", "resource_id": project})).await;
        let revision = assigned.headers["x-portcullis-revision"].to_str().unwrap().to_owned();
        let assigned = assigned.is(201);
        store.assign_group(&group, "project-viewer", Some(&project)).await;
        let newest = store.get(&format!("{AUDIT}?organization_id={org}")).await.is(200);
        assert_eq!(newest["data"][0]["action"], "group_role_assignment.created");
        let entry = &newest["data"][1];
        assert_eq!((&entry["object"], &entry["key"]), (&json!("audit_entry"), &json!("tests")));
        assert_eq!((&entry["action"], &entry["revision"]), (&json!("role_assignment.created"), &json!(revision)));
        assert_eq!(entry["organization_id"], json!(org));
        assert_eq!(entry["details"]["role_assignment_id"], assigned["id"]);
        assert_eq!(entry["details"]["organization_membership_id"], json!(ada));
        store.delete(&format!("/authorization/resources/{project}?cascade_delete=true")).await.is(204);
        let actions = store.get(&format!("{AUDIT}?organization_id={org}&limit=2")).await.listed("/action");
        assert_eq!(actions, ["group_role_assignment.deleted", "role_assignment.deleted"]);
        let of_ada = store.get(&format!("{AUDIT}?organization_membership_id={ada}&limit=100")).await.is(200);
        let rows = of_ada["data"].as_array().cloned().unwrap_or_default();
        assert!(rows.len() >= 2 && rows.iter().all(|row| row["details"]["organization_membership_id"] == json!(ada)));
        let both = store.get(&format!("{AUDIT}?organization_id={other}&organization_membership_id={ada}")).await;
        assert!(both.listed("/id").is_empty());
        let of_bob = store.get(&format!("{AUDIT}?organization_membership_id={bob}")).await.is(200);
        assert!(
            of_bob["data"].as_array().is_some_and(|rows| rows.iter().all(|row| row["organization_id"] == json!(other)))
        );
    });
}

/// A company with something of everything, most of which is deleted again, in every way that cascades.
async fn live_through_much(store: &Running) {
    for mode in ["single", "multiple"] {
        store.usual_model(mode).await;
        let org = store.organization(mode).await;
        let doomed = store.organization(&format!("{mode}-doomed")).await;
        for organization in [&org, &doomed] {
            let name = |short: &str| format!("{short}-{organization}").to_lowercase();
            let ada = store.member(organization, &name("ada")).await;
            let bob = store.member(organization, &name("bob")).await;
            let eve = store.member(organization, &name("eve")).await;
            let eng = store.group(organization, "eng", &[&ada, &bob, &eve]).await;
            let ops = store.group(organization, "ops", &[&ada, &eve]).await;
            let root = store.root(organization).await;
            let workspace = store.resource(organization, "workspace", "w1", None).await;
            let project = store.resource(organization, "project", "p1", Some(&workspace)).await;
            let app = store.resource(organization, "app", "a1", Some(&project)).await;
            let other = store.resource(organization, "project", "p2", Some(&workspace)).await;
            for member in [&ada, &bob, &eve] {
                store.assign(member, "billing-admin", &root).await;
                store.assign(member, "project-editor", &project).await;
                store.assign(member, "project-viewer", &other).await;
            }
            store.assign_group(&eng, "admin", None).await;
            store.assign_group(&eng, "project-editor", Some(&project)).await;
            store.assign_group(&ops, "admin", None).await;
            store.assign_group(&ops, "project-viewer", Some(&other)).await;
            let roles = format!("/authorization/organizations/{organization}/roles");
            let new = json!({"slug": "org-helper", "name": "Helper", "resource_type_slug": "project"});
            store.post(&roles, new).await.is(201);
            store
                .put(&format!("{roles}/org-helper/permissions"), json!({"permissions": ["project:view"]}))
                .await
                .is(200);
            let helper = store.assign(&ada, "org-helper", &project).await;
            // Group out of members, members out of groups, roles out of both, and all of it again by deleting what they hang on.
            let groups = format!("/organizations/{organization}/groups");
            store.delete(&format!("{groups}/{ops}/organization-memberships/{ada}")).await.is(204);
            store
                .put(&format!("/authorization/groups/{ops}/role_assignments"), json!({"role_assignments": []}))
                .await
                .is(200);
            store.delete(&format!("{groups}/{eng}")).await.is(204);
            store
                .patch(&format!("/authorization/resources/{other}"), json!({"parent_resource_id": root}))
                .await
                .is(200);
            let of_ada = format!("/authorization/organization_memberships/{ada}/role_assignments/{helper}");
            store.delete(&of_ada).await.is(204);
            store.delete(&format!("{roles}/org-helper")).await.is(204);
            store.delete(&format!("/authorization/resources/{workspace}?cascade_delete=true")).await.is(204);
            store.get(&format!("/authorization/resources/{app}")).await.is_error(404, "entity_not_found");
            store.delete(&format!("/user_management/organization_memberships/{bob}")).await.is(200);
            let user = store.get(&format!("/user_management/organization_memberships/{eve}")).await.is(200);
            let user = user.get("user_id").and_then(Value::as_str).unwrap_or_default().to_owned();
            store.delete(&format!("/user_management/users/{user}")).await.is(200);
        }
        let status = store.delete(&format!("/organizations/{doomed}")).await.status;
        assert!((200..300).contains(&status), "{status}");
        store.delete("/authorization/permissions/app:edit").await.is(204);
    }
}

#[test]
fn rows_equal_the_replayed_log() {
    on_every_engine(async |store| {
        live_through_much(store).await;
        let verification = store.store.compare_log_with_rows().await.unwrap();
        assert_eq!(verification.differences, Vec::<String>::new());
        assert_eq!(verification.organizations, 2);
        assert!(verification.revision.is_some());
    });
}

/// R45, R46, R47, R39: every row that goes with another is deleted by name, so that it stands in the log. Here the foreign keys refuse
/// where they would cascade.
#[test]
fn the_foreign_keys_never_have_to_catch_anything() {
    on_every_engine(async |store| {
        // A second database beside the one that the test was given, which has the usual keys already.
        let folder = tempfile::tempdir().unwrap();
        let database = match store.database.starts_with("sqlite") {
            true => format!("sqlite://{}", folder.path().join("strict.db").display()),
            false => crate::support::postgres::database().unwrap(),
        };
        let strict = Running::start_with(Settings { strict_foreign_keys: true, ..settings(&database) }).await;
        live_through_much(&strict).await;
        let verification = strict.store.compare_log_with_rows().await.unwrap();
        assert_eq!(verification.differences, Vec::<String>::new());
        strict.stop().await;
    });
}
