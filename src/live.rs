//! The world in force: what decisions are made on.
//!
//! A request takes one [`View`] and decides on nothing else: catalog and shard of a view belong together, whatever is installed
//! meanwhile. What is installed comes into force in one step, as one generation. Organizations that are not preloaded become residents
//! on first use and leave, least recently used first, when others need the room.

mod residents;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use foldhash::fast::RandomState;
use hashbrown::HashMap;

pub use residents::{LoadError, Order, Orders, Released};

use self::residents::Residents;
use crate::domain::record::{CatalogRows, OrganizationRows};
use crate::domain::{BuildError, Built, Catalog, Clock, Facts, Freshness, Keep, OrganizationId, Revision, Shard};
use crate::telemetry::{Metrics, OrganizationLoad};

/// How the world is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The most bytes that residents take; preloaded organizations are not counted.
    pub max_memory: u64,
    /// The longest that a request waits for its organization.
    pub load_wait: Duration,
    /// How long an organization that does not exist is remembered.
    pub unknown_for: Duration,
    /// What shards keep beyond what decisions need.
    pub keep: Keep,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_memory: 512 * 1024 * 1024,
            load_wait: Duration::from_millis(250),
            unknown_for: Duration::from_secs(10),
            keep: Keep { assignment_ids: true },
        }
    }
}

/// All facts in force.
pub struct World {
    settings: Settings,
    current: ArcSwap<Generation>,
    residents: Residents,
    /// Held while something is installed.
    installing: Mutex<()>,
    /// Uptime of the last proof of freshness in milliseconds, plus one; 0 while there was none.
    proven: AtomicU64,
    metrics: Arc<Metrics>,
}

/// What came into force in one step. Immutable.
struct Generation {
    /// Counts installations; a resident belongs to the generation it was loaded in.
    number: u64,
    /// `None` before the first installation.
    revision: Option<Revision>,
    catalog: Catalog,
    organizations: Preloaded,
}

enum Preloaded {
    /// All there are, by their place in `shards`.
    All { places: HashMap<OrganizationId, usize, RandomState>, shards: Box<[Shard]>, bytes: usize },
    /// None: they are loaded on first use.
    OnDemand,
}

/// What is known of an organization right now.
#[derive(Debug)]
pub enum Lookup {
    /// Enough to decide.
    Ready(View),
    /// It has to be [loaded](World::load) first.
    NotResident,
    /// There never were any facts.
    NoFacts,
}

/// The facts that one request is decided on. Take it, decide, drop it: it is not made to be kept across a wait.
pub struct View {
    generation: Guard<Arc<Generation>>,
    revision: Revision,
    organization: Held,
}

enum Held {
    Unknown,
    Preloaded(usize),
    Resident(Arc<Shard>),
}

/// What `/world` tells.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// The facts in force; `null` while there are none.
    pub revision: Option<String>,
    /// Milliseconds since they were last proven to be the newest; `null` while they never were.
    pub age_ms: Option<u128>,
    /// Organizations in memory.
    pub organizations_resident: usize,
    /// Bytes that facts take in memory, roughly.
    pub bytes: usize,
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
}

