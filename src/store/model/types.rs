//! Resource types as they are stored, and what stands above what.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AnyConnection, Row};

use crate::domain::ResourceTypeSlug;
use crate::store::error::StoreError;
use crate::store::rows::read_all;

/// The declared types with the types their parents may have; `organization` always exists and is not among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::store) struct Types(pub(super) BTreeMap<ResourceTypeSlug, Vec<ResourceTypeSlug>>);

/// The types that there are.
pub(in crate::store) async fn types(connection: &mut AnyConnection) -> Result<Types, StoreError> {
    let statement = sqlx::query("SELECT slug, parents FROM resource_types");
    let rows = read_all(connection, statement, |row| {
        Ok((row.try_get("slug")?, serde_json::from_str(&row.try_get::<String, _>("parents")?)?))
    });
    Ok(Types(rows.await?.into_iter().collect()))
}

impl Types {
    /// Whether a role of type `role` may hold a permission about `about`: its own type, or one below (WorkOS contract R13).
    pub(in crate::store) fn covers(&self, role: &ResourceTypeSlug, about: &ResourceTypeSlug) -> bool {
        if role.is_organization() || role == about {
            return true;
        }
        let mut seen = BTreeSet::from([about]);
        let mut next = vec![about];
        while let Some(parents) = next.pop().map(|slug| self.0.get(slug)) {
            for parent in parents.into_iter().flatten() {
                if parent == role {
                    return true;
                }
                if seen.insert(parent) {
                    next.push(parent);
                }
            }
        }
        false
    }

    /// Whether there is such a type.
    pub(super) fn contains(&self, slug: &ResourceTypeSlug) -> bool {
        slug.is_organization() || self.0.contains_key(slug)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_covers_itself_and_what_is_below() {
        let slug = |text: &str| text.parse::<ResourceTypeSlug>().unwrap();
        let types = Types(BTreeMap::from([
            (slug("workspace"), vec![slug("organization")]),
            (slug("project"), vec![slug("workspace"), slug("project")]),
        ]));
        assert!(types.covers(&slug("organization"), &slug("project")));
        assert!(types.covers(&slug("workspace"), &slug("project")));
        assert!(types.covers(&slug("project"), &slug("project")));
        assert!(!types.covers(&slug("project"), &slug("workspace")));
        assert!(!types.covers(&slug("project"), &slug("organization")));
    }
}
