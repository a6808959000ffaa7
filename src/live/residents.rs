//! Organizations that are loaded on first use.
//!
//! A request that needs one orders it and waits, for a bounded time; whoever holds the [`Orders`] carries them out. An organization is on
//! order at most once, however many requests wait for it, and a load goes on when those who waited have given up.
//!
//! The cache evicts what was used least recently when [`Room`] is needed. Where that does not help, new organizations are refused, and
//! those that are resident keep being served.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwapOption, Guard};
use foldhash::fast::RandomState;
use moka::notification::RemovalCause;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::generation::Former;
use super::moment::{Moment, Proof};
use super::room::Room;
use super::{Arrival, Settings};
use crate::domain::{Clock, MembershipId, OrganizationId, Shard};
use crate::telemetry::{Metrics, OrganizationLoad};

/// The most organizations on order.
const MOST_ORDERS: usize = 1024;

/// Hears of every organization that is resident no more.
pub type Released = Box<dyn Fn(&OrganizationId) + Send + Sync>;

/// Why an organization is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It did not come in time.
    #[error("the organization was not loaded in time")]
    TimedOut,
    /// It could not be had.
    #[error("the organization could not be loaded")]
    Failed,
    /// There is no room for it, or too many are on order.
    #[error("there is no room for the organization")]
    NoRoom,
}

type Outcome = Option<Result<(), LoadError>>;

/// An organization that somebody waits for. Dropped, it fails.
#[derive(Debug)]
pub struct Order {
    organization: OrganizationId,
    done: watch::Sender<Outcome>,
}

/// What is on order, in the order it was asked for.
#[derive(Debug)]
pub struct Orders(mpsc::Receiver<Order>);

/// A resident, as whoever keeps it fresh sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Which organization.
    pub organization: OrganizationId,
    /// Whether a request looked at it since that was last asked.
    pub used: bool,
    /// Uptime at which its facts were proven to be the newest, where that is known of it alone.
    pub proven: Option<Duration>,
}

pub(super) struct Residents {
    cache: Cache<OrganizationId, Arc<Resident>, RandomState>,
    pending: Mutex<HashMap<OrganizationId, watch::Receiver<Outcome>>>,
    orders: mpsc::Sender<Order>,
    room: Arc<Room>,
    max_kibibytes: u64,
    /// The places, for those who look without needing them: in the cache that would count as a use.
    seats: Mutex<HashMap<OrganizationId, Weak<Resident>>>,
}

/// An organization's place. What stands in it is replaced as it changes.
#[derive(Debug)]
pub(super) struct Resident {
    generation: u64,
    /// `None`: there is no such organization.
    shard: ArcSwapOption<Shard>,
    /// What it was taken to weigh.
    kibibytes: AtomicU32,
    /// When it came, by the clock's uptime.
    since: Duration,
    /// When it was proven to be the newest.
    proven: Proof,
    /// Whether a request looked at it since that was last asked.
    used: AtomicBool,
}

impl Order {
    /// Which organization.
    pub fn organization(&self) -> &OrganizationId {
        &self.organization
    }
}

impl Orders {
    /// The next order; `None` when the world is gone.
    pub async fn next(&mut self) -> Option<Order> {
        self.0.recv().await
    }
}

impl Residents {
    pub(super) fn new(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        released: Released,
    ) -> (Self, Orders) {
        let (orders, received) = mpsc::channel(MOST_ORDERS);
        let room = Arc::new(Room::new(clock));
        let seen = Arc::clone(&room);
        let max_kibibytes = settings.max_memory / 1024;
        let cache = Cache::builder()
            .max_capacity(max_kibibytes)
            .weigher(|_, resident: &Arc<Resident>| resident.kibibytes.load(Ordering::Relaxed))
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(Expiry { unknown_for: settings.unknown_for })
            .eviction_listener(move |organization: Arc<OrganizationId>, resident: Arc<Resident>, cause| {
                if cause == RemovalCause::Size && resident.shard.load().is_some() {
                    metrics.organizations_evicted.inc();
                    seen.evicted(resident.since);
                }
                if cause != RemovalCause::Replaced {
                    released(&organization);
                }
            })
            .build_with_hasher(RandomState::default());
        (
            Self { cache, pending: Mutex::default(), orders, room, max_kibibytes, seats: Mutex::default() },
            Orders(received),
        )
    }

    /// The organization's place, of whichever generation, for a request.
    pub(super) fn any(&self, organization: &OrganizationId) -> Option<Arc<Resident>> {
        self.cache.get(organization)
    }

    /// The organization's place, if it has one in this generation. It is not needed for a request: whoever asks keeps it fresh.
    pub(super) fn find(&self, organization: &OrganizationId, generation: u64) -> Option<Arc<Resident>> {
        if !self.cache.contains_key(organization) {
            return None;
        }
        let seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.get(organization).and_then(Weak::upgrade).filter(|resident| resident.is_of(generation))
    }

