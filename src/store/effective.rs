//! The organization roles that memberships have in effect, from the rows as a transaction sees them. What follows from the rows is worked
//! out by the same engine as everywhere, on a shard of just the memberships in question.
//!
//! And what single-role mode does when a role from a group is lost (WorkOS contract R33, our decision D1): where that role was the one in
//! effect and nothing else gives it, the membership falls back to the default role, not to the direct role it had before.

use std::collections::HashMap;

use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::assignments::{self, Of};
use super::database::Engine;
use super::error::StoreError;
use super::rows::{self, read_all};
use super::transaction::Transaction;
use super::{resources, roles};
use crate::domain::record::{
    Assignment, Group, GroupAssignment, GroupMember, OrganizationRows, OrganizationSettings, RoleMode,
};
use crate::domain::{Catalog, Keep, MembershipId, OrganizationId, RoleSlug, Shard};

/// The organization roles of one membership, highest priority first.
pub(super) type Roles = Vec<RoleSlug>;

/// What memberships of one organization have before something is changed.
pub(super) struct Before {
    organization: OrganizationId,
    roles: HashMap<MembershipId, Roles>,
    mode: RoleMode,
}

/// The organization roles of these memberships of one organization. A membership that is not active shows what it would have.
pub(super) async fn roles_of(
    connection: &mut AnyConnection,
    engine: Engine,
    organization: &OrganizationId,
    memberships: &[MembershipId],
) -> Result<HashMap<MembershipId, Roles>, StoreError> {
    let catalog = Catalog::build(&rows::catalog(connection).await?)?.value;
    let mut rows = organization_roles(connection, engine, organization, memberships).await?;
    for member in &mut rows.members {
        // Roles are kept while a membership is switched off.
        member.status = crate::domain::record::MembershipStatus::Active;
    }
    let shard = Shard::build(&catalog, organization, &rows, Keep { assignment_ids: false })?.value;
    let claims = |membership: &MembershipId| {
        let claims = shard.claims(&catalog, membership)?;
        Some((membership.clone(), claims.roles))
    };
    Ok(memberships.iter().filter_map(claims).collect())
}

/// One organization role for each membership, or several.
pub(super) async fn mode(connection: &mut AnyConnection) -> Result<RoleMode, StoreError> {
    let row = sqlx::query("SELECT role_mode FROM settings WHERE one = 1").fetch_optional(connection).await?;
    let mode = row.map(|row| row.try_get::<String, _>("role_mode")).transpose()?;
    Ok(mode.map_or(RoleMode::Single, |mode| rows::role_mode(&mode)))
}

/// Remembers what these memberships have, before roles from groups are taken away.
pub(super) async fn before(
    tx: &mut Transaction<'_>,
    organization: &OrganizationId,
    memberships: &[MembershipId],
) -> Result<Before, StoreError> {
    let mode = mode(tx.connection).await?;
    let roles = match mode {
        RoleMode::Multiple => HashMap::new(),
        RoleMode::Single => roles_of(tx.connection, tx.engine(), organization, memberships).await?,
    };
    Ok(Before { organization: organization.clone(), roles, mode })
}

impl Before {
    /// Resets those that lost the role they had in effect. To be called after roles from groups were taken away.
    pub(super) async fn settle(self, tx: &mut Transaction<'_>) -> Result<(), StoreError> {
        if self.mode == RoleMode::Multiple || self.roles.is_empty() {
            return Ok(());
        }
        let memberships: Vec<MembershipId> = self.roles.keys().cloned().collect();
        let after = roles_of(tx.connection, tx.engine(), &self.organization, &memberships).await?;
        let root = resources::root(tx.connection, &self.organization).await?.resource.id;
        let default = roles::default_of(tx.connection, &self.organization).await?;
        let mut lost: Vec<&MembershipId> = Vec::new();
        lost.extend(self.roles.iter().filter(|(id, roles)| after.get(*id) != Some(*roles)).map(|(id, _)| id));
        lost.sort_unstable();
        for membership in lost {
            let direct = assignments::of(tx, Of::MembershipOn(membership, &root)).await?;
            let other: Vec<_> =
                direct.into_iter().filter(|row| Some(&row.assignment.role) != default.as_ref()).collect();
            assignments::remove(tx, &other).await?;
            if let Some(default) = &default {
                assignments::insert(tx, &self.organization, membership, default, &root).await?;
            }
        }
        Ok(())
    }
}

/// The rows that decide about organization roles, of these memberships only.
async fn organization_roles(
    connection: &mut AnyConnection,
    engine: Engine,
    organization: &OrganizationId,
    memberships: &[MembershipId],
) -> Result<OrganizationRows, StoreError> {
    let these = serde_json::to_string(memberships)?;
    let query = |text: String| sqlx::query(AssertSqlSafe(text)).bind(organization.clone()).bind(these.clone());
    let listed = engine.texts_of(2);
    let text = format!(
        "SELECT id, user_id, status, identity_provider_groups FROM memberships \
         WHERE organization_id = $1 AND id IN ({listed})"
    );
    let members = read_all(connection, query(text), rows::member).await?;
    let text = format!(
        "SELECT group_id, membership_id FROM group_members WHERE membership_id IN ({listed}) AND group_id IN \
         (SELECT id FROM user_groups WHERE organization_id = $1)"
    );
    let group_members = read_all(connection, query(text), |row| {
        Ok(GroupMember { group: row.try_get("group_id")?, membership: row.try_get("membership_id")? })
    })
    .await?;
    let text = format!(
        "SELECT a.membership_id, a.role_id FROM assignments a JOIN resources r ON r.id = a.resource_id \
         WHERE r.organization_id = $1 AND r.parent_id IS NULL AND a.membership_id IN ({listed})"
    );
    let assignments = read_all(connection, query(text), |row| {
        let (membership, role) = (row.try_get("membership_id")?, row.try_get("role_id")?);
        Ok(Assignment { id: None, membership, role, resource: None })
    })
    .await?;
    let statement = "SELECT g.group_id, g.role_id FROM group_assignments g JOIN resources r ON r.id = g.resource_id \
                     WHERE r.organization_id = $1 AND r.parent_id IS NULL";
    let statement = sqlx::query(statement).bind(organization.clone());
    let group_assignments = read_all(connection, statement, |row| {
        let (group, role) = (row.try_get("group_id")?, row.try_get("role_id")?);
        Ok(GroupAssignment { id: None, group, role, resource: None })
    })
    .await?;
    let groups: std::collections::HashSet<_> = group_assignments.iter().map(|row| row.group.clone()).collect();
    let statement = "SELECT default_role, priorities FROM organizations WHERE id = $1";
    let settings = read_all(connection, sqlx::query(statement).bind(organization.clone()), |row| {
        let priorities: Option<String> = row.try_get("priorities")?;
        let priorities = priorities.map(|text| serde_json::from_str(&text)).transpose()?.unwrap_or_default();
        Ok(OrganizationSettings { default_role: row.try_get("default_role")?, priorities })
    })
    .await?;
    Ok(OrganizationRows {
        members,
        groups: groups.into_iter().map(|id| Group { id }).collect(),
        group_members,
        resources: vec![resources::root(connection, organization).await?.resource],
        roles: rows::custom_roles(connection, organization).await?,
        assignments,
        group_assignments,
        settings: settings.into_iter().next(),
    })
}
