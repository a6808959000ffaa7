//! The assignments that clients see: those that are stored, and those that members have through groups.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::TargetFilter;
use crate::domain::record::Resource;
use crate::domain::{AssignmentId, MembershipId, ResourceId, RoleId, RoleSlug};
use crate::store::error::StoreError;
use crate::store::page::Listing;
use crate::store::resources::has_external_id;
use crate::store::time::Millis;
use crate::wire::api::{AssignedResource, AssignmentSource, GroupName, RoleAssignment, RoleName, SourceKind};

/// Stored ones. `h` is what a membership holds.
const DIRECT: &str = "SELECT h.id AS id, h.created_at AS created_at, h.membership_id AS membership_id, r.slug AS role_slug, \
                      s.id AS resource_id, s.external_id AS external_id, s.resource_type_slug AS resource_type_slug, \
                      CAST(NULL AS TEXT) AS group_assignment_id, CAST(NULL AS TEXT) AS group_id, \
                      CAST(NULL AS TEXT) AS group_name FROM assignments h JOIN roles r ON r.id = h.role_id \
                      JOIN resources s ON s.id = h.resource_id WHERE";

/// Those through groups. `h` is a membership in a group. Their ids are made of both: `role_assignment_<of gra_…>_<of om_…>`.
const DERIVED: &str = "SELECT 'role_assignment_' || substr(g.id, 5) || '_' || substr(h.membership_id, 4) AS id, \
                       CASE WHEN g.created_at > h.created_at THEN g.created_at ELSE h.created_at END AS created_at, \
                       h.membership_id AS membership_id, r.slug AS role_slug, s.id AS resource_id, \
                       s.external_id AS external_id, s.resource_type_slug AS resource_type_slug, \
                       g.id AS group_assignment_id, u.id AS group_id, u.name AS group_name \
                       FROM group_members h JOIN group_assignments g ON g.group_id = h.group_id \
                       JOIN user_groups u ON u.id = g.group_id JOIN roles r ON r.id = g.role_id \
                       JOIN resources s ON s.id = g.resource_id WHERE";

/// Everything a membership holds, on the resources that `filter` lets through.
pub(super) fn of_membership(membership: &MembershipId, filter: &TargetFilter) -> Listing {
    let mut condition = "h.membership_id = $1".to_owned();
    let mut texts = vec![membership.to_string()];
    let mut place = |text: &str| {
        texts.push(text.to_owned());
        texts.len()
    };
    if let Some(id) = &filter.resource_id {
        condition.push_str(&format!(" AND s.id = ${}", place(id.as_str())));
    }
    if let Some(resource_type) = &filter.resource_type_slug {
        condition.push_str(&format!(" AND s.resource_type_slug = ${}", place(resource_type.as_str())));
    }
    if let Some(external_id) = &filter.resource_external_id {
        condition.push_str(&format!(" AND {}", has_external_id("s", place(external_id.as_str()))));
    }
    texts.into_iter().fold(both(&condition), Listing::bind)
}

/// Everything that anybody holds on a resource.
pub(super) fn on_resource(resource: &ResourceId, role: Option<&RoleSlug>) -> Listing {
    match role {
        None => both("s.id = $1").bind(resource),
        Some(role) => both("s.id = $1 AND r.slug = $2").bind(resource).bind(role),
    }
}

fn both(condition: &str) -> Listing {
    Listing::of(format!("{DIRECT} {condition} UNION ALL {DERIVED} {condition}"))
}

/// A stored assignment as clients see it.
pub(super) async fn stored(
    connection: &mut AnyConnection,
    membership: &MembershipId,
    role: &RoleId,
    resource: &ResourceId,
) -> Result<RoleAssignment, StoreError> {
    let text = format!("{DIRECT} h.membership_id = $1 AND h.role_id = $2 AND h.resource_id = $3");
    let statement = sqlx::query(AssertSqlSafe(text)).bind(membership.clone()).bind(role.clone()).bind(resource.clone());
    let row = statement.fetch_optional(connection).await?;
    read(&row.ok_or_else(|| StoreError::not_found("role assignment", role))?)
}

/// One that was just made, as [`stored`] would find it.
pub(super) fn made(
    id: AssignmentId,
    membership: &MembershipId,
    role: &RoleSlug,
    resource: &Resource,
    now: Millis,
) -> RoleAssignment {
    RoleAssignment {
        id: id.to_string(),
        organization_membership_id: membership.to_string(),
        role: RoleName { slug: role.to_string() },
        resource: AssignedResource {
            id: resource.id.to_string(),
            external_id: resource.external_id.to_string(),
            resource_type_slug: resource.resource_type.to_string(),
        },
        source: AssignmentSource { kind: SourceKind::Direct, group_role_assignment_id: None, group: None },
        created_at: now.to_string(),
        updated_at: now.to_string(),
    }
}

/// Whether the membership has the role on the resource through a group.
pub(super) async fn through_group(
    connection: &mut AnyConnection,
    membership: &MembershipId,
    role: &RoleId,
    resource: &ResourceId,
) -> Result<bool, StoreError> {
    let text = format!("{DERIVED} h.membership_id = $1 AND g.role_id = $2 AND g.resource_id = $3 LIMIT 1");
    let statement = sqlx::query(AssertSqlSafe(text)).bind(membership.clone()).bind(role.clone()).bind(resource.clone());
    Ok(statement.fetch_optional(connection).await?.is_some())
}

/// Whether this is the id of something that the membership has through a group.
pub(super) async fn is_through_group(
    connection: &mut AnyConnection,
    membership: &MembershipId,
    id: &AssignmentId,
) -> Result<bool, StoreError> {
    let text = format!("SELECT derived.id FROM ({DERIVED} h.membership_id = $1) AS derived WHERE derived.id = $2");
    let statement = sqlx::query(AssertSqlSafe(text)).bind(membership.clone()).bind(id.clone());
    Ok(statement.fetch_optional(connection).await?.is_some())
}

pub(super) fn read(row: &AnyRow) -> Result<RoleAssignment, StoreError> {
    let group_role_assignment_id: Option<String> = row.try_get("group_assignment_id")?;
    let source = match group_role_assignment_id {
        None => AssignmentSource { kind: SourceKind::Direct, group_role_assignment_id: None, group: None },
        Some(id) => AssignmentSource {
            kind: SourceKind::Group,
            group_role_assignment_id: Some(id),
            group: Some(GroupName { id: row.try_get("group_id")?, name: row.try_get("group_name")? }),
        },
    };
    let created_at = Millis(row.try_get("created_at")?).to_string();
    Ok(RoleAssignment {
        id: row.try_get("id")?,
        organization_membership_id: row.try_get("membership_id")?,
        role: RoleName { slug: row.try_get("role_slug")? },
        resource: AssignedResource {
            id: row.try_get("resource_id")?,
            external_id: row.try_get("external_id")?,
            resource_type_slug: row.try_get("resource_type_slug")?,
        },
        source,
        updated_at: created_at.clone(),
        created_at,
    })
}
