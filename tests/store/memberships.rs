//! Memberships, as clients see them (WorkOS contract, section 1.10).

use serde_json::{Value, json};

use crate::support::{Running, company::id, on_every_engine};

const MEMBERSHIPS: &str = "/user_management/organization_memberships";

fn one(membership: &str) -> String {
    format!("{MEMBERSHIPS}/{membership}")
}

async fn last_event(store: &Running) -> Value {
    store.get("/events?order=desc&limit=1").await.is(200)["data"][0].clone()
}

/// The texts of one column, read past the API.
async fn column(store: &Running, statement: &'static str) -> Vec<String> {
    let pool = sqlx::AnyPool::connect(&store.database).await.unwrap();
    let rows: Vec<(String,)> = sqlx::query_as(statement).fetch_all(&pool).await.unwrap();
    pool.close().await;
    rows.into_iter().map(|(text,)| text).collect()
}

/// Runs a statement past the API.
async fn run(store: &Running, statement: &'static str) {
    let pool = sqlx::AnyPool::connect(&store.database).await.unwrap();
    sqlx::query(statement).execute(&pool).await.unwrap();
    pool.close().await;
}

/// R16: the default role fills in. The full form has role, roles and user.
#[test]
fn a_membership_begins_with_the_default_role() {
    on_every_engine(async |store| {
        let (organization, user) = (store.organization("Acme").await, store.user("ada").await);
        let body = json!({"user_id": user, "organization_id": organization});
        let membership = store.post(MEMBERSHIPS, body).await.is(201);
        assert_eq!(membership["object"], "organization_membership");
        assert!(id(&membership).starts_with("om_"));
        assert_eq!(membership["status"], "active");
        assert_eq!(membership["directory_managed"], false);
        assert_eq!(membership["organization_name"], "Acme");
        assert_eq!(membership["custom_attributes"], json!({}));
        assert_eq!(membership["role"], json!({"slug": "member"}));
        assert_eq!(membership["roles"], json!([{"slug": "member"}]));
        assert_eq!(membership["user"]["email"], "ada@example.com");
        assert_eq!(store.get(&one(&id(&membership))).await.is(200), membership);
        let event = last_event(store).await;
        assert_eq!(event["event"], "organization_membership.created");
        let mut expected = membership.clone();
        expected.as_object_mut().unwrap().remove("user");
        assert_eq!(event["data"], expected, "base, role and roles, no user");
        let rows = column(store, "SELECT role_id FROM assignments").await;
        assert_eq!(rows.len(), 1, "the default role is an assignment like any other");
    });
}

#[test]
fn a_user_has_one_membership_in_an_organization() {
    on_every_engine(async |store| {
        let (organization, user) = (store.organization("Acme").await, store.user("ada").await);
        let body = json!({"user_id": user, "organization_id": organization});
        let membership = id(&store.post(MEMBERSHIPS, body.clone()).await.is(201));
        store.post(MEMBERSHIPS, body.clone()).await.is_error(409, "organization_membership_already_exists");
        store.put(&format!("{}/deactivate", one(&membership)), json!({})).await.is(200);
        let again = store.post(MEMBERSHIPS, body).await.is(201);
        assert_eq!((id(&again), &again["status"]), (membership, &json!("active")));
        let nobody = json!({"user_id": "user_nobody", "organization_id": organization});
        store.post(MEMBERSHIPS, nobody).await.is_error(404, "entity_not_found");
        let nowhere = json!({"user_id": user, "organization_id": "org_nowhere"});
        store.post(MEMBERSHIPS, nowhere).await.is_error(404, "entity_not_found");
        store.post(MEMBERSHIPS, json!({"user_id": user})).await.is_error(422, "invalid_request_parameters");
        let elsewhere = store.organization("Bolt").await;
        store.post(MEMBERSHIPS, json!({"user_id": user, "organization_id": elsewhere})).await.is(201);
    });
}

