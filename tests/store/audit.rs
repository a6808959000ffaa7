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

/// The newest entry of an action: its organization and details.
async fn newest(store: &Running, action: &str) -> (Value, Value) {
    let entries = store.get(&format!("{AUDIT}?limit=100")).await.is(200);
    let entry = entries["data"].as_array().and_then(|all| all.iter().find(|entry| entry["action"] == action)).cloned();
    let entry = entry.unwrap_or_else(|| panic!("no {action} in {entries}"));
    (entry["organization_id"].clone(), entry["details"].clone())
}

/// What a role permits, who has it without being given it, and which one counts: whoever changes that changes what people may do.
#[test]
fn every_change_of_what_roles_grant_is_listed() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let org = store.organization("Acme").await;
        let ada = store.member(&org, "ada").await;
        let role_id = |role: &Value| role["id"].clone();
        let member = role_id(&store.get("/authorization/roles/member").await.is(200));
        let path = "/authorization/roles/member/permissions";
        store.post(path, json!({"slug": "org:manage"})).await.is(200);
        let changed = |given: &[&str], taken: &[&str]| json!({"role_id": member, "role_slug": "member", "permissions_added": given, "permissions_removed": taken});
        assert_eq!(newest(store, "role.updated").await, (Value::Null, changed(&["org:manage"], &[])));
        store.put(path, json!({"permissions": ["billing:manage"]})).await.is(200);
        assert_eq!(newest(store, "role.updated").await.1, changed(&["billing:manage"], &["org:manage"]));
        // A permission that goes is taken out of every role.
        store.delete("/authorization/permissions/billing:manage").await.is(204);
        let updated = store.get(&format!("{AUDIT}?limit=3")).await.is(200);
        let updated = updated["data"].as_array().cloned().unwrap_or_default();
        assert!(
            updated.iter().all(|entry| entry["action"] == "role.updated"
                && entry["details"]["permissions_removed"] == json!(["billing:manage"])),
            "{updated:?}"
        );
        let roles = format!("/authorization/organizations/{org}/roles");
        let own = store.post(&roles, json!({"slug": "org-h", "name": "H"})).await.is(201);
        let (whose, details) = newest(store, "organization_role.created").await;
        assert_eq!((whose, &details["role_id"]), (json!(org), &own["id"]));
        store.put(&format!("{roles}/org-h/permissions"), json!({"permissions": ["org:manage"]})).await.is(200);
        let (whose, details) = newest(store, "organization_role.updated").await;
        assert_eq!((whose, &details["permissions_added"]), (json!(org), &json!(["org:manage"])));
        let settings = format!("/portcullis/v1/organizations/{org}/settings");
        store.put(&settings, json!({"default_role": "org-h", "priorities": ["org-h"]})).await.is(200);
        let (whose, details) = newest(store, "organization_settings.updated").await;
        assert_eq!((whose, &details["default_role"], &details["priorities"][0]), (json!(org), &own["id"], &own["id"]));
        store.put(&settings, json!({})).await.is(200);
        store.delete(&format!("{roles}/org-h")).await.is(204);
        assert_eq!(newest(store, "organization_role.deleted").await.1["role_id"], own["id"]);
        let membership = format!("/user_management/organization_memberships/{ada}");
        for (verb, action) in [
            ("deactivate", "organization_membership.deactivated"),
            ("reactivate", "organization_membership.reactivated"),
        ] {
            store.put(&format!("{membership}/{verb}"), json!({})).await.is(200);
            assert_eq!(newest(store, action).await, (json!(org), json!({"organization_membership_id": ada})));
        }
        store.usual_model("multiple").await;
        let (whose, details) = newest(store, "settings.updated").await;
        assert_eq!((whose, &details["role_mode"]), (Value::Null, &json!("multiple")));
        assert_eq!(details["default_role"], member);
        store.delete("/portcullis/v1/roles/project-editor").await.is(204);
        assert_eq!(newest(store, "role.deleted").await.1["role_slug"], "project-editor");
    });
}

