//! Checks, and the same question asked the other ways round (WorkOS contract, section 1.7). Answered from facts in memory that include
//! whatever was committed before the question; what only people read is fetched from the tables, for the page that is shown.

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;

use super::api::Operation;
use super::error::StoreError;
use super::extract::{Body, Path, Query};
use super::keys::Scope;
use super::page::{Listing, PageQuery, page_of};
use super::resources::{Parent, Place, ResourceRow, Target};
use super::{Store, memberships, permissions, resources};
use crate::domain::discover::Within;
use crate::domain::{
    ExternalId, MembershipId, OrganizationId, PermissionSlug, ResourceId, ResourceRef, ResourceTypeSlug,
};
use crate::wire::api::{List, Membership, Permission, Resource};

pub(super) fn operations() -> Vec<Operation> {
    const CHECK: &str = "/authorization/organization_memberships/{organization_membership_id}/check";
    const RESOURCES: &str = "/authorization/organization_memberships/{organization_membership_id}/resources";
    const PERMISSIONS: &str =
        "/authorization/organization_memberships/{organization_membership_id}/resources/{resource_id}/permissions";
    const PERMISSIONS_NAMED: &str = "/authorization/organization_memberships/{organization_membership_id}/resources/\
                                     {resource_type_slug}/{external_id}/permissions";
    const PERMISSIONS_ON: &str =
        "/authorization/resources/{resource_id}/organization_memberships/{organization_membership_id}/permissions";
    const MEMBERSHIPS: &str = "/authorization/resources/{resource_id}/organization_memberships";
    const MEMBERSHIPS_NAMED: &str = "/authorization/organizations/{organization_id}/resources/{resource_type_slug}/\
                                     {external_id}/organization_memberships";
    vec![
        Operation::post(CHECK, "check", check).needs(Scope::Read).takes::<Question>().gives::<Verdict>(200),
        Operation::get(RESOURCES, "listResourcesForMembership", reachable)
            .asks::<ReachableFilter>()
            .gives::<List<Resource>>(200),
        Operation::get(PERMISSIONS, "listEffectivePermissions", effective)
            .asks::<PageQuery>()
            .gives::<List<Permission>>(200),
        Operation::get(PERMISSIONS_NAMED, "listEffectivePermissionsByExternalId", effective_named)
            .asks::<PageQuery>()
            .gives::<List<Permission>>(200),
        Operation::get(PERMISSIONS_ON, "listEffectivePermissionsOnResource", effective_on)
            .asks::<PageQuery>()
            .gives::<List<Permission>>(200),
        Operation::get(MEMBERSHIPS, "listMembershipsForResource", who)
            .asks::<WhoFilter>()
            .gives::<List<Membership>>(200),
        Operation::get(MEMBERSHIPS_NAMED, "listMembershipsForResourceByExternalId", who_named)
            .asks::<WhoFilter>()
            .gives::<List<Membership>>(200),
    ]
}

/// May this membership do that there?
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct Question {
    permission_slug: PermissionSlug,
    #[serde(flatten)]
    target: Target,
}

/// The answer to a [`Question`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
struct Verdict {
    /// Whether it may.
    authorized: bool,
}

/// Which resources of a membership to list: right below the parent, those where it has the permission.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct ReachableFilter {
    permission_slug: PermissionSlug,
    #[serde(flatten)]
    parent: Parent,
    #[serde(flatten)]
    page: PageQuery,
}

/// Which memberships to list for a resource.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct WhoFilter {
    permission_slug: PermissionSlug,
    /// How they have the permission.
    #[serde(default)]
    assignment: How,
    #[serde(flatten)]
    page: PageQuery,
}

/// How a membership has a permission (WorkOS contract R44).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum How {
    /// By an assignment on this very resource, to itself or to a group.
    #[default]
    Direct,
    /// In any way: inherited and organization-wide too.
    Indirect,
}

async fn check(
    State(store): State<Store>,
    Path(membership): Path<MembershipId>,
    Body(Question { permission_slug, target }): Body<Question>,
) -> Result<axum::Json<Verdict>, StoreError> {
    if let Some(resource) = target.named()
        && let Some(view) = store.0.facts.at_hand(&membership, &resource).await?
    {
        let authorized = view.shard.check(&view.catalog, &membership, &permission_slug, &resource);
        return Ok(axum::Json(Verdict { authorized }));
    }
    let (organization, resource) = {
        let mut connection = store.read().await?;
        let organization = memberships::find(&mut connection, &membership).await?.organization;
        let resource = target.resolve(&mut connection, &organization).await?;
        (organization, resource)
    };
    let view = store.view(&organization).await?;
    let authorized = view.shard.check(&view.catalog, &membership, &permission_slug, &by_id(&resource));
    store.0.facts.note_home(membership, organization);
    Ok(axum::Json(Verdict { authorized }))
}

