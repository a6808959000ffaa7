//! A PostgreSQL of the tests' own: a cluster in a temporary folder, reached over a socket in it, gone with the process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A running cluster.
struct Cluster {
    folder: tempfile::TempDir,
    bin: PathBuf,
    as_root: bool,
}

/// A new empty database; `None` when PostgreSQL is not installed.
pub fn database() -> Option<String> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    static DATABASES: AtomicU32 = AtomicU32::new(0);
    let cluster = CLUSTER.get_or_init(Cluster::start).as_ref()?;
    let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    cluster.run("createdb", &["-h", &cluster.socket(), "-U", "postgres", &name]);
    Some(format!("postgres://postgres@localhost/{name}?host={}", cluster.socket()))
}

impl Cluster {
    fn start() -> Option<Self> {
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
        let cluster = Self { folder, bin, as_root };
        let data = cluster.data();
        cluster.run(
            "initdb",
            &["-D", &data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"],
        );
        let socket = cluster.socket();
        let options = format!("-k {socket} -c listen_addresses= -c max_connections=200");
        let log = format!("{socket}/log");
        cluster.run("pg_ctl", &["-D", &data, "-l", &log, "-o", &options, "-w", "start"]);
        // The process ends without dropping statics: a watcher stops the server when its parent is gone.
        cluster.watch();
        Some(cluster)
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn socket(&self) -> String {
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
