//! The model: what an environment declares. A YAML file, and as JSON the body of `/portcullis/v1/model`.

mod types;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::ids;
use super::spot::Spot;
use crate::domain::record::{CatalogRows, EnvironmentRole, EnvironmentSettings, Permission, ResourceType, RoleMode};
use crate::domain::{PermissionSlug, ResourceTypeSlug, RoleId, RoleSlug};
use crate::yaml::{Node, Problems};

pub(super) use types::TypeTree;

/// The most characters of a name (WorkOS contract R48).
pub(super) const NAME_CHARACTERS: usize = 48;
/// Why a store does not take a model: every membership has at least one organization role (WorkOS contract R16), so there is always one to
/// fall back to.
pub const NO_DEFAULT_ROLE: &str = "there is no default role: declare `member` as a role of type `organization`, or name another one in `default_role`";
const DESCRIPTION_CHARACTERS: usize = 150;

/// Resource types, permissions, environment roles and settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Whether a membership has one organization role, the one with the highest priority, or all of them.
    #[serde(default)]
    pub role_mode: RoleMode,
    /// The organization role of memberships that were given none; `member`, where there is such a role, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_role: Option<RoleSlug>,
    /// Within what an external id is unique.
    #[serde(default)]
    pub external_ids: ExternalIds,
    /// Resource types by slug. `organization` always exists and is not listed.
    #[serde(default)]
    pub resource_types: BTreeMap<ResourceTypeSlug, ResourceTypeSpec>,
    /// Permissions.
    #[serde(default)]
    pub permissions: Vec<PermissionSpec>,
    /// Environment roles, highest priority first.
    #[serde(default)]
    pub roles: Vec<RoleSpec>,
}

/// Within what an external id is unique.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExternalIds {
    /// Organization and type.
    #[default]
    PerOrganization,
    /// Type: choose it when the upstream looks its ids up without the organization.
    Global,
}

/// A resource type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceTypeSpec {
    /// The types that a parent may have: `organization`, other types, or this type itself.
    #[serde(default = "below_organization")]
    pub parents: Vec<ResourceTypeSlug>,
}

/// A permission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PermissionSpec {
    /// Such as `project:edit`.
    pub slug: PermissionSlug,
    /// For people; the slug when absent. At most 48 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For people. At most 150 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The type of the resources it is about.
    #[serde(default = "organization")]
    pub resource_type: ResourceTypeSlug,
}

/// A role, of the environment or of one organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleSpec {
    /// Its id; derived from the slug when absent. Write it when a role is to keep its assignments under another slug.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RoleId>,
    /// Such as `project-viewer`.
    pub slug: RoleSlug,
    /// For people; the slug when absent. At most 48 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For people. At most 150 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The type of the resources it is assigned on. A role of type `organization` is organization-wide.
    #[serde(default = "organization")]
    pub resource_type: ResourceTypeSlug,
    /// What it permits: permissions of its own type and of the types below.
    #[serde(default)]
    pub permissions: Vec<PermissionSlug>,
}

impl Model {
    /// The organization-wide role that memberships get when they are given none, if the model declares it.
    pub fn default_role(&self) -> Option<&RoleSlug> {
        let wanted = self.default_role.as_ref().map_or("member", RoleSlug::as_str);
        let mut roles = self.roles.iter().filter(|role| role.resource_type.is_organization());
        roles.find(|role| role.slug.as_str() == wanted).map(|role| &role.slug)
    }
}

fn organization() -> ResourceTypeSlug {
    ResourceTypeSlug::organization()
}

fn below_organization() -> Vec<ResourceTypeSlug> {
    vec![organization()]
}

/// A model without a fault, ready to look names up in.
#[derive(Debug, Clone)]
pub struct Environment {
    rows: CatalogRows,
    external_ids: ExternalIds,
    types: TypeTree,
    permissions: HashMap<PermissionSlug, ResourceTypeSlug>,
    roles: HashMap<RoleSlug, KnownRole>,
}

/// What a slug of a role stands for.
#[derive(Debug, Clone)]
pub(super) struct KnownRole {
    pub(super) id: RoleId,
    pub(super) resource_type: ResourceTypeSlug,
}

