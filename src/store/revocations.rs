//! Tokens that are refused although they have not expired: those that name a session, membership, user or organization that is gone.

use std::collections::VecDeque;

use sqlx::{AnyConnection, Row};

use super::error::StoreError;
use super::rows;
use super::transaction::Transaction;
use crate::domain::{MembershipId, OrganizationId, SessionId, UnixSeconds, UserId};
use crate::wire::{Holder, Revocation, RevocationKind};

/// What is revoked.
pub(super) enum Revoked<'a> {
    Session(&'a SessionId),
    /// A membership, and whose it is: tokens need not name it.
    Membership(&'a MembershipId, &'a UserId, &'a OrganizationId),
    User(&'a UserId),
    Organization(&'a OrganizationId),
}

/// What was revoked after transaction `after`, up to `upto`, in that order.
pub(super) async fn between(
    connection: &mut AnyConnection,
    after: u64,
    upto: u64,
) -> Result<VecDeque<(u64, Revocation)>, StoreError> {
    let bound = |seq: u64| i64::try_from(seq).unwrap_or(i64::MAX);
    let statement = "SELECT kind, id, not_before, expires, seq, user_id, organization_id FROM revocations \
                     WHERE seq > $1 AND seq <= $2 ORDER BY seq";
    let statement = sqlx::query(statement).bind(bound(after)).bind(bound(upto));
    let found = rows::read_all(connection, statement, |row| {
        let kind: String = row.try_get("kind")?;
        let kind = RevocationKind::ALL.into_iter().find(|known| known.as_str() == kind);
        let kind = kind.ok_or_else(|| StoreError::Internal("a revocation of an unknown kind".into()))?;
        let id = row.try_get::<String, _>("id")?.into();
        let (not_before, expires) = (UnixSeconds(row.try_get("not_before")?), UnixSeconds(row.try_get("expires")?));
        let holder: (Option<String>, Option<String>) = (row.try_get("user_id")?, row.try_get("organization_id")?);
        let holder = holder.0.zip(holder.1);
        let holder = holder.map(|(user, organization)| Holder { user: user.into(), organization: organization.into() });
        let seq = u64::try_from(row.try_get::<i64, _>("seq")?).unwrap_or(0);
        Ok((seq, Revocation { kind, id, not_before, expires, holder }))
    });
    Ok(found.await?.into())
}

/// Refuses tokens that name this and were issued until now.
pub(super) async fn revoke(tx: &mut Transaction<'_>, revoked: Revoked<'_>) -> Result<(), StoreError> {
    // By a clock that is behind, what was refused once stays refused.
    let statement = "INSERT INTO revocations (kind, id, not_before, expires, seq, user_id, organization_id) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (kind, id) DO UPDATE SET \
                     not_before = CASE WHEN excluded.not_before > revocations.not_before \
                     THEN excluded.not_before ELSE revocations.not_before END, \
                     expires = CASE WHEN excluded.expires > revocations.expires \
                     THEN excluded.expires ELSE revocations.expires END, \
                     seq = excluded.seq, user_id = excluded.user_id, organization_id = excluded.organization_id";
    let now = tx.now();
    let (kind, id, holder) = match revoked {
        Revoked::Session(id) => (RevocationKind::Session, id.as_str(), None),
        Revoked::Membership(id, user, organization) => {
            (RevocationKind::Membership, id.as_str(), Some((user.as_str(), organization.as_str())))
        }
        Revoked::User(id) => (RevocationKind::User, id.as_str(), None),
        Revoked::Organization(id) => (RevocationKind::Organization, id.as_str(), None),
    };
    let statement = sqlx::query(statement)
        .bind(kind.as_str())
        .bind(id.to_owned())
        .bind(now.seconds())
        .bind(now.plus(Revocation::KEPT).seconds())
        .bind(i64::try_from(tx.seq()).unwrap_or(i64::MAX))
        .bind(holder.map(|(user, _)| user.to_owned()))
        .bind(holder.map(|(_, organization)| organization.to_owned()));
    tx.execute(statement).await?;
    Ok(())
}
