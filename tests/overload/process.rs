//! The program itself, in front of a recording upstream.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::ROUTES;
use super::support::client::{Answer, Connection};
use super::support::tokens::key_set;
use super::support::upstream::RecordingUpstream;
use super::support::{Builder, COMPANY, System, alice, ask_page, wait_until};

/// The longest that one who behaves is let wait by those who do not.
const SERVED_WITHIN: Duration = Duration::from_secs(60);

/// The longest that something is waited for that has to happen by itself, on a machine that others use too.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The log is kept up to here: of floods the beginning is enough.
const LINES: usize = 5000;

/// A running sidecar. Dropping it kills it.
pub struct Process {
    /// Where clients connect.
    pub address: SocketAddr,
    /// `/live`, `/ready`, `/metrics`.
    pub status: SocketAddr,
    /// What stands behind it.
    pub upstream: RecordingUpstream,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
}

impl Process {
    /// A sidecar with the rules of these tests and these limits.
    pub fn start(limits: &str) -> Self {
        Self::of(&System::with(ROUTES).limits(limits), RecordingUpstream::start(), None)
    }

    /// One that may have so many files open.
    pub fn with_files(limits: &str, files: u32) -> Self {
        Self::of(&System::with(ROUTES).limits(limits), RecordingUpstream::start(), Some(files))
    }

    pub fn of(builder: &Builder, upstream: RecordingUpstream, files: Option<u32>) -> Self {
        many_files();
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| std::fs::write(folder.path().join(name), content).unwrap();
        write("portcullis.yaml", &builder.configuration(upstream.address()));
        write("facts.yaml", COMPANY);
        write("jwks.json", &key_set());
        let limit = files.map_or(String::new(), |files| format!("ulimit -n {files} && "));
        let arguments = ["proxy", "--config", "portcullis.yaml", "--log-format", "json"];
        let mut child = Command::new("sh")
            .args(["-c", &format!("{limit}exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_portcullis")])
            .args(arguments)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::<Mutex<Vec<String>>>::default();
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut lines = lines.lock().unwrap();
                if lines.len() < LINES {
                    lines.push(line);
                }
            }
        });
        let listening = || addresses(&log.lock().unwrap());
        wait_until("it listens", || listening().is_some());
        let (address, status) = listening().unwrap();
        let process = Self { address, status, upstream, child, log, folder };
        wait_until("it is ready", || process.page("/ready").status == 200);
        process.serves();
        process
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// So many connections, on each of which `first` was sent.
    pub fn connections(&self, count: usize, first: &[u8]) -> Vec<TcpStream> {
        let open = |_| {
            let mut stream = TcpStream::connect(self.address).unwrap();
            // One that was refused may be gone by now.
            let _ = stream.write_all(first);
            stream
        };
        (0..count).map(open).collect()
    }

    /// One who behaves has an answer, on a connection of its own, in time.
    #[track_caller]
    pub fn serves(&self) {
        let begun = Instant::now();
        for (request, status) in [
            ("GET /open HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 200),
            (format!("GET /me HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n", alice().sign()), 200),
            ("GET /me HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 401),
        ] {
            let answer = self.ask(&request).unwrap_or_else(|| panic!("not served: {request}"));
            assert_eq!(answer.status, status, "{request}");
        }
        assert!(begun.elapsed() < SERVED_WITHIN, "served after {:?}", begun.elapsed());
    }

    /// Sends bytes on a connection of their own.
    pub fn ask(&self, bytes: &str) -> Option<Answer> {
        let mut connection = self.connect();
        connection.stream().set_read_timeout(Some(PATIENCE)).unwrap();
        connection.send(bytes);
        connection.answer()
    }

    /// A page of the status listener.
    pub fn page(&self, path: &str) -> Answer {
        ask_page(self.status, "GET", path, &[], "")
    }

    /// The value of a series; 0 when there is none.
    pub fn metric(&self, series: &str) -> f64 {
        let page = String::from_utf8(self.page("/metrics").body).unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    #[track_caller]
    pub fn until(&self, what: &str, happened: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        let (_never, pause) = std::sync::mpsc::channel::<()>();
        while !happened(self) {
            assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
            let _ = pause.recv_timeout(Duration::from_millis(50));
        }
    }

    /// Bytes of memory that it has.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Files that it has open.
    pub fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// The line of its log with `word`, if there is one.
    pub fn logged(&self, word: &str) -> Option<String> {
        self.log.lock().unwrap().iter().find(|line| line.contains(word)).cloned()
    }

    /// Replaces a file beside its configuration in one step.
    pub fn write(&self, name: &str, content: &str) {
        let draft = self.folder.path().join(format!("{name}.new"));
        std::fs::write(&draft, content).unwrap();
        std::fs::rename(draft, self.folder.path().join(name)).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The clients of these tests are many, and all in one process.
fn many_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// Where clients connect, and where the status pages are.
fn addresses(log: &[String]) -> Option<(SocketAddr, SocketAddr)> {
    let address = |message: &str| {
        let line = log.iter().find(|line| line.contains(message))?;
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["address"].as_str().unwrap().parse().ok()
    };
    Some((address("\"listening\"")?, address("status at /live")?))
}