/// R15: roles of memberships are organization roles. R17: one of them, in single-role mode.
#[test]
fn a_role_of_a_membership_is_an_organization_role_and_the_only_one() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let (organization, user) = (store.organization("Acme").await, store.user("ada").await);
        let with = |key: &str, value: Value| json!({"user_id": user, "organization_id": organization, key: value});
        let refused = store.post(MEMBERSHIPS, with("role_slug", json!("project-editor"))).await;
        assert_eq!(refused.body["role_slug"], "project-editor");
        refused.is_error(422, "sub_resource_scoped_role_not_allowed");
        for slug in ["nothing", "Not A Slug", ""] {
            store.post(MEMBERSHIPS, with("role_slug", json!(slug))).await.is_error(422, "invalid_role");
        }
        let two = with("role_slugs", json!(["admin", "billing-admin"]));
        store.post(MEMBERSHIPS, two).await.is_error(422, "multiple_roles_not_enabled");
        store.post(MEMBERSHIPS, with("role_slugs", json!([]))).await.is_error(422, "invalid_request_parameters");
        let mut both = with("role_slugs", json!(["admin"]));
        both["role_slug"] = json!("admin");
        store.post(MEMBERSHIPS, both).await.is_error(422, "invalid_request_parameters");
        let membership = store.post(MEMBERSHIPS, with("role_slugs", json!(["admin", "admin"]))).await.is(201);
        assert_eq!(membership["roles"], json!([{"slug": "admin"}]));
        let path = one(&id(&membership));
        for (body, code) in [
            (json!({"role_slugs": ["admin", "member"]}), "multiple_roles_not_enabled"),
            (json!({"role_slug": "nothing"}), "invalid_role"),
            (json!({"role_slug": "project-editor"}), "sub_resource_scoped_role_not_allowed"),
            (json!({"role_slug": "admin", "role_slugs": ["admin"]}), "invalid_request_parameters"),
        ] {
            store.put(&path, body).await.is_error(422, code);
        }
        assert_eq!(store.roles(&id(&membership)).await, ["admin"]);
    });
}

/// D18: another role takes the place of the one before, in one transaction. The same once more writes nothing.
#[test]
fn another_organization_role_replaces_the_one_before() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("Acme").await;
        let membership = store.member(&organization, "ada").await;
        let root = store.root(&organization).await;
        assert!(!store.may(&membership, "billing:manage", &root).await);
        let changed = store.put(&one(&membership), json!({"role_slug": "billing-admin"})).await;
        let same = store.put(&one(&membership), json!({"role_slugs": ["billing-admin"]})).await;
        let silent = store.put(&one(&membership), json!({})).await;
        assert_eq!((changed.revision(), changed.revision()), (same.revision(), silent.revision()));
        assert_eq!(changed.is(200)["role"], json!({"slug": "billing-admin"}));
        assert_eq!(store.roles(&membership).await, ["billing-admin"]);
        assert!(store.may(&membership, "billing:manage", &root).await);
        assert_eq!(last_event(store).await["event"], "organization_membership.updated");
        store.put(&one("om_nobody"), json!({"role_slug": "admin"})).await.is_error(404, "entity_not_found");
    });
}

/// R17, R18: several roles where that is switched on; `role` is the one of highest priority.
#[test]
fn several_roles_are_listed_by_priority() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let organization = store.organization("Acme").await;
        let membership = store.member(&organization, "ada").await;
        let changed = store.put(&one(&membership), json!({"role_slugs": ["billing-admin", "admin"]})).await.is(200);
        assert_eq!(changed["role"], json!({"slug": "admin"}));
        assert_eq!(changed["roles"], json!([{"slug": "admin"}, {"slug": "billing-admin"}]));
        let fewer = store.put(&one(&membership), json!({"role_slugs": ["billing-admin"]})).await.is(200);
        assert_eq!(fewer["roles"], json!([{"slug": "billing-admin"}]));
    });
}

/// R11, D4: what is switched off counts for nothing and keeps its roles.
#[test]
fn a_membership_can_be_switched_off_and_on() {
    on_every_engine(async |store| {
        let organization = store.organization("Acme").await;
        let membership = store.member(&organization, "ada").await;
        let (off, on) = (format!("{}/deactivate", one(&membership)), format!("{}/reactivate", one(&membership)));
        let first = store.put(&off, json!({})).await;
        let again = store.put(&off, json!({})).await;
        assert_eq!(first.revision(), again.revision());
        assert_eq!(first.body["status"], "inactive");
        assert_eq!(first.body["roles"], json!([{"slug": "member"}]), "roles are kept");
        assert_eq!(first.is(200), again.is(200));
        assert_eq!(column(store, "SELECT kind FROM revocations").await, ["membership"]);
        assert_eq!(column(store, "SELECT id FROM revocations").await, [membership.as_str()]);
        let bounds = "SELECT CAST(expires - not_before AS TEXT) FROM revocations";
        assert_eq!(column(store, bounds).await, ["86460"]);
        let first = store.put(&on, json!({})).await;
        let again = store.put(&on, json!({})).await;
        assert_eq!(first.revision(), again.revision());
        assert_eq!(first.is(200)["status"], "active");
        assert_eq!(last_event(store).await["event"], "organization_membership.updated");
        let revoked = "SELECT id FROM revocations";
        assert_eq!(column(store, revoked).await.len(), 1, "tokens from before stay revoked");
        store.put(&format!("{}/deactivate", one("om_nobody")), json!({})).await.is_error(404, "entity_not_found");
        store.put(&format!("{}/reactivate", one("om_nobody")), json!({})).await.is_error(404, "entity_not_found");
    });
}

