//! Organizations on their way into memory, and those that are there.
//!
//! Reading one and subscribing to it go on at the same time. What was read belongs to a moment `seq`; the subscription holds from a moment
//! `at`. The organization is let in when nothing is missing in between: `at <= seq`, and everything up to `seq` has been applied. What
//! came after `seq` meanwhile is applied to it first.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Position, SessionError};
use crate::domain::record::{Delta, OrganizationRecord, Part, Transaction};
use crate::domain::{Epoch, OrganizationId, Shard};
use crate::live::{Arrival, Order, World};
use crate::source::{FeedClient, FeedError, Room};
use crate::telemetry::{FactsUpdate, Metrics, UpdateResult};
use crate::wire::feed::Up;

/// The most organizations that are read at the same time.
const MOST_LOADS: usize = 32;
/// The time between a listing of all organizations that failed and the next.
const BEFORE_LISTING_AGAIN: Duration = Duration::from_secs(5);
/// Changes of one organization that are kept while it is read; beyond that it is read again.
const MOST_WAITING: usize = 10_000;

pub(super) struct Loads {
    world: Arc<World>,
    client: FeedClient,
    metrics: Arc<Metrics>,
    /// Whether every organization is followed.
    everything: bool,
    /// The history that is followed.
    epoch: Option<Epoch>,
    /// Everything up to this transaction has been applied.
    applied: u64,
    /// Those that we hear of, or will; with the transaction that touched them last, as far as we heard.
    followed: HashMap<OrganizationId, u64>,
    /// Those of them that are not in memory yet.
    loading: HashMap<OrganizationId, Load>,
    reads: JoinSet<Done>,
    /// For what is being read.
    room: Room,
    /// Organizations to be loaded although nobody asked.
    preload: VecDeque<OrganizationId>,
    add: Vec<OrganizationId>,
    remove: Vec<OrganizationId>,
    /// The number of the last subscription that was sent.
    sent: u64,
}

/// An organization that is not in memory yet.
struct Load {
    order: Order,
    /// The generation of the world that it is for.
    generation: u64,
    /// The subscription that it is part of.
    number: u64,
    /// From where on we hear of it; `None` while that is not confirmed.
    at: Option<u64>,
    /// What happened since it is followed.
    waiting: Vec<(u64, Delta<OrganizationRecord>)>,
    /// What was read, and as of which transaction.
    arrived: Option<(u64, Option<Box<Shard>>)>,
}

/// What came of something that was done beside.
enum Done {
    Read { organization: OrganizationId, found: Result<(u64, Option<Box<Shard>>), ()> },
    Listed(Result<Vec<OrganizationId>, FeedError>),
    Digested { organization: OrganizationId, touched: u64, ours: Option<String>, theirs: Option<String> },
}

impl Loads {
    pub(super) fn new(world: Arc<World>, client: FeedClient, metrics: Arc<Metrics>, everything: bool) -> Self {
        let room = Room::new(world.max_memory());
        Self {
            room,
            world,
            client,
            metrics,
            everything,
            epoch: None,
            applied: 0,
            followed: HashMap::new(),
            loading: HashMap::new(),
            reads: JoinSet::new(),
            preload: VecDeque::new(),
            add: Vec::new(),
            remove: Vec::new(),
            sent: 0,
        }
    }

    /// The organizations that a stream has to be about from its beginning.
    pub(super) fn wanted(&self) -> Vec<OrganizationId> {
        self.followed.keys().cloned().collect()
    }

    /// A stream has begun at `seq`, about everything that is [wanted](Self::wanted).
    pub(super) fn resumed(&mut self, seq: u64) {
        self.add.clear();
        self.remove.clear();
        for load in self.loading.values_mut() {
            load.at.get_or_insert(seq);
        }
    }

