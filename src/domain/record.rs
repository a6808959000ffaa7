//! The facts a store holds, row by row, and how they change.
//!
//! A row names other rows by *id*, never by slug: a slug may be given to another role later, an id may not. Any row may arrive before
//! the rows it names; until they are there it grants nothing.
//!
//! The root resource of an organization is named by leaving the name out (`resource: None`, `parent: None`). Naming it by its id means
//! the same, and [`digest`](super::digest) treats both alike.

mod catalog;
mod organization;

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use catalog::{
    CatalogKey, CatalogRecord, CatalogRows, EnvironmentRole, EnvironmentSettings, Permission, ResourceType, RoleMode,
};
pub use organization::{
    Assignment, AssignmentKey, CustomRole, Group, GroupAssignment, GroupAssignmentKey, GroupMember, Member,
    MembershipStatus, OrganizationKey, OrganizationRecord, OrganizationRows, OrganizationSettings, Resource,
};

use super::id::OrganizationId;

/// One row of facts.
pub trait Record: Debug + Clone + Eq + Serialize + DeserializeOwned {
    /// What makes the row the same row: putting a second record with an equal key replaces the first.
    type Key: Debug + Clone + Eq + Hash + Serialize + DeserializeOwned;
    /// A whole set of such rows, sorted by kind.
    type Rows: Debug + Clone + Eq + Serialize + DeserializeOwned;

    /// The key of this row.
    fn key(&self) -> Self::Key;
}

/// One change of one row. The store expands cascades: removing a group comes with the removal of its members and assignments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", bound = "")]
pub enum Change<R: Record> {
    /// The row is there now, with this content.
    Put(R),
    /// The row is gone.
    Delete(R::Key),
}

impl<R: Record> Change<R> {
    /// The key of the row that changes.
    pub fn key(&self) -> R::Key {
        match self {
            Self::Put(record) => record.key(),
            Self::Delete(key) => key.clone(),
        }
    }
}

/// What became of one set of rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", bound = "")]
pub enum Delta<R: Record> {
    /// These rows changed; of two changes of one row the later counts.
    Changes(Vec<Change<R>>),
    /// These are all rows there are; a row that is not among them is gone.
    Reset(Box<R::Rows>),
}

/// The share of the catalog, or of one organization, in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The environment's declarations. Within one transaction this part is applied before the others.
    Catalog(Delta<CatalogRecord>),
    /// One organization's facts.
    Organization {
        /// Whose.
        id: OrganizationId,
        /// What became of them.
        delta: Delta<OrganizationRecord>,
    },
}

/// What happened in the store as one, under one number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Its number: the `seq` of the revision it led to.
    pub seq: u64,
    /// What it changed.
    pub parts: Vec<Part>,
}

/// The changes that count: for each row the last one.
pub(super) fn last_for_each_row<R: Record>(changes: &[Change<R>]) -> Vec<&Change<R>> {
    if changes.len() < 2 {
        return changes.iter().collect();
    }
    let mut seen = HashSet::with_capacity(changes.len());
    changes.iter().rev().filter(|change| seen.insert(change.key())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_written_as_the_feed_carries_them() {
        let put = r#"{"put":{"assignment":{"membership":"om_1","role":"role_1","resource":"authz_resource_1"}}}"#;
        let change: Change<OrganizationRecord> = serde_json::from_str(put).unwrap();
        let Change::Put(OrganizationRecord::Assignment(assignment)) = &change else { panic!("{change:?}") };
        assert_eq!(
            (assignment.id.as_ref(), assignment.resource.as_ref().map(AsRef::as_ref)),
            (None, Some("authz_resource_1"))
        );
        assert_eq!(serde_json::to_string(&change).unwrap(), put);
        let delete = r#"{"organization":{"id":"org_1","delta":{"changes":[{"delete":{"member":"om_1"}},{"delete":"settings"}]}}}"#;
        let part: Part = serde_json::from_str(delete).unwrap();
        assert_eq!(serde_json::to_string(&part).unwrap(), delete);
    }

    #[test]
    fn of_two_changes_of_one_row_the_later_counts() {
        let member = |status| Member {
            id: "om_1".parse().unwrap(),
            user: "user_1".parse().unwrap(),
            status,
            identity_provider_roles: Vec::new(),
        };
        let put = |status| Change::Put(OrganizationRecord::Member(member(status)));
        let changes = [put(MembershipStatus::Active), put(MembershipStatus::Pending)];
        assert_eq!(last_for_each_row(&changes), [&changes[1]]);
    }
}
