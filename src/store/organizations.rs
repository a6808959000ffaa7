//! Organizations (WorkOS contract, section 1.8). Each has a root resource, made with it and gone with it (R35).

mod deletion;
mod domains;

use async_trait::async_trait;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use self::domains::{Domain, NewDomain};
use super::Store;
use super::api::Operation;
use super::attributes::{self, Metadata};
use super::error::StoreError;
use super::extract::{Body, Path, Query};
use super::fields::{Patch, Text, patch};
use super::keys::Author;
use super::page::{Listing, PageQuery};
use super::time::Millis;
use super::transaction::{Reply, Transaction, Write};
use super::writer::Committed;
use crate::domain::record;
use crate::domain::{ExternalId, OrganizationId, OrganizationRecord, ResourceId, ResourceTypeSlug};
use crate::wire::api::{List, Organization};

const COLUMNS: &str = "SELECT id, name, external_id, stripe_customer_id, allow_profiles_outside_organization, metadata, \
                       domains, created_at, updated_at FROM organizations";
/// Characters that the name of a resource may have.
const RESOURCE_NAME: usize = 48;

pub(super) fn operations() -> Vec<Operation> {
    const ALL: &str = "/organizations";
    const ONE: &str = "/organizations/{id}";
    vec![
        Operation::get(ALL, "listOrganizations", list).asks::<ListQuery>().gives::<List<Organization>>(200),
        Operation::post(ALL, "createOrganization", create).takes::<NewOrganization>().gives::<Organization>(201),
        Operation::get(ONE, "getOrganization", get).gives::<Organization>(200),
        Operation::get("/organizations/external_id/{external_id}", "getOrganizationByExternalId", get_external)
            .gives::<Organization>(200),
        Operation::put(ONE, "updateOrganization", update).takes::<OrganizationChanges>().gives::<Organization>(200),
        Operation::delete(ONE, "deleteOrganization", delete).gives_nothing(202),
    ]
}

/// Which organizations.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct ListQuery {
    /// Those with one of these domains; names with commas between them.
    #[serde(default)]
    domains: Option<String>,
    /// Those with this in their name.
    #[serde(default)]
    search: Option<String>,
    #[serde(flatten)]
    page: PageQuery,
}

/// An organization to be.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct NewOrganization {
    name: Text<255>,
    #[serde(default)]
    allow_profiles_outside_organization: bool,
    /// Deprecated: `domain_data`.
    #[serde(default)]
    domains: Vec<Domain>,
    #[serde(default)]
    domain_data: Vec<NewDomain>,
    #[serde(default)]
    metadata: Option<Metadata>,
    #[serde(default)]
    external_id: Option<ExternalId>,
}

/// What may be changed of an organization.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct OrganizationChanges {
    #[serde(default)]
    name: Option<Text<255>>,
    #[serde(default)]
    allow_profiles_outside_organization: Option<bool>,
    /// Deprecated: `domain_data`.
    #[serde(default)]
    domains: Option<Vec<Domain>>,
    /// All domains from now on.
    #[serde(default)]
    domain_data: Option<Vec<NewDomain>>,
    #[serde(default)]
    stripe_customer_id: Option<Text<255>>,
    /// Put over what is there; a key with an empty text is taken away, `null` takes all away.
    #[serde(default, deserialize_with = "patch")]
    metadata: Patch<Metadata>,
    #[serde(default, deserialize_with = "patch")]
    external_id: Patch<ExternalId>,
}

struct UpdateOrganization {
    id: OrganizationId,
    changes: OrganizationChanges,
}