/// R11: a check is false while the membership is off.
#[test]
fn a_membership_that_is_off_may_nothing() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("Acme").await;
        let membership = store.member(&organization, "ada").await;
        let root = store.root(&organization).await;
        store.put(&one(&membership), json!({"role_slug": "admin"})).await.is(200);
        assert!(store.may(&membership, "org:manage", &root).await);
        store.put(&format!("{}/deactivate", one(&membership)), json!({})).await.is(200);
        assert!(!store.may(&membership, "org:manage", &root).await);
        store.put(&format!("{}/reactivate", one(&membership)), json!({})).await.is(200);
        assert!(store.may(&membership, "org:manage", &root).await);
    });
}

/// R11, D4: whoever has not accepted yet is authorized to nothing, finds nothing, and gets no token.
#[test]
fn r11_a_pending_membership_counts_for_nothing() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("Acme").await;
        let membership = store.member(&organization, "ada").await;
        let root = store.root(&organization).await;
        store.assign(&membership, "admin", &root).await;
        // Nothing that the store serves makes one: in the hosted service an invitation does.
        run(store, "UPDATE memberships SET status = 'pending'").await;
        assert!(!store.may(&membership, "org:manage", &root).await);
        let found = format!("/authorization/resources/{root}/organization_memberships?permission_slug=org:manage");
        assert_eq!(store.get(&found).await.listed("/id"), [""; 0]);
        let body = json!({"organization_membership_id": membership});
        store.post("/portcullis/v1/tokens", body).await.is_error(422, "organization_membership_inactive");
        run(store, "UPDATE memberships SET status = 'active'").await;
    });
}

#[test]
fn a_pending_membership_is_neither_switched_off_nor_on() {
    on_every_engine(async |store| {
        let organization = store.organization("Acme").await;
        let membership = store.member(&organization, "ada").await;
        run(store, "UPDATE memberships SET status = 'pending'").await;
        let user = store.get(&one(&membership)).await.is(200)["user_id"].clone();
        let off = store.put(&format!("{}/deactivate", one(&membership)), json!({})).await;
        off.is_error(400, "cannot_deactivate_pending_organization_membership");
        let on = store.put(&format!("{}/reactivate", one(&membership)), json!({})).await;
        on.is_error(400, "cannot_reactivate_pending_organization_membership");
        let again = store.post(MEMBERSHIPS, json!({"user_id": user, "organization_id": organization})).await;
        again.is_error(400, "cannot_reactivate_pending_organization_membership");
        run(store, "UPDATE memberships SET status = 'active'").await;
    });
}

/// Lists are of active memberships unless asked otherwise, and need an organization or a user.
#[test]
fn memberships_are_listed_by_organization_user_and_status() {
    on_every_engine(async |store| {
        let (acme, bolt) = (store.organization("Acme").await, store.organization("Bolt").await);
        let ada = store.member(&acme, "ada").await;
        let bob = store.member(&acme, "bob").await;
        let user = store.get(&one(&ada)).await.is(200)["user_id"].as_str().unwrap().to_owned();
        let body = json!({"user_id": user, "organization_id": bolt});
        let other = id(&store.post(MEMBERSHIPS, body).await.is(201));
        store.put(&format!("{}/deactivate", one(&bob)), json!({})).await.is(200);
        let ids = async |query: &str| store.get(&format!("{MEMBERSHIPS}?order=asc&{query}")).await.listed("/id");
        assert_eq!(ids(&format!("organization_id={acme}")).await, [ada.as_str()]);
        assert_eq!(ids(&format!("organization_id={acme}&statuses=active%2Cinactive")).await, [ada.as_str(), &bob]);
        assert_eq!(ids(&format!("organization_id={acme}&statuses=inactive")).await, [bob.as_str()]);
        assert_eq!(ids(&format!("organization_id={acme}&statuses=pending")).await, Vec::<String>::new());
        assert_eq!(ids(&format!("user_id={user}")).await, [ada.as_str(), &other]);
        assert_eq!(ids(&format!("user_id={user}&organization_id={bolt}")).await, [other.as_str()]);
        let full = store.get(&format!("{MEMBERSHIPS}?user_id={user}&limit=1")).await.is(200);
        assert_eq!(full["data"][0], store.get(&one(&other)).await.is(200));
        assert_eq!(full["list_metadata"]["after"], other);
        store.get(MEMBERSHIPS).await.is_error(400, "missing_user_id_or_organization_id");
        let odd = store.get(&format!("{MEMBERSHIPS}?user_id={user}&statuses=gone")).await;
        odd.is_error(400, "invalid_request_parameters");
        store.get(&format!("{MEMBERSHIPS}?user_id=user_nobody")).await.is_error(404, "entity_not_found");
    });
}

