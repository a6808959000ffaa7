//! Keeps residents fresh where the source does not say what changed: each is read again before it is older than its time, and earlier when
//! an event says so.
//!
//! A resident that requests use is read again and again; one that nobody used for a while is let go, and comes back when it is next used.
//! While the source does not answer, residents stay, and grow older.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rand::Rng;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Loop, describe};
use crate::domain::OrganizationId;
use crate::source::WorkosSource;
use crate::source::workos::{Ended, Hint};

/// How often it is looked whose time has come.
const TICK: Duration = Duration::from_millis(100);
/// Organizations that are read at the same time.
const MOST_READS: usize = 8;
/// From one reading to the next of the same organization, at least, whatever happens.
const SHORTEST_GAP: Duration = Duration::from_secs(1);
/// A resident that was not used for this many times its longest time to live is let go.
const IDLE_LIVES: u32 = 4;
/// The longest wait after errors.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The time between a panic and the next beginning.
const AFTER_PANIC: Duration = Duration::from_secs(1);
/// How long a reading on first use may take and still be known to have missed an event.
const LATE: Duration = Duration::from_secs(30);
/// Hints that may wait to be dealt with, or be remembered.
const MOST_HINTS: usize = 1024;

/// How long facts of an organization live: random between these, so that those that came together do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl {
    /// At least so long.
    pub min: Duration,
    /// At most so long.
    pub max: Duration,
}

/// Hears of what has ended, and when, as the event has it.
pub type OnEnd = Box<dyn Fn(&Ended, &str) + Send + Sync>;

/// Keeps residents fresh.
pub struct Refresher {
    /// The loop beside it, which pulls the catalog and loads on first use.
    pub facts: Loop,
    /// The source of that loop.
    pub source: Arc<WorkosSource>,
    /// How long facts live.
    pub ttl: Ttl,
    /// How often events are asked for; `None` = never.
    pub events: Option<Duration>,
    /// Hears of what has ended.
    pub on_end: OnEnd,
}

/// What is planned for one resident.
struct Plan {
    /// Uptime at which it is to be read again.
    due: Duration,
    /// Uptime at which it was last seen to be used.
    used: Duration,
    /// Uptime at which the last reading began.
    began: Duration,
    /// Uptime of the last hint.
    hinted: Option<Duration>,
    is_running: bool,
    failures: u32,
}

type Plans = HashMap<OrganizationId, Plan>;

/// Hints of late, and when they came: a reading on first use may have begun before.
type Late = VecDeque<(Duration, Hint)>;

/// A reading that came to its end: whose, when it began, whether it came into force.
type Done = (OrganizationId, Duration, bool);

