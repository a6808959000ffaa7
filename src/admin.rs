//! Door 4: what operators ask a running sidecar. Two listeners:
//!
//! - status: `GET /live`, `GET /ready`, `GET /metrics`; harmless, for probes and Prometheus;
//! - admin: `GET /world`, `GET /routes`, `POST /explain`, `POST /who`, `POST /reload`; on loopback or a Unix socket, or behind a token.
//!   A web page that a person on this machine visits must not reach it: the `Host` is checked, and bodies have to be JSON.

use std::fmt;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::gate::explain::ExplainRequest;
use crate::gate::{Gate, WhoRequest};
use crate::live::World;
use crate::socket::Address;
use crate::socket::pages::Pages;
use crate::telemetry::Metrics;
use crate::yaml::Secret;

/// Bytes that a question may have.
const BODY_LIMIT: usize = 256 * 1024;
/// Connections open at once on each listener: whoever floods one takes so many descriptors from the proxy, and no more.
const MOST_CONNECTIONS: usize = 64;

/// Where the admin listener is, and who may use it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens.
    pub address: Address,
    /// What callers must show; `None` = nothing.
    pub token: Option<Secret>,
}

/// What the listeners show and do.
pub struct Admin {
    /// Decides, and explains.
    pub gate: Arc<Gate>,
    /// The facts in force; `None` with `facts.source: none`.
    pub world: Arc<World>,
    /// All series.
    pub metrics: Arc<Metrics>,
    /// Whether facts are configured at all.
    pub needs_facts: bool,
    /// Reads the configuration again, and names the keys that take a restart; the text says what is wrong with it.
    pub reload: Box<dyn Fn() -> Result<Vec<&'static str>, String> + Send + Sync>,
    /// What there is to say of the configuration: that the one in the file was refused, or that some of it takes a restart.
    pub configuration: Box<dyn Fn() -> Option<Value> + Send + Sync>,
    /// What callers of the admin listener must show.
    pub token: Option<Secret>,
    /// Whether this sidecar is about to end.
    pub stopping: watch::Receiver<bool>,
}

impl Admin {
    /// The pages for probes and Prometheus.
    pub fn status_pages(self: &Arc<Self>) -> Pages {
        Pages { router: self.status(), tls: None, connections: MOST_CONNECTIONS }
    }

    /// The rest; and the status pages too when `with_status`.
    pub fn admin_pages(self: &Arc<Self>, with_status: bool) -> Pages {
        Pages { router: self.admin(with_status), tls: None, connections: MOST_CONNECTIONS }
    }

    fn status(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/live", get(async || "alive\n"))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .with_state(Arc::clone(self))
    }

    fn admin(self: &Arc<Self>, with_status: bool) -> Router {
        let admin = Router::new()
            .route("/world", get(world))
            .route("/routes", get(routes))
            .route("/explain", post(explain))
            .route("/who", post(who))
            .route("/reload", post(reload))
            .layer(DefaultBodyLimit::max(BODY_LIMIT))
            .layer(middleware::from_fn_with_state(Arc::clone(self), guard))
            .with_state(Arc::clone(self));
        if with_status { admin.merge(self.status()) } else { admin }
    }

    /// Why this sidecar is not ready; empty when it is.
    pub fn missing(&self) -> Vec<Value> {
        let mut missing = Vec::new();
        if *self.stopping.borrow() {
            missing.push(json!({"stopping": true}));
        }
        for status in self.gate.keys().status() {
            if status.keys == 0 {
                missing.push(json!({"waiting_for": "keys", "issuer": status.issuer, "error": status.error}));
            }
        }
        if self.needs_facts && !self.world.has_facts() {
            missing.push(json!({"waiting_for": "facts"}));
        }
        missing
    }
}

/// Refuses what comes from elsewhere: another host name (DNS rebinding), a form or an image of a web page, no token.
async fn guard(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if admin.token.is_none() && !is_local_name(host) {
        return problem(StatusCode::FORBIDDEN, "wrong_host", "the admin listener answers to its own address only");
    }
    if let Some(token) = &admin.token {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if !shown.and_then(|value| value.strip_prefix("Bearer ")).is_some_and(|shown| token.is(shown)) {
            return problem(StatusCode::UNAUTHORIZED, "unauthorized", "show the admin token as a bearer token");
        }
    }
    let is_json =
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if request.method() == axum::http::Method::POST && !is_json {
        let detail = "send `content-type: application/json`";
        return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_body", detail);
    }
    next.run(request).await
}

/// Whether a `Host` names this machine: a page on the internet cannot make a browser send one of these.
fn is_local_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    let missing = admin.missing();
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut answer = json!({"ready": missing.is_empty(), "reasons": missing});
    if let (Some(said), Some(answer)) = ((admin.configuration)(), answer.as_object_mut()) {
        answer.insert("configuration".to_owned(), said);
    }
    (status, Json(answer)).into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.metrics.render()).into_response()
}

async fn world(State(admin): State<Arc<Admin>>) -> Response {
    Json(admin.gate.world_summary()).into_response()
}

async fn routes(State(admin): State<Arc<Admin>>) -> Response {
    Json(admin.gate.routes()).into_response()
}

async fn explain(State(admin): State<Arc<Admin>>, Json(request): Json<ExplainRequest>) -> Response {
    answer(admin.gate.explain(&request).await)
}

async fn who(State(admin): State<Arc<Admin>>, Json(request): Json<WhoRequest>) -> Response {
    // It walks every organization in memory, and probes are answered by the same thread.
    match tokio::task::spawn_blocking(move || admin.gate.who(&request)).await {
        Ok(found) => answer(found),
        Err(_) => broken(),
    }
}

async fn reload(State(admin): State<Arc<Admin>>) -> Response {
    match tokio::task::spawn_blocking(move || (admin.reload)()).await {
        Ok(Ok(needs_restart)) => Json(json!({"reloaded": true, "needs_restart": needs_restart})).into_response(),
        Ok(Err(problems)) => problem(StatusCode::UNPROCESSABLE_ENTITY, "bad_configuration", &problems),
        Err(_) => broken(),
    }
}

/// A panic, which is counted and logged elsewhere.
fn broken() -> Response {
    problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the question could not be answered")
}

fn answer<T: Serialize, E: fmt::Display>(result: Result<T, E>) -> Response {
    match result {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => problem(StatusCode::BAD_REQUEST, "bad_question", &error.to_string()),
    }
}

fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    let body = json!({"status": status.as_u16(), "code": code, "detail": detail});
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for local in ["127.0.0.1:9900", "localhost", "LOCALHOST:1", "[::1]:9900", ""] {
            assert!(is_local_name(local), "{local}");
        }
        for foreign in ["attacker.example", "127.0.0.1.attacker.example:9900", "10.0.0.1", "localhost.attacker.example"]
        {
            assert!(!is_local_name(foreign), "{foreign}");
        }
    }
}
