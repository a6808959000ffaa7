//! Organization roles that an identity provider gives: its groups, the roles they stand for in an organization, and the groups of each
//! membership (WorkOS contract R27, our decision D19). They stand in for the direct organization roles of a membership and never touch
//! roles on resources.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::api::Operation;
use super::error::StoreError;
use super::extract::{Body, Path};
use super::fields::Text;
use super::keys::Author;
use super::memberships::Altered;
use super::page::WholeList;
use super::rows::{self, read_all};
use super::transaction::{Reply, Transaction, Write};
use super::writer::Committed;
use super::{Store, memberships, organizations, roles};
use crate::domain::record::Member;
use crate::domain::{MembershipId, OrganizationId, OrganizationRecord, RoleId, RoleSlug};

/// The name of a group of the identity provider.
type GroupName = Text<256>;

pub(super) fn operations() -> Vec<Operation> {
    const ROLES: &str = "/portcullis/v1/organizations/{organization_id}/identity_provider_roles";
    const GROUPS: &str =
        "/portcullis/v1/organization_memberships/{organization_membership_id}/identity_provider_groups";
    vec![
        Operation::get(ROLES, "listIdentityProviderRoles", list).gives::<WholeList<Mapping>>(200),
        Operation::put(ROLES, "setIdentityProviderRoles", set).takes::<Mappings>().gives::<WholeList<Mapping>>(200),
        Operation::get(GROUPS, "getIdentityProviderGroups", groups).gives::<MemberGroups>(200),
        Operation::put(GROUPS, "setIdentityProviderGroups", set_groups).takes::<NewGroups>().gives::<MemberGroups>(200),
    ]
}

/// A group of the identity provider and the organization-wide role that its members get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Mapping {
    /// The name of the group.
    identity_provider_group: GroupName,
    /// The role.
    role_slug: RoleSlug,
}

/// All mappings of an organization, from now on.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Mappings {
    /// At most one for each group.
    identity_provider_roles: Vec<Mapping>,
}

/// The groups that a membership is in at the identity provider, from now on.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewGroups {
    groups: Vec<GroupName>,
}

/// The groups that a membership is in at the identity provider.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "object", rename = "identity_provider_groups")]
struct MemberGroups {
    /// Whose.
    organization_membership_id: MembershipId,
    /// Names, sorted.
    groups: Vec<String>,
    /// The roles that they stand for, sorted.
    role_slugs: Vec<RoleSlug>,
}

struct SetMappings {
    organization: OrganizationId,
    mappings: Vec<Mapping>,
}

struct SetGroups {
    membership: MembershipId,
    groups: Vec<GroupName>,
}

/// Roles by group.
type Roles = BTreeMap<String, RoleId>;

async fn list(
    State(store): State<Store>,
    Path(organization): Path<OrganizationId>,
) -> Result<axum::Json<WholeList<Mapping>>, StoreError> {
    let mut connection = store.read().await?;
    organizations::require(&mut connection, &organization).await?;
    Ok(axum::Json(listed(&mut connection, &organization).await?))
}

async fn set(
    State(store): State<Store>,
    author: Author,
    Path(organization): Path<OrganizationId>,
    Body(Mappings { identity_provider_roles }): Body<Mappings>,
) -> Result<Committed, StoreError> {
    store.write(author, SetMappings { organization, mappings: identity_provider_roles }).await
}

async fn groups(
    State(store): State<Store>,
    Path(membership): Path<MembershipId>,
) -> Result<axum::Json<MemberGroups>, StoreError> {
    let mut connection = store.read().await?;
    Ok(axum::Json(groups_of(&mut connection, &membership).await?))
}

async fn set_groups(
    State(store): State<Store>,
    author: Author,
    Path(membership): Path<MembershipId>,
    Body(NewGroups { groups }): Body<NewGroups>,
) -> Result<Committed, StoreError> {
    store.write(author, SetGroups { membership, groups }).await
}

