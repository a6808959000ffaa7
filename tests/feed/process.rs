//! A sidecar in a process of its own that keeps its facts on disk: what cannot be done to one that shares its process with the tests.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use portcullis::app::SystemClock;
use portcullis::live::Settings;
use rand::Rng;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::company::{Company, settings};
use crate::sidecar::{SYNC_KEY, Sidecar, eventually};
use crate::support::{Api, Running, on_sqlite_with};

const PROGRAM: &str = env!("CARGO_BIN_EXE_portcullis");
/// A process whose files may have 1,024 bytes at most, as on a full disk; without the trap it would be killed.
const ON_A_FULL_DISK: &str = "trap '' XFSZ; ulimit -f 1; exec \"$@\"";
pub const ON_ANY_DISK: &str = "exec \"$@\"";

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A folder with a sidecar's configuration, and its facts below `facts`.
pub struct Home {
    folder: tempfile::TempDir,
    store: SocketAddr,
    pub listen: SocketAddr,
    status: SocketAddr,
}

impl Home {
    pub async fn of(store: &Running) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Self { folder, store: store.address, listen: free(), status: free() };
        let keys = store.get("/sso/jwks/client_test").await.is(200);
        fs::write(home.folder.path().join("jwks.json"), keys.to_string()).unwrap();
        let configuration = json!({
            "version": 1,
            "listen": [{"address": home.listen}],
            "status": {"address": home.status},
            "upstreams": {"app": {"servers": [free()]}},
            "tokens": [{
                "name": "test",
                "issuer": crate::support::ISSUER,
                "audience": "none",
                "required_claims": ["sid"],
                "jwks_file": home.folder.path().join("jwks.json"),
                "algorithms": ["RS256"],
            }],
            "facts": {"source": "store", "url": home.url(), "key": SYNC_KEY, "persist": home.facts(), "organizations": "all"},
            "defaults": {"upstream": "app"},
            "routes": [
                {"id": "all", "match": {"path": "/{rest...}"}, "require": "project:view"},
                {
                    "id": "project",
                    "match": {"path": "/by-id/{project}"},
                    "require": "project:edit",
                    "resource": {"resource_id": "{path.project}"},
                },
            ],
        });
        fs::write(home.folder.path().join("portcullis.yaml"), configuration.to_string()).unwrap();
        home
    }

    fn url(&self) -> String {
        format!("http://{}", self.store)
    }

    fn facts(&self) -> PathBuf {
        self.folder.path().join("facts")
    }

    fn file(&self) -> Option<Vec<u8>> {
        fs::read(self.facts().join("facts")).ok()
    }

    /// Starts the sidecar, as the arguments of this shell script.
    pub async fn start(&self, script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", PROGRAM, "--log-level", "error", "proxy", "--config"]);
        command.arg(self.folder.path().join("portcullis.yaml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Process { child: command.spawn().unwrap(), address: self.status, status: Api::at(self.status) };
        eventually(async || process.status.try_send("GET", "/ready", None).await == Some(200)).await;
        process
    }

    /// What the file has: the number of the last transaction, and whether the member may edit, if the organization was there in time.
    async fn kept(&self, company: &Company) -> Option<(u64, Option<bool>)> {
        let persist = Sidecar::kept_in(&self.facts(), SYNC_KEY, &format!("{}/", self.url()));
        let (clock, nobody) = (Arc::new(SystemClock), free());
        let sidecar = Sidecar::start_keeping(nobody, SYNC_KEY, true, Settings::default(), clock, Some(persist));
        let begun = tokio::time::timeout(Duration::from_secs(3), sidecar.until(|revision| revision.is_some())).await;
        let found = match begun {
            Err(_) => None,
            Ok(()) => {
                let Company { organization, membership, project } = company;
                let may = sidecar.may(organization, membership, "project:edit", project).await;
                Some((sidecar.world.revision().unwrap().seq, may))
            }
        };
        sidecar.kill().await;
        found
    }
}

/// A running sidecar. Dropping it kills it.
pub struct Process {
    child: Child,
    address: SocketAddr,
    status: Api,
}

impl Process {
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let mut connection = TcpStream::connect(self.address).await.unwrap();
        connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: status\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        connection.read_to_string(&mut text).await.unwrap();
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until the one organization is in memory, as of the transaction at least.
    async fn reaches(&self, seq: u64) {
        eventually(async || self.metric("portcullis_facts_revision").await.is_some_and(|at| at >= seq as f64)).await;
        eventually(async || self.metric("portcullis_organizations_resident").await == Some(1.0)).await;
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub fn stop(mut self) {
        self.signal("TERM");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bytes_left(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn a_full_disk_costs_nothing_but_the_file() {
    on_sqlite_with(settings, async |store| {
        store.usual_model("multiple").await;
        let company = Company::found(store, "Acme").await;
        let home = Home::of(store).await;
        let process = home.start(ON_ANY_DISK).await;
        let (assignment, _) = company.let_in(store).await;
        process.reaches(company.shut_out(store, &assignment).await).await;
        process.stop();
        let (before, was) = (home.file().unwrap(), home.kept(&company).await.unwrap());
        assert!(before.len() > 1024 && was.1 == Some(false), "{} bytes", before.len());

        let process = home.start(ON_A_FULL_DISK).await;
        let (_, seq) = company.let_in(store).await;
        process.reaches(seq).await;
        let failed = "portcullis_facts_saves_total{result=\"failed\"}";
        eventually(async || process.metric(failed).await.is_some_and(|count| count >= 1.0)).await;
        assert_eq!(process.status.try_send("GET", "/ready", None).await, Some(200));
        assert!(process.metric("portcullis_facts_age_seconds").await.unwrap() < 5.0);
        process.stop();
        assert_eq!(home.file().unwrap(), before, "the file of before is as it was");
        assert_eq!(home.kept(&company).await, Some(was));

        let process = home.start(ON_ANY_DISK).await;
        process.reaches(seq).await;
        process.stop();
        assert_eq!(home.kept(&company).await, Some((seq, Some(true))), "and is replaced when there is room again");
        assert_eq!(bytes_left(&home.facts()), 2, "the file and its lock");
    });
}

/// A sidecar writes its facts when it is stopped; it is killed at any moment of that.
#[test]
fn a_kill_while_facts_are_written_leaves_the_old_file_or_the_new_one() {
    let crashes = std::env::var("PORTCULLIS_CRASHES").ok().and_then(|text| text.parse().ok()).unwrap_or(3_usize);
    on_sqlite_with(settings, async |store| {
        store.usual_model("multiple").await;
        let company = Company::found(store, "Acme").await;
        // So that there is something to write.
        for number in 0..200 {
            store.resource(&company.organization, "project", &format!("filler-{number}"), None).await;
        }
        let home = Home::of(store).await;
        let mut before = None;
        let (mut old, mut new) = (0, 0);
        for _ in 0..crashes * 4 {
            let process = home.start(ON_ANY_DISK).await;
            let (assignment, granted) = company.let_in(store).await;
            process.reaches(granted).await;
            process.signal("TERM");
            tokio::time::sleep(Duration::from_micros(rand::rng().random_range(0..12_000))).await;
            process.signal("KILL");
            drop(process);
            let kept = home.kept(&company).await;
            match kept {
                Some((seq, may)) if seq >= granted => {
                    assert_ne!(may, Some(false), "at {seq}, after the grant");
                    new += 1;
                }
                // As of the start, when the grant of the last time had been taken away, or never.
                Some((_, may)) => {
                    assert!(may != Some(true) || kept == before, "{kept:?} after {before:?}");
                    old += 1;
                }
                None => assert_eq!(before, None, "there was a file"),
            }
            before = kept;
            company.shut_out(store, &assignment).await;
        }
        println!("{old} old files, {new} new ones");
    });
}
