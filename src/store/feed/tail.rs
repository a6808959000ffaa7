//! The end of the log, followed by one task for each process. What is written here is seen at once, what other processes on the same
//! database write within [`INTERVAL`]. The newest transactions stay in memory for all streams together.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use sqlx::{AnyConnection, Row};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::position::Position;
use crate::domain::OrganizationId;
use crate::store::database::Database;
use crate::store::error::StoreError;
use crate::store::log::{self, Head, LogRow, Lookout};
use crate::store::revocations;
use crate::wire::Revocation;
use crate::wire::feed::{Label, ResyncReason};

/// Time between two looks at the log while nothing is written here.
const INTERVAL: Duration = Duration::from_millis(25);
/// Time between two looks at least, however much is written.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(2);
/// Time after a look that failed.
const AFTER_FAILURE: Duration = Duration::from_millis(200);
/// The longest that a look takes.
const PATIENCE: Duration = Duration::from_secs(5);
/// Transactions that are kept in memory.
const MOST_KEPT: usize = 20_000;
/// Bytes of them.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// A part of a transaction that has more bytes than this (about 1,000 rows) is not handed on; whoever wants it reads it anew.
const LARGEST_PART: usize = 128 * 1024;
/// Of a transaction that has more bytes than this only small parts are handed on, so that it fits into a message.
const LARGEST_TRANSACTION: usize = 4 * 1024 * 1024;
/// How small they have to be.
const LARGEST_PART_OF_MANY: usize = 512;

/// The end of the log, as followed.
pub(in crate::store) struct Tail {
    kept: Mutex<Kept>,
    /// Says so when the end has moved.
    progress: watch::Sender<Progress>,
    /// The last look that found the end, wherever it was.
    looks: watch::Sender<u64>,
    /// How many looks have begun.
    begun: AtomicU64,
    wake: Notify,
    streams: AtomicUsize,
}

/// What the last look found.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Which look it was.
    pub(super) look: u64,
    /// The end of the log then; `None` before the first look.
    pub(super) head: Option<Head>,
}

#[derive(Default)]
struct Kept {
    /// Numbered without gaps.
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
}

/// One transaction.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) seq: u64,
    /// What the log amounts to before it.
    before: String,
    /// What the log amounts to after it.
    pub(super) chain: String,
    /// Its parts as JSON; without an organization: of the catalog.
    pub(super) parts: Vec<(Option<OrganizationId>, Box<RawValue>)>,
    pub(super) revocations: Vec<Revocation>,
    bytes: usize,
}

/// A stream that is being served; counted while it exists.
pub(super) struct Guest(Arc<Tail>);

impl Default for Tail {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            progress: watch::Sender::new(Progress::default()),
            looks: watch::Sender::new(0),
            begun: AtomicU64::new(0),
            wake: Notify::new(),
            streams: AtomicUsize::new(0),
        }
    }
}

impl Tail {
    /// Says that something was committed here.
    pub(in crate::store) fn committed(&self) {
        self.wake.notify_one();
    }

