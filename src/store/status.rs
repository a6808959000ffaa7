//! `/live`, `/ready` and `/metrics`, open to everybody, and the hourly upkeep.

use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use super::error::StoreError;
use super::transaction::{Reply, Transaction, Write};
use super::{Store, access, idempotency, log};

/// Time between two rounds of upkeep.
const UPKEEP: Duration = Duration::from_secs(60 * 60);
/// For so long events and ended sessions are kept (WorkOS contract, section 6).
const KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Rows of a kind that one round deletes: other writes have their turn in between.
const AT_ONCE: u32 = 1_000;
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

/// One round of upkeep: deletes some of what is too old. It changes no facts, so it has no number in the log.
pub(super) struct Tidy {
    /// For so long the log is kept.
    pub(super) log_age: Duration,
    /// So many transactions of it at most.
    pub(super) log_length: u64,
}

#[async_trait]
impl Write for Tidy {
    /// Says how many rows it deleted.
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        const OLD: [&str; 3] = [
            "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE created_at < $1 LIMIT $2)",
            "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at < $1 LIMIT $2)",
            "DELETE FROM revocations WHERE (kind, id) IN (SELECT kind, id FROM revocations WHERE expires < $1 LIMIT $2)",
        ];
        let now = tx.now();
        let long_ago = now.minus(KEPT).0;
        let mut deleted = idempotency::forget(tx.connection, now, AT_ONCE).await?;
        for (statement, before) in OLD.into_iter().zip([long_ago, long_ago, now.seconds()]) {
            let statement = sqlx::query(statement).bind(before).bind(i64::from(AT_ONCE));
            deleted += statement.execute(&mut *tx.connection).await?.rows_affected();
        }
        deleted += log::forget(tx.connection, now.minus(self.log_age), self.log_length, u64::from(AT_ONCE)).await?;
        Reply::ok(&deleted)
    }
}