impl World {
    /// A world without facts. `released` hears of every organization that is resident no more; it must not wait.
    ///
    /// The [`Orders`] are for whoever loads organizations; dropped, every load fails.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>, metrics: Arc<Metrics>, released: Released) -> (Self, Orders) {
        let (residents, orders) = Residents::new(&settings, clock, Arc::clone(&metrics), released);
        let nothing =
            Generation { number: 0, revision: None, catalog: Catalog::empty(), organizations: Preloaded::OnDemand };
        let world = Self {
            settings,
            current: ArcSwap::from_pointee(nothing),
            residents,
            installing: Mutex::default(),
            proven: AtomicU64::new(0),
            metrics,
        };
        (world, orders)
    }

    /// The facts about `organization` that are in force now. Does not wait.
    pub fn view(&self, organization: &OrganizationId) -> Lookup {
        let generation = self.current.load();
        let Some(revision) = generation.revision else { return Lookup::NoFacts };
        let organization = match &generation.organizations {
            Preloaded::All { places, .. } => places.get(organization).map_or(Held::Unknown, |&at| Held::Preloaded(at)),
            Preloaded::OnDemand => match self.residents.find(organization, generation.number) {
                Some(Some(shard)) => Held::Resident(shard),
                Some(None) => Held::Unknown,
                None => return Lookup::NotResident,
            },
        };
        Lookup::Ready(View { generation, revision, organization })
    }

    /// Waits until `organization` is resident, or known not to exist; look again then. Waits at most [`Settings::load_wait`].
    ///
    /// # Errors
    /// [`LoadError`]; a load that takes longer goes on all the same.
    pub async fn load(&self, organization: &OrganizationId) -> Result<(), LoadError> {
        let result = self.residents.load(organization, self.settings.load_wait).await;
        match result {
            Err(LoadError::TimedOut) => self.metrics.organization_loaded(OrganizationLoad::TimedOut),
            Err(LoadError::NoRoom) => self.metrics.organization_loaded(OrganizationLoad::NoRoom),
            Ok(()) | Err(LoadError::Failed) => {}
        }
        result
    }

    /// Puts everything in force at once: the catalog and all organizations there are.
    ///
    /// # Errors
    /// [`InstallError`], and nothing has changed.
    pub fn install_all(
        &self,
        revision: Revision,
        catalog: &CatalogRows,
        organizations: Vec<(OrganizationId, OrganizationRows)>,
    ) -> Result<(), InstallError> {
        self.install(revision, catalog, |catalog| {
            let mut places = HashMap::with_capacity_and_hasher(organizations.len(), RandomState::default());
            let mut shards = Vec::with_capacity(organizations.len());
            for (organization, rows) in organizations {
                let built = Shard::build(catalog, &organization, &rows, self.settings.keep);
                let refused = |source| InstallError::Organization { organization: organization.clone(), source };
                shards.push(self.noted(built.map_err(refused)?));
                places.insert(organization, shards.len() - 1);
            }
            let bytes = shards.iter().map(|shard| shard.memory().total()).sum();
            Ok(Preloaded::All { places, shards: shards.into_boxed_slice(), bytes })
        })
    }

    /// Puts a catalog in force and lets organizations be loaded on first use. Residents of before are loaded anew.
    ///
    /// # Errors
    /// [`InstallError`], and nothing has changed.
    pub fn install_catalog(&self, revision: Revision, catalog: &CatalogRows) -> Result<(), InstallError> {
        self.install(revision, catalog, |_| Ok(Preloaded::OnDemand))
    }

    fn install(
        &self,
        revision: Revision,
        catalog: &CatalogRows,
        organizations: impl FnOnce(&Catalog) -> Result<Preloaded, InstallError>,
    ) -> Result<(), InstallError> {
        let _turn = self.installing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current.load();
        if let Some(in_force) =
            before.revision.filter(|in_force| in_force.epoch == revision.epoch && in_force.seq > revision.seq)
        {
            return Err(InstallError::Rollback { offered: revision, in_force });
        }
        let catalog = self.noted(Catalog::build(catalog).map_err(InstallError::Catalog)?);
        let organizations = organizations(&catalog)?;
        let number = before.number + 1;
        self.current.store(Arc::new(Generation { number, revision: Some(revision), catalog, organizations }));
        Ok(())
    }

    /// Counts and logs rows that count for nothing.
    fn noted<T>(&self, built: Built<T>) -> T {
        if built.anomalies.total() > 0 {
            self.metrics.facts_odd(&built.anomalies);
            let (rows, examples) = (built.anomalies.total(), built.anomalies.examples());
            tracing::warn!(rows, ?examples, "facts name what is missing; such rows grant nothing");
        }
        built.value
    }

    /// Which generation is in force: what is fetched now belongs to it or a later one.
    pub fn generation(&self) -> u64 {
        self.current.load().number
    }

    /// Answers an order with what was fetched while `generation` was in force: rows, `None` for an organization that does not exist, or an
    /// error that was reported elsewhere. Returns the order when another generation has come into force since: fetch again.
    ///
    /// # Errors
    /// The order.
    pub fn deliver(
        &self,
        order: Order,
        generation: u64,
        fetched: Result<Option<OrganizationRows>, ()>,
    ) -> Result<(), Order> {
        let current = self.current.load();
        if current.number != generation {
            return Err(order);
        }
        let load = match fetched {
            Err(()) => Err(OrganizationLoad::Failed),
            Ok(None) => Ok(None),
            Ok(Some(rows)) => match Shard::build(&current.catalog, order.organization(), &rows, self.settings.keep) {
                Ok(built) => Ok(Some(Arc::new(self.noted(built)))),
                Err(error) => {
                    tracing::error!(organization = %order.organization(), %error, "organization is refused");
                    Err(OrganizationLoad::Failed)
                }
            },
        };
        self.metrics.organization_loaded(self.residents.settle(order, generation, load));
        Ok(())
    }

    /// Notes that the facts in force were the newest there are at `uptime`.
    pub fn prove(&self, uptime: Duration) {
        let millis = u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX - 1);
        self.proven.fetch_max(millis.saturating_add(1), Ordering::Relaxed);
    }

    /// How old the facts in force are at `uptime`.
    pub fn freshness(&self, uptime: Duration) -> Freshness {
        let proven = self.proven.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_millis);
        Freshness { age: proven.map(|proven| uptime.saturating_sub(proven)) }
    }

    /// The revision in force.
    pub fn revision(&self) -> Option<Revision> {
        self.current.load().revision
    }

    /// What there is, at `uptime`.
    pub fn summary(&self, uptime: Duration) -> Summary {
        let current = self.current.load();
        let (organizations, bytes) = match &current.organizations {
            Preloaded::All { shards, bytes, .. } => (shards.len(), *bytes),
            Preloaded::OnDemand => self.residents.size(),
        };
        Summary {
            revision: current.revision.map(|revision| revision.to_string()),
            age_ms: self.freshness(uptime).age.map(|age| age.as_millis()),
            organizations_resident: organizations,
            bytes: bytes + current.catalog.bytes(),
        }
    }

    /// All organizations, where all of them are in memory; none where they are loaded on first use.
    pub fn organizations(&self) -> Vec<OrganizationId> {
        match &self.current.load().organizations {
            Preloaded::All { places, .. } => places.keys().cloned().collect(),
            Preloaded::OnDemand => Vec::new(),
        }
    }

    /// Brings the gauges up to date.
    pub fn show(&self, uptime: Duration) {
        let summary = self.summary(uptime);
        let age = self.freshness(uptime).age;
        self.metrics.facts.show(age, self.revision(), summary.organizations_resident, summary.bytes);
    }
}

impl View {
    /// What a decision may look at.
    pub fn facts(&self) -> Facts<'_> {
        Facts::Known { catalog: self.catalog(), shard: self.shard() }
    }

    /// Permissions, environment roles, resource types, settings.
    pub fn catalog(&self) -> &Catalog {
        &self.generation.catalog
    }

    /// The organization's facts; `None` when there is no such organization.
    pub fn shard(&self) -> Option<&Shard> {
        match (&self.organization, &self.generation.organizations) {
            (Held::Resident(shard), _) => Some(shard),
            (Held::Preloaded(place), Preloaded::All { shards, .. }) => shards.get(*place),
            (Held::Unknown | Held::Preloaded(_), _) => None,
        }
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

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
