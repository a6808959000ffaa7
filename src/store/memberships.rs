//! Memberships: users in organizations (WorkOS contract, section 1.10).

use sqlx::AnyConnection;
use sqlx::Row;

use super::api::Operation;
use super::error::StoreError;
use super::rows;
use crate::domain::record::Member;
use crate::domain::{MembershipId, OrganizationId};

pub(super) fn operations() -> Vec<Operation> {
    Vec::new()
}

/// A membership as other nouns need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MembershipRow {
    pub(super) organization: OrganizationId,
    pub(super) member: Member,
}

/// The membership with this id.
///
/// # Errors
/// [`StoreError::NotFound`]
pub(super) async fn find(connection: &mut AnyConnection, id: &MembershipId) -> Result<MembershipRow, StoreError> {
    let statement =
        "SELECT id, organization_id, user_id, status, identity_provider_roles FROM memberships WHERE id = $1";
    let row = sqlx::query(statement).bind(id.clone()).fetch_optional(connection).await?;
    let row = row.ok_or_else(|| StoreError::not_found("organization membership", id))?;
    Ok(MembershipRow { organization: row.try_get("organization_id")?, member: rows::member(&row)? })
}
