//! Role assignments of memberships (WorkOS contract, section 1.5).

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::api::Operation;
use super::error::StoreError;
use super::rows::read_all;
use super::transaction::Transaction;
use crate::domain::record::{Assignment, OrganizationKey};
use crate::domain::{MembershipId, OrganizationId, OrganizationRecord, ResourceId, RoleId};

pub(super) fn operations() -> Vec<Operation> {
    Vec::new()
}

/// Whose assignments.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of<'a> {
    /// All of a membership.
    Membership(&'a MembershipId),
    /// Those of a membership on one resource: its direct organization roles, when that is the root.
    MembershipOn(&'a MembershipId, &'a ResourceId),
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
        Of::Role(role) => statement("role_id = $1").bind(role.clone()),
        Of::Resources(resources) => {
            statement(&format!("resource_id IN ({})", engine.texts_of(1))).bind(serde_json::to_string(resources)?)
        }
    };
    read_all(tx.connection, statement, read_row).await
}

/// Gives a membership a role on a resource. The rows must be there and fit each other; an assignment that exists already stays as it is.
pub(super) async fn insert(
    tx: &mut Transaction<'_>,
    organization: &OrganizationId,
    membership: &MembershipId,
    role: &RoleId,
    resource: &ResourceId,
) -> Result<(), StoreError> {
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
        return Ok(());
    }
    let assignment = Assignment {
        id: Some(id.parse()?),
        membership: membership.clone(),
        role: role.clone(),
        resource: Some(resource.clone()),
    };
    note(tx, "role_assignment.created", organization, &assignment);
    tx.put(organization, OrganizationRecord::Assignment(assignment));
    Ok(())
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

#[expect(dead_code, reason = "the endpoints use it")]
async fn by_id(connection: &mut AnyConnection, id: &str) -> Result<Option<AssignmentRow>, StoreError> {
    let statement = "SELECT id, organization_id, membership_id, role_id, resource_id FROM assignments WHERE id = $1";
    let row = sqlx::query(statement).bind(id.to_owned()).fetch_optional(connection).await?;
    row.as_ref().map(read_row).transpose()
}
