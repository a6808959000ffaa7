//! The facts file: a model and any number of organizations, all in one document.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::model::{Environment, ExternalIds, Model};
use super::organization::OrganizationSpec;
use super::spot::Spot;
use crate::domain::OrganizationId;
use crate::domain::record::{CatalogRows, OrganizationRows};
use crate::yaml::{Node, Place, Problem, Problems};

/// Answers the document at a path that the facts file names, relative to the facts file.
pub type Loader<'a> = &'a dyn Fn(&str) -> Result<Node, Problems>;

/// Facts of a whole world.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// What the environment declares.
    pub catalog: CatalogRows,
    /// Each organization once, in the order of the file.
    pub organizations: Vec<(OrganizationId, OrganizationRows)>,
}

/// The outermost shape of a facts file; its parts are read one by one, so that a problem in one does not hide those in another.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FactsFile {
    /// The version of the format: 1.
    #[schemars(extend("const" = 1))]
    version: u32,
    /// The model, or the path of a model file, relative to this file.
    #[schemars(with = "ModelSource")]
    #[expect(dead_code, reason = "part of the shape; read on its own")]
    model: IgnoredAny,
    /// Organizations.
    #[serde(default)]
    #[schemars(with = "Vec<OrganizationSpec>")]
    #[expect(dead_code, reason = "part of the shape; read one by one")]
    organizations: Vec<IgnoredAny>,
}

/// A model, here or in a file of its own.
#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a description for the schema, never a value")]
enum ModelSource {
    Here(Model),
    File(String),
}

impl Facts {
    /// Reads a facts file; `load` reads the model file that it may name.
    ///
    /// # Errors
    /// Everything that is wrong, in all files, each with its place.
    pub fn read(node: &Node, load: Loader<'_>) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        match node.read_all::<FactsFile>() {
            Ok(file) if file.version != 1 => {
                let why = format!("version is {}, expected 1", file.version);
                problems.extend([Spot(node).key("version").problem(why)]);
            }
            Ok(_) => {}
            Err(more) => problems.extend(more),
        }
        let environment = node.get("model").and_then(|model| {
            let read = match model.as_str() {
                Some(path) => load(path).and_then(|node| Environment::read(&node)),
                None => Environment::read(model),
            };
            read.map_err(|more| problems.extend(more)).ok()
        });
        let organizations = organizations(node, environment.as_ref(), &mut problems);
        problems.into_result()?;
        let catalog = environment.map(|environment| environment.rows().clone()).unwrap_or_default();
        Ok(Self { catalog, organizations })
    }
}

/// Without a model, only the shape of the organizations is looked at.
fn organizations(
    node: &Node,
    environment: Option<&Environment>,
    problems: &mut Problems,
) -> Vec<(OrganizationId, OrganizationRows)> {
    let global = environment.is_some_and(|environment| environment.external_ids() == ExternalIds::Global);
    let mut once = OnceOnly::default();
    let mut organizations = Vec::new();
    for node in node.get("organizations").map_or(&[][..], Node::items) {
        let spec = match node.read_all::<OrganizationSpec>() {
            Ok(spec) => spec,
            Err(more) => {
                problems.extend(more);
                continue;
            }
        };
        once.check(&spec, Spot(node), global, problems);
        let Some(environment) = environment else { continue };
        match environment.organization(&spec, node) {
            Ok(rows) => organizations.push((spec.id, rows)),
            Err(more) => problems.extend(more),
        }
    }
    organizations
}

/// What may be there only once in the whole file.
#[derive(Default)]
struct OnceOnly {
    organizations: HashMap<String, Place>,
    memberships: HashMap<String, Place>,
    groups: HashMap<String, Place>,
    resources: HashMap<String, Place>,
}

impl OnceOnly {
    fn check(&mut self, spec: &OrganizationSpec, at: Spot<'_>, global: bool, problems: &mut Problems) {
        problems.extend(again(&mut self.organizations, &spec.id, "organization", at.key("id")));
        for (index, membership) in spec.memberships.iter().enumerate() {
            let at = at.key("memberships").item(index).key("id");
            problems.extend(again(&mut self.memberships, &membership.id, "membership", at));
        }
        for (index, group) in spec.groups.iter().enumerate() {
            let at = at.key("groups").item(index).key("id");
            problems.extend(again(&mut self.groups, &group.id, "group", at));
        }
        for (index, resource) in spec.resources.iter().enumerate() {
            let at = at.key("resources").item(index);
            if let Some(id) = &resource.resource_id {
                problems.extend(again(&mut self.resources, id, "resource", at.key("resource_id")));
            }
            if global {
                let name = format!("{}:{}", resource.resource_type, resource.id);
                problems.extend(again(&mut self.resources, &name, "resource", at.key("id")));
            }
        }
    }
}

fn again(seen: &mut HashMap<String, Place>, id: &impl fmt::Display, what: &str, at: Spot<'_>) -> Option<Problem> {
    let first = seen.insert(id.to_string(), at.place().clone())?;
    Some(at.problem(format!("{what} `{id}` is given twice, first at {first}")))
}

#[cfg(test)]
mod tests;
