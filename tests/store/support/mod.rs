//! A running store on a free port, on every engine that is installed, for tests that ask it as a client does.
//!
//! ```ignore
//! #[test]
//! fn a_permission_can_be_created_once() {
//!     on_every_engine(async |store| {
//!         store.post("/authorization/permissions", json!({"slug": "a:b", "name": "A"})).await.is(201);
//!         store.post("/authorization/permissions", json!({"slug": "a:b", "name": "A"})).await.is_error(409, "permission_slug_conflict");
//!     });
//! }
//! ```

#![allow(dead_code, unused_imports, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

#[path = "../../support/canary.rs"]
pub mod canary;
pub mod company;
pub mod postgres;
pub mod process;
pub mod tls;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use portcullis::app::SystemClock;
use portcullis::store::{ApiKey, ApiKeys, Scope, Server, Settings, Signing, Store};
use portcullis::telemetry::{Build, StoreMetrics};
use portcullis::token::{Algorithm, Issuer};
use serde_json::{Value, json};
use tokio::sync::watch;

/// The key of tests.
pub const KEY: &str = "sk_canary-4711_all";
/// One that may only read.
pub const READER: &str = "sk_canary-4711_read";
/// `iss` of the tokens of tests.
pub const ISSUER: &str = "https://issuer.test";

/// How to ask a store.
#[derive(Clone)]
pub struct Api {
    pub address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// A running store. Dropping it stops it.
pub struct Running {
    api: Api,
    pub store: Store,
    pub database: String,
    stop: watch::Sender<bool>,
    served: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub request: String,
    pub status: u16,
    pub headers: hyper::HeaderMap,
    pub body: Value,
}

/// Runs a test on SQLite, and on PostgreSQL where it is installed; says so where it is not.
pub fn on_every_engine(test: impl AsyncFn(&Running)) {
    on_every_engine_with(settings, test);
}

/// The same, with these settings for a database.
pub fn on_every_engine_with(settings: fn(&str) -> Settings, test: impl AsyncFn(&Running)) {
    on_sqlite_with(settings, &test);
    on_postgres_with(settings, test);
}

/// Runs a test on PostgreSQL, where that is installed, with these settings for a database.
pub fn on_postgres_with(settings: fn(&str) -> Settings, test: impl AsyncFn(&Running)) {
    match postgres::database() {
        Some(database) => run(settings(&database), &test),
        None => skipped("PostgreSQL is not installed"),
    }
}

/// Says that something was not tested, and why; a failure where `PORTCULLIS_NO_SKIPS` is set, as the gate does.
#[track_caller]
pub fn skipped(why: &str) {
    assert!(std::env::var_os("PORTCULLIS_NO_SKIPS").is_none(), "skipped: {why}");
    eprintln!("skipped: {why}");
}

/// Runs a test on SQLite.
pub fn on_sqlite(test: impl AsyncFn(&Running)) {
    on_sqlite_with(settings, test);
}

/// The same, with these settings for a database.
pub fn on_sqlite_with(settings: fn(&str) -> Settings, test: impl AsyncFn(&Running)) {
    let folder = tempfile::tempdir().unwrap();
    run(settings(&format!("sqlite://{}", folder.path().join("store.db").display())), &test);
}

fn run(settings: Settings, test: &impl AsyncFn(&Running)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let running = Running::start_with(settings).await;
        test(&running).await;
        // Whatever was done to it, the log tells all of it, unless it was shortened.
        let verification = running.store.compare_log_with_rows().await.unwrap();
        if verification.forgotten == 0 {
            assert_eq!(verification.differences, Vec::<String>::new());
        }
        running.stop().await;
    });
}

/// Settings of a store for tests.
pub fn settings(database: &str) -> Settings {
    let mut settings =
        Settings::of(database, Arc::new(StoreMetrics::new(Build { version: "test", revision: "" }).unwrap()));
    settings.api_keys = ApiKeys::new(vec![
        ApiKey::new("tests", KEY, vec![Scope::Read, Scope::Write, Scope::Mint]),
        ApiKey::new("reader", READER, vec![Scope::Read]),
    ]);
    settings.issuer = Some(signing());
    settings
}

/// Who signs the tokens of tests: `client_test`, for five minutes. The key is made once: that takes a while.
pub fn signing() -> Arc<Signing> {
    static SIGNING: OnceLock<Arc<Signing>> = OnceLock::new();
    let make = || {
        let current = Issuer::ephemeral(ISSUER, Algorithm::RS256).unwrap();
        let next = Issuer::ephemeral(ISSUER, Algorithm::RS256).unwrap();
        let lifetime = Duration::from_secs(300);
        Arc::new(Signing::new("client_test".to_owned(), lifetime, current, Some(&next)).unwrap())
    };
    Arc::clone(SIGNING.get_or_init(make))
}

impl Running {
    /// Starts a store on this database.
    pub async fn start(database: &str) -> Self {
        Self::start_with(settings(database)).await
    }

