//! Resources, as clients see them (WorkOS contract, section 1.4).

use serde_json::{Value, json};

use crate::support::{Running, company::id, on_every_engine, settings};

const RESOURCES: &str = "/authorization/resources";

fn one(id: &str) -> String {
    format!("{RESOURCES}/{id}")
}

fn named(organization: &str, kind: &str, external_id: &str) -> String {
    format!("/authorization/organizations/{organization}/resources/{kind}/{external_id}")
}

fn project(organization: &str, external_id: &str) -> Value {
    json!({"organization_id": organization, "resource_type_slug": "project", "external_id": external_id, "name": "P"})
}

#[test]
fn a_resource_can_be_created_read_changed_and_deleted() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let org = store.organization("Acme").await;
        let root = store.root(&org).await;
        let mut new = project(&org, "p/1 a");
        new["description"] = json!("First");
        let created = store.post(RESOURCES, new).await.is(201);
        let resource = id(&created);
        assert!(resource.starts_with("authz_resource_"), "{resource}");
        assert_eq!(created["object"], "authorization_resource");
        assert_eq!(created["parent_resource_id"], json!(root));
        assert_eq!(store.get(&one(&resource)).await.is(200), created);
        let by_name = named(&org, "project", "p%2F1%20a");
        assert_eq!(store.get(&by_name).await.is(200), created);
        let changed = store.patch(&by_name, json!({"name": "Q", "description": null})).await;
        let revision = changed.revision();
        let changed = changed.is(200);
        assert_eq!((&changed["name"], &changed["description"]), (&json!("Q"), &json!(null)));
        assert_eq!(store.patch(&one(&resource), json!({"name": "Q"})).await.revision(), revision, "nothing changed");
        assert_eq!(store.patch(&one(&resource), json!({"description": "D"})).await.is(200)["description"], "D");
        store.delete(&by_name).await.is(204);
        store.get(&one(&resource)).await.is_error(404, "entity_not_found");
        store.delete(&one(&resource)).await.is_error(404, "entity_not_found");
        store.get("/authorization/resources/nothing").await.is_error(404, "entity_not_found");
    });
}

#[test]
fn what_cannot_be_a_resource_is_refused() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let org = store.organization("Acme").await;
        for (field, value) in [
            ("external_id", json!("ä")),
            ("external_id", json!("")),
            ("external_id", json!("x".repeat(129))),
            ("name", json!("x".repeat(49))),
            ("description", json!("x".repeat(151))),
            ("name", json!(null)),
        ] {
            let mut new = project(&org, "p1");
            new[field] = value;
            store.post(RESOURCES, new).await.is_error(422, "invalid_request_parameters");
        }
        let mut new = project(&org, "p1");
        new["resource_type_slug"] = json!("nothing");
        store.post(RESOURCES, new).await.is_error(404, "entity_not_found");
        store.post(RESOURCES, project("org_nobody", "p1")).await.is_error(404, "entity_not_found");
        let mut new = project(&org, "p1");
        new["parent_resource_type_slug"] = json!("workspace");
        store.post(RESOURCES, new.clone()).await.is_error(422, "invalid_parent_resource");
        new["parent_resource_external_id"] = json!("w1");
        store.post(RESOURCES, new.clone()).await.is_error(404, "entity_not_found");
        new["parent_resource_id"] = json!(store.root(&org).await);
        store.post(RESOURCES, new).await.is_error(422, "invalid_parent_resource");
    });
}

