//! Organizations, as clients see them (WorkOS contract, section 1.8).

use serde_json::{Value, json};

use crate::support::{Running, company::id, on_every_engine};

const ORGANIZATIONS: &str = "/organizations";

/// R35, D2: the root is there at once, is found by the organization's id and by its external id, and has a name that fits.
#[test]
fn an_organization_comes_with_its_root_resource() {
    on_every_engine(async |store| {
        let body = json!({"name": "n".repeat(60), "external_id": "customer-1"});
        let organization = store.post(ORGANIZATIONS, body).await.is(201);
        let id = id(&organization);
        assert!(id.starts_with("org_") && id.len() == 30, "{id}");
        assert_eq!(organization["object"], "organization");
        assert_eq!(organization["domains"], json!([]));
        assert_eq!(organization["metadata"], json!({}));
        for external_id in [id.as_str(), "customer-1"] {
            let path = format!("/authorization/organizations/{id}/resources/organization/{external_id}");
            let root = store.get(&path).await.is(200);
            assert_eq!(root["external_id"], id);
            assert_eq!(root["parent_resource_id"], Value::Null);
            assert_eq!(root["name"], "n".repeat(48));
        }
    });
}

/// R35: the root's second name is the organization's external id, whatever that is now. Letters are compared as they are written.
#[test]
fn r35_the_root_follows_the_external_id() {
    on_every_engine(async |store| {
        let organization = id(&store.post(ORGANIZATIONS, json!({"name": "A", "external_id": "before"})).await.is(201));
        let root = store.root(&organization).await;
        let named = |name: &str| format!("/authorization/organizations/{organization}/resources/organization/{name}");
        assert_eq!(id(&store.get(&named("before")).await.is(200)), root);
        store.put(&format!("/organizations/{organization}"), json!({"external_id": "after"})).await.is(200);
        assert_eq!(id(&store.get(&named("after")).await.is(200)), root);
        store.get(&named("before")).await.is_error(404, "entity_not_found");
        store.get(&named("After")).await.is_error(404, "entity_not_found");
        let other = store.post(ORGANIZATIONS, json!({"name": "B", "external_id": "AFTER"})).await.is(201);
        assert_eq!(store.get("/organizations/external_id/AFTER").await.is(200), other);
        assert_eq!(id(&store.get("/organizations/external_id/after").await.is(200)), organization);
    });
}

#[test]
fn an_organization_is_found_by_its_external_id() {
    on_every_engine(async |store| {
        let body = json!({"name": "Acme", "external_id": "a/b c", "metadata": {"tier": "gold"}});
        let organization = store.post(ORGANIZATIONS, body).await.is(201);
        assert_eq!(store.get("/organizations/external_id/a%2Fb%20c").await.is(200), organization);
        assert_eq!(store.get(&format!("/organizations/{}", id(&organization))).await.is(200), organization);
        store.get("/organizations/external_id/nothing").await.is_error(404, "entity_not_found");
        store.get("/organizations/org_nothing").await.is_error(404, "entity_not_found");
        let other = json!({"name": "B", "external_id": "a/b c"});
        store.post(ORGANIZATIONS, other).await.is_error(400, "external_id_already_used");
        let other = store.organization("C").await;
        let change = json!({"external_id": "a/b c"});
        store.put(&format!("/organizations/{other}"), change).await.is_error(400, "external_id_already_used");
        let own = json!({"external_id": "a/b c"});
        assert_eq!(store.put(&format!("/organizations/{}", id(&organization)), own).await.is(200), organization);
    });
}

/// D2: what looks like an id of ours is no external id.
#[test]
fn an_external_id_does_not_begin_like_an_id_of_ours() {
    on_every_engine(async |store| {
        let there = store.organization("A").await;
        for external_id in
            ["org_1", "om_1", "group_1", "user_1", "authz_resource_1", "role_1", "gra_1", "role_assignment_1"]
        {
            let body = json!({"name": "A", "external_id": external_id});
            store.post(ORGANIZATIONS, body.clone()).await.is_error(422, "reserved_external_id");
            store.put(&format!("/organizations/{there}"), body).await.is_error(422, "reserved_external_id");
        }
        store.post(ORGANIZATIONS, json!({"name": "A", "external_id": "organization"})).await.is(201);
        for external_id in ["é".to_owned(), "x".repeat(129), String::new()] {
            let body = json!({"name": "A", "external_id": external_id});
            store.post(ORGANIZATIONS, body).await.is_error(422, "invalid_request_parameters");
        }
    });
}