impl Environment {
    /// Reads a model.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(node: &Node) -> Result<Self, Problems> {
        Self::new(&node.read_all()?, node)
    }

    /// Checks a model that was read from `node`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn new(model: &Model, node: &Node) -> Result<Self, Problems> {
        let spot = Spot(node);
        let mut problems = Problems::default();
        let mut environment = Self {
            rows: CatalogRows::default(),
            external_ids: model.external_ids,
            types: TypeTree::new(&model.resource_types, spot.key("resource_types"), &mut problems),
            permissions: HashMap::with_capacity(model.permissions.len()),
            roles: HashMap::with_capacity(model.roles.len()),
        };
        environment.declare_types(model);
        environment.declare_permissions(model, spot.key("permissions"), &mut problems);
        environment.declare_roles(model, spot.key("roles"), &mut problems);
        environment.settle(model, spot, &mut problems);
        problems.into_result().map(|()| environment)
    }

    /// The catalog's rows.
    pub fn rows(&self) -> &CatalogRows {
        &self.rows
    }

    /// Within what an external id is unique.
    pub fn external_ids(&self) -> ExternalIds {
        self.external_ids
    }

    pub(super) fn role_mode(&self) -> RoleMode {
        self.rows.settings.as_ref().map(|settings| settings.role_mode).unwrap_or_default()
    }

    pub(super) fn types(&self) -> &TypeTree {
        &self.types
    }

    pub(super) fn has_role_id(&self, id: &RoleId) -> bool {
        self.rows.roles.iter().any(|role| role.id == *id)
    }

    pub(super) fn role(&self, slug: &RoleSlug) -> Option<&KnownRole> {
        self.roles.get(slug)
    }

    fn declare_types(&mut self, model: &Model) {
        let types = model.resource_types.iter();
        self.rows.resource_types =
            types.map(|(slug, spec)| ResourceType { slug: slug.clone(), parents: spec.parents.clone() }).collect();
    }

    fn declare_permissions(&mut self, model: &Model, list: Spot<'_>, problems: &mut Problems) {
        for (index, spec) in model.permissions.iter().enumerate() {
            let at = list.item(index);
            check_texts(spec.name.as_deref(), spec.description.as_deref(), at, problems);
            if !self.types.contains(&spec.resource_type) {
                problems.extend([at.key("resource_type").problem(unknown_type(&spec.resource_type))]);
            }
            let Entry::Vacant(free) = self.permissions.entry(spec.slug.clone()) else {
                problems.extend([at.key("slug").problem(format!("permission `{}` is declared twice", spec.slug))]);
                continue;
            };
            free.insert(spec.resource_type.clone());
            self.rows
                .permissions
                .push(Permission { slug: spec.slug.clone(), resource_type: spec.resource_type.clone() });
        }
    }

    fn declare_roles(&mut self, model: &Model, list: Spot<'_>, problems: &mut Problems) {
        let mut ids = HashSet::with_capacity(model.roles.len());
        for ((index, spec), priority) in model.roles.iter().enumerate().zip(0..) {
            let at = list.item(index);
            self.check_role(spec, at, problems);
            let id = match spec.id.clone().map_or_else(|| ids::environment_role(&spec.slug), Ok) {
                Ok(id) => id,
                Err(error) => {
                    problems.extend([at.problem(error.to_string())]);
                    continue;
                }
            };
            if !ids.insert(id.clone()) && spec.id.is_some() {
                problems.extend([at.key("id").problem(format!("role id `{id}` is given twice"))]);
            }
            let Entry::Vacant(free) = self.roles.entry(spec.slug.clone()) else {
                problems.extend([at.key("slug").problem(format!("role `{}` is declared twice", spec.slug))]);
                continue;
            };
            free.insert(KnownRole { id: id.clone(), resource_type: spec.resource_type.clone() });
            self.rows.roles.push(EnvironmentRole {
                id,
                slug: spec.slug.clone(),
                resource_type: spec.resource_type.clone(),
                priority,
                permissions: spec.permissions.clone(),
            });
        }
    }

    /// What holds for every role, of the environment or of one organization (WorkOS contract R13, D8).
    pub(super) fn check_role(&self, spec: &RoleSpec, at: Spot<'_>, problems: &mut Problems) {
        check_texts(spec.name.as_deref(), spec.description.as_deref(), at, problems);
        if !self.types.contains(&spec.resource_type) {
            problems.extend([at.key("resource_type").problem(unknown_type(&spec.resource_type))]);
        }
        let mut seen = HashSet::with_capacity(spec.permissions.len());
        for (index, permission) in spec.permissions.iter().enumerate() {
            let at = at.key("permissions").item(index);
            if !seen.insert(permission) {
                problems.extend([at.problem(format!("permission `{permission}` is listed twice"))]);
            }
            match self.permissions.get(permission) {
                None => problems.extend([at.problem(format!("permission `{permission}` is not declared"))]),
                Some(about) if !self.types.covers(&spec.resource_type, about) => problems.extend([at.problem(format!(
                    "permission `{permission}` is about `{about}`, which is neither `{}`, the type of the role, nor below it",
                    spec.resource_type
                ))]),
                Some(_) => {}
            }
        }
    }

    fn settle(&mut self, model: &Model, spot: Spot<'_>, problems: &mut Problems) {
        let default_role = match &model.default_role {
            Some(slug) => {
                let role = self.roles.get(slug);
                problems.extend(organization_role(slug, role).err().map(|why| spot.key("default_role").problem(why)));
                role
            }
            None => self.roles.get("member").filter(|role| role.resource_type.is_organization()),
        };
        self.rows.settings = Some(EnvironmentSettings {
            role_mode: model.role_mode,
            default_role: default_role.map(|role| role.id.clone()),
        });
    }
}

/// The role that `slug` stands for, if it is organization-wide; else what is wrong.
pub(super) fn organization_role<'a>(slug: &RoleSlug, role: Option<&'a KnownRole>) -> Result<&'a KnownRole, String> {
    match role {
        None => Err(format!("role `{slug}` is not declared")),
        Some(role) if !role.resource_type.is_organization() => {
            Err(format!("role `{slug}` is of type `{}`, expected a role of type `organization`", role.resource_type))
        }
        Some(role) => Ok(role),
    }
}

pub(super) fn unknown_type(slug: &ResourceTypeSlug) -> String {
    format!("resource type `{slug}` is not declared")
}

fn check_texts(name: Option<&str>, description: Option<&str>, at: Spot<'_>, problems: &mut Problems) {
    for (key, text, most) in [("name", name, NAME_CHARACTERS), ("description", description, DESCRIPTION_CHARACTERS)] {
        let characters = text.map_or(0, |text| text.chars().count());
        if characters > most {
            problems.extend([at
                .key(key)
                .problem(format!("{key} has {characters} characters, at most {most} are allowed"))]);
        }
    }
}

#[cfg(test)]
mod tests;
