//! Tokens that are refused although they have not expired: those that name a session, membership, user or organization that is gone.

use std::collections::VecDeque;
use std::time::Duration;

use sqlx::{AnyConnection, Row};

use super::error::StoreError;
use super::rows;
use super::transaction::Transaction;
use crate::domain::UnixSeconds;
use crate::wire::{Revocation, RevocationKind};

/// For so long a revocation is kept: no token lives longer.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// What was revoked after transaction `after`, up to `upto`, in that order.
pub(super) async fn between(
    connection: &mut AnyConnection,
    after: u64,
    upto: u64,
) -> Result<VecDeque<(u64, Revocation)>, StoreError> {
    let bound = |seq: u64| i64::try_from(seq).unwrap_or(i64::MAX);
    let statement =
        "SELECT kind, id, not_before, expires, seq FROM revocations WHERE seq > $1 AND seq <= $2 ORDER BY seq";
    let statement = sqlx::query(statement).bind(bound(after)).bind(bound(upto));
    let found = rows::read_all(connection, statement, |row| {
        let kind: String = row.try_get("kind")?;
        let kind = RevocationKind::ALL.into_iter().find(|known| known.as_str() == kind);
        let kind = kind.ok_or_else(|| StoreError::Internal("a revocation of an unknown kind".into()))?;
        let id = row.try_get::<String, _>("id")?.into();
        let (not_before, expires) = (UnixSeconds(row.try_get("not_before")?), UnixSeconds(row.try_get("expires")?));
        let seq = u64::try_from(row.try_get::<i64, _>("seq")?).unwrap_or(0);
        Ok((seq, Revocation { kind, id, not_before, expires }))
    });
    Ok(found.await?.into())
}

/// Refuses tokens that name this and were issued until now.
pub(super) async fn revoke(
    tx: &mut Transaction<'_>,
    kind: RevocationKind,
    id: impl ToString,
) -> Result<(), StoreError> {
    let statement = "INSERT INTO revocations (kind, id, not_before, expires, seq) VALUES ($1, $2, $3, $4, $5) \
                     ON CONFLICT (kind, id) DO UPDATE SET not_before = excluded.not_before, \
                     expires = excluded.expires, seq = excluded.seq";
    let now = tx.now();
    let statement = sqlx::query(statement)
        .bind(kind.as_str())
        .bind(id.to_string())
        .bind(now.seconds())
        .bind(now.plus(KEPT).seconds())
        .bind(i64::try_from(tx.seq()).unwrap_or(i64::MAX));
    tx.execute(statement).await?;
    Ok(())
}
