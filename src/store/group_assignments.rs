//! Role assignments of groups (WorkOS contract, section 1.6). What members have through them is not stored: it follows from these rows and
//! from who is in the group, so assigning a role to a group costs the same whatever its size.

mod write;

use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::api::Operation;
use super::assignments::RoleOnResource;
use super::error::StoreError;
use super::extract::{Body, Path, Query};
use super::keys::Author;
use super::page::{Listing, PageQuery};
use super::rows::read_all;
use super::time::Millis;
use super::transaction::Transaction;
use super::writer::Committed;
use super::{Store, groups};
use crate::domain::record::{GroupAssignment, OrganizationKey};
use crate::domain::{AssignmentId, GroupId, OrganizationId, OrganizationRecord, ResourceId, RoleId};
use crate::wire::api::{AssignedResource, GroupRoleAssignment, List, RoleName};

use self::write::{Adjust, Assign, Entries, Remove, RemoveById, Replace};

/// `g` is the assignment.
const SELECT: &str = "SELECT g.id, g.group_id, g.created_at, r.slug AS role_slug, s.id AS resource_id, s.external_id, \
                      s.resource_type_slug FROM group_assignments g JOIN roles r ON r.id = g.role_id \
                      JOIN resources s ON s.id = g.resource_id WHERE";

pub(super) fn operations() -> Vec<Operation> {
    const ALL: &str = "/authorization/groups/{group_id}/role_assignments";
    const ONE: &str = "/authorization/groups/{group_id}/role_assignments/{role_assignment_id}";
    vec![
        Operation::get(ALL, "listGroupRoleAssignments", list)
            .asks::<PageQuery>()
            .gives::<List<GroupRoleAssignment>>(200),
        Operation::post(ALL, "createGroupRoleAssignment", assign)
            .takes::<RoleOnResource>()
            .gives::<GroupRoleAssignment>(201)
            .fails(&[409]),
        Operation::put(ALL, "replaceGroupRoleAssignments", replace)
            .takes::<Replacement>()
            .gives::<List<GroupRoleAssignment>>(200),
        Operation::patch(ALL, "patchGroupRoleAssignments", adjust).takes::<Adjustment>().gives_nothing(204),
        Operation::delete(ALL, "removeGroupRoleAssignments", remove_by_criteria).takes::<RoleOnResource>(),
        Operation::get(ONE, "getGroupRoleAssignment", get).gives::<GroupRoleAssignment>(200),
        Operation::delete(ONE, "removeGroupRoleAssignment", remove_by_id),
    ]
}

/// All roles that a group is to have. Each entry names a role and a resource, or no resource: organization-wide.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct Replacement {
    /// At most 100.
    #[schemars(length(max = 100))]
    role_assignments: Entries,
}

/// Roles that a group is to have and not to have, beside those it has. 1 to 100 in all.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct Adjustment {
    /// To have; those it has already are skipped.
    #[serde(default)]
    add: Entries,
    /// Not to have; those it does not have are skipped.
    #[serde(default)]
    remove: Entries,
}

