//! A store that says whatever a test wants: what a real one never says. As much of it as does not matter is as a real one would.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{Stream, StreamExt};
use portcullis::wire::feed::{Down, FOLLOW, JsonCodec, Up};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::server::Grpc;
use tonic::{Status, Streaming};

/// What its catalog, its log and its organization `org_1` are, and what was asked of it.
pub struct Scene {
    /// The number of the history.
    pub epoch: u64,
    /// The end of the log: catalogs and streams begin there.
    pub seq: u64,
    /// What it adds to `seq` in echoes; `None` = it echoes nothing.
    pub echo_beyond: Option<u64>,
    /// What it adds to nonces.
    pub nonce_beyond: u64,
    /// From when on a subscription holds; `None` = from the end of the log.
    pub subscribed_at: Option<u64>,
    /// What the next look-ups of the organization answer, as of which number of which history, and whether its member may `a:b`; the last
    /// one again and again.
    pub organizations: Vec<(u64, u64, bool)>,
    /// How often the catalog was read, the organization, and a stream begun.
    pub catalogs: usize,
    pub reads: usize,
    pub streams: usize,
    /// How often the organizations are not listed when that is asked for, and how often it was.
    pub unlisted: usize,
    pub lists: usize,
    /// With which status and nothing else the organization is refused; `None` = it is not.
    pub refusal: Option<StatusCode>,
    /// How often it was told of organizations that are not followed any more.
    pub left: usize,
    /// How many nonces came.
    pub nonces: usize,
    down: Option<mpsc::UnboundedSender<Down>>,
}

/// It, listening.
#[derive(Clone)]
pub struct Script {
    pub address: SocketAddr,
    scene: Arc<Mutex<Scene>>,
    _tasks: Arc<JoinSet<()>>,
}

type Stage = Arc<Mutex<Scene>>;

impl Script {
    /// A store at transaction 5 of history 1, whose member may `a:b`.
    pub async fn start() -> Self {
        let scene = Scene {
            epoch: 1,
            seq: 5,
            echo_beyond: Some(0),
            nonce_beyond: 0,
            subscribed_at: None,
            organizations: vec![(1, 5, true)],
            catalogs: 0,
            reads: 0,
            streams: 0,
            unlisted: 0,
            lists: 0,
            refusal: None,
            left: 0,
            nonces: 0,
            down: None,
        };
        let scene = Arc::new(Mutex::new(scene));
        let router = Router::new()
            .route("/sync/v1/catalog", get(catalog))
            .route("/sync/v1/revocations", get(revocations))
            .route("/sync/v1/organizations", get(organizations))
            .route("/sync/v1/organizations/{id}", get(organization))
            .route(FOLLOW, post(follow))
            .with_state(Arc::clone(&scene));
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async { axum::serve(listener, router).await.unwrap() });
        Self { address, scene, _tasks: Arc::new(tasks) }
    }

    pub fn scene(&self) -> MutexGuard<'_, Scene> {
        self.scene.lock().unwrap()
    }

    /// How often the catalog was read, the organization, and a stream begun.
    pub fn counts(&self) -> (usize, usize, usize) {
        let scene = self.scene();
        (scene.catalogs, scene.reads, scene.streams)
    }

    /// Says this on the newest stream.
    pub fn say(&self, down: &Value) {
        let down = serde_json::from_str(&down.to_string()).unwrap();
        let stream = self.scene().down.clone().unwrap();
        let _ = stream.send(down);
    }

    /// Says that these transactions happened.
    pub fn frame(&self, epoch: u64, from: u64, to: u64, transactions: &[(u64, Value)]) {
        let transactions: Vec<_> =
            transactions.iter().map(|(seq, part)| json!({"seq": seq, "parts": [part]})).collect();
        let epoch = format!("{epoch:016x}");
        self.say(&json!({"frame": {"epoch": epoch, "from": from, "to": to, "head": to, "chain": "c", "transactions": transactions}}));
    }
}

/// A change of the organization.
pub fn changed(change: &Value) -> Value {
    json!({"organization": {"id": "org_1", "delta": {"changes": [change]}}})
}

