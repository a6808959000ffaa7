//! Roles of the environment and of organizations, as clients see them (WorkOS contract, sections 1.2 and 1.3).

use serde_json::{Value, json};

use crate::support::{Running, on_every_engine};

const ROLES: &str = "/authorization/roles";

fn roles_of(organization: &str) -> String {
    format!("/authorization/organizations/{organization}/roles")
}

/// The data of all events of one kind, oldest first.
async fn events(store: &Running, kind: &str) -> Vec<Value> {
    let body = store.get(&format!("/events?events={kind}&limit=100")).await.is(200);
    body["data"].as_array().unwrap().iter().map(|event| event["data"].clone()).collect()
}

/// Section 1.2: the shapes and the codes of environment roles.
#[test]
fn an_environment_role_is_created_once_and_read_back() {
    on_every_engine(async |store| {
        let role = store.post(ROLES, json!({"slug": "editor", "name": "Editor", "description": null})).await.is(201);
        assert_eq!(role["object"], "role");
        assert_eq!(role["type"], "EnvironmentRole");
        assert_eq!(role["permissions"], json!([]));
        assert_eq!(role["description"], Value::Null);
        assert!(role["id"].as_str().is_some_and(|id| id.starts_with("role_") && id.len() == 31));
        assert_eq!(store.get("/authorization/roles/editor").await.is(200), role);
        store.post(ROLES, json!({"slug": "editor", "name": "E"})).await.is_error(409, "role_slug_conflict");
        store.get("/authorization/roles/nobody").await.is_error(404, "entity_not_found");
        let list = store.get(ROLES).await.is(200);
        assert!(list.get("list_metadata").is_none(), "roles are listed whole");
        for body in [json!({"name": "N"}), json!({"slug": "a:b", "name": "N"}), json!({"slug": "a", "name": ""})] {
            store.post(ROLES, body).await.is_error(422, "invalid_request_parameters");
        }
    });
}

/// R12: the type defaults to `organization`, must be there, and never changes.
#[test]
fn r12_type_and_slug_are_fixed() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let role = store.post(ROLES, json!({"slug": "a", "name": "A"})).await.is(201);
        assert_eq!(role["resource_type_slug"], "organization");
        let body = json!({"slug": "b", "name": "B", "resource_type_slug": "galaxy"});
        store.post(ROLES, body).await.is_error(404, "entity_not_found");
        let changes = json!({"name": "New", "description": "D", "slug": "c", "resource_type_slug": "project"});
        let role = store.patch("/authorization/roles/a", changes).await.is(200);
        assert_eq!((role["slug"].as_str(), role["resource_type_slug"].as_str()), (Some("a"), Some("organization")));
        assert_eq!((role["name"].as_str(), role["description"].as_str()), (Some("New"), Some("D")));
        let role = store.patch("/authorization/roles/a", json!({"description": null})).await.is(200);
        assert_eq!((role["name"].as_str(), role["description"].as_str()), (Some("New"), None));
    });
}

/// D5 for roles: what changes nothing writes nothing.
#[test]
fn a_change_that_changes_nothing_has_no_revision_of_its_own() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let changed = store.patch("/authorization/roles/admin", json!({"name": "Boss"})).await.revision();
        assert_eq!(store.patch("/authorization/roles/admin", json!({"name": "Boss"})).await.revision(), changed);
        let body = json!({"slug": "org:manage"});
        assert_eq!(store.post("/authorization/roles/admin/permissions", body).await.revision(), changed);
        let body = json!({"permissions": ["project:view"]});
        assert_eq!(store.put("/authorization/roles/project-viewer/permissions", body).await.revision(), changed);
    });
}

/// Section 1.2: PUT replaces, `[]` clears, POST adds and answers 200.
#[test]
fn permissions_of_a_role_are_set_and_added() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let path = "/authorization/roles/billing-admin/permissions";
        let role = store.put(path, json!({"permissions": ["project:view", "org:manage", "org:manage"]})).await.is(200);
        assert_eq!(role["permissions"], json!(["org:manage", "project:view"]));
        let role = store.post(path, json!({"slug": "app:edit"})).await.is(200);
        assert_eq!(role["permissions"], json!(["app:edit", "org:manage", "project:view"]));
        assert_eq!(store.put(path, json!({"permissions": []})).await.is(200)["permissions"], json!([]));
        store.put(path, json!({"permissions": ["nothing"]})).await.is_error(404, "entity_not_found");
        store.post(path, json!({"slug": "nothing"})).await.is_error(404, "entity_not_found");
        store.put(path, json!({})).await.is_error(422, "invalid_request_parameters");
        store
            .put("/authorization/roles/x/permissions", json!({"permissions": []}))
            .await
            .is_error(404, "entity_not_found");
    });
}

