//! What one request sees of the world.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;

use super::generation::{Former, Generation, Preloaded};
use super::moment::Moment;
use crate::domain::{Catalog, Facts, Freshness, Revision, Shard};

/// What is known of an organization right now.
#[derive(Debug)]
pub enum Lookup {
    /// Enough to decide.
    Ready(View),
    /// It has to be [loaded](super::World::load) first.
    NotResident,
    /// There never were any facts.
    NoFacts,
}

/// The facts that one request is decided on. Take it, decide, drop it: it is not made to be kept across a wait.
pub struct View {
    pub(super) generation: Guard<Arc<Generation>>,
    pub(super) revision: Revision,
    pub(super) organization: Held,
    /// When these facts were proven to be the newest.
    pub(super) proven: Option<Moment>,
}

pub(super) enum Held {
    Unknown,
    Preloaded(usize),
    /// `None`: there is no such organization.
    Resident(Guard<Option<Arc<Shard>>>),
    /// Not read again since everything began anew.
    Former(Arc<Former>, Arc<Shard>),
}

impl View {
    /// What a decision may look at.
    pub fn facts(&self) -> Facts<'_> {
        Facts::Known { catalog: self.catalog(), shard: self.shard() }
    }

    /// Permissions, environment roles, resource types, settings.
    pub fn catalog(&self) -> &Catalog {
        match &self.organization {
            Held::Former(former, _) => &former.catalog,
            Held::Unknown | Held::Preloaded(_) | Held::Resident(_) => &self.generation.catalog,
        }
    }

    /// The organization's facts; `None` when there is no such organization.
    pub fn shard(&self) -> Option<&Shard> {
        match (&self.organization, &self.generation.organizations) {
            (Held::Resident(shard), _) => shard.as_deref(),
            (Held::Former(_, shard), _) => Some(shard),
            (Held::Preloaded(place), Preloaded::All(all)) => all.shards.get(*place),
            (Held::Unknown | Held::Preloaded(_), _) => None,
        }
    }

    /// How old these facts are at `uptime`.
    pub fn freshness(&self, uptime: Duration) -> Freshness {
        Freshness { age: self.proven.map(|proven| proven.age(uptime)) }
    }

    /// Whether everything began anew since, and this organization has not been read again yet: [`World::revision`](super::World::revision)
    /// says nothing about it.
    pub fn is_former(&self) -> bool {
        matches!(self.organization, Held::Former(..))
    }

    /// The revision these facts are of.
    pub fn revision(&self) -> Revision {
        self.revision
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("revision", &self.revision).finish_non_exhaustive()
    }
}
