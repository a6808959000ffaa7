//! Keeping key sets fresh in the background, at a pace that no client can drive.
//!
//! Whatever goes wrong, the last good set stays in force: a page of HTML, an empty set or a silent server takes no key
//! away. Only a good set without a key does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::fetch::{KeysError, LoadError, Loader};
use super::jwks::KeySet;
use super::keys::{IssuerKeys, KeySets, lock};
use super::settings::KeySource;
use crate::domain::Clock;

/// How often key sets are loaded, and how long that may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Between two regular loads from a URL, less up to a tenth.
    pub every: Duration,
    /// The least time between two loads from a URL that already gave keys, whoever asks.
    pub cool_down: Duration,
    /// Between two looks at a file.
    pub file_every: Duration,
    /// Between the first ten attempts while there are no keys, less up to a half; doubled with every further one.
    pub retry_first: Duration,
    /// The most it is doubled to.
    pub retry_most: Duration,
    /// From the first byte sent to the last byte received.
    pub deadline: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(600),
            cool_down: Duration::from_secs(30),
            file_every: Duration::from_secs(5),
            retry_first: Duration::from_secs(1),
            retry_most: Duration::from_secs(30),
            deadline: Duration::from_secs(5),
        }
    }
}

impl KeySets {
    /// Keeps the key sets fresh until `shutdown` turns true or its sender is gone. Owned and awaited by the caller.
    ///
    /// # Errors
    /// [`KeysError`] when nothing can be fetched over `https`, and some issuer needs that.
    pub async fn run(
        self: Arc<Self>,
        clock: Arc<dyn Clock>,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<(), KeysError> {
        let loader = self.loader()?;
        loop {
            let mut tasks = JoinSet::new();
            for at in 0..self.issuers().len() {
                tasks.spawn(Arc::clone(&self).keep_fresh(at, loader.clone(), Arc::clone(&clock)));
            }
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
                // They end only by a panic.
                Some(_) = tasks.join_next() => tracing::error!("loading a key set panicked, starting again"),
            }
            tokio::time::sleep(self.pace().retry_most).await;
        }
    }

    /// Loads every key set once, now, whatever the pace. A set that cannot be loaded is reported by
    /// [`KeySets::status`].
    ///
    /// # Errors
    /// As [`KeySets::run`].
    pub async fn refresh(&self) -> Result<(), KeysError> {
        let loader = self.loader()?;
        for keys in self.issuers() {
            self.load(keys, &loader).await;
        }
        Ok(())
    }

    /// Whether keys can be fetched at all. Reads root certificates when an issuer's are to be had over `https`.
    ///
    /// # Errors
    /// As [`KeySets::run`].
    pub fn can_be_fetched(&self) -> Result<(), KeysError> {
        self.loader().map(drop)
    }

    fn loader(&self) -> Result<Loader, KeysError> {
        Loader::new(self.issuers().iter().map(|keys| &keys.settings().keys), self.pace().deadline)
    }

    async fn keep_fresh(self: Arc<Self>, at: usize, loader: Loader, clock: Arc<dyn Clock>) {
        let Some(keys) = self.issuers().get(at) else {
            return;
        };
        let mut schedule = Schedule::new(self.pace(), &keys.settings().keys);
        loop {
            let wait = schedule.due(keys.current().is_some()).saturating_sub(clock.uptime());
            if wait.is_zero() {
                let succeeded = self.load(keys, &loader).await;
                schedule.attempted(succeeded, clock.uptime(), rand::random());
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = keys.wanted.notified() => schedule.wanted = true,
            }
        }
    }

    /// One attempt. Says whether there is a good set now.
    async fn load(&self, keys: &IssuerKeys, loader: &Loader) -> bool {
        let settings = keys.settings();
        let issuer = &settings.name;
        let parsed = match loader.load(&settings.keys).await {
            Ok(document) => KeySet::parse(&document, &settings.algorithms).map_err(LoadError::from),
            Err(error) => Err(error),
        };
        let (result, error) = match parsed {
            Ok((set, _)) if keys.current().is_some_and(|current| *current == set) => ("unchanged", None),
            Ok((set, refusals)) => {
                tracing::info!(%issuer, keys = set.len(), "key set loaded");
                for refusal in refusals {
                    tracing::warn!(%issuer, "{refusal}; left out of the key set");
                }
                self.install(keys, Arc::new(set));
                ("changed", None)
            }
            Err(error) => {
                let error = format!("`{}` {}", settings.keys, error.with_causes());
                tracing::warn!(%issuer, %error, "key set not loaded; what was in force stays");
                ("failed", Some(error))
            }
        };
        self.meters().refreshed.with_label_values(&[&**issuer, result]).inc();
        let succeeded = error.is_none();
        *lock(&keys.error) = error;
        succeeded
    }
}

