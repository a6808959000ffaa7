//! Exchanges that last (upgraded connections, server-sent events, long downloads and uploads, gRPC streams) and keep their permit only as
//! long as the same request would get one.
//!
//! All of them are looked at four times a second while there are any: after a change of rules, keys, facts or revocations each is decided
//! again, otherwise those whose token, facts or age have reached their end. What is refused now is cut, counted and logged. A look waits
//! for nothing: each decision is a task of its own, and one that takes its time delays nobody else's end.
//!
//! Where the server that facts come from has the last word (`verify: live`), a change lets it be asked again, for each stream at most once
//! in the shortest time that facts live, and for a few at a time: what it is asked here is taken from what it may be asked at all.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use parking_lot::Mutex;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::exchange::Exchange;
use super::{path_of, unix_millis};
use crate::domain::{Clock, Denial, DenyReason, UnixSeconds};
use crate::gate::{Changes, Gate, RequestView, Trace, Verdict};
use crate::telemetry::{Cut, DecisionLog, Entry, Metrics, Outcome};

/// The time between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
/// The longest that a decision may take; it may wait for an organization to be loaded.
const DEADLINE: Duration = Duration::from_secs(5);
/// For as many exchanges the server is asked at once.
const ASKED_AT_ONCE: usize = 4;

/// All exchanges that last.
pub struct Streams {
    gate: Arc<Gate>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    log: Arc<DecisionLog>,
    /// From one question to the server to the next about the same stream, at least.
    between_questions: Duration,
    questions: Semaphore,
    open: Mutex<Open>,
    /// Somebody has come.
    entered: Notify,
    /// For the tasks that decide.
    own: Weak<Self>,
}

#[derive(Default)]
struct Open {
    last: u64,
    streams: HashMap<u64, Stream>,
}

/// One that lasts.
struct Stream {
    exchange: Arc<Exchange>,
    cut: oneshot::Sender<()>,
    /// Uptime at which it was permitted.
    since: Duration,
    /// How many decisions were begun.
    begun: u64,
    /// The last of them that came to its end, and from when on that does not hold.
    holds: Option<(u64, Holds)>,
    /// What the server has to say to it.
    word: Word,
}

/// When the server was asked about a stream.
#[derive(Debug, Clone, Copy)]
struct Word {
    /// Uptime then.
    asked: Duration,
    /// Whether it was decided again since.
    is_wanted: bool,
    /// Whether it is being asked.
    is_awaited: bool,
}

/// What is to be decided.
struct Due {
    number: u64,
    exchange: Arc<Exchange>,
    /// The how many-th decision about it; `None` = the server's.
    turn: Option<u64>,
}

/// For how long a decision holds if nothing changes.
#[derive(Debug, Clone, Copy)]
struct Holds {
    /// The first second at which the token has ended.
    token: Option<UnixSeconds>,
    /// Uptime from which on the facts are too old.
    facts: Option<Duration>,
    /// What the rule says of the greatest age.
    max_age: Option<Duration>,
}

/// An exchange's place among those that last; given up when dropped.
pub(super) struct Place {
    streams: Arc<Streams>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.leave(self.number);
    }
}

impl Streams {
    /// None yet; they will be decided again by `gate`.
    ///
    /// The server that facts come from is asked about each at most once in `between_questions`, where it has the last word.
    pub fn new(
        gate: Arc<Gate>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        log: Arc<DecisionLog>,
        between_questions: Duration,
    ) -> Arc<Self> {
        let questions = Semaphore::new(ASKED_AT_ONCE);
        let (open, entered) = (Mutex::default(), Notify::new());
        Arc::new_cyclic(|own| Self {
            gate,
            clock,
            metrics,
            log,
            between_questions,
            questions,
            open,
            entered,
            own: Weak::clone(own),
        })
    }

    /// Watches `exchange` until the place is given up. The receiver hears when it is to end.
    pub(super) fn enter(self: &Arc<Self>, exchange: Arc<Exchange>) -> (Place, oneshot::Receiver<()>) {
        let (cut, is_cut) = oneshot::channel();
        let since = self.clock.uptime().saturating_sub(exchange.started.elapsed());
        let mut open = self.open.lock();
        open.last += 1;
        let number = open.last;
        let word = Word { asked: since, is_wanted: false, is_awaited: false };
        open.streams.insert(number, Stream { exchange, cut, since, begun: 0, holds: None, word });
        drop(open);
        self.metrics.streams.open.inc();
        self.entered.notify_one();
        (Place { streams: Arc::clone(self), number }, is_cut)
    }

    /// Takes a stream out; `None` when it is gone already.
    fn leave(&self, number: u64) -> Option<Stream> {
        let stream = self.open.lock().streams.remove(&number)?;
        self.metrics.streams.open.dec();
        Some(stream)
    }

