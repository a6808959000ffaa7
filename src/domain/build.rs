//! From rows to a catalog or a shard, and from one to the next.
//!
//! Building accepts rows in any order and whatever they name. A row that names something missing is counted as an [`Anomaly`] and grants
//! nothing until the missing thing is there. What would make decisions ambiguous or endless refuses the whole shard ([`BuildError`]): the
//! caller keeps the last good one.
//!
//! Advancing applies the changes of one transaction and shares everything else. The result equals what building from the changed rows
//! would give: same digest, same answers.

mod asleep;
mod bulk;
mod catalog;
mod draft;
mod shard;

use std::collections::BTreeMap;
use std::fmt;

use super::id::{ExternalId, ResourceId, ResourceTypeSlug, RoleId};
use super::shard::{Full, MAX_DEPTH};

/// Something built, and what was odd about its rows.
#[derive(Debug, Clone)]
pub struct Built<T> {
    /// The catalog or shard.
    pub value: T,
    /// Rows that count for nothing.
    pub anomalies: Anomalies,
}

/// What a shard keeps beyond what decisions need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// The ids of assignments, so that an explanation can name them; about 40 bytes each.
    pub assignment_ids: bool,
}

/// Why rows cannot become a catalog or a shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A resource below itself.
    #[error("resource `{resource}` stands below itself")]
    Cycle {
        /// One resource of the cycle.
        resource: ResourceId,
    },
    /// A resource too far below the root.
    #[error("resource `{resource}` stands more than {MAX_DEPTH} levels below the root")]
    TooDeep {
        /// The resource.
        resource: ResourceId,
    },
    /// Two resources with one name.
    #[error("two resources are `{resource_type}:{external_id}`")]
    DuplicateExternalId {
        /// Their type.
        resource_type: ResourceTypeSlug,
        /// Their external id.
        external_id: ExternalId,
    },
    /// Two resources of type `organization`.
    #[error("resource `{resource}` is a second root")]
    SecondRoot {
        /// The second one.
        resource: ResourceId,
    },
    /// A custom role with the id of an environment role.
    #[error("custom role `{role}` has the id of an environment role")]
    RoleIdTaken {
        /// The id.
        role: RoleId,
    },
    /// More roles than an index can tell apart.
    #[error("more than 32768 roles")]
    TooManyRoles,
    /// More resource types than an index can tell apart.
    #[error("more than 65536 resource types")]
    TooManyTypes,
    /// More names than 4 GiB hold.
    #[error("more than 4 GiB of names")]
    TooLarge,
    /// A catalog that did not grow out of the one the shard was built with.
    #[error("the shard was built with another catalog")]
    OtherCatalog,
}

/// A row that names something that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Anomaly {
    /// A membership.
    MissingMember,
    /// A group.
    MissingGroup,
    /// A role.
    MissingRole,
    /// The resource of an assignment.
    MissingResource,
    /// The parent of a resource, which hangs right below the root meanwhile.
    MissingParent,
    /// A permission of a role.
    MissingPermission,
    /// A parent type of a resource type.
    MissingType,
    /// The same row twice; the later one counts.
    RepeatedRow,
}

/// How many rows count for nothing, by kind, and a few of them by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Anomalies {
    counts: BTreeMap<Anomaly, u64>,
    examples: Vec<String>,
}

impl Anomaly {
    /// The name of the anomaly in metrics and log.
    pub fn code(self) -> &'static str {
        match self {
            Self::MissingMember => "missing_member",
            Self::MissingGroup => "missing_group",
            Self::MissingRole => "missing_role",
            Self::MissingResource => "missing_resource",
            Self::MissingParent => "missing_parent",
            Self::MissingPermission => "missing_permission",
            Self::MissingType => "missing_type",
            Self::RepeatedRow => "repeated_row",
        }
    }
}

impl Anomalies {
    const EXAMPLES: usize = 8;

    /// How many, by kind; kinds that did not occur are left out.
    pub fn counts(&self) -> impl Iterator<Item = (Anomaly, u64)> {
        self.counts.iter().map(|(&anomaly, &count)| (anomaly, count))
    }

    /// How many of all kinds.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The first few in words; at most 8.
    pub fn examples(&self) -> &[String] {
        &self.examples
    }

    /// Counts those of `other` too.
    fn append(&mut self, other: Self) {
        for (anomaly, count) in other.counts {
            *self.counts.entry(anomaly).or_default() += count;
        }
        let room = Self::EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
    }

    fn note(&mut self, anomaly: Anomaly, row: impl fmt::Display) {
        *self.counts.entry(anomaly).or_default() += 1;
        if self.examples.len() < Self::EXAMPLES {
            self.examples.push(format!("{}: {row}", anomaly.code()));
        }
    }
}

impl From<Full> for BuildError {
    fn from(_: Full) -> Self {
        Self::TooLarge
    }
}
