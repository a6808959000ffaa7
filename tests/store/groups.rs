//! Groups and their members, as clients see them (WorkOS contract, section 1.9).

use serde_json::{Value, json};

use crate::support::{Running, company::id, on_every_engine};

fn groups(organization: &str) -> String {
    format!("/organizations/{organization}/groups")
}

fn members(organization: &str, group: &str) -> String {
    format!("/organizations/{organization}/groups/{group}/organization-memberships")
}

/// Kind and data of the last events, newest first.
async fn events(store: &Running, limit: usize) -> Vec<(String, Value)> {
    let body = store.get(&format!("/events?order=desc&limit={limit}")).await.is(200);
    let data = body["data"].as_array().unwrap();
    data.iter().map(|event| (event["event"].as_str().unwrap().to_owned(), event["data"].clone())).collect()
}

#[test]
fn a_group_can_be_made_changed_and_deleted() {
    on_every_engine(async |store| {
        let organization = store.organization("Acme").await;
        let body = json!({"name": "n".repeat(256), "description": null});
        let group = store.post(&groups(&organization), body).await.is(201);
        assert_eq!((&group["object"], &group["organization_id"]), (&json!("group"), &json!(organization)));
        assert!(id(&group).starts_with("group_"));
        assert_eq!(events(store, 1).await, [("group.created".to_owned(), group.clone())]);
        let path = format!("{}/{}", groups(&organization), id(&group));
        assert_eq!(store.get(&path).await.is(200), group);
        let changed = store.patch(&path, json!({"name": "Engineering", "description": "All of it"})).await;
        let same = store.patch(&path, json!({"name": "Engineering"})).await;
        assert_eq!(changed.revision(), same.revision());
        let changed = changed.is(200);
        assert_eq!(changed["description"], "All of it");
        assert_eq!(events(store, 1).await, [("group.updated".to_owned(), changed)]);
        let cleared = store.patch(&path, json!({"description": null})).await.is(200);
        assert_eq!((&cleared["name"], &cleared["description"]), (&json!("Engineering"), &Value::Null));
        store.delete(&path).await.is(204);
        assert_eq!(events(store, 1).await, [("group.deleted".to_owned(), cleared)]);
        store.get(&path).await.is_error(404, "entity_not_found");
        store.delete(&path).await.is_error(404, "entity_not_found");
        store.patch(&path, json!({"name": "x"})).await.is_error(404, "entity_not_found");
        for body in [
            json!({}),
            json!({"name": ""}),
            json!({"name": "n".repeat(257)}),
            json!({"name": "n", "description": "d".repeat(151)}),
        ] {
            store.post(&groups(&organization), body).await.is_error(422, "invalid_request_parameters");
        }
        store.post(&groups("org_nowhere"), json!({"name": "n"})).await.is_error(404, "entity_not_found");
    });
}

#[test]
fn groups_are_listed_by_name_and_id() {
    on_every_engine(async |store| {
        let organization = store.organization("Acme").await;
        let first = store.group(&organization, "Engineering", &[]).await;
        store.group(&organization, "Sales", &[]).await;
        let elsewhere = store.organization("Bolt").await;
        store.group(&elsewhere, "Engineering", &[]).await;
        let path = groups(&organization);
        assert_eq!(store.get(&path).await.listed("/name"), ["Sales", "Engineering"]);
        assert_eq!(store.get(&format!("{path}?search=ENGIN")).await.listed("/id"), [first.as_str()]);
        assert_eq!(store.get(&format!("{path}?search={first}")).await.listed("/id"), [first.as_str()]);
        assert_eq!(store.get(&format!("{path}?limit=1&order=asc")).await.listed("/id"), [first.as_str()]);
        store.get(&groups("org_nowhere")).await.is_error(404, "entity_not_found");
    });
}