async fn list(
    State(store): State<Store>,
    Path(group): Path<GroupId>,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<List<GroupRoleAssignment>>, StoreError> {
    let mut connection = store.read().await?;
    groups::find(&mut connection, &group).await?;
    let listing = Listing::of(format!("{SELECT} g.group_id = $1")).bind(group);
    Ok(axum::Json(listing.page(&mut connection, &page, read).await?))
}

async fn get(
    State(store): State<Store>,
    Path((group, id)): Path<(GroupId, AssignmentId)>,
) -> Result<axum::Json<GroupRoleAssignment>, StoreError> {
    let mut connection = store.read().await?;
    Ok(axum::Json(answer(&mut connection, &group, &id).await?))
}

async fn assign(
    State(store): State<Store>,
    author: Author,
    Path(group): Path<GroupId>,
    Body(what): Body<RoleOnResource>,
) -> Result<Committed, StoreError> {
    store.write(author, Assign { group, what }).await
}

async fn replace(
    State(store): State<Store>,
    author: Author,
    Path(group): Path<GroupId>,
    Body(Replacement { role_assignments }): Body<Replacement>,
) -> Result<Committed, StoreError> {
    write::require_at_most(&[&role_assignments])?;
    store.write(author, Replace { group, entries: role_assignments }).await
}

async fn adjust(
    State(store): State<Store>,
    author: Author,
    Path(group): Path<GroupId>,
    Body(Adjustment { add, remove }): Body<Adjustment>,
) -> Result<Committed, StoreError> {
    write::require_at_most(&[&add, &remove])?;
    if add.is_empty() && remove.is_empty() {
        return Err(StoreError::invalid("add", "empty", "expected 1 to 100 entries in `add` and `remove`"));
    }
    store.write(author, Adjust { group, add, remove }).await
}

async fn remove_by_criteria(
    State(store): State<Store>,
    author: Author,
    Path(group): Path<GroupId>,
    Body(what): Body<RoleOnResource>,
) -> Result<Committed, StoreError> {
    store.write(author, Remove { group, what }).await
}

async fn remove_by_id(
    State(store): State<Store>,
    author: Author,
    Path((group, id)): Path<(GroupId, AssignmentId)>,
) -> Result<Committed, StoreError> {
    store.write(author, RemoveById { group, id }).await
}

/// The assignment as clients see it.
async fn answer(
    connection: &mut AnyConnection,
    group: &GroupId,
    id: &AssignmentId,
) -> Result<GroupRoleAssignment, StoreError> {
    let text = format!("{SELECT} g.group_id = $1 AND g.id = $2");
    let statement = sqlx::query(AssertSqlSafe(text)).bind(group.clone()).bind(id.clone());
    let row = statement.fetch_optional(connection).await?;
    read(&row.ok_or_else(|| StoreError::not_found("group role assignment", id))?)
}

/// All assignments of a group as clients see them, newest first.
async fn answers(connection: &mut AnyConnection, group: &GroupId) -> Result<Vec<GroupRoleAssignment>, StoreError> {
    let text = format!("{SELECT} g.group_id = $1 ORDER BY g.created_at DESC, g.id DESC");
    read_all(connection, sqlx::query(AssertSqlSafe(text)).bind(group.clone()), read).await
}

fn read(row: &AnyRow) -> Result<GroupRoleAssignment, StoreError> {
    let created_at = Millis(row.try_get("created_at")?).to_string();
    Ok(GroupRoleAssignment {
        id: row.try_get("id")?,
        group_id: row.try_get("group_id")?,
        role: RoleName { slug: row.try_get("role_slug")? },
        resource: AssignedResource {
            id: row.try_get("resource_id")?,
            external_id: row.try_get("external_id")?,
            resource_type_slug: row.try_get("resource_type_slug")?,
        },
        updated_at: created_at.clone(),
        created_at,
    })
}

/// Whose assignments.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of<'a> {
    /// All of a group.
    Group(&'a GroupId),
    /// The one of a group with this role on this resource.
    GroupWith(&'a GroupId, &'a RoleId, &'a ResourceId),
    /// The one with this id, if it is the group's.
    Id(&'a GroupId, &'a AssignmentId),
    /// All of a role.
    Role(&'a RoleId),
    /// All on these resources.
    Resources(&'a [ResourceId]),
}

/// A group assignment, whose organization it belongs to, and since when it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupAssignmentRow {
    pub(super) organization: OrganizationId,
    pub(super) assignment: GroupAssignment,
}

/// The rows themselves.
pub(super) async fn of(tx: &mut Transaction<'_>, of: Of<'_>) -> Result<Vec<GroupAssignmentRow>, StoreError> {
    const ROWS: &str = "SELECT id, organization_id, group_id, role_id, resource_id FROM group_assignments WHERE";
    let engine = tx.engine();
    let statement = |condition: &str| sqlx::query(AssertSqlSafe(format!("{ROWS} {condition} ORDER BY id")));
    let statement = match of {
        Of::Group(group) => statement("group_id = $1").bind(group.clone()),
        Of::GroupWith(group, role, resource) => statement("group_id = $1 AND role_id = $2 AND resource_id = $3")
            .bind(group.clone())
            .bind(role.clone())
            .bind(resource.clone()),
        Of::Id(group, id) => statement("group_id = $1 AND id = $2").bind(group.clone()).bind(id.clone()),
        Of::Role(role) => statement("role_id = $1").bind(role.clone()),
        Of::Resources(resources) => {
            statement(&format!("resource_id IN ({})", engine.texts_of(1))).bind(serde_json::to_string(resources)?)
        }
    };
    read_all(tx.connection, statement, read_row).await
}

/// Gives a group a role on a resource. The rows must be there and fit each other; says whether it is new.
pub(super) async fn insert(
    tx: &mut Transaction<'_>,
    organization: &OrganizationId,
    group: &GroupId,
    role: &RoleId,
    resource: &ResourceId,
) -> Result<bool, StoreError> {
    let id = tx.id("gra_");
    let statement = "INSERT INTO group_assignments (id, organization_id, group_id, role_id, resource_id, created_at) \
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (group_id, role_id, resource_id) DO NOTHING";
    let statement = sqlx::query(statement)
        .bind(id.clone())
        .bind(organization.clone())
        .bind(group.clone())
        .bind(role.clone())
        .bind(resource.clone())
        .bind(tx.now().0);
    if tx.execute(statement).await? == 0 {
        return Ok(false);
    }
    let assignment = GroupAssignment {
        id: Some(id.parse()?),
        group: group.clone(),
        role: role.clone(),
        resource: Some(resource.clone()),
    };
    note(tx, "group_role_assignment.created", organization, &assignment);
    tx.put(organization, OrganizationRecord::GroupAssignment(assignment));
    Ok(true)
}

/// Takes assignments away, each with its row in the log and in the audit. What single-role mode makes of it for the members is up to
/// [`effective`](super::effective).
pub(super) async fn remove(tx: &mut Transaction<'_>, rows: &[GroupAssignmentRow]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = rows.iter().map(|row| &row.assignment.id).collect();
    let text = format!("DELETE FROM group_assignments WHERE id IN ({})", tx.engine().texts_of(1));
    tx.execute(sqlx::query(AssertSqlSafe(text)).bind(serde_json::to_string(&ids)?)).await?;
    for GroupAssignmentRow { organization, assignment } in rows {
        tx.delete(organization, OrganizationKey::GroupAssignment(assignment.key()));
        note(tx, "group_role_assignment.deleted", organization, assignment);
    }
    Ok(())
}

fn note(tx: &mut Transaction<'_>, action: &'static str, organization: &OrganizationId, assignment: &GroupAssignment) {
    let details = json!({
        "group_role_assignment_id": assignment.id,
        "group_id": assignment.group,
        "role_id": assignment.role,
        "resource_id": assignment.resource,
    });
    tx.audit(action, Some(organization), details);
}

fn read_row(row: &AnyRow) -> Result<GroupAssignmentRow, StoreError> {
    Ok(GroupAssignmentRow {
        organization: row.try_get("organization_id")?,
        assignment: GroupAssignment {
            id: row.try_get("id")?,
            group: row.try_get("group_id")?,
            role: row.try_get("role_id")?,
            resource: row.try_get("resource_id")?,
        },
    })
}
