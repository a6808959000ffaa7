//! Sessions: one for each minted token, to be revoked by (our decision D22).

use std::time::Duration;

use async_trait::async_trait;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::api::Operation;
use super::error::StoreError;
use super::extract::{Body, Path, Query};
use super::keys::Author;
use super::page::{Listing, PageQuery};
use super::revocations::{self, Revoked};
use super::rows::read_all;
use super::time::Millis;
use super::transaction::{Reply, Transaction, Write};
use super::writer::Committed;
use super::{Store, memberships};
use crate::domain::record::MembershipStatus;
use crate::domain::{MembershipId, SessionId, UserId};
use crate::wire::api::List;

const COLUMNS: &str =
    "SELECT id, user_id, organization_id, status, expires_at, ended_at, created_at, updated_at FROM sessions";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/user_management/sessions/revoke", "revokeSession", revoke)
            .takes::<RevokeSession>()
            .gives::<Session>(200),
        Operation::get("/user_management/users/{id}/sessions", "listUserSessions", list)
            .asks::<PageQuery>()
            .gives::<List<Session>>(200),
    ]
}

/// A login session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "object", rename = "session")]
pub struct Session {
    /// `session_…`
    pub id: String,
    /// Whose.
    pub user_id: String,
    /// The selected organization.
    pub organization_id: Option<String>,
    /// Whether its tokens are accepted.
    pub status: SessionStatus,
    /// How they signed in: they did not, the token was minted.
    pub auth_method: AuthMethod,
    /// From where; not known.
    pub ip_address: Option<String>,
    /// With what; not known.
    pub user_agent: Option<String>,
    /// When its token ends.
    pub expires_at: Millis,
    /// When it was revoked.
    pub ended_at: Option<Millis>,
    /// Since when.
    pub created_at: Millis,
    /// When it was last changed.
    pub updated_at: Millis,
}

/// Whether a session's tokens are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionStatus {
    /// They are.
    Active,
    /// No longer: its time is over.
    Expired,
    /// No longer: somebody revoked it.
    Revoked,
}

/// How somebody signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    /// In a way that the contract has no name for.
    Unknown,
}

/// A session to be, for an active membership.
pub(super) struct NewSession {
    pub(super) membership: MembershipId,
    pub(super) lifetime: Duration,
}

/// A session whose tokens are not accepted any more.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct RevokeSession {
    session_id: SessionId,
}

async fn list(
    State(store): State<Store>,
    Path(user): Path<UserId>,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<List<Session>>, StoreError> {
    let mut connection = store.read().await?;
    let found = sqlx::query("SELECT id FROM users WHERE id = $1").bind(user.clone());
    if found.fetch_optional(&mut *connection).await?.is_none() {
        return Err(StoreError::not_found("user", user));
    }
    let now = store.now();
    let listing = Listing::of(format!("{COLUMNS} WHERE user_id = $1")).bind(user);
    Ok(axum::Json(listing.page(&mut connection, &page, |row| read(row, now)).await?))
}

async fn revoke(
    State(store): State<Store>,
    author: Author,
    Body(session): Body<RevokeSession>,
) -> Result<Committed, StoreError> {
    store.write(author, session).await
}

#[async_trait]
impl Write for NewSession {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let membership = memberships::find(tx.connection, &self.membership).await?;
        if membership.member.status != MembershipStatus::Active {
            let message = format!("organization membership `{}` is not active", self.membership);
            return Err(StoreError::invalid("organization_membership_id", "organization_membership_inactive", message));
        }
        let now = tx.now();
        let session = SessionId::new(&tx.id("session_"))?;
        let statement = "INSERT INTO sessions (id, user_id, organization_id, membership_id, status, expires_at, ended_at, \
                         created_at, updated_at) VALUES ($1, $2, $3, $4, 'active', $5, NULL, $6, $6)";
        let statement = sqlx::query(statement)
            .bind(session.clone())
            .bind(membership.member.user)
            .bind(membership.organization.clone())
            .bind(self.membership.clone())
            .bind(now.plus(self.lifetime).0)
            .bind(now.0);
        tx.execute(statement).await?;
        let session = find(tx.connection, &session, now).await?;
        tx.event("session.created", Some(&membership.organization), &session)?;
        Reply::ok(&session)
    }
}

#[async_trait]
impl Write for RevokeSession {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let now = tx.now();
        let session = find(tx.connection, &self.session_id, now).await?;
        if session.status != SessionStatus::Active {
            return Reply::ok(&session);
        }
        end(tx, &session).await?;
        Reply::ok(&find(tx.connection, &self.session_id, now).await?)
    }
}

/// Ends an active session: its tokens are refused from now on, and the event is published.
pub(super) async fn end(tx: &mut Transaction<'_>, session: &Session) -> Result<(), StoreError> {
    let now = tx.now();
    let statement = "UPDATE sessions SET status = 'revoked', ended_at = $1, updated_at = $1 WHERE id = $2";
    tx.execute(sqlx::query(statement).bind(now.0).bind(session.id.clone())).await?;
    let id = SessionId::new(&session.id)?;
    revocations::revoke(tx, Revoked::Session(&id)).await?;
    let session = find(tx.connection, &id, now).await?;
    let organization = session.organization_id.as_deref().map(crate::domain::OrganizationId::new).transpose()?;
    tx.event("session.revoked", organization.as_ref(), &session)
}

/// Ends every active session of a membership.
pub(super) async fn end_all_of(tx: &mut Transaction<'_>, membership: &MembershipId) -> Result<(), StoreError> {
    let now = tx.now();
    let statement =
        sqlx::AssertSqlSafe(format!("{COLUMNS} WHERE membership_id = $1 AND status = 'active' ORDER BY id"));
    let sessions =
        read_all(tx.connection, sqlx::query(statement).bind(membership.clone()), |row| read(row, now)).await?;
    for session in sessions.iter().filter(|session| session.status == SessionStatus::Active) {
        end(tx, session).await?;
    }
    Ok(())
}

/// The session with this id.
///
/// # Errors
/// [`StoreError::NotFound`]
async fn find(connection: &mut AnyConnection, id: &SessionId, now: Millis) -> Result<Session, StoreError> {
    let statement = sqlx::AssertSqlSafe(format!("{COLUMNS} WHERE id = $1"));
    let row = sqlx::query(statement).bind(id.clone()).fetch_optional(connection).await?;
    read(&row.ok_or_else(|| StoreError::not_found("session", id))?, now)
}

fn read(row: &AnyRow, now: Millis) -> Result<Session, StoreError> {
    let time = |name: &str| row.try_get::<i64, _>(name).map(Millis);
    let expires_at = time("expires_at")?;
    let status = match row.try_get::<String, _>("status")?.as_str() {
        "revoked" => SessionStatus::Revoked,
        _ if expires_at <= now => SessionStatus::Expired,
        _ => SessionStatus::Active,
    };
    Ok(Session {
        id: row.try_get("id")?,
        user_id: row.try_get("user_id")?,
        organization_id: row.try_get("organization_id")?,
        status,
        auth_method: AuthMethod::Unknown,
        ip_address: None,
        user_agent: None,
        expires_at,
        ended_at: row.try_get::<Option<i64>, _>("ended_at")?.map(Millis),
        created_at: time("created_at")?,
        updated_at: time("updated_at")?,
    })
}
