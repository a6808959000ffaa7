//! The loop that keeps the world fresh: pull, install, wait; and beside it, the loading of single organizations.
//!
//! Freshness is proven by an answer, and as of the moment the question was asked: facts may have changed right after. A source that does
//! not answer, or answers with what cannot be accepted, proves nothing; the last good facts stay in force and grow older.

pub mod feed;
pub mod persist;
mod refresh;

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::domain::{Clock, OrganizationId};
use crate::live::{Arrival, InstallError, Order, Orders, World};
use crate::source::{Complete, Organizations, Source, SourceError, Update};
use crate::telemetry::{FactsUpdate, Metrics, UpdateResult};

pub use self::refresh::{Refresher, Ttl};

/// The most organizations that are loaded at the same time.
const MOST_LOADS: usize = 32;

/// How often the source is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// From one answer to the next question.
    pub interval: Duration,
    /// The longest wait after errors. After the nth error in a row it is random, up to `interval` times 2^n and never beyond this.
    pub longest_wait: Duration,
}

impl Settings {
    /// For a source that many sidecars share over a network.
    pub const REMOTE: Self = Self { interval: Duration::from_secs(1), longest_wait: Duration::from_secs(30) };
    /// For a source on this machine, which nobody else waits for.
    pub const LOCAL: Self = Self { interval: Duration::from_secs(1), longest_wait: Duration::from_secs(1) };
}

/// What the loop works with.
#[derive(Clone)]
pub struct Loop {
    /// What is kept fresh.
    pub world: Arc<World>,
    /// Where facts come from.
    pub source: Arc<dyn Source>,
    /// What age is counted by.
    pub clock: Arc<dyn Clock>,
    /// Where updates are counted.
    pub metrics: Arc<Metrics>,
    /// How often the source is asked.
    pub settings: Settings,
}

/// Why a pull changed nothing.
#[derive(Debug, thiserror::Error)]
enum PullError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("facts are refused")]
    Install(#[from] InstallError),
    #[error("a panic, which is a fault of ours")]
    Panic,
}

impl Loop {
    /// Runs until `shutdown` says `true` or is dropped. Loads in progress are given up then.
    pub async fn run(self, orders: Orders, mut shutdown: watch::Receiver<bool>) {
        tokio::select! {
            () = self.follow() => {}
            () = self.carry_out(orders) => {}
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
    }

    /// Pulls forever.
    async fn follow(&self) {
        let mut failures = 0;
        let mut last_error = None;
        loop {
            match self.supervised_pull().await {
                Ok(()) => {
                    failures = 0;
                    if last_error.take().is_some() {
                        tracing::info!("facts can be had again");
                    }
                    sleep(self.settings.interval).await;
                }
                Err(error) => {
                    let text = describe(&error);
                    if last_error.as_ref() != Some(&text) {
                        tracing::error!(error = text, "facts in force stay as they are and grow older");
                        last_error = Some(text);
                    }
                    failures += 1;
                    sleep(self.wait_after(failures)).await;
                }
            }
        }
    }

    /// A pull whose panic is an error like any other: the loop must outlive it.
    async fn supervised_pull(&self) -> Result<(), PullError> {
        let mut task = JoinSet::new();
        task.spawn(self.clone().pull());
        task.join_next().await.and_then(Result::ok).unwrap_or(Err(PullError::Panic))
    }

    /// One question, and what comes of it.
    async fn pull(self) -> Result<(), PullError> {
        let asked = self.clock.uptime();
        let known = self.world.revision();
        let result = match self.source.pull(known.as_ref()).await {
            Ok(Update::Unchanged) => Ok(UpdateResult::Unchanged),
            Ok(Update::Complete(complete)) => self.install(complete).map(|()| UpdateResult::Applied),
            Err(error) => Err(error.into()),
        };
        let counted = match &result {
            Ok(result) => *result,
            Err(PullError::Source(error)) => result_of(error),
            Err(PullError::Install(_)) => UpdateResult::Refused,
            Err(PullError::Panic) => UpdateResult::Failed,
        };
        self.metrics.facts_updated(FactsUpdate::Complete, counted);
        result?;
        self.world.prove(asked);
        Ok(())
    }

    fn install(&self, complete: Complete) -> Result<(), PullError> {
        let Complete { revision, catalog, organizations } = complete;
        match organizations {
            Organizations::All(organizations) => self.world.install_all(revision, &catalog, organizations)?,
            Organizations::OnDemand => self.world.install_catalog(revision, &catalog)?,
        }
        tracing::info!(%revision, "facts are in force");
        Ok(())
    }

    /// Full jitter: sidecars that lost their source together do not come back together.
    fn wait_after(&self, failures: u32) -> Duration {
        let most = self.settings.interval.saturating_mul(1 << failures.min(16)).min(self.settings.longest_wait);
        rand::rng().random_range(Duration::ZERO..=most)
    }

    /// Loads organizations as they are ordered, a bounded number at a time.
    async fn carry_out(&self, mut orders: Orders) {
        let mut loads = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = loads.join_next() => {}
                order = orders.next(), if loads.len() < MOST_LOADS => match order {
                    Some(order) => _ = loads.spawn(self.clone().load(order)),
                    None => return,
                },
            }
        }
    }

    /// Fetches until what was fetched belongs to the generation in force.
    async fn load(self, mut order: Order) {
        loop {
            let generation = self.world.generation();
            let arrival = self.fetch(order.organization()).await;
            match self.world.settle(order, generation, arrival) {
                Ok(()) => return,
                Err(again) => order = again,
            }
        }
    }

    /// One organization as it is now; what is wrong with it is counted and logged here.
    async fn fetch(&self, organization: &OrganizationId) -> Result<Arrival, ()> {
        let asked = self.clock.uptime();
        let fetched = self.source.fetch(organization).await;
        let counted = fetched.as_ref().map_or_else(result_of, |_| UpdateResult::Applied);
        self.metrics.facts_updated(FactsUpdate::Organization, counted);
        let rows = fetched.map_err(|error| {
            tracing::warn!(%organization, error = describe(&error), "organization cannot be read");
        })?;
        let build = |rows| self.world.build(organization, &rows);
        let shard = rows.map(build).transpose().map_err(|error| {
            tracing::error!(%organization, %error, "organization is refused");
        })?;
        Ok(Arrival { shard, proven: self.source.proves_each_organization().then_some(asked) })
    }
}

/// How an error of the source is counted.
fn result_of(error: &SourceError) -> UpdateResult {
    match error {
        SourceError::Refused { .. } | SourceError::TooLarge { .. } | SourceError::Implausible { .. } => {
            UpdateResult::Refused
        }
        SourceError::Unavailable { .. } | SourceError::Unsettled { .. } | SourceError::Inconsistent { .. } => {
            UpdateResult::Failed
        }
    }
}

/// The error with its causes.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests;
