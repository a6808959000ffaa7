//! Organizations (WorkOS contract, section 1.8).

use sqlx::AnyConnection;

use super::api::Operation;
use super::error::StoreError;
use crate::domain::OrganizationId;

pub(super) fn operations() -> Vec<Operation> {
    Vec::new()
}

/// # Errors
/// [`StoreError::NotFound`] when there is no such organization.
pub(super) async fn require(connection: &mut AnyConnection, id: &OrganizationId) -> Result<(), StoreError> {
    let statement = sqlx::query("SELECT id FROM organizations WHERE id = $1").bind(id.clone());
    match statement.fetch_optional(connection).await? {
        Some(_) => Ok(()),
        None => Err(StoreError::not_found("organization", id)),
    }
}
