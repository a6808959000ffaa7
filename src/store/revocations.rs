//! Tokens that are refused although they have not expired: those that name a session, membership, user or organization that is gone.

use std::collections::VecDeque;
use std::time::Duration;

use sqlx::{AnyConnection, Row};

use super::error::StoreError;
use super::rows;
use super::transaction::Transaction;
use crate::wire::feed::{Revocation, RevokedKind};

/// For so long a revocation is kept: no token lives longer.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

fn as_str(kind: RevokedKind) -> &'static str {
    match kind {
        RevokedKind::Session => "session",
        RevokedKind::Membership => "membership",
        RevokedKind::User => "user",
        RevokedKind::Organization => "organization",
    }
}

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
        let kind = match row.try_get::<String, _>("kind")?.as_str() {
            "session" => RevokedKind::Session,
            "membership" => RevokedKind::Membership,
            "user" => RevokedKind::User,
            _ => RevokedKind::Organization,
        };
        let (id, not_before, expires) = (row.try_get("id")?, row.try_get("not_before")?, row.try_get("expires")?);
        let seq = u64::try_from(row.try_get::<i64, _>("seq")?).unwrap_or(0);
        Ok((seq, Revocation { kind, id, not_before, expires }))
    });
    Ok(found.await?.into())
}

/// Refuses tokens that name this and were issued until now.
pub(super) async fn revoke(tx: &mut Transaction<'_>, kind: RevokedKind, id: impl ToString) -> Result<(), StoreError> {
    let statement = "INSERT INTO revocations (kind, id, not_before, expires, seq) VALUES ($1, $2, $3, $4, $5) \
                     ON CONFLICT (kind, id) DO UPDATE SET not_before = excluded.not_before, \
                     expires = excluded.expires, seq = excluded.seq";
    let now = tx.now();
    let statement = sqlx::query(statement)
        .bind(as_str(kind))
        .bind(id.to_string())
        .bind(now.seconds())
        .bind(now.plus(KEPT).seconds())
        .bind(i64::try_from(tx.seq()).unwrap_or(i64::MAX));
    tx.execute(statement).await?;
    Ok(())
}
