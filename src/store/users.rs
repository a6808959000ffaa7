//! Users (WorkOS contract, section 1.10). Who they are is their address, in lower case; what they may do hangs on their memberships.

use std::collections::HashMap;

use async_trait::async_trait;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::api::Operation;
use super::attributes::Metadata;
use super::database::Engine;
use super::error::{FieldError, StoreError};
use super::extract::{Body, Path, Query};
use super::fields::{FreeText, Patch, patch};
use super::keys::Author;
use super::page::{Listing, PageQuery};
use super::revocations::{self, Revoked};
use super::rows::read_all;
use super::time::Millis;
use super::transaction::{Reply, Transaction, Write};
use super::writer::Committed;
use super::{Store, memberships};
use crate::domain::{ExternalId, OrganizationId, UserId};
use crate::wire::api::{List, User};

const COLUMNS: &str = "SELECT id, email, first_name, last_name, name, profile_picture_url, email_verified, external_id, \
                       metadata, locale, last_sign_in_at, created_at, updated_at FROM users";
/// Bytes that an address may have (RFC 5321, section 4.5.3.1.3).
const LONGEST_EMAIL: usize = 254;

pub(super) fn operations() -> Vec<Operation> {
    const ALL: &str = "/user_management/users";
    const ONE: &str = "/user_management/users/{id}";
    vec![
        Operation::get(ALL, "listUsers", list).asks::<ListQuery>().gives::<List<User>>(200),
        Operation::post(ALL, "createUser", create).takes::<NewUser>().gives::<User>(201),
        Operation::get(ONE, "getUser", get).gives::<User>(200),
        Operation::get("/user_management/users/external_id/{external_id}", "getUserByExternalId", get_external)
            .gives::<User>(200),
        Operation::put(ONE, "updateUser", update).takes::<UserChanges>().gives::<User>(200),
        Operation::delete(ONE, "deleteUser", delete).gives_nothing(200),
    ]
}

/// Which users.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct ListQuery {
    /// The one with this address.
    #[serde(default)]
    email: Option<String>,
    /// Those with a membership there, whatever its status.
    #[serde(default)]
    organization_id: Option<OrganizationId>,
    /// Deprecated: `organization_id`.
    #[serde(default)]
    organization: Option<OrganizationId>,
    #[serde(flatten)]
    page: PageQuery,
}

/// A user to be. Passwords are not kept here, and ignored.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct NewUser {
    email: Email,
    #[serde(default)]
    first_name: Option<FreeText<255>>,
    #[serde(default)]
    last_name: Option<FreeText<255>>,
    #[serde(default)]
    name: Option<FreeText<255>>,
    #[serde(default)]
    email_verified: Option<bool>,
    #[serde(default)]
    metadata: Option<Metadata>,
    #[serde(default)]
    external_id: Option<ExternalId>,
}

/// What may be changed of a user.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct UserChanges {
    #[serde(default)]
    email: Option<String>,
    #[serde(default, deserialize_with = "patch")]
    first_name: Patch<FreeText<255>>,
    #[serde(default, deserialize_with = "patch")]
    last_name: Patch<FreeText<255>>,
    #[serde(default, deserialize_with = "patch")]
    name: Patch<FreeText<255>>,
    #[serde(default)]
    email_verified: Option<bool>,
    /// Put over what is there; a key with an empty text is taken away, `null` takes all away.
    #[serde(default, deserialize_with = "patch")]
    metadata: Patch<Metadata>,
    #[serde(default, deserialize_with = "patch")]
    external_id: Patch<ExternalId>,
    #[serde(default, deserialize_with = "patch")]
    locale: Patch<FreeText<64>>,
}

/// An address, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
struct Email(String);

struct UpdateUser {
    id: UserId,
    changes: UserChanges,
}

struct DeleteUser(UserId);

impl TryFrom<String> for Email {
    type Error = &'static str;

    /// Something on both sides of an `@`, without spaces: the rest is known to whoever delivers mail.
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let text = text.to_lowercase();
        let whole = text.rsplit_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
        let odd = |character: char| character.is_whitespace() || character.is_control();
        if whole && text.len() <= LONGEST_EMAIL && !text.contains(odd) {
            Ok(Self(text))
        } else {
            Err("invalid address: expected `name@example.com`")
        }
    }
}

