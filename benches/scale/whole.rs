//! A whole sidecar before a real store: from the commit of a change to the first answer that heeds it, under request load; and from the
//! start of the process to the first correct answer.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Scale;
use super::process::{Process, free, status};
use super::statistics;
use super::target::{Client, clients};

const CONNECTIONS: usize = 16;
const MEMBERS: usize = 40;

/// A store with a company, an upstream, and what a sidecar needs to know of both.
struct Scene {
    folder: TempDir,
    store: Option<Process>,
    store_address: SocketAddr,
    sidecar_address: SocketAddr,
    status_address: SocketAddr,
    upstream: SocketAddr,
    members: Vec<String>,
    project: String,
    /// Of the first member, who may see the project.
    token: String,
}

impl Scene {
    fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store_address, upstream) = (free(), upstream());
        let store = Process::store(folder.path(), store_address);
        let (members, project, token) = clients().block_on(async {
            let mut client = Client::connect(store_address).await;
            let id = |object: &Value| object["id"].as_str().unwrap().to_owned();
            let model = json!({
                "role_mode": "multiple",
                "default_role": "member",
                "resource_types": {"project": {"parents": ["organization"]}},
                "permissions": [{"slug": "project:view", "name": "View", "resource_type": "project"}],
                "roles": [
                    {"slug": "member", "name": "Member", "permissions": []},
                    {"slug": "viewer", "name": "Viewer", "resource_type": "project", "permissions": ["project:view"]},
                ],
            });
            client.send("PUT", "/portcullis/v1/model", &model).await;
            let organization = id(&client.send("POST", "/organizations", &json!({"name": "Bench"})).await);
            let project = json!({"organization_id": organization, "resource_type_slug": "project", "external_id": "p1", "name": "P"});
            let project = id(&client.send("POST", "/authorization/resources", &project).await);
            let mut members = Vec::new();
            for number in 0..MEMBERS {
                let user = json!({"email": format!("{number}@example.com")});
                let user = id(&client.send("POST", "/user_management/users", &user).await);
                let membership = json!({"user_id": user, "organization_id": organization});
                members.push(id(&client.send("POST", "/user_management/organization_memberships", &membership).await));
            }
            flip(&mut client, &members[0], &project, true).await;
            let asked = json!({"organization_membership_id": members[0]});
            let minted = client.send("POST", "/portcullis/v1/tokens", &asked).await;
            let keys = client.send("GET", "/sso/jwks/client_bench", &Value::Null).await;
            fs::write(folder.path().join("jwks.json"), keys.to_string()).unwrap();
            (members, project, minted["access_token"].as_str().unwrap().to_owned())
        });
        let (sidecar_address, status_address) = (free(), free());
        let store = Some(store);
        Self { folder, store, store_address, sidecar_address, status_address, upstream, members, project, token }
    }

    fn sidecar(&self, persist: Option<&Path>) -> Process {
        let mut facts =
            json!({"source": "store", "url": format!("http://{}", self.store_address), "key": "sync_bench"});
        if let Some(folder) = persist {
            facts["persist"] = json!(folder);
        }
        let configuration = json!({
            "version": 1,
            "listen": [{"address": self.sidecar_address}],
            "status": {"address": self.status_address},
            "upstreams": {"app": {"servers": [self.upstream]}},
            "tokens": [{
                "name": "bench",
                "issuer": format!("http://{}", self.store_address),
                "audience": "none",
                "required_claims": ["sid"],
                "jwks_file": self.folder.path().join("jwks.json"),
                "algorithms": ["RS256"],
            }],
            "facts": facts,
            "defaults": {"upstream": "app"},
            "routes": [{
                "id": "project",
                "match": {"methods": ["GET"], "path": "/projects/{project}"},
                "require": "project:view",
                "resource": {"type": "project", "id": "{path.project}"},
            }],
        });
        Process::start("proxy", self.folder.path(), &configuration)
    }

    fn asked(&self) -> Option<u16> {
        status(self.sidecar_address, "/projects/p1", Some(&self.token))
    }
}

/// From commit to enforced, while the sidecar has half as many requests as it can answer.
pub fn under_load(scale: Scale) {
    let scene = Arc::new(Scene::set());
    let sidecar = scene.sidecar(None);
    sidecar.ready(scene.status_address);
    let most = load(&scene, None, scale.span / 5, &AtomicBool::new(false));
    for rate in scale.rates {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let busy = thread::spawn({
            let (scene, stop, answered) = (Arc::clone(&scene), Arc::clone(&stop), Arc::clone(&answered));
            move || answered.store(load(&scene, Some(most / 2), Duration::from_secs(3600), &stop), Ordering::Relaxed)
        });
        let writing = thread::spawn({
            let (scene, stop) = (Arc::clone(&scene), Arc::clone(&stop));
            move || write(&scene, rate, &stop)
        });
        let times = probe(&scene, scale.span);
        stop.store(true, Ordering::Relaxed);
        let written = writing.join().unwrap();
        busy.join().unwrap();
        println!(
            "from commit to the first answer that heeds it, {rate} changes a second ({written:.0} reached) under {} requests a second \
             (of {most} at most): {} of them, {}",
            answered.load(Ordering::Relaxed),
            times.len(),
            statistics::spread(times),
        );
    }
}