/// R35: the root comes and goes with its organization.
#[test]
fn the_root_stays_as_it_is() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let org = store.organization("Acme").await;
        let root = store.root(&org).await;
        let shown = store.get(&one(&root)).await.is(200);
        assert_eq!((&shown["parent_resource_id"], &shown["external_id"]), (&json!(null), &json!(org)));
        assert_eq!(shown["resource_type_slug"], "organization");
        let workspace = store.resource(&org, "workspace", "w1", None).await;
        store.patch(&one(&root), json!({"name": "N"})).await.is_error(400, "bad_request");
        store.patch(&one(&root), json!({"parent_resource_id": workspace})).await.is_error(400, "bad_request");
        store.delete(&one(&root)).await.is_error(400, "bad_request");
        store.delete(&format!("{}?cascade_delete=true", one(&root))).await.is_error(400, "bad_request");
        let mut new = project(&org, "second");
        new["resource_type_slug"] = json!("organization");
        store.post(RESOURCES, new).await.is_error(400, "bad_request");
    });
}

/// D2: the root is found by the organization's id and by its own external id; external ids that look like ids are refused.
#[test]
fn the_root_has_two_names_and_nothing_else_may_look_like_an_id() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let org = store.post("/organizations", json!({"name": "Acme", "external_id": "acme"})).await;
        let org = id(&org.is(201));
        let root = store.root(&org).await;
        assert_eq!(id(&store.get(&named(&org, "organization", "acme")).await.is(200)), root);
        let listed = store.get(&format!("{RESOURCES}?organization_id={org}&resource_external_id=acme")).await;
        assert_eq!(listed.listed("/id"), [root.as_str()]);
        let workspace = store.resource(&org, "workspace", "w1", None).await;
        let filter = "parent_resource_type_slug=organization&parent_external_id=acme";
        let listed = store.get(&format!("{RESOURCES}?organization_id={org}&{filter}")).await;
        assert_eq!(listed.listed("/id"), [workspace.as_str()]);
        let mut new = project(&org, "p1");
        new["parent_resource_type_slug"] = json!("organization");
        new["parent_resource_external_id"] = json!("acme");
        assert_eq!(store.post(RESOURCES, new).await.is(201)["parent_resource_id"], json!(root));
        for start in ["org_", "om_", "group_", "user_", "authz_resource_", "role_", "gra_"] {
            let new = project(&org, &format!("{start}1"));
            store.post(RESOURCES, new).await.is_error(422, "reserved_external_id");
        }
    });
}

/// R36, R38: without a parent below the root, where the type allows it; a parent is of the same organization and of an allowed type.
#[test]
fn a_parent_has_an_allowed_type_and_is_of_the_same_organization() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let (org, other) = (store.organization("Acme").await, store.organization("Other").await);
        let app = json!({"organization_id": org, "resource_type_slug": "app", "external_id": "a1", "name": "A"});
        store.post(RESOURCES, app.clone()).await.is_error(422, "invalid_parent_resource_type");
        let workspace = store.resource(&org, "workspace", "w1", None).await;
        let mut below = app.clone();
        below["parent_resource_id"] = json!(workspace);
        store.post(RESOURCES, below).await.is_error(422, "invalid_parent_resource_type");
        let elsewhere = store.resource(&other, "project", "p1", None).await;
        let mut below = app.clone();
        below["parent_resource_id"] = json!(elsewhere);
        store.post(RESOURCES, below).await.is_error(404, "entity_not_found");
        let project = store.resource(&org, "project", "p1", Some(&workspace)).await;
        let mut below = app;
        below["parent_resource_type_slug"] = json!("project");
        below["parent_resource_external_id"] = json!("p1");
        let app = store.post(RESOURCES, below).await.is(201);
        assert_eq!(app["parent_resource_id"], json!(project));
        store
            .patch(&one(&id(&app)), json!({"parent_resource_id": workspace}))
            .await
            .is_error(422, "invalid_parent_resource_type");
        // R36, R38: nor is it moved to another organization.
        let moved = json!({"parent_resource_id": elsewhere});
        store.patch(&one(&id(&app)), moved).await.is_error(404, "entity_not_found");
        store.patch(&one(&project), json!({"parent_resource_id": null})).await.is_error(422, "invalid_parent_resource");
        let explicit = json!({"organization_id": org, "resource_type_slug": "workspace", "external_id": "w2",
                              "name": "W", "parent_resource_id": null});
        assert_eq!(store.post(RESOURCES, explicit).await.is(201)["parent_resource_id"], json!(store.root(&org).await));
    });
}