async fn list(
    State(store): State<Store>,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<List<User>>, StoreError> {
    let mut conditions = Vec::new();
    let mut texts = Vec::new();
    if let Some(email) = &query.email {
        texts.push(email.to_lowercase());
        conditions.push(format!("email = ${}", texts.len()));
    }
    if let Some(organization) = query.organization_id.as_ref().or(query.organization.as_ref()) {
        texts.push(organization.to_string());
        let members = format!("SELECT user_id FROM memberships WHERE organization_id = ${}", texts.len());
        conditions.push(format!("id IN ({members})"));
    }
    let select = match conditions.as_slice() {
        [] => COLUMNS.to_owned(),
        conditions => format!("{COLUMNS} WHERE {}", conditions.join(" AND ")),
    };
    let listing = texts.into_iter().fold(Listing::of(select), Listing::bind);
    let mut connection = store.read().await?;
    Ok(axum::Json(listing.page(&mut connection, &query.page, read).await?))
}

async fn get(State(store): State<Store>, Path(id): Path<UserId>) -> Result<axum::Json<User>, StoreError> {
    let mut connection = store.read().await?;
    Ok(axum::Json(find(&mut connection, &id).await?))
}

async fn get_external(
    State(store): State<Store>,
    Path(external_id): Path<ExternalId>,
) -> Result<axum::Json<User>, StoreError> {
    let mut connection = store.read().await?;
    let found = by(&mut connection, "external_id", external_id.as_str()).await?;
    Ok(axum::Json(found.ok_or_else(|| StoreError::not_found("user", external_id))?))
}

async fn create(State(store): State<Store>, author: Author, Body(new): Body<NewUser>) -> Result<Committed, StoreError> {
    store.write(author, new).await
}

async fn update(
    State(store): State<Store>,
    author: Author,
    Path(id): Path<UserId>,
    Body(changes): Body<UserChanges>,
) -> Result<Committed, StoreError> {
    store.write(author, UpdateUser { id, changes }).await
}

async fn delete(State(store): State<Store>, author: Author, Path(id): Path<UserId>) -> Result<Committed, StoreError> {
    store.write(author, DeleteUser(id)).await
}

#[async_trait]
impl Write for NewUser {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let metadata = match &self.metadata {
            None => Map::new(),
            Some(metadata) => metadata.over(&Map::new())?,
        };
        let mut errors = Vec::new();
        if by(tx.connection, "email", &self.email.0).await?.is_some() {
            errors.push(FieldError::new("email", "email_not_available").saying("another user has it"));
        }
        if let Some(external_id) = &self.external_id
            && by(tx.connection, "external_id", external_id.as_str()).await?.is_some()
        {
            errors.push(FieldError::new("external_id", "external_id_already_used").saying("another user has it"));
        }
        if !errors.is_empty() {
            let message = "another user has this address or external id".into();
            return Err(StoreError::Rejected { code: "user_creation_error", message, errors });
        }
        let id = UserId::new(&tx.id("user_"))?;
        let statement = "INSERT INTO users (id, email, first_name, last_name, name, email_verified, external_id, \
                         metadata, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)";
        let statement = sqlx::query(statement)
            .bind(id.clone())
            .bind(self.email.0.clone())
            .bind(text(self.first_name.as_ref()))
            .bind(text(self.last_name.as_ref()))
            .bind(text(self.name.as_ref()))
            .bind(i64::from(self.email_verified.unwrap_or(false)))
            .bind(self.external_id.clone())
            .bind(serde_json::to_string(&metadata)?)
            .bind(tx.now().0);
        tx.execute(statement).await?;
        let user = find(tx.connection, &id).await?;
        tx.event("user.created", None, &user)?;
        Reply::created(&user)
    }
}