/// Direct children of the parent on which [`check`] is true (WorkOS contract R43, our decision D3).
async fn reachable(
    State(store): State<Store>,
    Path(membership): Path<MembershipId>,
    Query(ReachableFilter { permission_slug, parent, page }): Query<ReachableFilter>,
) -> Result<axum::Json<List<Resource>>, StoreError> {
    let (organization, parent) = {
        let mut connection = store.read().await?;
        let organization = memberships::find(&mut connection, &membership).await?.organization;
        let parent = parent.resolve(&mut connection, &organization).await?;
        (organization, parent)
    };
    let view = store.view(&organization).await?;
    let within = Within::Children(by_id(&parent));
    let found = view.shard.reachable(&view.catalog, &membership, &permission_slug, &within);
    // Ids grow with creation time.
    let mut ids: Vec<ResourceId> = found.into_iter().map(|resource| resource.id).collect();
    ids.sort_unstable();
    let List { data, list_metadata } = page_of(ids, &page, ToString::to_string)?;
    let mut connection = store.read().await?;
    let data = resources::answers(&mut connection, store.0.database.engine(), &data).await?;
    Ok(axum::Json(List { data, list_metadata }))
}

async fn effective(
    State(store): State<Store>,
    Path((membership, resource)): Path<(MembershipId, ResourceId)>,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<List<Permission>>, StoreError> {
    permissions_of(&store, &membership, Target { resource_id: Some(resource), ..Target::default() }, &page).await
}

async fn effective_on(
    State(store): State<Store>,
    Path((resource, membership)): Path<(ResourceId, MembershipId)>,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<List<Permission>>, StoreError> {
    permissions_of(&store, &membership, Target { resource_id: Some(resource), ..Target::default() }, &page).await
}

async fn effective_named(
    State(store): State<Store>,
    Path((membership, resource_type, external_id)): Path<(MembershipId, ResourceTypeSlug, ExternalId)>,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<List<Permission>>, StoreError> {
    let target =
        Target { resource_id: None, resource_external_id: Some(external_id), resource_type_slug: Some(resource_type) };
    permissions_of(&store, &membership, target, &page).await
}

/// Everything that [`check`] would find (WorkOS contract R42).
async fn permissions_of(
    store: &Store,
    membership: &MembershipId,
    target: Target,
    page: &PageQuery,
) -> Result<axum::Json<List<Permission>>, StoreError> {
    let (organization, resource) = {
        let mut connection = store.read().await?;
        let organization = memberships::find(&mut connection, membership).await?.organization;
        let resource = target.resolve(&mut connection, &organization).await?;
        (organization, resource)
    };
    let view = store.view(&organization).await?;
    let slugs = view.shard.effective_permissions(&view.catalog, membership, &by_id(&resource));
    let mut connection = store.read().await?;
    let among = store.0.database.engine().texts_of(1);
    let listing = Listing::of(format!("{} WHERE slug IN ({among})", permissions::COLUMNS));
    let listing = listing.bind(serde_json::to_string(&slugs)?);
    Ok(axum::Json(listing.page(&mut connection, page, permissions::read).await?))
}

async fn who(
    State(store): State<Store>,
    Path(id): Path<ResourceId>,
    Query(filter): Query<WhoFilter>,
) -> Result<axum::Json<List<Membership>>, StoreError> {
    who_at(&store, Place::Id(id), filter).await
}

async fn who_named(
    State(store): State<Store>,
    Path((organization, resource_type, external_id)): Path<(OrganizationId, ResourceTypeSlug, ExternalId)>,
    Query(filter): Query<WhoFilter>,
) -> Result<axum::Json<List<Membership>>, StoreError> {
    who_at(&store, Place::Named(organization, resource_type, external_id), filter).await
}

async fn who_at(
    store: &Store,
    place: Place,
    WhoFilter { permission_slug, assignment, page }: WhoFilter,
) -> Result<axum::Json<List<Membership>>, StoreError> {
    let resource = {
        let mut connection = store.read().await?;
        place.find(&mut connection).await?
    };
    let view = store.view(&resource.organization).await?;
    let found = view.shard.who_has_access(&view.catalog, &permission_slug, Some(&by_id(&resource)));
    let found = found.into_iter().filter(|access| assignment == How::Indirect || access.direct);
    // Ids grow with creation time.
    let mut ids: Vec<MembershipId> = found.map(|access| access.member.id).collect();
    ids.sort_unstable();
    let List { data, list_metadata } = page_of(ids, &page, ToString::to_string)?;
    let mut connection = store.read().await?;
    let data = in_order(&mut connection, &data).await?;
    Ok(axum::Json(List { data, list_metadata }))
}

async fn in_order(connection: &mut AnyConnection, ids: &[MembershipId]) -> Result<Vec<Membership>, StoreError> {
    let mut found = memberships::with_users(connection, ids).await?;
    found.sort_by_cached_key(|membership| ids.iter().position(|id| id.as_str() == membership.id));
    Ok(found)
}

fn by_id(row: &ResourceRow) -> ResourceRef<'_> {
    ResourceRef::Id(row.resource.id.as_str().into())
}
