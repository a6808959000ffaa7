//! What stands around the demo's sidecar: an upstream that echoes what it received, and the store.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header;
use axum::response::IntoResponse;
use axum::{Json, Router};
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::task::JoinSet;

use crate::app::store::StoreApp;
use crate::app::{self, SystemClock};
use crate::config::store::StoreFile;

/// Where the upstream listens when there is room.
const UPSTREAM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3000);

/// Bytes of a body that the upstream echoes.
const ECHO_LIMIT: usize = 64 * 1024;

/// The upstream and the store; they end with this value.
pub(super) struct Surroundings {
    pub(super) upstream: SocketAddr,
    pub(super) store: SocketAddr,
    _servers: JoinSet<std::io::Result<()>>,
}

impl Surroundings {
    pub(super) async fn start(store: StoreFile, anywhere: bool) -> anyhow::Result<Self> {
        let metrics = Arc::new(app::store::metrics()?);
        let store = StoreApp::build(store, Arc::new(SystemClock), metrics).await?;
        let store_address = store.address();
        let echo = Router::new().fallback(echo);
        let (upstream, upstream_address) = listen(UPSTREAM, anywhere).await?;
        let mut servers = JoinSet::new();
        servers.spawn(async move { axum::serve(upstream, echo).await });
        servers.spawn(store.run());
        Ok(Self { upstream: upstream_address, store: store_address, _servers: servers })
    }
}

async fn listen(address: SocketAddr, anywhere: bool) -> std::io::Result<(tokio::net::TcpListener, SocketAddr)> {
    let any = SocketAddr::new(address.ip(), 0);
    let listener = match tokio::net::TcpListener::bind(if anywhere { any } else { address }).await {
        Ok(listener) => listener,
        Err(_) => tokio::net::TcpListener::bind(any).await?,
    };
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Says what arrived, as an application behind the sidecar would see it.
async fn echo(request: Request) -> impl IntoResponse {
    let (parts, body) = request.into_parts();
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in &parts.headers {
        // The demo's own tokens would fill the screen.
        let value =
            if name == header::AUTHORIZATION { "Bearer …".into() } else { String::from_utf8_lossy(value.as_bytes()) };
        headers.entry(name.to_string()).or_default().push(value.into_owned());
    }
    let body = axum::body::to_bytes(body, ECHO_LIMIT).await.unwrap_or_default();
    Json(json!({
        "method": parts.method.as_str(),
        "target": parts.uri.to_string(),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    }))
}

/// Waits until the sidecar's `/ready` says yes.
pub(super) async fn ready(status: SocketAddr) -> anyhow::Result<()> {
    let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let url: http::Uri = format!("http://{status}/ready").parse()?;
    let asked = async {
        loop {
            if client.get(url.clone()).await.is_ok_and(|response| response.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    Ok(tokio::time::timeout(Duration::from_secs(20), asked).await?)
}
