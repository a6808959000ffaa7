//! The process is killed in the middle of writes, again and again: what was acknowledged is there afterwards, nothing is half-written, and
//! the rows are what the log says.
//!
//! `PORTCULLIS_CRASHES` says how often; once without it.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::process::Process;
use crate::support::{Running, postgres, skipped};

const WRITERS: usize = 16;

/// What the writers were told before the process was gone.
#[derive(Default)]
struct Told {
    permissions: Vec<String>,
    organizations: Vec<String>,
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    kill_again_and_again(&format!("sqlite://{}", folder.path().join("store.db").display()));
    match postgres::database() {
        Some(database) => kill_again_and_again(&database),
        None => skipped("PostgreSQL is not installed"),
    }
}

fn kill_again_and_again(database: &str) {
    let rounds = std::env::var("PORTCULLIS_CRASHES").map_or(1, |rounds| rounds.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut told = Told::default();
    for round in 0..rounds {
        let more = runtime.block_on(async {
            let mut process = Process::start(database).await;
            write_until_killed(&mut process, round).await
        });
        assert!(!more.permissions.is_empty(), "nothing was acknowledged before the kill");
        runtime.block_on(judge(database, &more));
        told.permissions.extend(more.permissions);
        told.organizations.extend(more.organizations);
    }
    runtime.block_on(judge(database, &told));
}

async fn write_until_killed(process: &mut Process, round: usize) -> Told {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let api = process.client();
        writers.spawn(async move {
            let mut told = Told::default();
            for number in 0.. {
                let name = format!("p{round}-{writer}-{number}");
                // One row, and several at once: an organization comes with its root resource and its settings.
                let permission = json!({"slug": name, "name": "P"});
                if api.try_send("POST", "/authorization/permissions", Some(permission)).await != Some(201) {
                    break;
                }
                told.permissions.push(name.clone());
                let organization = json!({"name": name, "external_id": name});
                if api.try_send("POST", "/organizations", Some(organization)).await != Some(201) {
                    break;
                }
                told.organizations.push(name);
            }
            told
        });
    }
    // Long enough for some hundred writes, and never at the same place.
    tokio::time::sleep(Duration::from_millis(300 + rand::random::<u64>() % 400)).await;
    process.kill();
    let mut all = Told::default();
    for told in writers.join_all().await {
        all.permissions.extend(told.permissions);
        all.organizations.extend(told.organizations);
    }
    all
}

async fn judge(database: &str, told: &Told) {
    let store = Running::start(database).await;
    let verification = store.store.compare_log_with_rows().await.unwrap();
    assert_eq!(verification.differences, [""; 0]);
    for slug in &told.permissions {
        store.get(&format!("/authorization/permissions/{slug}")).await.is(200);
    }
    for name in &told.organizations {
        let organization = store.get(&format!("/organizations/external_id/{name}")).await.is(200);
        let id = organization["id"].as_str().unwrap();
        store.get(&format!("/authorization/organizations/{id}/resources/organization/{id}")).await.is(200);
    }
    store.stop().await;
}
