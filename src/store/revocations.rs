//! Tokens that are refused although they have not expired: those that name a session, membership, user or organization that is gone.

use std::time::Duration;

use super::error::StoreError;
use super::transaction::Transaction;

/// For so long a revocation is kept: no token lives longer.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// What tokens name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Revoked {
    /// A login session that was ended.
    Session,
    /// A membership that was deleted or switched off.
    Membership,
    /// A user who was deleted.
    User,
    /// An organization that was deleted.
    Organization,
}

impl Revoked {
    fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Membership => "membership",
            Self::User => "user",
            Self::Organization => "organization",
        }
    }
}

/// Refuses tokens that name this and were issued until now.
pub(super) async fn revoke(tx: &mut Transaction<'_>, kind: Revoked, id: impl ToString) -> Result<(), StoreError> {
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