    /// These organizations exist for us, and no others: whatever else is in memory is read again when it is needed, and not found. It may be
    /// that the key could read more when it was read.
    pub(super) fn confine(&mut self, only: Vec<OrganizationId>) {
        let only: HashSet<_> = only.into_iter().collect();
        for organization in self.world.organizations().iter().filter(|organization| !only.contains(*organization)) {
            self.world.forget(organization);
            self.let_go(organization);
        }
        let others: Vec<_> = self.loading.extract_if(|organization, _| !only.contains(organization)).collect();
        for (organization, load) in others {
            self.put(organization, load.order);
        }
    }

    /// The world begins anew: whatever is on order is read again, and then what was in memory.
    pub(super) fn start_over(&mut self, position: &Position) {
        // What is being read may be of another history.
        self.reads = JoinSet::new();
        (self.epoch, self.applied) = (Some(position.epoch), position.seq);
        self.followed.clear();
        for (organization, load) in std::mem::take(&mut self.loading) {
            self.put(organization, load.order);
        }
        if !self.everything {
            self.preload = self.world.former().into();
        }
    }

    /// The world was put in force from disk: these organizations are in memory, as of `position`.
    pub(super) fn restored(&mut self, position: &Position, organizations: Vec<OrganizationId>) {
        (self.epoch, self.applied) = (Some(position.epoch), position.seq);
        self.followed.extend(organizations.into_iter().map(|organization| (organization, position.seq)));
    }

    /// Every organization is to be in memory: they are listed after this time.
    pub(super) fn want_everything(&mut self, after: Duration) {
        let client = self.client.clone();
        self.reads.spawn(async move {
            sleep(after).await;
            let mut all = Vec::new();
            let mut after = None;
            loop {
                match client.organizations(after.as_ref()).await {
                    Ok(page) => {
                        all.extend(page.ids);
                        // Every page begins after the one before, or the list would never end.
                        match page.after {
                            Some(next) if after.as_ref().is_none_or(|before| next > *before) => after = Some(next),
                            Some(_) | None => return Done::Listed(Ok(all)),
                        }
                    }
                    Err(error) => return Done::Listed(Err(error)),
                }
            }
        });
    }

    /// Whether another order can be taken.
    pub(super) fn has_room(&self) -> bool {
        self.reads.len() < MOST_LOADS
    }

    /// Begins to load what was ordered.
    pub(super) fn begin(&mut self, order: Order) {
        // Ordered by somebody who did not see it come.
        let Err(order) = self.world.settle_resident(order) else { return };
        let organization = order.organization().clone();
        if !self.everything && !self.followed.contains_key(&organization) {
            self.remove.retain(|removed| *removed != organization);
            self.add.push(organization.clone());
        }
        self.put(organization, order);
    }

    fn put(&mut self, organization: OrganizationId, order: Order) {
        let is_new = self.followed.insert(organization.clone(), 0).is_none();
        // Whoever hears of it already, or of everything, hears of all that is not applied yet.
        let at = (self.everything || !is_new && !self.add.contains(&organization)).then_some(self.applied);
        let (generation, number) = (self.world.generation(), self.sent + 1);
        let load = Load { order, generation, number, at, waiting: Vec::new(), arrived: None };
        self.loading.insert(organization.clone(), load);
        self.read(organization);
    }

    fn read(&mut self, organization: OrganizationId) {
        let (client, world, metrics) = (self.client.clone(), Arc::clone(&self.world), Arc::clone(&self.metrics));
        let (epoch, room) = (self.epoch, self.room.clone());
        self.reads.spawn(async move {
            let found = read(&client, &world, epoch, &organization, &room).await;
            let counted = if found.is_ok() { UpdateResult::Applied } else { UpdateResult::Failed };
            metrics.facts_updated(FactsUpdate::Organization, counted);
            Done::Read { organization, found }
        });
    }

    /// The change of the subscription that has become due.
    pub(super) fn subscription(&mut self) -> Option<Up> {
        if self.add.is_empty() && self.remove.is_empty() {
            return None;
        }
        self.sent += 1;
        let (add, remove) = (std::mem::take(&mut self.add), std::mem::take(&mut self.remove));
        Some(Up::Subscribe { number: self.sent, add, remove })
    }