/// R13, D8: a role holds permissions of its own type and of the types below.
#[test]
fn r13_a_permission_out_of_scope_is_refused() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let path = "/authorization/roles/project-editor/permissions";
        store.post(path, json!({"slug": "app:edit"})).await.is(200);
        for slug in ["workspace:edit", "org:manage"] {
            store.post(path, json!({"slug": slug})).await.is_error(422, "invalid_permission_scope");
            let answer = store.put(path, json!({"permissions": ["project:view", slug]})).await;
            assert_eq!(answer.body["errors"][0]["field"], "permissions.1");
            answer.is_error(422, "invalid_permission_scope");
        }
    });
}

/// R9: what a role permits counts at once for everybody who holds it.
#[test]
fn r9_a_changed_role_counts_at_once() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("acme").await;
        let ada = store.member(&organization, "ada").await;
        let root = store.root(&organization).await;
        assert!(!store.may(&ada, "org:manage", &root).await);
        store.post("/authorization/roles/member/permissions", json!({"slug": "org:manage"})).await.is(200);
        assert!(store.may(&ada, "org:manage", &root).await);
        store.put("/authorization/roles/member/permissions", json!({"permissions": []})).await.is(200);
        assert!(!store.may(&ada, "org:manage", &root).await);
    });
}

/// R26: a permission that goes leaves every role, those of organizations too, with an event for each.
#[test]
fn r26_a_deleted_permission_leaves_every_role() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("acme").await;
        let path = roles_of(&organization);
        store.post(&path, json!({"slug": "org-a", "name": "A"})).await.is(201);
        store.post(&format!("{path}/org-a/permissions"), json!({"slug": "org:manage"})).await.is(200);
        let ada = store.member(&organization, "ada").await;
        let root = store.root(&organization).await;
        store.assign(&ada, "org-a", &root).await;
        assert!(store.may(&ada, "org:manage", &root).await);
        let told = (events(store, "role.updated").await.len(), events(store, "organization_role.updated").await.len());
        store.delete("/authorization/permissions/org:manage").await.is(204);
        assert!(!store.may(&ada, "org:manage", &root).await);
        let admin = store.get("/authorization/roles/admin").await.is(200);
        assert_eq!(admin["permissions"], json!(["billing:manage", "project:edit", "project:view"]));
        assert_eq!(store.get(&format!("{path}/org-a")).await.is(200)["permissions"], json!([]));
        let now = (events(store, "role.updated").await.len(), events(store, "organization_role.updated").await.len());
        assert_eq!(now, (told.0 + 1, told.1 + 1));
        // A permission of the same name grants nothing by itself.
        store.post("/authorization/permissions", json!({"slug": "org:manage", "name": "M"})).await.is(201);
        assert!(!store.may(&ada, "org:manage", &root).await);
    });
}

/// R20: new roles go to the bottom of the list.
#[test]
fn r20_roles_are_listed_by_priority() {
    on_every_engine(async |store| {
        store.post(ROLES, json!({"slug": "b", "name": "B"})).await.is(201);
        store.post(ROLES, json!({"slug": "a", "name": "A"})).await.is(201);
        assert_eq!(store.get(ROLES).await.listed("/slug"), ["member", "b", "a"]);
    });
}

/// Section 1.3 and R24: the life of a custom role.
#[test]
fn a_custom_role_belongs_to_one_organization() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let (acme, globex) = (store.organization("acme").await, store.organization("globex").await);
        let path = roles_of(&acme);
        let body = json!({"slug": "org-auditor", "name": "Auditor", "resource_type_slug": "project"});
        let role = store.post(&path, body).await.is(201);
        assert_eq!(role["type"], "OrganizationRole");
        assert!(role.get("organization_id").is_none());
        let one = format!("{path}/org-auditor");
        assert_eq!(store.get(&one).await.is(200), role);
        store.get(&format!("{}/org-auditor", roles_of(&globex))).await.is_error(404, "entity_not_found");
        store.get(&format!("{}/org-auditor", roles_of("org_none"))).await.is_error(404, "entity_not_found");
        assert_eq!(store.patch(&one, json!({"name": "A"})).await.is(200)["name"], "A");
        let role = store.put(&format!("{one}/permissions"), json!({"permissions": ["project:view"]})).await.is(200);
        assert_eq!(role["permissions"], json!(["project:view"]));
        store.post(&format!("{one}/permissions"), json!({"slug": "app:edit"})).await.is(200);
        store
            .post(&format!("{one}/permissions"), json!({"slug": "org:manage"}))
            .await
            .is_error(422, "invalid_permission_scope");
        let role = store.delete(&format!("{one}/permissions/project%3Aview")).await.is(200);
        assert_eq!(role["permissions"], json!(["app:edit"]), "the role is answered, not 204");
        store.delete(&format!("{one}/permissions/nothing")).await.is_error(404, "entity_not_found");
        let listed = store.get(&path).await.listed("/slug");
        assert_eq!(listed.last().map(String::as_str), Some("org-auditor"));
        assert_eq!(listed.len(), 7);
        assert_eq!(store.get(&format!("{path}/admin")).await.is(200)["type"], "EnvironmentRole");
        store.delete(&one).await.is(204);
        store.get(&one).await.is_error(404, "entity_not_found");
    });
}

