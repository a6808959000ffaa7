//! Which role comes before which: the organization's own order first, then the environment's (WorkOS contract R20, R21).

use std::collections::HashMap;

use sqlx::{AnyConnection, Row};

use super::stored::StoredRole;
use crate::domain::{OrganizationId, RoleId};
use crate::store::error::StoreError;
use crate::store::rows::read_all;

/// How one organization ranks roles; the same order as in the facts that checks are answered from.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct Order {
    own: HashMap<RoleId, usize>,
    environment: HashMap<RoleId, i64>,
}

impl Order {
    /// The order of an organization.
    pub(in crate::store) async fn of(
        connection: &mut AnyConnection,
        organization: &OrganizationId,
    ) -> Result<Self, StoreError> {
        let statement = "SELECT priorities FROM organizations WHERE id = $1";
        let row = sqlx::query(statement).bind(organization.clone()).fetch_optional(&mut *connection).await?;
        let text = row.map(|row| row.try_get::<Option<String>, _>("priorities")).transpose()?.flatten();
        let own: Vec<RoleId> = text.map(|text| serde_json::from_str(&text)).transpose()?.unwrap_or_default();
        let statement = sqlx::query("SELECT id, priority FROM roles WHERE organization_id IS NULL");
        let environment = read_all(connection, statement, |row| Ok((row.try_get("id")?, row.try_get("priority")?)));
        Ok(Self { own: own.into_iter().zip(0..).collect(), environment: environment.await?.into_iter().collect() })
    }

    /// The place of a role; less is higher.
    pub(in crate::store) fn rank<'a>(&self, role: &'a RoleId) -> (usize, i64, &'a str) {
        let own = self.own.get(role).copied().unwrap_or(usize::MAX);
        (own, self.environment.get(role).copied().unwrap_or(i64::MAX), role.as_str())
    }

    /// Highest priority first.
    pub(super) fn sort(&self, roles: &mut [StoredRole]) {
        roles.sort_by(|one, other| self.rank(&one.id).cmp(&self.rank(&other.id)));
    }
}
