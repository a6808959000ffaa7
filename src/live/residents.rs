//! Organizations that are loaded on first use.
//!
//! A request that needs one orders it and waits, for a bounded time; whoever holds the [`Orders`] carries them out. An organization is on
//! order at most once, however many requests wait for it, and a load goes on when those who waited have given up.
//!
//! The cache evicts what was used least recently when room is needed. When the working set does not fit at all, that would mean loading
//! and evicting without end; so after an eviction that came too early, new organizations are refused for a moment and those that are
//! resident keep being served.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::Settings;
use crate::domain::{Clock, OrganizationId, Shard};
use crate::telemetry::{Metrics, OrganizationLoad};

/// The most organizations on order.
const MOST_ORDERS: usize = 1024;
/// An organization that has to leave earlier than this shows that the working set does not fit.
const SHORTEST_STAY: Duration = Duration::from_secs(10);
/// For so long new organizations are refused then.
const CROWDED_FOR: Duration = Duration::from_secs(1);

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

pub(super) struct Residents {
    cache: Cache<OrganizationId, Resident, RandomState>,
    pending: Mutex<HashMap<OrganizationId, watch::Receiver<Outcome>>>,
    orders: mpsc::Sender<Order>,
    crowding: Arc<Crowding>,
    max_kibibytes: u64,
}

#[derive(Debug, Clone)]
struct Resident {
    generation: u64,
    /// `None`: there is no such organization.
    shard: Option<Arc<Shard>>,
    kibibytes: u32,
    /// When it came, by the clock's uptime.
    since: Duration,
}

/// Whether the working set fits.
struct Crowding {
    clock: Arc<dyn Clock>,
    /// Uptime in milliseconds until which nobody new is let in.
    until: AtomicU64,
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
        let crowding = Arc::new(Crowding { clock, until: AtomicU64::new(0) });
        let seen = Arc::clone(&crowding);
        let max_kibibytes = settings.max_memory / 1024;
        let cache = Cache::builder()
            .max_capacity(max_kibibytes)
            .weigher(|_, resident: &Resident| resident.kibibytes)
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(Expiry { unknown_for: settings.unknown_for })
            .eviction_listener(move |organization: Arc<OrganizationId>, resident: Resident, cause| {
                if cause == RemovalCause::Size && resident.shard.is_some() {
                    metrics.organizations_evicted.inc();
                    seen.evicted(resident.since);
                }
                if cause != RemovalCause::Replaced {
                    released(&organization);
                }
            })
            .build_with_hasher(RandomState::default());
        (Self { cache, pending: Mutex::default(), orders, crowding, max_kibibytes }, Orders(received))
    }

    /// The organization as of this generation; `Some(None)` when it is known not to exist.
    pub(super) fn find(&self, organization: &OrganizationId, generation: u64) -> Option<Option<Arc<Shard>>> {
        let resident = self.cache.get(organization)?;
        (resident.generation == generation).then_some(resident.shard)
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
        if self.crowding.is_on() {
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
        load: Result<Option<Arc<Shard>>, OrganizationLoad>,
    ) -> OrganizationLoad {
        let (outcome, load) = match load {
            Err(load) => (Err(LoadError::Failed), load),
            Ok(shard) => {
                let load = if shard.is_some() { OrganizationLoad::Loaded } else { OrganizationLoad::Unknown };
                let kibibytes = shard.as_ref().map_or(1, |shard| shard.memory().total().div_ceil(1024));
                let kibibytes = u32::try_from(kibibytes).unwrap_or(u32::MAX);
                if u64::from(kibibytes) > self.max_kibibytes {
                    (Err(LoadError::NoRoom), OrganizationLoad::NoRoom)
                } else {
                    let since = self.crowding.clock.uptime();
                    self.cache.insert(order.organization.clone(), Resident { generation, shard, kibibytes, since });
                    // Evicts at once what is too much now, instead of some time later.
                    self.cache.run_pending_tasks();
                    (Ok(()), load)
                }
            }
        };
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&order.organization);
        order.done.send_replace(Some(outcome));
        load
    }

    /// How many organizations are resident, and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        let whole = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        (whole(self.cache.entry_count()), whole(self.cache.weighted_size()).saturating_mul(1024))
    }
}

impl Crowding {
    fn evicted(&self, since: Duration) {
        let now = self.clock.uptime();
        if now.saturating_sub(since) < SHORTEST_STAY {
            let until = u64::try_from((now + CROWDED_FOR).as_millis()).unwrap_or(u64::MAX);
            self.until.fetch_max(until, Ordering::Relaxed);
        }
    }

    fn is_on(&self) -> bool {
        self.clock.uptime() < Duration::from_millis(self.until.load(Ordering::Relaxed))
    }
}

/// Forgets what does not exist: it may exist later.
struct Expiry {
    unknown_for: Duration,
}

impl moka::Expiry<OrganizationId, Resident> for Expiry {
    fn expire_after_create(&self, _: &OrganizationId, resident: &Resident, _: Instant) -> Option<Duration> {
        resident.shard.is_none().then_some(self.unknown_for)
    }

    fn expire_after_update(
        &self,
        _: &OrganizationId,
        resident: &Resident,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        resident.shard.is_none().then_some(self.unknown_for)
    }
}