/// Its member may `a:b` from now on, or no more.
pub fn let_in() -> Value {
    changed(&json!({"put": {"assignment": {"membership": "om_1", "role": "role_r"}}}))
}

pub fn shut_out() -> Value {
    changed(&json!({"delete": {"assignment": {"membership": "om_1", "role": "role_r"}}}))
}

async fn catalog(State(stage): State<Stage>) -> Json<Value> {
    let mut scene = stage.lock().unwrap();
    scene.catalogs += 1;
    Json(json!({
        "epoch": format!("{:016x}", scene.epoch), "seq": scene.seq, "chain": "c",
        "permissions": [{"slug": "a:b", "resource_type": "organization"}],
        "resource_types": [],
        "roles": [{"id": "role_r", "slug": "r", "resource_type": "organization", "priority": 0, "permissions": ["a:b"]}],
        "settings": null,
    }))
}

async fn organizations(State(stage): State<Stage>) -> Result<Json<Value>, StatusCode> {
    let mut scene = stage.lock().unwrap();
    scene.lists += 1;
    if scene.lists <= scene.unlisted {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    Ok(Json(json!({"ids": ["org_1"], "after": null})))
}

async fn revocations(State(stage): State<Stage>) -> Json<Value> {
    let scene = stage.lock().unwrap();
    Json(json!({"epoch": format!("{:016x}", scene.epoch), "seq": scene.seq, "revocations": []}))
}

async fn organization(State(stage): State<Stage>, Path(id): Path<String>) -> Result<Json<Value>, StatusCode> {
    let mut scene = stage.lock().unwrap();
    scene.reads += 1;
    if let Some(refusal) = scene.refusal {
        return Err(refusal);
    }
    let (epoch, seq, may) =
        if scene.organizations.len() > 1 { scene.organizations.remove(0) } else { scene.organizations[0] };
    let assignments = if may { json!([{"membership": "om_1", "role": "role_r"}]) } else { json!([]) };
    let facts = json!({
        "members": [{"id": "om_1", "user": "user_1", "status": "active"}],
        "resources": [{"id": "root_1", "resource_type": "organization", "external_id": "org_1"}],
        "assignments": assignments,
    });
    Ok(Json(json!({"id": id, "epoch": format!("{epoch:016x}"), "seq": seq, "facts": facts, "digest": null})))
}

async fn follow(State(stage): State<Stage>, request: Request) -> Response {
    let mut grpc = Grpc::new(JsonCodec::<Down, Up>::default());
    grpc.streaming(Endpoint(stage), request).await.map(Body::new)
}

struct Endpoint(Stage);

type Downs = Pin<Box<dyn Stream<Item = Result<Down, Status>> + Send>>;

impl tower::Service<tonic::Request<Streaming<Up>>> for Endpoint {
    type Response = tonic::Response<Downs>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<Streaming<Up>>) -> Self::Future {
        let stage = Arc::clone(&self.0);
        Box::pin(async move {
            let (send, said) = mpsc::unbounded_channel();
            stage.lock().unwrap().down = Some(send.clone());
            let mut ups = request.into_inner();
            tokio::spawn(async move {
                while let Some(Ok(up)) = ups.next().await {
                    if let Some(answer) = answer(&mut stage.lock().unwrap(), &up) {
                        let _ = send.send(answer);
                    }
                }
            });
            Ok(tonic::Response::new(UnboundedReceiverStream::new(said).map(Ok).boxed()))
        })
    }
}

fn answer(scene: &mut Scene, up: &Up) -> Option<Down> {
    match up {
        Up::Resume { .. } => {
            scene.streams += 1;
            Some(Down::Resumed { head: scene.seq, only: None })
        }
        Up::Subscribe { number, remove, .. } => {
            scene.left += usize::from(!remove.is_empty());
            Some(Down::Subscribed { number: *number, at: scene.subscribed_at.unwrap_or(scene.seq) })
        }
        Up::Nonce(nonce) => {
            scene.nonces += 1;
            let head = scene.seq + scene.echo_beyond?;
            Some(Down::Echo { nonce: nonce + scene.nonce_beyond, head })
        }
    }
}
