//! Roles of one organization each (WorkOS contract, section 1.3).

mod slug;

use async_trait::async_trait;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use sqlx::{AnyConnection, Row};

use super::environment::{OnePermission, PermissionList, RoleChanges};
use super::settings::{self, Own};
use super::stored::{self, StoredRole};
use crate::domain::record::OrganizationKey;
use crate::domain::{OrganizationId, PermissionSlug, ResourceTypeSlug, RoleId, RoleSlug};
use crate::store::api::Operation;
use crate::store::error::StoreError;
use crate::store::extract::{Body, Path};
use crate::store::fields::{Description, Name};
use crate::store::keys::Author;
use crate::store::page::WholeList;
use crate::store::transaction::{Reply, Transaction, Write};
use crate::store::writer::Committed;
use crate::store::{Store, model, organizations, permissions};
use crate::wire::api::Role;

pub(super) fn operations() -> Vec<Operation> {
    const ALL: &str = "/authorization/organizations/{organization_id}/roles";
    const ONE: &str = "/authorization/organizations/{organization_id}/roles/{slug}";
    const PERMISSIONS: &str = "/authorization/organizations/{organization_id}/roles/{slug}/permissions";
    const PERMISSION: &str =
        "/authorization/organizations/{organization_id}/roles/{slug}/permissions/{permission_slug}";
    vec![
        Operation::get(ALL, "listOrganizationRoles", list).gives::<WholeList<Role>>(200),
        Operation::post(ALL, "createOrganizationRole", create)
            .takes::<NewOrganizationRole>()
            .gives::<Role>(201)
            .fails(&[409]),
        Operation::get(ONE, "getOrganizationRole", get).gives::<Role>(200),
        Operation::patch(ONE, "updateOrganizationRole", update).takes::<RoleChanges>().gives::<Role>(200),
        Operation::delete(ONE, "deleteOrganizationRole", delete).fails(&[409]),
        Operation::put(PERMISSIONS, "setOrganizationRolePermissions", set).takes::<PermissionList>().gives::<Role>(200),
        Operation::post(PERMISSIONS, "addOrganizationRolePermission", add).takes::<OnePermission>().gives::<Role>(200),
        Operation::delete(PERMISSION, "removeOrganizationRolePermission", remove).gives::<Role>(200),
    ]
}

/// A custom role to be.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct NewOrganizationRole {
    /// `org-…`; made from the name when absent.
    #[serde(default)]
    slug: Option<RoleSlug>,
    name: Name,
    #[serde(default)]
    description: Option<Description>,
    /// `organization` when absent.
    #[serde(default)]
    resource_type_slug: Option<ResourceTypeSlug>,
}

struct CreateRole {
    organization: OrganizationId,
    new: NewOrganizationRole,
}

/// A change of one custom role.
struct ChangeRole {
    organization: OrganizationId,
    slug: RoleSlug,
    change: RoleChange,
}

enum RoleChange {
    Describe(RoleChanges),
    Set(Vec<PermissionSlug>),
    Add(PermissionSlug),
    Remove(PermissionSlug),
}

struct DeleteRole {
    organization: OrganizationId,
    slug: RoleSlug,
}

async fn list(
    State(store): State<Store>,
    Path(organization): Path<OrganizationId>,
) -> Result<axum::Json<WholeList<Role>>, StoreError> {
    let mut connection = store.read().await?;
    organizations::require(&mut connection, &organization).await?;
    let roles = settings::visible(&mut connection, &organization).await?;
    Ok(axum::Json(WholeList { data: roles.iter().map(StoredRole::answer).collect() }))
}

async fn get(
    State(store): State<Store>,
    Path((organization, slug)): Path<(OrganizationId, RoleSlug)>,
) -> Result<axum::Json<Role>, StoreError> {
    let mut connection = store.read().await?;
    Ok(axum::Json(find(&mut connection, &organization, &slug).await?.answer()))
}

