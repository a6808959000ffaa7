//! How resources lie below one another: what may stand where, how deep, and what goes with what (WorkOS contract R36, R38, R39, R41,
//! our decision D7).

use sqlx::{AnyConnection, Row};

use super::ResourceRow;
use crate::domain::shard::MAX_DEPTH;
use crate::domain::{ResourceId, ResourceTypeSlug};
use crate::store::error::StoreError;
use crate::store::rows::read_all;

/// A resource below another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Below {
    pub(super) id: ResourceId,
    /// How far below; 0 is the resource itself.
    pub(super) steps: usize,
}

/// # Errors
/// [`StoreError::Unprocessable`] when resources of this type may not stand right below `parent`.
pub(super) async fn require_parent_type(
    connection: &mut AnyConnection,
    resource_type: &ResourceTypeSlug,
    parent: &ResourceRow,
) -> Result<(), StoreError> {
    let statement = sqlx::query("SELECT parents FROM resource_types WHERE slug = $1").bind(resource_type.clone());
    let row = statement.fetch_optional(connection).await?;
    let row = row.ok_or_else(|| StoreError::not_found("resource type", resource_type))?;
    let parents: Vec<ResourceTypeSlug> = serde_json::from_str(&row.try_get::<String, _>("parents")?)?;
    let given = &parent.resource.resource_type;
    if parents.contains(given) {
        return Ok(());
    }
    let expected: Vec<String> = parents.iter().map(|parent| format!("`{parent}`")).collect();
    let message =
        format!("a `{resource_type}` cannot stand right below a `{given}`, expected one of {}", expected.join(", "));
    Err(StoreError::invalid("parent_resource_id", "invalid_parent_resource_type", message))
}

/// # Errors
/// [`StoreError::Unprocessable`] when something would stand more than `deepest` levels below the root: `height` levels lie below what
/// is put right below `parent`.
pub(super) async fn require_depth(
    connection: &mut AnyConnection,
    parent: &ResourceId,
    height: usize,
    deepest: usize,
) -> Result<(), StoreError> {
    let above = chain(connection, parent).await?.len().saturating_sub(1);
    let deepest = deepest.min(MAX_DEPTH);
    if above + 1 + height <= deepest {
        return Ok(());
    }
    let message = format!("resources may stand at most {deepest} levels below the root");
    Err(StoreError::invalid("parent_resource_id", "resource_hierarchy_too_deep", message))
}

/// # Errors
/// [`StoreError::Unprocessable`] when `resource` is put below itself.
pub(super) async fn require_no_cycle(
    connection: &mut AnyConnection,
    resource: &ResourceId,
    parent: &ResourceId,
) -> Result<(), StoreError> {
    if !chain(connection, parent).await?.contains(resource) {
        return Ok(());
    }
    let message = "a resource cannot stand below itself";
    Err(StoreError::invalid("parent_resource_id", "resource_hierarchy_cycle", message))
}

/// The resource and everything below it, the lowest first.
pub(super) async fn subtree(connection: &mut AnyConnection, top: &ResourceId) -> Result<Vec<Below>, StoreError> {
    let statement = "WITH RECURSIVE below (id, steps) AS (\
                     SELECT id, CAST(0 AS BIGINT) FROM resources WHERE id = $1 \
                     UNION ALL SELECT r.id, below.steps + 1 FROM resources r JOIN below ON r.parent_id = below.id) \
                     SELECT id, steps FROM below ORDER BY steps DESC, id";
    read_all(connection, sqlx::query(statement).bind(top.clone()), |row| {
        let steps: i64 = row.try_get("steps")?;
        Ok(Below { id: row.try_get("id")?, steps: usize::try_from(steps).unwrap_or(usize::MAX) })
    })
    .await
}

/// The resource and what it stands below, the root last.
async fn chain(connection: &mut AnyConnection, from: &ResourceId) -> Result<Vec<ResourceId>, StoreError> {
    let statement = "WITH RECURSIVE above (id, parent_id, steps) AS (\
                     SELECT id, parent_id, CAST(0 AS BIGINT) FROM resources WHERE id = $1 \
                     UNION ALL SELECT r.id, r.parent_id, above.steps + 1 FROM resources r JOIN above \
                     ON r.id = above.parent_id) SELECT id FROM above ORDER BY steps";
    read_all(connection, sqlx::query(statement).bind(from.clone()), |row| Ok(row.try_get("id")?)).await
}