/// Section 1.3: an environment role is not changed through an organization.
#[test]
fn an_environment_role_is_not_changed_through_an_organization() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let one = format!("{}/admin", roles_of(&store.organization("acme").await));
        store.patch(&one, json!({"name": "A"})).await.is_error(400, "bad_request");
        store.delete(&one).await.is_error(400, "bad_request");
        store.put(&format!("{one}/permissions"), json!({"permissions": []})).await.is_error(400, "bad_request");
        store.post(&format!("{one}/permissions"), json!({"slug": "app:edit"})).await.is_error(400, "bad_request");
        store.delete(&format!("{one}/permissions/org:manage")).await.is_error(400, "bad_request");
    });
}

/// R22: a slug is supplied by its rules or made from the name.
#[test]
fn r22_slugs_of_custom_roles() {
    on_every_engine(async |store| {
        let path = roles_of(&store.organization("acme").await);
        for slug in ["auditor", "org-", "org--a", "org-a_-b", "org-a-"] {
            store.post(&path, json!({"slug": slug, "name": "A"})).await.is_error(422, "invalid_slug");
        }
        store.post(&path, json!({"slug": "org-a", "name": "A"})).await.is(201);
        store.post(&path, json!({"slug": "org-a", "name": "A"})).await.is_error(409, "organization_role_slug_conflict");
        let mut slugs = Vec::new();
        for _ in 0..2 {
            let role = store.post(&path, json!({"name": "Billing Admin"})).await.is(201);
            slugs.push(role["slug"].as_str().unwrap().to_owned());
        }
        assert!(slugs.iter().all(|slug| slug.starts_with("billing-admin-") && slug.len() == 20), "{slugs:?}");
        assert_ne!(slugs[0], slugs[1]);
        let elsewhere = roles_of(&store.organization("globex").await);
        store.post(&elsewhere, json!({"slug": "org-a", "name": "A"})).await.is(201);
    });
}

/// D17: no custom role has the slug of an environment role, nor the reverse.
#[test]
fn r23_d17_nothing_is_ever_shadowed() {
    on_every_engine(async |store| {
        let path = roles_of(&store.organization("acme").await);
        store.post(ROLES, json!({"slug": "org-a", "name": "A"})).await.is(201);
        store.post(&path, json!({"slug": "org-a", "name": "A"})).await.is_error(409, "organization_role_slug_conflict");
        store.post(&path, json!({"slug": "org-b", "name": "B"})).await.is(201);
        store.post(ROLES, json!({"slug": "org-b", "name": "B"})).await.is_error(409, "role_slug_conflict");
    });
}

/// R21, D20: the first custom role gives the organization its own default role and order; new environment roles come last.
#[test]
fn r21_an_organization_with_custom_roles_has_its_own_order() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("acme").await;
        let (path, settings) =
            (roles_of(&organization), format!("/portcullis/v1/organizations/{organization}/settings"));
        let before = store.get(&settings).await.is(200);
        assert_eq!((&before["default_role"], &before["priorities"]), (&Value::Null, &Value::Null));
        store.post(&path, json!({"slug": "org-a", "name": "A"})).await.is(201);
        let after = store.get(&settings).await.is(200);
        assert_eq!(after["default_role"], "member");
        let usual = ["admin", "billing-admin", "member", "workspace-admin", "project-editor", "project-viewer"];
        let order = |more: &[&'static str]| [usual.as_slice(), more].concat();
        assert_eq!(after["priorities"], json!(order(&["org-a"])));
        store.post(ROLES, json!({"slug": "late", "name": "L"})).await.is(201);
        store.post(&path, json!({"slug": "org-b", "name": "B"})).await.is(201);
        assert_eq!(store.get(&path).await.listed("/slug"), order(&["org-a", "late", "org-b"]));
        // Kept when the custom roles are gone, until it is cleared.
        store.delete(&format!("{path}/org-a")).await.is(204);
        store.delete(&format!("{path}/org-b")).await.is(204);
        assert_eq!(store.get(&settings).await.is(200)["priorities"], json!(order(&["late"])));
        let cleared = store.put(&settings, json!({"default_role": null, "priorities": null})).await.is(200);
        assert_eq!((&cleared["default_role"], &cleared["priorities"]), (&Value::Null, &Value::Null));
    });
}