    /// Those that are there of this generation, those first that requests looked at.
    pub(super) fn of(&self, generation: u64) -> Vec<OrganizationId> {
        let there =
            self.cache.iter().filter(|(_, resident)| resident.is_of(generation) && resident.shard.load().is_some());
        let is_used = |(organization, resident): (Arc<OrganizationId>, Arc<Resident>)| {
            (resident.used.load(Ordering::Relaxed), organization.as_ref().clone())
        };
        let (used, unused): (Vec<_>, Vec<_>) = there.map(is_used).partition(|(used, _)| *used);
        used.into_iter().chain(unused).map(|(_, organization)| organization).collect()
    }

    /// Puts the organization on order, if that is possible; nobody waits for it.
    pub(super) fn want(&self, organization: &OrganizationId) {
        // Whoever needs it next puts it on order otherwise.
        let _ = self.order(organization);
    }

    /// An order that nobody waits for; `None` when there is one already.
    pub(super) fn preload(&self, organization: &OrganizationId) -> Option<Order> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.get(organization).is_some_and(|done| done.has_changed().is_ok()) {
            return None;
        }
        let (done, outcome) = watch::channel(None);
        pending.insert(organization.clone(), outcome);
        Some(Order { organization: organization.clone(), done })
    }

    /// Lets the cache know what an organization weighs now, when that is more than an eighth away from what it was taken for. One that had
    /// to leave meanwhile does not come back: it may have missed something.
    pub(super) fn weigh(&self, organization: &OrganizationId, resident: Arc<Resident>) {
        let now = resident.shard.load().as_ref().map_or(1, |shard| kibibytes(shard));
        let before = resident.kibibytes.load(Ordering::Relaxed);
        if now.abs_diff(before) <= before / 8 {
            return;
        }
        resident.kibibytes.store(now, Ordering::Relaxed);
        self.cache.entry_by_ref(organization).and_compute_with(|current| match current {
            Some(current) if Arc::ptr_eq(current.value(), &resident) => Op::Put(resident),
            _ => Op::Nop,
        });
    }

    /// Lets an organization go.
    pub(super) fn remove(&self, organization: &OrganizationId) {
        self.cache.invalidate(organization);
    }

    /// The organizations that are there.
    pub(super) fn organizations(&self) -> Vec<OrganizationId> {
        let there = self.cache.iter().filter(|(_, resident)| resident.shard.load().is_some());
        there.map(|(organization, _)| organization.as_ref().clone()).collect()
    }

    /// Those that are there, which of them were used since the last call, and since when they are proven.
    pub(super) fn take_uses(&self) -> Vec<Use> {
        let there = self.cache.iter().filter(|(_, resident)| resident.shard.load().is_some());
        there
            .map(|(organization, resident)| Use {
                organization: organization.as_ref().clone(),
                used: resident.take_used(),
                proven: resident.proven().map(Moment::uptime),
            })
            .collect()
    }

    /// Those that have this membership.
    pub(super) fn having(&self, membership: &MembershipId) -> Vec<OrganizationId> {
        let has =
            |resident: &Resident| resident.shard.load().as_ref().is_some_and(|shard| shard.has_member(membership));
        let there = self.cache.iter().filter(|(_, resident)| has(resident));
        there.map(|(organization, _)| organization.as_ref().clone()).collect()
    }

    /// The longest time ago that any of those that are there were proven to be the newest; `None` when none says so of itself.
    pub(super) fn oldest(&self, former: Option<&Former>) -> Option<Moment> {
        let proven = |resident: &Resident| {
            former
                .filter(|former| resident.is_of(former.number))
                .map_or_else(|| resident.proven(), |former| former.proven)
        };
        self.cache.iter().filter_map(|(_, resident)| proven(&resident)).min()
    }

    /// Notes that there is no such organization any more.
    pub(super) fn end(&self, organization: &OrganizationId, generation: u64, proven: Option<Moment>) {
        self.insert(organization.clone(), generation, None, proven, false);
    }

    /// Lets an organization in that nobody asked for.
    pub(super) fn seat(&self, organization: OrganizationId, generation: u64, shard: Shard) {
        self.insert(organization, generation, Some(shard), None, false);
    }

    /// What is there of this generation, non-existent organizations apart.
    pub(super) fn shards(&self, generation: u64) -> Vec<(OrganizationId, Arc<Shard>)> {
        let there = self.cache.iter().filter(|(_, resident)| resident.generation == generation);
        there
            .filter_map(|(organization, resident)| Some((organization.as_ref().clone(), resident.shard.load_full()?)))
            .collect()
    }

    fn insert(
        &self,
        organization: OrganizationId,
        generation: u64,
        shard: Option<Shard>,
        proven: Option<Moment>,
        used: bool,
    ) {
        let resident = Resident {
            generation,
            kibibytes: shard.as_ref().map_or(1, kibibytes).into(),
            shard: ArcSwapOption::from_pointee(shard),
            since: self.room.uptime(),
            proven: Proof::of(proven),
            used: AtomicBool::new(used),
        };
        let resident = Arc::new(resident);
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if seats.len() >= seats.capacity() {
            // Before it grows.
            seats.retain(|_, seat| seat.strong_count() > 0);
        }
        seats.insert(organization.clone(), Arc::downgrade(&resident));
        drop(seats);
        self.cache.insert(organization, resident);
    }

    pub(super) async fn load(&self, organization: &OrganizationId, wait: Duration) -> Result<(), LoadError> {
        let mut done = self.order(organization)?;
        match timeout(wait, done.wait_for(Option::is_some)).await {
            Err(_) => Err(LoadError::TimedOut),
            Ok(Ok(outcome)) => outcome.unwrap_or(Err(LoadError::Failed)),
            Ok(Err(_)) => Err(LoadError::Failed),
        }
    }

    /// Joins those who wait already, or orders.
    fn order(&self, organization: &OrganizationId) -> Result<watch::Receiver<Outcome>, LoadError> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(done) = pending.get(organization).filter(|done| done.has_changed().is_ok()) {
            return Ok(done.clone());
        }
        if !self.room.may_have(organization) {
            return Err(LoadError::NoRoom);
        }
        let (done, outcome) = watch::channel(None);
        match self.orders.try_send(Order { organization: organization.clone(), done }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(LoadError::NoRoom),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(LoadError::Failed),
        }
        pending.insert(organization.clone(), outcome.clone());
        Ok(outcome)
    }

    /// Lets the organization in and wakes those who wait.
    pub(super) fn settle(
        &self,
        order: Order,
        generation: u64,
        arrival: Result<Arrival, OrganizationLoad>,
    ) -> OrganizationLoad {
        let (outcome, load) = match arrival {
            Err(load) => (Err(LoadError::Failed), load),
            Ok(Arrival { shard, proven }) => {
                let load = if shard.is_some() { OrganizationLoad::Loaded } else { OrganizationLoad::Unknown };
                let kibibytes = shard.as_ref().map_or(1, kibibytes);
                if u64::from(kibibytes) > self.max_kibibytes {
                    self.room.too_large(&order.organization);
                    (Err(LoadError::NoRoom), OrganizationLoad::NoRoom)
                } else {
                    let proven = proven.map(Moment::at);
                    self.insert(order.organization.clone(), generation, shard, proven, true);
                    // Evicts at once what is too much now, instead of some time later.
                    self.cache.run_pending_tasks();
                    (Ok(()), load)
                }
            }
        };
        self.done(order, outcome);
        load
    }

    /// Wakes those who wait.
    pub(super) fn done(&self, order: Order, outcome: Result<(), LoadError>) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&order.organization);
        order.done.send_replace(Some(outcome));
    }

    /// How many organizations are resident, and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        // Counts what came and went of late, which the cache does only now and then.
        self.cache.run_pending_tasks();
        let whole = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        (whole(self.cache.entry_count()), whole(self.cache.weighted_size()).saturating_mul(1024))
    }
}