/// R45: its assignments and its places in groups go with it.
#[test]
fn a_membership_goes_with_what_hangs_on_it() {
    on_every_engine(async |store| {
        let organization = store.organization("Acme").await;
        let (ada, bob) = (store.member(&organization, "ada").await, store.member(&organization, "bob").await);
        let group = store.group(&organization, "Engineering", &[&ada, &bob]).await;
        let deleted = store.delete(&one(&ada)).await;
        assert!(deleted.body.is_null());
        deleted.is(200);
        store.get(&one(&ada)).await.is_error(404, "entity_not_found");
        store.delete(&one(&ada)).await.is_error(404, "entity_not_found");
        let members = format!("/organizations/{organization}/groups/{group}/organization-memberships");
        assert_eq!(store.get(&members).await.listed("/id"), [bob.as_str()]);
        assert_eq!(column(store, "SELECT membership_id FROM assignments").await, [bob.as_str()]);
        assert_eq!(column(store, "SELECT membership_id FROM group_members").await, [bob.as_str()]);
        assert_eq!(column(store, "SELECT kind FROM revocations").await, ["membership"]);
        let event = last_event(store).await;
        assert_eq!(event["event"], "organization_membership.deleted");
        assert_eq!((id(&event["data"]), &event["data"]["role"]), (ada.clone(), &json!({"slug": "member"})));
        let log = column(store, "SELECT parts FROM changes ORDER BY seq DESC LIMIT 1").await;
        let parts: Value = serde_json::from_str(&log[0]).unwrap();
        let changes = parts[0]["organization"]["delta"]["changes"].as_array().unwrap();
        let gone: Vec<&str> = changes
            .iter()
            .map(|change| change["delete"].as_object().unwrap().keys().next().unwrap().as_str())
            .collect();
        assert_eq!(gone, ["assignment", "group_member", "member"], "each row has its own place in the log");
    });
}

#[test]
fn the_groups_of_a_membership_are_listed() {
    on_every_engine(async |store| {
        let organization = store.organization("Acme").await;
        let ada = store.member(&organization, "ada").await;
        let first = store.group(&organization, "First", &[&ada]).await;
        store.group(&organization, "Second", &[]).await;
        let third = store.group(&organization, "Third", &[&ada]).await;
        assert_eq!(store.get(&format!("{}/groups", one(&ada))).await.listed("/id"), [third, first]);
        store.get(&format!("{}/groups", one("om_nobody"))).await.is_error(404, "entity_not_found");
    });
}

/// Revocations name what went: a user, a membership, an organization.
#[test]
fn what_goes_revokes_its_tokens() {
    on_every_engine(async |store| {
        let (acme, bolt) = (store.organization("Acme").await, store.organization("Bolt").await);
        let (ada, bob) = (store.member(&acme, "ada").await, store.member(&bolt, "bob").await);
        let user = store.get(&one(&bob)).await.is(200)["user_id"].as_str().unwrap().to_owned();
        store.delete(&one(&ada)).await.is(200);
        store.delete(&format!("/user_management/users/{user}")).await.is(200);
        store.delete(&format!("/organizations/{acme}")).await.is(202);
        let kinds = column(store, "SELECT kind FROM revocations ORDER BY kind").await;
        assert_eq!(kinds, ["membership", "organization", "user"]);
        let ids = column(store, "SELECT id FROM revocations ORDER BY kind").await;
        assert_eq!(ids, [ada, acme, user]);
        let numbers = column(store, "SELECT CAST(seq AS TEXT) FROM revocations ORDER BY revocations.seq").await;
        let log = column(store, "SELECT CAST(seq AS TEXT) FROM changes ORDER BY changes.seq DESC LIMIT 3").await;
        assert_eq!(numbers.into_iter().rev().collect::<Vec<_>>(), log, "each has the number of its transaction");
    });
}
