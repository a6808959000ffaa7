//! Role assignments of groups (WorkOS contract, section 1.6). What members have through them is not stored: it follows from these rows and
//! from who is in the group, so assigning a role to a group costs the same whatever its size.

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::api::Operation;
use super::error::StoreError;
use super::rows::read_all;
use super::transaction::Transaction;
use crate::domain::record::{GroupAssignment, OrganizationKey};
use crate::domain::{GroupId, OrganizationId, OrganizationRecord, ResourceId, RoleId};

pub(super) fn operations() -> Vec<Operation> {
    Vec::new()
}

/// Whose assignments.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of<'a> {
    /// All of a group.
    Group(&'a GroupId),
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
    const SELECT: &str = "SELECT id, organization_id, group_id, role_id, resource_id FROM group_assignments WHERE";
    let engine = tx.engine();
    let statement = |condition: &str| sqlx::query(AssertSqlSafe(format!("{SELECT} {condition} ORDER BY id")));
    let statement = match of {
        Of::Group(group) => statement("group_id = $1").bind(group.clone()),
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