    /// Starts a store with these settings.
    pub async fn start_with(settings: Settings) -> Self {
        Self::start_over(settings, None).await
    }

    /// The same, over TLS: its own client does not speak that, see [`tls`].
    pub async fn start_over(settings: Settings, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        canary::listen();
        canary::is_not_in("the debug output of settings", format!("{settings:?}"));
        let database = settings.database.clone();
        let store = Store::open(settings, Arc::new(SystemClock)).await.unwrap();
        let server = Server::bind(store.clone(), (Ipv4Addr::LOCALHOST, 0).into(), tls).unwrap();
        let address = server.address().unwrap();
        let (stop, stopped) = watch::channel(false);
        let served = Some(tokio::spawn(server.serve(stopped)));
        Self { api: Api::at(address), store, database, stop, served }
    }

    /// Stops it and waits for its end.
    pub async fn stop(mut self) {
        if let Some(metrics) = self.api.try_text("/metrics").await {
            canary::is_not_in("/metrics", metrics);
        }
        canary::is_not_in("the log", canary::new_events());
        self.stop.send_replace(true);
        if let Some(served) = self.served.take() {
            served.await.unwrap().unwrap();
        }
    }

    /// A client that can be taken elsewhere.
    pub fn client(&self) -> Api {
        self.api.clone()
    }
}

impl std::ops::Deref for Running {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Api {
    /// Asks whoever listens there.
    pub fn at(address: SocketAddr) -> Self {
        Self { address, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// The status of an answer; `None` when there is no whole one.
    pub async fn try_send(&self, method: &str, path: &str, body: Option<Value>) -> Option<u16> {
        Some(self.try_ask(method, path, body).await?.0)
    }

    /// A page; `None` when there is no whole answer.
    async fn try_text(&self, path: &str) -> Option<Bytes> {
        let request = hyper::Request::builder().uri(format!("http://{}{path}", self.address));
        let asked = self.client.request(request.body(Full::default()).unwrap());
        let response = tokio::time::timeout(Duration::from_secs(2), asked).await.ok()?.ok()?;
        Some(response.into_body().collect().await.ok()?.to_bytes())
    }

    /// The status and body of an answer; `None` when there is no whole one.
    pub async fn try_ask(&self, method: &str, path: &str, body: Option<Value>) -> Option<(u16, Value)> {
        let request = hyper::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        let request = request.header("authorization", format!("Bearer {KEY}"));
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let response = self.client.request(request.body(Full::from(body)).unwrap()).await.ok()?;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.ok()?.to_bytes();
        Some((parts.status.as_u16(), serde_json::from_slice(&bytes).unwrap_or_default()))
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None, &[]).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, Some(body), &[]).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send("PUT", path, Some(body), &[]).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send("PATCH", path, Some(body), &[]).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, None, &[]).await
    }

    pub async fn delete_with(&self, path: &str, body: Value) -> Answer {
        self.send("DELETE", path, Some(body), &[]).await
    }

    /// Sends a request with the key of tests, unless `headers` has another `authorization`.
    pub async fn send(&self, method: &str, path: &str, body: Option<Value>, headers: &[(&str, &str)]) -> Answer {
        let body = body.map(|body| body.to_string().into_bytes());
        self.send_bytes(method, path, body.unwrap_or_default(), headers).await
    }

    /// Sends any bytes.
    pub async fn send_bytes(&self, method: &str, path: &str, body: Vec<u8>, headers: &[(&str, &str)]) -> Answer {
        let mut request = hyper::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", format!("Bearer {KEY}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        let described =
            format!("{method} {path} {}", String::from_utf8_lossy(&body).chars().take(500).collect::<String>());
        let response = self.client.request(request.body(Full::from(body)).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        canary::is_not_in("the head of an answer", format!("{:?}", parts.headers));
        canary::is_not_in("an answer", &bytes);
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Answer { request: described, status: parts.status.as_u16(), headers: parts.headers, body }
    }
}

impl Answer {
    /// The body, if the status is this one.
    #[track_caller]
    pub fn is(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.request, self.body);
        self.body
    }

    /// An error with this status and code; its message.
    #[track_caller]
    pub fn is_error(self, status: u16, code: &str) -> String {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{}: {}", self.request, self.body);
        self.body["message"].as_str().unwrap().to_owned()
    }

    /// The revision that the answer carries: its number.
    #[track_caller]
    pub fn revision(&self) -> u64 {
        let revision = self.headers["x-portcullis-revision"].to_str().unwrap();
        revision.rsplit('.').next().unwrap().parse().unwrap()
    }

    /// The texts at `pointer` of every object of a list.
    #[track_caller]
    pub fn listed(self, pointer: &str) -> Vec<String> {
        let body = self.is(200);
        let data = body["data"].as_array().unwrap();
        data.iter().map(|item| item.pointer(pointer).and_then(Value::as_str).unwrap().to_owned()).collect()
    }
}
