//! Exchanges that last (upgraded connections, server-sent events, long downloads and uploads, gRPC streams) and keep their permit only as
//! long as the same request would get one.
//!
//! One task looks at all of them, four times a second while there are any: after a change of rules, keys, facts or revocations at every
//! one, otherwise at those whose token, facts or age have reached their end. What is refused now is cut, counted and logged.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::sync::{Notify, oneshot};

use super::exchange::Exchange;
use super::path_of;
use crate::domain::{Clock, Denial, DenyReason, UnixSeconds};
use crate::gate::{Changes, Gate, Trace, Verdict};
use crate::telemetry::{Cut, DecisionLog, Entry, Metrics, Outcome};

/// The time between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
/// As many exchanges are decided at once, since a decision may wait for an organization to be loaded.
const AT_ONCE: usize = 64;

/// All exchanges that last.
pub struct Streams {
    gate: Arc<Gate>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    log: Arc<DecisionLog>,
    open: Mutex<Open>,
    /// Somebody has come.
    entered: Notify,
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
    /// Whether it was decided again since it came here, and from when on that does not hold.
    holds: Option<Holds>,
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
    pub fn new(gate: Arc<Gate>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>, log: Arc<DecisionLog>) -> Arc<Self> {
        Arc::new(Self { gate, clock, metrics, log, open: Mutex::default(), entered: Notify::new() })
    }

    /// Watches `exchange` until the place is given up. The receiver hears when it is to end.
    pub(super) fn enter(self: &Arc<Self>, exchange: Arc<Exchange>) -> (Place, oneshot::Receiver<()>) {
        let (cut, is_cut) = oneshot::channel();
        let since = self.clock.uptime().saturating_sub(exchange.started.elapsed());
        let mut open = self.open.lock();
        open.last += 1;
        let number = open.last;
        open.streams.insert(number, Stream { exchange, cut, since, holds: None });
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
        loop {
            while self.open.lock().streams.is_empty() {
                self.entered.notified().await;
            }
            if AssertUnwindSafe(self.look(&mut changes)).catch_unwind().await.is_err() {
                // Nothing can be decided, so nothing can be permitted.
                let all: Vec<u64> = self.open.lock().streams.keys().copied().collect();
                for number in all {
                    self.cut(number, Cut::Refused(DenyReason::Internal), Some("a panic while deciding again"));
                }
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Decides again what has to be.
    async fn look(&self, changes: &mut Changes) {
        let changed = changes.any(&self.gate);
        let (now, uptime) = (self.clock.now(), self.clock.uptime());
        let (mut aged, mut due) = (Vec::new(), Vec::new());
        for (&number, stream) in &self.open.lock().streams {
            let max_age = stream.holds.map_or(stream.exchange.trace.max_stream_age(), |holds| holds.max_age);
            if max_age.is_some_and(|max_age| uptime.saturating_sub(stream.since) >= max_age) {
                aged.push(number);
            } else if changed || stream.holds.is_none_or(|holds| holds.is_over(now, uptime)) {
                due.push((number, Arc::clone(&stream.exchange)));
            }
        }
        for number in aged {
            self.cut(number, Cut::MaxAge, None);
        }
        let decide = |(number, exchange): (u64, Arc<Exchange>)| async move {
            match self.decide_again(&exchange).await {
                Ok(holds) => {
                    if let Some(stream) = self.open.lock().streams.get_mut(&number) {
                        stream.holds = Some(holds);
                    }
                }
                Err(denial) => self.cut(number, Cut::Refused(denial.reason), denial.detail.as_deref()),
            }
        };
        stream::iter(due).for_each_concurrent(AT_ONCE, decide).await;
    }

    /// What the same request would be told now.
    async fn decide_again(&self, exchange: &Exchange) -> Result<Holds, Denial> {
        let mut trace = Trace::new(false);
        let request = exchange.request();
        let verdict = AssertUnwindSafe(self.gate.check(&request, &mut trace)).catch_unwind().await;
        match verdict {
            Ok(Verdict::Forward(_)) => Ok(Holds {
                token: trace.principal.as_ref().map(|principal| principal.ends()),
                facts: trace.holds_until(),
                max_age: trace.max_stream_age(),
            }),
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
        let (outcome, duration) = (Outcome::Cut(why), exchange.started.elapsed());
        self.metrics.streams.cut(why);
        exchange.trace.meter(|meter| meter.record(outcome, duration));
        self.log.record(outcome, true, || entry(exchange, outcome, detail, duration, self.clock.unix_millis()));
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
fn entry<'a>(
    exchange: &'a Exchange,
    outcome: Outcome,
    detail: Option<&'a str>,
    duration: Duration,
    unix_millis: u64,
) -> Entry<'a> {
    let (request, trace) = (exchange.request(), &exchange.trace);
    let principal = trace.principal.as_deref();
    let status = exchange.status();
    Entry {
        unix_millis,
        request_id: exchange.request_id.to_str().unwrap_or_default(),
        client: exchange.client,
        route: trace.route_id(),
        outcome,
        detail,
        status,
        method: request.method.as_str(),
        path: path_of(request.target),
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
