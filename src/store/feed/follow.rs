//! One stream: what its sidecar asked for, in the order in which it happened.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::{Status, Streaming};

use super::access::Subscriber;
use super::digests::Digests;
use super::position::Position;
use super::tail::{self, Entry, Guest, Progress};
use crate::domain::OrganizationId;
use crate::store::log::Head;
use crate::store::{Store, StoreError};
use crate::wire::Revocation;
use crate::wire::feed::{Down, Filter, Frame, Packed, ResyncReason, Up};

/// Transactions that are looked at for one frame.
const MOST_IN_A_FRAME: usize = 500;
/// No further transaction is looked at for a frame of so many bytes.
const MOST_BYTES_IN_A_FRAME: usize = 4 * 1024 * 1024;
/// A frame without content is sent so long after the last one at the latest.
const QUIET: Duration = Duration::from_millis(100);
/// Time that a sidecar has for its first message.
const GREETING: Duration = Duration::from_secs(10);
/// Organizations that one stream may name.
const MOST_ORGANIZATIONS: usize = 200_000;
/// Nonces that may wait for their echo; a sidecar sends about one a second.
const MOST_NONCES: usize = 64;

/// Serves one stream.
pub(super) struct Follower {
    store: Store,
    subscriber: Subscriber,
    messages: Streaming<Up>,
    progress: watch::Receiver<Progress>,
    /// For what waits for a look; nobody else listens.
    looks: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    _guest: Guest,
    /// `None` before the first message.
    standing: Option<Standing>,
    /// Made and not sent yet.
    outbox: VecDeque<Down>,
    /// Each with the look that has to end first.
    nonces: VecDeque<(u64, u64)>,
    ended: bool,
}

/// Where a stream stands.
struct Standing {
    /// What the last frame ended with.
    sent: Position,
    /// What was looked at after that; nothing of it concerns the sidecar.
    seen: Position,
    filter: Wanted,
    /// Uptime of the last frame.
    last_frame: Duration,
    digests: Digests,
}

/// What a stream waited for.
enum Due {
    Heard(Up),
    Look,
    Flush,
    Digests(Vec<Down>),
    End,
}

pub(super) enum Wanted {
    All,
    Only(HashSet<OrganizationId>),
}

impl Follower {
    pub(super) fn new(store: Store, subscriber: Subscriber, messages: Streaming<Up>) -> Self {
        let guest = store.0.tail.enter();
        let progress = store.0.tail.progress();
        let looks = store.0.tail.looks();
        let stopping = store.0.stopping.subscribe();
        Self {
            store,
            subscriber,
            messages,
            progress,
            looks,
            stopping,
            _guest: guest,
            standing: None,
            outbox: VecDeque::new(),
            nonces: VecDeque::new(),
            ended: false,
        }
    }

