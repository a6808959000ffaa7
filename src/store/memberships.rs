//! Memberships: users in organizations (WorkOS contract, section 1.10).
//!
//! The organization roles of a membership are its role assignments on the root resource. The default role is one of them (R16): it is
//! assigned when the membership is made and nothing else was asked for.

mod altered;
mod deletion;
mod render;
mod roles;
mod status;

use async_trait::async_trait;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use sqlx::AnyConnection;
use sqlx::Row;

use self::deletion::DeleteMembership;
use self::roles::{RoleChoice, SetRoles};
use self::status::{Deactivate, Reactivate};
use super::api::Operation;
use super::database::Engine;
use super::error::StoreError;
use super::extract::{Body, Path, Query};
use super::keys::Author;
use super::page::{Listing, PageQuery};
use super::transaction::{Reply, Transaction, Write};
use super::writer::Committed;
use super::{Store, organizations, rows, users};
use crate::domain::record::{Member, MembershipStatus};
use crate::domain::{MembershipId, OrganizationId, OrganizationRecord, UserId};
use crate::wire::api::{List, Membership};

pub(super) use self::altered::Altered;
pub(super) use self::deletion::remove_all_of;
pub(super) use self::render::{Form, render, with_users};

pub(super) fn operations() -> Vec<Operation> {
    const ALL: &str = "/user_management/organization_memberships";
    const ONE: &str = "/user_management/organization_memberships/{id}";
    vec![
        Operation::get(ALL, "listOrganizationMemberships", list).asks::<ListQuery>().gives::<List<Membership>>(200),
        Operation::post(ALL, "createOrganizationMembership", create)
            .takes::<NewMembership>()
            .gives::<Membership>(201)
            .fails(&[409]),
        Operation::get(ONE, "getOrganizationMembership", get).gives::<Membership>(200),
        Operation::put(ONE, "updateOrganizationMembership", update).takes::<RoleChoice>().gives::<Membership>(200),
        Operation::delete(ONE, "deleteOrganizationMembership", delete).gives_nothing(200),
        Operation::put(
            "/user_management/organization_memberships/{id}/deactivate",
            "deactivateOrganizationMembership",
            deactivate,
        )
        .gives::<Membership>(200),
        Operation::put(
            "/user_management/organization_memberships/{id}/reactivate",
            "reactivateOrganizationMembership",
            reactivate,
        )
        .gives::<Membership>(200),
    ]
}

/// Which memberships.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct ListQuery {
    /// Those of this organization.
    #[serde(default)]
    organization_id: Option<OrganizationId>,
    /// Those of this user.
    #[serde(default)]
    user_id: Option<UserId>,
    /// `active`, `inactive`, `pending`, with commas between them; `active` when absent.
    #[serde(default)]
    statuses: Option<String>,
    #[serde(flatten)]
    page: PageQuery,
}

/// A membership to be.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct NewMembership {
    user_id: UserId,
    organization_id: OrganizationId,
    #[serde(flatten)]
    roles: RoleChoice,
}

/// A membership as other nouns need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MembershipRow {
    pub(super) organization: OrganizationId,
    pub(super) member: Member,
}

