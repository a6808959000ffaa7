//! Following the feed of the bundled store.
//!
//! ```text
//! restore:     disk -> World::restore
//! start over:  catalog, revocations -> World::start_over
//! session:     resume where we stand -> frames -> World::apply -> …
//!                                    -> echoes -> World::prove
//!                                    -> orders -> subscribe + read -> World::settle
//! ```
//!
//! What has to be exactly so: a frame that begins after where we stand is a gap, and a gap is never jumped. An organization is let in
//! only once everything up to the moment it was read at has been applied, and what happened since then is applied to it first. Freshness
//! is proven by the echo of a nonce, as of the moment the nonce was sent.

mod loads;
mod saving;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use rand::Rng;
use tokio::sync::{mpsc, watch};
use tokio::time::{interval, sleep, timeout};
use tonic::Streaming;

use self::loads::Loads;
use self::saving::Saving;
use super::{describe, persist};
use crate::domain::{Clock, Epoch, OrganizationId, Revision};
use crate::live::{InstallError, Orders, World};
use crate::source::{FeedClient, FeedError};
use crate::telemetry::{FactsUpdate, Interruption, Metrics, UpdateResult};
use crate::wire::feed::{Down, Filter, Frame, ResyncReason, Up};

/// Time between two nonces.
const NONCE_INTERVAL: Duration = Duration::from_secs(1);
/// A stream that neither proved anything nor moved on for so long is given up.
const SILENCE: Duration = Duration::from_secs(5);
/// The longest wait after errors; after the nth in a row it is random, up to a second times 2^n and never beyond this.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Messages to the store that may wait to be sent.
const MOST_MESSAGES: usize = 1024;

/// What the follower works with.
pub struct Feed {
    /// What is kept fresh.
    pub world: Arc<World>,
    /// The store.
    pub client: FeedClient,
    /// What age is counted by.
    pub clock: Arc<dyn Clock>,
    /// Where updates are counted.
    pub metrics: Arc<Metrics>,
    /// Whether every organization is to be in memory, or those that are asked for.
    pub everything: bool,
    /// Where the last good facts survive a restart.
    pub persist: Option<persist::Settings>,
}