/// R48: 50 keys of 40 characters, values of 600.
#[test]
fn metadata_has_bounds() {
    on_every_engine(async |store| {
        let many = |count: usize| -> Value {
            (0..count).map(|key| (format!("key{key}"), json!("v"))).collect::<serde_json::Map<_, _>>().into()
        };
        for metadata in [
            json!({"a": 1}),
            json!({"a": {"b": "c"}}),
            json!({"k".repeat(41): "v"}),
            json!({"": "v"}),
            json!({"k": "v".repeat(601)}),
            many(51),
        ] {
            let body = json!({"name": "A", "metadata": metadata});
            store.post(ORGANIZATIONS, body).await.is_error(400, "invalid_metadata");
        }
        let full = store.post(ORGANIZATIONS, json!({"name": "A", "metadata": many(50)})).await.is(201);
        let path = format!("/organizations/{}", id(&full));
        store.put(&path, json!({"metadata": {"one": "more"}})).await.is_error(400, "invalid_metadata");
        let changed = store.put(&path, json!({"metadata": {"key1": "", "key2": null, "one": "more"}})).await.is(200);
        assert_eq!(changed["metadata"].as_object().unwrap().len(), 49);
        assert_eq!(changed["metadata"]["one"], "more");
        let cleared = store.put(&path, json!({"metadata": null})).await.is(200);
        assert_eq!(cleared["metadata"], json!({}));
    });
}

#[test]
fn a_change_that_changes_nothing_writes_nothing() {
    on_every_engine(async |store| {
        let organization = store.organization("A").await;
        let path = format!("/organizations/{organization}");
        let first = store.put(&path, json!({"name": "B", "stripe_customer_id": "cus_1"})).await;
        let again = store.put(&path, json!({"name": "B"})).await;
        assert_eq!(first.revision(), again.revision());
        let (first, again) = (first.is(200), again.is(200));
        assert_eq!(first, again);
        assert_eq!(first["stripe_customer_id"], "cus_1");
        let other = store.organization("C").await;
        let body = json!({"stripe_customer_id": "cus_1"});
        store.put(&format!("/organizations/{other}"), body).await.is_error(400, "stripe_customer_id_already_used");
        store.put("/organizations/org_nothing", json!({})).await.is_error(404, "entity_not_found");
    });
}

#[test]
fn organizations_are_listed_by_name_and_domain() {
    on_every_engine(async |store| {
        let domains = json!([{"domain": "Acme.example", "state": "verified"}]);
        let acme = store.post(ORGANIZATIONS, json!({"name": "Acme 100%", "domain_data": domains})).await.is(201);
        assert_eq!(acme["domains"][0]["domain"], "acme.example");
        assert_eq!(acme["domains"][0]["state"], "verified");
        assert_eq!(acme["domains"][0]["object"], "organization_domain");
        store.post(ORGANIZATIONS, json!({"name": "Bolt", "domains": ["bolt.example", "bolt.example"]})).await.is(201);
        store.organization("acme too").await;
        assert_eq!(store.get("/organizations?search=ACME&order=asc").await.listed("/name"), ["Acme 100%", "acme too"]);
        assert_eq!(store.get("/organizations?search=100%25").await.listed("/name"), ["Acme 100%"]);
        assert_eq!(store.get("/organizations?search=_").await.listed("/name"), Vec::<String>::new());
        assert_eq!(store.get("/organizations?domains=bolt.example").await.listed("/name"), ["Bolt"]);
        let both = store.get("/organizations?domains=acme.example%2Cbolt.example&limit=1").await.is(200);
        assert_eq!(both["data"][0]["name"], "Bolt");
        assert!(both["list_metadata"]["after"].is_string());
        assert_eq!(store.get("/organizations?domains=example").await.listed("/name"), Vec::<String>::new());
        let kept = store.put(&format!("/organizations/{}", id(&acme)), json!({"domain_data": domains})).await.is(200);
        assert_eq!(kept, acme, "a domain that was there keeps its id");
    });
}