    /// A subscription holds: we hear of everything after `at`.
    pub(super) fn subscribed(&mut self, number: u64, at: u64) {
        for load in self.loading.values_mut().filter(|load| load.number <= number) {
            load.at.get_or_insert(at);
        }
    }

    /// Keeps what concerns organizations that are on their way.
    pub(super) fn happened(&mut self, transaction: &Transaction) {
        for part in &transaction.parts {
            let Part::Organization { id, delta } = part else { continue };
            if let Some(touched) = self.followed.get_mut(id) {
                *touched = transaction.seq;
            }
            if let Some(load) = self.loading.get_mut(id) {
                load.waiting.push((transaction.seq, delta.clone()));
            }
        }
    }

    /// Organizations that had to leave the memory because they have to be read again: on next use, or at once where all are wanted.
    pub(super) fn left_behind(&mut self, organizations: Vec<OrganizationId>) {
        if self.everything {
            self.preload.extend(organizations);
        }
    }

    /// An organization left the memory.
    pub(super) fn released(&mut self, organization: &OrganizationId) {
        if !self.loading.contains_key(organization) {
            self.let_go(organization);
        }
    }

    /// Hears of it no more, unless it is in memory: a second order for it may fail.
    fn let_go(&mut self, organization: &OrganizationId) {
        if self.world.is_resident(organization) {
            return;
        }
        if self.followed.remove(organization).is_some() && !self.everything {
            self.add.retain(|added| added != organization);
            self.remove.push(organization.clone());
        }
    }

    /// Waits until something that is done beside has come to an end, and takes it in.
    ///
    /// # Errors
    /// [`SessionError::Panic`]: what was done is not done, and nobody knows what it was.
    pub(super) async fn progress(&mut self) -> Result<(), SessionError> {
        self.load_ahead();
        let Some(done) = self.reads.join_next().await else { return std::future::pending().await };
        match done {
            Ok(Done::Read { organization, found }) => self.arrived(&organization, found),
            Ok(Done::Listed(Ok(organizations))) => self.preload.extend(organizations),
            Ok(Done::Listed(Err(error))) => {
                let error = super::describe(&error);
                tracing::warn!(
                    error,
                    "organizations cannot be listed; until they are, they are loaded when they are first used"
                );
                self.want_everything(BEFORE_LISTING_AGAIN);
            }
            Ok(Done::Digested { organization, touched, ours, theirs }) => {
                self.digested(&organization, touched, ours.as_deref(), theirs.as_deref());
            }
            Err(error) if error.is_panic() => return Err(SessionError::Panic),
            // Given up.
            Err(_) => {}
        }
        Ok(())
    }

    fn load_ahead(&mut self) {
        while self.reads.len() < MOST_LOADS / 2 {
            let Some(next) = self.preload.pop_front() else { return };
            // What had to leave meanwhile is read when it is needed.
            if !self.everything && !self.world.is_former(&next) {
                continue;
            }
            if let Some(order) = self.world.preload(&next) {
                self.begin(order);
            }
        }
    }

    fn arrived(&mut self, organization: &OrganizationId, found: Result<(u64, Option<Box<Shard>>), ()>) {
        match found {
            Ok(found) => {
                if let Some(load) = self.loading.get_mut(organization) {
                    load.arrived = Some(found);
                }
            }
            Err(()) => {
                if let Some(Load { order, generation, .. }) = self.loading.remove(organization) {
                    // Another generation has its own orders.
                    let _ = self.world.settle(order, generation, Err(()));
                }
                self.let_go(organization);
            }
        }
    }