/// R37: an external id is unique for organization and type.
#[test]
fn external_ids_are_unique_for_organization_and_type() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let (org, other) = (store.organization("Acme").await, store.organization("Other").await);
        store.post(RESOURCES, project(&org, "p1")).await.is(201);
        let conflict = "authorization_resource_external_id_conflict";
        store.post(RESOURCES, project(&org, "p1")).await.is_error(409, conflict);
        store.post(RESOURCES, project(&org, "P1")).await.is(201);
        store.post(RESOURCES, project(&other, "p1")).await.is(201);
        store.resource(&org, "workspace", "p1", None).await;
    });
}

/// `external_ids: global`: unique across organizations.
#[test]
fn external_ids_can_be_global() {
    on_every_engine(async |store| {
        store
            .model(json!({
                "external_ids": "global", "default_role": "member",
                "resource_types": {"project": {"parents": ["organization"]}},
                "permissions": [], "roles": [{"slug": "member", "name": "Member", "permissions": []}],
            }))
            .await;
        let (org, other) = (store.organization("Acme").await, store.organization("Other").await);
        store.post(RESOURCES, project(&org, "p1")).await.is(201);
        let conflict = "authorization_resource_external_id_conflict";
        store.post(RESOURCES, project(&other, "p1")).await.is_error(409, conflict);
        store.post(RESOURCES, project(&other, "p2")).await.is(201);
    });
}

/// Folders in folders, which R4 leaves open.
async fn folders(store: &Running) -> String {
    store
        .model(json!({
            "role_mode": "multiple", "default_role": "member",
            "resource_types": {"folder": {"parents": ["organization", "folder"]}},
            "permissions": [{"slug": "folder:read", "name": "Read", "resource_type": "folder"}],
            "roles": [
                {"slug": "member", "name": "Member", "permissions": []},
                {"slug": "reader", "name": "Reader", "resource_type": "folder", "permissions": ["folder:read"]},
            ],
        }))
        .await;
    store.organization("Acme").await
}

/// D7: at most 5 levels below the root; moving counts what is below.
#[test]
fn the_hierarchy_has_five_levels() {
    on_every_engine(async |store| {
        let org = folders(store).await;
        let mut path = Vec::new();
        for level in 1..=5 {
            let parent = path.last().cloned();
            path.push(store.resource(&org, "folder", &format!("f{level}"), parent.as_deref()).await);
        }
        let mut sixth = project(&org, "f6");
        sixth["resource_type_slug"] = json!("folder");
        sixth["parent_resource_id"] = json!(path[4]);
        store.post(RESOURCES, sixth).await.is_error(422, "resource_hierarchy_too_deep");
        // A subtree of two levels fits below three, not below four.
        let top = store.resource(&org, "folder", "top", None).await;
        store.resource(&org, "folder", "leaf", Some(&top)).await;
        let deep = json!({"parent_resource_id": path[3]});
        store.patch(&one(&top), deep).await.is_error(422, "resource_hierarchy_too_deep");
        store.patch(&one(&top), json!({"parent_resource_id": path[2]})).await.is(200);
    });
}

/// R4, D7: a type may be below itself, the depth is a setting, and roles are inherited all the way down.
#[test]
fn the_hierarchy_can_be_deeper() {
    on_every_engine(async |store| {
        let database = store.database.clone();
        let deeper = Running::start_with(portcullis::store::Settings { max_depth: 64, ..settings(&database) }).await;
        let org = folders(&deeper).await;
        let member = deeper.member(&org, "ada").await;
        let mut parent: Option<String> = None;
        for level in 1..=64 {
            parent = Some(deeper.resource(&org, "folder", &format!("f{level}"), parent.as_deref()).await);
        }
        let lowest = parent.unwrap_or_default();
        let mut new = project(&org, "f65");
        new["resource_type_slug"] = json!("folder");
        new["parent_resource_id"] = json!(lowest);
        deeper.post(RESOURCES, new).await.is_error(422, "resource_hierarchy_too_deep");
        let first = id(&deeper.get(&named(&org, "folder", "f1")).await.is(200));
        deeper.assign(&member, "reader", &first).await;
        assert!(deeper.may(&member, "folder:read", &lowest).await);
        deeper.delete(&format!("{}?cascade_delete=true", one(&first))).await.is(204);
        deeper.stop().await;
    });
}

