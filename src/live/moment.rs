//! Points of time by the clock that age is counted by, to the millisecond. They may lie before the machine was started: facts outlive that
//! on disk.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Milliseconds of uptime; below zero, before the machine was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(i64);

/// The moment of a proof of freshness, or none.
#[derive(Debug)]
pub(super) struct Proof(AtomicI64);

impl Moment {
    pub(super) fn at(uptime: Duration) -> Self {
        Self(millis(uptime))
    }

    /// The moment that is `age` before `uptime`; rather a millisecond earlier than later.
    pub(super) fn before(uptime: Duration, age: Duration) -> Self {
        Self(millis(uptime).saturating_sub(millis(age).saturating_add(1)).max(-i64::MAX))
    }

    /// Time from this moment to `uptime`; none when it is later.
    pub(super) fn age(self, uptime: Duration) -> Duration {
        let distance = Duration::from_millis(self.0.unsigned_abs());
        if self.0 < 0 { uptime.saturating_add(distance) } else { uptime.saturating_sub(distance) }
    }

    /// Uptime then; zero before the machine was started.
    pub(super) fn uptime(self) -> Duration {
        Duration::from_millis(u64::try_from(self.0).unwrap_or(0))
    }
}

impl Proof {
    const NEVER: i64 = i64::MIN;

    pub(super) const fn none() -> Self {
        Self(AtomicI64::new(Self::NEVER))
    }

    pub(super) fn of(moment: Option<Moment>) -> Self {
        let proof = Self::none();
        proof.set(moment);
        proof
    }

    pub(super) fn get(&self) -> Option<Moment> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&millis| millis != Self::NEVER).map(Moment)
    }

    pub(super) fn set(&self, moment: Option<Moment>) {
        self.0.store(moment.map_or(Self::NEVER, |moment| moment.0), Ordering::Relaxed);
    }

    /// Notes a proof; one that is older than what is known changes nothing.
    pub(super) fn note(&self, moment: Moment) {
        self.0.fetch_max(moment.0, Ordering::Relaxed);
    }
}

/// At most the end of time, so that no moment is mistaken for none.
fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_reach_back_beyond_the_start_of_the_machine() {
        let seconds = Duration::from_secs;
        let proof = Proof::none();
        assert_eq!(proof.get(), None);
        proof.note(Moment::before(seconds(10), seconds(3600)));
        let age = |uptime| proof.get().map(|moment| moment.age(uptime).as_secs());
        assert_eq!((age(seconds(10)), age(seconds(70))), (Some(3600), Some(3660)));
        proof.note(Moment::before(seconds(10), seconds(7200)));
        assert_eq!(age(seconds(10)), Some(3600), "an older proof changes nothing");
        proof.note(Moment::at(seconds(20)));
        assert_eq!((age(seconds(20)), age(seconds(15))), (Some(0), Some(0)));
        assert_eq!(
            Moment::before(Duration::ZERO, Duration::MAX).age(Duration::ZERO),
            Duration::from_millis(i64::MAX as u64)
        );
    }
}
