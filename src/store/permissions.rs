//! Permissions of the environment (WorkOS contract, section 1.1).

use async_trait::async_trait;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::api::Operation;
use super::error::StoreError;
use super::extract::{Body, Path, Query};
use super::fields::{Description, Name, Patch, patch};
use super::keys::Author;
use super::page::{Listing, PageQuery};
use super::time::Millis;
use super::transaction::{Reply, Transaction, Write};
use super::writer::Committed;
use super::{Store, roles};
use crate::domain::record::{self, CatalogKey};
use crate::domain::{CatalogRecord, PermissionSlug, ResourceTypeSlug};
use crate::wire::api::{List, Permission};

/// What [`read`] reads.
pub(super) const COLUMNS: &str =
    "SELECT id, slug, name, description, resource_type_slug, is_system, created_at, updated_at FROM permissions";

pub(super) fn operations() -> Vec<Operation> {
    const ALL: &str = "/authorization/permissions";
    const ONE: &str = "/authorization/permissions/{slug}";
    vec![
        Operation::get(ALL, "listPermissions", list).asks::<PageQuery>().gives::<List<Permission>>(200),
        Operation::post(ALL, "createPermission", create)
            .takes::<NewPermission>()
            .gives::<Permission>(201)
            .fails(&[409]),
        Operation::get(ONE, "getPermission", get).gives::<Permission>(200),
        Operation::patch(ONE, "updatePermission", update).takes::<PermissionChanges>().gives::<Permission>(200),
        Operation::delete(ONE, "deletePermission", delete),
    ]
}

/// A permission to be.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct NewPermission {
    slug: PermissionSlug,
    name: Name,
    #[serde(default)]
    description: Option<Description>,
    /// `organization` when absent.
    #[serde(default)]
    resource_type_slug: Option<ResourceTypeSlug>,
}

/// What may be changed of a permission.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct PermissionChanges {
    #[serde(default)]
    name: Option<Name>,
    #[serde(default, deserialize_with = "patch")]
    description: Patch<Description>,
}

struct UpdatePermission {
    slug: PermissionSlug,
    changes: PermissionChanges,
}

struct DeletePermission(PermissionSlug);

async fn list(
    State(store): State<Store>,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<List<Permission>>, StoreError> {
    let mut connection = store.read().await?;
    Ok(axum::Json(Listing::of(COLUMNS).page(&mut connection, &page, read).await?))
}

async fn get(
    State(store): State<Store>,
    Path(slug): Path<PermissionSlug>,
) -> Result<axum::Json<Permission>, StoreError> {
    let mut connection = store.read().await?;
    Ok(axum::Json(find(&mut connection, &slug).await?))
}

async fn create(
    State(store): State<Store>,
    author: Author,
    Body(new): Body<NewPermission>,
) -> Result<Committed, StoreError> {
    store.write(author, new).await
}

async fn update(
    State(store): State<Store>,
    author: Author,
    Path(slug): Path<PermissionSlug>,
    Body(changes): Body<PermissionChanges>,
) -> Result<Committed, StoreError> {
    store.write(author, UpdatePermission { slug, changes }).await
}

async fn delete(
    State(store): State<Store>,
    author: Author,
    Path(slug): Path<PermissionSlug>,
) -> Result<Committed, StoreError> {
    store.write(author, DeletePermission(slug)).await
}

#[async_trait]
impl Write for NewPermission {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        if look_up(tx.connection, &self.slug).await?.is_some() {
            let message = format!("a permission `{}` exists already", self.slug);
            return Err(StoreError::conflict("permission_slug_conflict", message));
        }
        let resource_type = self.resource_type_slug.clone().unwrap_or_else(ResourceTypeSlug::organization);
        super::model::require_resource_type(tx.connection, &resource_type).await?;
        let description = self.description.as_ref().map(Description::as_str);
        let permission = insert(tx, &self.slug, self.name.as_str(), description, &resource_type).await?;
        Reply::created(&permission)
    }
}

