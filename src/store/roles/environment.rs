//! Roles of the environment (WorkOS contract, section 1.2), and their end, which WorkOS has in its dashboard only (R25).

use async_trait::async_trait;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use sqlx::{AnyConnection, Row};

use super::Removal;
use super::stored::{self, StoredRole};
use crate::domain::{PermissionSlug, ResourceTypeSlug, RoleSlug};
use crate::store::api::Operation;
use crate::store::error::StoreError;
use crate::store::extract::{Body, Path};
use crate::store::fields::{Description, Name, Patch, patch};
use crate::store::keys::Author;
use crate::store::memberships::Altered;
use crate::store::page::WholeList;
use crate::store::transaction::{Reply, Transaction, Write};
use crate::store::writer::Committed;
use crate::store::{Store, model, permissions};
use crate::wire::api::Role;

pub(super) fn operations() -> Vec<Operation> {
    const ALL: &str = "/authorization/roles";
    const ONE: &str = "/authorization/roles/{slug}";
    const PERMISSIONS: &str = "/authorization/roles/{slug}/permissions";
    vec![
        Operation::get(ALL, "listRoles", list).gives::<WholeList<Role>>(200),
        Operation::post(ALL, "createRole", create).takes::<NewRole>().gives::<Role>(201).fails(&[409]),
        Operation::get(ONE, "getRole", get).gives::<Role>(200),
        Operation::patch(ONE, "updateRole", update).takes::<RoleChanges>().gives::<Role>(200),
        Operation::put(PERMISSIONS, "setRolePermissions", set).takes::<PermissionList>().gives::<Role>(200),
        Operation::post(PERMISSIONS, "addRolePermission", add).takes::<OnePermission>().gives::<Role>(200),
        Operation::delete("/portcullis/v1/roles/{slug}", "deleteRole", delete).fails(&[409]),
    ]
}

/// A role to be.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(super) struct NewRole {
    slug: RoleSlug,
    name: Name,
    #[serde(default)]
    description: Option<Description>,
    /// `organization` when absent.
    #[serde(default)]
    resource_type_slug: Option<ResourceTypeSlug>,
}

/// What may be changed of a role.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(super) struct RoleChanges {
    #[serde(default)]
    pub(super) name: Option<Name>,
    #[serde(default, deserialize_with = "patch")]
    pub(super) description: Patch<Description>,
}

/// What a role permits, from now on.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(super) struct PermissionList {
    pub(super) permissions: Vec<PermissionSlug>,
}

/// A permission to be added.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(super) struct OnePermission {
    pub(super) slug: PermissionSlug,
}

struct UpdateRole {
    slug: RoleSlug,
    changes: RoleChanges,
}

struct SetPermissions {
    slug: RoleSlug,
    permissions: Vec<PermissionSlug>,
}

struct AddPermission {
    slug: RoleSlug,
    permission: PermissionSlug,
}

struct DeleteRole(RoleSlug);

async fn list(State(store): State<Store>) -> Result<axum::Json<WholeList<Role>>, StoreError> {
    let mut connection = store.read().await?;
    let roles = stored::of_environment(&mut connection).await?;
    Ok(axum::Json(WholeList { data: roles.iter().map(StoredRole::answer).collect() }))
}

async fn get(State(store): State<Store>, Path(slug): Path<RoleSlug>) -> Result<axum::Json<Role>, StoreError> {
    let mut connection = store.read().await?;
    Ok(axum::Json(find(&mut connection, &slug).await?.answer()))
}

async fn create(State(store): State<Store>, author: Author, Body(new): Body<NewRole>) -> Result<Committed, StoreError> {
    store.write(author, new).await
}

async fn update(
    State(store): State<Store>,
    author: Author,
    Path(slug): Path<RoleSlug>,
    Body(changes): Body<RoleChanges>,
) -> Result<Committed, StoreError> {
    store.write(author, UpdateRole { slug, changes }).await
}

async fn set(
    State(store): State<Store>,
    author: Author,
    Path(slug): Path<RoleSlug>,
    Body(PermissionList { permissions }): Body<PermissionList>,
) -> Result<Committed, StoreError> {
    store.write(author, SetPermissions { slug, permissions }).await
}

