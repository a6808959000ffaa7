//! F11: requests to the store. The first line is a method and a target, the rest the body.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use portcullis::app::SystemClock;
use portcullis::store::{ApiKey, ApiKeys, Scope, Server, Settings, Store};
use portcullis::telemetry::{Build, StoreMetrics};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::support::client::Connection;

/// Whatever is asked: no answer is a fault of the store, and every refusal is JSON that says why.
pub fn f11_store(bytes: &[u8]) {
    thread_local! {
        static CONNECTION: RefCell<Option<Connection>> = const { RefCell::new(None) };
    }
    static STORE: OnceLock<SocketAddr> = OnceLock::new();
    let address = *STORE.get_or_init(start);
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let (line, body) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    let line: String = line.iter().filter(|byte| (0x20..0x7f).contains(*byte)).map(|&byte| char::from(byte)).collect();
    let (method, target) = line.split_once(' ').unwrap_or(("GET", &line));
    let (method, target) = (method.trim(), target.replace(' ', "%20"));
    // HTTP itself is not what is tried here.
    if !["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method) || !target.starts_with('/') || target.contains('#')
    {
        return;
    }
    let mut request = format!(
        "{method} {target} HTTP/1.1\r\nhost: store.test\r\nauthorization: Bearer sk_fuzz\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    let mut connection = CONNECTION.take().unwrap_or_else(|| Connection::open(address));
    connection.send(&request);
    let Some(answer) = connection.answer() else { panic!("no answer to {method} {target}") };
    if answer.field("connection") != Some("close") {
        CONNECTION.set(Some(connection));
    }
    let said = String::from_utf8_lossy(&answer.body);
    assert!(answer.status < 500, "{method} {target}: {}: {said}", answer.status);
    if answer.status >= 400 && !answer.body.is_empty() {
        assert!(answer.json()["message"].is_string(), "{method} {target}: {}: {said}", answer.status);
    }
}

/// A store with a little in it, for as long as the process lives.
fn start() -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let metrics = Arc::new(StoreMetrics::new(Build { version: "test", revision: "" }).unwrap());
            let mut settings = Settings::of(&format!("sqlite://{}", folder.path().join("store.db").display()), metrics);
            settings.api_keys =
                ApiKeys::new(vec![ApiKey::new("fuzz", "sk_fuzz", vec![Scope::Read, Scope::Write, Scope::Mint])]);
            let store = Store::open(settings, Arc::new(SystemClock)).await.unwrap();
            let put = async |path: &str, body: Value| {
                let (status, answer) = store.ask(http::Method::POST, path, Some(&body)).await.unwrap();
                assert!(status.is_success(), "{path}: {answer}");
            };
            put("/authorization/permissions", json!({"slug": "project:edit", "name": "Edit"})).await;
            put("/authorization/roles", json!({"slug": "editor", "name": "Editor"})).await;
            put("/organizations", json!({"name": "Acme"})).await;
            let server = Server::bind(store, (Ipv4Addr::LOCALHOST, 0).into(), None).unwrap();
            tell.send(server.address().unwrap()).unwrap();
            let (_never, stopped) = watch::channel(false);
            server.serve(stopped).await.unwrap();
        });
    });
    told.recv().unwrap()
}
