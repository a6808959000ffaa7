//! A store on a thread of its own, and clients that keep their connections.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use portcullis::app::SystemClock;
use portcullis::store::{ApiKey, ApiKeys, Scope, Server, Settings, Store, SyncKey, SyncKeys, sha256};
use portcullis::telemetry::{Build, StoreMetrics};
use serde_json::Value;
use tokio::sync::watch;

const KEY: &str = "sk_bench";
/// The key of sidecars.
pub const SYNC_KEY: &str = "sync_bench";

/// A running store.
pub struct Target {
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// One connection to it.
pub struct Client(SendRequest<Full<Bytes>>, SocketAddr);

impl Target {
    /// Starts a store with `threads` threads on `database`.
    pub fn start(database: &str, threads: usize) -> Self {
        let metrics = StoreMetrics::new(Build { version: "bench", revision: "" }).unwrap();
        let mut settings = Settings::of(database, Arc::new(metrics));
        settings.max_memory = 1 << 30;
        settings.api_keys = ApiKeys::new(vec![ApiKey::new("bench", KEY, vec![Scope::Read, Scope::Write])]);
        settings.sync_keys = SyncKeys::new(vec![SyncKey::hashed("bench", sha256(SYNC_KEY), None)]);
        settings.request_timeout = Duration::from_secs(120);
        let (stop, stopped) = watch::channel(false);
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
            runtime.unwrap().block_on(async {
                let store = Store::open(settings, Arc::new(SystemClock)).await.unwrap();
                let server = Server::bind(store, (Ipv4Addr::LOCALHOST, 0).into(), None).unwrap();
                tell.send(server.address().unwrap()).unwrap();
                server.serve(stopped).await.unwrap();
            });
        });
        Self { address: told.recv().unwrap(), stop, thread: Some(thread) }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender, address)
    }

    /// Sends a request and reads the whole answer, which must be a success.
    pub async fn send(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let (status, _, bytes) = self.exchange(method, path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {}", String::from_utf8_lossy(&bytes));
        if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() }
    }

    /// Writes; the number of the write.
    pub async fn write(&mut self, method: &str, path: &str, body: &Value) -> Option<u64> {
        let (status, revision, bytes) = self.exchange(method, path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {}", String::from_utf8_lossy(&bytes));
        revision
    }

    async fn exchange(&mut self, method: &str, path: &str, body: &Value) -> (hyper::StatusCode, Option<u64>, Bytes) {
        self.0.ready().await.unwrap();
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.1.to_string())
            .header("authorization", format!("Bearer {KEY}"))
            .header("content-type", "application/json")
            .body(Full::from(body))
            .unwrap();
        let response = self.0.send_request(request).await.unwrap();
        let status = response.status();
        let revision = response.headers().get("x-portcullis-revision").and_then(|revision| revision.to_str().ok());
        let revision = revision.and_then(|revision| revision.rsplit('.').next()?.parse().ok());
        (status, revision, response.into_body().collect().await.unwrap().to_bytes())
    }
}

/// A runtime for clients, on one thread.
pub fn clients() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
