//! A whole sidecar on free ports, for tests that ask it as a client does and look at what its upstream received.
//!
//! ```ignore
//! let system = System::with("- {id: me, match: {path: /me}, authenticated: true}").start();
//! system.get("/me").with(&alice().sign()).passes();
//! system.get("/me").is_refused(401, "missing_token");
//! ```

#![allow(dead_code, unused_imports, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

pub mod canary;
pub mod client;
pub mod clock;
pub mod framing;
pub mod permits;
pub mod tokens;
pub mod upstream;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portcullis::app::{self, App, Stop};
use portcullis::config::{self, ProcessEnvironment};
use portcullis::live::World;
use portcullis::telemetry::{Metrics, Sink};
use portcullis::yaml;

use self::client::{Answer, Connection};
use self::clock::TestClock;
use self::permits::Permits;
use self::tokens::{ISSUER, key_set};
use self::upstream::{Received, RecordingUpstream};

pub use self::tokens::{TokenCase, alice, token};

/// The company of the demo: its facts are those of the tests.
pub const COMPANY: &str = include_str!("../../config/demo/facts.yaml");

/// How long a test waits for something that has to happen by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// The parts of a configuration; a test replaces those that it is about.
pub struct Builder {
    upstream: Option<RecordingUpstream>,
    listen: String,
    upstreams: Option<String>,
    upstream_options: String,
    tokens: String,
    facts: String,
    company: String,
    key_set: Option<String>,
    limits: String,
    status: String,
    admin: String,
    further: String,
    routes: String,
    wait: bool,
}

/// A running sidecar with a recording upstream behind it. Dropping it stops it.
pub struct System {
    /// Where clients connect.
    pub address: SocketAddr,
    /// `/live`, `/ready`, `/metrics`; the admin listener where they are on that.
    pub status: SocketAddr,
    /// The admin pages.
    pub admin: SocketAddr,
    /// What stands behind it.
    pub upstream: RecordingUpstream,
    /// What it takes for the time.
    pub clock: Arc<TestClock>,
    /// The facts and revocations it decides by.
    pub world: Arc<World>,
    /// Its log.
    pub log: Log,
    stop: Stop,
    sink: Sink,
    running: Option<JoinHandle<()>>,
    folder: tempfile::TempDir,
}

impl System {
    /// A sidecar with these rules: a YAML list.
    pub fn with(routes: &str) -> Builder {
        Builder {
            upstream: None,
            listen: "{address: \"127.0.0.1:0\"}".to_owned(),
            upstreams: None,
            upstream_options: "connect_timeout: 1s, read_timeout: 5s".to_owned(),
            tokens: format!(
                "- {{name: test, issuer: \"{ISSUER}\", audience: none, required_claims: [sid], leeway: 0s, \
                 algorithms: [ES256, RS256, EdDSA], jwks_file: jwks.json, from: [\"header:authorization\", \"cookie:session\"]}}"
            ),
            facts: "{source: file, file: facts.yaml}".to_owned(),
            company: COMPANY.to_owned(),
            key_set: Some(key_set()),
            limits: "{shutdown_timeout: 5s}".to_owned(),
            status: "status: {address: \"127.0.0.1:0\"}".to_owned(),
            admin: "{address: \"127.0.0.1:0\"}".to_owned(),
            further: String::new(),
            routes: routes.to_owned(),
            wait: true,
        }
    }

