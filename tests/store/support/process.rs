//! A store in a process of its own, for what cannot be done to one that shares it with the tests.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Api, KEY};

/// A running `portcullis store`. Dropping it kills it.
pub struct Process {
    child: Child,
    api: Api,
    _folder: tempfile::TempDir,
}

impl Process {
    /// Starts a store on this database.
    pub async fn start(database: &str) -> Self {
        Self::start_by("exec \"$@\"", &[], database).await
    }

    /// Starts a store as the last arguments of this shell script, whose first arguments are `before`.
    pub async fn start_by(script: &str, before: &[&str], database: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store.yaml");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = format!("version: 1\nlisten: 127.0.0.1:{port}\ndatabase: {database}\napi_keys: [{KEY}]\n");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).args(before).arg(env!("CARGO_BIN_EXE_portcullis"));
        command.args(["--log-level", "error", "store", "--config"]).arg(&file);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut started = Self { child, api: Api::at(([127, 0, 0, 1], port).into()), _folder: folder };
        started.wait_until_ready().await;
        started
    }

    async fn wait_until_ready(&mut self) {
        let begin = Instant::now();
        while self.api.try_send("GET", "/ready", None).await != Some(200) {
            assert!(self.child.try_wait().unwrap().is_none(), "the store ended by itself");
            assert!(begin.elapsed() < Duration::from_secs(60), "the store does not become ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A client that can be taken elsewhere.
    pub fn client(&self) -> Api {
        self.api.clone()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl std::ops::Deref for Process {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
