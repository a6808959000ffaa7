//! A proxy between a sidecar and its server: notes every question, and does with the answer what the test says.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A question as it came by.
#[derive(Debug, Clone)]
pub struct Call {
    pub at: Instant,
    /// Path and query.
    pub path: String,
}

/// An answer on its way back.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub retry_after: Option<u64>,
    pub body: Value,
}

/// What becomes of an answer; `None` = the connection is closed instead.
type Fault = dyn Fn(&Call, Reply) -> Option<Reply> + Send + Sync;

#[derive(Default)]
struct Shared {
    calls: Mutex<Vec<Call>>,
    fault: Mutex<Option<Arc<Fault>>>,
    delay: Mutex<Duration>,
}

/// The proxy. Dropping it closes it.
pub struct Between {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _served: JoinSet<()>,
}

impl Between {
    /// Stands before `server`.
    pub async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let mut served = JoinSet::new();
        let state = Arc::clone(&shared);
        served.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (shared, client) = (Arc::clone(&state), client.clone());
                connections.spawn(async move {
                    let service = service_fn(|request| pass(server, &client, &shared, request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, shared, _served: served }
    }

    /// From now on answers become what `fault` makes of them.
    pub fn answers(&self, fault: impl Fn(&Call, Reply) -> Option<Reply> + Send + Sync + 'static) {
        *self.shared.fault.lock().unwrap() = Some(Arc::new(fault));
    }

    /// From now on nothing is changed.
    pub fn is_honest(&self) {
        *self.shared.fault.lock().unwrap() = None;
        self.is_late(Duration::ZERO);
    }

    /// From now on every answer comes so much later.
    pub fn is_late(&self, by: Duration) {
        *self.shared.delay.lock().unwrap() = by;
    }

    /// From now on nobody is there.
    pub fn is_gone(&self) {
        self.answers(|_, _| None);
    }

    /// What was asked since the last call.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.shared.calls.lock().unwrap())
    }

    /// How often a path with `part` was asked for since the last [`Self::take`].
    pub fn count(&self, part: &str) -> usize {
        self.shared.calls.lock().unwrap().iter().filter(|call| call.path.contains(part)).count()
    }
}

async fn pass(
    server: SocketAddr,
    client: &Client<HttpConnector, Full<Bytes>>,
    shared: &Shared,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().unwrap().to_string();
    let call = Call { at: Instant::now(), path };
    shared.calls.lock().unwrap().push(call.clone());
    let mut onward = Request::builder().method(head.method).uri(format!("http://{server}{}", call.path));
    for name in ["authorization", "content-type"] {
        if let Some(value) = head.headers.get(name) {
            onward = onward.header(name, value);
        }
    }
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let answer = client.request(onward.body(Full::from(body)).unwrap()).await.map_err(std::io::Error::other)?;
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
    let reply = Reply { status, retry_after: None, body: serde_json::from_slice(&bytes).unwrap_or_default() };
    let delay = *shared.delay.lock().unwrap();
    tokio::time::sleep(delay).await;
    let fault = shared.fault.lock().unwrap().clone();
    let reply = match fault {
        Some(fault) => fault(&call, reply).ok_or_else(|| std::io::Error::other("nobody is there"))?,
        None => reply,
    };
    let mut response = Response::builder().status(reply.status).header("content-type", "application/json");
    if let Some(seconds) = reply.retry_after {
        response = response.header("retry-after", seconds.to_string());
    }
    Ok(response.body(Full::from(reply.body.to_string())).unwrap())
}