/// R28: a group belongs to one organization, as its members do.
#[test]
fn a_group_and_its_members_belong_to_one_organization() {
    on_every_engine(async |store| {
        let (acme, bolt) = (store.organization("Acme").await, store.organization("Bolt").await);
        let (ada, bob) = (store.member(&acme, "ada").await, store.member(&bolt, "bob").await);
        let group = store.group(&acme, "Engineering", &[&ada]).await;
        let strange = format!("{}/{group}", groups(&bolt));
        store.get(&strange).await.is_error(404, "entity_not_found");
        store.patch(&strange, json!({"name": "x"})).await.is_error(404, "entity_not_found");
        store.delete(&strange).await.is_error(404, "entity_not_found");
        store.get(&members(&bolt, &group)).await.is_error(404, "entity_not_found");
        let add = |membership: &str| json!({"organization_membership_id": membership});
        store.post(&members(&bolt, &group), add(&bob)).await.is_error(404, "entity_not_found");
        store.delete(&format!("{}/{ada}", members(&bolt, &group))).await.is_error(404, "entity_not_found");
        let path = members(&acme, &group);
        store.post(&path, add(&bob)).await.is_error(422, "membership_of_another_organization");
        store.patch(&path, json!({"add": [bob]})).await.is_error(422, "membership_of_another_organization");
        store.post(&path, add("om_nobody")).await.is_error(404, "entity_not_found");
        store.post(&path, json!({})).await.is_error(422, "invalid_request_parameters");
        assert_eq!(store.get(&path).await.listed("/id"), [ada]);
    });
}

/// R28: adding again changes nothing. D13: one who is no member cannot be removed.
#[test]
fn members_come_and_go() {
    on_every_engine(async |store| {
        let organization = store.organization("Acme").await;
        let (ada, bob) = (store.member(&organization, "ada").await, store.member(&organization, "bob").await);
        let group = store.group(&organization, "Engineering", &[]).await;
        let path = members(&organization, &group);
        let add = json!({"organization_membership_id": ada});
        let added = store.post(&path, add.clone()).await;
        assert_eq!((id(&added.body), &added.body["object"]), (group.clone(), &json!("group")));
        let data = json!({"group_id": group, "organization_membership_id": ada});
        assert_eq!(events(store, 1).await, [("group.member_added".to_owned(), data.clone())]);
        let again = store.post(&path, add).await;
        assert_eq!(added.revision(), again.revision());
        assert_eq!(added.is(200), again.is(200));
        let listed = store.get(&path).await.is(200);
        let member = listed["data"][0].as_object().unwrap();
        assert_eq!(member["id"], ada);
        for key in ["role", "roles"] {
            assert!(!member.contains_key(key), "{key}: the base form");
        }
        // The description of the hosted service has no user here; the Python SDK cannot read the list without.
        assert_eq!(member["user"]["id"], member["user_id"]);
        store.delete(&format!("{path}/{bob}")).await.is_error(404, "entity_not_found");
        store.delete(&format!("{path}/{ada}")).await.is(204);
        assert_eq!(events(store, 1).await, [("group.member_removed".to_owned(), data)]);
        store.delete(&format!("{path}/{ada}")).await.is_error(404, "entity_not_found");
        assert_eq!(store.get(&path).await.listed("/id"), Vec::<String>::new());
    });
}

/// D16: additions and removals together, all of them or none.
#[test]
fn members_are_changed_together() {
    on_every_engine(async |store| {
        let organization = store.organization("Acme").await;
        let mut all = Vec::new();
        for name in ["ada", "bob", "cem"] {
            all.push(store.member(&organization, name).await);
        }
        let group = store.group(&organization, "Engineering", &[&all[0]]).await;
        let path = members(&organization, &group);
        let body = json!({"add": [all[0], all[1], all[2], all[2]], "remove": ["om_nobody"]});
        let changed = store.patch(&path, body.clone()).await;
        let again = store.patch(&path, body).await;
        assert_eq!(changed.revision(), again.revision());
        changed.is(204);
        assert_eq!(store.get(&format!("{path}?order=asc")).await.listed("/id"), all);
        store.patch(&path, json!({"add": [], "remove": [all[0], all[1]]})).await.is(204);
        assert_eq!(store.get(&path).await.listed("/id"), [all[2].as_str()]);
        let before = store.patch(&path, json!({"remove": [all[0]]})).await.revision();
        for body in [
            json!({}),
            json!({"add": [], "remove": []}),
            json!({"add": vec!["om_1"; 101]}),
            json!({"add": vec![all[0].as_str(); 50], "remove": vec![all[2].as_str(); 51]}),
            json!({"add": [all[0]], "remove": [all[0]]}),
            json!({"add": "om_1"}),
        ] {
            store.patch(&path, body).await.is_error(422, "invalid_request_parameters");
        }
        let half = json!({"add": [all[0], "om_nobody"], "remove": [all[2]]});
        store.patch(&path, half).await.is_error(404, "entity_not_found");
        assert_eq!(store.get(&path).await.listed("/id"), [all[2].as_str()]);
        assert_eq!(store.patch(&path, json!({"remove": [all[0]]})).await.revision(), before, "nothing was written");
    });
}

