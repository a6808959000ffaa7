//! The database is full, read-only, locked or gone while clients write: each write is answered with 503 and leaves nothing behind, and the
//! store recovers by itself (faults and invariants, row 70).

mod full;
mod given_up;
mod gone;
mod locked;
mod read_only;
mod silent;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Api, Running};

/// The longest that a refusal takes: twice what the engines are told to wait for a lock.
const PATIENCE: Duration = Duration::from_secs(20);

/// Something of everything, so that every noun can be written to.
struct World {
    organization: String,
    member: String,
    group: String,
    project: String,
}

impl World {
    async fn new(api: &Api) -> Self {
        api.usual_model("multiple").await;
        let organization = api.organization("Acme").await;
        let member = api.member(&organization, "ada").await;
        let group = api.group(&organization, "eng", &[]).await;
        let project = api.resource(&organization, "project", "p1", None).await;
        Self { organization, member, group, project }
    }

    fn writes(&self) -> Vec<(&'static str, String, Option<Value>)> {
        let Self { organization, member, group, project } = self;
        let assignments = format!("/authorization/organization_memberships/{member}/role_assignments");
        let resource = json!({
            "organization_id": organization, "resource_type_slug": "project", "external_id": "p2", "name": "P",
        });
        vec![
            ("POST", "/authorization/permissions".into(), Some(json!({"slug": "a:b", "name": "A"}))),
            ("POST", "/authorization/roles".into(), Some(json!({"slug": "new", "name": "New"}))),
            ("POST", "/organizations".into(), Some(json!({"name": "Other"}))),
            ("POST", "/user_management/users".into(), Some(json!({"email": "bob@example.com"}))),
            ("POST", "/authorization/resources".into(), Some(resource)),
            ("PATCH", format!("/authorization/resources/{project}"), Some(json!({"name": "Other"}))),
            ("POST", assignments, Some(json!({"role_slug": "project-editor", "resource_id": project}))),
            ("POST", format!("/authorization/groups/{group}/role_assignments"), Some(json!({"role_slug": "admin"}))),
            (
                "POST",
                format!("/organizations/{organization}/groups/{group}/organization-memberships"),
                Some(json!({"organization_membership_id": member})),
            ),
            ("PUT", format!("/user_management/organization_memberships/{member}/deactivate"), None),
            ("DELETE", format!("/authorization/resources/{project}"), None),
            ("DELETE", format!("/organizations/{organization}"), None),
        ]
    }

    /// What clients can see of all that.
    async fn seen(&self, api: &Api) -> Vec<Value> {
        let Self { organization, member, .. } = self;
        let paths = [
            "/events?limit=100".to_owned(),
            "/portcullis/v1/audit?limit=100".to_owned(),
            "/portcullis/v1/model".to_owned(),
            "/organizations?limit=100".to_owned(),
            "/user_management/users?limit=100".to_owned(),
            format!("/organizations/{organization}/groups"),
            format!("/authorization/resources?organization_id={organization}"),
            format!("/authorization/organization_memberships/{member}/role_assignments"),
            format!("/user_management/organization_memberships/{member}/groups"),
            format!("/user_management/organization_memberships/{member}"),
        ];
        let mut seen = Vec::new();
        for path in paths {
            seen.push(api.get(&path).await.is(200));
        }
        seen
    }
}

/// Sends every write at once, and wants each refused in time because of the database.
async fn refuses_every_write(api: &Api, world: &World) {
    let mut writes = JoinSet::new();
    let begin = Instant::now();
    for (method, path, body) in world.writes() {
        let api = api.clone();
        writes.spawn(async move { api.send(method, &path, body, &[]).await });
    }
    for answer in writes.join_all().await {
        assert_eq!(answer.headers.get("retry-after").map(|value| value.as_bytes()), Some(&b"1"[..]), "{answer:?}");
        assert!(!answer.headers.contains_key("x-portcullis-revision"), "{answer:?}");
        answer.is_error(503, "database_unavailable");
    }
    assert!(begin.elapsed() < PATIENCE, "refused after {:?}", begin.elapsed());
}

/// Wants nothing to have changed since `before`, and the next write to have the next number: within some seconds and with no help.
async fn recovers(api: &Api, world: &World, before: &[Value], revision: u64) {
    let begin = Instant::now();
    while api.try_send("GET", "/ready", None).await != Some(200) {
        assert!(begin.elapsed() < PATIENCE, "not ready after {:?}", begin.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(world.seen(api).await, before);
    let body = json!({"slug": "after", "name": "After"});
    loop {
        let answer = api.post("/authorization/permissions", body.clone()).await;
        if answer.status == 503 && begin.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        let number = (answer.status == 201).then(|| answer.revision());
        assert_eq!(number, Some(revision + 1), "{answer:?}");
        break;
    }
}

/// A write, and its number.
async fn revision(api: &Api) -> u64 {
    let answer = api.post("/authorization/permissions", json!({"slug": "before", "name": "Before"})).await;
    let revision = answer.revision();
    answer.is(201);
    revision
}

async fn log_equals_rows(store: &Running) {
    let verification = store.store.compare_log_with_rows().await.unwrap();
    assert_eq!(verification.differences, [""; 0]);
}