async fn list(
    State(store): State<Store>,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<List<Organization>>, StoreError> {
    let mut conditions = Vec::new();
    let mut texts = Vec::new();
    if let Some(search) = query.search.as_deref().filter(|search| !search.is_empty()) {
        texts.push(contains(&search.to_ascii_lowercase()));
        conditions.push(format!("lower(name) LIKE ${} ESCAPE '\\'", texts.len()));
    }
    if let Some(domains) = query.domains.as_deref().filter(|domains| !domains.is_empty()) {
        let mut any = Vec::new();
        for domain in domains.split(',') {
            texts.push(contains(&domains::stored(domain.trim())?));
            any.push(format!("domains LIKE ${} ESCAPE '\\'", texts.len()));
        }
        conditions.push(format!("({})", any.join(" OR ")));
    }
    let select = match conditions.as_slice() {
        [] => COLUMNS.to_owned(),
        conditions => format!("{COLUMNS} WHERE {}", conditions.join(" AND ")),
    };
    let listing = texts.into_iter().fold(Listing::of(select), Listing::bind);
    let mut connection = store.read().await?;
    Ok(axum::Json(listing.page(&mut connection, &query.page, read).await?))
}

async fn get(
    State(store): State<Store>,
    Path(id): Path<OrganizationId>,
) -> Result<axum::Json<Organization>, StoreError> {
    let mut connection = store.read().await?;
    Ok(axum::Json(find(&mut connection, &id).await?))
}

async fn get_external(
    State(store): State<Store>,
    Path(external_id): Path<ExternalId>,
) -> Result<axum::Json<Organization>, StoreError> {
    let mut connection = store.read().await?;
    let found = by(&mut connection, "external_id", external_id.as_str()).await?;
    Ok(axum::Json(found.ok_or_else(|| StoreError::not_found("organization", external_id))?))
}

async fn create(
    State(store): State<Store>,
    author: Author,
    Body(new): Body<NewOrganization>,
) -> Result<Committed, StoreError> {
    store.write(author, new).await
}

async fn update(
    State(store): State<Store>,
    author: Author,
    Path(id): Path<OrganizationId>,
    Body(changes): Body<OrganizationChanges>,
) -> Result<Committed, StoreError> {
    store.write(author, UpdateOrganization { id, changes }).await
}

async fn delete(
    State(store): State<Store>,
    author: Author,
    Path(id): Path<OrganizationId>,
) -> Result<Committed, StoreError> {
    store.write(author, deletion::DeleteOrganization(id)).await
}

#[async_trait]
impl Write for NewOrganization {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        if let Some(external_id) = &self.external_id {
            attributes::refuse_reserved(external_id)?;
            refuse_used(tx.connection, "external_id", "external_id_already_used", external_id.as_str(), None).await?;
        }
        let metadata = match &self.metadata {
            None => Map::new(),
            Some(metadata) => metadata.over(&Map::new())?,
        };
        let id = OrganizationId::new(&tx.id("org_"))?;
        let domains = domains::merge(tx, &id, &[], &self.domains, &self.domain_data)?;
        let statement = "INSERT INTO organizations (id, name, external_id, allow_profiles_outside_organization, metadata, \
                         domains, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $7)";
        let statement = sqlx::query(statement)
            .bind(id.clone())
            .bind(self.name.as_str().to_owned())
            .bind(self.external_id.clone())
            .bind(i64::from(self.allow_profiles_outside_organization))
            .bind(serde_json::to_string(&metadata)?)
            .bind(serde_json::to_string(&domains)?)
            .bind(tx.now().0);
        tx.execute(statement).await?;
        create_root(tx, &id, self.name.as_str()).await?;
        let organization = find(tx.connection, &id).await?;
        tx.event("organization.created", Some(&id), &organization)?;
        Reply::created(&organization)
    }
}

/// The root resource, named by the organization's id (our decision D2).
async fn create_root(tx: &mut Transaction<'_>, id: &OrganizationId, name: &str) -> Result<(), StoreError> {
    let root = record::Resource {
        id: ResourceId::new(&tx.id("authz_resource_"))?,
        resource_type: ResourceTypeSlug::organization(),
        external_id: ExternalId::new(id.as_str())?,
        parent: None,
    };
    let statement = "INSERT INTO resources (id, organization_id, resource_type_slug, external_id, parent_id, name, \
                     created_at, updated_at) VALUES ($1, $2, $3, $4, NULL, $5, $6, $6)";
    let statement = sqlx::query(statement)
        .bind(root.id.clone())
        .bind(id.clone())
        .bind(root.resource_type.clone())
        .bind(root.external_id.clone())
        .bind(name.chars().take(RESOURCE_NAME).collect::<String>())
        .bind(tx.now().0);
    tx.execute(statement).await?;
    tx.put(id, OrganizationRecord::Resource(root));
    Ok(())
}

