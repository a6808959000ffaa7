//! Groups and their members (WorkOS contract, section 1.9).

use sqlx::{AnyConnection, Row};

use super::api::Operation;
use super::error::StoreError;
use crate::domain::{GroupId, OrganizationId};

pub(super) fn operations() -> Vec<Operation> {
    Vec::new()
}

/// A group as other nouns need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupRow {
    pub(super) id: GroupId,
    pub(super) organization: OrganizationId,
    pub(super) name: String,
}

/// The group with this id.
///
/// # Errors
/// [`StoreError::NotFound`]
pub(super) async fn find(connection: &mut AnyConnection, id: &GroupId) -> Result<GroupRow, StoreError> {
    let statement = "SELECT id, organization_id, name FROM user_groups WHERE id = $1";
    let row = sqlx::query(statement).bind(id.clone()).fetch_optional(connection).await?;
    let row = row.ok_or_else(|| StoreError::not_found("group", id))?;
    Ok(GroupRow { id: row.try_get("id")?, organization: row.try_get("organization_id")?, name: row.try_get("name")? })
}
