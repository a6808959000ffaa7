//! Who is in a group (WorkOS contract R28, R31, R34). What members have through it takes effect, and is lost, in the transaction that
//! puts them in or takes them out.

use std::collections::BTreeSet;

use async_trait::async_trait;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::{COLUMNS, find_in, read};
use crate::domain::record::{GroupMember, OrganizationKey};
use crate::domain::{GroupId, MembershipId, OrganizationId, OrganizationRecord};
use crate::store::Store;
use crate::store::database::Engine;
use crate::store::effective::{self, Before};
use crate::store::error::{FieldError, StoreError};
use crate::store::extract::{Body, Path, Query};
use crate::store::group_assignments::{self, Of};
use crate::store::keys::Author;
use crate::store::memberships::{self, Form};
use crate::store::page::{Listing, PageQuery};
use crate::store::rows::read_all;
use crate::store::transaction::{Reply, Transaction, Write};
use crate::store::writer::Committed;
use crate::wire::api::{Group, List, Membership};

/// Entries of one change.
const MOST_ENTRIES: usize = 100;

/// A member to be.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(super) struct NewMember {
    organization_membership_id: MembershipId,
}

/// Members to be, and members no more: 1 to 100 together.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(super) struct MemberChanges {
    /// Those that are members already are left alone.
    #[serde(default)]
    add: Vec<MembershipId>,
    /// Those that are no members are left alone.
    #[serde(default)]
    remove: Vec<MembershipId>,
}

struct AddMember {
    organization: OrganizationId,
    group: GroupId,
    membership: MembershipId,
}

struct ChangeMembers {
    organization: OrganizationId,
    group: GroupId,
    add: BTreeSet<MembershipId>,
    remove: BTreeSet<MembershipId>,
}

struct RemoveMember {
    organization: OrganizationId,
    group: GroupId,
    membership: MembershipId,
}

pub(super) async fn list(
    State(store): State<Store>,
    Path((organization, group)): Path<(OrganizationId, GroupId)>,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<List<Membership>>, StoreError> {
    let mut connection = store.read().await?;
    find_in(&mut connection, &organization, &group).await?;
    let select = "SELECT m.id, m.created_at FROM memberships m JOIN group_members g ON g.membership_id = m.id \
                  WHERE g.group_id = $1";
    let listing = Listing::of(select).bind(&group);
    let page = listing.page(&mut connection, &page, |row| Ok(row.try_get::<MembershipId, _>("id")?)).await?;
    let engine = Engine::behind(&connection);
    let data = memberships::render(&mut connection, engine, &page.data, Form::WithUser).await?;
    Ok(axum::Json(List { data, list_metadata: page.list_metadata }))
}

/// The groups of a membership.
pub(super) async fn groups_of(
    State(store): State<Store>,
    Path(membership): Path<MembershipId>,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<List<Group>>, StoreError> {
    let mut connection = store.read().await?;
    memberships::find(&mut connection, &membership).await?;
    let select = format!("{COLUMNS} WHERE id IN (SELECT group_id FROM group_members WHERE membership_id = $1)");
    Ok(axum::Json(Listing::of(select).bind(&membership).page(&mut connection, &page, read).await?))
}

pub(super) async fn add(
    State(store): State<Store>,
    author: Author,
    Path((organization, group)): Path<(OrganizationId, GroupId)>,
    Body(new): Body<NewMember>,
) -> Result<Committed, StoreError> {
    store.write(author, AddMember { organization, group, membership: new.organization_membership_id }).await
}

pub(super) async fn change(
    State(store): State<Store>,
    author: Author,
    Path((organization, group)): Path<(OrganizationId, GroupId)>,
    Body(changes): Body<MemberChanges>,
) -> Result<Committed, StoreError> {
    let entries = changes.add.len() + changes.remove.len();
    if !(1..=MOST_ENTRIES).contains(&entries) {
        let message = format!("{entries} memberships, expected 1 to {MOST_ENTRIES}");
        return Err(invalid("add", "out_of_range", message));
    }
    let (add, remove): (BTreeSet<_>, BTreeSet<_>) =
        (changes.add.into_iter().collect(), changes.remove.into_iter().collect());
    if let Some(both) = add.intersection(&remove).next() {
        return Err(invalid("remove", "ambiguous", format!("`{both}` is to be added and to be removed")));
    }
    store.write(author, ChangeMembers { organization, group, add, remove }).await
}

pub(super) async fn remove(
    State(store): State<Store>,
    author: Author,
    Path((organization, group, membership)): Path<(OrganizationId, GroupId, MembershipId)>,
) -> Result<Committed, StoreError> {
    store.write(author, RemoveMember { organization, group, membership }).await
}

#[async_trait]
impl Write for AddMember {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let group = find_in(tx.connection, &self.organization, &self.group).await?;
        let field = "organization_membership_id";
        require_of(tx.connection, &self.organization, &self.membership, field).await?;
        let new = [self.membership.clone()];
        if among(tx, &self.group, &new).await?.is_empty() {
            put_in(tx, &self.organization, &self.group, &new).await?;
        }
        Reply::ok(&group)
    }
}

#[async_trait]
impl Write for ChangeMembers {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        find_in(tx.connection, &self.organization, &self.group).await?;
        for membership in &self.add {
            require_of(tx.connection, &self.organization, membership, "add").await?;
        }
        let named: Vec<MembershipId> = self.add.iter().chain(&self.remove).cloned().collect();
        let there = among(tx, &self.group, &named).await?;
        let new: Vec<_> = self.add.iter().filter(|id| !there.contains(id)).cloned().collect();
        let lost: Vec<_> = there.into_iter().filter(|id| self.remove.contains(id)).collect();
        put_in(tx, &self.organization, &self.group, &new).await?;
        lose(tx, &self.organization, &self.group, &lost).await?;
        Ok(Reply::no_content())
    }
}