impl Resident {
    /// Whether it was loaded in this generation.
    pub(super) fn is_of(&self, generation: u64) -> bool {
        self.generation == generation
    }

    /// Its facts; `None` when there is no such organization.
    pub(super) fn shard(&self) -> Guard<Option<Arc<Shard>>> {
        self.shard.load()
    }

    /// When its facts were proven to be the newest, where that is not known for the world as a whole.
    pub(super) fn proven(&self) -> Option<Moment> {
        self.proven.get()
    }

    pub(super) fn replace(&self, shard: Arc<Shard>) {
        self.shard.store(Some(shard));
    }

    /// Replaces its facts by newer ones, which were proven to be the newest at another moment.
    pub(super) fn renew(&self, shard: Arc<Shard>, proven: Option<Moment>) {
        self.shard.store(Some(shard));
        self.proven.set(proven);
    }

    /// Notes that a request looks at it.
    pub(super) fn touch(&self) {
        // Written once between two questions: what every request writes, every processor waits for.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }
}

/// What an organization weighs in the cache.
pub(super) fn kibibytes(shard: &Shard) -> u32 {
    u32::try_from(shard.memory().total().div_ceil(1024)).unwrap_or(u32::MAX)
}

/// Forgets what does not exist: it may exist later.
struct Expiry {
    unknown_for: Duration,
}

impl moka::Expiry<OrganizationId, Arc<Resident>> for Expiry {
    fn expire_after_create(&self, _: &OrganizationId, resident: &Arc<Resident>, _: Instant) -> Option<Duration> {
        resident.shard.load().is_none().then_some(self.unknown_for)
    }

    fn expire_after_update(
        &self,
        _: &OrganizationId,
        resident: &Arc<Resident>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        resident.shard.load().is_none().then_some(self.unknown_for)
    }
}
