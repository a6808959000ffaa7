//! The world in force: what decisions are made on.
//!
//! A request takes one [`View`] and decides on nothing else: catalog and shard of a view belong together, whatever is installed
//! meanwhile. What is installed comes into force in one step, as one generation. Organizations that are not preloaded become residents
//! on first use and leave, least recently used first, when others need the room.

mod copy;
mod generation;
mod histories;
mod loading;
mod moment;
mod residents;
mod revocations;
mod room;
mod turn;
mod view;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tokio::sync::watch;

pub use copy::{Copy, Remains};
pub use generation::InstallError;
pub use loading::Arrival;
pub use residents::{LoadError, Order, Orders, Released, Use};
pub use revocations::Revocations;
pub use view::{Lookup, View};

use self::generation::{Everything, Former, Generation, Preloaded};
use self::histories::Histories;
use self::moment::{Moment, Proof};
use self::residents::{Resident, Residents};
use self::turn::Turn;
use self::view::Held;
use crate::domain::record::{CatalogRows, Delta, OrganizationRecord, OrganizationRows, Part, Transaction};
use crate::domain::{Built, Catalog, Clock, Epoch, Freshness, Keep, OrganizationId, Revision, Shard};
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
    /// Lets readers see what comes into force as one.
    turn: Turn,
    /// Says that something came into force.
    changed: watch::Sender<()>,
    /// The last proof of freshness.
    proven: Proof,
    /// What is known of other histories.
    histories: Histories,
    revocations: Revocations,
    metrics: Arc<Metrics>,
}

/// What `/world` tells.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// The facts in force; `null` while there are none.
    pub revision: Option<String>,
    /// Milliseconds since they were last proven to be the newest; `null` while they never were.
    pub age_ms: Option<u128>,
    /// The same of the organization in memory for which it is longest ago: what any decision is made on is not older.
    pub oldest_ms: Option<u128>,
    /// Organizations in memory.
    pub organizations_resident: usize,
    /// Bytes that facts take in memory, roughly.
    pub bytes: usize,
}

