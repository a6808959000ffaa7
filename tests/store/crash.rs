//! The process is killed in the middle of writes, again and again: what was acknowledged is there afterwards, nothing is half-written, and
//! the rows are what the log says.
//!
//! `PORTCULLIS_CRASHES` says how often; once without it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::process::Process;
use crate::support::{Api, Running, postgres, skipped};

/// Each waits for one answer at a time, so as many writes are under way.
const WRITERS: usize = 1_000;

/// What the writers were told before the process was gone.
#[derive(Default)]
struct Told {
    /// Paths of what was made, and nobody began to delete.
    there: Vec<String>,
    /// Paths of what was deleted.
    gone: Vec<String>,
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
        assert!(!more.there.is_empty(), "nothing was acknowledged before the kill");
        runtime.block_on(judge(database, &more));
        told.there.extend(more.there);
        told.gone.extend(more.gone);
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
                if write(&api, &mut told, &format!("p{round}-{writer}-{number}"), writer % 2 == 0).await.is_none() {
                    break;
                }
            }
            told
        });
    }
    // Long enough for some hundred writes, and never at the same place.
    tokio::time::sleep(Duration::from_millis(1_000 + rand::random::<u64>() % 1_000)).await;
    process.kill();
    let mut all = Told::default();
    for told in writers.join_all().await {
        all.there.extend(told.there);
        all.gone.extend(told.gone);
    }
    all
}

/// One row, then several at once: an organization comes with its root resource and its settings, and takes along whatever is in it when it
/// goes. `None` when there is no answer any more.
async fn write(api: &Api, told: &mut Told, name: &str, for_good: bool) -> Option<()> {
    let made = async |path: &str, body: Value| api.try_ask("POST", path, Some(body)).await.filter(|made| made.0 == 201);
    made("/authorization/permissions", json!({"slug": name, "name": "P"})).await?;
    told.there.push(format!("/authorization/permissions/{name}"));
    let (_, organization) = made("/organizations", json!({"name": name, "external_id": name})).await?;
    let organization = organization["id"].as_str()?.to_owned();
    let path = format!("/organizations/{organization}");
    let root = format!("/authorization/organizations/{organization}/resources/organization/{organization}");
    told.there.extend([path.clone(), root.clone()]);
    let (_, group) = made(&format!("{path}/groups"), json!({"name": name})).await?;
    let group = format!("{path}/groups/{}", group["id"].as_str()?);
    told.there.push(group.clone());
    if !for_good {
        // From here on it may be gone, acknowledged or not.
        told.there.truncate(told.there.len() - 3);
        let status = api.try_send("DELETE", &path, None).await?;
        assert!(matches!(status, 200..300), "{status}");
        told.gone.extend([path, root, group]);
    }
    Some(())
}

async fn judge(database: &str, told: &Told) {
    let store = Running::start(database).await;
    let verification = store.store.compare_log_with_rows().await.unwrap();
    assert_eq!(verification.differences, [""; 0]);
    for path in &told.there {
        store.get(path).await.is(200);
    }
    for path in &told.gone {
        store.get(path).await.is(404);
    }
    store.stop().await;
}
