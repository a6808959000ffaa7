//! Resources: what roles are held on (WorkOS contract, section 1.4).

mod hierarchy;
mod target;
mod write;

use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::api::Operation;
use super::database::Engine;
use super::error::{FieldError, StoreError};
use super::extract::{Body, Path, Query};
use super::keys::Author;
use super::page::{Listing, PageQuery};
use super::time::Millis;
use super::writer::Committed;
use super::{Settings, Store, rows};
use crate::domain::record;
use crate::domain::{ExternalId, OrganizationId, ResourceId, ResourceTypeSlug};
use crate::wire::api::{List, Resource};

use self::write::{CreateResource, DeleteResource, NewResource, ResourceChanges, UpdateResource};

pub(super) use self::target::{Parent, Target};

const COLUMNS: &str = "SELECT r.id, r.organization_id, r.resource_type_slug, r.external_id, r.parent_id, r.name, \
                       r.description, r.created_at, r.updated_at FROM resources r";

pub(super) fn operations() -> Vec<Operation> {
    const ALL: &str = "/authorization/resources";
    const ONE: &str = "/authorization/resources/{resource_id}";
    const NAMED: &str = "/authorization/organizations/{organization_id}/resources/{resource_type_slug}/{external_id}";
    vec![
        Operation::get(ALL, "listResources", list).asks::<ResourceFilter>().gives::<List<Resource>>(200),
        Operation::post(ALL, "createResource", create).takes::<NewResource>().gives::<Resource>(201).fails(&[409]),
        Operation::get(ONE, "getResource", get).gives::<Resource>(200),
        Operation::patch(ONE, "updateResource", update).takes::<ResourceChanges>().gives::<Resource>(200),
        Operation::delete(ONE, "deleteResource", delete).asks::<Deletion>().fails(&[409]),
        Operation::get(NAMED, "getResourceByExternalId", get_named).gives::<Resource>(200),
        Operation::patch(NAMED, "updateResourceByExternalId", update_named)
            .takes::<ResourceChanges>()
            .gives::<Resource>(200),
        Operation::delete(NAMED, "deleteResourceByExternalId", delete_named).asks::<Deletion>().fails(&[409]),
    ]
}

/// A resource as other nouns need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResourceRow {
    pub(super) organization: OrganizationId,
    /// The root is the one without a parent.
    pub(super) resource: record::Resource,
}

/// What a path names: a resource by id, or by organization, type and external id.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Id(ResourceId),
    Named(OrganizationId, ResourceTypeSlug, ExternalId),
}

/// Which resources to list.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct ResourceFilter {
    /// Whose; this or `resource_type_slug` has to be given.
    organization_id: Option<OrganizationId>,
    /// Of which type.
    resource_type_slug: Option<ResourceTypeSlug>,
    /// With which id of the upstream application.
    resource_external_id: Option<ExternalId>,
    /// Right below this one; excludes the other two.
    parent_resource_id: Option<ResourceId>,
    /// Right below those of this type; goes with `parent_external_id`.
    parent_resource_type_slug: Option<ResourceTypeSlug>,
    /// Right below those with this external id; goes with `parent_resource_type_slug`.
    parent_external_id: Option<ExternalId>,
    /// In whose name this stands, in upper or lower case.
    search: Option<String>,
    #[serde(flatten)]
    page: PageQuery,
}

/// How to delete.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct Deletion {
    /// Whether everything below it goes too, and every role assignment on any of it.
    #[serde(default)]
    cascade_delete: bool,
}