/// R31, R32, R34: what a group has is there for a new member at once, and gone at once.
#[test]
fn members_have_what_the_group_has_as_long_as_they_are_in_it() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let organization = store.organization("Acme").await;
        let (ada, bob) = (store.member(&organization, "ada").await, store.member(&organization, "bob").await);
        let project = store.resource(&organization, "project", "p1", None).await;
        let group = store.group(&organization, "Engineering", &[&ada]).await;
        let other = store.group(&organization, "Editors", &[&bob]).await;
        store.assign_group(&group, "billing-admin", None).await;
        store.assign_group(&group, "project-editor", Some(&project)).await;
        store.assign_group(&other, "project-editor", Some(&project)).await;
        let path = members(&organization, &group);
        assert_eq!(store.roles(&ada).await, ["billing-admin", "member"]);
        store.post(&path, json!({"organization_membership_id": bob})).await.is(200);
        assert_eq!(store.roles(&bob).await, ["billing-admin", "member"]);
        store.delete(&format!("{path}/{bob}")).await.is(204);
        assert_eq!(store.roles(&bob).await, ["member"]);
        assert!(store.may(&bob, "project:edit", &project).await, "what the other group gives stays (R34)");
        assert!(store.may(&ada, "project:edit", &project).await);
        store.delete(&format!("{}/{group}", groups(&organization))).await.is(204);
        assert_eq!(store.roles(&ada).await, ["member"]);
        assert!(!store.may(&ada, "project:edit", &project).await);
        assert!(store.may(&bob, "project:edit", &project).await);
    });
}

/// R33, D1: in single-role mode, who loses the winning role of a group falls back to the default role, not to the direct one before.
#[test]
fn losing_the_winning_role_of_a_group_means_the_default_role() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("Acme").await;
        let mut people = Vec::new();
        for name in ["ada", "bob", "cem", "dan"] {
            let membership = store.member(&organization, name).await;
            let body = json!({"role_slug": "billing-admin"});
            store.put(&format!("/user_management/organization_memberships/{membership}"), body).await.is(200);
            people.push(membership);
        }
        let [ada, bob, cem, dan] = people.as_slice() else { panic!("four") };
        let group = store.group(&organization, "Admins", &[ada, bob, cem, dan]).await;
        let second = store.group(&organization, "More admins", &[bob]).await;
        let weak = store.group(&organization, "Members", &[dan]).await;
        store.assign_group(&group, "admin", None).await;
        store.assign_group(&second, "admin", None).await;
        store.assign_group(&weak, "member", None).await;
        assert_eq!(store.roles(ada).await, ["admin"]);
        store.delete(&format!("{}/{dan}", members(&organization, &weak))).await.is(204);
        assert_eq!(store.roles(dan).await, ["admin"], "losing a role that was not in effect changes nothing");
        store.patch(&members(&organization, &group), json!({"remove": [ada, bob]})).await.is(204);
        assert_eq!(store.roles(ada).await, ["member"]);
        assert_eq!(store.roles(bob).await, ["admin"], "the other group still gives it");
        store.delete(&format!("{}/{group}", groups(&organization))).await.is(204);
        assert_eq!(store.roles(cem).await, ["member"]);
        assert_eq!(store.roles(bob).await, ["admin"]);
        store.delete(&format!("{}/{bob}", members(&organization, &second))).await.is(204);
        assert_eq!(store.roles(bob).await, ["member"]);
    });
}
