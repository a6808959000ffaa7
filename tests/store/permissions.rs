//! Permissions of the environment, as clients see them (WorkOS contract, section 1.1).

use serde_json::json;

use crate::support::{READER, on_every_engine};

const PERMISSIONS: &str = "/authorization/permissions";

#[test]
fn a_permission_can_be_created_once_and_is_listed() {
    on_every_engine(async |store| {
        let new = json!({"slug": "project:edit", "name": "Edit", "description": null});
        let created = store.post(PERMISSIONS, new.clone()).await;
        assert_eq!(created.revision(), 2, "the first one seeds the environment");
        let permission = created.is(201);
        assert_eq!(permission["object"], "permission");
        assert_eq!(permission["resource_type_slug"], "organization");
        assert!(permission["id"].as_str().is_some_and(|id| id.starts_with("perm_") && id.len() == 31));
        assert!(permission.as_object().is_some_and(|object| object.contains_key("description")));
        store.post(PERMISSIONS, new).await.is_error(409, "permission_slug_conflict");
        assert_eq!(store.get(PERMISSIONS).await.listed("/slug"), ["project:edit"]);
        assert_eq!(store.get("/authorization/permissions/project%3Aedit").await.is(200), permission);
        store.get("/authorization/permissions/project:view").await.is_error(404, "entity_not_found");
    });
}

/// D12: a cursor is the id of an object that is there.
#[test]
fn pages_go_both_ways() {
    on_every_engine(async |store| {
        for number in 1..=5 {
            let body = json!({"slug": format!("p{number}"), "name": "P"});
            store.post(PERMISSIONS, body).await.is(201);
        }
        let first = store.get("/authorization/permissions?limit=2").await.is(200);
        assert_eq!(first["data"][0]["slug"], "p5");
        assert_eq!(first["list_metadata"]["before"], json!(null));
        let after = first["list_metadata"]["after"].as_str().unwrap_or_default().to_owned();
        let second = store.get(&format!("/authorization/permissions?limit=2&after={after}")).await.is(200);
        assert_eq!((second["data"][0]["slug"].as_str(), second["data"][1]["slug"].as_str()), (Some("p3"), Some("p2")));
        let before = second["list_metadata"]["before"].as_str().unwrap_or_default().to_owned();
        let back = store.get(&format!("/authorization/permissions?limit=2&before={before}")).await.is(200);
        assert_eq!(back, first);
        let ascending = store.get("/authorization/permissions?limit=2&order=asc").await;
        assert_eq!(ascending.listed("/slug"), ["p1", "p2"]);
        store.get("/authorization/permissions?after=perm_nobody").await.is_error(422, "unknown_cursor");
        store.get("/authorization/permissions?limit=0").await.is_error(422, "invalid_request_parameters");
        store.get("/authorization/permissions?limit=101").await.is_error(422, "invalid_request_parameters");
    });
}

#[test]
fn what_cannot_be_a_permission_is_refused_and_writes_nothing() {
    on_every_engine(async |store| {
        for body in [
            json!({"name": "N"}),
            json!({"slug": "", "name": "N"}),
            json!({"slug": "Upper", "name": "N"}),
            json!({"slug": "a".repeat(49), "name": "N"}),
            json!({"slug": "a", "name": "n".repeat(49)}),
            json!({"slug": "a", "name": "n\u{0}"}),
            json!({"slug": 1, "name": "N"}),
            json!([]),
        ] {
            store.post(PERMISSIONS, body).await.is_error(422, "invalid_request_parameters");
        }
        store.send_bytes("POST", PERMISSIONS, b"{".to_vec(), &[]).await.is_error(400, "bad_request");
        store.send_bytes("POST", PERMISSIONS, vec![b' '; 10_000_000], &[]).await.is_error(413, "request_too_large");
        let nested = ["[".repeat(200), "]".repeat(200)].concat();
        assert!(store.send_bytes("POST", PERMISSIONS, nested.into_bytes(), &[]).await.status < 500);
        store
            .post(PERMISSIONS, json!({"slug": "a", "name": "N", "resource_type_slug": "nothing"}))
            .await
            .is_error(404, "entity_not_found");
        assert_eq!(store.post(PERMISSIONS, json!({"slug": "a", "name": "N"})).await.revision(), 2);
    });
}

#[test]
fn a_key_is_needed_and_its_scope() {
    on_every_engine(async |store| {
        let body = Some(json!({"slug": "a", "name": "N"}));
        let nobody = [("authorization", "")];
        let reader = format!("Bearer {READER}");
        let reader = [("authorization", reader.as_str())];
        store.send("POST", PERMISSIONS, body.clone(), &nobody).await.is_error(401, "unauthorized");
        store.send("POST", PERMISSIONS, body.clone(), &reader).await.is_error(403, "forbidden");
        store.send("GET", PERMISSIONS, None, &reader).await.is(200);
        store.get("/nothing").await.is_error(404, "endpoint_not_found");
        store.delete(PERMISSIONS).await.is_error(405, "method_not_allowed");
    });
}

/// D14: within 24 hours the same request has the same answer, another with its key is refused.
#[test]
fn a_repeated_request_has_one_effect() {
    on_every_engine(async |store| {
        let key = [("idempotency-key", "once")];
        let body = Some(json!({"slug": "a", "name": "N"}));
        let first = store.send("POST", PERMISSIONS, body.clone(), &key).await;
        let again = store.send("POST", PERMISSIONS, body, &key).await;
        assert_eq!(first.revision(), again.revision());
        assert_eq!(first.is(201), again.is(201));
        let other = Some(json!({"slug": "b", "name": "N"}));
        store.send("POST", PERMISSIONS, other, &key).await.is_error(422, "idempotency_key_reused");
    });
}
