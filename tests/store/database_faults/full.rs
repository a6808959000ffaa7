//! There is no room for more.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use super::{World, log_equals_rows, recovers, refuses_every_write, revision};
use crate::support::process::Process;
use crate::support::{Running, skipped};

/// A disk of its own for the store: a small file system that only its process sees.
const ON_A_SMALL_DISK: &str = "exec unshare -Urm sh -c \
    'mount -t tmpfs -o size=8m tmpfs \"$1\" || exit; shift; exec \"$@\"' sh \"$@\"";
/// Without this the system ends a process whose file would become larger than it may.
const REFUSED_AND_NOT_KILLED: &str = "trap '' XFSZ; exec \"$@\"";

/// Writes until there is no room for any write; the number of the last that was acknowledged.
async fn write_until_refused(store: &Process, mut last: u64) -> u64 {
    for number in 0..5000 {
        let body = json!({"slug": format!("filler-{number}"), "name": "x".repeat(48), "description": "x".repeat(150)});
        let answer = store.post("/authorization/permissions", body).await;
        if answer.status == 503 {
            answer.is_error(503, "database_unavailable");
            return last;
        }
        last = answer.revision();
        answer.is(201);
    }
    panic!("there is still room");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn may_have_mounts() -> bool {
    let mut command = Command::new("unshare");
    command.args(["-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    if !may_have_mounts() {
        return skipped("this machine lets nobody have mounts of their own");
    }
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().display().to_string();
        let database = format!("sqlite://{disk}/store.db");
        let mut store = Process::start_by(ON_A_SMALL_DISK, &[&disk], &database).await;
        let world = World::new(&store).await;
        let revision = revision(&store).await;
        let seen_by_it = PathBuf::from(format!("/proc/{}/root{disk}", store.id()));
        let filler = seen_by_it.join("filler");
        fill(&filler);
        let revision = write_until_refused(&store, revision).await;
        let before = world.seen(&store).await;
        refuses_every_write(&store, &world).await;
        std::fs::remove_file(filler).unwrap();
        recovers(&store, &world, &before, revision).await;
        // The disk goes with the process: a copy is judged.
        let copied = tempfile::tempdir().unwrap();
        for file in ["store.db", "store.db-wal"] {
            std::fs::copy(seen_by_it.join(file), copied.path().join(file)).unwrap();
        }
        store.kill();
        judge(copied.path()).await;
    });
}

fn fill(filler: &Path) {
    let mut file = File::create(filler).unwrap();
    for size in [65536, 4096, 1] {
        let block = vec![0; size];
        while file.write_all(&block).is_ok() {}
    }
}

#[test]
fn a_file_that_may_not_grow_refuses_writes_until_it_may() {
    if Command::new("prlimit").arg("--version").stdout(Stdio::null()).status().is_err() {
        return skipped("`prlimit` is not installed");
    }
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let database = format!("sqlite://{}/store.db", folder.path().display());
        let mut store = Process::start_by(REFUSED_AND_NOT_KILLED, &[], &database).await;
        let world = World::new(&store).await;
        let revision = revision(&store).await;
        let largest = ["store.db", "store.db-wal"].map(|file| folder.path().join(file).metadata().unwrap().len());
        limit_files(store.id(), &largest.into_iter().max().unwrap().to_string());
        let revision = write_until_refused(&store, revision).await;
        let before = world.seen(&store).await;
        refuses_every_write(&store, &world).await;
        limit_files(store.id(), "unlimited");
        recovers(&store, &world, &before, revision).await;
        store.kill();
        judge(folder.path()).await;
    });
}

/// How large the files of a process may become.
fn limit_files(process: u32, bytes: &str) {
    let limit = format!("--fsize={bytes}:");
    let status = Command::new("prlimit").args(["--pid", &process.to_string(), &limit]).status().unwrap();
    assert!(status.success());
}

async fn judge(folder: &Path) {
    let store = Running::start(&format!("sqlite://{}/store.db", folder.display())).await;
    log_equals_rows(&store).await;
    store.get("/authorization/permissions/after").await.is(200);
    store.stop().await;
}