#[async_trait]
impl Write for SetMappings {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        organizations::require(tx.connection, &self.organization).await?;
        let mut wanted = Roles::new();
        for (place, mapping) in self.mappings.iter().enumerate() {
            let field = format!("identity_provider_roles.{place}.role_slug");
            let role =
                roles::resolve_organization_wide(tx.connection, &self.organization, &mapping.role_slug, &field).await?;
            let group = mapping.identity_provider_group.as_str().to_owned();
            if wanted.insert(group.clone(), role.id).is_some() {
                let field = format!("identity_provider_roles.{place}.identity_provider_group");
                return Err(StoreError::invalid(&field, "duplicate", format!("group `{group}` is listed twice")));
            }
        }
        let before = roles_by_group(tx.connection, &self.organization).await?;
        for (group, role) in before.iter().filter(|(group, role)| wanted.get(*group) != Some(role)) {
            unmap(tx, &self.organization, group, role).await?;
        }
        for (group, role) in wanted.iter().filter(|(group, role)| before.get(*group) != Some(role)) {
            map(tx, &self.organization, group, role).await?;
        }
        refresh(tx, &self.organization, &wanted, None).await?;
        Reply::ok(&listed(tx.connection, &self.organization).await?)
    }
}

#[async_trait]
impl Write for SetGroups {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let organization = memberships::find(tx.connection, &self.membership).await?.organization;
        let before = groups_of(tx.connection, &self.membership).await?;
        let wanted: BTreeSet<&str> = self.groups.iter().map(GroupName::as_str).collect();
        if !wanted.iter().copied().eq(before.groups.iter().map(String::as_str)) {
            let statement = "UPDATE memberships SET identity_provider_groups = $1, updated_at = $2 WHERE id = $3";
            let statement = sqlx::query(statement)
                .bind(serde_json::to_string(&wanted)?)
                .bind(tx.now().0)
                .bind(self.membership.clone());
            tx.execute(statement).await?;
            let details = json!({"organization_membership_id": self.membership, "groups": wanted});
            tx.audit("identity_provider_groups.updated", Some(&organization), details);
        }
        let roles = roles_by_group(tx.connection, &organization).await?;
        refresh(tx, &organization, &roles, Some(&self.membership)).await?;
        Reply::ok(&groups_of(tx.connection, &self.membership).await?)
    }
}

/// Takes roles out of all mappings. Whoever lost roles by it has still to be [told](memberships::Altered).
pub(super) async fn forget_roles(tx: &mut Transaction<'_>, gone: &[RoleId]) -> Result<(), StoreError> {
    let text = format!(
        "SELECT DISTINCT organization_id FROM identity_provider_roles WHERE role_id IN ({}) ORDER BY organization_id",
        tx.engine().texts_of(1)
    );
    let statement = sqlx::query(AssertSqlSafe(text)).bind(serde_json::to_string(gone)?);
    let organizations: Vec<OrganizationId> =
        read_all(tx.connection, statement, |row| Ok(row.try_get("organization_id")?)).await?;
    for organization in &organizations {
        let mut roles = roles_by_group(tx.connection, organization).await?;
        for (group, role) in roles.iter().filter(|(_, role)| gone.contains(role)) {
            unmap(tx, organization, group, role).await?;
        }
        roles.retain(|_, role| !gone.contains(role));
        let outdated = outdated(tx.connection, organization, &roles, None).await?;
        provide(tx, organization, outdated).await?;
    }
    Ok(())
}

async fn map(
    tx: &mut Transaction<'_>,
    organization: &OrganizationId,
    group: &str,
    role: &RoleId,
) -> Result<(), StoreError> {
    let statement = "INSERT INTO identity_provider_roles (organization_id, identity_provider_group, role_id, created_at) \
                     VALUES ($1, $2, $3, $4)";
    let statement =
        sqlx::query(statement).bind(organization.clone()).bind(group.to_owned()).bind(role.clone()).bind(tx.now().0);
    tx.execute(statement).await?;
    let details = json!({"identity_provider_group": group, "role_id": role});
    tx.audit("identity_provider_role.created", Some(organization), details);
    Ok(())
}

async fn unmap(
    tx: &mut Transaction<'_>,
    organization: &OrganizationId,
    group: &str,
    role: &RoleId,
) -> Result<(), StoreError> {
    let statement = "DELETE FROM identity_provider_roles WHERE organization_id = $1 AND identity_provider_group = $2";
    tx.execute(sqlx::query(statement).bind(organization.clone()).bind(group.to_owned())).await?;
    let details = json!({"identity_provider_group": group, "role_id": role});
    tx.audit("identity_provider_role.deleted", Some(organization), details);
    Ok(())
}

/// Brings the roles of memberships up to date with their groups: of one, or of all in the organization.
async fn refresh(
    tx: &mut Transaction<'_>,
    organization: &OrganizationId,
    roles: &Roles,
    only: Option<&MembershipId>,
) -> Result<(), StoreError> {
    let outdated = outdated(tx.connection, organization, roles, only).await?;
    if outdated.is_empty() {
        return Ok(());
    }
    let memberships = outdated.iter().map(|member| member.id.clone()).collect();
    let altered = Altered::among(tx, BTreeMap::from([(organization.clone(), memberships)])).await?;
    provide(tx, organization, outdated).await?;
    altered.announce(tx).await
}