async fn list(
    State(store): State<Store>,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<List<Membership>>, StoreError> {
    let statuses = status::parse(query.statuses.as_deref().unwrap_or_default())?;
    let mut connection = store.read().await?;
    let mut conditions = Vec::new();
    let mut texts = Vec::new();
    if let Some(organization) = &query.organization_id {
        organizations::require(&mut connection, organization).await?;
        texts.push(organization.to_string());
        conditions.push(format!("organization_id = ${}", texts.len()));
    }
    if let Some(user) = &query.user_id {
        users::find(&mut connection, user).await?;
        texts.push(user.to_string());
        conditions.push(format!("user_id = ${}", texts.len()));
    }
    if conditions.is_empty() {
        return Err(StoreError::BadRequest {
            code: "missing_user_id_or_organization_id",
            message: "expected `organization_id`, `user_id` or both".into(),
        });
    }
    let engine = Engine::behind(&connection);
    texts.push(serde_json::to_string(&statuses)?);
    conditions.push(format!("status IN ({})", engine.texts_of(texts.len())));
    let select = format!("SELECT id, created_at FROM memberships WHERE {}", conditions.join(" AND "));
    let listing = texts.into_iter().fold(Listing::of(select), Listing::bind);
    let page = listing.page(&mut connection, &query.page, |row| Ok(row.try_get::<MembershipId, _>("id")?)).await?;
    let data = render(&mut connection, engine, &page.data, Form::Full).await?;
    Ok(axum::Json(List { data, list_metadata: page.list_metadata }))
}

async fn get(State(store): State<Store>, Path(id): Path<MembershipId>) -> Result<axum::Json<Membership>, StoreError> {
    let mut connection = store.read().await?;
    let engine = Engine::behind(&connection);
    Ok(axum::Json(render::one(&mut connection, engine, &id, Form::Full).await?))
}

async fn create(
    State(store): State<Store>,
    author: Author,
    Body(new): Body<NewMembership>,
) -> Result<Committed, StoreError> {
    store.write(author, new).await
}

async fn update(
    State(store): State<Store>,
    author: Author,
    Path(id): Path<MembershipId>,
    Body(roles): Body<RoleChoice>,
) -> Result<Committed, StoreError> {
    store.write(author, SetRoles { id, roles }).await
}

async fn delete(
    State(store): State<Store>,
    author: Author,
    Path(id): Path<MembershipId>,
) -> Result<Committed, StoreError> {
    store.write(author, DeleteMembership(id)).await
}

async fn deactivate(
    State(store): State<Store>,
    author: Author,
    Path(id): Path<MembershipId>,
) -> Result<Committed, StoreError> {
    store.write(author, Deactivate(id)).await
}

async fn reactivate(
    State(store): State<Store>,
    author: Author,
    Path(id): Path<MembershipId>,
) -> Result<Committed, StoreError> {
    store.write(author, Reactivate(id)).await
}

#[async_trait]
impl Write for NewMembership {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        organizations::require(tx.connection, &self.organization_id).await?;
        users::find(tx.connection, &self.user_id).await?;
        let chosen = roles::resolve(tx.connection, &self.organization_id, &self.roles).await?;
        if let Some(row) = find_of(tx.connection, &self.user_id, &self.organization_id).await? {
            if row.member.status == MembershipStatus::Active {
                let message = format!("the user has the membership `{}` in this organization already", row.member.id);
                return Err(StoreError::conflict("organization_membership_already_exists", message));
            }
            status::activate(tx, &row).await?;
            if let Some(chosen) = &chosen {
                roles::set(tx, &row, chosen).await?;
            }
            return Reply::created(&announce(tx, "organization_membership.updated", &row).await?);
        }
        let id = MembershipId::new(&tx.id("om_"))?;
        let statement = "INSERT INTO memberships (id, organization_id, user_id, status, directory_managed, \
                         custom_attributes, identity_provider_groups, created_at, updated_at) \
                         VALUES ($1, $2, $3, 'active', 0, '{}', '[]', $4, $4)";
        let statement = sqlx::query(statement)
            .bind(id.clone())
            .bind(self.organization_id.clone())
            .bind(self.user_id.clone())
            .bind(tx.now().0);
        tx.execute(statement).await?;
        let row = find(tx.connection, &id).await?;
        tx.put(&self.organization_id, OrganizationRecord::Member(row.member.clone()));
        let chosen = match chosen {
            Some(chosen) => chosen,
            None => super::roles::default_of(tx.connection, &self.organization_id).await?.into_iter().collect(),
        };
        roles::set(tx, &row, &chosen).await?;
        Reply::created(&announce(tx, "organization_membership.created", &row).await?)
    }
}

/// Publishes what became of a membership; answers its full form.
async fn announce(
    tx: &mut Transaction<'_>,
    event: &'static str,
    row: &MembershipRow,
) -> Result<Membership, StoreError> {
    let engine = tx.engine();
    let membership = render::one(tx.connection, engine, &row.member.id, Form::Full).await?;
    tx.event(event, Some(&row.organization), &Membership { user: None, ..membership.clone() })?;
    Ok(membership)
}

/// Publishes that the organization roles of a membership were changed.
pub(super) async fn updated(tx: &mut Transaction<'_>, id: &MembershipId) -> Result<(), StoreError> {
    let row = find(tx.connection, id).await?;
    announce(tx, "organization_membership.updated", &row).await?;
    Ok(())
}

/// The membership with this id.
///
/// # Errors
/// [`StoreError::NotFound`]
pub(super) async fn find(connection: &mut AnyConnection, id: &MembershipId) -> Result<MembershipRow, StoreError> {
    let statement =
        "SELECT id, organization_id, user_id, status, identity_provider_roles FROM memberships WHERE id = $1";
    let row = sqlx::query(statement).bind(id.clone()).fetch_optional(connection).await?;
    let row = row.ok_or_else(|| StoreError::not_found("organization membership", id))?;
    Ok(MembershipRow { organization: row.try_get("organization_id")?, member: rows::member(&row)? })
}

/// The membership of a user in an organization.
async fn find_of(
    connection: &mut AnyConnection,
    user: &UserId,
    organization: &OrganizationId,
) -> Result<Option<MembershipRow>, StoreError> {
    let statement = sqlx::query("SELECT id FROM memberships WHERE user_id = $1 AND organization_id = $2")
        .bind(user.clone())
        .bind(organization.clone());
    match statement.fetch_optional(&mut *connection).await? {
        None => Ok(None),
        Some(row) => find(connection, &row.try_get("id")?).await.map(Some),
    }
}
