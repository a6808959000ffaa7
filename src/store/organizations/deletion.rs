//! What goes with an organization (WorkOS contract R47): everything in it, each table by a statement of its own.

use async_trait::async_trait;
use axum::http::StatusCode;
use serde_json::json;

use super::find;
use crate::domain::OrganizationId;
use crate::store::error::StoreError;
use crate::store::revocations::{self, Revoked};
use crate::store::transaction::{Reply, Transaction, Write};

/// The resources that nothing stands below.
const LEAVES: &str = "DELETE FROM resources WHERE organization_id = $1 AND id NOT IN \
                      (SELECT parent_id FROM resources WHERE organization_id = $1 AND parent_id IS NOT NULL)";

/// What else is in an organization, what refers to other rows before them.
const IN_IT: [&str; 9] = [
    "DELETE FROM assignments WHERE organization_id = $1",
    "DELETE FROM group_assignments WHERE organization_id = $1",
    "DELETE FROM group_members WHERE group_id IN (SELECT id FROM user_groups WHERE organization_id = $1)",
    "DELETE FROM user_groups WHERE organization_id = $1",
    "DELETE FROM identity_provider_roles WHERE organization_id = $1",
    "DELETE FROM role_permissions WHERE role_id IN (SELECT id FROM roles WHERE organization_id = $1)",
    "DELETE FROM roles WHERE organization_id = $1",
    "DELETE FROM sessions WHERE organization_id = $1",
    "DELETE FROM memberships WHERE organization_id = $1",
];

pub(super) struct DeleteOrganization(pub(super) OrganizationId);

#[async_trait]
impl Write for DeleteOrganization {
    /// One event and one entry of the audit stand for everything that was in it.
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let organization = find(tx.connection, &self.0).await?;
        for statement in IN_IT {
            tx.execute(sqlx::query(statement).bind(self.0.clone())).await?;
        }
        // Level by level, from below.
        while tx.execute(sqlx::query(LEAVES).bind(self.0.clone())).await? > 0 {}
        tx.execute(sqlx::query("DELETE FROM organizations WHERE id = $1").bind(self.0.clone())).await?;
        revocations::revoke(tx, Revoked::Organization(&self.0)).await?;
        tx.delete_organization(&self.0);
        tx.event("organization.deleted", Some(&self.0), &organization)?;
        tx.audit("organization.deleted", Some(&self.0), json!({"organization_id": self.0}));
        Ok(Reply { status: StatusCode::ACCEPTED, body: None })
    }
}