/// Members whose groups stand for other roles than they have, with the roles that they are to have.
async fn outdated(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
    roles: &Roles,
    only: Option<&MembershipId>,
) -> Result<Vec<Member>, StoreError> {
    const SELECT: &str = "SELECT id, user_id, status, identity_provider_groups, identity_provider_roles FROM memberships \
                          WHERE organization_id = $1 \
                          AND (identity_provider_groups <> '[]' OR identity_provider_roles <> '[]')";
    let statement = match only {
        None => sqlx::query(AssertSqlSafe(format!("{SELECT} ORDER BY id"))).bind(organization.clone()),
        Some(membership) => sqlx::query(AssertSqlSafe(format!("{SELECT} AND id = $2")))
            .bind(organization.clone())
            .bind(membership.clone()),
    };
    let members = read_all(connection, statement, |row| {
        let groups: Vec<String> = serde_json::from_str(&row.try_get::<String, _>("identity_provider_groups")?)?;
        Ok((rows::member(row)?, groups))
    })
    .await?;
    let updated = |(member, groups): (Member, Vec<String>)| {
        let provided: BTreeSet<RoleId> = groups.iter().filter_map(|group| roles.get(group).cloned()).collect();
        let same = provided.iter().eq(&member.identity_provider_roles);
        (!same).then(|| Member { identity_provider_roles: provided.into_iter().collect(), ..member })
    };
    Ok(members.into_iter().filter_map(updated).collect())
}

/// Writes the roles that members have from the identity provider.
async fn provide(
    tx: &mut Transaction<'_>,
    organization: &OrganizationId,
    members: Vec<Member>,
) -> Result<(), StoreError> {
    for member in members {
        let provided = serde_json::to_string(&member.identity_provider_roles)?;
        let statement = sqlx::query("UPDATE memberships SET identity_provider_roles = $1 WHERE id = $2");
        tx.execute(statement.bind(provided).bind(member.id.clone())).await?;
        tx.put(organization, OrganizationRecord::Member(member));
    }
    Ok(())
}

async fn roles_by_group(connection: &mut AnyConnection, organization: &OrganizationId) -> Result<Roles, StoreError> {
    let statement = "SELECT identity_provider_group, role_id FROM identity_provider_roles WHERE organization_id = $1";
    let rows = read_all(connection, sqlx::query(statement).bind(organization.clone()), |row| {
        Ok((row.try_get("identity_provider_group")?, row.try_get("role_id")?))
    });
    Ok(rows.await?.into_iter().collect())
}

async fn listed(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
) -> Result<WholeList<Mapping>, StoreError> {
    let statement = "SELECT p.identity_provider_group, r.slug FROM identity_provider_roles p \
                     JOIN roles r ON r.id = p.role_id WHERE p.organization_id = $1 ORDER BY p.identity_provider_group";
    let data = read_all(connection, sqlx::query(statement).bind(organization.clone()), |row| {
        let group: String = row.try_get("identity_provider_group")?;
        Ok(Mapping { identity_provider_group: serde_json::from_value(group.into())?, role_slug: row.try_get("slug")? })
    })
    .await?;
    Ok(WholeList { data })
}

async fn groups_of(connection: &mut AnyConnection, membership: &MembershipId) -> Result<MemberGroups, StoreError> {
    let statement = "SELECT organization_id, identity_provider_groups FROM memberships WHERE id = $1";
    let row = sqlx::query(statement).bind(membership.clone()).fetch_optional(&mut *connection).await?;
    let row = row.ok_or_else(|| StoreError::not_found("organization membership", membership))?;
    let groups: BTreeSet<String> = serde_json::from_str(&row.try_get::<String, _>("identity_provider_groups")?)?;
    let mappings = listed(connection, &row.try_get("organization_id")?).await?;
    let mapped = mappings.data.into_iter().filter(|mapping| groups.contains(mapping.identity_provider_group.as_str()));
    let role_slugs: BTreeSet<RoleSlug> = mapped.map(|mapping| mapping.role_slug).collect();
    Ok(MemberGroups {
        organization_membership_id: membership.clone(),
        groups: groups.into_iter().collect(),
        role_slugs: role_slugs.into_iter().collect(),
    })
}
