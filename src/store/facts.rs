//! The facts that checks are answered from: the same shards as in the sidecar, built from the database and advanced from its log.
//!
//! Every answer includes whatever was committed before its question, by this process or another on the same database: each question
//! waits for a look at the end of the log that began after it. Questions that come while one looks share the next look.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use sqlx::AnyConnection;
use tokio::sync::{Mutex as AsyncMutex, OnceCell};
use tokio::task::spawn_blocking;

use super::database::Database;
use super::error::StoreError;
use super::log::{self, Head, Lookout};
use super::rows;
use crate::domain::{
    BuildError, Catalog, Delta, Digest, Keep, MembershipId, OrganizationId, OrganizationRecord, Part, ResourceRef,
    Shard,
};

/// Memberships whose organization is remembered.
const MOST_HOMES: u64 = 100_000;

/// Changes of one organization that are kept while it is read; beyond that it is read again.
const MOST_WAITING: usize = 10_000;

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
    /// The end of what is applied; `None` before there is anything.
    at: Option<Head>,
}

/// One organization's place.
#[derive(Default)]
struct Slot {
    loaded: OnceCell<()>,
    state: Mutex<State>,
    /// What it amounted to after a transaction.
    digest: Mutex<Option<(u64, Digest)>>,
}

enum State {
    /// Not there yet; what was logged since it was asked for.
    Loading(Vec<(u64, Delta<OrganizationRecord>)>),
    /// As of the newest transaction that touched it.
    Ready {
        seq: u64,
        shard: Arc<Shard>,
        /// In KiB, when it was weighed last.
        weight: u32,
    },
    /// There is no such organization.
    Unknown,
}