impl ResourceFilter {
    fn listing(&self) -> Result<Listing, StoreError> {
        if self.organization_id.is_none() && self.resource_type_slug.is_none() {
            return Err(StoreError::BadRequest {
                code: "missing_organization_id_or_resource_type_slug",
                message: "expected `organization_id` or `resource_type_slug`".into(),
            });
        }
        let mut conditions: Vec<String> = Vec::new();
        let mut texts: Vec<String> = Vec::new();
        let mut place = |text: &str| {
            texts.push(text.to_owned());
            texts.len()
        };
        if let Some(organization) = &self.organization_id {
            conditions.push(format!("r.organization_id = ${}", place(organization.as_str())));
        }
        if let Some(resource_type) = &self.resource_type_slug {
            conditions.push(format!("r.resource_type_slug = ${}", place(resource_type.as_str())));
        }
        if let Some(external_id) = &self.resource_external_id {
            conditions.push(has_external_id("r", place(external_id.as_str())));
        }
        match (&self.parent_resource_id, &self.parent_resource_type_slug, &self.parent_external_id) {
            (None, None, None) => {}
            (Some(parent), None, None) => conditions.push(format!("r.parent_id = ${}", place(parent.as_str()))),
            (None, Some(resource_type), Some(external_id)) => conditions.push(format!(
                "r.parent_id IN (SELECT p.id FROM resources p WHERE p.organization_id = r.organization_id \
                 AND p.resource_type_slug = ${} AND {})",
                place(resource_type.as_str()),
                has_external_id("p", place(external_id.as_str())),
            )),
            _ => {
                let message =
                    "expected either `parent_resource_id`, or `parent_external_id` with `parent_resource_type_slug`";
                return Err(StoreError::Unprocessable {
                    code: "invalid_parent_resource",
                    message: message.into(),
                    errors: vec![FieldError::new("parent_resource_id", "invalid_parent_resource")],
                });
            }
        }
        if let Some(search) = &self.search {
            // `replace` and not `LIKE`, in which some characters mean others.
            let place = place(&search.to_lowercase());
            conditions.push(format!("(${place} = '' OR replace(lower(r.name), ${place}, '') <> lower(r.name))"));
        }
        let listing = Listing::of(format!("{COLUMNS} WHERE {}", conditions.join(" AND ")));
        Ok(texts.into_iter().fold(listing, Listing::bind))
    }
}

async fn list(
    State(store): State<Store>,
    Query(filter): Query<ResourceFilter>,
) -> Result<axum::Json<List<Resource>>, StoreError> {
    let listing = filter.listing()?;
    let mut connection = store.read().await?;
    Ok(axum::Json(listing.page(&mut connection, &filter.page, read).await?))
}

async fn create(
    State(store): State<Store>,
    author: Author,
    Body(new): Body<NewResource>,
) -> Result<Committed, StoreError> {
    let Settings { max_depth: deepest, max_resources_of_type: most, .. } = store.0.settings;
    store.write(author, CreateResource { new, deepest, most }).await
}

async fn get(State(store): State<Store>, Path(id): Path<ResourceId>) -> Result<axum::Json<Resource>, StoreError> {
    show(&store, Place::Id(id)).await
}

async fn update(
    State(store): State<Store>,
    author: Author,
    Path(id): Path<ResourceId>,
    Body(changes): Body<ResourceChanges>,
) -> Result<Committed, StoreError> {
    let deepest = store.0.settings.max_depth;
    store.write(author, UpdateResource { place: Place::Id(id), changes, deepest }).await
}

async fn delete(
    State(store): State<Store>,
    author: Author,
    Path(id): Path<ResourceId>,
    Query(deletion): Query<Deletion>,
) -> Result<Committed, StoreError> {
    store.write(author, DeleteResource { place: Place::Id(id), cascade: deletion.cascade_delete }).await
}

async fn get_named(
    State(store): State<Store>,
    Path((organization, resource_type, external_id)): Path<(OrganizationId, ResourceTypeSlug, ExternalId)>,
) -> Result<axum::Json<Resource>, StoreError> {
    show(&store, Place::Named(organization, resource_type, external_id)).await
}

async fn update_named(
    State(store): State<Store>,
    author: Author,
    Path((organization, resource_type, external_id)): Path<(OrganizationId, ResourceTypeSlug, ExternalId)>,
    Body(changes): Body<ResourceChanges>,
) -> Result<Committed, StoreError> {
    let place = Place::Named(organization, resource_type, external_id);
    let deepest = store.0.settings.max_depth;
    store.write(author, UpdateResource { place, changes, deepest }).await
}

async fn delete_named(
    State(store): State<Store>,
    author: Author,
    Path((organization, resource_type, external_id)): Path<(OrganizationId, ResourceTypeSlug, ExternalId)>,
    Query(deletion): Query<Deletion>,
) -> Result<Committed, StoreError> {
    let place = Place::Named(organization, resource_type, external_id);
    store.write(author, DeleteResource { place, cascade: deletion.cascade_delete }).await
}

async fn show(store: &Store, place: Place) -> Result<axum::Json<Resource>, StoreError> {
    let mut connection = store.read().await?;
    let row = place.find(&mut connection).await?;
    Ok(axum::Json(answer(&mut connection, &row.resource.id).await?))
}

impl Place {
    /// The resource that is there.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]
    pub(super) async fn find(&self, connection: &mut AnyConnection) -> Result<ResourceRow, StoreError> {
        match self {
            Self::Id(id) => find(connection, id).await,
            Self::Named(organization, resource_type, external_id) => {
                find_external(connection, organization, resource_type, external_id).await
            }
        }
    }
}

