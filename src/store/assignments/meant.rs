//! What a request to give or take a role is about: the membership's organization, the role, the resource.

use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::RoleOnResource;
use crate::domain::{MembershipId, OrganizationId};
use crate::store::error::StoreError;
use crate::store::resources::{ResourceRow, has_external_id};
use crate::store::roles::RoleRow;
use crate::store::{memberships, roles, rows};

/// All three, which fit each other as far as the organization goes.
pub(super) struct Meant {
    pub(super) organization: OrganizationId,
    pub(super) role: RoleRow,
    pub(super) resource: ResourceRow,
}

impl Meant {
    /// Finds them with one statement; one by one where something is missing, to say what.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or [`StoreError::Unprocessable`] when it is not one resource that is named.
    pub(super) async fn find(
        connection: &mut AnyConnection,
        membership: &MembershipId,
        what: &RoleOnResource,
    ) -> Result<Self, StoreError> {
        if let Some(found) = Self::at_once(connection, membership, what).await? {
            return Ok(found);
        }
        let organization = memberships::find(connection, membership).await?.organization;
        let role = roles::resolve(connection, &organization, &what.role_slug).await?;
        let resource = what.target.resolve(connection, &organization).await?;
        Ok(Self { organization, role, resource })
    }

    async fn at_once(
        connection: &mut AnyConnection,
        membership: &MembershipId,
        RoleOnResource { role_slug, target }: &RoleOnResource,
    ) -> Result<Option<Self>, StoreError> {
        let (condition, texts) = match (&target.resource_id, &target.resource_type_slug, &target.resource_external_id) {
            (Some(id), None, None) => ("s.id = $3".to_owned(), vec![id.to_string()]),
            (None, Some(resource_type), Some(external_id)) => {
                let condition = format!("s.resource_type_slug = $3 AND {}", has_external_id("s", 4));
                (condition, vec![resource_type.to_string(), external_id.to_string()])
            }
            _ => return Ok(None),
        };
        let text = format!(
            "SELECT r.id AS role_id, r.slug AS role_slug, r.organization_id AS role_organization, \
             r.resource_type_slug AS role_type, \
             s.id, s.organization_id, s.resource_type_slug, s.external_id, s.parent_id FROM memberships m \
             JOIN roles r ON r.slug = $2 AND (r.organization_id = m.organization_id OR r.organization_id IS NULL) \
             JOIN resources s ON s.organization_id = m.organization_id AND {condition} \
             WHERE m.id = $1 ORDER BY r.organization_id IS NULL LIMIT 1"
        );
        let statement = sqlx::query(AssertSqlSafe(text)).bind(membership.clone()).bind(role_slug.clone());
        let statement = texts.into_iter().fold(statement, |statement, text| statement.bind(text));
        let Some(row) = statement.fetch_optional(connection).await? else { return Ok(None) };
        let organization: OrganizationId = row.try_get("organization_id")?;
        Ok(Some(Self {
            organization: organization.clone(),
            role: RoleRow {
                id: row.try_get("role_id")?,
                slug: row.try_get("role_slug")?,
                organization: row.try_get("role_organization")?,
                resource_type: row.try_get("role_type")?,
            },
            resource: ResourceRow { organization, resource: rows::resource(&row)? },
        }))
    }
}