/// When one key set is to be loaded next. Times are those of [`Clock::uptime`].
#[derive(Debug)]
struct Schedule {
    pace: Pace,
    regular: Duration,
    cool_down: Duration,
    /// When the last attempt ended.
    last: Option<Duration>,
    /// Attempts that failed since the last good one.
    failures: u32,
    /// Drawn for every attempt, from 0 to 1.
    jitter: f64,
    /// Whether somebody asked for a key that is not in the set.
    wanted: bool,
}

impl Schedule {
    fn new(pace: Pace, source: &KeySource) -> Self {
        let (regular, cool_down) = match source {
            KeySource::Url(_) => (pace.every, pace.cool_down),
            KeySource::File(_) => (pace.file_every, pace.file_every),
        };
        Self { pace, regular, cool_down, last: None, failures: 0, jitter: 0.0, wanted: false }
    }

    fn attempted(&mut self, succeeded: bool, now: Duration, jitter: f64) {
        self.failures = if succeeded { 0 } else { self.failures.saturating_add(1) };
        (self.last, self.jitter, self.wanted) = (Some(now), jitter, false);
    }

    /// The time of the next attempt.
    fn due(&self, has_keys: bool) -> Duration {
        let Some(last) = self.last else {
            return Duration::ZERO;
        };
        let wait = if has_keys {
            let regular = self.regular.mul_f64(1.0 - self.jitter / 10.0);
            if self.wanted || self.failures > 0 { regular.min(self.cool_down) } else { regular }
        } else {
            // A pod that starts beside its issuer waits a second or two; ten thousand of them do not hammer one that is
            // down.
            let doublings = self.failures.saturating_sub(10).min(16);
            let backed_off = self.pace.retry_first.saturating_mul(1 << doublings).min(self.pace.retry_most);
            backed_off.mul_f64(1.0 - self.jitter / 2.0)
        };
        last.saturating_add(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn schedule() -> Schedule {
        Schedule::new(Pace::default(), &KeySource::Url(super::super::JwksUrl::new("https://issuer.test/").unwrap()))
    }

    #[test]
    fn the_first_load_is_due_at_once() {
        assert_eq!(schedule().due(false), Duration::ZERO);
    }

    #[test]
    fn without_keys_attempts_are_a_second_apart_and_then_further_but_never_beyond_thirty() {
        let mut schedule = schedule();
        let mut waits = Vec::new();
        for _ in 0..30 {
            schedule.attempted(false, seconds(100), 0.0);
            waits.push((schedule.due(false) - seconds(100)).as_secs());
        }
        assert_eq!(waits[..16], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(waits[29], 30);
        schedule.attempted(false, seconds(100), 1.0);
        assert_eq!(schedule.due(false), seconds(115));
    }

    #[test]
    fn asking_for_unknown_keys_brings_the_next_load_forward_to_the_cool_down_and_not_further() {
        let mut schedule = schedule();
        schedule.attempted(true, seconds(100), 0.0);
        assert_eq!(schedule.due(true), seconds(700));
        schedule.wanted = true;
        assert_eq!(schedule.due(true), seconds(130));
        schedule.attempted(true, seconds(130), 0.0);
        assert_eq!(schedule.due(true), seconds(730));
    }

    #[test]
    fn a_failed_refresh_is_repeated_after_the_cool_down() {
        let mut schedule = schedule();
        schedule.attempted(false, seconds(100), 0.5);
        assert_eq!(schedule.due(true), seconds(130));
    }

    #[test]
    fn loads_of_many_sidecars_drift_apart() {
        let mut schedule = schedule();
        schedule.attempted(true, seconds(0), 1.0);
        assert_eq!(schedule.due(true), seconds(540));
    }
}
