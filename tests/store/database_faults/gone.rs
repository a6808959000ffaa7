//! The server is stopped, connections are cut, the file is taken away.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::{World, log_equals_rows, recovers, refuses_every_write, revision};
use crate::support::postgres::Cluster;
use crate::support::{Running, on_sqlite, skipped};

pub(super) fn with_a_cluster(test: impl AsyncFn(&Cluster)) {
    let Some(cluster) = Cluster::start() else {
        return skipped("PostgreSQL is not installed");
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test(&cluster));
    cluster.halt();
}

#[test]
fn a_server_that_was_stopped_and_started_again_is_used_again() {
    with_a_cluster(async |cluster| {
        let store = Running::start(&cluster.database()).await;
        let world = World::new(&store).await;
        let revision = revision(&store).await;
        let before = world.seen(&store).await;
        cluster.halt();
        refuses_every_write(&store, &world).await;
        store.get("/organizations").await.is_error(503, "database_unavailable");
        let check = format!("/authorization/organization_memberships/{}/check", world.member);
        let body = json!({"permission_slug": "project:edit", "resource_id": world.project});
        store.post(&check, body).await.is_error(503, "database_unavailable");
        assert_eq!(store.get("/ready").await.status, 503);
        store.get("/live").await.is(200);
        cluster.run_again();
        recovers(&store, &world, &before, revision).await;
        log_equals_rows(&store).await;
        store.stop().await;
    });
}

#[test]
fn connections_that_are_cut_lose_and_repeat_nothing_that_was_acknowledged() {
    with_a_cluster(async |cluster| {
        let store = Running::start(&cluster.database()).await;
        let going_on = Arc::new(AtomicBool::new(true));
        let mut writers = JoinSet::new();
        for writer in 0..8 {
            let (api, going_on) = (store.client(), Arc::clone(&going_on));
            writers.spawn(async move {
                let mut written = Vec::new();
                for number in 0.. {
                    if !going_on.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = format!("{writer}-{number}");
                    let answer = api.post("/organizations", json!({"name": name})).await;
                    match answer.status {
                        201 => written.push((answer.revision(), name)),
                        _ => drop(answer.is_error(503, "database_unavailable")),
                    }
                }
                written
            });
        }
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            cluster.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'test_0'");
        }
        going_on.store(false, Ordering::Relaxed);
        let written = writers.join_all().await.concat();
        assert!(written.len() > 20, "{}", written.len());
        let numbers: BTreeSet<u64> = written.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers.len(), written.len(), "two writes have the same number");
        let mut found = Vec::new();
        let mut after = String::new();
        loop {
            let page = store.get(&format!("/organizations?limit=100{after}")).await.is(200);
            found.extend(page["data"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()));
            let Some(cursor) = page["list_metadata"]["after"].as_str() else { break };
            after = format!("&after={cursor}");
        }
        let distinct: BTreeSet<&String> = found.iter().collect();
        assert_eq!(distinct.len(), found.len(), "something was written twice");
        for (_, name) in &written {
            assert!(distinct.contains(name), "`{name}` was acknowledged and is not there");
        }
        log_equals_rows(&store).await;
        store.stop().await;
    });
}

/// The server has committed, and the connection ends before it can say so.
#[test]
fn a_commit_whose_acknowledgement_was_lost_is_not_repeated() {
    with_a_cluster(async |cluster| {
        let folder = tempfile::tempdir().unwrap();
        let armed = Arc::new(AtomicBool::new(false));
        let socket = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let server = Path::new(&cluster.socket()).join(".s.PGSQL.5432");
        let relays = tokio::spawn(relay(socket, server, Arc::clone(&armed)));
        let database = cluster.database().replace(&cluster.socket(), &folder.path().display().to_string());
        let store = Running::start(&database).await;
        armed.store(true, Ordering::SeqCst);
        store.post("/organizations", json!({"name": "Acme"})).await.is_error(503, "database_unavailable");
        assert!(!armed.load(Ordering::SeqCst), "no commit was seen");
        assert_eq!(store.get("/organizations").await.listed("/name"), ["Acme"], "the server had it");
        // Whoever sends a key with it may ask again, and is told what became of it.
        let (body, key) = (json!({"name": "Beta"}), [("idempotency-key", "once")]);
        armed.store(true, Ordering::SeqCst);
        store.send("POST", "/organizations", Some(body.clone()), &key).await.is_error(503, "database_unavailable");
        store.send("POST", "/organizations", Some(body), &key).await.is(201);
        assert_eq!(store.get("/organizations").await.listed("/name"), ["Beta", "Acme"]);
        log_equals_rows(&store).await;
        store.stop().await;
        relays.abort();
    });
}

/// Relays connections to `server`. Once `armed`, one that commits a new organization ends as soon as the server has done so.
async fn relay(socket: UnixListener, server: std::path::PathBuf, armed: Arc<AtomicBool>) {
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = socket.accept().await {
        let (server, armed) = (server.clone(), Arc::clone(&armed));
        connections.spawn(async move {
            let mut server = UnixStream::connect(server).await.unwrap();
            let (mut asked, mut answered) = ([0; 65536], [0; 65536]);
            let mut writes = false;
            loop {
                tokio::select! {
                    Ok(read) = client.read(&mut asked) => {
                        if read == 0 || server.write_all(&asked[..read]).await.is_err() {
                            return;
                        }
                        let asks = |text: &[u8]| asked[..read].windows(text.len()).any(|bytes| bytes == text);
                        writes |= asks(b"INSERT INTO organizations");
                        if writes && asks(b"COMMIT") && armed.swap(false, Ordering::SeqCst) {
                            assert!(server.read(&mut answered).await.unwrap() > 0);
                            return;
                        }
                    }
                    Ok(read) = server.read(&mut answered) => {
                        if read == 0 || client.write_all(&answered[..read]).await.is_err() {
                            return;
                        }
                    }
                    else => return,
                }
            }
        });
    }
}

/// SQLite would go on writing to a file that has no name any more.
#[test]
fn a_file_that_was_taken_away_is_not_written_to_until_it_is_back() {
    on_sqlite(async |store| {
        let world = World::new(store).await;
        let revision = revision(store).await;
        let before = world.seen(store).await;
        let path = store.database.trim_start_matches("sqlite://");
        let elsewhere = format!("{path}.elsewhere");
        std::fs::rename(path, &elsewhere).unwrap();
        refuses_every_write(store, &world).await;
        assert!(!Path::new(path).exists(), "a new database was made where the old one was");
        // Nor to another that has taken its place.
        std::fs::copy(&elsewhere, path).unwrap();
        refuses_every_write(store, &world).await;
        std::fs::rename(&elsewhere, path).unwrap();
        recovers(store, &world, &before, revision).await;
        log_equals_rows(store).await;
    });
}
