//! An organization's own default role and its own order of priority (WorkOS contract R21, our decision D20).

use async_trait::async_trait;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{AnyConnection, Row};

use super::stored::{self, StoredRole};
use super::{Order, resolve_organization_wide};
use crate::domain::record::{OrganizationKey, OrganizationSettings};
use crate::domain::{OrganizationId, OrganizationRecord, RoleId, RoleSlug};
use crate::store::Store;
use crate::store::api::Operation;
use crate::store::error::StoreError;
use crate::store::extract::{Body, Path};
use crate::store::keys::Author;
use crate::store::transaction::{Reply, Transaction, Write};
use crate::store::writer::Committed;

pub(super) fn operations() -> Vec<Operation> {
    const PATH: &str = "/portcullis/v1/organizations/{organization_id}/settings";
    vec![
        Operation::get(PATH, "getOrganizationSettings", get).gives::<SettingsAnswer>(200),
        Operation::put(PATH, "setOrganizationSettings", set).takes::<NewSettings>().gives::<SettingsAnswer>(200),
    ]
}

/// What an organization decides for itself.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "object", rename = "organization_settings")]
struct SettingsAnswer {
    /// Whose.
    organization_id: OrganizationId,
    /// Its own default role; null when the environment's counts.
    default_role: Option<RoleSlug>,
    /// Its own order, highest priority first: all roles it can see; null when the environment's order counts.
    priorities: Option<Vec<RoleSlug>>,
}

/// What an organization decides for itself, from now on.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewSettings {
    /// An organization-wide role; without it the environment's default role counts.
    #[serde(default)]
    default_role: Option<RoleSlug>,
    /// Roles, highest priority first; those that are left out come after. Without it the environment's order counts.
    #[serde(default)]
    priorities: Option<Vec<RoleSlug>>,
}

struct SetSettings {
    organization: OrganizationId,
    new: NewSettings,
}

async fn get(
    State(store): State<Store>,
    Path(organization): Path<OrganizationId>,
) -> Result<axum::Json<SettingsAnswer>, StoreError> {
    let mut connection = store.read().await?;
    Ok(axum::Json(answer(&mut connection, &organization).await?))
}

async fn set(
    State(store): State<Store>,
    author: Author,
    Path(organization): Path<OrganizationId>,
    Body(new): Body<NewSettings>,
) -> Result<Committed, StoreError> {
    store.write(author, SetSettings { organization, new }).await
}

#[async_trait]
impl Write for SetSettings {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let before = Own::of(tx.connection, &self.organization).await?;
        let mut next = Own::default();
        if let Some(slug) = &self.new.default_role {
            let role = resolve_organization_wide(tx.connection, &self.organization, slug, "default_role").await?;
            next.default_role = Some(role.id);
        }
        if let Some(slugs) = &self.new.priorities {
            let mut roles = Vec::with_capacity(slugs.len());
            for (place, slug) in slugs.iter().enumerate() {
                let id = super::resolve(tx.connection, &self.organization, slug).await?.id;
                if roles.contains(&id) {
                    let field = format!("priorities.{place}");
                    return Err(StoreError::invalid(&field, "duplicate", format!("role `{slug}` is listed twice")));
                }
                roles.push(id);
            }
            next.priorities = Some(roles);
        }
        next.save(tx, &self.organization, &before).await?;
        Reply::ok(&answer(tx.connection, &self.organization).await?)
    }
}

/// An organization's own default role and order, as stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) default_role: Option<RoleId>,
    pub(super) priorities: Option<Vec<RoleId>>,
}

impl Own {
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such organization.
    pub(super) async fn of(connection: &mut AnyConnection, organization: &OrganizationId) -> Result<Self, StoreError> {
        let statement = "SELECT default_role, priorities FROM organizations WHERE id = $1";
        let row = sqlx::query(statement).bind(organization.clone()).fetch_optional(connection).await?;
        let row = row.ok_or_else(|| StoreError::not_found("organization", organization))?;
        let priorities: Option<String> = row.try_get("priorities")?;
        Ok(Self {
            default_role: row.try_get("default_role")?,
            priorities: priorities.map(|text| serde_json::from_str(&text)).transpose()?,
        })
    }