#[async_trait]
impl Write for UpdateUser {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let before = find(tx.connection, &self.id).await?;
        let changes = &self.changes;
        let mut after = before.clone();
        if let Some(email) = &changes.email {
            let Email(email) =
                Email::try_from(email.clone()).map_err(|message| rejected("invalid_email", "email", message))?;
            if by(tx.connection, "email", &email).await?.is_some_and(|other| other.id != before.id) {
                return Err(rejected("email_not_available", "email", "another user has this address"));
            }
            after.email = email;
        }
        if let Some(name) = &changes.first_name {
            after.first_name = text(name.as_ref());
        }
        if let Some(name) = &changes.last_name {
            after.last_name = text(name.as_ref());
        }
        if let Some(name) = &changes.name {
            after.name = text(name.as_ref());
        }
        if let Some(locale) = &changes.locale {
            after.locale = text(locale.as_ref());
        }
        // Another address is not proven to be theirs because the one before was.
        after.email_verified = changes.email_verified.unwrap_or(before.email_verified && after.email == before.email);
        match &changes.metadata {
            None => {}
            Some(None) => after.metadata = Map::new(),
            Some(Some(metadata)) => after.metadata = metadata.over(&before.metadata)?,
        }
        if let Some(external_id) = &changes.external_id {
            if let Some(external_id) = external_id {
                let other = by(tx.connection, "external_id", external_id.as_str()).await?;
                if other.is_some_and(|other| other.id != before.id) {
                    let message = "another user has this external id";
                    return Err(rejected("external_id_already_used", "external_id", message));
                }
            }
            after.external_id = external_id.as_ref().map(ToString::to_string);
        }
        if after == before {
            return Reply::ok(&before);
        }
        let statement = "UPDATE users SET email = $1, first_name = $2, last_name = $3, name = $4, email_verified = $5, \
                         external_id = $6, metadata = $7, locale = $8, updated_at = $9 WHERE id = $10";
        let statement = sqlx::query(statement)
            .bind(after.email)
            .bind(after.first_name)
            .bind(after.last_name)
            .bind(after.name)
            .bind(i64::from(after.email_verified))
            .bind(after.external_id)
            .bind(serde_json::to_string(&after.metadata)?)
            .bind(after.locale)
            .bind(tx.now().0)
            .bind(self.id.clone());
        tx.execute(statement).await?;
        let user = find(tx.connection, &self.id).await?;
        tx.event("user.updated", None, &user)?;
        Reply::ok(&user)
    }
}

#[async_trait]
impl Write for DeleteUser {
    /// With the user go the memberships, and with them everything that hangs on them (WorkOS contract R46).
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let user = find(tx.connection, &self.0).await?;
        memberships::remove_all_of(tx, &self.0).await?;
        tx.execute(sqlx::query("DELETE FROM sessions WHERE user_id = $1").bind(self.0.clone())).await?;
        tx.execute(sqlx::query("DELETE FROM users WHERE id = $1").bind(self.0.clone())).await?;
        revocations::revoke(tx, Revoked::User(&self.0)).await?;
        tx.event("user.deleted", None, &user)?;
        Ok(Reply::empty())
    }
}

/// The user with this id.
///
/// # Errors
/// [`StoreError::NotFound`]
pub(super) async fn find(connection: &mut AnyConnection, id: &UserId) -> Result<User, StoreError> {
    by(connection, "id", id.as_str()).await?.ok_or_else(|| StoreError::not_found("user", id))
}

/// The users with these ids, by id; those that are not there are left out.
pub(super) async fn find_all(
    connection: &mut AnyConnection,
    engine: Engine,
    ids: &[&str],
) -> Result<HashMap<String, User>, StoreError> {
    let text = AssertSqlSafe(format!("{COLUMNS} WHERE id IN ({})", engine.texts_of(1)));
    let statement = sqlx::query(text).bind(serde_json::to_string(ids)?);
    let users = read_all(connection, statement, read).await?;
    Ok(users.into_iter().map(|user| (user.id.clone(), user)).collect())
}

async fn by(connection: &mut AnyConnection, column: &'static str, value: &str) -> Result<Option<User>, StoreError> {
    let statement = AssertSqlSafe(format!("{COLUMNS} WHERE {column} = $1"));
    let row = sqlx::query(statement).bind(value.to_owned()).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

fn rejected(code: &'static str, field: &str, message: &'static str) -> StoreError {
    StoreError::Rejected { code, message: message.into(), errors: vec![FieldError::new(field, code)] }
}

fn text<const MAX: usize>(text: Option<&FreeText<MAX>>) -> Option<String> {
    text.map(|text| text.as_str().to_owned())
}

fn read(row: &AnyRow) -> Result<User, StoreError> {
    let metadata: Map<String, Value> = serde_json::from_str(&row.try_get::<String, _>("metadata")?)?;
    Ok(User {
        id: row.try_get("id")?,
        email: row.try_get("email")?,
        first_name: row.try_get("first_name")?,
        last_name: row.try_get("last_name")?,
        name: row.try_get("name")?,
        profile_picture_url: row.try_get("profile_picture_url")?,
        email_verified: row.try_get::<i64, _>("email_verified")? != 0,
        external_id: row.try_get("external_id")?,
        metadata,
        last_sign_in_at: row.try_get::<Option<i64>, _>("last_sign_in_at")?.map(|at| Millis(at).to_string()),
        locale: row.try_get("locale")?,
        created_at: Millis(row.try_get("created_at")?).to_string(),
        updated_at: Millis(row.try_get("updated_at")?).to_string(),
    })
}
