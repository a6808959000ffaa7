//! A role with everything that is stored of it: read, changed, noted in the log, published.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use crate::domain::record::{CustomRole, EnvironmentRole};
use crate::domain::{
    CatalogRecord, OrganizationId, OrganizationRecord, PermissionSlug, ResourceTypeSlug, RoleId, RoleSlug,
};
use crate::store::error::{FieldError, StoreError};
use crate::store::fields::{Description, Name, Patch};
use crate::store::model;
use crate::store::permissions;
use crate::store::rows::read_all;
use crate::store::time::Millis;
use crate::store::transaction::Transaction;
use crate::wire::api::{Role, RoleKind};

/// A role of the environment or of one organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct StoredRole {
    pub(in crate::store) id: RoleId,
    /// `None`: of the environment.
    pub(in crate::store) organization: Option<OrganizationId>,
    pub(in crate::store) slug: RoleSlug,
    pub(in crate::store) name: String,
    pub(in crate::store) description: Option<String>,
    pub(in crate::store) resource_type: ResourceTypeSlug,
    pub(in crate::store) priority: i64,
    /// Sorted.
    pub(in crate::store) permissions: Vec<PermissionSlug>,
    pub(in crate::store) created_at: Millis,
    pub(in crate::store) updated_at: Millis,
}

/// What became of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Happened {
    Created,
    Updated,
    Deleted,
}

/// What the events about environment roles carry (WorkOS contract, section 6).
#[derive(Serialize)]
struct RoleEvent<'a> {
    object: &'static str,
    slug: &'a RoleSlug,
    resource_type_slug: &'a ResourceTypeSlug,
    permissions: &'a [PermissionSlug],
    created_at: Millis,
    updated_at: Millis,
}

/// What the events about custom roles carry.
#[derive(Serialize)]
struct OrganizationRoleEvent<'a> {
    object: &'static str,
    organization_id: &'a OrganizationId,
    slug: &'a RoleSlug,
    name: &'a str,
    description: Option<&'a str>,
    resource_type_slug: &'a ResourceTypeSlug,
    permissions: &'a [PermissionSlug],
    created_at: Millis,
    updated_at: Millis,
}

/// All roles of the environment, highest priority first.
pub(in crate::store) async fn of_environment(connection: &mut AnyConnection) -> Result<Vec<StoredRole>, StoreError> {
    select(connection, "organization_id IS NULL", &[]).await
}

/// The roles of one organization, in the order they were made in.
pub(super) async fn of_organization(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
) -> Result<Vec<StoredRole>, StoreError> {
    select(connection, "organization_id = $1", &[organization.as_str()]).await
}

/// Every custom role there is.
pub(in crate::store) async fn of_organizations(connection: &mut AnyConnection) -> Result<Vec<StoredRole>, StoreError> {
    select(connection, "organization_id IS NOT NULL", &[]).await
}

/// Every role that holds a permission.
pub(super) async fn holders(
    connection: &mut AnyConnection,
    permission: &PermissionSlug,
) -> Result<Vec<StoredRole>, StoreError> {
    const HOLDS: &str = "id IN (SELECT h.role_id FROM role_permissions h WHERE h.permission_slug = $1)";
    select(connection, HOLDS, &[permission.as_str()]).await
}

/// The environment role with this slug.
pub(super) async fn in_environment(
    connection: &mut AnyConnection,
    slug: &RoleSlug,
) -> Result<Option<StoredRole>, StoreError> {
    Ok(select(connection, "organization_id IS NULL AND slug = $1", &[slug.as_str()]).await?.pop())
}

/// The role that this slug means in an organization: its own, or one of the environment.
pub(super) async fn in_organization(
    connection: &mut AnyConnection,
    organization: &OrganizationId,
    slug: &RoleSlug,
) -> Result<Option<StoredRole>, StoreError> {
    const NAMED: &str = "slug = $2 AND (organization_id = $1 OR organization_id IS NULL)";
    let mut found = select(connection, NAMED, &[organization.as_str(), slug.as_str()]).await?;
    found.sort_by_key(|role| role.organization.is_none());
    Ok(found.into_iter().next())
}

async fn select(
    connection: &mut AnyConnection,
    condition: &'static str,
    texts: &[&str],
) -> Result<Vec<StoredRole>, StoreError> {
    let query = |text: String| {
        let statement = sqlx::query(AssertSqlSafe(text));
        texts.iter().fold(statement, |statement, text| statement.bind((*text).to_owned()))
    };
    let text = format!(
        "SELECT id, organization_id, slug, name, description, resource_type_slug, priority, created_at, updated_at \
         FROM roles WHERE {condition} ORDER BY priority, id"
    );
    let mut roles = read_all(connection, query(text), read).await?;
    let text = format!(
        "SELECT role_id, permission_slug FROM role_permissions WHERE role_id IN \
         (SELECT id FROM roles WHERE {condition}) ORDER BY permission_slug"
    );
    let pairs = read_all(connection, query(text), |row| Ok((row.try_get("role_id")?, row.try_get("permission_slug")?)));
    let mut held: HashMap<RoleId, Vec<PermissionSlug>> = HashMap::new();
    for (role, permission) in pairs.await? {
        held.entry(role).or_default().push(permission);
    }
    for role in &mut roles {
        role.permissions = held.remove(&role.id).unwrap_or_default();
    }
    Ok(roles)
}

