//! The model of the environment: resource types, settings, and the file that declares them all.

mod apply;
mod difference;
mod plan;
mod read;
mod types;

use async_trait::async_trait;
use axum::extract::State;
use sqlx::AnyConnection;

use self::difference::Difference;
use self::read::Stored;
use super::Store;
use super::api::Operation;
use super::error::StoreError;
use super::extract::Body;
use super::keys::Author;
use super::transaction::{Reply, Transaction, Write};
use super::writer::Committed;
use crate::domain::record::{EnvironmentRole, EnvironmentSettings, RoleMode};
use crate::domain::{CatalogRecord, ResourceTypeSlug, RoleId, RoleSlug};
use crate::wire::Model;

pub(super) use types::types;

pub(super) fn operations() -> Vec<Operation> {
    const MODEL: &str = "/portcullis/v1/model";
    vec![
        Operation::get(MODEL, "getModel", get).gives::<Model>(200),
        Operation::put(MODEL, "setModel", set).takes::<Model>().gives::<Model>(200).fails(&[409]),
        Operation::post("/portcullis/v1/model/plan", "planModel", plan::plan)
            .takes::<Model>()
            .gives::<plan::Plan>(200)
            .fails(&[409]),
    ]
}

async fn get(State(store): State<Store>) -> Result<axum::Json<Model>, StoreError> {
    let mut connection = store.read().await?;
    Ok(axum::Json(Stored::read(&mut connection).await?.model()))
}

async fn set(State(store): State<Store>, author: Author, Body(model): Body<Model>) -> Result<Committed, StoreError> {
    store.write(author, PutModel(model)).await
}

/// The whole model in place of the one before: what it does not name goes.
pub(super) struct PutModel(pub(super) Model);

#[async_trait]
impl Write for PutModel {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        difference::validate(&self.0)?;
        let before = Stored::read(tx.connection).await?;
        let now = tx.now();
        let difference = Difference::between(before, &self.0, now, |_| Ok(tx.id("role_").parse()?))?;
        difference.check(tx.connection).await?;
        apply::apply(tx, &difference).await?;
        Reply::ok(&Stored::read(tx.connection).await?.model())
    }
}

/// What every environment begins with: single-role mode and the role `member`, the default one (WorkOS contract R16).
pub(super) struct Seed;

#[async_trait]
impl Write for Seed {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let settings = sqlx::query("SELECT one FROM settings").fetch_optional(&mut *tx.connection).await?;
        if settings.is_some() {
            return Ok(Reply::no_content());
        }
        let now = tx.now();
        let role = RoleId::new(&tx.id("role_"))?;
        let statement = "INSERT INTO roles (id, slug, name, resource_type_slug, priority, created_at, updated_at) \
                         VALUES ($1, 'member', 'Member', 'organization', 0, $2, $2)";
        tx.execute(sqlx::query(statement).bind(role.clone()).bind(now.0)).await?;
        let statement = "INSERT INTO settings (one, role_mode, default_role, external_ids) VALUES (1, 'single', $1, 'per_organization')";
        tx.execute(sqlx::query(statement).bind(role.clone())).await?;
        tx.put_catalog(CatalogRecord::Role(EnvironmentRole {
            id: role.clone(),
            slug: RoleSlug::new("member")?,
            resource_type: ResourceTypeSlug::organization(),
            priority: 0,
            permissions: Vec::new(),
        }));
        let settings = EnvironmentSettings { role_mode: RoleMode::Single, default_role: Some(role) };
        tx.put_catalog(CatalogRecord::Settings(settings));
        Ok(Reply::no_content())
    }
}

/// # Errors
/// [`StoreError::NotFound`] when there is no such resource type.
pub(super) async fn require_resource_type(
    connection: &mut AnyConnection,
    slug: &ResourceTypeSlug,
) -> Result<(), StoreError> {
    if slug.is_organization() {
        return Ok(());
    }
    let statement = sqlx::query("SELECT slug FROM resource_types WHERE slug = $1").bind(slug.clone());
    match statement.fetch_optional(connection).await? {
        Some(_) => Ok(()),
        None => Err(StoreError::not_found("resource type", slug)),
    }
}
