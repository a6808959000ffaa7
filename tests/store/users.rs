//! Users, as clients see them (WorkOS contract, section 1.10).

use serde_json::{Value, json};

use crate::support::{company::id, on_every_engine};

const USERS: &str = "/user_management/users";

#[test]
fn an_address_is_lower_case_and_belongs_to_one_user() {
    on_every_engine(async |store| {
        let body = json!({
            "email": "Ada@Example.COM", "first_name": "Ada", "metadata": {"team": "core"}, "external_id": "u 1",
            "password": "is not kept",
        });
        let ada = store.post(USERS, body).await.is(201);
        assert_eq!(ada["object"], "user");
        assert_eq!(ada["email"], "ada@example.com");
        assert_eq!(ada["email_verified"], false);
        for key in ["last_name", "profile_picture_url", "last_sign_in_at"] {
            assert_eq!(ada.get(key), Some(&Value::Null), "{key}");
        }
        assert!(id(&ada).starts_with("user_"));
        let refused = store.post(USERS, json!({"email": "ADA@example.com", "external_id": "u 1"})).await;
        assert_eq!(
            refused.body["errors"][0],
            json!({"field": "email", "code": "email_not_available", "message": "another user has it"})
        );
        assert_eq!(
            refused.body["errors"][1],
            json!({"field": "external_id", "code": "external_id_already_used", "message": "another user has it"})
        );
        refused.is_error(400, "user_creation_error");
        assert_eq!(store.get(&format!("{USERS}/{}", id(&ada))).await.is(200), ada);
        assert_eq!(store.get(&format!("{USERS}/external_id/u%201")).await.is(200), ada);
        store.get(&format!("{USERS}/user_nobody")).await.is_error(404, "entity_not_found");
        store.get(&format!("{USERS}/external_id/nobody")).await.is_error(404, "entity_not_found");
    });
}

#[test]
fn what_is_not_an_address_is_refused() {
    on_every_engine(async |store| {
        for email in
            ["", "ada", "@example.com", "ada@", "a b@example.com", "a@b\u{0}", &format!("{}@x.y", "a".repeat(260))]
        {
            store.post(USERS, json!({"email": email})).await.is_error(422, "invalid_request_parameters");
        }
        store.post(USERS, json!({})).await.is_error(422, "invalid_request_parameters");
        let body = json!({"email": "a@b.c", "metadata": {"a": 1}});
        store.post(USERS, body).await.is_error(400, "invalid_metadata");
    });
}

#[test]
fn a_user_can_be_changed() {
    on_every_engine(async |store| {
        let ada = store.post(USERS, json!({"email": "ada@example.com", "email_verified": true})).await.is(201);
        let ada = format!("{USERS}/{}", id(&ada));
        store.post(USERS, json!({"email": "bob@example.com", "external_id": "bob"})).await.is(201);
        let changed = store.put(&ada, json!({"first_name": "Ada", "locale": "en-GB", "metadata": {"a": "b"}})).await;
        let same = store.put(&ada, json!({"first_name": "Ada", "metadata": {"a": "b"}})).await;
        assert_eq!(changed.revision(), same.revision());
        let changed = changed.is(200);
        assert_eq!(changed, same.is(200));
        assert_eq!((&changed["first_name"], &changed["locale"]), (&json!("Ada"), &json!("en-GB")));
        assert_eq!(changed["email_verified"], true);
        let moved = store.put(&ada, json!({"email": "LOVELACE@example.com", "first_name": null})).await.is(200);
        assert_eq!((&moved["email"], &moved["first_name"]), (&json!("lovelace@example.com"), &Value::Null));
        assert_eq!(moved["email_verified"], false, "nobody has proven the new address");
        store.put(&ada, json!({"email": "bob@example.com"})).await.is_error(400, "email_not_available");
        store.put(&ada, json!({"email": "bob"})).await.is_error(400, "invalid_email");
        store.put(&ada, json!({"external_id": "bob"})).await.is_error(400, "external_id_already_used");
        store.put(&format!("{USERS}/user_nobody"), json!({})).await.is_error(404, "entity_not_found");
    });
}

#[test]
fn users_are_listed_by_address_and_organization() {
    on_every_engine(async |store| {
        let organization = store.organization("Acme").await;
        store.member(&organization, "ada").await;
        store.user("bob").await;
        let emails = async |query: &str| store.get(&format!("{USERS}?order=asc{query}")).await.listed("/email");
        assert_eq!(emails("").await, ["ada@example.com", "bob@example.com"]);
        assert_eq!(emails("&email=BOB%40example.com").await, ["bob@example.com"]);
        assert_eq!(emails(&format!("&organization_id={organization}")).await, ["ada@example.com"]);
        assert_eq!(emails(&format!("&organization={organization}&email=bob@example.com")).await, Vec::<String>::new());
    });
}

/// R46: the memberships go with the user, and what hangs on them.
#[test]
fn a_user_goes_with_the_memberships() {
    on_every_engine(async |store| {
        let organization = store.organization("Acme").await;
        let ada = store.member(&organization, "ada").await;
        let bob = store.member(&organization, "bob").await;
        let group = store.group(&organization, "Engineering", &[&ada, &bob]).await;
        let membership = store.get(&format!("/user_management/organization_memberships/{ada}")).await.is(200);
        let user = membership["user_id"].as_str().unwrap().to_owned();
        let deleted = store.delete(&format!("{USERS}/{user}")).await;
        assert!(deleted.body.is_null());
        deleted.is(200);
        store.get(&format!("{USERS}/{user}")).await.is_error(404, "entity_not_found");
        let path = format!("/user_management/organization_memberships/{ada}");
        store.get(&path).await.is_error(404, "entity_not_found");
        let members = format!("/organizations/{organization}/groups/{group}/organization-memberships");
        assert_eq!(store.get(&members).await.listed("/id"), [bob]);
        let events = store.get("/events?order=desc&limit=2").await;
        assert_eq!(events.listed("/event"), ["user.deleted", "organization_membership.deleted"]);
        store.delete(&format!("{USERS}/{user}")).await.is_error(404, "entity_not_found");
    });
}
