//! Assigning roles to memberships and taking them away.

use async_trait::async_trait;

use super::meant::Meant;
use super::{Of, RoleOnResource, insert, list, of, remove, require_scope};
use crate::domain::record::RoleMode;
use crate::domain::{AssignmentId, MembershipId};
use crate::store::error::StoreError;
use crate::store::transaction::{Reply, Transaction, Write};
use crate::store::{effective, memberships, resources};

/// Gives a membership a role on a resource.
pub(super) struct Assign {
    pub(super) membership: MembershipId,
    pub(super) what: RoleOnResource,
}

/// Takes a role on a resource from a membership.
pub(super) struct Remove {
    pub(super) membership: MembershipId,
    pub(super) what: RoleOnResource,
}

/// Takes an assignment from a membership.
pub(super) struct RemoveById {
    pub(super) membership: MembershipId,
    pub(super) id: AssignmentId,
}

#[async_trait]
impl Write for Assign {
    /// What is assigned already is answered as it is (our decision D5). In single-role mode an organization role takes the place of the one
    /// before (D18).
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let Meant { organization, role, resource: row } =
            Meant::find(tx.connection, &self.membership, &self.what).await?;
        require_scope(&role, &row)?;
        let resource = &row.resource.id;
        let organization_wide = row.resource.parent.is_none();
        let mut replaced = false;
        if organization_wide && effective::mode(tx.connection).await? == RoleMode::Single {
            let mut others = of(tx, Of::MembershipOn(&self.membership, resource)).await?;
            others.retain(|held| held.assignment.role != role.id);
            replaced = !others.is_empty();
            remove(tx, &others).await?;
        }
        let made = insert(tx, &organization, &self.membership, &role.id, resource).await?;
        if organization_wide && (replaced || made.is_some()) {
            memberships::updated(tx, &self.membership).await?;
        }
        Reply::created(&match made {
            Some(id) => list::made(id, &self.membership, &role.slug, &row.resource, tx.now()),
            None => list::stored(tx.connection, &self.membership, &role.id, resource).await?,
        })
    }
}

#[async_trait]
impl Write for Remove {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let Meant { role, resource: row, .. } = Meant::find(tx.connection, &self.membership, &self.what).await?;
        let resource = row.resource.id;
        let mut held = of(tx, Of::MembershipOn(&self.membership, &resource)).await?;
        held.retain(|held| held.assignment.role == role.id);
        if held.is_empty() {
            return match list::through_group(tx.connection, &self.membership, &role.id, &resource).await? {
                true => Err(group_sourced()),
                false => Err(StoreError::not_found("role assignment", &self.what.role_slug)),
            };
        }
        remove(tx, &held).await?;
        if row.resource.parent.is_none() {
            memberships::updated(tx, &self.membership).await?;
        }
        Ok(Reply::no_content())
    }
}

#[async_trait]
impl Write for RemoveById {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let organization = memberships::find(tx.connection, &self.membership).await?.organization;
        let held = of(tx, Of::Id(&self.membership, &self.id)).await?;
        if held.is_empty() {
            return match list::is_through_group(tx.connection, &self.membership, &self.id).await? {
                true => Err(group_sourced()),
                false => Err(StoreError::not_found("role assignment", &self.id)),
            };
        }
        remove(tx, &held).await?;
        let root = resources::root(tx.connection, &organization).await?.resource.id;
        if held.iter().any(|held| held.assignment.resource.as_ref() == Some(&root)) {
            memberships::updated(tx, &self.membership).await?;
        }
        Ok(Reply::no_content())
    }
}

/// Our decision D6.
fn group_sourced() -> StoreError {
    let message = "the membership has this role through a group: take it from the group, or the membership out of it";
    StoreError::invalid("role_assignment_id", "group_sourced_role_assignment", message)
}
