//! `/live`, `/ready` and `/metrics`, open to everybody, and the hourly upkeep.

use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use sqlx::AnyConnection;

use super::error::StoreError;
use super::time::Millis;
use super::{Store, access, log};

/// Time between two rounds of upkeep.
const UPKEEP: Duration = Duration::from_secs(60 * 60);
/// For so long events and ended sessions are kept (WorkOS contract, section 6).
const KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// The longest that readiness waits for the database.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pages.
pub(super) fn pages() -> Router<Store> {
    Router::new().route("/live", get(live)).route("/ready", get(ready)).route("/metrics", get(metrics))
}

async fn live(request: Request) -> Response {
    access::operation(&request, "live");
    axum::Json(json!({"live": true})).into_response()
}

/// Ready when the database answers.
async fn ready(State(store): State<Store>, request: Request) -> Response {
    access::operation(&request, "ready");
    match tokio::time::timeout(PATIENCE, head(&store)).await {
        Ok(Ok(_)) => axum::Json(json!({"ready": true})).into_response(),
        Ok(Err(_)) | Err(_) => {
            let body = axum::Json(json!({"ready": false, "reasons": ["the database does not answer"]}));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

async fn metrics(State(store): State<Store>, request: Request) -> Response {
    access::operation(&request, "metrics");
    let metrics = &store.0.settings.metrics;
    // Without an answer the end of the log stays where it was.
    if let Ok(Ok(seq)) = tokio::time::timeout(PATIENCE, head(&store)).await {
        metrics.show(seq, store.0.facts.resident());
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render()).into_response()
}

async fn head(store: &Store) -> Result<u64, StoreError> {
    let mut connection = store.read().await?;
    Ok(log::head(&mut connection).await?.map_or(0, |head| head.seq))
}

/// Tidies up now and every hour, until it is stopped.
pub(super) async fn keep_tidy(store: &Store) {
    loop {
        if let Err(error) = store.tidy().await {
            tracing::warn!(%error, "upkeep failed and is tried again in an hour");
        }
        tokio::time::sleep(UPKEEP).await;
    }
}

/// Deletes events and sessions that are too old, and revocations of tokens that have all ended.
pub(super) async fn forget(connection: &mut AnyConnection, now: Millis) -> Result<(), StoreError> {
    let long_ago = now.minus(KEPT);
    sqlx::query("DELETE FROM events WHERE created_at < $1").bind(long_ago.0).execute(&mut *connection).await?;
    sqlx::query("DELETE FROM sessions WHERE expires_at < $1").bind(long_ago.0).execute(&mut *connection).await?;
    sqlx::query("DELETE FROM revocations WHERE expires < $1").bind(now.seconds()).execute(&mut *connection).await?;
    Ok(())
}