/// R18, R20: the order of the organization decides which role is the one in single-role mode.
#[test]
fn the_organizations_own_order_decides() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("acme").await;
        let settings = format!("/portcullis/v1/organizations/{organization}/settings");
        let ada = store.member(&organization, "ada").await;
        store.group(&organization, "g", &[&ada]).await;
        let group = store.group(&organization, "h", &[&ada]).await;
        store.assign_group(&group, "billing-admin", None).await;
        assert_eq!(store.roles(&ada).await, ["billing-admin"]);
        store.put(&settings, json!({"priorities": ["member", "billing-admin"]})).await.is(200);
        assert_eq!(store.roles(&ada).await, ["member"]);
        assert_eq!(
            store.get(&roles_of(&organization)).await.listed("/slug")[..3],
            ["member", "billing-admin", "admin"]
        );
        store.put(&settings, json!({})).await.is(200);
        assert_eq!(store.roles(&ada).await, ["billing-admin"]);
        let bob = store.put(&settings, json!({"default_role": "billing-admin"})).await.is(200);
        assert_eq!(bob["default_role"], "billing-admin");
        let bob = store.member(&organization, "bob").await;
        assert_eq!(store.roles(&bob).await, ["billing-admin"]);
        store.put(&settings, json!({"default_role": "project-viewer"})).await.is_error(422, "invalid_role");
        store.put(&settings, json!({"default_role": "nobody"})).await.is_error(404, "entity_not_found");
        store.put(&settings, json!({"priorities": ["admin", "admin"]})).await.is_error(422, "duplicate");
        store.get("/portcullis/v1/organizations/org_none/settings").await.is_error(404, "entity_not_found");
    });
}

/// R25: a custom role goes only when nobody holds it.
#[test]
fn r25_a_custom_role_that_is_held_stays() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let organization = store.organization("acme").await;
        let path = roles_of(&organization);
        let one = format!("{path}/org-a");
        store.post(&path, json!({"slug": "org-a", "name": "A"})).await.is(201);
        let ada = store.member(&organization, "ada").await;
        let root = store.root(&organization).await;
        let assignment = store.assign(&ada, "org-a", &root).await;
        store.delete(&one).await.is_error(409, "role_has_assignments");
        let assignments = format!("/authorization/organization_memberships/{ada}/role_assignments");
        store.delete(&format!("{assignments}/{assignment}")).await.is(204);
        let group = store.group(&organization, "g", &[&ada]).await;
        let assignment = store.assign_group(&group, "org-a", None).await;
        store.delete(&one).await.is_error(409, "role_has_assignments");
        store.delete(&format!("/authorization/groups/{group}/role_assignments/{assignment}")).await.is(204);
        let mappings = format!("/portcullis/v1/organizations/{organization}/identity_provider_roles");
        let mapping = json!({"identity_provider_roles": [{"identity_provider_group": "g", "role_slug": "org-a"}]});
        store.put(&mappings, mapping).await.is(200);
        store.delete(&one).await.is_error(409, "role_has_group_role_mappings");
        store.put(&mappings, json!({"identity_provider_roles": []})).await.is(200);
        let settings = format!("/portcullis/v1/organizations/{organization}/settings");
        store.put(&settings, json!({"default_role": "org-a"})).await.is(200);
        store.delete(&one).await.is_error(400, "bad_request");
        store.put(&settings, json!({})).await.is(200);
        store.delete(&one).await.is(204);
    });
}

/// Section 6: the payloads of the events.
#[test]
fn events_carry_what_the_contract_says() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("acme").await;
        let path = roles_of(&organization);
        store.post(&path, json!({"slug": "org-a", "name": "A"})).await.is(201);
        store.delete(&format!("{path}/org-a")).await.is(204);
        store.post(ROLES, json!({"slug": "editor", "name": "E"})).await.is(201);
        store.post("/authorization/roles/editor/permissions", json!({"slug": "app:edit"})).await.is(200);
        let keys = |data: &Value| {
            let mut keys: Vec<_> = data.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys
        };
        let created = events(store, "organization_role.created").await;
        assert_eq!(
            keys(&created[0]),
            [
                "created_at",
                "description",
                "name",
                "object",
                "organization_id",
                "permissions",
                "resource_type_slug",
                "slug",
                "updated_at"
            ]
        );
        assert_eq!(created[0]["object"], "organization_role");
        assert_eq!(events(store, "organization_role.deleted").await[0]["slug"], "org-a");
        let updated = events(store, "role.updated").await;
        let last = updated.iter().find(|data| data["slug"] == "editor").unwrap();
        assert_eq!(keys(last), ["created_at", "object", "permissions", "resource_type_slug", "slug", "updated_at"]);
        assert_eq!((last["object"].as_str(), &last["permissions"]), (Some("role"), &json!(["app:edit"])));
    });
}
