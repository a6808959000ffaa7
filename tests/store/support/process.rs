//! A store in a process of its own, for what cannot be done to one that shares it with the tests.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::{Api, KEY};

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_portcullis");

/// A free port, and a configuration that listens there.
fn configuration(further: &str) -> (u16, String) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    (port, format!("version: 1\nlisten: 127.0.0.1:{port}\napi_keys: [{KEY}]\n{further}\n"))
}

fn configuration_in(further: &str) -> (u16, String) {
    match further.contains("database:") {
        true => configuration(further),
        false => configuration(&format!("database: sqlite://./store.db\n{further}")),
    }
}

/// Runs a command of the program beside a configuration as [`Process::start_in`] writes it, whether a store runs there or not.
pub fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

/// Writes the configuration of [`Process::start_in`] without starting anything.
pub fn configure(folder: &Path, further: &str) {
    std::fs::write(folder.join("store.yaml"), configuration_in(further).1).unwrap();
}

/// A running `portcullis store`. Dropping it kills it.
pub struct Process {
    child: Child,
    api: Api,
    _folder: Option<tempfile::TempDir>,
}

impl Process {
    /// Starts a store on this database.
    pub async fn start(database: &str) -> Self {
        Self::start_by("exec \"$@\"", &[], database).await
    }

    /// Starts a store as the last arguments of this shell script, whose first arguments are `before`.
    pub async fn start_by(script: &str, before: &[&str], database: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, configuration) = configuration(&format!("database: {database}"));
        let file = folder.path().join("store.yaml");
        std::fs::write(&file, configuration).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).args(before).arg(PROGRAM);
        Self::ready(command, &file, port, Some(folder)).await
    }

    /// Starts a store in this folder, on a database there unless `further` names one, with these further lines of configuration.
    pub async fn start_in(folder: &Path, further: &str) -> Self {
        let (port, configuration) = configuration_in(further);
        let file = folder.join("store.yaml");
        std::fs::write(&file, configuration).unwrap();
        Self::ready(Command::new(PROGRAM), &file, port, None).await
    }

    async fn ready(mut command: Command, file: &Path, port: u16, folder: Option<tempfile::TempDir>) -> Self {
        command.args(["--log-level", "error", "store", "--config"]).arg(file);
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

    /// SIGTERM, and waits for the end.
    pub fn stop(mut self) {
        let told = Command::new("kill").args(["-TERM", &self.id().to_string()]).status().unwrap();
        assert!(told.success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
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
