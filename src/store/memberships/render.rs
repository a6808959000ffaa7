//! Memberships as answers have them.

use std::collections::{BTreeMap, HashMap};

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use crate::domain::{MembershipId, OrganizationId};
use crate::store::database::Engine;
use crate::store::effective::{self, Roles};
use crate::store::error::StoreError;
use crate::store::rows::read_all;
use crate::store::time::Millis;
use crate::store::users;
use crate::wire::api::{Membership, MembershipStatus, RoleName};

/// Which keys an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Form {
    /// The user, no roles.
    WithUser,
    /// Roles, no user: what events carry.
    WithRoles,
    /// Roles and user.
    Full,
}

/// These memberships with their users and without roles, in this order.
pub(in crate::store) async fn with_users(
    connection: &mut AnyConnection,
    ids: &[MembershipId],
) -> Result<Vec<Membership>, StoreError> {
    let engine = Engine::behind(connection);
    render(connection, engine, ids, Form::WithUser).await
}

/// These memberships, in this order; those that are not there are left out.
pub(in crate::store) async fn render(
    connection: &mut AnyConnection,
    engine: Engine,
    ids: &[MembershipId],
    form: Form,
) -> Result<Vec<Membership>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let text = format!(
        "SELECT m.id, m.user_id, m.organization_id, o.name AS organization_name, m.status, m.directory_managed, \
         m.custom_attributes, m.created_at, m.updated_at FROM memberships m \
         JOIN organizations o ON o.id = m.organization_id WHERE m.id IN ({})",
        engine.texts_of(1)
    );
    let statement = sqlx::query(AssertSqlSafe(text)).bind(serde_json::to_string(ids)?);
    let found = read_all(connection, statement, read).await?;
    let mut found: HashMap<String, Membership> = found.into_iter().map(|one| (one.id.clone(), one)).collect();
    if matches!(form, Form::WithRoles | Form::Full) {
        let roles = roles(connection, engine, found.values()).await?;
        for one in found.values_mut() {
            let slugs = roles.get(one.id.as_str()).map(Vec::as_slice).unwrap_or_default();
            let names: Vec<RoleName> = slugs.iter().map(|slug| RoleName { slug: slug.to_string() }).collect();
            one.role = names.first().cloned();
            one.roles = Some(names);
        }
    }
    if matches!(form, Form::WithUser | Form::Full) {
        let wanted: Vec<&str> = found.values().map(|one| one.user_id.as_str()).collect();
        let users = users::find_all(connection, engine, &wanted).await?;
        for one in found.values_mut() {
            one.user = users.get(&one.user_id).cloned();
        }
    }
    Ok(ids.iter().filter_map(|id| found.remove(id.as_str())).collect())
}

/// One membership.
///
/// # Errors
/// [`StoreError::NotFound`]
pub(super) async fn one(
    connection: &mut AnyConnection,
    engine: Engine,
    id: &MembershipId,
    form: Form,
) -> Result<Membership, StoreError> {
    let mut rendered = render(connection, engine, std::slice::from_ref(id), form).await?;
    rendered.pop().ok_or_else(|| StoreError::not_found("organization membership", id))
}

/// The organization roles of memberships, by id.
async fn roles(
    connection: &mut AnyConnection,
    engine: Engine,
    memberships: impl Iterator<Item = &Membership>,
) -> Result<HashMap<String, Roles>, StoreError> {
    let mut organizations: BTreeMap<&str, Vec<MembershipId>> = BTreeMap::new();
    for one in memberships {
        organizations.entry(&one.organization_id).or_default().push(one.id.parse()?);
    }
    let mut all = HashMap::new();
    for (organization, memberships) in organizations {
        let organization: OrganizationId = organization.parse()?;
        let roles = effective::roles_of(connection, engine, &organization, &memberships).await?;
        all.extend(roles.into_iter().map(|(id, roles)| (id.to_string(), roles)));
    }
    Ok(all)
}

fn read(row: &AnyRow) -> Result<Membership, StoreError> {
    Ok(Membership {
        id: row.try_get("id")?,
        user_id: row.try_get("user_id")?,
        organization_id: row.try_get("organization_id")?,
        organization_name: row.try_get("organization_name")?,
        status: match row.try_get::<String, _>("status")?.as_str() {
            "active" => MembershipStatus::Active,
            "pending" => MembershipStatus::Pending,
            _ => MembershipStatus::Inactive,
        },
        directory_managed: row.try_get::<i64, _>("directory_managed")? != 0,
        custom_attributes: serde_json::from_str(&row.try_get::<String, _>("custom_attributes")?)?,
        role: None,
        roles: None,
        user: None,
        created_at: Millis(row.try_get("created_at")?).to_string(),
        updated_at: Millis(row.try_get("updated_at")?).to_string(),
    })
}
