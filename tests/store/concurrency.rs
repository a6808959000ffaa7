//! Many writers, in one process and in two on one database: numbers without gaps, in the order of commits, and the rows are what the log
//! says.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{Running, on_every_engine};

const WRITERS: usize = 24;
const WRITES: usize = 12;
const ROUNDS: u64 = 20;

#[test]
fn concurrent_writers_are_numbered_without_gaps_and_nothing_is_lost() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let organization = store.organization("Acme").await;
        let other = Running::start(&store.database).await;
        let (membership, root) = (store.member(&organization, "ada").await, store.root(&organization).await);
        let before = store.post("/authorization/permissions", json!({"slug": "before", "name": "B"})).await.revision();
        let watcher =
            tokio::spawn(watch_log(store.database.clone(), before + u64::try_from(WRITERS * WRITES * 2).unwrap()));
        let results = {
            let mut writers = JoinSet::new();
            for writer in 0..WRITERS {
                let client = if writer % 2 == 0 { store.client() } else { other.client() };
                let (organization, membership, root) = (organization.clone(), membership.clone(), root.clone());
                writers.spawn(async move {
                    let mut revisions = Vec::new();
                    for number in 0..WRITES {
                        let body = json!({
                            "organization_id": organization, "resource_type_slug": "project",
                            "external_id": format!("p-{writer}-{number}"), "name": "P",
                        });
                        let created = client.send("POST", "/authorization/resources", Some(body), &[]).await;
                        revisions.push(created.revision());
                        let project = created.is(201)["id"].as_str().unwrap().to_owned();
                        let path = format!("/authorization/organization_memberships/{membership}/role_assignments");
                        let body = json!({"role_slug": "project-editor", "resource_id": project});
                        let assigned = client.send("POST", &path, Some(body), &[]).await;
                        revisions.push(assigned.revision());
                        assigned.is(201);
                        let path = format!("/authorization/organization_memberships/{membership}/check");
                        let body = json!({"permission_slug": "project:edit", "resource_id": project});
                        let checked = client.send("POST", &path, Some(body), &[]).await.is(200);
                        assert_eq!(checked["authorized"], true, "an answer after a write includes the write");
                    }
                    let _ = root;
                    revisions
                });
            }
            writers.join_all().await.concat()
        };
        let count = u64::try_from(WRITERS * WRITES * 2).unwrap();
        let distinct: BTreeSet<u64> = results.iter().copied().collect();
        assert_eq!(
            distinct,
            (before + 1..=before + count).collect(),
            "every write has its own number, and none is missing"
        );
        let looks = tokio::time::timeout(Duration::from_secs(60), watcher).await.unwrap().unwrap();
        assert!(looks > 10, "looked {looks} times only");
        assert_eq!(store.store.compare_log_with_rows().await.unwrap().differences, [""; 0]);
        // What one process wrote, the other answers with.
        let last = store.resource(&organization, "project", "last", None).await;
        assert!(!other.may(&membership, "project:edit", &last).await);
        store.assign(&membership, "project-editor", &last).await;
        assert!(other.may(&membership, "project:edit", &last).await);
        other.stop().await;
    });
}

/// Reads the log again and again until it ends with this number, as whoever tails it does: what is there grows at its end only, so numbers
/// are given in the order of commits. Says how often it looked.
async fn watch_log(database: String, last: u64) -> u64 {
    let pool = sqlx::AnyPool::connect(&database).await.unwrap();
    let (mut looks, mut reached) = (0, 0);
    while reached < last {
        let statement = "SELECT COUNT(*), MIN(seq), MAX(seq) FROM changes";
        let (rows, first, newest): (i64, i64, i64) = sqlx::query_as(statement).fetch_one(&pool).await.unwrap();
        assert_eq!(rows, newest - first + 1, "the log has a gap before {newest}");
        let newest = u64::try_from(newest).unwrap();
        assert!(newest >= reached, "the log went back from {reached} to {newest}");
        (looks, reached) = (looks + 1, newest);
    }
    pool.close().await;
    looks
}

/// A group goes while members come to it and roles are given to it, through two stores on one database: each write was before that or
/// is told that the group is gone, and nobody keeps anything of it.
#[test]
fn row_53_a_group_that_is_deleted_leaves_nothing_behind() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let organization = store.organization("Acme").await;
        let other = Running::start(&store.database).await;
        let project = store.resource(&organization, "project", "p1", None).await;
        let mut members = Vec::new();
        for number in 0..8 {
            members.push(store.member(&organization, &format!("member-{number}")).await);
        }
        let (mut before, mut after) = (0, 0);
        for round in 0..ROUNDS {
            let group = store.group(&organization, &format!("group-{round}"), &[&members[0]]).await;
            store.assign_group(&group, "project-viewer", Some(&project)).await;
            let path = format!("/organizations/{organization}/groups/{group}");
            let (mut writers, grants) = (JoinSet::new(), format!("/authorization/groups/{group}/role_assignments"));
            for (number, member) in members[1..].iter().enumerate() {
                let client = if number % 2 == 0 { store.client() } else { other.client() };
                let (path, grants) = (format!("{path}/organization-memberships"), grants.clone());
                let (joins, grant) = (
                    json!({"organization_membership_id": member}),
                    json!({"role_slug": "project-editor", "resource_id": project}),
                );
                writers.spawn(async move {
                    let joined = client.send("POST", &path, Some(joins), &[]).await;
                    let granted = client.send("POST", &grants, Some(grant), &[]).await;
                    [joined.status, granted.status]
                });
            }
            // Not always first, and not always last.
            tokio::time::sleep(Duration::from_millis(round)).await;
            other.delete(&path).await.is(204);
            for status in writers.join_all().await.concat() {
                match status {
                    200 | 201 | 409 => before += 1,
                    404 => after += 1,
                    status => panic!("{status}"),
                }
            }
            for member in &members {
                assert!(!store.may(member, "project:view", &project).await, "round {round}");
                assert!(!other.may(member, "project:view", &project).await, "round {round}");
            }
        }
        assert!(before > 0 && after > 0, "{before} before, {after} after: they did not meet");
        let verification = store.store.compare_log_with_rows().await.unwrap();
        assert_eq!(verification.differences, [""; 0]);
        other.stop().await;
    });
}

#[test]
fn one_spoilt_write_does_not_spoil_those_that_share_its_trip_to_the_disk() {
    on_every_engine(async |store| {
        let client = Arc::new(store.client());
        let mut writers = JoinSet::new();
        for number in 0..64 {
            let client = Arc::clone(&client);
            writers.spawn(async move {
                // Every slug is asked for twice; one of both has to be refused.
                let body = json!({"slug": format!("p{}", number / 2), "name": "P"});
                client.send("POST", "/authorization/permissions", Some(body), &[]).await.status
            });
        }
        let mut statuses = writers.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses, [[201; 32], [409; 32]].concat());
        assert_eq!(store.store.compare_log_with_rows().await.unwrap().differences, [""; 0]);
    });
}