/// The condition that resource `table` has the external id at `$place`: for a root the organization's id, or the organization's own
/// external id (our decision D2).
pub(super) fn has_external_id(table: &str, place: usize) -> String {
    format!(
        "({table}.external_id = ${place} OR ({table}.parent_id IS NULL AND EXISTS (SELECT 1 FROM organizations o \
         WHERE o.id = {table}.organization_id AND o.external_id = ${place})))"
    )
}

/// These resources as clients see them, in the order of `ids`; none for those that are gone.
pub(super) async fn answers(
    connection: &mut AnyConnection,
    engine: Engine,
    ids: &[ResourceId],
) -> Result<Vec<Resource>, StoreError> {
    let text = format!("{COLUMNS} WHERE r.id IN ({})", engine.texts_of(1));
    let statement = sqlx::query(AssertSqlSafe(text)).bind(serde_json::to_string(ids)?);
    let mut found = rows::read_all(connection, statement, read).await?;
    found.sort_by_cached_key(|resource| ids.iter().position(|id| id.as_str() == resource.id));
    Ok(found)
}

/// The resource as clients see it.
async fn answer(connection: &mut AnyConnection, id: &ResourceId) -> Result<Resource, StoreError> {
    let text = format!("{COLUMNS} WHERE r.id = $1");
    let row = sqlx::query(AssertSqlSafe(text)).bind(id.clone()).fetch_optional(connection).await?;
    read(&row.ok_or_else(|| StoreError::not_found("resource", id))?)
}

fn read(row: &AnyRow) -> Result<Resource, StoreError> {
    Ok(Resource {
        id: row.try_get("id")?,
        external_id: row.try_get("external_id")?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        resource_type_slug: row.try_get("resource_type_slug")?,
        organization_id: row.try_get("organization_id")?,
        parent_resource_id: row.try_get("parent_id")?,
        created_at: Millis(row.try_get("created_at")?).to_string(),
        updated_at: Millis(row.try_get("updated_at")?).to_string(),
    })
}

/// The resource with this id.
///
/// # Errors
/// [`StoreError::NotFound`]
pub(super) async fn find(connection: &mut AnyConnection, id: &ResourceId) -> Result<ResourceRow, StoreError> {
    let statement =
        "SELECT id, organization_id, resource_type_slug, external_id, parent_id FROM resources WHERE id = $1";
    let row = sqlx::query(statement).bind(id.clone()).fetch_optional(connection).await?;
    let row = row.ok_or_else(|| StoreError::not_found("resource", id))?;
    Ok(ResourceRow { organization: row.try_get("organization_id")?, resource: rows::resource(&row)? })
}

/// The resource of an organization with this type and external id. The root is found by the organization's id, and by the
/// organization's own external id (WorkOS contract R35, our decision D2).
///
/// # Errors
/// [`StoreError::NotFound`]
pub(super) async fn find_external(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
    resource_type: &ResourceTypeSlug,
    external_id: &ExternalId,
) -> Result<ResourceRow, StoreError> {
    let statement = "SELECT r.id, r.organization_id, r.resource_type_slug, r.external_id, r.parent_id FROM resources r \
                     WHERE r.organization_id = $1 AND r.resource_type_slug = $2 AND (r.external_id = $3 OR (r.parent_id \
                     IS NULL AND EXISTS (SELECT 1 FROM organizations o WHERE o.id = $1 AND o.external_id = $3)))";
    let statement =
        sqlx::query(statement).bind(organization.clone()).bind(resource_type.clone()).bind(external_id.clone());
    let row = statement.fetch_optional(connection).await?;
    let row = row.ok_or_else(|| StoreError::not_found("resource", format!("{resource_type}:{external_id}")))?;
    Ok(ResourceRow { organization: row.try_get("organization_id")?, resource: rows::resource(&row)? })
}

/// The root resource of an organization.
///
/// # Errors
/// [`StoreError::NotFound`] when there is no such organization.
pub(super) async fn root(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
) -> Result<ResourceRow, StoreError> {
    let statement = "SELECT id, organization_id, resource_type_slug, external_id, parent_id FROM resources \
                     WHERE organization_id = $1 AND parent_id IS NULL";
    let row = sqlx::query(statement).bind(organization.clone()).fetch_optional(connection).await?;
    let row = row.ok_or_else(|| StoreError::not_found("organization", organization))?;
    Ok(ResourceRow { organization: row.try_get("organization_id")?, resource: rows::resource(&row)? })
}