/// What became of an organization with a transaction.
enum Advanced {
    Here,
    /// Much heavier than when it was weighed.
    Heavier,
    /// It has to be read again.
    Gone,
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
                State::Ready { shard, seq, .. } => (Arc::clone(shard), *seq),
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
        let applied = self.progress.lock().await.at.as_ref().map_or(0, |at| at.seq);
        let Some((view, changed)) = self.view_at(organization).await? else { return Ok((applied, None)) };
        let slot = self.organizations.get(organization).unwrap_or_default();
        let known = *slot.digest.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = match known.filter(|(seq, _)| *seq == changed) {
            Some((_, digest)) => digest,
            None => {
                let digest = spawn_blocking(move || view.shard.digest(&view.catalog)).await;
                let digest = digest.map_err(|error| StoreError::Internal(error.to_string().into()))?;
                *slot.digest.lock().unwrap_or_else(PoisonError::into_inner) = Some((changed, digest));
                digest
            }
        };
        // Unchanged since the transaction that touched it last, so also as of what was applied before.
        Ok((changed.max(applied), Some(digest)))
    }

    /// Whether the organization is in memory.
    pub(super) fn has(&self, organization: &OrganizationId) -> bool {
        self.organizations.get(organization).is_some_and(|slot| matches!(*slot.lock(), State::Ready { .. }))
    }

    /// How many organizations are in memory.
    pub(super) fn resident(&self) -> u64 {
        // Counts what came and went of late, which the cache does only now and then.
        self.organizations.run_pending_tasks();
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
        if !self.follow(&mut progress.at, &head, &mut connection).await? {
            // Another history, rows that were forgotten, or a catalog that cannot grow any more.
            progress.at = None;
            progress.at = Some(self.start_over().await?);
        }
        progress.served = upto;
        progress.lookout.keep(connection);
        Ok(())
    }

    /// Applies the rows from `at` to `head`; `false` when they do not lead there.
    async fn follow(
        &self,
        at: &mut Option<Head>,
        head: &Head,
        connection: &mut AnyConnection,
    ) -> Result<bool, StoreError> {
        let Some(at) = at.as_mut().filter(|at| at.may_lead_to(head)) else { return Ok(false) };
        while at.seq < head.seq {
            let rows = log::after(connection, at.seq, head.seq).await?;
            if rows.is_empty() {
                return Ok(false);
            }
            for row in rows {
                let parts = row.parts()?;
                if !at.moves_on_to(&row) || !self.apply(row.seq, parts) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Forgets everything and reads the catalog as it is now. The end of the log then.
    async fn start_over(&self) -> Result<Head, StoreError> {
        let mut snapshot = self.database.snapshot().await?;
        let head = log::head(&mut snapshot).await?.ok_or(StoreError::Busy)?;
        let rows = rows::catalog(&mut snapshot).await?;
        snapshot.rollback().await?;
        // One that grew out of the one before, if it can: whoever has a view goes on with it.
        let grown = self.catalog.load().advance(&Delta::Reset(Box::new(rows.clone())));
        let catalog = grown.or_else(|_| Catalog::build(&rows))?;
        self.catalog.store(Arc::new(catalog.value));
        self.organizations.invalidate_all();
        Ok(head)
    }

    /// Applies one transaction; `false` when everything has to be read again. What one organization cannot take in is its own affair: it is
    /// read again.
    fn apply(&self, seq: u64, parts: Vec<Part>) -> bool {
        for part in parts {
            match part {
                Part::Catalog(delta) => match self.catalog.load().advance(&delta) {
                    Ok(catalog) => self.catalog.store(Arc::new(catalog.value)),
                    Err(error) => {
                        tracing::warn!(seq, %error, "the catalog is read again");
                        return false;
                    }
                },
                Part::Organization { id, delta } => {
                    let Some(slot) = self.organizations.get(&id) else { continue };
                    match slot.advance(&self.catalog.load(), seq, delta) {
                        Ok(Advanced::Here) => {}
                        Ok(Advanced::Heavier) => self.weigh(&id, &slot),
                        Ok(Advanced::Gone) => self.organizations.invalidate(&id),
                        Err(error) => {
                            tracing::warn!(organization = %id, seq, %error, "the organization is read again");
                            self.organizations.invalidate(&id);
                        }
                    }
                }
            }
        }
        true
    }

    /// Reads the organization as of one moment, then applies what was logged after it.
    async fn load(&self, organization: &OrganizationId, slot: &Slot) -> Result<(), StoreError> {
        let mut snapshot = self.database.long_snapshot().await?;
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
        let weight = kibibytes(&shard);
        *state = State::Ready { seq: applied, shard: Arc::new(shard), weight };
        Ok(())
    }
}

impl Slot {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kibibytes(&self) -> u32 {
        match &*self.lock() {
            State::Ready { weight, .. } => *weight,
            State::Loading(_) | State::Unknown => 1,
        }
    }

    /// Applies one transaction's share.
    fn advance(&self, catalog: &Catalog, seq: u64, delta: Delta<OrganizationRecord>) -> Result<Advanced, BuildError> {
        let mut state = self.lock();
        match &mut *state {
            State::Loading(waiting) if waiting.len() >= MOST_WAITING => return Ok(Advanced::Gone),
            State::Loading(waiting) => waiting.push((seq, delta)),
            State::Unknown => return Ok(Advanced::Gone),
            State::Ready { seq: applied, .. } if seq <= *applied => {}
            State::Ready { .. } if matches!(delta, Delta::Reset(_)) => return Ok(Advanced::Gone),
            State::Ready { seq: applied, shard, weight } => {
                *shard = Arc::new(shard.advance(catalog, &delta)?.value);
                *applied = seq;
                let heavier = kibibytes(shard);
                if heavier > *weight + *weight / 8 {
                    *weight = heavier;
                    return Ok(Advanced::Heavier);
                }
            }
        }
        Ok(Advanced::Here)
    }
}

fn kibibytes(shard: &Shard) -> u32 {
    u32::try_from(shard.memory().total() / 1024).unwrap_or(u32::MAX).max(1)
}