    /// Looks at all of them, for ever.
    async fn watch(&self) {
        let mut changes = self.gate.changes();
        let mut decisions = JoinSet::new();
        loop {
            while self.open.lock().streams.is_empty() {
                self.entered.notified().await;
            }
            match catch_unwind(AssertUnwindSafe(|| self.look(&mut changes))) {
                Ok(due) => {
                    for due in due {
                        let Some(streams) = self.own.upgrade() else { return };
                        decisions.spawn(streams.decide(due));
                    }
                }
                Err(_) => {
                    // Nothing can be decided, so nothing can be permitted.
                    let all: Vec<u64> = self.open.lock().streams.keys().copied().collect();
                    for number in all {
                        self.cut(number, Cut::Refused(DenyReason::Internal), Some("a panic while deciding again"));
                    }
                }
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
            while decisions.try_join_next().is_some() {}
        }
    }

    /// Cuts those that are too old, and says what has to be decided again.
    fn look(&self, changes: &mut Changes) -> Vec<Due> {
        let changed = changes.any(&self.gate);
        let (now, uptime) = (self.clock.now(), self.clock.uptime());
        let (mut aged, mut due) = (Vec::new(), Vec::new());
        for (&number, stream) in &mut self.open.lock().streams {
            let max_age = stream.holds.map_or(stream.exchange.trace.max_stream_age(), |(_, holds)| holds.max_age);
            if max_age.is_some_and(|max_age| uptime.saturating_sub(stream.since) >= max_age) {
                aged.push(number);
                continue;
            }
            if changed || stream.holds.is_none_or(|(_, holds)| holds.is_over(now, uptime)) {
                stream.begun += 1;
                due.push(Due { number, exchange: Arc::clone(&stream.exchange), turn: Some(stream.begun) });
            }
            let word = &mut stream.word;
            let may_ask = uptime.saturating_sub(word.asked) >= self.between_questions;
            if word.is_wanted && !word.is_awaited && may_ask {
                *word = Word { asked: uptime, is_wanted: false, is_awaited: true };
                due.push(Due { number, exchange: Arc::clone(&stream.exchange), turn: None });
            }
        }
        for number in aged {
            self.cut(number, Cut::MaxAge, None);
        }
        due
    }

    /// Decides again, and cuts what is refused.
    async fn decide(self: Arc<Self>, Due { number, exchange, turn }: Due) {
        let decided = if turn.is_some() {
            let late = || Denial::because(DenyReason::FactsUnavailable, format!("not decided within {DEADLINE:?}"));
            timeout(DEADLINE, self.decide_again(&exchange, true)).await.unwrap_or_else(|_| Err(late()))
        } else {
            // Each question has an end of its own. The semaphore is never closed.
            let _turn = self.questions.acquire().await;
            self.decide_again(&exchange, false).await
        };
        match decided {
            Ok((holds, asks_server)) => {
                let mut open = self.open.lock();
                let Some(stream) = open.streams.get_mut(&number) else { return };
                match turn {
                    Some(turn) => {
                        stream.word.is_wanted |= asks_server;
                        if stream.holds.is_none_or(|(last, _)| last < turn) {
                            stream.holds = Some((turn, holds));
                        }
                    }
                    None => stream.word.is_awaited = false,
                }
            }
            Err(denial) => self.cut(number, Cut::Refused(denial.reason), denial.detail.as_deref()),
        }
    }

    /// What the same request would be told now, and whether the rule lets the server have the last word; it is not asked when `is_confirmed`.
    async fn decide_again(&self, exchange: &Exchange, is_confirmed: bool) -> Result<(Holds, bool), Denial> {
        let mut trace = Trace::new(false);
        let request = RequestView { is_confirmed, ..exchange.request() };
        let verdict = AssertUnwindSafe(self.gate.check(&request, &mut trace)).catch_unwind().await;
        match verdict {
            Ok(Verdict::Forward(_)) => {
                let holds = Holds {
                    token: trace.principal.as_ref().map(|principal| principal.ends()),
                    facts: trace.holds_until(),
                    max_age: trace.max_stream_age(),
                };
                Ok((holds, trace.asks_server))
            }
            Ok(Verdict::Refuse(denial)) => Err(denial),
            Ok(Verdict::ReadBody { .. }) => {
                let detail = "the rule in force now reads a body, and that of this request was not kept";
                Err(Denial::because(DenyReason::BadValue, detail))
            }
            Err(_) => Err(Denial::because(DenyReason::Internal, "a panic while deciding again")),
        }
    }

    /// Ends one, unless it has ended by itself.
    fn cut(&self, number: u64, why: Cut, detail: Option<&str>) {
        let Some(stream) = self.leave(number) else { return };
        let exchange = &*stream.exchange;
        if exchange.tell() {
            let (outcome, duration) = (Outcome::Cut(why), exchange.started.elapsed());
            self.metrics.streams.cut(why);
            exchange.trace.meter(|meter| meter.record(outcome, duration));
            self.log.record(outcome, true, || entry(exchange, outcome, detail, duration));
        }
        // Whoever waits for this may have ended meanwhile.
        let _ = stream.cut.send(());
    }
}

impl Holds {
    fn is_over(self, now: UnixSeconds, uptime: Duration) -> bool {
        self.token.is_some_and(|ends| now >= ends) || self.facts.is_some_and(|until| uptime > until)
    }
}

#[async_trait]
impl BackgroundService for Streams {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        tokio::select! {
            () = self.watch() => {}
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
    }
}

/// The decision line of an exchange that was cut.
fn entry<'a>(exchange: &'a Exchange, outcome: Outcome, detail: Option<&'a str>, duration: Duration) -> Entry<'a> {
    let (request, trace) = (exchange.request(), &exchange.trace);
    let principal = trace.principal.as_deref();
    let status = exchange.status();
    Entry {
        unix_millis: unix_millis(),
        request_id: exchange.request_id.to_str().unwrap_or_default(),
        client: exchange.client,
        route: trace.route_id(),
        outcome,
        detail,
        status,
        method: request.method.as_str(),
        host: Some(request.host),
        path: path_of(exchange.forwarded()),
        user: principal.map(|principal| principal.user.as_str()),
        organization: principal.and_then(|principal| principal.organization.as_ref()).map(AsRef::as_ref),
        membership: principal.and_then(|principal| principal.membership.as_ref()).map(AsRef::as_ref),
        resource: trace.resource.as_deref(),
        revision: trace.revision,
        facts_age: trace.facts_age,
        duration,
        upstream_status: (status != 0).then_some(status),
    }
}