/// Takes the role from the first member and gives it back; how long each took to be heeded.
fn probe(scene: &Scene, span: Duration) -> Vec<Duration> {
    clients().block_on(async {
        let mut store = Client::connect(scene.store_address).await;
        let mut sidecar = connect(scene.sidecar_address).await;
        let (begin, mut times, mut given) = (Instant::now(), Vec::new(), true);
        while begin.elapsed() < span || !given {
            given = !given;
            flip(&mut store, &scene.members[0], &scene.project, given).await;
            let committed = Instant::now();
            let expected = if given { 200 } else { 403 };
            while ask(&mut sidecar, &scene.token).await != expected {
                assert!(committed.elapsed() < Duration::from_secs(30), "it is never heeded");
            }
            times.push(committed.elapsed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        times
    })
}

/// Gives roles to other members and takes them away; how many a second.
fn write(scene: &Scene, rate: u32, stop: &AtomicBool) -> f64 {
    clients().block_on(async {
        let begin = Instant::now();
        let writers = (rate / 50).clamp(1, 16) as usize;
        let each = async |writer: usize| {
            let mut client = Client::connect(scene.store_address).await;
            let mut due = tokio::time::interval(Duration::from_secs_f64(writers as f64 / f64::from(rate)));
            let (mut given, mut count) = (false, 0u32);
            while !stop.load(Ordering::Relaxed) {
                due.tick().await;
                given = !given;
                flip(&mut client, &scene.members[1 + writer], &scene.project, given).await;
                count += 1;
            }
            if given {
                flip(&mut client, &scene.members[1 + writer], &scene.project, false).await;
            }
            count
        };
        let counts = futures_util::future::join_all((0..writers).map(each)).await;
        f64::from(counts.into_iter().sum::<u32>()) / begin.elapsed().as_secs_f64()
    })
}

/// Asks at this rate, or as fast as it goes; answers per second.
fn load(scene: &Scene, rate: Option<u64>, span: Duration, stop: &AtomicBool) -> u64 {
    clients().block_on(async {
        let begin = Instant::now();
        let each = async |_| {
            let mut connection = connect(scene.sidecar_address).await;
            let apart = rate.map(|rate| Duration::from_secs_f64(CONNECTIONS as f64 / rate as f64));
            let mut due = tokio::time::interval(apart.unwrap_or(Duration::from_nanos(1)));
            let mut count = 0u64;
            while begin.elapsed() < span && !stop.load(Ordering::Relaxed) {
                if apart.is_some() {
                    due.tick().await;
                }
                ask(&mut connection, &scene.token).await;
                count += 1;
            }
            count
        };
        let counts = futures_util::future::join_all((0..CONNECTIONS).map(each)).await;
        (counts.into_iter().sum::<u64>() as f64 / begin.elapsed().as_secs_f64()) as u64
    })
}

/// From the start of the process to the first correct answer.
pub fn cold_starts() {
    let mut scene = Scene::set();
    let persist = scene.folder.path().join("facts");
    let until = |scene: &Scene, process: &Process, begin: Instant| {
        while scene.asked() != Some(200) {
            assert!(begin.elapsed() < Duration::from_secs(30), "no answer of {}", process.id());
            thread::sleep(Duration::from_millis(1));
        }
        begin.elapsed()
    };
    let begin = Instant::now();
    let sidecar = scene.sidecar(Some(&persist));
    println!(
        "cold start, store up: {:.0} ms to the first correct answer",
        until(&scene, &sidecar, begin).as_secs_f64() * 1e3
    );
    // The facts are written at the end, with the organization that was asked about.
    sidecar.stop();
    scene.store = None;
    let begin = Instant::now();
    let sidecar = scene.sidecar(Some(&persist));
    println!("cold start, store down, facts on disk: {:.0} ms", until(&scene, &sidecar, begin).as_secs_f64() * 1e3);
    sidecar.stop();
    let sidecar = scene.sidecar(None);
    let (begin, mut answers) = (Instant::now(), std::collections::BTreeMap::new());
    while begin.elapsed() < Duration::from_secs(3) {
        *answers.entry(scene.asked()).or_insert(0) += 1;
        thread::sleep(Duration::from_millis(20));
    }
    assert!(!answers.contains_key(&Some(200)), "{answers:?}");
    println!("cold start, store down, nothing on disk: stays closed, answers in three seconds: {answers:?}");
    drop(sidecar);
}

async fn flip(client: &mut Client, membership: &str, project: &str, given: bool) {
    let path = format!("/authorization/organization_memberships/{membership}/role_assignments");
    let body = json!({"role_slug": "viewer", "resource_id": project});
    client.send(if given { "POST" } else { "DELETE" }, &path, &body).await;
}

async fn connect(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(connection: &mut SendRequest<Full<Bytes>>, token: &str) -> u16 {
    connection.ready().await.unwrap();
    let request = hyper::Request::get("/projects/p1").header("host", "app.example");
    let request = request.header("authorization", format!("Bearer {token}")).body(Full::default()).unwrap();
    let response = connection.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    response.into_body().collect().await.unwrap();
    status
}

/// Answers every request with a few bytes, for as long as this process lives.
fn upstream() -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        clients().block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let answer = hyper::service::service_fn(async |_| {
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(Full::<Bytes>::from("hello")))
                });
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
    });
    told.recv().unwrap()
}
