//! Nothing may be written.

use std::process::Command;

use super::{World, log_equals_rows, recovers, refuses_every_write, revision};
use crate::support::postgres::Cluster;
use crate::support::{KEY, Running, skipped};

/// Hosted databases do this to a disk that is nearly full. Sessions are told when they begin, and not told again when it is over.
#[test]
fn a_database_that_is_made_read_only_refuses_writes_until_it_is_not() {
    let Some(cluster) = Cluster::start() else {
        return skipped("PostgreSQL is not installed");
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let database = cluster.database();
        let store = Running::start(&database).await;
        let world = World::new(&store).await;
        let revision = revision(&store).await;
        let before = world.seen(&store).await;
        cluster.execute("ALTER DATABASE test_0 SET default_transaction_read_only = on");
        cluster.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'test_0'");
        refuses_every_write(&store, &world).await;
        assert_eq!(world.seen(&store).await, before);
        cluster.execute("ALTER DATABASE test_0 RESET default_transaction_read_only");
        recovers(&store, &world, &before, revision).await;
        log_equals_rows(&store).await;
        store.stop().await;
    });
    cluster.halt();
}

/// A store that could only ever refuse does not start.
#[test]
fn a_store_does_not_start_on_a_disk_that_is_read_only() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("disk");
    std::fs::create_dir(&place).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let database = format!("sqlite://{}", place.join("store.db").display());
    runtime.block_on(async { Running::start(&database).await.stop().await });
    let file = folder.path().join("store.yaml");
    let text = format!("version: 1\nlisten: 127.0.0.1:0\ndatabase: {database}\napi_keys: [{KEY}]\n");
    std::fs::write(&file, text).unwrap();
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" || exit 77; shift; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", script, "sh"]).arg(&place).arg(env!("CARGO_BIN_EXE_portcullis"));
    let Ok(output) = command.args(["store", "--config"]).arg(&file).output() else {
        return skipped("`unshare` is not installed");
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(77) || said.contains("unshare failed") {
        return skipped("this machine lets nobody have mounts of their own");
    }
    assert!(!output.status.success());
    assert!(said.contains("unable to open database file"), "{said}");
}
