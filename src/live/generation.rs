//! The facts in force, residents apart, and what may take their place.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::moment::Moment;
use crate::domain::{BuildError, Catalog, Epoch, OrganizationId, Revision, Shard};

/// The facts in force, residents apart. Immutable.
#[derive(Clone)]
pub(super) struct Generation {
    /// Counts beginnings; a resident belongs to the generation it was loaded in.
    pub(super) number: u64,
    /// `None` before the first installation.
    pub(super) revision: Option<Revision>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) organizations: Preloaded,
    /// What was in force before everything had to be read again.
    pub(super) former: Option<Arc<Former>>,
}

/// A generation that was started over. Residents that were not read again yet are decided on with it, and grow older: it is never proven again.
pub(super) struct Former {
    pub(super) number: u64,
    pub(super) revision: Revision,
    pub(super) catalog: Arc<Catalog>,
    /// The last proof of it.
    pub(super) proven: Option<Moment>,
}

#[derive(Clone)]
pub(super) enum Preloaded {
    /// All there are.
    All(Arc<Everything>),
    /// None: they are loaded on first use.
    OnDemand,
}

/// All organizations there are, by their place in `shards`.
pub(super) struct Everything {
    pub(super) places: HashMap<OrganizationId, usize, RandomState>,
    pub(super) shards: Box<[Shard]>,
    pub(super) bytes: usize,
}

/// Why facts did not come into force; those in force stay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// The rows contradict each other.
    #[error("the catalog is refused")]
    Catalog(#[source] BuildError),
    /// The rows of one organization contradict each other.
    #[error("organization `{organization}` is refused")]
    Organization {
        /// Whose.
        organization: OrganizationId,
        /// How.
        #[source]
        source: BuildError,
    },
    /// The same history, but earlier: what was revoked since would be granted again.
    #[error("revision {offered} is older than {in_force}, which is in force")]
    Rollback {
        /// What was to be installed.
        offered: Revision,
        /// What stays.
        in_force: Revision,
    },
    /// Changes of another history than the one in force, or of none.
    #[error("changes do not belong to the facts in force")]
    OtherHistory,
}

impl Generation {
    /// Itself, for the one that starts over after it, where residents can outlive it.
    pub(super) fn outlived(&self, proven: Option<Moment>) -> Option<Arc<Former>> {
        let Preloaded::OnDemand = self.organizations else { return None };
        let catalog = Arc::clone(&self.catalog);
        self.revision.map(|revision| Arc::new(Former { number: self.number, revision, catalog, proven }))
    }

    /// Whether facts of this revision may replace these.
    pub(super) fn may_become(&self, offered: Revision) -> Result<(), InstallError> {
        match self.revision {
            Some(in_force) if in_force.epoch == offered.epoch && in_force.seq > offered.seq => {
                Err(InstallError::Rollback { offered, in_force })
            }
            _ => Ok(()),
        }
    }

    /// The revision after a change of the history in force.
    pub(super) fn next(&self, epoch: Epoch, seq: u64) -> Result<Revision, InstallError> {
        let offered = Revision { epoch, seq };
        let on_demand = matches!(self.organizations, Preloaded::OnDemand);
        if !on_demand || self.revision.is_none_or(|in_force| in_force.epoch != epoch) {
            return Err(InstallError::OtherHistory);
        }
        self.may_become(offered).map(|()| offered)
    }
}
