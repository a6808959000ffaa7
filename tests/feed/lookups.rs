//! Whole catalogs and organizations, as `curl` would read them.

use crate::company::{Company, on_every_engine};
use crate::sidecar::SYNC_KEY;
use crate::support::{KEY, Running};

fn bearer(key: &str) -> Vec<(&'static str, String)> {
    vec![("authorization", format!("Bearer {key}"))]
}

async fn get(store: &Running, path: &str, key: &str) -> crate::support::Answer {
    let headers = bearer(key);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    store.send("GET", path, None, &headers).await
}

#[test]
fn facts_are_read_as_of_one_moment() {
    on_every_engine(async |store| {
        let company = Company::found(store, "Acme").await;
        let (assignment, seq) = company.let_in(store).await;
        let head = get(store, "/sync/v1/head", SYNC_KEY).await.is(200);
        assert_eq!((&head["head"], &head["oldest"]), (&seq.into(), &1.into()));
        let catalog = get(store, "/sync/v1/catalog", SYNC_KEY).await;
        assert_eq!(
            catalog.headers["etag"].to_str().unwrap(),
            format!("\"r1.{}.{seq}\"", head["epoch"].as_str().unwrap())
        );
        let catalog = catalog.is(200);
        assert_eq!((&catalog["chain"], &catalog["epoch"]), (&head["chain"], &head["epoch"]));
        assert!(catalog["roles"].as_array().unwrap().iter().any(|role| role["slug"] == "project-editor"));
        let path = format!("/sync/v1/organizations/{}", company.organization);
        let facts = get(store, &path, SYNC_KEY).await.is(200);
        assert_eq!(facts["seq"], seq);
        let assignments = facts["facts"]["assignments"].as_array().unwrap();
        assert!(assignments.iter().any(|row| row["id"] == assignment));
        assert_eq!(facts["digest"].as_str().unwrap().len(), 32);
        let ids = get(store, "/sync/v1/organizations", SYNC_KEY).await.is(200);
        assert_eq!(ids["ids"][0], company.organization);
        let revocations = get(store, "/sync/v1/revocations", SYNC_KEY).await.is(200);
        assert_eq!(revocations["revocations"].as_array().unwrap().len(), 0);
    });
}

#[test]
fn the_feed_has_keys_of_its_own() {
    on_every_engine(async |store| {
        for path in ["head", "catalog", "organizations", "organizations/org_1", "revocations"] {
            let path = format!("/sync/v1/{path}");
            get(store, &path, KEY).await.is_error(401, "unauthorized");
            get(store, &path, "sync_tes").await.is_error(401, "unauthorized");
        }
        // And a sync key is good for nothing else.
        get(store, "/organizations", SYNC_KEY).await.is_error(401, "unauthorized");
    });
}

#[test]
fn a_key_for_some_organizations_sees_no_others() {
    on_every_engine(async |store| {
        let company = Company::found(store, "Acme").await;
        let path = format!("/sync/v1/organizations/{}", company.organization);
        let answer = get(store, &path, "sync_some").await;
        assert!(answer.headers.contains_key("x-portcullis-revision"));
        assert!(answer.is(404)["facts"].is_null());
        let page = get(store, "/sync/v1/organizations?limit=1", "sync_some").await.is(200);
        assert_eq!((page["ids"].as_array().unwrap().len(), &page["after"]), (0, &serde_json::Value::Null));
        let sidecar = crate::sidecar::Sidecar::start_with(
            store.address,
            "sync_some",
            true,
            portcullis::live::Settings::default(),
        );
        sidecar.is_fresh().await;
        let (_, seq) = company.let_in(store).await;
        sidecar.reaches(seq).await;
        assert_eq!(
            sidecar.may(&company.organization, &company.membership, "project:edit", &company.project).await,
            Some(false)
        );
        sidecar.stop().await;
    });
}

#[test]
fn batches_are_bounded_lines() {
    on_every_engine(async |store| {
        let company = Company::found(store, "Acme").await;
        let headers = bearer(SYNC_KEY);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let body = serde_json::json!({"ids": [company.organization]});
        let batch = store.send("POST", "/sync/v1/organizations:batch", Some(body), &headers).await.is(200);
        assert_eq!(batch["id"], company.organization, "one line is one object");
        let ids: Vec<String> = (0..257).map(|number| format!("org_{number}")).collect();
        let body = serde_json::json!({"ids": ids});
        store.send("POST", "/sync/v1/organizations:batch", Some(body), &headers).await.is_error(422, "too_long");
    });
}
