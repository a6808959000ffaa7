//! Groups of memberships (WorkOS contract, section 1.9).

mod members;

use async_trait::async_trait;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::api::Operation;
use super::error::StoreError;
use super::extract::{Body, Path, Query};
use super::fields::{Description, Patch, Text, patch};
use super::group_assignments::{self, Of};
use super::keys::Author;
use super::page::{Listing, PageQuery};
use super::time::Millis;
use super::transaction::{Reply, Transaction, Write};
use super::writer::Committed;
use super::{Store, organizations};
use crate::domain::record::{self, OrganizationKey};
use crate::domain::{GroupId, OrganizationId, OrganizationRecord};
use crate::wire::api::{Group, List, Membership};

const COLUMNS: &str = "SELECT id, organization_id, name, description, created_at, updated_at FROM user_groups";

pub(super) fn operations() -> Vec<Operation> {
    const ALL: &str = "/organizations/{organizationId}/groups";
    const ONE: &str = "/organizations/{organizationId}/groups/{groupId}";
    const MEMBERS: &str = "/organizations/{organizationId}/groups/{groupId}/organization-memberships";
    vec![
        Operation::get(ALL, "listGroups", list).asks::<ListQuery>().gives::<List<Group>>(200),
        Operation::post(ALL, "createGroup", create).takes::<NewGroup>().gives::<Group>(201),
        Operation::get(ONE, "getGroup", get).gives::<Group>(200),
        Operation::patch(ONE, "updateGroup", update).takes::<GroupChanges>().gives::<Group>(200),
        Operation::delete(ONE, "deleteGroup", delete),
        Operation::get(MEMBERS, "listGroupOrganizationMemberships", members::list)
            .asks::<PageQuery>()
            .gives::<List<Membership>>(200),
        Operation::post(MEMBERS, "createGroupOrganizationMembership", members::add)
            .takes::<members::NewMember>()
            .gives::<Group>(200),
        Operation::patch(MEMBERS, "updateGroupOrganizationMemberships", members::change)
            .takes::<members::MemberChanges>()
            .gives_nothing(204),
        Operation::delete(
            "/organizations/{organizationId}/groups/{groupId}/organization-memberships/{omId}",
            "deleteGroupOrganizationMembership",
            members::remove,
        ),
        Operation::get(
            "/user_management/organization_memberships/{omId}/groups",
            "listGroupsForOrganizationMembership",
            members::groups_of,
        )
        .asks::<PageQuery>()
        .gives::<List<Group>>(200),
    ]
}

/// Which groups.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct ListQuery {
    /// Those with this in their name, and the one with this id.
    #[serde(default)]
    search: Option<String>,
    #[serde(flatten)]
    page: PageQuery,
}

/// A group to be.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct NewGroup {
    name: Text<256>,
    #[serde(default)]
    description: Option<Description>,
}

/// What may be changed of a group.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct GroupChanges {
    #[serde(default)]
    name: Option<Text<256>>,
    #[serde(default, deserialize_with = "patch")]
    description: Patch<Description>,
}

struct CreateGroup {
    organization: OrganizationId,
    new: NewGroup,
}

struct UpdateGroup {
    organization: OrganizationId,
    id: GroupId,
    changes: GroupChanges,
}

struct DeleteGroup {
    organization: OrganizationId,
    id: GroupId,
}

/// A group as other nouns need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupRow {
    pub(super) id: GroupId,
    pub(super) organization: OrganizationId,
    pub(super) name: String,
}

