//! Creating, changing, moving and deleting resources.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::hierarchy::{self, Below};
use super::target::Parent;
use super::{Place, ResourceRow, answer};
use crate::domain::record::{OrganizationKey, Resource};
use crate::domain::{ExternalId, OrganizationId, OrganizationRecord, ResourceId, ResourceTypeSlug};
use crate::store::error::StoreError;
use crate::store::fields::{Description, Name, Patch, patch};
use crate::store::transaction::{Reply, Transaction, Write};
use crate::store::{assignments, group_assignments, model, organizations};
use crate::wire;

/// A resource to be.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct NewResource {
    external_id: ExternalId,
    name: Name,
    #[serde(default)]
    description: Option<Description>,
    resource_type_slug: ResourceTypeSlug,
    organization_id: OrganizationId,
    /// The root when absent.
    #[serde(flatten)]
    parent: Parent,
}

/// What may be changed of a resource.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct ResourceChanges {
    #[serde(default)]
    name: Option<Name>,
    #[serde(default, deserialize_with = "patch")]
    description: Patch<Description>,
    /// The resource to move it below; excludes the other two.
    #[serde(default, deserialize_with = "patch")]
    parent_resource_id: Patch<ResourceId>,
    #[serde(default)]
    parent_resource_external_id: Option<ExternalId>,
    #[serde(default)]
    parent_resource_type_slug: Option<ResourceTypeSlug>,
}

pub(super) struct CreateResource {
    pub(super) new: NewResource,
    /// How many levels below the root there may be.
    pub(super) deepest: usize,
    /// How many of one type an organization may have.
    pub(super) most: u32,
}

pub(super) struct UpdateResource {
    pub(super) place: Place,
    pub(super) changes: ResourceChanges,
    /// How many levels below the root there may be.
    pub(super) deepest: usize,
}

pub(super) struct DeleteResource {
    pub(super) place: Place,
    pub(super) cascade: bool,
}

#[async_trait]
impl Write for CreateResource {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let NewResource { external_id, name, description, resource_type_slug, organization_id, parent } = &self.new;
        if resource_type_slug.is_organization() {
            return Err(root_stays());
        }
        if let Some(start) = wire::reserved_start(external_id.as_str()) {
            let message = format!("external id `{external_id}` begins with `{start}`, as ids of the store do");
            return Err(StoreError::invalid("external_id", "reserved_external_id", message));
        }
        organizations::require(tx.connection, organization_id).await?;
        model::require_resource_type(tx.connection, resource_type_slug).await?;
        let parent = match parent.is_absent() {
            true => super::root(tx.connection, organization_id).await?,
            false => parent.resolve(tx.connection, organization_id).await?,
        };
        hierarchy::require_parent_type(tx.connection, resource_type_slug, &parent).await?;
        hierarchy::require_depth(tx.connection, &parent.resource.id, 0, self.deepest).await?;
        require_free(tx.connection, organization_id, resource_type_slug, external_id).await?;
        require_room(tx.connection, organization_id, resource_type_slug, self.most).await?;
        let id = ResourceId::new(&tx.id("authz_resource_"))?;
        let statement = "INSERT INTO resources (id, organization_id, resource_type_slug, external_id, parent_id, name, \
                         description, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)";
        let statement = sqlx::query(statement)
            .bind(id.clone())
            .bind(organization_id.clone())
            .bind(resource_type_slug.clone())
            .bind(external_id.clone())
            .bind(parent.resource.id.clone())
            .bind(name.as_str().to_owned())
            .bind(description.as_ref().map(|text| text.as_str().to_owned()))
            .bind(tx.now().0);
        tx.execute(statement).await?;
        let record = Resource {
            id: id.clone(),
            resource_type: resource_type_slug.clone(),
            external_id: external_id.clone(),
            parent: Some(parent.resource.id),
        };
        tx.put(organization_id, OrganizationRecord::Resource(record));
        Reply::created(&answer(tx.connection, &id).await?)
    }
}

#[async_trait]
impl Write for UpdateResource {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let row = self.place.find(tx.connection).await?;
        let Some(old_parent) = row.resource.parent.clone() else { return Err(root_stays()) };
        let before = answer(tx.connection, &row.resource.id).await?;
        let name = self.changes.name.as_ref().map_or(before.name.as_str(), Name::as_str);
        let description = match &self.changes.description {
            None => before.description.as_deref(),
            Some(description) => description.as_ref().map(Description::as_str),
        };
        let parent = self.new_parent(tx.connection, &row).await?;
        let moved = parent.as_ref().is_some_and(|parent| *parent != old_parent);
        if !moved && (name, description) == (before.name.as_str(), before.description.as_deref()) {
            return Reply::ok(&before);
        }
        let parent = parent.unwrap_or(old_parent);
        let statement =
            "UPDATE resources SET name = $1, description = $2, parent_id = $3, updated_at = $4 WHERE id = $5";
        let statement = sqlx::query(statement)
            .bind(name.to_owned())
            .bind(description.map(ToOwned::to_owned))
            .bind(parent.clone())
            .bind(tx.now().0)
            .bind(row.resource.id.clone());
        tx.execute(statement).await?;
        if moved {
            let record = Resource { parent: Some(parent), ..row.resource.clone() };
            tx.put(&row.organization, OrganizationRecord::Resource(record));
        }
        Reply::ok(&answer(tx.connection, &row.resource.id).await?)
    }
}