#[async_trait]
impl Write for UpdatePermission {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let before = find(tx.connection, &self.slug).await?;
        let name = self.changes.name.as_ref().map_or(before.name.as_str(), Name::as_str);
        let description = match &self.changes.description {
            None => before.description.as_deref(),
            Some(description) => description.as_ref().map(Description::as_str),
        };
        if (name, description) == (before.name.as_str(), before.description.as_deref()) {
            return Reply::ok(&before);
        }
        Reply::ok(&describe(tx, &self.slug, name, description).await?)
    }
}

#[async_trait]
impl Write for DeletePermission {
    /// The permission leaves every role (WorkOS contract R26).
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let permission = find(tx.connection, &self.0).await?;
        if permission.system {
            return Err(StoreError::Forbidden("a system permission cannot be deleted".into()));
        }
        remove(tx, &self.0, &permission).await?;
        Ok(Reply::no_content())
    }
}

/// Declares a permission. There must be none with this slug.
pub(super) async fn insert(
    tx: &mut Transaction<'_>,
    slug: &PermissionSlug,
    name: &str,
    description: Option<&str>,
    resource_type: &ResourceTypeSlug,
) -> Result<Permission, StoreError> {
    let statement = "INSERT INTO permissions \
                     (id, slug, name, description, resource_type_slug, is_system, created_at, updated_at) \
                     VALUES ($1, $2, $3, $4, $5, 0, $6, $6)";
    let statement = sqlx::query(statement)
        .bind(tx.id("perm_"))
        .bind(slug.clone())
        .bind(name.to_owned())
        .bind(description.map(ToOwned::to_owned))
        .bind(resource_type.clone())
        .bind(tx.now().0);
    tx.execute(statement).await?;
    let record = record::Permission { slug: slug.clone(), resource_type: resource_type.clone() };
    tx.put_catalog(CatalogRecord::Permission(record));
    let permission = find(tx.connection, slug).await?;
    tx.event("permission.created", None, &permission)?;
    Ok(permission)
}

/// Gives a permission another name and description.
pub(super) async fn describe(
    tx: &mut Transaction<'_>,
    slug: &PermissionSlug,
    name: &str,
    description: Option<&str>,
) -> Result<Permission, StoreError> {
    let statement = sqlx::query("UPDATE permissions SET name = $1, description = $2, updated_at = $3 WHERE slug = $4")
        .bind(name.to_owned())
        .bind(description.map(ToOwned::to_owned))
        .bind(tx.now().0)
        .bind(slug.clone());
    tx.execute(statement).await?;
    let permission = find(tx.connection, slug).await?;
    tx.event("permission.updated", None, &permission)?;
    Ok(permission)
}

/// Takes a permission out of every role and deletes it.
pub(super) async fn remove(
    tx: &mut Transaction<'_>,
    slug: &PermissionSlug,
    permission: &Permission,
) -> Result<(), StoreError> {
    roles::forget_permission(tx, slug).await?;
    tx.execute(sqlx::query("DELETE FROM permissions WHERE slug = $1").bind(slug.clone())).await?;
    tx.delete_catalog(CatalogKey::Permission(slug.clone()));
    tx.event("permission.deleted", None, permission)
}

/// The permission with this slug.
///
/// # Errors
/// [`StoreError::NotFound`]
pub(super) async fn find(connection: &mut AnyConnection, slug: &PermissionSlug) -> Result<Permission, StoreError> {
    look_up(connection, slug).await?.ok_or_else(|| StoreError::not_found("permission", slug))
}

async fn look_up(connection: &mut AnyConnection, slug: &PermissionSlug) -> Result<Option<Permission>, StoreError> {
    let statement = sqlx::AssertSqlSafe(format!("{COLUMNS} WHERE slug = $1"));
    let row = sqlx::query(statement).bind(slug.clone()).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

pub(super) fn read(row: &AnyRow) -> Result<Permission, StoreError> {
    Ok(Permission {
        id: row.try_get("id")?,
        slug: row.try_get("slug")?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        system: row.try_get::<i64, _>("is_system")? != 0,
        resource_type_slug: row.try_get("resource_type_slug")?,
        created_at: Millis(row.try_get("created_at")?).to_string(),
        updated_at: Millis(row.try_get("updated_at")?).to_string(),
    })
}
