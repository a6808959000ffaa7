//! The facts that checks are answered from: the same shards as in the sidecar, built from the database and advanced from its log.
//!
//! Every answer includes whatever was committed before its question, by this process or another on the same database: each question
//! waits for a look at the end of the log that began after it. Questions that come while one looks share the next look.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

use super::database::Database;
use super::error::StoreError;
use super::log::{self, Lookout};
use super::rows;
use crate::domain::id::Epoch;
use crate::domain::{
    Catalog, Delta, Digest, Keep, MembershipId, OrganizationId, OrganizationRecord, Part, ResourceRef, Shard,
};

/// Memberships whose organization is remembered.
const MOST_HOMES: u64 = 100_000;

/// The facts of all organizations, those that were asked about lately in memory.
pub(super) struct FactsCache {
    database: Database,
    catalog: ArcSwap<Catalog>,
    organizations: moka::sync::Cache<OrganizationId, Arc<Slot>, foldhash::fast::RandomState>,
    /// Where memberships were found last. A hint: the facts tell whether they are there.
    homes: moka::sync::Cache<MembershipId, OrganizationId, foldhash::fast::RandomState>,
    /// How many questions were ever asked.
    asked: AtomicU64,
    progress: AsyncMutex<Progress>,
}

#[derive(Default)]
struct Progress {
    lookout: Lookout,
    /// Questions up to this one are served by what is applied.
    served: u64,
    epoch: Option<Epoch>,
    applied: u64,
}

/// One organization's place.
#[derive(Default)]
struct Slot {
    loaded: OnceCell<()>,
    state: Mutex<State>,
}

enum State {
    /// Not there yet; what was logged since it was asked for.
    Loading(Vec<(u64, Delta<OrganizationRecord>)>),
    /// As of the newest transaction that touched it.
    Ready { seq: u64, shard: Arc<Shard> },
    /// There is no such organization.
    Unknown,
}

/// What one answer is made from.
#[derive(Clone)]
pub struct View {
    /// Permissions, roles and settings of the environment.
    pub catalog: Arc<Catalog>,
    /// The organization.
    pub shard: Arc<Shard>,
}

impl Default for State {
    fn default() -> Self {
        Self::Loading(Vec::new())
    }
}

impl FactsCache {
    /// Facts that take at most about `max_memory` bytes.
    pub(super) fn new(database: Database, max_memory: u64) -> Self {
        let organizations = moka::sync::Cache::builder()
            .max_capacity(max_memory / 1024)
            .weigher(|_, slot: &Arc<Slot>| slot.kibibytes())
            .eviction_policy(EvictionPolicy::lru())
            .build_with_hasher(foldhash::fast::RandomState::default());
        Self {
            database,
            catalog: ArcSwap::from_pointee(Catalog::empty()),
            organizations,
            homes: moka::sync::Cache::builder()
                .max_capacity(MOST_HOMES)
                .build_with_hasher(foldhash::fast::RandomState::default()),
            asked: AtomicU64::new(0),
            progress: AsyncMutex::default(),
        }
    }

    /// The facts of one organization, with everything that was committed before the call; `None` when there is no such organization.
    pub(super) async fn view(&self, organization: &OrganizationId) -> Result<Option<View>, StoreError> {
        Ok(self.view_at(organization).await?.map(|(view, _)| view))
    }

    /// The facts of one organization as [`view`](Self::view) gives them, and the transaction that touched them last.
    async fn view_at(&self, organization: &OrganizationId) -> Result<Option<(View, u64)>, StoreError> {
        loop {
            let slot = self.organizations.get_with_by_ref(organization, Arc::default);
            self.catch_up().await?;
            if !slot.loaded.initialized() {
                slot.loaded.get_or_try_init(|| self.load(organization, &slot)).await?;
                self.weigh(organization, &slot);
                self.catch_up().await?;
            }
            // A slot that was evicted meanwhile may have missed something.
            if !self.organizations.get(organization).is_some_and(|current| Arc::ptr_eq(&current, &slot)) {
                continue;
            }
            let (shard, changed) = match &*slot.lock() {
                State::Ready { shard, seq } => (Arc::clone(shard), *seq),
                State::Unknown => return Ok(None),
                State::Loading(_) => continue,
            };
            // After the shard: a catalog may be newer than the shards it is used with, never older.
            return Ok(Some((View { catalog: self.catalog.load_full(), shard }, changed)));
        }
    }

    /// The facts of the membership's organization, with everything that was committed before the call, when both the membership and the
    /// resource are among them; `None` when that takes a look at the tables to tell.
    pub(super) async fn at_hand(
        &self,
        membership: &MembershipId,
        resource: &ResourceRef<'_>,
    ) -> Result<Option<View>, StoreError> {
        let Some(organization) = self.homes.get(membership) else { return Ok(None) };
        let view = self.view(&organization).await?;
        Ok(view.filter(|view| view.shard.has_member(membership) && view.shard.has_resource(resource)))
    }

    /// Remembers whose membership this is.
    pub(super) fn note_home(&self, membership: MembershipId, organization: OrganizationId) {
        self.homes.insert(membership, organization);
    }

    /// Lets the cache know how large the slot has become. One that had to leave does not come back: it may have missed something.
    fn weigh(&self, organization: &OrganizationId, slot: &Arc<Slot>) {
        let entry = self.organizations.entry_by_ref(organization);
        entry.and_compute_with(|current| match current {
            Some(current) if Arc::ptr_eq(current.value(), slot) => Op::Put(Arc::clone(slot)),
            _ => Op::Nop,
        });
    }