async fn add(
    State(store): State<Store>,
    author: Author,
    Path(slug): Path<RoleSlug>,
    Body(OnePermission { slug: permission }): Body<OnePermission>,
) -> Result<Committed, StoreError> {
    store.write(author, AddPermission { slug, permission }).await
}

async fn delete(
    State(store): State<Store>,
    author: Author,
    Path(slug): Path<RoleSlug>,
) -> Result<Committed, StoreError> {
    store.write(author, DeleteRole(slug)).await
}

#[async_trait]
impl Write for NewRole {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        require_free(tx.connection, &self.slug).await?;
        let resource_type = self.resource_type_slug.clone().unwrap_or_else(ResourceTypeSlug::organization);
        model::require_resource_type(tx.connection, &resource_type).await?;
        let last = "SELECT COALESCE(MAX(priority), -1) AS last FROM roles WHERE organization_id IS NULL";
        let last: i64 = sqlx::query(last).fetch_one(&mut *tx.connection).await?.try_get("last")?;
        let role = StoredRole {
            id: tx.id("role_").parse()?,
            organization: None,
            slug: self.slug.clone(),
            name: self.name.as_str().to_owned(),
            description: self.description.as_ref().map(|text| text.as_str().to_owned()),
            resource_type,
            priority: last + 1,
            permissions: Vec::new(),
            created_at: tx.now(),
            updated_at: tx.now(),
        };
        role.insert(tx).await?;
        Reply::created(&role.answer())
    }
}

#[async_trait]
impl Write for UpdateRole {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let before = find(tx.connection, &self.slug).await?;
        let next = before.described(self.changes.name.as_ref(), &self.changes.description);
        Reply::ok(&next.replace(tx, &before).await?.answer())
    }
}

#[async_trait]
impl Write for SetPermissions {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let before = find(tx.connection, &self.slug).await?;
        let next = before.permitting(tx.connection, &self.permissions).await?;
        Reply::ok(&next.replace(tx, &before).await?.answer())
    }
}

#[async_trait]
impl Write for AddPermission {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let before = find(tx.connection, &self.slug).await?;
        permissions::find(tx.connection, &self.permission).await?;
        let wanted: Vec<_> = before.permissions.iter().chain([&self.permission]).cloned().collect();
        let next = before.permitting(tx.connection, &wanted).await?;
        Reply::ok(&next.replace(tx, &before).await?.answer())
    }
}

#[async_trait]
impl Write for DeleteRole {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let role = find(tx.connection, &self.0).await?;
        let default = sqlx::query("SELECT default_role FROM settings WHERE default_role = $1").bind(role.id.clone());
        if default.fetch_optional(&mut *tx.connection).await?.is_some() {
            let message = format!("role `{}` is the default role: choose another one first", self.0);
            return Err(StoreError::conflict("role_is_default", message));
        }
        let altered = Altered::by_model(tx, std::slice::from_ref(&role.id), false).await?;
        let removal = Removal::prepare(tx, vec![role]).await?;
        removal.carry_out(tx).await?;
        altered.announce(tx).await?;
        Ok(Reply::no_content())
    }
}

/// The environment role with this slug.
///
/// # Errors
/// [`StoreError::NotFound`]
async fn find(connection: &mut AnyConnection, slug: &RoleSlug) -> Result<StoredRole, StoreError> {
    stored::in_environment(connection, slug).await?.ok_or_else(|| StoreError::not_found("role", slug))
}

/// No two roles that an organization can see have one slug (D17).
async fn require_free(connection: &mut AnyConnection, slug: &RoleSlug) -> Result<(), StoreError> {
    let taken = sqlx::query("SELECT organization_id FROM roles WHERE slug = $1 LIMIT 1").bind(slug.clone());
    let Some(row) = taken.fetch_optional(connection).await? else { return Ok(()) };
    let message = match row.try_get::<Option<String>, _>("organization_id")? {
        None => format!("a role `{slug}` exists already"),
        Some(organization) => format!("organization `{organization}` has a role `{slug}` of its own"),
    };
    Err(StoreError::conflict("role_slug_conflict", message))
}
