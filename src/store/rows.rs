//! Rows in and out: whole organizations and the catalog as records of the domain, and many rows in one statement.

use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::database::{Engine, Statement};
use super::error::StoreError;
use crate::domain::record::{
    Assignment, CustomRole, EnvironmentRole, EnvironmentSettings, Group, GroupAssignment, GroupMember, Member,
    MembershipStatus, OrganizationSettings, Permission, Resource, ResourceType, RoleMode,
};
use crate::domain::{CatalogRows, OrganizationId, OrganizationRows, PermissionSlug, RoleId};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Text,
    Number,
}

/// Inserts `rows` into `columns`, written `table (a, b)` and each of its kind, with one statement however many there are.
pub(super) async fn insert_all<const N: usize>(
    connection: &mut AnyConnection,
    columns: &str,
    kinds: [Column; N],
    rows: &[[Value; N]],
) -> Result<(), StoreError> {
    if !rows.is_empty() {
        let elements = Engine::behind(connection).elements(&kinds);
        let statement = sqlx::query(AssertSqlSafe(format!("INSERT INTO {columns} {elements}")));
        let rows: Vec<&[Value]> = rows.iter().map(AsRef::as_ref).collect();
        statement.bind(serde_json::to_string(&rows)?).execute(connection).await?;
    }
    Ok(())
}

/// Everything the environment declares.
pub(super) async fn catalog(connection: &mut AnyConnection) -> Result<CatalogRows, StoreError> {
    let permissions = sqlx::query("SELECT slug, resource_type_slug FROM permissions ORDER BY slug");
    let permissions = read_all(connection, permissions, |row| {
        Ok(Permission { slug: row.try_get("slug")?, resource_type: row.try_get("resource_type_slug")? })
    })
    .await?;
    let resource_types = sqlx::query("SELECT slug, parents FROM resource_types ORDER BY slug");
    let resource_types = read_all(connection, resource_types, |row| {
        Ok(ResourceType {
            slug: row.try_get("slug")?,
            parents: serde_json::from_str(&row.try_get::<String, _>("parents")?)?,
        })
    })
    .await?;
    let held = permissions_of_roles(connection, None).await?;
    let roles = sqlx::query(
        "SELECT id, slug, resource_type_slug, priority FROM roles WHERE organization_id IS NULL ORDER BY priority, id",
    );
    let roles = read_all(connection, roles, |row| {
        let id: RoleId = row.try_get("id")?;
        Ok(EnvironmentRole {
            slug: row.try_get("slug")?,
            resource_type: row.try_get("resource_type_slug")?,
            priority: u32::try_from(row.try_get::<i64, _>("priority")?).unwrap_or(u32::MAX),
            permissions: permissions_held(&held, &id),
            id,
        })
    })
    .await?;
    let settings = sqlx::query("SELECT role_mode, default_role FROM settings WHERE one = 1");
    let settings = read_all(connection, settings, |row| {
        Ok(EnvironmentSettings {
            role_mode: role_mode(&row.try_get::<String, _>("role_mode")?),
            default_role: row.try_get("default_role")?,
        })
    })
    .await?;
    Ok(CatalogRows { permissions, resource_types, roles, settings: settings.into_iter().next() })
}

/// All facts of one organization; `None` when there is no such organization. To be read in a snapshot.
pub(super) async fn organization(
    connection: &mut AnyConnection,
    id: &OrganizationId,
) -> Result<Option<OrganizationRows>, StoreError> {
    let statement = "SELECT default_role, priorities FROM organizations WHERE id = $1";
    let settings = read_all(connection, sqlx::query(statement).bind(id.clone()), |row| {
        let priorities: Option<String> = row.try_get("priorities")?;
        Ok(OrganizationSettings {
            default_role: row.try_get("default_role")?,
            priorities: priorities.map(|text| serde_json::from_str(&text)).transpose()?.unwrap_or_default(),
        })
    })
    .await?;
    let Some(settings) = settings.into_iter().next() else { return Ok(None) };
    let roles = custom_roles(connection, id).await?;
    let statement = "SELECT id, user_id, status, identity_provider_roles FROM memberships WHERE organization_id = $1";
    let members = read_all(connection, sqlx::query(statement).bind(id.clone()), member).await?;
    let statement = "SELECT id FROM user_groups WHERE organization_id = $1";
    let groups =
        read_all(connection, sqlx::query(statement).bind(id.clone()), |row| Ok(Group { id: row.try_get("id")? }));
    let groups = groups.await?;
    let statement = "SELECT m.group_id, m.membership_id FROM group_members m \
                     JOIN user_groups g ON g.id = m.group_id WHERE g.organization_id = $1";
    let group_members = read_all(connection, sqlx::query(statement).bind(id.clone()), |row| {
        Ok(GroupMember { group: row.try_get("group_id")?, membership: row.try_get("membership_id")? })
    })
    .await?;
    let statement = "SELECT id, resource_type_slug, external_id, parent_id FROM resources WHERE organization_id = $1";
    let resources = read_all(connection, sqlx::query(statement).bind(id.clone()), resource).await?;
    let statement = "SELECT id, membership_id, role_id, resource_id FROM assignments WHERE organization_id = $1";
    let assignments = read_all(connection, sqlx::query(statement).bind(id.clone()), |row| {
        Ok(Assignment {
            id: row.try_get("id")?,
            membership: row.try_get("membership_id")?,
            role: row.try_get("role_id")?,
            resource: row.try_get("resource_id")?,
        })
    })
    .await?;
    let statement = "SELECT id, group_id, role_id, resource_id FROM group_assignments WHERE organization_id = $1";
    let group_assignments = read_all(connection, sqlx::query(statement).bind(id.clone()), |row| {
        Ok(GroupAssignment {
            id: row.try_get("id")?,
            group: row.try_get("group_id")?,
            role: row.try_get("role_id")?,
            resource: row.try_get("resource_id")?,
        })
    })
    .await?;
    let settings = (settings != OrganizationSettings::default()).then_some(settings);
    Ok(Some(OrganizationRows {
        members,
        groups,
        group_members,
        resources,
        roles,
        assignments,
        group_assignments,
        settings,
    }))
}