    /// Stores it where `before` was, and notes it in the log.
    pub(super) async fn save(
        &self,
        tx: &mut Transaction<'_>,
        organization: &OrganizationId,
        before: &Self,
    ) -> Result<(), StoreError> {
        if self == before {
            return Ok(());
        }
        let priorities = self.priorities.as_ref().map(serde_json::to_string).transpose()?;
        let statement = sqlx::query("UPDATE organizations SET default_role = $1, priorities = $2 WHERE id = $3")
            .bind(self.default_role.clone())
            .bind(priorities)
            .bind(organization.clone());
        tx.execute(statement).await?;
        let details = json!({"default_role": self.default_role, "priorities": self.priorities});
        tx.audit("organization_settings.updated", Some(organization), details);
        let record = OrganizationSettings {
            default_role: self.default_role.clone(),
            priorities: self.priorities.clone().unwrap_or_default(),
        };
        if record == OrganizationSettings::default() {
            tx.delete(organization, OrganizationKey::Settings);
        } else {
            tx.put(organization, OrganizationRecord::Settings(record));
        }
        Ok(())
    }
}

/// Gives the organization's first custom role a place: from then on the organization has its own default role and its own order. Later
/// custom roles go to the end of that order, after the environment roles that came meanwhile.
pub(super) async fn enlist(
    tx: &mut Transaction<'_>,
    organization: &OrganizationId,
    role: &RoleId,
    is_first: bool,
) -> Result<(), StoreError> {
    let before = Own::of(tx.connection, organization).await?;
    if before.priorities.is_none() && !is_first {
        return Ok(());
    }
    let mut next = before.clone();
    if before.priorities.is_none() {
        next.default_role = super::default_of(tx.connection, organization).await?;
    }
    let order = next.priorities.get_or_insert_default();
    let environment = stored::of_environment(tx.connection).await?;
    for id in environment.iter().map(|role| &role.id).chain([role]) {
        if !order.contains(id) {
            order.push(id.clone());
        }
    }
    next.save(tx, organization, &before).await
}

/// Takes roles out of the settings of every organization. One whose default role is among them falls back to the environment's.
pub(super) async fn forget(tx: &mut Transaction<'_>, roles: &[RoleId]) -> Result<(), StoreError> {
    let statement = "SELECT id FROM organizations WHERE default_role IS NOT NULL OR priorities IS NOT NULL ORDER BY id";
    let organizations: Vec<OrganizationId> =
        crate::store::rows::read_all(tx.connection, sqlx::query(statement), |row| Ok(row.try_get("id")?)).await?;
    for organization in &organizations {
        let before = Own::of(tx.connection, organization).await?;
        let mut next = before.clone();
        next.default_role = next.default_role.filter(|role| !roles.contains(role));
        if let Some(order) = &mut next.priorities {
            order.retain(|role| !roles.contains(role));
        }
        next.save(tx, organization, &before).await?;
    }
    Ok(())
}

async fn answer(connection: &mut AnyConnection, organization: &OrganizationId) -> Result<SettingsAnswer, StoreError> {
    let own = Own::of(connection, organization).await?;
    let roles = visible(connection, organization).await?;
    let default_role = roles.iter().find(|role| Some(&role.id) == own.default_role.as_ref());
    let default_role = default_role.map(|role| role.slug.clone());
    let priorities = own.priorities.map(|_| roles.iter().map(|role| role.slug.clone()).collect());
    Ok(SettingsAnswer { organization_id: organization.clone(), default_role, priorities })
}

/// The roles that an organization can see: the environment's and its own, highest priority first.
pub(super) async fn visible(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
) -> Result<Vec<StoredRole>, StoreError> {
    let mut roles = stored::of_environment(connection).await?;
    roles.extend(stored::of_organization(connection, organization).await?);
    Order::of(connection, organization).await?.sort(&mut roles);
    Ok(roles)
}