    /// The next message for the sidecar; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Result<Down, Status>> {
        loop {
            if let Some(down) = self.outbox.pop_front() {
                self.ended |= matches!(down, Down::Resync { .. });
                return Some(Ok(down));
            }
            if self.ended {
                return None;
            }
            match self.step().await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(status) => {
                    self.ended = true;
                    return Some(Err(status));
                }
            }
        }
    }

    /// Does whatever is next; `false` when the stream is over.
    async fn step(&mut self) -> Result<bool, Status> {
        if self.standing.is_none() {
            return self.greet().await;
        }
        self.catch_up().await.map_err(|error| unavailable(&error))?;
        if !self.outbox.is_empty() {
            return Ok(true);
        }
        let Some(standing) = &mut self.standing else { return Ok(false) };
        let quiet = (standing.last_frame + QUIET).saturating_sub(self.store.0.clock.uptime());
        let is_ahead = standing.seen.seq > standing.sent.seq;
        let awaited = self.nonces.front().map(|(_, look)| *look);
        let due = tokio::select! {
            message = self.messages.next() => match message {
                Some(Ok(up)) => Due::Heard(up),
                Some(Err(_)) | None => Due::End,
            },
            _ = self.looks.wait_for(|look| awaited.is_some_and(|awaited| *look >= awaited)), if awaited.is_some() => Due::Look,
            changed = self.progress.changed() => if changed.is_ok() { Due::Look } else { Due::End },
            () = sleep(quiet), if is_ahead => Due::Flush,
            digests = standing.digests.made(&standing.filter, &self.subscriber) => Due::Digests(digests),
            _ = self.stopping.wait_for(|stop| *stop) => Due::End,
        };
        match due {
            Due::Heard(up) => self.hear(up)?,
            Due::Look => {}
            Due::Flush => self.flush(),
            Due::Digests(digests) => self.outbox.extend(digests),
            Due::End => return Ok(false),
        }
        Ok(true)
    }

    /// Waits for the first message, and finds out whether the sidecar can go on from where it stands.
    async fn greet(&mut self) -> Result<bool, Status> {
        let first = timeout(GREETING, self.messages.next()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("the first message did not come in time"))?;
        let (epoch, seq, chain, organizations) = match first {
            Some(Ok(Up::Resume { epoch, seq, chain, organizations })) => (epoch, seq, chain, organizations),
            Some(Ok(_)) => return Err(Status::failed_precondition("the first message has to be `resume`")),
            Some(Err(status)) => return Err(status),
            None => return Ok(false),
        };
        let at = Position { epoch, seq, chain };
        let head = self.fresh_head().await?;
        let mut reason = at.is_cut_off(&head);
        if reason.is_none() && at.seq < head.seq && at.seq >= head.oldest {
            let found = tail::chain_at(&self.store.0.database, at.seq).await.map_err(|error| unavailable(&error))?;
            reason = (found.as_ref() != Some(&at.chain)).then_some(ResyncReason::Chain);
        }
        if let Some(reason) = reason {
            self.resync(reason, &at);
            return Ok(true);
        }
        let only = self.subscriber.organizations().map(|only| only.iter().cloned().collect());
        self.outbox.push_back(Down::Resumed { head: head.seq, only });
        let filter = match organizations {
            Filter::All => Wanted::All,
            Filter::Only(organizations) => {
                let mut wanted = HashSet::new();
                want(&mut wanted, organizations, &self.subscriber)?;
                Wanted::Only(wanted)
            }
        };
        let now = self.store.0.clock.uptime();
        let digests = Digests::new(self.store.clone());
        self.standing = Some(Standing { sent: at.clone(), seen: at, filter, last_frame: now, digests });
        Ok(true)
    }

    /// The end of the log, read after now.
    async fn fresh_head(&mut self) -> Result<Head, Status> {
        let look = self.store.0.tail.next_look();
        let found = timeout(GREETING, self.looks.wait_for(|done| *done >= look)).await;
        let head = found.is_ok().then(|| self.progress.borrow().head.clone()).flatten();
        head.ok_or_else(|| Status::unavailable("the log cannot be read"))
    }

    fn resync(&mut self, reason: ResyncReason, at: &Position) {
        let key = &*self.subscriber.name;
        match reason {
            ResyncReason::Ahead => tracing::warn!(
                key,
                seq = at.seq,
                "a sidecar knows more than this store: was the database restored? Then run `portcullis store new-epoch`"
            ),
            ResyncReason::Chain => {
                tracing::warn!(key, seq = at.seq, "a sidecar knows another history than this store");
            }
            ResyncReason::Epoch | ResyncReason::TooOld => tracing::info!(key, ?reason, "a sidecar starts over"),
        }
        self.outbox.push_back(Down::Resync { reason });
    }

    /// Makes what has become due since the last look.
    async fn catch_up(&mut self) -> Result<(), StoreError> {
        let Progress { look, head } = self.progress.borrow_and_update().clone();
        let (Some(head), Some(standing)) = (head, &mut self.standing) else { return Ok(()) };
        if let Some(reason) = standing.seen.is_cut_off(&head) {
            let at = standing.seen.clone();
            self.resync(reason, &at);
            return Ok(());
        }
        let entries = match standing.seen.seq < head.seq {
            true => entries_after(&self.store, &standing.seen, &head).await?,
            false => Ok(Vec::new()),
        };
        let entries = match entries {
            Ok(entries) => entries,
            Err(reason) => {
                let at = standing.seen.clone();
                self.resync(reason, &at);
                return Ok(());
            }
        };
        if let Some(frame) = standing.look_at(&entries, &self.subscriber, head.seq, self.store.0.clock.uptime()) {
            self.outbox.push_back(Down::Frame(frame));
        }
        if standing.seen.seq < head.seq {
            // There is more: at once after this.
            self.progress.mark_changed();
            return Ok(());
        }
        if self.nonces.front().is_some_and(|(_, awaited)| *awaited <= look) {
            self.flush();
        }
        while let Some((nonce, _)) = self.nonces.pop_front_if(|(_, awaited)| *awaited <= look) {
            self.outbox.push_back(Down::Echo { nonce, head: head.seq });
        }
        Ok(())
    }

    /// Sends what was looked at, although it does not concern the sidecar.
    fn flush(&mut self) {
        let Some(standing) = &mut self.standing else { return };
        if standing.seen.seq > standing.sent.seq {
            let frame = standing.frame(Vec::new(), Vec::new(), standing.seen.seq, self.store.0.clock.uptime());
            self.outbox.push_back(Down::Frame(frame));
        }
    }

    fn hear(&mut self, up: Up) -> Result<(), Status> {
        match up {
            Up::Resume { .. } => return Err(Status::failed_precondition("`resume` can be the first message only")),
            Up::Nonce(nonce) => {
                if self.nonces.len() >= MOST_NONCES {
                    return Err(Status::resource_exhausted("too many nonces wait for their echo"));
                }
                self.nonces.push_back((nonce, self.store.0.tail.next_look()));
            }
            Up::Subscribe { number, add, remove } => {
                self.flush();
                let Some(standing) = &mut self.standing else { return Ok(()) };
                if let Wanted::Only(organizations) = &mut standing.filter {
                    want(organizations, add, &self.subscriber)?;
                    remove.iter().for_each(|organization| _ = organizations.remove(organization));
                }
                self.outbox.push_back(Down::Subscribed { number, at: standing.seen.seq });
            }
        }
        Ok(())
    }
}

