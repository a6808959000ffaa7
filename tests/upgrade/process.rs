//! The program itself, as operators run it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::tokens::{ISSUER, key_set};

/// How long a test waits for what has to happen.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Certificates that the tests share.
pub fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/support/tls").join(name)
}

/// A folder with a configuration, and where its sidecars listen, one after the other.
pub struct Place {
    pub folder: TempDir,
    pub plain: SocketAddr,
    pub h2c: SocketAddr,
    pub tls: SocketAddr,
    pub status: SocketAddr,
    upstream: SocketAddr,
}

impl Place {
    /// In front of `upstream`.
    pub fn before(upstream: SocketAddr) -> Self {
        let [plain, h2c, tls, status] = [(); 4].map(|()| nobody_has_it());
        let place = Self { folder: tempfile::tempdir().unwrap(), plain, h2c, tls, status, upstream };
        fs::write(place.file("jwks.json"), key_set()).unwrap();
        fs::write(place.file("facts.yaml"), include_str!("../../config/demo/facts.yaml")).unwrap();
        place.configure("portcullis.yaml", |text| text);
        place
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where old and new meet.
    pub fn meeting(&self) -> PathBuf {
        self.file("meet/upgrade.sock")
    }

    /// Writes a configuration that is changed by `change`.
    pub fn configure(&self, name: &str, change: impl Fn(String) -> String) {
        let Self { plain, h2c, tls, status, upstream, .. } = self;
        let (chain, key) = (certificate("server.pem"), certificate("server.key"));
        let (chain, key) = (chain.display(), key.display());
        let text = format!(
            "version: 1\nthreads: 2\nlisten:\n  - {{address: \"{plain}\"}}\n  - {{address: \"{h2c}\", h2c: true}}\n  \
             - {{address: \"{tls}\", tls: {{certificate: {chain}, key: {key}}}}}\n\
             status: {{address: \"{status}\"}}\nadmin: {{address: \"unix:admin.sock\"}}\n\
             upgrade: {{socket: meet/upgrade.sock, timeout: 20s}}\n\
             upstreams: {{app: {{servers: [\"{upstream}\"]}}}}\n\
             tokens:\n  - {{name: a, issuer: \"{ISSUER}\", audience: none, required_claims: [sid], jwks_file: jwks.json, algorithms: [ES256]}}\n\
             facts: {{source: file, file: facts.yaml}}\n\
             limits: {{lame_duck: 1s, shutdown_timeout: 20s}}\n\
             routes:\n  - {{id: open, match: {{path: \"/open/{{rest...}}\"}}, public: true}}\n  \
             - {{id: me, match: {{path: /me}}, authenticated: true}}\n"
        );
        fs::write(self.file(name), change(text)).unwrap();
    }

    /// A sidecar that listens.
    pub fn start(&self) -> Process {
        let process = self.run("portcullis.yaml", &[]);
        process.line_with("\"listening\"");
        process.line_with("facts are in force");
        process.line_with("key set loaded");
        process
    }

    /// A sidecar that is to take the place of another.
    pub fn start_successor(&self, configuration: &str) -> Process {
        self.run(configuration, &["--upgrade"])
    }

    fn run(&self, configuration: &str, further: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(["proxy", "--config", configuration, "--log-format", "json"]).args(further);
        command.current_dir(self.folder.path());
        Process::of(command)
    }
}

/// An address of this machine that nobody listens on, and that no connection begins at by chance.
fn nobody_has_it() -> SocketAddr {
    let [a, b, c, ..] = rand::random::<u32>().to_be_bytes();
    let is_whole_network_ours = cfg!(target_os = "linux");
    let host = if is_whole_network_ours { Ipv4Addr::new(127, a | 1, b | 1, c | 1) } else { Ipv4Addr::LOCALHOST };
    TcpListener::bind((IpAddr::V4(host), 0)).unwrap().local_addr().unwrap()
}

/// A running program. Dropping it kills it.
pub struct Process {
    child: Child,
    log: Arc<(Mutex<String>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    pub fn of(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let written = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in lines.lines() {
                let Ok(line) = line else { break };
                let mut text = written.0.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
                written.1.notify_all();
            }
        });
        Self { child, log, reader: Some(reader) }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub fn logged(&self) -> String {
        self.log.0.lock().unwrap().clone()
    }

    /// Waits until it has logged `word`.
    #[track_caller]
    pub fn line_with(&self, word: &str) -> String {
        self.lines_with(word, 1)
    }

    /// Waits until it has logged `word` so many times; answers the last of these lines.
    #[track_caller]
    pub fn lines_with(&self, word: &str, count: usize) -> String {
        let begun = Instant::now();
        let mut text = self.log.0.lock().unwrap();
        loop {
            if let Some(line) = text.lines().filter(|line| line.contains(word)).nth(count - 1) {
                return line.to_owned();
            }
            assert!(begun.elapsed() < PATIENCE, "`{word}` was not logged {count} times: {text}");
            text = self.log.1.wait_timeout(text, Duration::from_millis(100)).unwrap().0;
        }
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("sh").args(["-c", &format!("kill -{name} {}", self.id())]).status().unwrap().success());
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended; how, and what it logged.
    #[track_caller]
    pub fn ended(mut self) -> (ExitStatus, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end: {}", self.logged());
            pause();
        };
        self.reader.take().unwrap().join().unwrap();
        (status, self.logged())
    }

    /// File descriptors that it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A few milliseconds.
pub fn pause() {
    let nobody = Mutex::new(());
    let _ = Condvar::new().wait_timeout(nobody.lock().unwrap(), Duration::from_millis(10)).unwrap();
}

/// The lower nine bits of the mode of a file.
pub fn mode(file: &Path) -> u32 {
    fs::symlink_metadata(file).unwrap().permissions().mode() & 0o777
}
