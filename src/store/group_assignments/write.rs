//! Giving roles to groups and taking them away.

use std::collections::BTreeSet;

use async_trait::async_trait;
use sqlx::AnyConnection;

use super::{GroupAssignmentRow, Of, answer, answers, insert, of, remove};
use crate::domain::record::RoleMode;
use crate::domain::{AssignmentId, GroupId, MembershipId, OrganizationId, ResourceId, RoleId};
use crate::store::assignments::{RoleOnResource, require_scope};
use crate::store::error::StoreError;
use crate::store::groups::{self, GroupRow};
use crate::store::rows::read_all;
use crate::store::transaction::{Reply, Transaction, Write};
use crate::store::{effective, resources, roles};
use crate::wire::api::{List, ListMetadata};

/// Entries of one request at most.
const MOST_ENTRIES: usize = 100;

/// Roles, each with a resource or organization-wide.
pub(super) type Entries = Vec<RoleOnResource>;

/// Gives a group a role.
pub(super) struct Assign {
    pub(super) group: GroupId,
    pub(super) what: RoleOnResource,
}

/// Gives a group these roles and no others.
pub(super) struct Replace {
    pub(super) group: GroupId,
    pub(super) entries: Entries,
}

/// Gives a group some roles and takes others away.
pub(super) struct Adjust {
    pub(super) group: GroupId,
    pub(super) add: Entries,
    pub(super) remove: Entries,
}

/// Takes a role from a group.
pub(super) struct Remove {
    pub(super) group: GroupId,
    pub(super) what: RoleOnResource,
}

/// Takes an assignment from a group.
pub(super) struct RemoveById {
    pub(super) group: GroupId,
    pub(super) id: AssignmentId,
}

/// What an entry means: which role on which resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Meant {
    role: RoleId,
    resource: ResourceId,
}

impl Meant {
    fn is(&self, row: &GroupAssignmentRow) -> bool {
        row.assignment.role == self.role && row.assignment.resource.as_ref() == Some(&self.resource)
    }
}

#[async_trait]
impl Write for Assign {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let group = groups::find(tx.connection, &self.group).await?;
        let meant = meaning(tx.connection, &group.organization, &self.what).await?;
        let same = Of::GroupWith(&group.id, &meant.role, &meant.resource);
        if !of(tx, same).await?.is_empty() {
            let message = format!("the group has the role `{}` on this resource already", self.what.role_slug);
            return Err(StoreError::conflict("duplicate_group_role_assignment", message));
        }
        insert(tx, &group.organization, &group.id, &meant.role, &meant.resource).await?;
        let row = of(tx, same).await?.into_iter().find_map(|row| row.assignment.id);
        let id = row.ok_or_else(|| StoreError::not_found("group role assignment", &self.what.role_slug))?;
        Reply::created(&answer(tx.connection, &group.id, &id).await?)
    }
}

#[async_trait]
impl Write for Replace {
    /// What is there already stays, with its id.
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let group = groups::find(tx.connection, &self.group).await?;
        let wanted = meanings(tx.connection, &group.organization, &self.entries).await?;
        let there = of(tx, Of::Group(&group.id)).await?;
        let lost: Vec<_> = there.iter().filter(|row| !wanted.iter().any(|meant| meant.is(row))).cloned().collect();
        take_away(tx, &group, &lost).await?;
        give(tx, &group, &wanted, &there).await?;
        let data = answers(tx.connection, &group.id).await?;
        Reply::ok(&List { data, list_metadata: ListMetadata::default() })
    }
}

#[async_trait]
impl Write for Adjust {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let group = groups::find(tx.connection, &self.group).await?;
        let added = meanings(tx.connection, &group.organization, &self.add).await?;
        let removed = meanings(tx.connection, &group.organization, &self.remove).await?;
        if !added.is_disjoint(&removed) {
            let message = "the same entry is in `add` and in `remove`";
            return Err(StoreError::invalid("remove", "conflicting_entries", message));
        }
        let there = of(tx, Of::Group(&group.id)).await?;
        let lost: Vec<_> = there.iter().filter(|row| removed.iter().any(|meant| meant.is(row))).cloned().collect();
        take_away(tx, &group, &lost).await?;
        give(tx, &group, &added, &there).await?;
        Ok(Reply::no_content())
    }
}

