//! Resource types and what stands above what.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{ResourceTypeSpec, unknown_type};
use crate::domain::ResourceTypeSlug;
use crate::wire::spot::Spot;
use crate::yaml::Problems;

/// The most resource types of an environment, and the most types with one parent in common (WorkOS contract R48).
const MOST_TYPES: usize = 50;
const MOST_CHILDREN: usize = 10;

/// The declared types. A type may stand above itself, as folders do; longer circles are refused.
#[derive(Debug, Clone)]
pub(in crate::wire) struct TypeTree {
    parents: Parents,
    /// Of each type, everything above it, itself left out.
    above: HashMap<ResourceTypeSlug, BTreeSet<ResourceTypeSlug>>,
}

impl TypeTree {
    pub(super) fn new(
        declared: &BTreeMap<ResourceTypeSlug, ResourceTypeSpec>,
        at: Spot<'_>,
        problems: &mut Problems,
    ) -> Self {
        let parents: Parents = declared.iter().map(|(slug, spec)| (slug.clone(), spec.parents.clone())).collect();
        let above = declared.keys().map(|slug| (slug.clone(), above(slug, &parents))).collect();
        let tree = Self { parents, above };
        tree.check_number(declared, at, problems);
        for (slug, spec) in declared {
            let at = at.key(slug.as_str());
            if slug.is_organization() {
                problems.extend([at.problem("resource type `organization` always exists and has no parents")]);
            } else {
                tree.check_parents(slug, spec, at, problems);
            }
        }
        tree
    }

    pub(in crate::wire) fn contains(&self, slug: &ResourceTypeSlug) -> bool {
        slug.is_organization() || self.parents.contains_key(slug)
    }

    /// Whether a role of type `role` may hold a permission about `permission` (WorkOS contract R13).
    pub(super) fn covers(&self, role: &ResourceTypeSlug, permission: &ResourceTypeSlug) -> bool {
        let below = || self.above.get(permission).is_some_and(|above| above.contains(role));
        role.is_organization() || role == permission || below()
    }

    /// The types that the parent of a resource of this type may have.
    pub(in crate::wire) fn parents(&self, slug: &ResourceTypeSlug) -> &[ResourceTypeSlug] {
        self.parents.get(slug).map_or(&[], Vec::as_slice)
    }

    fn check_number(
        &self,
        declared: &BTreeMap<ResourceTypeSlug, ResourceTypeSpec>,
        at: Spot<'_>,
        problems: &mut Problems,
    ) {
        if declared.len() > MOST_TYPES {
            let found = declared.len();
            problems
                .extend([at.problem(format!("{found} resource types are declared, at most {MOST_TYPES} are allowed"))]);
        }
        let mut children: HashMap<&ResourceTypeSlug, usize> = HashMap::new();
        for (slug, parents) in &self.parents {
            let distinct: HashSet<_> = parents.iter().filter(|parent| *parent != slug).collect();
            distinct.into_iter().for_each(|parent| *children.entry(parent).or_default() += 1);
        }
        for (parent, found) in children.into_iter().filter(|(_, found)| *found > MOST_CHILDREN) {
            problems.extend([at.key(parent.as_str()).problem(format!(
                "{found} resource types have the parent `{parent}`, at most {MOST_CHILDREN} are allowed"
            ))]);
        }
    }

    fn check_parents(&self, slug: &ResourceTypeSlug, spec: &ResourceTypeSpec, at: Spot<'_>, problems: &mut Problems) {
        let list = at.key("parents");
        let mut seen = HashSet::with_capacity(spec.parents.len());
        let mut sound = true;
        for (index, parent) in spec.parents.iter().enumerate() {
            let why = if !self.contains(parent) {
                unknown_type(parent)
            } else if !seen.insert(parent) {
                format!("parent `{parent}` is listed twice")
            } else if parent != slug && self.above.get(parent).is_some_and(|above| above.contains(slug)) {
                format!("`{parent}` is itself below `{slug}`")
            } else {
                continue;
            };
            sound = false;
            problems.extend([list.item(index).problem(why)]);
        }
        let rooted = self.above.get(slug).is_some_and(|above| above.iter().any(ResourceTypeSlug::is_organization));
        if sound && !rooted {
            problems.extend([list.problem(format!("no chain of parents leads from `{slug}` to `organization`"))]);
        }
    }
}

type Parents = HashMap<ResourceTypeSlug, Vec<ResourceTypeSlug>>;

/// Everything above `slug`; itself only when it stands on a circle of two types or more.
fn above(slug: &ResourceTypeSlug, parents: &Parents) -> BTreeSet<ResourceTypeSlug> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&ResourceTypeSlug> = others(slug, parents).collect();
    while let Some(parent) = next.pop() {
        if found.insert(parent.clone()) {
            next.extend(others(parent, parents));
        }
    }
    found
}

/// The parents of a type, itself left out.
fn others<'a>(slug: &'a ResourceTypeSlug, parents: &'a Parents) -> impl Iterator<Item = &'a ResourceTypeSlug> {
    parents.get(slug).into_iter().flatten().filter(move |parent| *parent != slug)
}
