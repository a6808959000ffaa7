//! `verify: live`: the server has the last word on what the facts allow.

use std::time::Duration;

use serde_json::json;

use crate::between::Reply;
use crate::site::{person, sidecar, unassign, with_store};

fn slow_facts(between: &crate::between::Between) -> crate::support::Builder {
    let facts = crate::site::facts(between, ", events: 0s, check_within: 300ms");
    sidecar(between, "").facts(&facts.replace("min: 1s, max: 1500ms", "min: 200s, max: 200s"))
}

#[test]
fn a_revocation_is_in_force_at_once_where_the_server_is_asked() {
    with_store("multiple", async |store, between| {
        let acme = store.organization("Acme").await;
        let ada = person(store, &acme, "ada", false).await;
        let project = store.resource(&acme, "project", "42", None).await;
        let viewer = store.assign(&ada.membership, "project-viewer", &project).await;
        let editor = store.assign(&ada.membership, "project-editor", &project).await;
        let path = format!("/user_management/organization_memberships/{}", ada.membership);
        store.put(&path, json!({"role_slugs": ["admin"]})).await.is(200);
        let system = slow_facts(between).start();
        for target in ["/careful/42", "/careful-org", "/either/42", "/both/42"] {
            system.get(target).with(&ada.token).passes();
        }
        assert_eq!(between.count("/check"), 5, "one for each permission that has to be there");
        store.put(&path, json!({"role_slugs": ["member"]})).await.is(200);
        unassign(store, &ada.membership, &editor).await;
        system.get("/careful/42").with(&ada.token).passes();
        system.get("/either/42").with(&ada.token).passes();
        system.get("/both/42").with(&ada.token).is_refused(403, "not_granted");
        system.get("/careful-org").with(&ada.token).is_refused(403, "not_granted");
        system.get("/org").with(&ada.token).passes();
        unassign(store, &ada.membership, &viewer).await;
        system.get("/either/42").with(&ada.token).is_refused(403, "not_granted");
        system.get("/careful/42").with(&ada.token).is_refused(403, "not_granted");
        system.get("/projects/42").with(&ada.token).passes();
        let explain = json!({"method": "GET", "url": "/careful/42", "token": ada.token}).to_string();
        let why = system.admin_page("POST", "/explain", &explain).json();
        assert_eq!((&why["outcome"], &why["reason"]), (&json!("deny"), &json!("not_granted")), "{why}");
    });
}

#[test]
fn what_the_facts_deny_is_not_asked() {
    with_store("multiple", async |store, between| {
        let acme = store.organization("Acme").await;
        let ada = person(store, &acme, "ada", true).await;
        store.resource(&acme, "project", "42", None).await;
        let system = slow_facts(between).start();
        system.get("/careful/42").with(&ada.token).is_refused(403, "not_granted");
        assert_eq!(between.count("/check"), 0);
    });
}

#[test]
fn a_server_that_does_not_answer_in_time_confirms_nothing() {
    with_store("multiple", async |store, between| {
        let acme = store.organization("Acme").await;
        let ada = person(store, &acme, "ada", true).await;
        let project = store.resource(&acme, "project", "42", None).await;
        store.assign(&ada.membership, "project-viewer", &project).await;
        let system = slow_facts(between).start();
        system.get("/careful/42").with(&ada.token).passes();
        let answers = |status, body| move |_: &_, _| Some(Reply { status, retry_after: None, body: json!(body) });
        between.answers(answers(500, "oops"));
        system.get("/careful/42").with(&ada.token).is_refused(503, "facts_unavailable");
        between.answers(answers(200, "yes"));
        system.get("/careful/42").with(&ada.token).is_refused(503, "facts_unavailable");
        between.is_gone();
        system.get("/careful/42").with(&ada.token).is_refused(503, "facts_unavailable");
        between.is_honest();
        between.is_late(Duration::from_secs(2));
        let begun = std::time::Instant::now();
        system.get("/careful/42").with(&ada.token).is_refused(503, "facts_unavailable");
        assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
        between.is_honest();
        system.get("/careful/42").with(&ada.token).passes();
    });
}