fn read(row: &AnyRow) -> Result<StoredRole, StoreError> {
    Ok(StoredRole {
        id: row.try_get("id")?,
        organization: row.try_get("organization_id")?,
        slug: row.try_get("slug")?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        resource_type: row.try_get("resource_type_slug")?,
        priority: row.try_get("priority")?,
        permissions: Vec::new(),
        created_at: Millis(row.try_get("created_at")?),
        updated_at: Millis(row.try_get("updated_at")?),
    })
}

impl StoredRole {
    /// How clients see it.
    pub(in crate::store) fn answer(&self) -> Role {
        Role {
            id: self.id.to_string(),
            slug: self.slug.to_string(),
            name: self.name.clone(),
            description: self.description.clone(),
            kind: match self.organization {
                None => RoleKind::EnvironmentRole,
                Some(_) => RoleKind::OrganizationRole,
            },
            resource_type_slug: self.resource_type.to_string(),
            permissions: self.permissions.iter().map(ToString::to_string).collect(),
            created_at: self.created_at.to_string(),
            updated_at: self.updated_at.to_string(),
        }
    }

    /// Notes in the log that it is there, as it is.
    pub(in crate::store) fn note(&self, tx: &mut Transaction<'_>) {
        let (id, slug, resource_type) = (self.id.clone(), self.slug.clone(), self.resource_type.clone());
        let permissions = self.permissions.clone();
        match &self.organization {
            None => {
                let priority = u32::try_from(self.priority).unwrap_or(u32::MAX);
                let role = EnvironmentRole { id, slug, resource_type, priority, permissions };
                tx.put_catalog(CatalogRecord::Role(role));
            }
            Some(organization) => {
                let role = CustomRole { id, slug, resource_type, permissions };
                tx.put(organization, OrganizationRecord::Role(role));
            }
        }
    }

    /// Publishes what became of it.
    pub(in crate::store) fn publish(&self, tx: &mut Transaction<'_>, happened: Happened) -> Result<(), StoreError> {
        match &self.organization {
            None => {
                let event = match happened {
                    Happened::Created => "role.created",
                    Happened::Updated => "role.updated",
                    Happened::Deleted => "role.deleted",
                };
                let data = RoleEvent {
                    object: "role",
                    slug: &self.slug,
                    resource_type_slug: &self.resource_type,
                    permissions: &self.permissions,
                    created_at: self.created_at,
                    updated_at: self.updated_at,
                };
                tx.event(event, None, &data)
            }
            Some(organization) => {
                let event = match happened {
                    Happened::Created => "organization_role.created",
                    Happened::Updated => "organization_role.updated",
                    Happened::Deleted => "organization_role.deleted",
                };
                let data = OrganizationRoleEvent {
                    object: "organization_role",
                    organization_id: organization,
                    slug: &self.slug,
                    name: &self.name,
                    description: self.description.as_deref(),
                    resource_type_slug: &self.resource_type,
                    permissions: &self.permissions,
                    created_at: self.created_at,
                    updated_at: self.updated_at,
                };
                tx.event(event, Some(organization), &data)
            }
        }
    }

    /// Notes who changed what it grants.
    pub(super) fn audit(
        &self,
        tx: &mut Transaction<'_>,
        happened: Happened,
        given: &[PermissionSlug],
        taken: &[PermissionSlug],
    ) {
        let action = match (happened, self.organization.is_some()) {
            (Happened::Created, false) => "role.created",
            (Happened::Updated, false) => "role.updated",
            (Happened::Deleted, false) => "role.deleted",
            (Happened::Created, true) => "organization_role.created",
            (Happened::Updated, true) => "organization_role.updated",
            (Happened::Deleted, true) => "organization_role.deleted",
        };
        let details = json!({
            "role_id": self.id, "role_slug": self.slug, "permissions_added": given, "permissions_removed": taken,
        });
        tx.audit(action, self.organization.as_ref(), details);
    }

    /// Inserts it, with what it permits.
    pub(in crate::store) async fn insert(&self, tx: &mut Transaction<'_>) -> Result<(), StoreError> {
        let statement = "INSERT INTO roles (id, organization_id, slug, name, description, resource_type_slug, priority, \
                         created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let statement = sqlx::query(statement)
            .bind(self.id.clone())
            .bind(self.organization.clone())
            .bind(self.slug.clone())
            .bind(self.name.clone())
            .bind(self.description.clone())
            .bind(self.resource_type.clone())
            .bind(self.priority)
            .bind(self.created_at.0)
            .bind(self.updated_at.0);
        tx.execute(statement).await?;
        self.permit(tx, &self.permissions).await?;
        self.note(tx);
        self.audit(tx, Happened::Created, &self.permissions, &[]);
        self.publish(tx, Happened::Created)
    }