async fn list(
    State(store): State<Store>,
    Path(organization): Path<OrganizationId>,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<List<Group>>, StoreError> {
    let mut connection = store.read().await?;
    organizations::require(&mut connection, &organization).await?;
    let listing = match query.search.filter(|search| !search.is_empty()) {
        None => Listing::of(format!("{COLUMNS} WHERE organization_id = $1")).bind(&organization),
        Some(search) => {
            let select =
                format!("{COLUMNS} WHERE organization_id = $1 AND (lower(name) LIKE $2 ESCAPE '\\' OR id = $3)");
            let pattern = organizations::contains(&search.to_ascii_lowercase());
            Listing::of(select).bind(&organization).bind(pattern).bind(search)
        }
    };
    Ok(axum::Json(listing.page(&mut connection, &query.page, read).await?))
}

async fn get(
    State(store): State<Store>,
    Path((organization, id)): Path<(OrganizationId, GroupId)>,
) -> Result<axum::Json<Group>, StoreError> {
    let mut connection = store.read().await?;
    Ok(axum::Json(find_in(&mut connection, &organization, &id).await?))
}

async fn create(
    State(store): State<Store>,
    author: Author,
    Path(organization): Path<OrganizationId>,
    Body(new): Body<NewGroup>,
) -> Result<Committed, StoreError> {
    store.write(author, CreateGroup { organization, new }).await
}

async fn update(
    State(store): State<Store>,
    author: Author,
    Path((organization, id)): Path<(OrganizationId, GroupId)>,
    Body(changes): Body<GroupChanges>,
) -> Result<Committed, StoreError> {
    store.write(author, UpdateGroup { organization, id, changes }).await
}

async fn delete(
    State(store): State<Store>,
    author: Author,
    Path((organization, id)): Path<(OrganizationId, GroupId)>,
) -> Result<Committed, StoreError> {
    store.write(author, DeleteGroup { organization, id }).await
}

#[async_trait]
impl Write for CreateGroup {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        organizations::require(tx.connection, &self.organization).await?;
        let id = GroupId::new(&tx.id("group_"))?;
        let statement = "INSERT INTO user_groups (id, organization_id, name, description, created_at, updated_at) \
                         VALUES ($1, $2, $3, $4, $5, $5)";
        let statement = sqlx::query(statement)
            .bind(id.clone())
            .bind(self.organization.clone())
            .bind(self.new.name.as_str().to_owned())
            .bind(self.new.description.as_ref().map(|text| text.as_str().to_owned()))
            .bind(tx.now().0);
        tx.execute(statement).await?;
        tx.put(&self.organization, OrganizationRecord::Group(record::Group { id: id.clone() }));
        let group = find_in(tx.connection, &self.organization, &id).await?;
        tx.event("group.created", Some(&self.organization), &group)?;
        Reply::created(&group)
    }
}

#[async_trait]
impl Write for UpdateGroup {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let before = find_in(tx.connection, &self.organization, &self.id).await?;
        let name = self.changes.name.as_ref().map_or(before.name.as_str(), Text::as_str);
        let description = match &self.changes.description {
            None => before.description.as_deref(),
            Some(description) => description.as_ref().map(Description::as_str),
        };
        if (name, description) == (before.name.as_str(), before.description.as_deref()) {
            return Reply::ok(&before);
        }
        let statement =
            sqlx::query("UPDATE user_groups SET name = $1, description = $2, updated_at = $3 WHERE id = $4")
                .bind(name.to_owned())
                .bind(description.map(ToOwned::to_owned))
                .bind(tx.now().0)
                .bind(self.id.clone());
        tx.execute(statement).await?;
        let group = find_in(tx.connection, &self.organization, &self.id).await?;
        tx.event("group.updated", Some(&self.organization), &group)?;
        Reply::ok(&group)
    }
}

#[async_trait]
impl Write for DeleteGroup {
    /// Its role assignments go first, and with them what its members had through it (WorkOS contract R34).
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let group = find_in(tx.connection, &self.organization, &self.id).await?;
        let members = members::of(tx.connection, &self.id).await?;
        let before = members::before_losing(tx, &self.organization, &self.id, &members).await?;
        let held = group_assignments::of(tx, Of::Group(&self.id)).await?;
        group_assignments::remove(tx, &held).await?;
        members::take_out(tx, &self.organization, &self.id, &members).await?;
        tx.execute(sqlx::query("DELETE FROM user_groups WHERE id = $1").bind(self.id.clone())).await?;
        tx.delete(&self.organization, OrganizationKey::Group(self.id.clone()));
        tx.event("group.deleted", Some(&self.organization), &group)?;
        if let Some(before) = before {
            before.settle(tx).await?;
        }
        Ok(Reply::no_content())
    }
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

/// The group of this organization with this id; one of another organization is not there.
async fn find_in(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
    id: &GroupId,
) -> Result<Group, StoreError> {
    let statement = AssertSqlSafe(format!("{COLUMNS} WHERE id = $1 AND organization_id = $2"));
    let statement = sqlx::query(statement).bind(id.clone()).bind(organization.clone());
    let row = statement.fetch_optional(connection).await?;
    read(&row.ok_or_else(|| StoreError::not_found("group", id))?)
}

fn read(row: &AnyRow) -> Result<Group, StoreError> {
    Ok(Group {
        id: row.try_get("id")?,
        organization_id: row.try_get("organization_id")?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        created_at: Millis(row.try_get("created_at")?).to_string(),
        updated_at: Millis(row.try_get("updated_at")?).to_string(),
    })
}