#[async_trait]
impl Write for RemoveMember {
    /// One that is no member is not found (our decision D13).
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        find_in(tx.connection, &self.organization, &self.group).await?;
        let lost = among(tx, &self.group, std::slice::from_ref(&self.membership)).await?;
        if lost.is_empty() {
            return Err(StoreError::not_found("group member", &self.membership));
        }
        lose(tx, &self.organization, &self.group, &lost).await?;
        Ok(Reply::no_content())
    }
}

/// All members, sorted.
pub(super) async fn of(connection: &mut AnyConnection, group: &GroupId) -> Result<Vec<MembershipId>, StoreError> {
    let statement = "SELECT membership_id FROM group_members WHERE group_id = $1 ORDER BY membership_id";
    let statement = sqlx::query(statement).bind(group.clone());
    read_all(connection, statement, |row| Ok(row.try_get("membership_id")?)).await
}

/// What these members have before they lose what the group gives them; `None` when it gives nothing.
pub(super) async fn before_losing(
    tx: &mut Transaction<'_>,
    organization: &OrganizationId,
    group: &GroupId,
    members: &[MembershipId],
) -> Result<Option<Before>, StoreError> {
    if members.is_empty() || group_assignments::of(tx, Of::Group(group)).await?.is_empty() {
        return Ok(None);
    }
    effective::before(tx, organization, members).await.map(Some)
}

/// Takes these members out, without a look at what they lose.
pub(super) async fn take_out(
    tx: &mut Transaction<'_>,
    organization: &OrganizationId,
    group: &GroupId,
    members: &[MembershipId],
) -> Result<(), StoreError> {
    if members.is_empty() {
        return Ok(());
    }
    let text =
        format!("DELETE FROM group_members WHERE group_id = $1 AND membership_id IN ({})", tx.engine().texts_of(2));
    let statement = sqlx::query(AssertSqlSafe(text)).bind(group.clone()).bind(serde_json::to_string(members)?);
    tx.execute(statement).await?;
    for membership in members {
        let edge = GroupMember { group: group.clone(), membership: membership.clone() };
        tx.delete(organization, OrganizationKey::GroupMember(edge));
    }
    Ok(())
}

/// Takes these members out, and settles what single-role mode makes of it (our decision D1).
async fn lose(
    tx: &mut Transaction<'_>,
    organization: &OrganizationId,
    group: &GroupId,
    members: &[MembershipId],
) -> Result<(), StoreError> {
    let before = before_losing(tx, organization, group, members).await?;
    take_out(tx, organization, group, members).await?;
    for membership in members {
        announce(tx, "group.member_removed", organization, group, membership)?;
    }
    match before {
        Some(before) => before.settle(tx).await,
        None => Ok(()),
    }
}

async fn put_in(
    tx: &mut Transaction<'_>,
    organization: &OrganizationId,
    group: &GroupId,
    members: &[MembershipId],
) -> Result<(), StoreError> {
    for membership in members {
        let statement =
            sqlx::query("INSERT INTO group_members (group_id, membership_id, created_at) VALUES ($1, $2, $3)")
                .bind(group.clone())
                .bind(membership.clone())
                .bind(tx.now().0);
        tx.execute(statement).await?;
        let edge = GroupMember { group: group.clone(), membership: membership.clone() };
        tx.put(organization, OrganizationRecord::GroupMember(edge));
        announce(tx, "group.member_added", organization, group, membership)?;
    }
    Ok(())
}

/// Publishes and audits that a membership came or went: it gained or lost what the group has.
fn announce(
    tx: &mut Transaction<'_>,
    event: &'static str,
    organization: &OrganizationId,
    group: &GroupId,
    membership: &MembershipId,
) -> Result<(), StoreError> {
    let data = json!({"group_id": group, "organization_membership_id": membership});
    tx.event(event, Some(organization), &data)?;
    tx.audit(event, Some(organization), data);
    Ok(())
}

/// Those of `memberships` that are in the group.
async fn among(
    tx: &mut Transaction<'_>,
    group: &GroupId,
    memberships: &[MembershipId],
) -> Result<Vec<MembershipId>, StoreError> {
    let listed = tx.engine().texts_of(2);
    let text = format!(
        "SELECT membership_id FROM group_members WHERE group_id = $1 AND membership_id IN ({listed}) \
         ORDER BY membership_id"
    );
    let statement = sqlx::query(AssertSqlSafe(text)).bind(group.clone()).bind(serde_json::to_string(memberships)?);
    read_all(tx.connection, statement, |row| Ok(row.try_get("membership_id")?)).await
}

/// # Errors
/// There is no such membership, or it belongs to another organization.
async fn require_of(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
    membership: &MembershipId,
    field: &'static str,
) -> Result<(), StoreError> {
    let row = memberships::find(connection, membership).await?;
    if row.organization == *organization {
        return Ok(());
    }
    let message = format!("membership `{membership}` belongs to another organization");
    Err(StoreError::invalid(field, "membership_of_another_organization", message))
}

fn invalid(field: &str, code: &'static str, message: String) -> StoreError {
    StoreError::Unprocessable {
        code: "invalid_request_parameters",
        message: message.into(),
        errors: vec![FieldError::new(field, code)],
    }
}
