//! The server, or what lies between, says nothing any more, and does not hang up either.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portcullis::store::Settings;
use serde_json::json;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::gone::with_a_cluster;
use super::{PATIENCE, log_equals_rows};
use crate::support::{Running, settings};

/// What was asked on the old connections is never answered. Without an end to its patience the writer would wait for ever, and the pool have
/// no connection left to read with.
#[test]
fn a_connection_that_falls_silent_is_given_up() {
    with_a_cluster(async |cluster| {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let server = Path::new(&cluster.socket()).join(".s.PGSQL.5432");
        let muted = watch::Sender::new(());
        let relays = tokio::spawn(relay(socket, server, muted.subscribe()));
        let database = cluster.database().replace(&cluster.socket(), &folder.path().display().to_string());
        let settings = Settings { request_timeout: Duration::from_secs(1), ..settings(&database) };
        let store = Running::start_with(settings).await;
        store.organization("Before").await;
        store.get("/organizations").await.is(200);
        let mut readers = JoinSet::new();
        let enough = watch::Sender::new(false);
        for _ in 0..8 {
            let (api, enough) = (store.client(), enough.subscribe());
            readers.spawn(async move {
                while !*enough.borrow() && api.try_send("GET", "/organizations", None).await == Some(200) {}
            });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        muted.send_replace(());
        let begin = Instant::now();
        store.post("/organizations", json!({"name": "Lost"})).await.is_error(503, "timeout");
        // Most of them were in the middle of something.
        enough.send_replace(true);
        readers.join_all().await;
        for (method, path, body) in
            [("POST", "/organizations", Some(json!({"name": "After"}))), ("GET", "/organizations", None)]
        {
            while !matches!(store.send(method, path, body.clone(), &[]).await.status, 200 | 201) {
                assert!(begin.elapsed() < PATIENCE, "{method} still refused after {:?}", begin.elapsed());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        let names = store.get("/organizations").await.listed("/name");
        assert_eq!(names, ["After", "Before"]);
        log_equals_rows(&store).await;
        store.stop().await;
        relays.abort();
    });
}

/// Relays connections to `server`; those that are there when `muted` changes stay open and relay nothing more.
async fn relay(socket: UnixListener, server: PathBuf, muted: watch::Receiver<()>) {
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = socket.accept().await {
        let (server, mut muted) = (server.clone(), muted.clone());
        muted.borrow_and_update();
        connections.spawn(async move {
            let mut server = UnixStream::connect(server).await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
                _ = muted.changed() => {}
            }
            std::future::pending::<()>().await;
        });
    }
}