    /// Makes what is stored what `self` says, where it was `before`. Nothing happens when it is the same.
    pub(in crate::store) async fn replace(
        mut self,
        tx: &mut Transaction<'_>,
        before: &Self,
    ) -> Result<Self, StoreError> {
        if self == *before {
            return Ok(self);
        }
        // The order of priority is nobody's news.
        let told = Self { priority: before.priority, ..self.clone() } != *before;
        if told {
            self.updated_at = tx.now();
        }
        let statement = "UPDATE roles SET slug = $1, name = $2, description = $3, priority = $4, updated_at = $5 \
                         WHERE id = $6";
        let statement = sqlx::query(statement)
            .bind(self.slug.clone())
            .bind(self.name.clone())
            .bind(self.description.clone())
            .bind(self.priority)
            .bind(self.updated_at.0)
            .bind(self.id.clone());
        tx.execute(statement).await?;
        let taken: Vec<_> =
            before.permissions.iter().filter(|held| !self.permissions.contains(held)).cloned().collect();
        if !taken.is_empty() {
            let listed = tx.engine().texts_of(2);
            let text = format!("DELETE FROM role_permissions WHERE role_id = $1 AND permission_slug IN ({listed})");
            let statement = sqlx::query(AssertSqlSafe(text)).bind(self.id.clone()).bind(serde_json::to_string(&taken)?);
            tx.execute(statement).await?;
        }
        let given: Vec<_> =
            self.permissions.iter().filter(|held| !before.permissions.contains(held)).cloned().collect();
        self.permit(tx, &given).await?;
        self.note(tx);
        let grants = |role: &Self| (role.slug.clone(), role.priority, role.permissions.clone());
        if grants(&self) != grants(before) {
            self.audit(tx, Happened::Updated, &given, &taken);
        }
        if told {
            self.publish(tx, Happened::Updated)?;
        }
        Ok(self)
    }

    async fn permit(&self, tx: &mut Transaction<'_>, permissions: &[PermissionSlug]) -> Result<(), StoreError> {
        for permission in permissions {
            let statement = "INSERT INTO role_permissions (role_id, permission_slug) VALUES ($1, $2)";
            tx.execute(sqlx::query(statement).bind(self.id.clone()).bind(permission.clone())).await?;
        }
        Ok(())
    }

    /// Deletes its row and what it permits; whoever holds it is the caller's business.
    pub(in crate::store) async fn delete(&self, tx: &mut Transaction<'_>) -> Result<(), StoreError> {
        tx.execute(sqlx::query("DELETE FROM role_permissions WHERE role_id = $1").bind(self.id.clone())).await?;
        tx.execute(sqlx::query("DELETE FROM roles WHERE id = $1").bind(self.id.clone())).await?;
        self.audit(tx, Happened::Deleted, &[], &self.permissions);
        self.publish(tx, Happened::Deleted)
    }

    /// The role with another name or description.
    pub(super) fn described(&self, name: Option<&Name>, description: &Patch<Description>) -> Self {
        let mut next = self.clone();
        if let Some(name) = name {
            name.as_str().clone_into(&mut next.name);
        }
        if let Some(description) = description {
            next.description = description.as_ref().map(|text| text.as_str().to_owned());
        }
        next
    }

    /// The role with these permissions and no others.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a permission that is not declared; 422 `invalid_permission_scope` for one that is neither about the type
    /// of the role nor about a type below (WorkOS contract R13, D8).
    pub(super) async fn permitting(
        &self,
        connection: &mut AnyConnection,
        wanted: &[PermissionSlug],
    ) -> Result<Self, StoreError> {
        let types = model::types(connection).await?;
        let mut errors = Vec::new();
        let mut first = None;
        for (place, slug) in wanted.iter().enumerate() {
            if self.permissions.contains(slug) {
                continue;
            }
            let about = permissions::find(connection, slug).await?.resource_type_slug;
            let about: ResourceTypeSlug = about.parse()?;
            if !types.covers(&self.resource_type, &about) {
                errors.push(FieldError::new(format!("permissions.{place}"), "invalid_permission_scope"));
                first.get_or_insert_with(|| out_of_scope(slug, &about, &self.resource_type));
            }
        }
        if let Some(message) = first {
            return Err(StoreError::Unprocessable {
                code: "invalid_permission_scope",
                message: message.into(),
                errors,
            });
        }
        let permissions: BTreeSet<_> = wanted.iter().cloned().collect();
        Ok(Self { permissions: permissions.into_iter().collect(), ..self.clone() })
    }
}

fn out_of_scope(slug: &PermissionSlug, about: &ResourceTypeSlug, role: &ResourceTypeSlug) -> String {
    format!("permission `{slug}` is about `{about}`, which is neither `{role}`, the type of the role, nor below it")
}
