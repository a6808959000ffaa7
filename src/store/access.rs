//! The access log and the meters: one line and one count for each request, whatever became of it. Neither a body nor a credential is in it.

use std::sync::{Arc, OnceLock};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::Store;
use super::door::REQUEST_ID;
use super::keys::Author;

/// What is learned of a request on its way in.
#[derive(Default)]
struct Visit {
    operation: OnceLock<&'static str>,
    key: OnceLock<Arc<str>>,
}

/// Notes which operation a request is for.
pub(super) fn operation(request: &Request, operation: &'static str) {
    if let Some(visit) = request.extensions().get::<Arc<Visit>>() {
        // An error means that it is known already.
        let _ = visit.operation.set(operation);
    }
}

/// Notes whose key a request has shown.
pub(super) fn author(request: &Request, author: &Author) {
    if let Some(visit) = request.extensions().get::<Arc<Visit>>() {
        // An error means that it is known already.
        let _ = visit.key.set(Arc::clone(&author.name));
    }
}

/// Writes the line and counts, when the answer is known.
pub(super) async fn watched(State(store): State<Store>, mut request: Request, next: Next) -> Response {
    let visit = Arc::new(Visit::default());
    request.extensions_mut().insert(Arc::clone(&visit));
    let method = request.method().clone();
    let began = store.0.clock.uptime();
    let response = next.run(request).await;
    let duration = store.0.clock.uptime().saturating_sub(began);
    let operation = visit.operation.get().copied().unwrap_or("none");
    let status = response.status().as_u16();
    store.0.settings.metrics.answered(operation, status, duration);
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    tracing::info!(
        operation,
        method = method.as_str(),
        status,
        duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
        key = visit.key.get().map(AsRef::as_ref).unwrap_or_default(),
        revision = header("x-portcullis-revision"),
        request_id = header(REQUEST_ID),
        "request",
    );
    response
}