    pub fn get(&self, target: &str) -> Ask<'_> {
        self.ask("GET", target)
    }

    pub fn post(&self, target: &str) -> Ask<'_> {
        self.ask("POST", target)
    }

    /// A request, as a well-behaved client writes it.
    pub fn ask(&self, method: &str, target: &str) -> Ask<'_> {
        Ask {
            system: self,
            method: method.to_owned(),
            target: target.to_owned(),
            host: "app.test".to_owned(),
            fields: Vec::new(),
            body: None,
        }
    }

    /// Bytes, as they are.
    #[track_caller]
    pub fn raw(&self, bytes: impl AsRef<[u8]>) -> Outcome {
        let mut connection = self.connect();
        connection.send(bytes);
        let answer = connection.answer();
        Outcome { answer, arrived: self.upstream.take() }
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// The folder with its configuration.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn config_file(&self) -> PathBuf {
        self.folder().join("portcullis.yaml")
    }

    /// Writes `content` to a file in its folder, so that the file changes in one step.
    pub fn write(&self, name: &str, content: &str) {
        let draft = self.folder().join(format!("{name}.new"));
        std::fs::write(&draft, content).unwrap();
        std::fs::rename(draft, self.folder().join(name)).unwrap();
    }

    /// A page of the status listener.
    pub fn status_page(&self, path: &str) -> Answer {
        ask_page(self.status, "GET", path, &[], "")
    }

    /// A page of the admin listener.
    pub fn admin_page(&self, method: &str, path: &str, body: &str) -> Answer {
        ask_page(self.admin, method, path, &[("content-type", "application/json")], body)
    }

    /// The value of a series such as `portcullis_panics_total`, labels as Prometheus writes them; 0 when there is none.
    pub fn metric(&self, series: &str) -> f64 {
        let page = String::from_utf8(self.status_page("/metrics").body).unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until `happened`.
    #[track_caller]
    pub fn until(&self, what: &str, happened: impl Fn(&Self) -> bool) {
        wait_until(what, || happened(self));
    }

    /// Everything logged so far.
    pub fn logged(&self) -> String {
        assert!(self.sink.flush(PATIENCE), "the log is not written");
        self.log.text()
    }

    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Waits until the sidecar has ended.
    pub fn ended(&mut self) {
        let running = self.running.take().unwrap();
        wait_until("the sidecar ends", || running.is_finished());
        running.join().unwrap();
    }
}

impl System {
    /// Everything that arrived was permitted, exactly as it arrived, and once (invariants I6, I7 and I8).
    fn judge(&self) {
        let begun = Instant::now();
        let faults = loop {
            let (permits, records) = (Permits::of(&self.logged()), self.upstream.records());
            let faults = permits.faults(&records);
            // Lines are written, and connections closed, when a request has ended.
            if (permits.tell_of(&records) && faults.is_empty()) || begun.elapsed() > PATIENCE {
                break faults;
            }
            pause();
        };
        assert!(faults.is_empty(), "arrived, and should not have: {}", faults.join("\n"));
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            if self.running.as_ref().is_some_and(|running| !running.is_finished()) {
                for page in ["/metrics", "/ready"] {
                    canary::is_not_in(page, self.status_page(page).body);
                }
            }
            self.judge();
        }
        self.stop.now();
        if !std::thread::panicking() {
            canary::is_not_in("the decision log", self.logged());
            canary::is_not_in("the log", canary::new_events());
            let late = self.upstream.take();
            assert!(late.is_empty(), "arrived after the test: {late:?}");
        }
    }
}

impl Builder {
    /// What stands behind the sidecar, instead of an upstream that answers `200 ok`.
    pub fn upstream(mut self, upstream: RecordingUpstream) -> Self {
        self.upstream = Some(upstream);
        self
    }

    /// The whole of `upstreams`; `UPSTREAM` stands for the recording upstream's address.
    pub fn upstreams(mut self, text: &str) -> Self {
        self.upstreams = Some(text.to_owned());
        self
    }

    /// Further keys of the one upstream.
    pub fn upstream_options(mut self, text: &str) -> Self {
        self.upstream_options = text.to_owned();
        self
    }

    pub fn listen(mut self, text: &str) -> Self {
        self.listen = text.to_owned();
        self
    }

    /// The whole of `tokens`: a YAML list, or nothing.
    pub fn tokens(mut self, text: &str) -> Self {
        self.tokens = text.to_owned();
        self
    }

    /// The whole of `facts`.
    pub fn facts(mut self, text: &str) -> Self {
        self.facts = text.to_owned();
        self
    }

    /// What the facts file says.
    pub fn company(mut self, text: &str) -> Self {
        self.company = text.to_owned();
        self
    }

    /// What the key set file says; `None` = there is none yet.
    pub fn key_set(mut self, text: Option<&str>) -> Self {
        self.key_set = text.map(str::to_owned);
        self
    }