/// Entries name the revision that was answered, whatever becomes of the log.
#[test]
fn an_entry_keeps_its_revision_in_a_new_epoch() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let org = store.organization("Acme").await;
        let ada = store.member(&org, "ada").await;
        let path = format!("/authorization/organization_memberships/{ada}/role_assignments");
        let assigned = store.post(&path, json!({"role_slug": "admin", "resource_id": store.root(&org).await})).await;
        let revision = assigned.headers["x-portcullis-revision"].to_str().unwrap().to_owned();
        assigned.is(201);
        store.store.new_epoch().await.unwrap();
        let revisions = async |limit: u8| store.get(&format!("{AUDIT}?limit={limit}")).await.listed("/revision");
        assert_eq!(revisions(1).await, std::slice::from_ref(&revision));
        store.assign(&ada, "billing-admin", &store.root(&org).await).await;
        let newest = revisions(1).await;
        assert!(newest[0].split('.').nth(1) != revision.split('.').nth(1), "{newest:?}");
    });
}

/// Entries are followed from page to page, in both directions, and say when.
#[test]
fn entries_are_paged() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let org = store.organization("Acme").await;
        store.member(&org, "ada").await;
        let all = store.get(&format!("{AUDIT}?limit=100")).await.is(200);
        let all: Vec<Value> = all["data"].as_array().cloned().unwrap_or_default();
        assert!(all.len() > 4, "{all:?}");
        assert!(all.iter().all(|entry| entry["created_at"].as_str().is_some_and(|time| time.ends_with('Z'))));
        let first = store.get(&format!("{AUDIT}?limit=2")).await.is(200);
        let after = first["list_metadata"]["after"].as_str().unwrap();
        let second = store.get(&format!("{AUDIT}?limit=2&after={after}")).await.is(200);
        assert_eq!(second["data"].as_array().map(Vec::as_slice), all.get(2..4));
        let before = second["list_metadata"]["before"].as_str().unwrap();
        assert_eq!(store.get(&format!("{AUDIT}?limit=2&before={before}")).await.is(200)["data"], first["data"]);
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
            // What else hangs on people, roles and organizations, and is still there when those go.
            for member in [&ada, &eve] {
                store.post("/portcullis/v1/tokens", json!({"organization_membership_id": member})).await.is(200);
            }
            let left = json!({"slug": "org-left", "name": "Left"});
            store.post(&roles, left).await.is(201);
            store.put(&format!("{roles}/org-left/permissions"), json!({"permissions": ["org:manage"]})).await.is(200);
            let mapped = json!([{"identity_provider_group": "staff", "role_slug": "admin"},
                                {"identity_provider_group": "others", "role_slug": "org-left"}]);
            let mapping = format!("/portcullis/v1/organizations/{organization}/identity_provider_roles");
            store.put(&mapping, json!({"identity_provider_roles": mapped})).await.is(200);
            let provided = format!("/portcullis/v1/organization_memberships/{ada}/identity_provider_groups");
            store.put(&provided, json!({"groups": ["staff", "others"]})).await.is(200);
            store.assign(&ada, "org-left", &root).await;
            store.assign_group(&ops, "org-left", None).await;
            store.assign_group(&ops, "admin", None).await;
            store.assign(&eve, "billing-admin", &root).await;
            let lasting = store.resource(organization, "project", "p3", None).await;
            store.assign(&ada, "project-editor", &lasting).await;
            store.assign_group(&ops, "project-editor", Some(&lasting)).await;
            let user = store.get(&format!("/user_management/organization_memberships/{eve}")).await.is(200);
            let user = user.get("user_id").and_then(Value::as_str).unwrap_or_default().to_owned();
            store.delete(&format!("/user_management/users/{user}")).await.is(200);
        }
        let status = store.delete(&format!("/organizations/{doomed}")).await.status;
        assert!((200..300).contains(&status), "{status}");
        // Roles that are held: directly, through a group, from the identity provider, on a resource.
        for role in ["admin", "billing-admin", "project-editor"] {
            store.delete(&format!("/portcullis/v1/roles/{role}")).await.is(204);
        }
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