impl Refresher {
    /// Runs until `shutdown` says `true` or is dropped. Readings in progress are given up then.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        loop {
            let (sender, hints) = mpsc::channel(MOST_HINTS);
            let both = async {
                tokio::select! {
                    () = self.keep_fresh(hints) => {}
                    () = self.listen(&sender) => {}
                }
            };
            tokio::select! {
                ended = AssertUnwindSafe(both).catch_unwind() => match ended {
                    Ok(()) => return,
                    Err(_) => tracing::error!("a panic, which is a fault of ours: what keeps facts fresh is begun anew"),
                },
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
            sleep(AFTER_PANIC).await;
        }
    }

    async fn keep_fresh(&self, mut hints: mpsc::Receiver<Hint>) {
        let (mut plans, mut late) = (Plans::new(), Late::new());
        let mut reads: JoinSet<Done> = JoinSet::new();
        let mut pulls = JoinSet::new();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    self.look(&mut plans, &late);
                    self.begin(&mut plans, &mut reads);
                    if self.source.takes_catalog_for_old() && pulls.is_empty() {
                        pulls.spawn(self.pull());
                    }
                }
                Some(read) = reads.join_next() => match read {
                    Ok(done) => self.end(&mut plans, done),
                    // A panic: which one it was is not known, so that none may be taken for running.
                    Err(_) => plans.clear(),
                },
                Some(_) = pulls.join_next() => {}
                Some(hint) = hints.recv() => {
                    self.look(&mut plans, &late);
                    if self.heed(&mut plans, &hint) && pulls.len() < 2 {
                        pulls.spawn(self.pull());
                    }
                    let now = self.facts.clock.uptime();
                    late.push_back((now, hint));
                    while late.len() > MOST_HINTS || late.front().is_some_and(|(at, _)| *at + LATE < now) {
                        late.pop_front();
                    }
                }
            }
        }
    }

    /// The catalog, read out of turn. What is wrong with it, the loop beside this one will say.
    fn pull(&self) -> impl Future<Output = ()> + Send + 'static {
        let facts = self.facts.clone();
        async move { _ = facts.supervised_pull().await }
    }

    /// Brings the plans up to date with what is resident.
    fn look(&self, plans: &mut Plans, late: &Late) {
        let now = self.facts.clock.uptime();
        let mut next = Plans::with_capacity(plans.len());
        for resident in self.facts.world.take_uses() {
            let mut plan = plans.remove(&resident.organization).unwrap_or_else(|| {
                let began = resident.proven.unwrap_or(now);
                let mut hints = late.iter().filter(|(at, _)| *at >= began);
                let is_old = hints.any(|(_, hint)| self.concerns(hint, &resident.organization));
                let due = began + if is_old { SHORTEST_GAP } else { self.lifetime() };
                Plan { due, used: now, began, hinted: None, is_running: false, failures: 0 }
            });
            if resident.used {
                plan.used = now;
            }
            next.insert(resident.organization, plan);
        }
        *plans = next;
    }

    /// Begins to read those whose time has come, the most overdue ones first, and lets those go that nobody uses.
    fn begin(&self, plans: &mut Plans, reads: &mut JoinSet<Done>) {
        let now = self.facts.clock.uptime();
        let idle = self.ttl.max * IDLE_LIVES;
        let mut due: Vec<_> = plans.iter_mut().filter(|(_, plan)| !plan.is_running && plan.due <= now).collect();
        due.sort_unstable_by_key(|(_, plan)| plan.due);
        for (organization, plan) in due {
            if now.saturating_sub(plan.used) > idle && self.source.is_answering() {
                self.facts.world.forget(organization);
                continue;
            }
            if reads.len() >= MOST_READS {
                break;
            }
            plan.is_running = true;
            plan.began = now;
            reads.spawn(read(self.facts.clone(), organization.clone()));
        }
    }

    fn end(&self, plans: &mut Plans, (organization, began, is_in_force): Done) {
        let now = self.facts.clock.uptime();
        let Some(plan) = plans.get_mut(&organization) else { return };
        plan.is_running = false;
        if is_in_force {
            plan.failures = 0;
            plan.due = (began + self.lifetime()).max(now);
        } else {
            plan.failures += 1;
            let most = Duration::from_secs(1).saturating_mul(1 << plan.failures.min(16)).min(LONGEST_WAIT);
            plan.due = now + rand::rng().random_range(Duration::ZERO..=most);
        }
        // What it read may be from before that.
        if plan.hinted.is_some_and(|hinted| hinted >= began) {
            plan.due = began + SHORTEST_GAP;
        }
    }

    /// Plans what a hint asks for; says whether that is the catalog.
    fn heed(&self, plans: &mut Plans, hint: &Hint) -> bool {
        let now = self.facts.clock.uptime();
        let mut soon = |organization: &OrganizationId| {
            if let Some(plan) = plans.get_mut(organization) {
                plan.hinted = Some(now);
                plan.due = plan.due.min(plan.began + SHORTEST_GAP);
            }
        };
        match hint {
            Hint::Organization(organization) => soon(organization),
            Hint::Membership(membership) => self.facts.world.residents_having(membership).iter().for_each(soon),
            Hint::Catalog => return true,
            Hint::Everything => {
                self.facts.world.organizations().iter().for_each(soon);
                return true;
            }
        }
        false
    }

    fn concerns(&self, hint: &Hint, organization: &OrganizationId) -> bool {
        match hint {
            Hint::Organization(hinted) => hinted == organization,
            Hint::Membership(membership) => self.facts.world.residents_having(membership).contains(organization),
            Hint::Everything => true,
            Hint::Catalog => false,
        }
    }

    /// Asks for events forever.
    async fn listen(&self, hints: &mpsc::Sender<Hint>) {
        let Some(every) = self.events else { return std::future::pending().await };
        let mut failures: u32 = 0;
        loop {
            let wait = match self.source.news().await {
                Ok(news) => {
                    failures = 0;
                    for (ended, at) in &news.ended {
                        (self.on_end)(ended, at);
                    }
                    for hint in news.hints {
                        if hints.send(hint).await.is_err() {
                            return;
                        }
                    }
                    if news.more { Duration::ZERO } else { every }
                }
                Err(error) => {
                    if failures == 0 {
                        let error = describe(&error);
                        tracing::warn!(error, "events cannot be read; everything is read again in its time");
                    }
                    failures += 1;
                    let most = every.saturating_mul(1 << failures.min(16)).min(LONGEST_WAIT.max(every));
                    rand::rng().random_range(every..=most.max(every))
                }
            };
            sleep(wait).await;
        }
    }

    fn lifetime(&self) -> Duration {
        rand::rng().random_range(self.ttl.min..=self.ttl.max)
    }
}

/// Reads one resident again.
async fn read(facts: Loop, organization: OrganizationId) -> Done {
    let began = facts.clock.uptime();
    let generation = facts.world.generation();
    let is_in_force = match facts.fetch(&organization).await {
        Ok(arrival) => facts.world.renew(&organization, generation, arrival),
        Err(()) => false,
    };
    (organization, began, is_in_force)
}
