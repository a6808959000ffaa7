//! The direct organization roles of a membership: its assignments on the root resource (WorkOS contract R15 to R17, our decision D18).

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use sqlx::AnyConnection;

use super::render::{self, Form};
use super::{MembershipRow, announce, find};
use crate::domain::record::RoleMode;
use crate::domain::{MembershipId, OrganizationId, RoleId};
use crate::store::assignments::{self, Of};
use crate::store::error::{FieldError, StoreError};
use crate::store::transaction::{Reply, Transaction, Write};
use crate::store::{effective, resources, roles};

/// Which organization roles: one, several, or nothing said.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub(super) struct RoleChoice {
    /// The only one; excludes `role_slugs`.
    #[serde(default)]
    role_slug: Option<String>,
    /// All of them; excludes `role_slug`.
    #[serde(default)]
    role_slugs: Option<Vec<String>>,
}

pub(super) struct SetRoles {
    pub(super) id: MembershipId,
    pub(super) roles: RoleChoice,
}

#[async_trait]
impl Write for SetRoles {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let row = find(tx.connection, &self.id).await?;
        let chosen = resolve(tx.connection, &row.organization, &self.roles).await?;
        let changed = match &chosen {
            None => false,
            Some(chosen) => set(tx, &row, chosen).await?,
        };
        if !changed {
            let engine = tx.engine();
            return Reply::ok(&render::one(tx.connection, engine, &self.id, Form::Full).await?);
        }
        let statement = sqlx::query("UPDATE memberships SET updated_at = $1 WHERE id = $2");
        tx.execute(statement.bind(tx.now().0).bind(self.id.clone())).await?;
        Reply::ok(&announce(tx, "organization_membership.updated", &row).await?)
    }
}

/// The roles that were chosen, each once; `None` when nothing was said.
///
/// # Errors
/// [`StoreError::Unprocessable`], [`StoreError::NotOrganizationRole`]
pub(super) async fn resolve(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
    choice: &RoleChoice,
) -> Result<Option<Vec<RoleId>>, StoreError> {
    let slugs = match (&choice.role_slug, &choice.role_slugs) {
        (None, None) => return Ok(None),
        (Some(slug), None) => std::slice::from_ref(slug),
        (None, Some(slugs)) if !slugs.is_empty() => slugs,
        (None, Some(_)) => return Err(invalid("role_slugs", "empty", "a membership has at least one role")),
        (Some(_), Some(_)) => {
            return Err(invalid("role_slugs", "ambiguous", "`role_slug` and `role_slugs` exclude each other"));
        }
    };
    let mut chosen = Vec::new();
    for slug in slugs {
        let role = match slug.parse() {
            Ok(parsed) => roles::resolve(connection, organization, &parsed).await,
            Err(_) => Err(StoreError::not_found("role", slug)),
        };
        let role = match role {
            Ok(role) => role,
            Err(StoreError::NotFound { .. }) => {
                return Err(StoreError::invalid("role_slug", "invalid_role", format!("there is no role `{slug}`")));
            }
            Err(other) => return Err(other),
        };
        if !role.resource_type.is_organization() {
            return Err(StoreError::NotOrganizationRole(slug.clone()));
        }
        if !chosen.contains(&role.id) {
            chosen.push(role.id);
        }
    }
    if chosen.len() > 1 && effective::mode(connection).await? == RoleMode::Single {
        let message = "the environment gives each membership one role: multiple roles are not enabled";
        return Err(StoreError::invalid("role_slugs", "multiple_roles_not_enabled", message));
    }
    Ok(Some(chosen))
}

/// Makes these the direct organization roles, and says whether they were not before.
pub(super) async fn set(tx: &mut Transaction<'_>, row: &MembershipRow, chosen: &[RoleId]) -> Result<bool, StoreError> {
    let root = resources::root(tx.connection, &row.organization).await?.resource.id;
    let before = assignments::of(tx, Of::MembershipOn(&row.member.id, &root)).await?;
    let (kept, lost): (Vec<_>, Vec<_>) = before.into_iter().partition(|old| chosen.contains(&old.assignment.role));
    let new: Vec<&RoleId> = chosen.iter().filter(|id| !kept.iter().any(|old| old.assignment.role == **id)).collect();
    assignments::remove(tx, &lost).await?;
    for role in &new {
        assignments::insert(tx, &row.organization, &row.member.id, role, &root).await?;
    }
    Ok(!lost.is_empty() || !new.is_empty())
}

fn invalid(field: &str, code: &'static str, message: &'static str) -> StoreError {
    StoreError::Unprocessable {
        code: "invalid_request_parameters",
        message: message.into(),
        errors: vec![FieldError::new(field, code)],
    }
}
