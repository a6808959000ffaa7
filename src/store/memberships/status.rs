//! Switching memberships off and on (WorkOS contract R11, our decision D4): what they have is kept, and counts only while they are active.

use async_trait::async_trait;
use serde_json::json;

use super::render::{self, Form};
use super::{MembershipRow, announce, find};
use crate::domain::record::{Member, MembershipStatus};
use crate::domain::{MembershipId, OrganizationRecord};
use crate::store::error::{FieldError, StoreError};
use crate::store::revocations::{self, Revoked};
use crate::store::sessions;
use crate::store::transaction::{Reply, Transaction, Write};

pub(super) struct Deactivate(pub(super) MembershipId);

pub(super) struct Reactivate(pub(super) MembershipId);

/// The statuses of a list, with commas between them; none means `active`.
///
/// # Errors
/// A word that is no status.
pub(super) fn parse(statuses: &str) -> Result<Vec<&'static str>, StoreError> {
    const ALL: [&str; 3] = ["active", "inactive", "pending"];
    let words = statuses.split(',').map(str::trim).filter(|word| !word.is_empty());
    let known = |word: &str| {
        ALL.into_iter().find(|status| *status == word).ok_or_else(|| StoreError::Rejected {
            code: "invalid_request_parameters",
            message: format!("status `{word}`, expected active, inactive or pending").into(),
            errors: vec![FieldError::new("statuses", "unknown_value")],
        })
    };
    let found: Vec<&'static str> = words.map(known).collect::<Result<_, _>>()?;
    Ok(if found.is_empty() { vec!["active"] } else { found })
}

#[async_trait]
impl Write for Deactivate {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let row = find(tx.connection, &self.0).await?;
        match row.member.status {
            MembershipStatus::Active => {}
            MembershipStatus::Inactive => return unchanged(tx, &self.0).await,
            MembershipStatus::Pending => {
                return Err(pending("cannot_deactivate_pending_organization_membership"));
            }
        }
        set(tx, &row, MembershipStatus::Inactive).await?;
        sessions::end_all_of(tx, &self.0).await?;
        let revoked = Revoked::Membership(&self.0, &row.member.user, &row.organization);
        revocations::revoke(tx, revoked).await?;
        Reply::ok(&announce(tx, "organization_membership.updated", &row).await?)
    }
}

#[async_trait]
impl Write for Reactivate {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let row = find(tx.connection, &self.0).await?;
        if row.member.status == MembershipStatus::Active {
            return unchanged(tx, &self.0).await;
        }
        activate(tx, &row).await?;
        Reply::ok(&announce(tx, "organization_membership.updated", &row).await?)
    }
}

/// Switches an inactive membership on.
///
/// # Errors
/// It waits for its user to accept.
pub(super) async fn activate(tx: &mut Transaction<'_>, row: &MembershipRow) -> Result<(), StoreError> {
    if row.member.status == MembershipStatus::Pending {
        return Err(pending("cannot_reactivate_pending_organization_membership"));
    }
    set(tx, row, MembershipStatus::Active).await
}

async fn set(tx: &mut Transaction<'_>, row: &MembershipRow, status: MembershipStatus) -> Result<(), StoreError> {
    let text = match status {
        MembershipStatus::Active => "active",
        MembershipStatus::Inactive => "inactive",
        MembershipStatus::Pending => "pending",
    };
    let statement = sqlx::query("UPDATE memberships SET status = $1, updated_at = $2 WHERE id = $3")
        .bind(text)
        .bind(tx.now().0)
        .bind(row.member.id.clone());
    tx.execute(statement).await?;
    let action = match status {
        MembershipStatus::Active => "organization_membership.reactivated",
        MembershipStatus::Inactive | MembershipStatus::Pending => "organization_membership.deactivated",
    };
    tx.audit(action, Some(&row.organization), json!({"organization_membership_id": row.member.id}));
    tx.put(&row.organization, OrganizationRecord::Member(Member { status, ..row.member.clone() }));
    Ok(())
}

async fn unchanged(tx: &mut Transaction<'_>, id: &MembershipId) -> Result<Reply, StoreError> {
    let engine = tx.engine();
    Reply::ok(&render::one(tx.connection, engine, id, Form::Full).await?)
}

fn pending(code: &'static str) -> StoreError {
    StoreError::BadRequest { code, message: "the membership waits for its user to accept the invitation".into() }
}