/// The roles of one organization.
pub(super) async fn custom_roles(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
) -> Result<Vec<CustomRole>, StoreError> {
    let held = permissions_of_roles(connection, Some(organization)).await?;
    let statement = "SELECT id, slug, resource_type_slug FROM roles WHERE organization_id = $1";
    read_all(connection, sqlx::query(statement).bind(organization.clone()), |row| {
        let id: RoleId = row.try_get("id")?;
        let (slug, resource_type) = (row.try_get("slug")?, row.try_get("resource_type_slug")?);
        Ok(CustomRole { permissions: permissions_held(&held, &id), id, slug, resource_type })
    })
    .await
}

/// A membership, from `id, user_id, status, identity_provider_roles`.
pub(super) fn member(row: &AnyRow) -> Result<Member, StoreError> {
    let status = match row.try_get::<String, _>("status")?.as_str() {
        "active" => MembershipStatus::Active,
        "pending" => MembershipStatus::Pending,
        _ => MembershipStatus::Inactive,
    };
    let identity_provider_roles = serde_json::from_str(&row.try_get::<String, _>("identity_provider_roles")?)?;
    Ok(Member { id: row.try_get("id")?, user: row.try_get("user_id")?, status, identity_provider_roles })
}

/// A resource, from `id, resource_type_slug, external_id, parent_id`.
pub(super) fn resource(row: &AnyRow) -> Result<Resource, StoreError> {
    Ok(Resource {
        id: row.try_get("id")?,
        resource_type: row.try_get("resource_type_slug")?,
        external_id: row.try_get("external_id")?,
        parent: row.try_get("parent_id")?,
    })
}

pub(super) fn role_mode(text: &str) -> RoleMode {
    match text {
        "multiple" => RoleMode::Multiple,
        _ => RoleMode::Single,
    }
}

/// Reads every row of an answer.
pub(super) async fn read_all<T>(
    connection: &mut AnyConnection,
    statement: Statement<'_>,
    read: impl Fn(&AnyRow) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    statement.fetch_all(connection).await?.iter().map(read).collect()
}

/// What roles hold, sorted by role: those of the environment, or of one organization.
async fn permissions_of_roles(
    connection: &mut AnyConnection,
    organization: Option<&OrganizationId>,
) -> Result<Vec<(RoleId, PermissionSlug)>, StoreError> {
    let statement = match organization {
        None => sqlx::query(
            "SELECT p.role_id, p.permission_slug FROM role_permissions p JOIN roles r ON r.id = p.role_id \
             WHERE r.organization_id IS NULL ORDER BY p.role_id, p.permission_slug",
        ),
        Some(id) => sqlx::query(
            "SELECT p.role_id, p.permission_slug FROM role_permissions p JOIN roles r ON r.id = p.role_id \
             WHERE r.organization_id = $1 ORDER BY p.role_id, p.permission_slug",
        )
        .bind(id.clone()),
    };
    read_all(connection, statement, |row| Ok((row.try_get("role_id")?, row.try_get("permission_slug")?))).await
}

fn permissions_held(held: &[(RoleId, PermissionSlug)], role: &RoleId) -> Vec<PermissionSlug> {
    let first = held.partition_point(|(other, _)| other < role);
    let rest = held.get(first..).unwrap_or_default();
    rest.iter().take_while(|(other, _)| other == role).map(|(_, permission)| permission.clone()).collect()
}
