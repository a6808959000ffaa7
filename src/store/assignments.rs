//! Role assignments of memberships (WorkOS contract, section 1.5).
//!
//! Those that come from groups are answered beside the others and are not stored: they follow from the group's assignment and from who is
//! in the group.

mod list;
mod meant;
mod write;

use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::api::Operation;
use super::error::{FieldError, StoreError};
use super::extract::{Body, Path, Query};
use super::keys::Author;
use super::page::PageQuery;
use super::resources::{Place, ResourceRow, Target};
use super::roles::RoleRow;
use super::rows::read_all;
use super::transaction::Transaction;
use super::writer::Committed;
use super::{Store, memberships};
use crate::domain::record::{Assignment, OrganizationKey};
use crate::domain::{
    AssignmentId, ExternalId, MembershipId, OrganizationId, OrganizationRecord, ResourceId, ResourceTypeSlug, RoleId,
    RoleSlug,
};
use crate::wire::api::{List, RoleAssignment};

use self::write::{Assign, Remove, RemoveById};

pub(super) fn operations() -> Vec<Operation> {
    const ALL: &str = "/authorization/organization_memberships/{organization_membership_id}/role_assignments";
    const ONE: &str =
        "/authorization/organization_memberships/{organization_membership_id}/role_assignments/{role_assignment_id}";
    const ON: &str = "/authorization/resources/{resource_id}/role_assignments";
    const ON_NAMED: &str = "/authorization/organizations/{organization_id}/resources/{resource_type_slug}/\
                            {external_id}/role_assignments";
    vec![
        Operation::get(ALL, "listRoleAssignments", list).asks::<TargetFilter>().gives::<List<RoleAssignment>>(200),
        Operation::post(ALL, "assignRole", assign).takes::<RoleOnResource>().gives::<RoleAssignment>(201),
        Operation::delete(ALL, "removeRole", remove_by_criteria).takes::<RoleOnResource>(),
        Operation::delete(ONE, "removeRoleAssignment", remove_by_id),
        Operation::get(ON, "listRoleAssignmentsForResource", list_on)
            .asks::<RoleFilter>()
            .gives::<List<RoleAssignment>>(200),
        Operation::get(ON_NAMED, "listRoleAssignmentsForResourceByExternalId", list_on_named)
            .asks::<RoleFilter>()
            .gives::<List<RoleAssignment>>(200),
    ]
}

/// A role, and a resource to have it on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub(super) struct RoleOnResource {
    pub(super) role_slug: RoleSlug,
    #[serde(flatten)]
    pub(super) target: Target,
}

/// Which assignments of a membership to list: on which resources.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct TargetFilter {
    /// On this one.
    resource_id: Option<ResourceId>,
    /// On those with this id of the upstream application.
    resource_external_id: Option<ExternalId>,
    /// On those of this type.
    resource_type_slug: Option<ResourceTypeSlug>,
    #[serde(flatten)]
    page: PageQuery,
}

/// Which assignments on a resource to list.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct RoleFilter {
    /// Of this role.
    role_slug: Option<RoleSlug>,
    #[serde(flatten)]
    page: PageQuery,
}

async fn list(
    State(store): State<Store>,
    Path(membership): Path<MembershipId>,
    Query(filter): Query<TargetFilter>,
) -> Result<axum::Json<List<RoleAssignment>>, StoreError> {
    let mut connection = store.read().await?;
    memberships::find(&mut connection, &membership).await?;
    let listing = list::of_membership(&membership, &filter);
    Ok(axum::Json(listing.page(&mut connection, &filter.page, list::read).await?))
}

async fn list_on(
    State(store): State<Store>,
    Path(id): Path<ResourceId>,
    Query(filter): Query<RoleFilter>,
) -> Result<axum::Json<List<RoleAssignment>>, StoreError> {
    list_at(&store, Place::Id(id), filter).await
}

async fn list_on_named(
    State(store): State<Store>,
    Path((organization, resource_type, external_id)): Path<(OrganizationId, ResourceTypeSlug, ExternalId)>,
    Query(filter): Query<RoleFilter>,
) -> Result<axum::Json<List<RoleAssignment>>, StoreError> {
    list_at(&store, Place::Named(organization, resource_type, external_id), filter).await
}

async fn list_at(
    store: &Store,
    place: Place,
    filter: RoleFilter,
) -> Result<axum::Json<List<RoleAssignment>>, StoreError> {
    let mut connection = store.read().await?;
    let row = place.find(&mut connection).await?;
    let listing = list::on_resource(&row.resource.id, filter.role_slug.as_ref());
    Ok(axum::Json(listing.page(&mut connection, &filter.page, list::read).await?))
}

async fn assign(
    State(store): State<Store>,
    author: Author,
    Path(membership): Path<MembershipId>,
    Body(what): Body<RoleOnResource>,
) -> Result<Committed, StoreError> {
    store.write(author, Assign { membership, what }).await
}

async fn remove_by_criteria(
    State(store): State<Store>,
    author: Author,
    Path(membership): Path<MembershipId>,
    Body(what): Body<RoleOnResource>,
) -> Result<Committed, StoreError> {
    store.write(author, Remove { membership, what }).await
}

async fn remove_by_id(
    State(store): State<Store>,
    author: Author,
    Path((membership, id)): Path<(MembershipId, AssignmentId)>,
) -> Result<Committed, StoreError> {
    store.write(author, RemoveById { membership, id }).await
}