    /// What the organization amounts to, and after which transaction; no digest when there is no such organization.
    pub(super) async fn digest(&self, organization: &OrganizationId) -> Result<(u64, Option<Digest>), StoreError> {
        let applied = self.progress.lock().await.applied;
        let Some((view, changed)) = self.view_at(organization).await? else { return Ok((applied, None)) };
        // Unchanged since the transaction that touched it last, so also as of what was applied before.
        Ok((changed.max(applied), Some(view.shard.digest(&view.catalog))))
    }

    /// The organizations in memory.
    pub(super) fn organizations(&self) -> Vec<OrganizationId> {
        self.organizations.iter().map(|(id, _)| id.as_ref().clone()).collect()
    }

    /// How many organizations are in memory.
    pub(super) fn resident(&self) -> u64 {
        self.organizations.entry_count()
    }

    /// Applies what is in the log by now.
    async fn catch_up(&self) -> Result<(), StoreError> {
        let ticket = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut progress = self.progress.lock().await;
        if progress.served >= ticket {
            return Ok(());
        }
        let upto = self.asked.load(Ordering::SeqCst);
        let (Some(head), mut connection) = progress.lookout.head(&self.database).await? else { return Ok(()) };
        let is_cut_off = progress.applied + 1 < head.oldest;
        if progress.epoch != Some(head.epoch) || head.seq < progress.applied || is_cut_off {
            self.start_over(&mut progress).await?;
        }
        while progress.applied < head.seq {
            let rows = log::after(&mut connection, progress.applied).await?;
            if rows.first().is_none_or(|row| row.seq != progress.applied + 1) {
                // Forgotten since the head was read.
                self.start_over(&mut progress).await?;
                continue;
            }
            for row in rows {
                self.apply(row.seq, row.parts()?)?;
                progress.applied = row.seq;
            }
        }
        progress.served = upto;
        progress.lookout.keep(connection);
        Ok(())
    }

    /// Forgets everything and reads the catalog as it is now.
    async fn start_over(&self, progress: &mut Progress) -> Result<(), StoreError> {
        self.organizations.invalidate_all();
        let mut snapshot = self.database.snapshot().await?;
        let head = log::head(&mut snapshot).await?;
        let rows = rows::catalog(&mut snapshot).await?;
        snapshot.rollback().await?;
        let catalog = self.catalog.load().advance(&Delta::Reset(Box::new(rows)))?;
        self.catalog.store(Arc::new(catalog.value));
        progress.epoch = head.as_ref().map(|head| head.epoch);
        progress.applied = head.map_or(0, |head| head.seq);
        Ok(())
    }

    fn apply(&self, seq: u64, parts: Vec<Part>) -> Result<(), StoreError> {
        for part in parts {
            match part {
                Part::Catalog(delta) => {
                    let catalog = self.catalog.load().advance(&delta)?;
                    self.catalog.store(Arc::new(catalog.value));
                }
                Part::Organization { id, delta } => {
                    let Some(slot) = self.organizations.get(&id) else { continue };
                    if !slot.advance(&self.catalog.load(), seq, delta)? {
                        self.organizations.invalidate(&id);
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads the organization as of one moment, then applies what was logged after it.
    async fn load(&self, organization: &OrganizationId, slot: &Slot) -> Result<(), StoreError> {
        let mut snapshot = self.database.snapshot().await?;
        let seq = log::head(&mut snapshot).await?.map_or(0, |head| head.seq);
        let rows = rows::organization(&mut snapshot, organization).await?;
        snapshot.rollback().await?;
        let Some(rows) = rows else {
            *slot.lock() = State::Unknown;
            return Ok(());
        };
        let catalog = self.catalog.load_full();
        let keep = Keep { assignment_ids: true };
        let mut shard = Shard::build(&catalog, organization, &rows, keep)?.value;
        let mut state = slot.lock();
        let mut applied = seq;
        if let State::Loading(waiting) = &mut *state {
            for (number, delta) in waiting.drain(..).filter(|(number, _)| *number > seq) {
                shard = shard.advance(&self.catalog.load(), &delta)?.value;
                applied = number;
            }
        }
        *state = State::Ready { seq: applied, shard: Arc::new(shard) };
        Ok(())
    }
}

impl Slot {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kibibytes(&self) -> u32 {
        match &*self.lock() {
            State::Ready { shard, .. } => u32::try_from(shard.memory().total() / 1024).unwrap_or(u32::MAX).max(1),
            State::Loading(_) | State::Unknown => 1,
        }
    }

    /// Applies one transaction's share; `false` when the organization has to be read again.
    fn advance(&self, catalog: &Catalog, seq: u64, delta: Delta<OrganizationRecord>) -> Result<bool, StoreError> {
        let mut state = self.lock();
        match &mut *state {
            State::Loading(waiting) => waiting.push((seq, delta)),
            State::Unknown => return Ok(false),
            State::Ready { seq: applied, .. } if seq <= *applied => {}
            State::Ready { seq: applied, shard } => {
                if matches!(delta, Delta::Reset(_)) {
                    return Ok(false);
                }
                *shard = Arc::new(shard.advance(catalog, &delta)?.value);
                *applied = seq;
            }
        }
        Ok(true)
    }
}
