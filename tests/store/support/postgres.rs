//! A PostgreSQL of the tests' own: a cluster in a temporary folder, reached over a socket in it, gone with the process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A cluster.
pub struct Cluster {
    folder: tempfile::TempDir,
    bin: PathBuf,
    as_root: bool,
    databases: AtomicU32,
}

/// A new empty database in the cluster that the tests share; `None` when PostgreSQL is not installed.
pub fn database() -> Option<String> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    Some(CLUSTER.get_or_init(Cluster::start).as_ref()?.database())
}

impl Cluster {
    /// A new empty database.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.run("createdb", &["-h", &self.socket(), "-U", "postgres", &name]);
        format!("postgres://postgres@localhost/{name}?host={}", self.socket())
    }

    /// Stops the server at once, as a crash would.
    pub fn halt(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "-w", "stop"]);
    }

    /// Starts the server.
    pub fn run_again(&self) {
        let socket = self.socket();
        let options = format!("-k {socket} -c listen_addresses= -c max_connections=200");
        let log = format!("{socket}/log");
        self.run("pg_ctl", &["-D", &self.data(), "-l", &log, "-o", &options, "-w", "start"]);
    }

    /// Runs a statement in the database `postgres`.
    pub fn execute(&self, statement: &str) {
        self.run("psql", &["-h", &self.socket(), "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-c", statement]);
    }

    /// A new running cluster; `None` when PostgreSQL is not installed.
    pub fn start() -> Option<Self> {
        let bin = installed()?;
        let as_root = std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
        let folder = tempfile::Builder::new().prefix("pg").tempdir_in("/tmp").unwrap();
        if as_root {
            // The server refuses to run as root.
            assert!(
                Command::new("chown")
                    .args(["postgres", &folder.path().display().to_string()])
                    .status()
                    .unwrap()
                    .success()
            );
        }
        let cluster = Self { folder, bin, as_root, databases: AtomicU32::new(0) };
        let data = cluster.data();
        cluster.run(
            "initdb",
            &["-D", &data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"],
        );
        cluster.run_again();
        // The process ends without dropping statics: a watcher stops the server when its parent is gone.
        cluster.watch();
        Some(cluster)
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    /// The folder of its socket.
    pub fn socket(&self) -> String {
        self.folder.path().display().to_string()
    }

    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        if !self.as_root {
            return Command::new(program);
        }
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = self.command(program);
        command.args(arguments).current_dir("/tmp").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().unwrap().success(), "{program} failed");
    }

    fn watch(&self) {
        let script = "while kill -0 \"$1\" 2>/dev/null; do sleep 1; done; \
                      if [ \"$4\" = root ]; then runuser -u postgres -- \"$2/pg_ctl\" -D \"$3/data\" -m immediate stop; \
                      else \"$2/pg_ctl\" -D \"$3/data\" -m immediate stop; fi; rm -rf \"$3\"";
        let own = std::process::id().to_string();
        let who = if self.as_root { "root" } else { "self" };
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", &own]).arg(&self.bin).arg(self.folder.path()).arg(who);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/tmp").spawn().unwrap();
    }
}

/// The folder with the server's programs.
fn installed() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let bins = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    bins.filter(|bin| bin.join("initdb").exists()).max().filter(|bin| bin.is_dir() && Path::new("/tmp").is_dir())
}