    pub fn limits(mut self, text: &str) -> Self {
        self.limits = text.to_owned();
        self
    }

    /// The whole of `admin`.
    pub fn admin(mut self, text: &str) -> Self {
        self.admin = text.to_owned();
        self
    }

    /// No listener for the status pages alone.
    pub fn without_status(mut self) -> Self {
        self.status = String::new();
        self
    }

    /// Further keys at the top of the file.
    pub fn and(mut self, text: &str) -> Self {
        self.further.push_str(text);
        self.further.push('\n');
        self
    }

    /// Does not wait until the sidecar is ready.
    pub fn unready(mut self) -> Self {
        self.wait = false;
        self
    }

    /// The file, with the upstream at `upstream`.
    pub fn configuration(&self, upstream: SocketAddr) -> String {
        let one = format!("{{app: {{servers: [\"UPSTREAM\"], {}}}}}", self.upstream_options);
        let upstreams = self.upstreams.as_deref().unwrap_or(&one).replace("UPSTREAM", &upstream.to_string());
        let tokens = if self.tokens.is_empty() { "[]".to_owned() } else { format!("\n{}", self.tokens) };
        format!(
            "version: 1\nthreads: 2\nlisten: [{}]\n{}\nadmin: {}\nupstreams: {upstreams}\ntokens: {tokens}\nfacts: {}\n\
             limits: {}\nlog: {{sample_allows: 1}}\n{}\nroutes:\n{}\n",
            self.listen, self.status, self.admin, self.facts, self.limits, self.further, self.routes
        )
    }

    /// Starts it, and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> System {
        canary::listen();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("portcullis.yaml");
        let upstream_address = self.upstream.as_ref().map(RecordingUpstream::address);
        let upstream = self.upstream.unwrap_or_else(RecordingUpstream::start);
        let text = Self { upstream: None, ..self }.write(&folder, upstream_address.unwrap_or(upstream.address()));
        std::fs::write(&file, &text.0).unwrap();
        let config = config::load(&file, &ProcessEnvironment).unwrap_or_else(|error| panic!("{error}\n{}", text.0));
        canary::is_not_in("the debug output of a configuration", format!("{config:?}"));
        canary::is_not_in("the debug output of a document", format!("{:?}", yaml::parse("", &text.0, None)));
        let metrics: Arc<Metrics> = Arc::new(app::metrics().unwrap());
        let log = Log::default();
        let sink = Sink::start(log.clone(), 100_000, metrics.log_lines_dropped.clone()).unwrap();
        let clock = Arc::new(TestClock::default());
        let app = App::build(config, Some(file), clock.clone(), metrics, sink.clone()).unwrap();
        let (addresses, stop, world) = (app.addresses().clone(), app.stop(), app.world());
        let running = std::thread::spawn(move || app.run());
        let system = System {
            address: addresses.listeners[0],
            status: addresses.status.or(addresses.admin).unwrap(),
            admin: addresses.admin.unwrap(),
            upstream,
            clock,
            world,
            log,
            stop,
            sink,
            running: Some(running),
            folder,
        };
        if text.1 {
            wait_until("the sidecar is ready", || system.status_page("/ready").status == 200);
        }
        system
    }

    /// Writes the files beside the configuration; answers the configuration, and whether to wait.
    fn write(self, folder: &tempfile::TempDir, upstream: SocketAddr) -> (String, bool) {
        std::fs::write(folder.path().join("facts.yaml"), &self.company).unwrap();
        if let Some(keys) = &self.key_set {
            std::fs::write(folder.path().join("jwks.json"), keys).unwrap();
        }
        (self.configuration(upstream), self.wait)
    }
}

/// A request under construction.
#[derive(Clone)]
pub struct Ask<'s> {
    system: &'s System,
    method: String,
    target: String,
    host: String,
    fields: Vec<(String, String)>,
    body: Option<String>,
}

