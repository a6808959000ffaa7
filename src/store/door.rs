//! The door of the store: every operation behind the key it needs, within limits, with a request id.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use serde_json::Value;
use tower::ServiceExt;

use super::api::Operation;
use super::error::StoreError;
use super::idempotency::Repeatable;
use super::keys::{Author, Scope};
use super::transaction::Ids;
use super::{Store, access, extract, feed, log, openapi, status};

pub(super) const REQUEST_ID: &str = "x-request-id";
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Bytes that an `Idempotency-Key` may have.
const LONGEST_KEY: usize = 255;

/// Every operation there is, noun by noun.
pub(super) fn operations() -> Vec<Operation> {
    let nouns = [
        super::permissions::operations(),
        super::roles::operations(),
        super::resources::operations(),
        super::organizations::operations(),
        super::users::operations(),
        super::groups::operations(),
        super::memberships::operations(),
        super::assignments::operations(),
        super::group_assignments::operations(),
        super::identity_provider::operations(),
        super::checks::operations(),
        super::audit::operations(),
        super::model::operations(),
        super::events::operations(),
        super::issuer::operations(),
        super::sessions::operations(),
    ];
    nouns.into_iter().flatten().collect()
}

/// The whole API.
pub(super) fn router(store: Store) -> Router {
    let operations = operations();
    let description: Bytes = openapi::describe(&operations).to_string().into();
    let mut paths: BTreeMap<&str, MethodRouter<Store>> = BTreeMap::new();
    for operation in operations {
        let Operation { path, scope, id, handler, .. } = operation;
        let gate = middleware::from_fn_with_state((store.clone(), scope, id), admit);
        let handler = handler.route_layer(gate);
        let merged = match paths.remove(path) {
            Some(others) => others.merge(handler),
            None => handler,
        };
        paths.insert(path, merged);
    }
    let described = get(async move || ([("content-type", "application/json")], description));
    let api = paths.into_iter().fold(Router::new(), |router, (path, handlers)| router.route(path, handlers));
    api.route("/openapi.json", described)
        .merge(status::pages())
        .merge(feed::pages(&store))
        .fallback(async || StoreError::NoEndpoint)
        .method_not_allowed_fallback(async || StoreError::NoMethod)
        .layer(middleware::from_fn_with_state(store.clone(), bounded))
        .layer(middleware::from_fn_with_state(store.clone(), access::watched))
        .with_state(store)
}

/// Marks a request that this process asks itself. What comes over a connection never has it.
#[derive(Debug, Clone, Copy)]
struct Inside;

/// Asks a question from inside, as a client would; the status and the JSON body of the answer.
pub(super) async fn ask(
    store: &Store,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<(StatusCode, Value), StoreError> {
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let request = Request::builder().method(method).uri(path).extension(Inside).body(body);
    let request = request.map_err(|error| StoreError::Internal(Box::new(error)))?;
    let Ok(response) = router(store.clone()).oneshot(request).await;
    let status = response.status();
    let bytes = to_bytes(response.into_body(), usize::MAX).await;
    let bytes = bytes.map_err(|error| StoreError::Internal(Box::new(error)))?;
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes)? };
    Ok((status, body))
}

/// Lets a request in if its key may do that; the handler learns whose key it was.
async fn admit(
    State((store, scope, operation)): State<(Store, Scope, &'static str)>,
    request: Request,
    next: Next,
) -> Result<Response, StoreError> {
    access::operation(&request, operation);
    let mut author = match request.extensions().get::<Inside>() {
        Some(Inside) => Author::store(),
        None => store.0.settings.api_keys.admit(request.headers(), scope)?,
    };
    access::author(&request, &author);
    let (mut request, repeatable) = repeatable(request).await?;
    author.repeatable = repeatable;
    request.extensions_mut().insert::<Author>(author);
    Ok(next.run(request).await)
}

/// What makes the request the same request, if the client says that it may come again.
async fn repeatable(request: Request) -> Result<(Request, Option<Repeatable>), StoreError> {
    let Some(key) = request.headers().get(IDEMPOTENCY_KEY).filter(|_| request.method() == Method::POST) else {
        return Ok((request, None));
    };
    let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= LONGEST_KEY).map(ToOwned::to_owned);
    let key = key.ok_or_else(|| {
        StoreError::invalid("Idempotency-Key", "invalid", "Idempotency-Key: expected 1 to 255 printable characters")
    })?;
    let (parts, body) = request.into_parts();
    let body = extract::read(body).await?;
    let mut context = Context::new(&SHA256);
    for part in [parts.method.as_str().as_bytes(), parts.uri.to_string().as_bytes(), &body] {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    let fingerprint = log::hexadecimal(context.finish().as_ref());
    Ok((Request::from_parts(parts, Body::from(body)), Some(Repeatable { key, fingerprint })))
}

/// Gives every request an id and an end.
async fn bounded(State(store): State<Store>, request: Request, next: Next) -> Response {
    let given = request.headers().get(REQUEST_ID).filter(|id| (1..=128).contains(&id.len())).cloned();
    let id = given.or_else(|| HeaderValue::from_str(&Ids::default().next("req_", store.now())).ok());
    let answered = tokio::time::timeout(store.0.settings.request_timeout, next.run(request)).await;
    let mut response = answered.unwrap_or_else(|_| StoreError::TimedOut.into_response());
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
