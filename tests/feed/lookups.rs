//! Whole catalogs and organizations, as `curl` would read them.

use portcullis::domain::{Principal, UnixSeconds};
use portcullis::wire::RevocationKind;
use serde_json::{Value, json};

use crate::company::{Company, on_every_engine, settings};
use crate::sidecar::{SYNC_KEY, Sidecar};
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
fn a_revoked_membership_says_whose_it_was_also_in_a_database_of_before() {
    on_every_engine(async |store| {
        let (acme, bolt) = (Company::found(store, "Acme").await, Company::found(store, "Bolt").await);
        let path = |company: &Company| format!("/user_management/organization_memberships/{}", company.membership);
        let user = store.get(&path(&acme)).await.is(200)["user_id"].as_str().unwrap().to_owned();
        store.put(&format!("{}/deactivate", path(&acme)), json!({})).await.is(200);
        let list = async |store: &Running| {
            let mut list = get(store, "/sync/v1/revocations", SYNC_KEY).await.is(200);
            list["revocations"]
                .as_array_mut()
                .unwrap()
                .drain(..)
                .map(|entry| entry["holder"].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(list(store).await, [json!({"user": user, "organization": acme.organization})]);
        // As it was before the columns were added.
        let pool = sqlx::AnyPool::connect(&store.database).await.unwrap();
        for column in ["user_id", "organization_id"] {
            let statement = sqlx::AssertSqlSafe(format!("ALTER TABLE revocations DROP COLUMN {column}"));
            sqlx::query(statement).execute(&pool).await.unwrap();
        }
        sqlx::query("DELETE FROM _sqlx_migrations WHERE version = 2").execute(&pool).await.unwrap();
        pool.close().await;
        let later = Running::start_with(settings(&store.database)).await;
        assert_eq!(list(&later).await, [Value::Null]);
        let sidecar = Sidecar::start(later.address);
        sidecar.is_fresh().await;
        assert_eq!(sidecar.world.revocations().count(), 1);
        let answer = later.delete(&path(&bolt)).await;
        sidecar.reaches(answer.revision()).await;
        let holders = list(&later).await;
        assert_eq!(
            holders.iter().filter(|holder| holder["organization"] == bolt.organization).count(),
            1,
            "{holders:?}"
        );
        let ada = principal(holders.iter().find(|holder| holder.is_object()).unwrap());
        assert_eq!(sidecar.world.revocations().find(&ada, UnixSeconds(2)), Some(RevocationKind::Membership));
        sidecar.stop().await;
        later.stop().await;
    });
}

/// Somebody with a token of long ago that does not name the membership.
fn principal(holder: &Value) -> Principal {
    Principal {
        issuer: "test".into(),
        user: holder["user"].as_str().unwrap().parse().unwrap(),
        session: None,
        organization: Some(holder["organization"].as_str().unwrap().parse().unwrap()),
        membership: None,
        role: None,
        roles: Box::default(),
        permissions: Box::default(),
        issued_at: Some(UnixSeconds(1)),
        expires_at: UnixSeconds(i64::MAX),
        impersonated: false,
        claims: serde_json::Map::new(),
    }
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