#[async_trait]
impl Write for Remove {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let group = groups::find(tx.connection, &self.group).await?;
        let meant = meaning(tx.connection, &group.organization, &self.what).await?;
        let lost = of(tx, Of::GroupWith(&group.id, &meant.role, &meant.resource)).await?;
        if lost.is_empty() {
            return Err(StoreError::not_found("group role assignment", &self.what.role_slug));
        }
        take_away(tx, &group, &lost).await?;
        Ok(Reply::no_content())
    }
}

#[async_trait]
impl Write for RemoveById {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let group = groups::find(tx.connection, &self.group).await?;
        let lost = of(tx, Of::Id(&group.id, &self.id)).await?;
        if lost.is_empty() {
            return Err(StoreError::not_found("group role assignment", &self.id));
        }
        take_away(tx, &group, &lost).await?;
        Ok(Reply::no_content())
    }
}

/// # Errors
/// [`StoreError::Unprocessable`] for more entries than one request may have.
pub(super) fn require_at_most(lists: &[&Entries]) -> Result<(), StoreError> {
    if lists.iter().map(|list| list.len()).sum::<usize>() <= MOST_ENTRIES {
        return Ok(());
    }
    let message = format!("expected at most {MOST_ENTRIES} entries");
    Err(StoreError::invalid("role_assignments", "too_long", message))
}

async fn meaning(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
    entry: &RoleOnResource,
) -> Result<Meant, StoreError> {
    let role = roles::resolve(connection, organization, &entry.role_slug).await?;
    let resource = entry.target.resolve_or_root(connection, organization).await?;
    require_scope(&role, &resource)?;
    Ok(Meant { role: role.id, resource: resource.resource.id })
}

/// What entries mean, each once.
async fn meanings(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
    entries: &Entries,
) -> Result<BTreeSet<Meant>, StoreError> {
    let mut meant = BTreeSet::new();
    for entry in entries {
        meant.insert(meaning(connection, organization, entry).await?);
    }
    Ok(meant)
}

/// Inserts what is not there.
async fn give(
    tx: &mut Transaction<'_>,
    group: &GroupRow,
    wanted: &BTreeSet<Meant>,
    there: &[GroupAssignmentRow],
) -> Result<(), StoreError> {
    for meant in wanted.iter().filter(|meant| !there.iter().any(|row| meant.is(row))) {
        insert(tx, &group.organization, &group.id, &meant.role, &meant.resource).await?;
    }
    Ok(())
}

/// Takes assignments from a group. In single-role mode members who lose the organization role that was in effect for them fall back to the
/// default role (our decision D1), before anything new is given. In multiple-roles mode nobody looks at the members.
async fn take_away(tx: &mut Transaction<'_>, group: &GroupRow, rows: &[GroupAssignmentRow]) -> Result<(), StoreError> {
    let root = resources::root(tx.connection, &group.organization).await?.resource.id;
    let organization_wide = rows.iter().any(|row| row.assignment.resource.as_ref() == Some(&root));
    if !organization_wide || effective::mode(tx.connection).await? == RoleMode::Multiple {
        return remove(tx, rows).await;
    }
    let statement = sqlx::query("SELECT membership_id FROM group_members WHERE group_id = $1").bind(group.id.clone());
    let members: Vec<MembershipId> =
        read_all(tx.connection, statement, |row| Ok(sqlx::Row::try_get(row, "membership_id")?)).await?;
    let before = effective::before(tx, &group.organization, &members).await?;
    remove(tx, rows).await?;
    before.settle(tx).await
}