    /// Lets in what has everything up to `applied`; up to where the others wait for more.
    pub(super) fn settle(&mut self, applied: u64) -> Option<u64> {
        self.applied = applied;
        let ready = |load: &Load| load.at.is_some() && load.arrived.as_ref().is_some_and(|(seq, _)| *seq <= applied);
        let waited_for =
            self.loading.values().filter(|load| load.at.is_some()).filter_map(|load| load.arrived.as_ref());
        let waited_for = waited_for.map(|(seq, _)| *seq).max().filter(|seq| *seq > applied);
        let ready: Vec<_> = self.loading.extract_if(|_, load| ready(load)).collect();
        for (organization, load) in ready {
            match self.let_in(load) {
                Err(order) => self.put(organization, order),
                // If there was no room for it, what happens to it is of no use.
                Ok(()) => self.let_go(&organization),
            }
        }
        waited_for
    }

    /// Puts an organization into memory, or gives its order back: it has to be read again.
    fn let_in(&self, load: Load) -> Result<(), Order> {
        let Load { order, generation, at, waiting, arrived, .. } = load;
        let (Some((seq, shard)), Some(at)) = (arrived, at) else { return Err(order) };
        if seq < at || waiting.len() > MOST_WAITING {
            return Err(order);
        }
        let since: Vec<_> = waiting.into_iter().filter(|(at, _)| *at > seq).map(|(_, delta)| delta).collect();
        match caught_up(&self.world, shard, &since) {
            Some(shard) => self.world.settle(order, generation, Ok(Arrival { shard, proven: None })),
            None => Err(order),
        }
    }

    /// Holds what the store says that an organization amounts to against what it amounts to here.
    pub(super) fn compare(&mut self, organization: OrganizationId, seq: u64, theirs: Option<String>) {
        let Some(touched) = self.followed.get(&organization).copied().filter(|touched| *touched <= seq) else { return };
        if self.loading.contains_key(&organization) || seq > self.applied || !self.has_room() {
            return;
        }
        let world = Arc::clone(&self.world);
        self.reads.spawn_blocking(move || {
            let ours = world.digest(&organization).map(|digest| digest.to_string());
            Done::Digested { organization, touched, ours, theirs }
        });
    }

    fn digested(&mut self, organization: &OrganizationId, touched: u64, ours: Option<&str>, theirs: Option<&str>) {
        // What is not resident has no digest here; what was touched meanwhile is compared another time.
        let is_same = self.followed.get(organization) == Some(&touched) && !self.loading.contains_key(organization);
        if !is_same || ours == theirs || ours.is_none() {
            return;
        }
        tracing::error!(%organization, "facts went astray, which is a fault of ours; the organization is read again");
        self.metrics.facts_divergence.inc();
        self.world.forget(organization);
    }
}

/// The organization after what happened since it was read; `None` when it has to be read again.
fn caught_up(world: &World, shard: Option<Box<Shard>>, since: &[Delta<OrganizationRecord>]) -> Option<Option<Shard>> {
    match shard {
        _ if since.iter().any(|delta| matches!(delta, Delta::Reset(_))) => None,
        Some(shard) => world.advance(*shard, since).ok().map(Some),
        // It came to be meanwhile.
        None => since.is_empty().then_some(None),
    }
}

/// Reads an organization, and builds it where that holds up nothing else.
async fn read(
    client: &FeedClient,
    world: &Arc<World>,
    epoch: Option<Epoch>,
    organization: &OrganizationId,
    room: &Room,
) -> Result<(u64, Option<Box<Shard>>), ()> {
    let (answer, _place) = client.organization(organization, room).await.map_err(|error| {
        tracing::warn!(%organization, error = super::describe(&error), "organization cannot be loaded");
    })?;
    if Some(answer.epoch) != epoch {
        tracing::warn!(%organization, epoch = %answer.epoch, "organization cannot be loaded: it comes from another history");
        return Err(());
    }
    let Some(rows) = answer.facts else { return Ok((answer.seq, None)) };
    let (world, id) = (Arc::clone(world), organization.clone());
    let built = tokio::task::spawn_blocking(move || world.build(&id, &rows)).await;
    match built {
        Ok(Ok(shard)) => Ok((answer.seq, Some(Box::new(shard)))),
        Ok(Err(error)) => {
            tracing::error!(%organization, %error, "organization is refused");
            Err(())
        }
        Err(_) => Err(()),
    }
}