impl Standing {
    /// Looks at transactions; a frame when some of them concern the sidecar.
    fn look_at(&mut self, entries: &[Arc<Entry>], subscriber: &Subscriber, head: u64, now: Duration) -> Option<Frame> {
        let mut transactions = Vec::new();
        let mut revocations = Vec::new();
        let (mut last, mut bytes) = (None, 0);
        for entry in entries {
            if bytes > MOST_BYTES_IN_A_FRAME {
                break;
            }
            bytes += entry.bytes();
            last = Some(entry);
            let concerns = |organization: &Option<OrganizationId>| match organization {
                None => true,
                Some(id) => self.filter.has(id) && subscriber.may_read(id),
            };
            let parts: Vec<_> =
                entry.parts.iter().filter(|(id, _)| concerns(id)).map(|(_, part)| part.clone()).collect();
            if !parts.is_empty() {
                transactions.push(Packed { seq: entry.seq, parts });
            }
            revocations.extend(entry.revocations.iter().cloned());
        }
        let last = last?;
        self.seen = Position { epoch: self.seen.epoch, seq: last.seq, chain: last.chain.clone() };
        (!transactions.is_empty() || !revocations.is_empty()).then(|| self.frame(transactions, revocations, head, now))
    }

    /// The frame from what was sent to what was looked at.
    fn frame(&mut self, transactions: Vec<Packed>, revocations: Vec<Revocation>, head: u64, now: Duration) -> Frame {
        let before = std::mem::replace(&mut self.sent, self.seen.clone());
        self.last_frame = now;
        Frame {
            epoch: self.sent.epoch,
            from: before.seq,
            to: self.sent.seq,
            head: head.max(self.sent.seq),
            chain: self.sent.chain.clone(),
            transactions,
            revocations,
        }
    }
}

impl Wanted {
    fn has(&self, organization: &OrganizationId) -> bool {
        match self {
            Self::All => true,
            Self::Only(organizations) => organizations.contains(organization),
        }
    }
}

/// Adds those of `more` that the key may read; of the others there is nothing to be heard.
fn want(
    organizations: &mut HashSet<OrganizationId>,
    more: Vec<OrganizationId>,
    subscriber: &Subscriber,
) -> Result<(), Status> {
    organizations.extend(more.into_iter().filter(|id| subscriber.may_read(id)));
    match organizations.len() > MOST_ORGANIZATIONS {
        true => Err(Status::resource_exhausted("too many organizations for one stream: follow all of them instead")),
        false => Ok(()),
    }
}

/// The transactions after `at`: from memory, or from the database for whoever is far behind.
async fn entries_after(
    store: &Store,
    at: &Position,
    head: &Head,
) -> Result<Result<Vec<Arc<Entry>>, ResyncReason>, StoreError> {
    match store.0.tail.after(at, head.seq, MOST_IN_A_FRAME) {
        Some(entries) => Ok(entries),
        None => tail::read_after(&store.0.database, at, head).await,
    }
}

fn unavailable(error: &StoreError) -> Status {
    tracing::warn!(%error, "a stream ends");
    Status::unavailable("the database cannot be read")
}