#[async_trait]
impl Write for UpdateOrganization {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let before = find(tx.connection, &self.id).await?;
        let changes = &self.changes;
        let mut after = before.clone();
        if let Some(name) = &changes.name {
            name.as_str().clone_into(&mut after.name);
        }
        if let Some(allow) = changes.allow_profiles_outside_organization {
            after.allow_profiles_outside_organization = allow;
        }
        match &changes.metadata {
            None => {}
            Some(None) => after.metadata = Map::new(),
            Some(Some(metadata)) => after.metadata = metadata.over(&before.metadata)?,
        }
        if let Some(external_id) = &changes.external_id {
            if let Some(external_id) = external_id {
                attributes::refuse_reserved(external_id)?;
                let (code, id) = ("external_id_already_used", Some(&self.id));
                refuse_used(tx.connection, "external_id", code, external_id.as_str(), id).await?;
            }
            after.external_id = external_id.as_ref().map(ToString::to_string);
        }
        if let Some(customer) = &changes.stripe_customer_id {
            let (code, id) = ("stripe_customer_id_already_used", Some(&self.id));
            refuse_used(tx.connection, "stripe_customer_id", code, customer.as_str(), id).await?;
            after.stripe_customer_id = Some(customer.as_str().to_owned());
        }
        if changes.domains.is_some() || changes.domain_data.is_some() {
            let named = changes.domains.as_deref().unwrap_or_default();
            let given = changes.domain_data.as_deref().unwrap_or_default();
            after.domains = domains::merge(tx, &self.id, &before.domains, named, given)?;
        }
        if after == before {
            return Reply::ok(&before);
        }
        let statement = "UPDATE organizations SET name = $1, external_id = $2, stripe_customer_id = $3, \
                         allow_profiles_outside_organization = $4, metadata = $5, domains = $6, updated_at = $7 WHERE id = $8";
        let statement = sqlx::query(statement)
            .bind(after.name)
            .bind(after.external_id)
            .bind(after.stripe_customer_id)
            .bind(i64::from(after.allow_profiles_outside_organization))
            .bind(serde_json::to_string(&after.metadata)?)
            .bind(serde_json::to_string(&after.domains)?)
            .bind(tx.now().0)
            .bind(self.id.clone());
        tx.execute(statement).await?;
        let organization = find(tx.connection, &self.id).await?;
        tx.event("organization.updated", Some(&self.id), &organization)?;
        Reply::ok(&organization)
    }
}

/// # Errors
/// [`StoreError::NotFound`] when there is no such organization.
pub(super) async fn require(connection: &mut AnyConnection, id: &OrganizationId) -> Result<(), StoreError> {
    let statement = sqlx::query("SELECT id FROM organizations WHERE id = $1").bind(id.clone());
    match statement.fetch_optional(connection).await? {
        Some(_) => Ok(()),
        None => Err(StoreError::not_found("organization", id)),
    }
}

/// The organization with this id.
///
/// # Errors
/// [`StoreError::NotFound`]
pub(super) async fn find(connection: &mut AnyConnection, id: &OrganizationId) -> Result<Organization, StoreError> {
    by(connection, "id", id.as_str()).await?.ok_or_else(|| StoreError::not_found("organization", id))
}

/// Refuses what another organization has.
async fn refuse_used(
    connection: &mut AnyConnection,
    column: &'static str,
    code: &'static str,
    value: &str,
    own: Option<&OrganizationId>,
) -> Result<(), StoreError> {
    match by(connection, column, value).await? {
        Some(other) if own.is_none_or(|own| own.as_str() != other.id) => {
            let message = format!("another organization has the {column} `{value}`");
            Err(StoreError::BadRequest { code, message: message.into() })
        }
        _ => Ok(()),
    }
}

async fn by(
    connection: &mut AnyConnection,
    column: &'static str,
    value: &str,
) -> Result<Option<Organization>, StoreError> {
    let statement = AssertSqlSafe(format!("{COLUMNS} WHERE {column} = $1"));
    let row = sqlx::query(statement).bind(value.to_owned()).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

/// A pattern for `LIKE … ESCAPE '\'` that finds `text` anywhere.
pub(super) fn contains(text: &str) -> String {
    let escaped: String = text
        .chars()
        .flat_map(|character| matches!(character, '%' | '_' | '\\').then_some('\\').into_iter().chain([character]))
        .collect();
    format!("%{escaped}%")
}

fn read(row: &AnyRow) -> Result<Organization, StoreError> {
    let metadata: Map<String, Value> = serde_json::from_str(&row.try_get::<String, _>("metadata")?)?;
    Ok(Organization {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        domains: serde_json::from_str(&row.try_get::<String, _>("domains")?)?,
        metadata,
        external_id: row.try_get("external_id")?,
        stripe_customer_id: row.try_get("stripe_customer_id")?,
        allow_profiles_outside_organization: row.try_get::<i64, _>("allow_profiles_outside_organization")? != 0,
        created_at: Millis(row.try_get("created_at")?).to_string(),
        updated_at: Millis(row.try_get("updated_at")?).to_string(),
    })
}