/// R48: so many of one type in one organization; 5,000 unless set.
#[test]
fn an_organization_has_a_bounded_number_of_resources_of_a_type() {
    on_every_engine(async |store| {
        assert_eq!(settings(&store.database).max_resources_of_type, 5000);
        let few = portcullis::store::Settings { max_resources_of_type: 2, ..settings(&store.database) };
        let few = Running::start_with(few).await;
        few.usual_model("multiple").await;
        let (org, other) = (few.organization("Acme").await, few.organization("Other").await);
        let first = few.resource(&org, "project", "p1", None).await;
        few.resource(&org, "project", "p2", None).await;
        let refused = few.post(RESOURCES, project(&org, "p3")).await;
        assert_eq!(refused.body["errors"][0]["field"], "resource_type_slug");
        refused.is_error(422, "resource_limit_exceeded");
        few.get(&named(&org, "project", "p3")).await.is_error(404, "entity_not_found");
        // Other types and other organizations have room of their own, and whatever goes makes room.
        few.resource(&org, "workspace", "w1", None).await;
        few.resource(&other, "project", "p1", None).await;
        few.delete(&one(&first)).await.is(204);
        few.post(RESOURCES, project(&org, "p3")).await.is(201);
        few.stop().await;
    });
}

/// R38: no resource stands below itself.
#[test]
fn a_cycle_is_refused() {
    on_every_engine(async |store| {
        let org = folders(store).await;
        let a = store.resource(&org, "folder", "a", None).await;
        let b = store.resource(&org, "folder", "b", Some(&a)).await;
        let c = store.resource(&org, "folder", "c", Some(&b)).await;
        for below in [&a, &b, &c] {
            let body = json!({"parent_resource_id": below});
            store.patch(&one(&a), body).await.is_error(422, "resource_hierarchy_cycle");
        }
        assert_eq!(store.get(&one(&a)).await.is(200)["parent_resource_id"], json!(store.root(&org).await));
    });
}

/// R38: inherited permissions follow a move at once, for the whole subtree.
#[test]
fn what_is_moved_inherits_from_its_new_place() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let org = store.organization("Acme").await;
        let member = store.member(&org, "ada").await;
        let w1 = store.resource(&org, "workspace", "w1", None).await;
        let w2 = store.resource(&org, "workspace", "w2", None).await;
        let project = store.resource(&org, "project", "p1", Some(&w1)).await;
        let app = store.resource(&org, "app", "a1", Some(&project)).await;
        store.assign(&member, "workspace-admin", &w1).await;
        assert!(store.may(&member, "app:edit", &app).await);
        let there = json!({"parent_resource_type_slug": "workspace", "parent_resource_external_id": "w2"});
        let moved = store.patch(&one(&project), there).await.is(200);
        assert_eq!(moved["parent_resource_id"], json!(w2));
        assert!(!store.may(&member, "app:edit", &app).await);
        store.patch(&named(&org, "project", "p1"), json!({"parent_resource_id": w1})).await.is(200);
        assert!(store.may(&member, "app:edit", &app).await);
    });
}