/// A role can be had on resources of its own type only (WorkOS contract R14, our decision D9).
///
/// # Errors
/// [`StoreError::Unprocessable`]
pub(super) fn require_scope(role: &RoleRow, resource: &ResourceRow) -> Result<(), StoreError> {
    let (of_role, of_resource) = (&role.resource_type, &resource.resource.resource_type);
    if of_role == of_resource {
        return Ok(());
    }
    let message = format!("role `{}` is for resources of type `{of_role}`, this one is a `{of_resource}`", role.slug);
    Err(StoreError::Unprocessable {
        code: "invalid_role_scope",
        message: message.into(),
        errors: vec![FieldError::new("role_slug", "invalid_role_scope")],
    })
}

/// Whose assignments.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of<'a> {
    /// All of a membership.
    Membership(&'a MembershipId),
    /// Those of a membership on one resource: its direct organization roles, when that is the root.
    MembershipOn(&'a MembershipId, &'a ResourceId),
    /// The one with this id, if it is the membership's.
    Id(&'a MembershipId, &'a AssignmentId),
    /// All of a role.
    Role(&'a RoleId),
    /// All on these resources.
    Resources(&'a [ResourceId]),
}

/// An assignment and whose organization it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AssignmentRow {
    pub(super) organization: OrganizationId,
    pub(super) assignment: Assignment,
}

/// The assignments themselves; none that come from groups.
pub(super) async fn of(tx: &mut Transaction<'_>, of: Of<'_>) -> Result<Vec<AssignmentRow>, StoreError> {
    const SELECT: &str = "SELECT id, organization_id, membership_id, role_id, resource_id FROM assignments WHERE";
    let engine = tx.engine();
    let statement = |condition: &str| sqlx::query(AssertSqlSafe(format!("{SELECT} {condition} ORDER BY id")));
    let statement = match of {
        Of::Membership(membership) => statement("membership_id = $1").bind(membership.clone()),
        Of::MembershipOn(membership, resource) => {
            statement("membership_id = $1 AND resource_id = $2").bind(membership.clone()).bind(resource.clone())
        }
        Of::Id(membership, id) => statement("membership_id = $1 AND id = $2").bind(membership.clone()).bind(id.clone()),
        Of::Role(role) => statement("role_id = $1").bind(role.clone()),
        Of::Resources(resources) => {
            statement(&format!("resource_id IN ({})", engine.texts_of(1))).bind(serde_json::to_string(resources)?)
        }
    };
    read_all(tx.connection, statement, read_row).await
}

/// Gives a membership a role on a resource. The rows must be there and fit each other; an assignment that exists already stays as it is. The
/// id of one that did not.
pub(super) async fn insert(
    tx: &mut Transaction<'_>,
    organization: &OrganizationId,
    membership: &MembershipId,
    role: &RoleId,
    resource: &ResourceId,
) -> Result<Option<AssignmentId>, StoreError> {
    let id = tx.id("role_assignment_");
    let statement = "INSERT INTO assignments (id, organization_id, membership_id, role_id, resource_id, created_at) \
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (membership_id, role_id, resource_id) DO NOTHING";
    let statement = sqlx::query(statement)
        .bind(id.clone())
        .bind(organization.clone())
        .bind(membership.clone())
        .bind(role.clone())
        .bind(resource.clone())
        .bind(tx.now().0);
    if tx.execute(statement).await? == 0 {
        return Ok(None);
    }
    let id: AssignmentId = id.parse()?;
    let assignment = Assignment {
        id: Some(id.clone()),
        membership: membership.clone(),
        role: role.clone(),
        resource: Some(resource.clone()),
    };
    note(tx, "role_assignment.created", organization, &assignment);
    tx.put(organization, OrganizationRecord::Assignment(assignment));
    Ok(Some(id))
}

/// Takes assignments away, each with its row in the log and in the audit.
pub(super) async fn remove(tx: &mut Transaction<'_>, rows: &[AssignmentRow]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = rows.iter().map(|row| &row.assignment.id).collect();
    let text = format!("DELETE FROM assignments WHERE id IN ({})", tx.engine().texts_of(1));
    tx.execute(sqlx::query(AssertSqlSafe(text)).bind(serde_json::to_string(&ids)?)).await?;
    for AssignmentRow { organization, assignment } in rows {
        tx.delete(organization, OrganizationKey::Assignment(assignment.key()));
        note(tx, "role_assignment.deleted", organization, assignment);
    }
    Ok(())
}

fn note(tx: &mut Transaction<'_>, action: &'static str, organization: &OrganizationId, assignment: &Assignment) {
    let details = json!({
        "role_assignment_id": assignment.id,
        "organization_membership_id": assignment.membership,
        "role_id": assignment.role,
        "resource_id": assignment.resource,
    });
    tx.audit(action, Some(organization), details);
}

fn read_row(row: &AnyRow) -> Result<AssignmentRow, StoreError> {
    Ok(AssignmentRow {
        organization: row.try_get("organization_id")?,
        assignment: Assignment {
            id: row.try_get("id")?,
            membership: row.try_get("membership_id")?,
            role: row.try_get("role_id")?,
            resource: row.try_get("resource_id")?,
        },
    })
}