/// Where we stand in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) epoch: Epoch,
    pub(super) seq: u64,
    pub(super) chain: String,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Feed(#[from] Box<FeedError>),
    #[error("facts are refused")]
    Install(#[from] Box<InstallError>),
    #[error("the stream proved nothing and brought nothing for {SILENCE:?}")]
    Silence,
    #[error("the stream ended")]
    End,
    #[error("the store says that it knows less than we do: it went back in time")]
    Rollback,
    #[error("the feed went from transaction {to} on, where {at} was next")]
    Gap { at: u64, to: u64 },
    #[error("the feed has to be begun anew: {0:?}")]
    Resync(ResyncReason),
    #[error("the stream begins with something else than `resumed`")]
    Order,
    #[error("a panic, which is a fault of ours")]
    Panic,
}

impl SessionError {
    fn interruption(&self) -> Interruption {
        match self {
            Self::Feed(error) if error.is_unauthorized() => Interruption::Unauthorized,
            Self::Feed(error) if error.is_too_large() => Interruption::Refused,
            Self::Feed(_) | Self::End => Interruption::Unreachable,
            Self::Install(error) if matches!(**error, InstallError::Rollback { .. }) => Interruption::Rollback,
            Self::Install(_) | Self::Order => Interruption::Refused,
            Self::Silence => Interruption::Silent,
            Self::Rollback => Interruption::Rollback,
            Self::Gap { .. } => Interruption::Gap,
            Self::Resync(_) => Interruption::OtherHistory,
            Self::Panic => Interruption::Panic,
        }
    }
}

/// One task's state between sessions.
struct Follower {
    feed: Feed,
    position: Option<Position>,
    loads: Loads,
    saving: Option<Saving>,
    /// Whether every organization has yet to be listed.
    unlisted: bool,
    /// Turns true with the first proof of a session.
    proven: bool,
}

/// One stream's state.
struct Session {
    frames: Streaming<Down>,
    messages: mpsc::Sender<Up>,
    nonces: Nonces,
    /// The last transaction that a nonce was sent for.
    asked_up_to: Option<u64>,
}

/// Nonces that were sent, each with the uptime then.
#[derive(Default)]
struct Nonces {
    next: u64,
    sent: std::collections::VecDeque<(u64, Duration)>,
}

impl Feed {
    /// Follows until `shutdown` says `true` or is dropped. `released` says which organizations left the memory.
    pub async fn run(
        self,
        orders: Orders,
        released: mpsc::UnboundedReceiver<OrganizationId>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let loads =
            Loads::new(Arc::clone(&self.world), self.client.clone(), Arc::clone(&self.metrics), self.everything);
        let mut follower = Follower { feed: self, position: None, loads, saving: None, unlisted: false, proven: false };
        let stopped = async { _ = shutdown.wait_for(|stop| *stop).await };
        tokio::select! {
            () = follower.follow(orders, released) => {}
            () = stopped => {}
        }
        if let Some(saving) = follower.saving.take() {
            saving.end(follower.position.as_ref()).await;
        }
    }
}

impl Follower {
    /// One session after the other, forever.
    async fn follow(&mut self, mut orders: Orders, mut released: mpsc::UnboundedReceiver<OrganizationId>) {
        let mut failures: u32 = 0;
        let mut last_error = None;
        if AssertUnwindSafe(self.restore()).catch_unwind().await.is_err() {
            tracing::error!("a panic, which is a fault of ours: facts on disk are left alone");
        }
        loop {
            self.proven = false;
            // The follower outlives its faults: nobody else could take its place, which has the orders.
            let session = AssertUnwindSafe(self.session(&mut orders, &mut released)).catch_unwind();
            let Err(error) = session.await.unwrap_or(Err(SessionError::Panic));
            if self.proven {
                failures = 0;
                last_error = None;
            }
            let restart = match &error {
                // After a panic it is not known what came into force.
                SessionError::Gap { .. } | SessionError::Resync(_) | SessionError::Panic => true,
                // What cannot be taken in from here on would only come again.
                SessionError::Install(error) => !matches!(**error, InstallError::Rollback { .. }),
                SessionError::Feed(error) => error.is_too_large(),
                // Facts never move backwards: the last good ones stay, and grow older, until a new epoch begins.
                SessionError::Rollback | SessionError::Silence | SessionError::End | SessionError::Order => false,
            };
            if restart {
                self.position = None;
            }
            self.feed.metrics.facts_interrupted(error.interruption());
            let text = describe(&error);
            if last_error.as_ref() != Some(&text) {
                tracing::error!(error = text, "the feed is interrupted; facts in force stay and grow older");
                last_error = Some(text);
            }
            failures += 1;
            // Full jitter: sidecars that lost their store together do not come back together.
            let most = Duration::from_millis(500).saturating_mul(1 << failures.min(16)).min(LONGEST_WAIT);
            let wait =
                if restart && failures == 1 { Duration::ZERO } else { rand::rng().random_range(Duration::ZERO..=most) };
            sleep(wait).await;
        }
    }

    /// Goes on from what is on disk, if there is something good.
    async fn restore(&mut self) {
        let Some(settings) = self.feed.persist.clone() else { return };
        let (world, clock) = (Arc::clone(&self.feed.world), Arc::clone(&self.feed.clock));
        self.saving = Saving::begin(settings, world, clock, Arc::clone(&self.feed.metrics)).await;
        let Some(saving) = &mut self.saving else { return };
        if let Some((position, organizations)) = saving.restore().await {
            self.loads.restored(&position, organizations);
            self.position = Some(position);
            self.unlisted = self.feed.everything;
        }
    }

    /// From the first message to whatever ends it.
    async fn session(
        &mut self,
        orders: &mut Orders,
        released: &mut mpsc::UnboundedReceiver<OrganizationId>,
    ) -> Result<std::convert::Infallible, SessionError> {
        let position = match self.position.clone() {
            Some(position) => position,
            None => self.start_over().await?,
        };
        let (messages, sent) = mpsc::channel(MOST_MESSAGES);
        let organizations = if self.feed.everything { Filter::All } else { Filter::Only(self.loads.wanted()) };
        let Position { epoch, seq, chain } = position;
        let resume = Up::Resume { epoch, seq, chain, organizations };
        messages.send(resume).await.map_err(|_| SessionError::End)?;
        let mut frames = self.feed.client.follow(sent).await.map_err(Box::new)?;
        match timeout(SILENCE, frames.next()).await.map_err(|_| SessionError::Silence)? {
            Some(Ok(Down::Resumed { head, only })) => {
                tracing::info!(seq, head, "following the store");
                if let Some(only) = only {
                    self.loads.confine(only);
                }
            }
            Some(Ok(Down::Resync { reason: ResyncReason::Ahead })) => {
                self.feed.metrics.facts_rollbacks.inc();
                return Err(SessionError::Rollback);
            }
            Some(Ok(Down::Resync { reason })) => return Err(SessionError::Resync(reason)),
            Some(Ok(_)) => return Err(SessionError::Order),
            Some(Err(status)) => return Err(Box::new(self.feed.client.ended(status)).into()),
            None => return Err(SessionError::End),
        }
        self.loads.resumed(seq);
        if std::mem::take(&mut self.unlisted) {
            self.loads.want_everything(Duration::ZERO);
        }
        let mut session = Session { frames, messages, nonces: Nonces::default(), asked_up_to: None };
        self.converse(&mut session, orders, released).await
    }

    /// Reads the catalog and the revocations, and lets go of every organization.
    async fn start_over(&mut self) -> Result<Position, SessionError> {
        let asked = self.feed.clock.uptime();
        let catalog = self.feed.client.catalog().await.map_err(Box::new)?;
        let revoked = self.feed.client.revocations().await.map_err(Box::new)?;
        let revision = Revision { epoch: catalog.epoch, seq: catalog.seq };
        let installed = self.feed.world.start_over(revision, &catalog.rows);
        self.count(FactsUpdate::Complete, installed.is_ok());
        if let Err(InstallError::Rollback { .. }) = &installed {
            self.feed.metrics.facts_rollbacks.inc();
        }
        installed.map_err(Box::new)?;
        self.feed.world.revocations().replace(revoked.revocations);
        tracing::info!(%revision, "facts are in force");
        let position = Position { epoch: catalog.epoch, seq: catalog.seq, chain: catalog.chain };
        self.loads.start_over(&position);
        // The catalog was the newest when it was read, and organizations are read from now on.
        self.feed.world.prove(asked);
        self.position = Some(position.clone());
        self.unlisted = self.feed.everything;
        Ok(position)
    }

    async fn converse(
        &mut self,
        session: &mut Session,
        orders: &mut Orders,
        released: &mut mpsc::UnboundedReceiver<OrganizationId>,
    ) -> Result<std::convert::Infallible, SessionError> {
        let mut nonces = interval(NONCE_INTERVAL);
        let mut last_heard = self.feed.clock.uptime();
        loop {
            tokio::select! {
                down = session.frames.next() => match down {
                    Some(Ok(down)) => {
                        let before = self.position.as_ref().map(|position| position.seq);
                        let is_proof = self.hear(session, down)?;
                        // Echoes come behind everything there is: until then, what moves on is no silence.
                        if is_proof || self.position.as_ref().map(|position| position.seq) > before {
                            last_heard = self.feed.clock.uptime();
                        }
                    },
                    Some(Err(status)) => return Err(Box::new(self.feed.client.ended(status)).into()),
                    None => return Err(SessionError::End),
                },
                order = orders.next(), if self.loads.has_room() => {
                    let Some(order) = order else { std::future::pending().await };
                    self.loads.begin(order);
                }
                Some(organization) = released.recv() => self.loads.released(&organization),
                progress = self.loads.progress() => progress?,
                _ = nonces.tick() => {
                    if self.feed.clock.uptime().saturating_sub(last_heard) > SILENCE {
                        return Err(SessionError::Silence);
                    }
                    session.ask(self.feed.clock.uptime()).await?;
                    if let (Some(saving), Some(position)) = (&mut self.saving, &self.position) {
                        saving.turn(position);
                    }
                }
            }
            let Some(position) = &self.position else { return Err(SessionError::End) };
            let waited_for = self.loads.settle(position.seq);
            if let Some(subscribe) = self.loads.subscription() {
                session.messages.send(subscribe).await.map_err(|_| SessionError::End)?;
            }
            if waited_for > session.asked_up_to {
                // The echo comes after everything that is being waited for.
                session.asked_up_to = waited_for;
                session.ask(self.feed.clock.uptime()).await?;
            }
        }
    }

    /// Takes in what the store says; whether it was a proof of freshness.
    fn hear(&mut self, session: &mut Session, down: Down) -> Result<bool, SessionError> {
        match down {
            Down::Frame(frame) => self.take_in(frame)?,
            Down::Subscribed { number, at } => self.loads.subscribed(number, at),
            Down::Echo { nonce, head } => return Ok(self.echoed(session, nonce, head)),
            Down::Digest { organization, seq, digest } => self.loads.compare(organization, seq, digest),
            Down::Resync { reason: ResyncReason::Ahead } => return Err(SessionError::Rollback),
            Down::Resync { reason } => return Err(SessionError::Resync(reason)),
            Down::Resumed { .. } => return Err(SessionError::Order),
        }
        Ok(false)
    }

    fn echoed(&mut self, session: &mut Session, nonce: u64, head: u64) -> bool {
        let Some(asked) = session.nonces.echoed(nonce) else { return false };
        if self.position.as_ref().is_none_or(|position| position.seq < head) {
            return false;
        }
        self.proven = true;
        self.feed.world.prove(asked);
        true
    }

    /// Applies a frame: what is known already is passed over, and what would leave a gap is refused.
    fn take_in(&mut self, frame: Frame) -> Result<(), SessionError> {
        let Some(position) = &mut self.position else { return Err(SessionError::End) };
        if frame.epoch != position.epoch {
            return Err(SessionError::Resync(ResyncReason::Epoch));
        }
        if frame.to <= position.seq {
            return Ok(());
        }
        if frame.from > position.seq {
            return Err(SessionError::Gap { at: position.seq + 1, to: frame.from + 1 });
        }
        // Before what happened with them: nobody is let in by what is new who was shut out with it.
        self.feed.world.revocations().add(frame.revocations);
        for packed in frame.transactions.iter().filter(|packed| packed.seq > position.seq) {
            let transaction = packed.unpack().map_err(|_| SessionError::Resync(ResyncReason::TooOld))?;
            self.loads.happened(&transaction);
            let left_behind = self.feed.world.apply(frame.epoch, &transaction).map_err(Box::new)?;
            self.loads.left_behind(left_behind);
        }
        self.feed.world.pass(frame.epoch, frame.to).map_err(Box::new)?;
        *position = Position { epoch: frame.epoch, seq: frame.to, chain: frame.chain };
        self.count(FactsUpdate::Changes, true);
        Ok(())
    }

    fn count(&self, update: FactsUpdate, applied: bool) {
        self.feed.metrics.facts_updated(update, if applied { UpdateResult::Applied } else { UpdateResult::Refused });
    }
}

impl Session {
    /// Asks whether we know everything, as of `uptime`.
    async fn ask(&mut self, uptime: Duration) -> Result<(), SessionError> {
        // An echo that does not come is missed by its time; the queue stays short.
        if self.nonces.sent.len() >= 32 {
            return Ok(());
        }
        self.nonces.next += 1;
        self.nonces.sent.push_back((self.nonces.next, uptime));
        self.messages.send(Up::Nonce(self.nonces.next)).await.map_err(|_| SessionError::End)
    }
}

impl Nonces {
    /// When the nonce was sent; those before it are not awaited any more.
    fn echoed(&mut self, nonce: u64) -> Option<Duration> {
        while let Some((sent, at)) = self.sent.pop_front() {
            if sent == nonce {
                return Some(at);
            }
            if sent > nonce {
                self.sent.push_front((sent, at));
                return None;
            }
        }
        None
    }
}