/// R47: everything in it goes; users stay.
#[test]
fn an_organization_goes_with_everything_in_it() {
    on_every_engine(async |store| {
        let organization = store.organization("Acme").await;
        let other = store.organization("Bolt").await;
        let user = store.user("ada").await;
        let join = |organization: &str| json!({"user_id": user, "organization_id": organization});
        let memberships = "/user_management/organization_memberships";
        let gone = id(&store.post(memberships, join(&organization)).await.is(201));
        let stays = id(&store.post(memberships, join(&other)).await.is(201));
        let group = store.group(&organization, "Engineering", &[&gone]).await;
        let deleted = store.delete(&format!("/organizations/{organization}")).await;
        assert!(deleted.body.is_null());
        deleted.is(202);
        for path in [
            format!("/organizations/{organization}"),
            format!("{memberships}/{gone}"),
            format!("/organizations/{organization}/groups"),
            format!("/organizations/{organization}/groups/{group}"),
            format!("{memberships}?organization_id={organization}"),
        ] {
            store.get(&path).await.is_error(404, "entity_not_found");
        }
        store.delete(&format!("/organizations/{organization}")).await.is_error(404, "entity_not_found");
        store.get(&format!("{memberships}/{stays}")).await.is(200);
        store.get(&format!("/user_management/users/{user}")).await.is(200);
        assert_eq!(last_event(store).await, ("organization.deleted".to_owned(), organization));
    });
}

/// R47: no row of it is left in any table, and none of another organization is gone.
#[test]
fn nothing_of_a_deleted_organization_is_left() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let mut both = Vec::new();
        for name in ["acme", "bolt"] {
            let organization = store.organization(name).await;
            let member = store.member(&organization, name).await;
            let group = store.group(&organization, "Engineering", &[&member]).await;
            let workspace = store.resource(&organization, "workspace", "w", None).await;
            let project = store.resource(&organization, "project", "p", Some(&workspace)).await;
            store.resource(&organization, "app", "a", Some(&project)).await;
            store.assign(&member, "project-editor", &project).await;
            store.assign_group(&group, "workspace-admin", Some(&workspace)).await;
            let roles = format!("/authorization/organizations/{organization}/roles");
            let role = json!({"slug": "org-auditor", "name": "Auditor"});
            store.post(&roles, role).await.is(201);
            store
                .put(&format!("{roles}/org-auditor/permissions"), json!({"permissions": ["org:manage"]}))
                .await
                .is(200);
            store.assign_group(&group, "org-auditor", None).await;
            both.push((organization, member, project));
        }
        let tables = [
            "SELECT COUNT(*) FROM organizations",
            "SELECT COUNT(*) FROM resources",
            "SELECT COUNT(*) FROM memberships",
            "SELECT COUNT(*) FROM user_groups",
            "SELECT COUNT(*) FROM group_members",
            "SELECT COUNT(*) FROM assignments",
            "SELECT COUNT(*) FROM group_assignments",
            "SELECT COUNT(*) FROM roles WHERE organization_id IS NOT NULL",
            "SELECT COUNT(*) FROM role_permissions WHERE role_id IN (SELECT id FROM roles WHERE organization_id IS NOT NULL)",
        ];
        let pool = sqlx::AnyPool::connect(&store.database).await.unwrap();
        let count = async || -> Vec<i64> {
            let mut counts = Vec::new();
            for table in tables {
                counts.push(sqlx::query_scalar(table).fetch_one(&pool).await.unwrap());
            }
            counts
        };
        let before = count().await;
        assert!(before.iter().all(|rows| *rows > 0 && rows % 2 == 0), "{before:?}");
        let [(acme, ..), (_, member, project)] = both.as_slice() else { panic!("two") };
        store.delete(&format!("/organizations/{acme}")).await.is(202);
        assert_eq!(count().await, before.iter().map(|rows| rows / 2).collect::<Vec<_>>());
        pool.close().await;
        assert!(store.may(member, "project:edit", project).await);
    });
}

async fn last_event(store: &Running) -> (String, String) {
    let events = store.get("/events?order=desc&limit=1").await.is(200);
    (events["data"][0]["event"].as_str().unwrap().to_owned(), id(&events["data"][0]["data"]))
}

#[test]
fn what_cannot_be_an_organization_is_refused() {
    on_every_engine(async |store| {
        for body in [
            json!({}),
            json!({"name": ""}),
            json!({"name": "n".repeat(256)}),
            json!({"name": "A", "domain_data": [{"domain": "a b", "state": "verified"}]}),
            json!({"name": "A", "domain_data": [{"domain": "a.b", "state": "hoped"}]}),
            json!({"name": "A", "allow_profiles_outside_organization": "yes"}),
        ] {
            store.post(ORGANIZATIONS, body).await.is_error(422, "invalid_request_parameters");
        }
        assert_eq!(store.get(ORGANIZATIONS).await.listed("/name"), Vec::<String>::new());
    });
}
