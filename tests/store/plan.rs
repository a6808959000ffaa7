//! What a plan says is what `apply` does: the same change is planned, then carried out, and the audit has what was foretold (our
//! decision D15).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{READER, Running, on_every_engine};

const MODEL: &str = "/portcullis/v1/model";
const PLAN: &str = "/portcullis/v1/model/plan";
const AUDIT: &str = "/portcullis/v1/audit?limit=100";

/// How often each action is in the audit.
async fn actions(store: &Running) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for action in store.get(AUDIT).await.listed("/action") {
        *counts.entry(action).or_default() += 1;
    }
    counts
}

/// Plans the model, wants no trace of that, and puts it in force; what was foretold, and by how much each action became more frequent.
async fn plan_and_apply(store: &Running, model: Value) -> (Value, BTreeMap<String, u64>) {
    let before = actions(store).await;
    let (events, settings) = (store.get("/events?limit=100").await.is(200), store.get(MODEL).await.is(200));
    let planned = store.post(PLAN, model.clone()).await.is(200);
    assert_eq!(store.get("/events?limit=100").await.is(200), events, "a plan has no effect");
    assert_eq!((store.get(MODEL).await.is(200), actions(store).await), (settings, before.clone()));
    store.put(MODEL, model).await.is(200);
    let more = actions(store).await.into_iter().map(|(action, count)| {
        let former = before.get(&action).copied().unwrap_or_default();
        (action, count - former)
    });
    (planned["effects"].clone(), more.filter(|(_, count)| *count > 0).collect())
}

async fn without(store: &Running, list: &str, slug: &str) -> Value {
    let mut model = store.get(MODEL).await.is(200);
    model[list].as_array_mut().unwrap().retain(|item| item["slug"] != slug);
    model
}

/// R25 and D1, single-role mode: whoever loses a role through a group loses their direct one too, and the plan counts it.
#[test]
fn a_plan_counts_what_falls_back_to_the_default_role() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("Acme").await;
        let root = store.root(&organization).await;
        let (ada, bob) = (store.member(&organization, "ada").await, store.member(&organization, "bob").await);
        store.assign(&ada, "billing-admin", &root).await;
        store.assign(&bob, "admin", &root).await;
        let group = store.group(&organization, "eng", &[&ada]).await;
        store.assign_group(&group, "admin", None).await;
        assert_eq!(store.roles(&ada).await, ["admin"]);
        let model = without(store, "roles", "admin").await;
        let (effects, more) = plan_and_apply(store, model).await;
        assert_eq!((store.roles(&ada).await, store.roles(&bob).await), (vec!["member".into()], vec!["member".into()]));
        assert_eq!(
            effects,
            json!({"memberships_repointed": 2, "assignments_dropped": 2, "group_assignments_dropped": 1,
                   "identity_provider_roles_dropped": 0, "organization_roles_reduced": 0})
        );
        assert_eq!((more["role_assignment.created"], more["role_assignment.deleted"]), (2, 2), "{more:?}");
        assert_eq!(more["group_role_assignment.deleted"], 1, "{more:?}");
    });
}

/// R25: a mapping of the identity provider goes with its role, and the plan counts it.
#[test]
fn a_plan_counts_mappings_of_the_identity_provider() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let organization = store.organization("Acme").await;
        let path = format!("/portcullis/v1/organizations/{organization}/identity_provider_roles");
        let mappings = json!([{"identity_provider_group": "staff", "role_slug": "admin"}]);
        store.put(&path, json!({"identity_provider_roles": mappings})).await.is(200);
        let model = without(store, "roles", "admin").await;
        let (effects, more) = plan_and_apply(store, model).await;
        assert_eq!(effects["identity_provider_roles_dropped"], 1);
        assert_eq!(more["identity_provider_role.deleted"], 1, "{more:?}");
    });
}

/// R26: a permission that goes leaves the roles of organizations, and the plan counts them.
#[test]
fn a_plan_counts_roles_of_organizations_that_lose_a_permission() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        for name in ["Acme", "Globex"] {
            let organization = store.organization(name).await;
            let path = format!("/authorization/organizations/{organization}/roles");
            store.post(&path, json!({"slug": "org-h", "name": "H", "resource_type_slug": "app"})).await.is(201);
            store.post(&format!("{path}/org-h/permissions"), json!({"slug": "app:edit"})).await.is(200);
        }
        let mut model = without(store, "permissions", "app:edit").await;
        for role in model["roles"].as_array_mut().unwrap() {
            role["permissions"].as_array_mut().unwrap().retain(|slug| slug != "app:edit");
        }
        let (effects, _) = plan_and_apply(store, model).await;
        assert_eq!(effects["organization_roles_reduced"], 2);
    });
}

/// A plan waits for its turn like a write, so a key that may only read cannot ask for one.
#[test]
fn a_plan_needs_a_key_that_may_write() {
    on_every_engine(async |store| {
        let body = store.get(MODEL).await.is(200);
        let reader = format!("Bearer {READER}");
        let reader = [("authorization", reader.as_str())];
        store.send("POST", PLAN, Some(body), &reader).await.is_error(403, "forbidden");
    });
}
