//! `Idempotency-Key`: the same request again has the same answer and no second effect (our decision D14).

use std::time::Duration;

use axum::http::StatusCode;
use sqlx::{AnyConnection, Row};

use super::error::StoreError;
use super::time::Millis;
use super::transaction::Reply;
use super::writer::Committed;
use crate::domain::Revision;
use crate::domain::id::Epoch;

/// For so long an answer is remembered.
pub(super) const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// A request that may come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repeatable {
    /// The client's key for it.
    pub(super) key: String,
    /// A hash of method, target and body.
    pub(super) fingerprint: String,
}

/// The answer that this request had before.
///
/// # Errors
/// Another request had this key.
pub(super) async fn recall(
    connection: &mut AnyConnection,
    author: &str,
    request: &Repeatable,
    epoch: Epoch,
    now: Millis,
) -> Result<Option<Committed>, StoreError> {
    let statement = "SELECT fingerprint, status, body, seq FROM idempotency \
                     WHERE key_name = $1 AND key = $2 AND created_at > $3";
    let found = sqlx::query(statement)
        .bind(author.to_owned())
        .bind(request.key.clone())
        .bind(now.minus(REMEMBERED).0)
        .fetch_optional(connection)
        .await?;
    let Some(row) = found else { return Ok(None) };
    if row.try_get::<String, _>("fingerprint")? != request.fingerprint {
        let message = "another request was sent with this Idempotency-Key";
        return Err(StoreError::invalid("Idempotency-Key", "idempotency_key_reused", message));
    }
    let body: Option<String> = row.try_get("body")?;
    let status = u16::try_from(row.try_get::<i64, _>("status")?).ok();
    let reply = Reply {
        status: status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK),
        body: body.map(|body| serde_json::from_str(&body)).transpose()?,
    };
    let seq = u64::try_from(row.try_get::<i64, _>("seq")?).unwrap_or(0);
    Ok(Some(Committed { reply, revision: Revision { epoch, seq } }))
}

/// Remembers the answer, in the transaction of the write.
pub(super) async fn remember(
    connection: &mut AnyConnection,
    author: &str,
    request: &Repeatable,
    committed: &Committed,
    now: Millis,
) -> Result<(), StoreError> {
    let statement = "INSERT INTO idempotency (key_name, key, fingerprint, status, body, seq, created_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (key_name, key) DO UPDATE SET \
                     fingerprint = excluded.fingerprint, status = excluded.status, body = excluded.body, \
                     seq = excluded.seq, created_at = excluded.created_at";
    sqlx::query(statement)
        .bind(author.to_owned())
        .bind(request.key.clone())
        .bind(request.fingerprint.clone())
        .bind(i64::from(committed.reply.status.as_u16()))
        .bind(committed.reply.body.as_ref().map(ToString::to_string))
        .bind(i64::try_from(committed.revision.seq).unwrap_or(i64::MAX))
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Forgets what is too old to matter, up to `at_once` of it. How much it forgot.
pub(super) async fn forget(connection: &mut AnyConnection, now: Millis, at_once: u32) -> Result<u64, StoreError> {
    let statement = "DELETE FROM idempotency WHERE (key_name, key) IN \
                     (SELECT key_name, key FROM idempotency WHERE created_at <= $1 LIMIT $2)";
    let statement = sqlx::query(statement).bind(now.minus(REMEMBERED).0).bind(i64::from(at_once));
    Ok(statement.execute(connection).await?.rows_affected())
}
