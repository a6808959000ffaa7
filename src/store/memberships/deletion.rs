//! What goes with a membership: its role assignments, its places in groups, its sessions (WorkOS contract R45).

use async_trait::async_trait;
use sqlx::Row;

use super::render::{self, Form};
use super::{MembershipRow, find};
use crate::domain::record::{GroupMember, OrganizationKey};
use crate::domain::{MembershipId, UserId};
use crate::store::assignments::{self, Of};
use crate::store::error::StoreError;
use crate::store::revocations::{self, Revoked};
use crate::store::rows::read_all;
use crate::store::transaction::{Reply, Transaction, Write};

pub(super) struct DeleteMembership(pub(super) MembershipId);

#[async_trait]
impl Write for DeleteMembership {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let row = find(tx.connection, &self.0).await?;
        remove(tx, &row).await?;
        let revoked = Revoked::Membership(&self.0, &row.member.user, &row.organization);
        revocations::revoke(tx, revoked).await?;
        Ok(Reply::empty())
    }
}

/// Takes all memberships of a user away (WorkOS contract R46). What revokes their tokens is up to the caller.
pub(in crate::store) async fn remove_all_of(tx: &mut Transaction<'_>, user: &UserId) -> Result<(), StoreError> {
    let statement = "SELECT id FROM memberships WHERE user_id = $1 ORDER BY id";
    let ids: Vec<MembershipId> =
        read_all(tx.connection, sqlx::query(statement).bind(user.clone()), |row| Ok(row.try_get("id")?)).await?;
    for id in &ids {
        let row = find(tx.connection, id).await?;
        remove(tx, &row).await?;
    }
    Ok(())
}

async fn remove(tx: &mut Transaction<'_>, row: &MembershipRow) -> Result<(), StoreError> {
    let id = &row.member.id;
    let engine = tx.engine();
    let last = render::one(tx.connection, engine, id, Form::WithRoles).await?;
    let held = assignments::of(tx, Of::Membership(id)).await?;
    assignments::remove(tx, &held).await?;
    let statement = "SELECT group_id, membership_id FROM group_members WHERE membership_id = $1 ORDER BY group_id";
    let places = read_all(tx.connection, sqlx::query(statement).bind(id.clone()), |row| {
        Ok(GroupMember { group: row.try_get("group_id")?, membership: row.try_get("membership_id")? })
    })
    .await?;
    for statement in
        ["DELETE FROM group_members WHERE membership_id = $1", "DELETE FROM sessions WHERE membership_id = $1"]
    {
        tx.execute(sqlx::query(statement).bind(id.clone())).await?;
    }
    for place in places {
        tx.delete(&row.organization, OrganizationKey::GroupMember(place));
    }
    tx.execute(sqlx::query("DELETE FROM memberships WHERE id = $1").bind(id.clone())).await?;
    tx.delete(&row.organization, OrganizationKey::Member(id.clone()));
    tx.event("organization_membership.deleted", Some(&row.organization), &last)
}