async fn create(
    State(store): State<Store>,
    author: Author,
    Path(organization): Path<OrganizationId>,
    Body(new): Body<NewOrganizationRole>,
) -> Result<Committed, StoreError> {
    store.write(author, CreateRole { organization, new }).await
}

async fn update(
    State(store): State<Store>,
    author: Author,
    Path((organization, slug)): Path<(OrganizationId, RoleSlug)>,
    Body(changes): Body<RoleChanges>,
) -> Result<Committed, StoreError> {
    store.write(author, ChangeRole { organization, slug, change: RoleChange::Describe(changes) }).await
}

async fn set(
    State(store): State<Store>,
    author: Author,
    Path((organization, slug)): Path<(OrganizationId, RoleSlug)>,
    Body(PermissionList { permissions }): Body<PermissionList>,
) -> Result<Committed, StoreError> {
    store.write(author, ChangeRole { organization, slug, change: RoleChange::Set(permissions) }).await
}

async fn add(
    State(store): State<Store>,
    author: Author,
    Path((organization, slug)): Path<(OrganizationId, RoleSlug)>,
    Body(OnePermission { slug: permission }): Body<OnePermission>,
) -> Result<Committed, StoreError> {
    store.write(author, ChangeRole { organization, slug, change: RoleChange::Add(permission) }).await
}

async fn remove(
    State(store): State<Store>,
    author: Author,
    Path((organization, slug, permission)): Path<(OrganizationId, RoleSlug, PermissionSlug)>,
) -> Result<Committed, StoreError> {
    store.write(author, ChangeRole { organization, slug, change: RoleChange::Remove(permission) }).await
}

async fn delete(
    State(store): State<Store>,
    author: Author,
    Path((organization, slug)): Path<(OrganizationId, RoleSlug)>,
) -> Result<Committed, StoreError> {
    store.write(author, DeleteRole { organization, slug }).await
}

#[async_trait]
impl Write for CreateRole {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        organizations::require(tx.connection, &self.organization).await?;
        let slug = match &self.new.slug {
            Some(slug) => self.supplied(tx.connection, slug).await?,
            None => self.generated(tx.connection).await?,
        };
        let resource_type = self.new.resource_type_slug.clone().unwrap_or_else(ResourceTypeSlug::organization);
        model::require_resource_type(tx.connection, &resource_type).await?;
        let last =
            "SELECT COUNT(*) AS number, COALESCE(MAX(priority), -1) AS last FROM roles WHERE organization_id = $1";
        let last = sqlx::query(last).bind(self.organization.clone()).fetch_one(&mut *tx.connection).await?;
        let role = StoredRole {
            id: tx.id("role_").parse()?,
            organization: Some(self.organization.clone()),
            slug,
            name: self.new.name.as_str().to_owned(),
            description: self.new.description.as_ref().map(|text| text.as_str().to_owned()),
            resource_type,
            priority: last.try_get::<i64, _>("last")? + 1,
            permissions: Vec::new(),
            created_at: tx.now(),
            updated_at: tx.now(),
        };
        role.insert(tx).await?;
        let is_first = last.try_get::<i64, _>("number")? == 0;
        settings::enlist(tx, &self.organization, &role.id, is_first).await?;
        Reply::created(&role.answer())
    }
}

impl CreateRole {
    async fn supplied(&self, connection: &mut AnyConnection, slug: &RoleSlug) -> Result<RoleSlug, StoreError> {
        if !slug::is_sound(slug) {
            let message = format!(
                "slug `{slug}` of a custom role: expected `org-` and lower-case letters, digits, `-` and `_`, neither two \
                 separators in a row nor one at the end"
            );
            return Err(StoreError::invalid("slug", "invalid_slug", message));
        }
        if self.is_taken(connection, slug).await? {
            let message = format!("a role `{slug}` exists already, in this organization or in the environment");
            return Err(StoreError::conflict("organization_role_slug_conflict", message));
        }
        Ok(slug.clone())
    }