/// R39: without `cascade_delete` dependents protect a resource; with it everything below goes, and every role on any of it.
#[test]
fn deleting_goes_as_far_as_it_is_told() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let org = store.organization("Acme").await;
        let member = store.member(&org, "ada").await;
        let group = store.group(&org, "eng", &[&member]).await;
        let workspace = store.resource(&org, "workspace", "w1", None).await;
        let project = store.resource(&org, "project", "p1", Some(&workspace)).await;
        let app = store.resource(&org, "app", "a1", Some(&project)).await;
        let other = store.resource(&org, "project", "p2", None).await;
        store.assign(&member, "workspace-admin", &workspace).await;
        store.assign(&member, "project-editor", &project).await;
        store.assign(&member, "project-editor", &other).await;
        store.assign_group(&group, "project-viewer", Some(&project)).await;
        store.delete(&one(&workspace)).await.is_error(409, "resource_has_dependents");
        let refused = format!("{}?cascade_delete=false", one(&other));
        store.delete(&refused).await.is_error(409, "resource_has_dependents");
        let odd = format!("{}?cascade_delete=maybe", one(&other));
        store.delete(&odd).await.is_error(422, "invalid_request_parameters");
        store.delete(&format!("{}?cascade_delete=true", named(&org, "workspace", "w1"))).await.is(204);
        for gone in [&workspace, &project, &app] {
            store.get(&one(gone)).await.is_error(404, "entity_not_found");
        }
        let held = format!("/authorization/organization_memberships/{member}/role_assignments");
        let on: Vec<String> = store.get(&held).await.listed("/resource/external_id");
        assert!(on.contains(&"p2".to_owned()) && !on.contains(&"p1".to_owned()), "{on:?}");
        let held = format!("/authorization/groups/{group}/role_assignments");
        assert!(store.get(&held).await.listed("/id").is_empty());
        let verification = store.store.compare_log_with_rows().await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(verification.differences, Vec::<String>::new());
    });
}

#[test]
fn resources_are_listed_by_every_filter() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let (org, other) = (store.organization("Acme").await, store.organization("Other").await);
        let w1 = store.resource(&org, "workspace", "w1", None).await;
        store.resource(&org, "workspace", "w2", None).await;
        store.resource(&org, "project", "p1", Some(&w1)).await;
        store.resource(&org, "project", "p2", Some(&w1)).await;
        store.resource(&other, "project", "p1", None).await;
        let list = async |query: &str| {
            let mut ids = store.get(&format!("{RESOURCES}?{query}")).await.listed("/external_id");
            ids.sort_unstable();
            ids
        };
        let in_org = format!("organization_id={org}");
        assert_eq!(list(&in_org).await, [org.as_str(), "p1", "p2", "w1", "w2"], "the root among them");
        assert_eq!(list("resource_type_slug=project").await, ["p1", "p1", "p2"]);
        assert_eq!(list(&format!("{in_org}&resource_external_id=p1")).await, ["p1"]);
        assert_eq!(list(&format!("{in_org}&parent_resource_id={w1}")).await, ["p1", "p2"]);
        let parent = "parent_resource_type_slug=workspace&parent_external_id=w1";
        assert_eq!(list(&format!("{in_org}&{parent}")).await, ["p1", "p2"]);
        assert_eq!(list(&format!("{in_org}&parent_resource_type_slug=workspace&parent_external_id=w2")).await, [""; 0]);
        assert_eq!(list(&format!("{in_org}&search=W")).await, ["w1", "w2"]);
        assert_eq!(list(&format!("{in_org}&search=%25")).await, [""; 0], "no wildcards");
        assert_eq!(list("organization_id=org_nobody").await, [""; 0]);
        let newest = store.get(&format!("{RESOURCES}?{in_org}&limit=2")).await.listed("/external_id");
        assert_eq!(newest, ["p2", "p1"]);
        let refused = "missing_organization_id_or_resource_type_slug";
        store.get(RESOURCES).await.is_error(400, refused);
        store.get(&format!("{RESOURCES}?resource_external_id=p1")).await.is_error(400, refused);
        for odd in [format!("parent_resource_id={w1}&{parent}"), "parent_external_id=w1".to_owned()] {
            store.get(&format!("{RESOURCES}?{in_org}&{odd}")).await.is_error(422, "invalid_parent_resource");
        }
    });
}