impl World {
    /// A world without facts. `released` hears of every organization that is resident no more; it must not wait.
    ///
    /// The [`Orders`] are for whoever loads organizations; dropped, every load fails.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>, metrics: Arc<Metrics>, released: Released) -> (Self, Orders) {
        let changed = watch::Sender::new(());
        let revocations = Revocations::new(Arc::clone(&clock), changed.clone());
        let histories = Histories::new(Arc::clone(&clock));
        let (residents, orders) = Residents::new(&settings, clock, Arc::clone(&metrics), released);
        let nothing = Generation {
            number: 0,
            revision: None,
            catalog: Arc::new(Catalog::empty()),
            organizations: Preloaded::OnDemand,
            former: None,
        };
        let world = Self {
            settings,
            current: ArcSwap::from_pointee(nothing),
            residents,
            installing: Mutex::default(),
            turn: Turn::default(),
            changed,
            proven: Proof::none(),
            histories,
            revocations,
            metrics,
        };
        (world, orders)
    }

    /// The facts about `organization` that are in force now. Does not wait. Those that everything else has left behind are
    /// [former](View::is_former) ones; they are on order then.
    pub fn view(&self, organization: &OrganizationId) -> Lookup {
        let read = || {
            let generation = self.current.load();
            let Some(revision) = generation.revision else { return Lookup::NoFacts };
            let proven = self.proven.get();
            let (organization, proven) = match &generation.organizations {
                Preloaded::All(all) => {
                    (all.places.get(organization).map_or(Held::Unknown, |&at| Held::Preloaded(at)), proven)
                }
                Preloaded::OnDemand => match self.residents.any(organization) {
                    Some(resident) if resident.is_of(generation.number) => {
                        resident.touch();
                        // Decided on both, so as old as the older of them.
                        let own = resident.proven().map_or(proven, |own| proven.map(|world| world.min(own)));
                        (Held::Resident(resident.shard()), own)
                    }
                    Some(resident) => return former(generation, &resident).map_or(Lookup::NotResident, Lookup::Ready),
                    None => return Lookup::NotResident,
                },
            };
            Lookup::Ready(View { generation, revision, organization, proven })
        };
        let found = self.turn.read(read);
        if let Lookup::Ready(view) = &found
            && view.is_former()
        {
            self.residents.want(organization);
        }
        found
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
        self.install(revision, catalog, None, |catalog| {
            let mut places = HashMap::with_capacity_and_hasher(organizations.len(), RandomState::default());
            let mut shards = Vec::with_capacity(organizations.len());
            for (organization, rows) in organizations {
                let built = Shard::build(catalog, &organization, &rows, self.settings.keep);
                let refused = |source| InstallError::Organization { organization: organization.clone(), source };
                shards.push(self.noted(built.map_err(refused)?));
                places.insert(organization, shards.len() - 1);
            }
            let bytes = shards.iter().map(|shard| shard.memory().total()).sum();
            Ok(Preloaded::All(Arc::new(Everything { places, shards: shards.into_boxed_slice(), bytes })))
        })
    }

    /// Puts a catalog in force and lets organizations be loaded on first use. Residents stay within one history, and have to be loaded
    /// anew in another.
    ///
    /// # Errors
    /// [`InstallError`], and nothing has changed.
    pub fn install_catalog(&self, revision: Revision, catalog: &CatalogRows) -> Result<(), InstallError> {
        let turn = self.installing();
        let before = self.current.load();
        let same_history = matches!(before.organizations, Preloaded::OnDemand)
            && before.revision.is_some_and(|in_force| in_force.epoch == revision.epoch);
        if !same_history {
            drop(turn);
            return self.install(revision, catalog, None, |_| Ok(Preloaded::OnDemand));
        }
        before.may_become(revision)?;
        let catalog = before.catalog.advance(&Delta::Reset(Box::new(catalog.clone())));
        let catalog = Arc::new(self.noted(catalog.map_err(InstallError::Catalog)?));
        self.put_in_force(Generation { revision: Some(revision), catalog, ..(**before).clone() });
        Ok(())
    }

    /// Puts a catalog in force, and has every organization loaded anew: what happened since the residents were loaded is not known. Until they
    /// are, each of them stays what it was, with the catalog it was in force with, and is as old as that.
    ///
    /// # Errors
    /// [`InstallError`], and nothing has changed.
    pub fn start_over(&self, revision: Revision, catalog: &CatalogRows) -> Result<(), InstallError> {
        let former = self.current.load().outlived(self.proven.get());
        self.install(revision, catalog, former, |_| Ok(Preloaded::OnDemand))
    }

    fn install(
        &self,
        revision: Revision,
        catalog: &CatalogRows,
        former: Option<Arc<Former>>,
        organizations: impl FnOnce(&Catalog) -> Result<Preloaded, InstallError>,
    ) -> Result<(), InstallError> {
        let _turn = self.installing();
        let before = self.current.load();
        before.may_become(revision)?;
        let catalog = Arc::new(self.noted(Catalog::build(catalog).map_err(InstallError::Catalog)?));
        let organizations = organizations(&catalog)?;
        let number = before.number + 1;
        self.put_in_force(Generation { number, revision: Some(revision), catalog, organizations, former });
        Ok(())
    }

    /// Puts one transaction of the history in force as one: its share of the catalog, and of the residents. Says which organizations it
    /// left behind because they have to be read again; they are not resident any more.
    ///
    /// # Errors
    /// [`InstallError`], and nothing has changed.
    pub fn apply(&self, epoch: Epoch, transaction: &Transaction) -> Result<Vec<OrganizationId>, InstallError> {
        let _turn = self.installing();
        let before = self.current.load();
        let revision = before.next(epoch, transaction.seq)?;
        let mut catalog = Arc::clone(&before.catalog);
        for part in &transaction.parts {
            if let Part::Catalog(delta) = part {
                catalog = Arc::new(self.noted(catalog.advance(delta).map_err(InstallError::Catalog)?));
            }
        }
        let mut next = Vec::new();
        let mut left_behind = Vec::new();
        for part in &transaction.parts {
            let Part::Organization { id, delta } = part else { continue };
            let Some(resident) = self.residents.find(id, before.number) else { continue };
            match self.advanced(&catalog, id, resident.shard().as_deref(), delta) {
                Some(shard) => next.push((id.clone(), resident, shard)),
                None => left_behind.push(id.clone()),
            }
        }
        self.turn.write(|| {
            for (_, resident, shard) in &next {
                resident.replace(Arc::clone(shard));
            }
            for organization in &left_behind {
                self.residents.remove(organization);
            }
            self.current.store(Arc::new(Generation { revision: Some(revision), catalog, ..(**before).clone() }));
        });
        for (organization, resident, _) in next {
            self.residents.weigh(&organization, resident);
        }
        self.changed.send_replace(());
        Ok(left_behind)
    }

    /// The next shard of a resident; `None` when it has to be read again.
    fn advanced(
        &self,
        catalog: &Catalog,
        organization: &OrganizationId,
        shard: Option<&Shard>,
        delta: &Delta<OrganizationRecord>,
    ) -> Option<Arc<Shard>> {
        let shard = shard.filter(|_| matches!(delta, Delta::Changes(_)))?;
        match shard.advance(catalog, delta) {
            Ok(built) => Some(Arc::new(self.noted(built))),
            Err(error) => {
                tracing::error!(%organization, %error, "a change of an organization is refused; it is read again");
                None
            }
        }
    }

    /// Notes that nothing of what is in memory changed up to `seq`.
    ///
    /// # Errors
    /// [`InstallError`], and nothing has changed.
    pub fn pass(&self, epoch: Epoch, seq: u64) -> Result<(), InstallError> {
        self.apply(epoch, &Transaction { seq, parts: Vec::new() }).map(drop)
    }

    fn put_in_force(&self, generation: Generation) {
        let epoch = |generation: &Generation| generation.revision.map(|revision| revision.epoch);
        if epoch(&self.current.load()) != epoch(&generation) {
            self.histories.begin();
        }
        self.turn.write(|| self.current.store(Arc::new(generation)));
        self.changed.send_replace(());
    }

    fn installing(&self) -> MutexGuard<'_, ()> {
        self.installing.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// How old the oldest facts are that anything may be decided on at `uptime`.
    fn oldest(&self, uptime: Duration) -> Option<Duration> {
        let proven = self.proven.get()?;
        let former = self.current.load().former.clone();
        let oldest = self.residents.oldest(former.as_deref()).map_or(proven, |oldest| oldest.min(proven));
        Some(oldest.age(uptime))
    }

    /// Hears of whatever comes into force from now on, facts or revocations.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Notes that the facts in force were the newest there are at `uptime`.
    pub fn prove(&self, uptime: Duration) {
        self.note(Moment::at(uptime));
        self.histories.prove(Moment::at(uptime));
    }

    fn note(&self, moment: Moment) {
        self.proven.note(moment);
        self.revocations.world_proven(moment);
    }

    /// Whether facts were proven to be the newest since the history in force began: before that, they may be those of a restored
    /// backup which somebody else has moved beyond already.
    pub fn is_proven_in_epoch(&self) -> bool {
        self.histories.is_proven()
    }

    /// Whether `epoch`, of which somebody has seen a revision, is known to be over: the facts in force, of another epoch, were proven to be the
    /// newest as of a moment after this was first asked. Until then it may be one that has begun and is not known here yet.
    pub fn is_over(&self, epoch: Epoch) -> bool {
        self.histories.is_over(epoch)
    }

    /// The revocations in force.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// How old the facts in force are at `uptime`.
    pub fn freshness(&self, uptime: Duration) -> Freshness {
        Freshness { age: self.proven.get().map(|proven| proven.age(uptime)) }
    }

    /// Whether there are facts that were proven to be the newest at some time.
    pub fn has_facts(&self) -> bool {
        self.revision().is_some() && self.proven.get().is_some()
    }

    /// The revision in force.
    pub fn revision(&self) -> Option<Revision> {
        self.current.load().revision
    }

    /// What there is, at `uptime`.
    pub fn summary(&self, uptime: Duration) -> Summary {
        let current = self.current.load();
        let (organizations, bytes) = match &current.organizations {
            Preloaded::All(all) => (all.shards.len(), all.bytes),
            Preloaded::OnDemand => self.residents.size(),
        };
        Summary {
            revision: current.revision.map(|revision| revision.to_string()),
            age_ms: self.freshness(uptime).age.map(|age| age.as_millis()),
            oldest_ms: self.oldest(uptime).map(|age| age.as_millis()),
            organizations_resident: organizations,
            bytes: bytes + current.catalog.bytes(),
        }
    }

    /// The organizations in memory.
    pub fn organizations(&self) -> Vec<OrganizationId> {
        match &self.current.load().organizations {
            Preloaded::All(all) => all.places.keys().cloned().collect(),
            Preloaded::OnDemand => self.residents.organizations(),
        }
    }

    /// Brings the gauges up to date.
    pub fn show(&self, uptime: Duration) {
        let summary = self.summary(uptime);
        let age = self.freshness(uptime).age;
        self.metrics.facts.show(age, self.revision(), summary.organizations_resident, summary.bytes);
        self.metrics.revocations.show(self.revocations.freshness(uptime).age, self.revocations.count());
        self.metrics.facts.show_oldest(self.oldest(uptime));
    }
}

/// What is left of a resident when everything began anew.
fn former(generation: Guard<Arc<Generation>>, resident: &Resident) -> Option<View> {
    let former = generation.former.clone().filter(|former| resident.is_of(former.number))?;
    let shard = resident.shard().clone()?;
    let (revision, proven) = (former.revision, former.proven);
    Some(View { generation, revision, organization: Held::Former(former, shard), proven })
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
