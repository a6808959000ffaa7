//! Sessions: one for each minted token, to be revoked by (D22), and the pages for operators.

use serde_json::{Value, json};

use crate::support::{READER, Running, on_every_engine, on_sqlite};

const TOKENS: &str = "/portcullis/v1/tokens";
const REVOKE: &str = "/user_management/sessions/revoke";

/// A session of somebody new, and the user's id.
async fn session(store: &Running, name: &str) -> (String, String) {
    let organization = store.organization("Acme").await;
    let membership = store.member(&organization, name).await;
    let body = store.get(&format!("/user_management/organization_memberships/{membership}")).await.is(200);
    let user = body["user_id"].as_str().unwrap().to_owned();
    let minted = store.post(TOKENS, json!({"organization_membership_id": membership})).await.is(200);
    (minted["session_id"].as_str().unwrap().to_owned(), user)
}

/// D22: a session can be listed and revoked, once; then it stays revoked.
#[test]
fn a_session_is_listed_and_revoked_once() {
    on_every_engine(async |store| {
        let (session, user) = session(store, "ada").await;
        let path = format!("/user_management/users/{user}/sessions");
        let listed = store.get(&path).await.is(200);
        let found = &listed["data"][0];
        assert_eq!(
            (&found["object"], &found["id"], &found["status"]),
            (&json!("session"), &json!(session), &json!("active"))
        );
        assert_eq!((&found["user_id"], &found["ended_at"]), (&json!(user), &Value::Null));
        let revoked = store.post(REVOKE, json!({"session_id": session})).await;
        let revision = revoked.revision();
        let revoked = revoked.is(200);
        assert_eq!(revoked["status"], "revoked");
        assert!(revoked["ended_at"].is_string());
        let again = store.post(REVOKE, json!({"session_id": session})).await;
        assert_eq!(again.revision(), revision, "nothing was written");
        assert_eq!(again.is(200), revoked);
        assert_eq!(store.get(&path).await.listed("/status"), ["revoked"]);
        store.post(REVOKE, json!({"session_id": "session_nobody"})).await.is_error(404, "entity_not_found");
        store.post(REVOKE, json!({})).await.is_error(422, "invalid_request_parameters");
        store.get("/user_management/users/user_nobody/sessions").await.is_error(404, "entity_not_found");
    });
}

/// D22 and section 6: `session.created` and `session.revoked` are published, with the session.
#[test]
fn sessions_are_published() {
    on_every_engine(async |store| {
        let (session, _) = session(store, "ada").await;
        store.post(REVOKE, json!({"session_id": session})).await.is(200);
        let events = store.get("/events?events=session.created%2Csession.revoked").await;
        let events = events.is(200);
        let events: Vec<_> =
            events["data"].as_array().unwrap().iter().map(|event| (&event["event"], &event["data"]["id"])).collect();
        assert_eq!(
            events,
            [(&json!("session.created"), &json!(session)), (&json!("session.revoked"), &json!(session))]
        );
    });
}

/// A key that only reads can list sessions and not revoke them.
#[test]
fn revoking_takes_the_right_to_write() {
    on_sqlite(async |store| {
        let reader = format!("Bearer {READER}");
        let reader = [("authorization", reader.as_str())];
        let body = json!({"session_id": "session_1"});
        store.send("POST", REVOKE, Some(body), &reader).await.is_error(403, "forbidden");
    });
}

/// The pages for operators need no key, and metrics have operation ids and never paths.
#[test]
fn live_ready_and_metrics_are_open() {
    on_every_engine(async |store| {
        let nobody = [("authorization", "")];
        assert_eq!(store.send("GET", "/live", None, &nobody).await.is(200)["live"], true);
        assert_eq!(store.send("GET", "/ready", None, &nobody).await.is(200)["ready"], true);
        store.get("/authorization/permissions").await.is(200);
        store.get("/authorization/permissions/nothing").await.is(404);
        store.get("/nowhere/at/all").await.is(404);
        store.post("/authorization/permissions", json!({"slug": "a:b", "name": "A"})).await.is(201);
        let metrics = text(store, "/metrics").await;
        for line in [
            "portcullis_store_requests_total{operation=\"listPermissions\",status=\"2xx\"} 1",
            "portcullis_store_requests_total{operation=\"getPermission\",status=\"4xx\"} 1",
            "portcullis_store_requests_total{operation=\"none\",status=\"4xx\"} 1",
            "portcullis_store_log_head 2",
            "portcullis_store_commit_writes_count 2",
            "portcullis_organizations_resident 0",
        ] {
            assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
        }
        assert!(!metrics.contains("nowhere"));
    });
}

/// After a restore everybody starts over: the same numbers, in another epoch.
#[test]
fn a_new_epoch_changes_revisions_and_nothing_else() {
    on_every_engine(async |store| {
        let before = store.post("/authorization/permissions", json!({"slug": "a:b", "name": "A"})).await;
        let epoch = |answer: &crate::support::Answer| {
            let revision = answer.headers["x-portcullis-revision"].to_str().unwrap().to_owned();
            revision.rsplit_once('.').unwrap().0.to_owned()
        };
        store.store.new_epoch().await.unwrap();
        let after = store.post("/authorization/permissions", json!({"slug": "a:c", "name": "A"})).await;
        assert_eq!(after.revision(), before.revision() + 1);
        assert_ne!(epoch(&after), epoch(&before));
    });
}

/// Upkeep deletes what is too old and nothing that is not.
#[test]
fn upkeep_leaves_what_is_young() {
    on_every_engine(async |store| {
        let (session, user) = session(store, "ada").await;
        store.post(REVOKE, json!({"session_id": session})).await.is(200);
        store.store.tidy().await.unwrap();
        assert_eq!(store.get(&format!("/user_management/users/{user}/sessions")).await.listed("/id"), [session]);
    });
}

/// A page that is not JSON.
async fn text(store: &Running, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(store.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: store\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