    /// How many streams are being served.
    pub(in crate::store) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Follows the log for as long as it is polled; rests while there are no streams.
    pub(in crate::store) async fn run(&self, database: &Database) {
        let (mut failing, mut lookout) = (false, Lookout::default());
        loop {
            if self.streams() == 0 {
                self.wake.notified().await;
                continue;
            }
            let look = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let found = match timeout(PATIENCE, self.look(database, &mut lookout)).await {
                Ok(found) => found,
                Err(_) => Err(StoreError::TimedOut),
            };
            match found {
                Ok(head) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("the log can be read again");
                    }
                    // Thousands of streams listen; nearly all of them have nothing to do when nothing has happened.
                    self.progress.send_if_modified(|progress| {
                        let has_moved = progress.head != head;
                        *progress = Progress { look, head };
                        has_moved
                    });
                    self.looks.send_replace(look);
                    // An error means that nobody wrote here meanwhile.
                    let _ = timeout(INTERVAL, self.wake.notified()).await;
                    sleep(SHORTEST_INTERVAL).await;
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%error, "the log cannot be read: sidecars' facts grow older");
                    }
                    sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    /// Reads what is new.
    async fn look(&self, database: &Database, lookout: &mut Lookout) -> Result<Option<Head>, StoreError> {
        let (Some(head), mut connection) = lookout.head(database).await? else { return Ok(None) };
        let before = self.progress.borrow().head.clone();
        let known = before.filter(|before| before.may_lead_to(&head) && head.seq - before.seq <= MOST_KEPT as u64);
        let Some(mut at) = known else {
            // Another history, or a long rest: whoever stands further back reads from the database.
            *self.kept() = Kept::default();
            lookout.keep(connection);
            return Ok(Some(head));
        };
        while at.seq < head.seq {
            let Ok(entries) = read(&mut connection, &mut at, head.seq).await? else {
                // Forgotten meanwhile, or another history: those who follow it find out by themselves.
                *self.kept() = Kept::default();
                break;
            };
            self.kept().extend(entries);
        }
        lookout.keep(connection);
        Ok(Some(head))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Up to `most` transactions right after `at`, none of them after `upto`: what is kept may be ahead of what was said to be the end.
    /// `None` when they are not in memory.
    ///
    /// # Errors
    /// They come after another history than the one that led to `at`.
    pub(super) fn after(&self, at: &Position, upto: u64, most: usize) -> Option<Result<Vec<Arc<Entry>>, ResyncReason>> {
        let kept = self.kept();
        let first = kept.entries.front()?.seq;
        let place = usize::try_from((at.seq + 1).checked_sub(first)?).ok()?;
        let upto = |entry: &&Arc<Entry>| entry.seq <= upto;
        let mut entries = kept.entries.iter().skip(place).take(most).take_while(upto).cloned().peekable();
        if entries.peek()?.before != at.chain {
            return Some(Err(ResyncReason::Chain));
        }
        Some(Ok(entries.collect()))
    }

    /// Hears of it when the end of the log moves.
    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Hears of every look that found the end.
    pub(super) fn looks(&self) -> watch::Receiver<u64> {
        self.looks.subscribe()
    }

    /// The first look that begins after now.
    pub(super) fn next_look(&self) -> u64 {
        self.begun.load(Ordering::SeqCst) + 1
    }

    /// Begins to serve a stream.
    pub(super) fn enter(self: &Arc<Self>) -> Guest {
        self.streams.fetch_add(1, Ordering::SeqCst);
        self.wake.notify_one();
        Guest(Arc::clone(self))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Kept {
    fn extend(&mut self, entries: Vec<Arc<Entry>>) {
        for entry in entries {
            if self.entries.back().is_some_and(|last| last.chain != entry.before) {
                *self = Self::default();
            }
            self.bytes += entry.bytes;
            self.entries.push_back(entry);
        }
        while self.entries.len() > MOST_KEPT || self.bytes > MOST_BYTES {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.bytes;
        }
    }
}

impl Entry {
    /// The transaction of a row that came after `before`; takes its revocations out of `revoked`, which are sorted by number.
    fn of(row: LogRow, before: String, revoked: &mut VecDeque<(u64, Revocation)>) -> Result<Self, StoreError> {
        let raw: Vec<Box<RawValue>> = serde_json::from_str(&row.parts)?;
        let largest = if row.parts.len() > LARGEST_TRANSACTION { LARGEST_PART_OF_MANY } else { LARGEST_PART };
        let mut parts = Vec::with_capacity(raw.len());
        for part in raw {
            let organization = match serde_json::from_str(part.get())? {
                Label::Catalog(_) => None,
                Label::Organization { id, .. } => Some(id),
            };
            let part = match &organization {
                Some(id) if part.get().len() > largest => read_anew(id)?,
                _ => part,
            };
            parts.push((organization, part));
        }
        let mut revocations = Vec::new();
        while revoked.front().is_some_and(|(seq, _)| *seq <= row.seq) {
            revocations.extend(revoked.pop_front().map(|(_, revocation)| revocation));
        }
        let bytes = 300 + parts.iter().map(|(_, part)| part.get().len() + 64).sum::<usize>() + revocations.len() * 100;
        Ok(Self { seq: row.seq, before, chain: row.chain, parts, revocations, bytes })
    }

    /// Bytes that it takes, here and roughly in a frame.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A page of the transactions from `at` to `upto`; moves `at` on.
///
/// # Errors
/// [`StoreError`]; inside of it, why whoever stands at `at` cannot go on.
async fn read(
    connection: &mut AnyConnection,
    at: &mut Head,
    upto: u64,
) -> Result<Result<Vec<Arc<Entry>>, ResyncReason>, StoreError> {
    let rows = log::after(connection, at.seq, upto).await?;
    let Some(last) = rows.last().map(|row| row.seq) else { return Ok(Err(ResyncReason::TooOld)) };
    let mut revoked = revocations::between(connection, at.seq, last).await?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        let before = at.clone();
        if !at.moves_on_to(&row) {
            let is_next = row.seq == before.seq + 1;
            return Ok(Err(if is_next { ResyncReason::Chain } else { ResyncReason::TooOld }));
        }
        entries.push(Arc::new(Entry::of(row, before.chain, &mut revoked)?));
    }
    Ok(Ok(entries))
}

/// A part that says no more than that the organization has to be read anew: an empty reset.
fn read_anew(organization: &OrganizationId) -> Result<Box<RawValue>, StoreError> {
    let part = serde_json::json!({"organization": {"id": organization, "delta": {"reset": {}}}});
    Ok(serde_json::value::to_raw_value(&part)?)
}

/// The transactions from `at` to `head` from the database, a page of them.
///
/// # Errors
/// [`StoreError`]; inside of it, why whoever stands at `at` cannot go on.
pub(super) async fn read_after(
    database: &Database,
    at: &Position,
    head: &Head,
) -> Result<Result<Vec<Arc<Entry>>, ResyncReason>, StoreError> {
    let mut connection = database.read().await?;
    let mut here = Head { epoch: at.epoch, seq: at.seq, chain: at.chain.clone(), oldest: head.oldest };
    read(&mut connection, &mut here, head.seq).await
}

/// What the log amounts to after `seq`; `None` when that row is not there.
pub(super) async fn chain_at(database: &Database, seq: u64) -> Result<Option<String>, StoreError> {
    let mut connection = database.read().await?;
    let statement = sqlx::query("SELECT chain FROM changes WHERE seq = $1");
    let row = statement.bind(i64::try_from(seq).unwrap_or(i64::MAX)).fetch_optional(&mut *connection).await?;
    Ok(row.map(|row| row.try_get("chain")).transpose()?)
}
