//! What leads from the stored model to another one, and whether it may be done.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AnyConnection, Row};

use super::read::{Settings, Stored, StoredPermission};
use super::types::Types;
use crate::domain::record::RoleMode;
use crate::domain::{PermissionSlug, ResourceTypeSlug, RoleId, RoleSlug};
use crate::store::error::{FieldError, StoreError};
use crate::store::roles::{self, StoredRole};
use crate::store::time::Millis;
use crate::wire::{self, Environment, ExternalIds, Model, RoleSpec};
use crate::yaml;

/// Everything that changes.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) before: Stored,
    pub(super) settings: Settings,
    pub(super) types: Types,
    pub(super) permissions: BTreeMap<PermissionSlug, StoredPermission>,
    /// Highest priority first, with what each was before.
    pub(super) roles: Vec<(StoredRole, Option<StoredRole>)>,
    pub(super) roles_gone: Vec<StoredRole>,
}

/// Whether something is new, changed or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Create,
    Update,
    Delete,
}

/// Finds faults in a model by itself.
///
/// # Errors
/// 422 `invalid_model` with everything that is wrong with it.
pub(super) fn validate(model: &Model) -> Result<(), StoreError> {
    let mut faults = Vec::new();
    let document = serde_json::to_string(model)?;
    let read = yaml::parse("model", &document, None).and_then(|node| Environment::new(model, &node));
    if let Err(problems) = read {
        faults.extend(problems.into_iter().map(|problem| problem.message));
    }
    if faults.is_empty() && model.default_role().is_none() {
        faults.push(wire::NO_DEFAULT_ROLE.to_owned());
    }
    let permissions = model.permissions.iter().map(|spec| (spec.slug.as_str(), &spec.name, &spec.description));
    let roles = model.roles.iter().map(|spec| (spec.slug.as_str(), &spec.name, &spec.description));
    let odd = |character: char| character.is_control() && !matches!(character, '\n' | '\r' | '\t');
    for (slug, name, description) in permissions.chain(roles) {
        if name.as_ref().is_some_and(|name| name.is_empty() || name.chars().any(char::is_control)) {
            faults.push(format!("the name of `{slug}` is empty or has a control character"));
        }
        if description.as_ref().is_some_and(|text| text.chars().any(odd)) {
            faults.push(format!("the description of `{slug}` has a control character"));
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(StoreError::Unprocessable {
        code: "invalid_model",
        message: faults.join("; ").into(),
        errors: vec![FieldError::new("", "invalid_model")],
    })
}

impl Difference {
    /// What leads from `before` to `model`, which is valid by itself. `id` makes ids for new roles.
    pub(super) fn between(
        before: Stored,
        model: &Model,
        now: Millis,
        mut id: impl FnMut(&RoleSlug) -> Result<RoleId, StoreError>,
    ) -> Result<Self, StoreError> {
        let types = model.resource_types.iter().map(|(slug, spec)| (slug.clone(), spec.parents.clone()));
        let types = Types(types.collect());
        let mut permissions: BTreeMap<_, _> = model.permissions.iter().map(permission).collect();
        // What the system declares stays.
        for (slug, permission) in before.permissions.iter().filter(|(_, permission)| permission.system) {
            permissions.insert(slug.clone(), permission.clone());
        }
        let named: BTreeSet<&RoleId> = model.roles.iter().filter_map(|spec| spec.id.as_ref()).collect();
        let mut roles = Vec::with_capacity(model.roles.len());
        for (spec, priority) in model.roles.iter().zip(0..) {
            let former = before.roles.iter().find(|role| match &spec.id {
                Some(id) => role.id == *id,
                // A role that is written elsewhere with its id has another slug from now on.
                None => role.slug == spec.slug && !named.contains(&role.id),
            });
            let role_id = match (former, &spec.id) {
                (Some(former), _) => former.id.clone(),
                (None, Some(id)) => id.clone(),
                (None, None) => id(&spec.slug)?,
            };
            roles.push((role(spec, role_id, priority, former, now), former.cloned()));
        }
        let kept: BTreeSet<&RoleId> = roles.iter().map(|(role, _)| &role.id).collect();
        let roles_gone = before.roles.iter().filter(|role| !kept.contains(&role.id)).cloned().collect();
        let wanted = model.default_role();
        let default_role = roles.iter().map(|(role, _)| role).find(|role| Some(&role.slug) == wanted);
        let settings = Settings {
            role_mode: model.role_mode,
            default_role: default_role.map(|role| role.id.clone()),
            external_ids: model.external_ids,
        };
        Ok(Self { before, settings, types, permissions, roles, roles_gone })
    }

    /// Resource types that are not what they were.
    pub(super) fn type_steps(&self) -> impl Iterator<Item = (Step, &ResourceTypeSlug)> {
        steps(&self.before.types.0, &self.types.0)
    }

    /// Permissions that are not what they were.
    pub(super) fn permission_steps(&self) -> impl Iterator<Item = (Step, &PermissionSlug)> {
        steps(&self.before.permissions, &self.permissions)
    }

    /// Roles that are not what they were.
    pub(super) fn role_steps(&self) -> impl Iterator<Item = (Step, &RoleSlug)> {
        let step = |(role, before): &'_ (StoredRole, Option<StoredRole>)| match before {
            None => Some(Step::Create),
            Some(before) if before != role => Some(Step::Update),
            Some(_) => None,
        };
        let kept = self.roles.iter().filter_map(move |pair| Some((step(pair)?, &pair.0.slug)));
        kept.chain(self.roles_gone.iter().map(|role| (Step::Delete, &role.slug)))
    }

    /// Whether memberships keep one of several direct organization roles.
    pub(super) fn narrows(&self) -> bool {
        (self.before.settings.role_mode, self.settings.role_mode) == (RoleMode::Multiple, RoleMode::Single)
    }

    /// Holds it against what there is.
    ///
    /// # Errors
    /// 409 for what may not be changed, and for what is in use.
    pub(super) async fn check(&self, connection: &mut AnyConnection) -> Result<(), StoreError> {
        self.check_fixed()?;
        let custom = roles::of_organizations(connection).await?;
        self.check_custom_roles(&custom)?;
        self.check_instances(connection).await?;
        let becomes_global = self.settings.external_ids == ExternalIds::Global
            && self.before.settings.external_ids != ExternalIds::Global;
        if becomes_global {
            check_external_ids(connection).await?;
        }
        Ok(())
    }

    /// The type of a permission or a role never changes (WorkOS contract R12).
    fn check_fixed(&self) -> Result<(), StoreError> {
        let fixed = |what: &str, slug: &str, before: &ResourceTypeSlug, now: &ResourceTypeSlug| {
            if before == now {
                return Ok(());
            }
            let message = format!("{what} `{slug}` is of type `{before}`, which cannot become `{now}`");
            Err(StoreError::conflict("resource_type_immutable", message))
        };
        for (slug, permission) in &self.permissions {
            if let Some(before) = self.before.permissions.get(slug) {
                fixed("permission", slug.as_str(), &before.resource_type, &permission.resource_type)?;
            }
        }
        for (role, before) in &self.roles {
            if let Some(before) = before {
                fixed("role", role.slug.as_str(), &before.resource_type, &role.resource_type)?;
            }
        }
        Ok(())
    }

    /// Custom roles keep their slugs, their types and what they permit, unless a permission itself goes (WorkOS contract R13, R41, D17).
    fn check_custom_roles(&self, custom: &[StoredRole]) -> Result<(), StoreError> {
        for role in custom {
            if self.roles.iter().any(|(other, _)| other.slug == role.slug) {
                let message = format!("an organization has a role `{}` of its own", role.slug);
                return Err(StoreError::conflict("role_slug_conflict", message));
            }
            if self.roles.iter().any(|(other, _)| other.id == role.id) {
                let message = format!("role id `{}` belongs to a role of an organization", role.id);
                return Err(StoreError::conflict("role_id_conflict", message));
            }
            if !self.types.contains(&role.resource_type) {
                return Err(in_use(&role.resource_type, format!("an organization has the role `{}` of it", role.slug)));
            }
            let held = role.permissions.iter().filter_map(|slug| Some((slug, self.permissions.get(slug)?)));
            for (slug, permission) in held {
                if !self.types.covers(&role.resource_type, &permission.resource_type) {
                    let why = format!(
                        "role `{}` of an organization holds the permission `{slug}`, which would be out of its reach",
                        role.slug
                    );
                    return Err(in_use(&permission.resource_type, why));
                }
            }
        }
        Ok(())
    }

    /// Neither a type nor a parent goes while there are resources that need it (WorkOS contract R41).
    async fn check_instances(&self, connection: &mut AnyConnection) -> Result<(), StoreError> {
        for (slug, parents) in &self.before.types.0 {
            let Some(next) = self.types.0.get(slug) else {
                let statement = sqlx::query("SELECT id FROM resources WHERE resource_type_slug = $1 LIMIT 1");
                if statement.bind(slug.clone()).fetch_optional(&mut *connection).await?.is_some() {
                    return Err(in_use(slug, "there are resources of it".to_owned()));
                }
                continue;
            };
            for parent in parents.iter().filter(|parent| !next.contains(parent)) {
                let statement = "SELECT r.id FROM resources r JOIN resources p ON p.id = r.parent_id \
                                 WHERE r.resource_type_slug = $1 AND p.resource_type_slug = $2 LIMIT 1";
                let statement = sqlx::query(statement).bind(slug.clone()).bind(parent.clone());
                if statement.fetch_optional(&mut *connection).await?.is_some() {
                    return Err(in_use(slug, format!("there are resources of it below resources of type `{parent}`")));
                }
            }
        }
        Ok(())
    }
}

fn permission(spec: &crate::wire::PermissionSpec) -> (PermissionSlug, StoredPermission) {
    let permission = StoredPermission {
        name: spec.name.clone().unwrap_or_else(|| spec.slug.to_string()),
        description: spec.description.clone(),
        resource_type: spec.resource_type.clone(),
        system: false,
    };
    (spec.slug.clone(), permission)
}

fn role(spec: &RoleSpec, id: RoleId, priority: i64, former: Option<&StoredRole>, now: Millis) -> StoredRole {
    let permissions: BTreeSet<_> = spec.permissions.iter().cloned().collect();
    StoredRole {
        id,
        organization: None,
        slug: spec.slug.clone(),
        name: spec.name.clone().unwrap_or_else(|| spec.slug.to_string()),
        description: spec.description.clone(),
        resource_type: spec.resource_type.clone(),
        priority,
        permissions: permissions.into_iter().collect(),
        created_at: former.map_or(now, |former| former.created_at),
        updated_at: former.map_or(now, |former| former.updated_at),
    }
}

/// An external id stands for one resource of its type in the whole environment from now on.
async fn check_external_ids(connection: &mut AnyConnection) -> Result<(), StoreError> {
    let statement = "SELECT resource_type_slug, external_id FROM resources WHERE parent_id IS NOT NULL \
                     GROUP BY resource_type_slug, external_id HAVING COUNT(*) > 1 LIMIT 1";
    let Some(row) = sqlx::query(statement).fetch_optional(connection).await? else { return Ok(()) };
    let (kind, id): (String, String) = (row.try_get("resource_type_slug")?, row.try_get("external_id")?);
    let message = format!("several organizations have a resource `{kind}:{id}`");
    Err(StoreError::conflict("authorization_resource_external_id_conflict", message))
}

fn in_use(slug: &ResourceTypeSlug, why: String) -> StoreError {
    StoreError::conflict("resource_type_in_use", format!("resource type `{slug}` cannot be changed like that: {why}"))
}

fn steps<'a, K: Ord, V: PartialEq>(
    before: &'a BTreeMap<K, V>,
    now: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (Step, &'a K)> {
    let put = now.iter().filter_map(|(key, value)| match before.get(key) {
        None => Some((Step::Create, key)),
        Some(former) if former != value => Some((Step::Update, key)),
        Some(_) => None,
    });
    put.chain(before.keys().filter(|key| !now.contains_key(*key)).map(|key| (Step::Delete, key)))
}