impl UpdateResource {
    /// Where it is moved to, if it may stand there with everything below it.
    async fn new_parent(
        &self,
        connection: &mut AnyConnection,
        row: &ResourceRow,
    ) -> Result<Option<ResourceId>, StoreError> {
        let changes = &self.changes;
        if changes.parent_resource_id == Some(None) {
            let message = "`parent_resource_id`: a resource cannot be without a parent; name the root resource";
            return Err(StoreError::invalid("parent_resource_id", "invalid_parent_resource", message));
        }
        let parent = Parent {
            parent_resource_id: changes.parent_resource_id.clone().flatten(),
            parent_resource_external_id: changes.parent_resource_external_id.clone(),
            parent_resource_type_slug: changes.parent_resource_type_slug.clone(),
        };
        if parent.is_absent() {
            return Ok(None);
        }
        let parent = parent.resolve(connection, &row.organization).await?;
        if Some(&parent.resource.id) == row.resource.parent.as_ref() {
            return Ok(Some(parent.resource.id));
        }
        hierarchy::require_no_cycle(connection, &row.resource.id, &parent.resource.id).await?;
        hierarchy::require_parent_type(connection, &row.resource.resource_type, &parent).await?;
        let below = hierarchy::subtree(connection, &row.resource.id).await?;
        let height = below.first().map_or(0, |lowest| lowest.steps);
        hierarchy::require_depth(connection, &parent.resource.id, height, self.deepest).await?;
        Ok(Some(parent.resource.id))
    }
}

#[async_trait]
impl Write for DeleteResource {
    /// With `cascade` everything below goes too, and every assignment on any of it (WorkOS contract R39).
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let row = self.place.find(tx.connection).await?;
        if row.resource.parent.is_none() {
            return Err(root_stays());
        }
        if !self.cascade && has_dependents(tx.connection, &row.resource.id).await? {
            let message = "other resources or role assignments depend on it: remove them, or send cascade_delete=true";
            return Err(StoreError::conflict("resource_has_dependents", message));
        }
        let subtree = hierarchy::subtree(tx.connection, &row.resource.id).await?;
        remove(tx, &row.organization, &subtree).await?;
        Ok(Reply::no_content())
    }
}

/// Takes resources away, lowest first as they come, with every assignment on them.
async fn remove(tx: &mut Transaction<'_>, organization: &OrganizationId, rows: &[Below]) -> Result<(), StoreError> {
    let ids: Vec<ResourceId> = rows.iter().map(|row| row.id.clone()).collect();
    let held = assignments::of(tx, assignments::Of::Resources(&ids)).await?;
    assignments::remove(tx, &held).await?;
    let held = group_assignments::of(tx, group_assignments::Of::Resources(&ids)).await?;
    group_assignments::remove(tx, &held).await?;
    for level in rows.chunk_by(|one, next| one.steps == next.steps) {
        let ids: Vec<&ResourceId> = level.iter().map(|row| &row.id).collect();
        let text = format!("DELETE FROM resources WHERE id IN ({})", tx.engine().texts_of(1));
        tx.execute(sqlx::query(AssertSqlSafe(text)).bind(serde_json::to_string(&ids)?)).await?;
        for id in ids {
            tx.delete(organization, OrganizationKey::Resource(id.clone()));
        }
    }
    Ok(())
}

async fn has_dependents(connection: &mut AnyConnection, id: &ResourceId) -> Result<bool, StoreError> {
    let statement = "SELECT 1 AS one WHERE EXISTS (SELECT 1 FROM resources WHERE parent_id = $1) \
                     OR EXISTS (SELECT 1 FROM assignments WHERE resource_id = $1) \
                     OR EXISTS (SELECT 1 FROM group_assignments WHERE resource_id = $1)";
    Ok(sqlx::query(statement).bind(id.clone()).fetch_optional(connection).await?.is_some())
}

/// # Errors
/// [`StoreError::Conflict`] when another resource has this type and external id: of the same organization, or of any where external ids
/// are global.
async fn require_free(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
    resource_type: &ResourceTypeSlug,
    external_id: &ExternalId,
) -> Result<(), StoreError> {
    let statement = "SELECT organization_id FROM resources WHERE resource_type_slug = $1 AND external_id = $2 \
                     AND (organization_id = $3 OR EXISTS (SELECT 1 FROM settings WHERE external_ids = 'global')) LIMIT 1";
    let statement =
        sqlx::query(statement).bind(resource_type.clone()).bind(external_id.clone()).bind(organization.clone());
    let Some(row) = statement.fetch_optional(connection).await? else { return Ok(()) };
    let holder: OrganizationId = row.try_get("organization_id")?;
    let place = if holder == *organization { "" } else { " in another organization, and external ids are global" };
    let message = format!("a `{resource_type}` with external id `{external_id}` exists already{place}");
    Err(StoreError::conflict("authorization_resource_external_id_conflict", message))
}

/// # Errors
/// [`StoreError::Unprocessable`] when the organization has as many resources of the type as it may have (WorkOS contract R48).
async fn require_room(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
    resource_type: &ResourceTypeSlug,
    most: u32,
) -> Result<(), StoreError> {
    let statement = "SELECT COUNT(*) AS number FROM resources WHERE organization_id = $1 AND resource_type_slug = $2";
    let statement = sqlx::query(statement).bind(organization.clone()).bind(resource_type.clone());
    let number: i64 = statement.fetch_one(connection).await?.try_get("number")?;
    if number < i64::from(most) {
        return Ok(());
    }
    let message = format!("the organization has {number} resources of type `{resource_type}`, and may have {most}");
    Err(StoreError::invalid("resource_type_slug", "resource_limit_exceeded", message))
}

/// WorkOS contract R35.
fn root_stays() -> StoreError {
    StoreError::bad_request(
        "the resource of an organization comes and goes with it: it cannot be created, changed, moved or deleted",
    )
}