impl Ask<'_> {
    /// With this bearer token.
    pub fn with(self, token: &str) -> Self {
        self.field("authorization", &format!("Bearer {token}"))
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    /// With this body, its length announced.
    pub fn body(mut self, body: &str) -> Self {
        self.body = Some(body.to_owned());
        self
    }

    /// With this body, said to be JSON.
    pub fn json(self, body: &str) -> Self {
        self.field("content-type", "application/json").body(body)
    }

    /// The bytes of the request.
    pub fn bytes(&self) -> Vec<u8> {
        let Self { method, target, host, .. } = self;
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        } else {
            text.push_str("\r\n");
        }
        text.into_bytes()
    }

    /// Sends it on a connection of its own.
    pub fn send(&self) -> Outcome {
        let mut connection = self.system.connect();
        connection.send(self.bytes());
        let answer = if self.method == "HEAD" { connection.answer_to_head() } else { connection.answer() };
        let arrived = self.system.upstream.take();
        if let [received] = arrived.as_slice() {
            let sent = self.body.as_deref().unwrap_or_default();
            assert!(received.content() == sent.as_bytes(), "another body arrived: {received:?}");
        }
        Outcome { answer, arrived }
    }

    /// Sends it; it has to arrive at the upstream, once, and its answer has to come back.
    #[track_caller]
    pub fn passes(&self) -> Received {
        let described = String::from_utf8_lossy(&self.bytes()).into_owned();
        self.send().passed(&described)
    }

    /// Sends it; it has to be answered so, and nothing may arrive at the upstream.
    #[track_caller]
    pub fn is_refused(&self, status: u16, code: &str) -> Answer {
        let described = String::from_utf8_lossy(&self.bytes()).into_owned();
        self.send().refused(status, code, &described)
    }

    /// As [`Self::is_refused`], for 401 `bad_token` with this reason.
    #[track_caller]
    pub fn is_a_bad_token(&self, reason: &str) -> Answer {
        let answer = self.is_refused(401, "bad_token");
        assert_eq!(answer.reason(), reason, "{}", String::from_utf8_lossy(&self.bytes()));
        answer
    }
}

/// What came of a request.
pub struct Outcome {
    /// The answer; `None` when the connection was closed without one.
    pub answer: Option<Answer>,
    /// What the upstream received.
    pub arrived: Vec<Received>,
}

impl Outcome {
    #[track_caller]
    pub fn passed(self, trick: &str) -> Received {
        let answer = self.answer.unwrap_or_else(|| panic!("{trick}: no answer"));
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 200, "{trick}: {body}");
        assert!(answer.field("x-request-id").is_some(), "{trick}: the answer has no request id");
        let [received] = <[Received; 1]>::try_from(self.arrived).unwrap_or_else(|all| panic!("{trick}: {all:?}"));
        received
    }

    #[track_caller]
    pub fn refused(self, status: u16, code: &str, trick: &str) -> Answer {
        assert!(self.arrived.is_empty(), "{trick}: arrived: {:?}", self.arrived);
        let answer = self.answer.unwrap_or_else(|| panic!("{trick}: no answer"));
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{trick}: {body}");
        answer
    }

    /// Refused by the HTTP parser itself: a bare status and the end of the connection, or the end alone.
    #[track_caller]
    pub fn refused_while_parsing(self, trick: &str) {
        assert!(self.arrived.is_empty(), "{trick}: arrived: {:?}", self.arrived);
        let status = self.answer.map_or(400, |answer| answer.status);
        assert!(matches!(status, 400 | 405), "{trick}: {status}");
    }
}

/// What the sidecar logs.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A request to a page of ours.
pub fn ask_page(address: SocketAddr, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text.push_str(&format!("host: {address}\r\n"));
    }
    for (name, value) in fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()));
    let mut connection = Connection::open(address);
    connection.send(text);
    connection.answer().unwrap_or_else(|| panic!("{path}: no answer"))
}

/// Waits until `happened`, looking again and again.
#[track_caller]
pub fn wait_until(what: &str, happened: impl Fn() -> bool) {
    let begun = Instant::now();
    while !happened() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        pause();
    }
}

/// A few milliseconds between two looks.
fn pause() {
    let nobody = Mutex::new(());
    let _ = Condvar::new().wait_timeout(nobody.lock().unwrap(), Duration::from_millis(10)).unwrap();
}

/// An address of this machine where nobody listens.
pub fn nowhere() -> SocketAddr {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}