    async fn generated(&self, connection: &mut AnyConnection) -> Result<RoleSlug, StoreError> {
        loop {
            let slug = slug::generate(self.new.name.as_str())?;
            if !self.is_taken(connection, &slug).await? {
                return Ok(slug);
            }
        }
    }

    /// Whether a custom role of this organization or an environment role has the slug (D17).
    async fn is_taken(&self, connection: &mut AnyConnection, slug: &RoleSlug) -> Result<bool, StoreError> {
        Ok(stored::in_organization(connection, &self.organization, slug).await?.is_some())
    }
}

#[async_trait]
impl Write for ChangeRole {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let before = find_own(tx.connection, &self.organization, &self.slug).await?;
        let next = match &self.change {
            RoleChange::Describe(changes) => before.described(changes.name.as_ref(), &changes.description),
            RoleChange::Set(wanted) => before.permitting(tx.connection, wanted).await?,
            RoleChange::Add(permission) => {
                permissions::find(tx.connection, permission).await?;
                let wanted: Vec<_> = before.permissions.iter().chain([permission]).cloned().collect();
                before.permitting(tx.connection, &wanted).await?
            }
            RoleChange::Remove(permission) => {
                permissions::find(tx.connection, permission).await?;
                let mut next = before.clone();
                next.permissions.retain(|held| held != permission);
                next
            }
        };
        Reply::ok(&next.replace(tx, &before).await?.answer())
    }
}

#[async_trait]
impl Write for DeleteRole {
    /// Refused while anybody holds the role (WorkOS contract R25).
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        let role = find_own(tx.connection, &self.organization, &self.slug).await?;
        let held = "SELECT 1 AS one FROM assignments WHERE role_id = $1 \
                    UNION ALL SELECT 1 AS one FROM group_assignments WHERE role_id = $1 LIMIT 1";
        if is_there(tx.connection, held, &role.id).await? {
            let message = format!("role `{}` is assigned: remove its assignments first", self.slug);
            return Err(StoreError::conflict("role_has_assignments", message));
        }
        let mapped = "SELECT 1 AS one FROM identity_provider_roles WHERE role_id = $1 LIMIT 1";
        if is_there(tx.connection, mapped, &role.id).await? {
            let message = format!("role `{}` is given by the identity provider: remove the mapping first", self.slug);
            return Err(StoreError::conflict("role_has_group_role_mappings", message));
        }
        let before = Own::of(tx.connection, &self.organization).await?;
        if before.default_role.as_ref() == Some(&role.id) {
            let message = format!("role `{}` is the organization's default role: choose another one first", self.slug);
            return Err(StoreError::bad_request(message));
        }
        let mut next = before.clone();
        if let Some(order) = &mut next.priorities {
            order.retain(|id| *id != role.id);
        }
        role.delete(tx).await?;
        tx.delete(&self.organization, OrganizationKey::Role(role.id.clone()));
        next.save(tx, &self.organization, &before).await?;
        Ok(Reply::no_content())
    }
}

async fn is_there(connection: &mut AnyConnection, statement: &'static str, role: &RoleId) -> Result<bool, StoreError> {
    Ok(sqlx::query(statement).bind(role.clone()).fetch_optional(connection).await?.is_some())
}

/// The role that this slug means in this organization.
///
/// # Errors
/// [`StoreError::NotFound`]
async fn find(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
    slug: &RoleSlug,
) -> Result<StoredRole, StoreError> {
    organizations::require(connection, organization).await?;
    let role = stored::in_organization(connection, organization, slug).await?;
    role.ok_or_else(|| StoreError::not_found("role", slug))
}

/// The organization's own role with this slug.
///
/// # Errors
/// [`StoreError::NotFound`], and 400 for a role of the environment.
async fn find_own(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
    slug: &RoleSlug,
) -> Result<StoredRole, StoreError> {
    let role = find(connection, organization, slug).await?;
    if role.organization.is_none() {
        let message = format!("role `{slug}` belongs to the environment and is not changed through an organization");
        return Err(StoreError::bad_request(message));
    }
    Ok(role)
}
