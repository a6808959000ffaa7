//! Time as the decision sees it: an argument, never a call.

use std::fmt;
use std::time::Duration;

/// Seconds since 1970-01-01T00:00:00Z, leap seconds not counted (RFC 7519 `NumericDate`, whole seconds).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct UnixSeconds(pub i64);

impl UnixSeconds {
    /// This many seconds later, at most the end of time.
    pub fn plus(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Seconds from `earlier` to `self`; negative when `earlier` is later.
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Where the time comes from. The real one lives in `app.rs`; tests move theirs by hand.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock: what tokens are judged by.
    fn now(&self) -> UnixSeconds;

    /// The wall clock in milliseconds since 1970, for log lines. Whole seconds where the clock knows no better.
    fn unix_millis(&self) -> u64 {
        u64::try_from(self.now().0).unwrap_or(0).saturating_mul(1000)
    }

    /// What tells this run of the machine from others: uptimes of one run can be compared. `None` where nothing does.
    fn boot(&self) -> Option<String> {
        None
    }

    /// Time since some fixed point, never stepped, running through suspend: what the age of facts is counted by.
    fn uptime(&self) -> Duration;
}

/// How long ago the facts in force were last proven to be the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Time since the last proof; `None` while there never was one.
    pub age: Option<Duration>,
}

/// What [`Freshness`] means for a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Proven less than [`Freshness::FRESH`] ago.
    Fresh,
    /// Older, but within the bound: served and counted.
    Degraded,
    /// Beyond the bound, or never proven: not served unless the route says so.
    Stale,
}

impl Freshness {
    /// Up to this age facts count as fresh.
    pub const FRESH: Duration = Duration::from_secs(5);
    /// Beyond this age no route serves facts, whatever it says.
    pub const LONGEST_SERVED: Duration = Duration::from_secs(24 * 60 * 60);

    /// The standing of facts of this age under the bound `max_staleness`; an age equal to the bound is within it.
    pub fn standing(self, max_staleness: Duration) -> Standing {
        match self.age {
            Some(age) if age > max_staleness => Standing::Stale,
            Some(age) if age < Self::FRESH => Standing::Fresh,
            Some(_) => Standing::Degraded,
            None => Standing::Stale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standing_changes_exactly_at_its_bounds() {
        let standing =
            |seconds: f64| Freshness { age: Some(Duration::from_secs_f64(seconds)) }.standing(Duration::from_secs(300));
        assert_eq!(standing(4.999), Standing::Fresh);
        assert_eq!(standing(5.0), Standing::Degraded);
        assert_eq!(standing(300.0), Standing::Degraded);
        assert_eq!(standing(300.001), Standing::Stale);
        assert_eq!(Freshness { age: None }.standing(Duration::MAX), Standing::Stale);
    }

    #[test]
    fn seconds_are_counted_from_either_side_and_stop_at_the_end_of_time() {
        let (early, late) = (UnixSeconds(100), UnixSeconds(107));
        assert_eq!((late.since(early), early.since(late), late.since(late)), (7, -7, 0));
        assert_eq!((early.plus(7), late.plus(-7)), (late, early));
        assert_eq!(UnixSeconds(i64::MAX).plus(1), UnixSeconds(i64::MAX));
        assert_eq!(UnixSeconds(i64::MIN).since(UnixSeconds(1)), i64::MIN);
        assert_eq!(late.to_string(), "107");
    }

    /// A clock that says as little as it may.
    struct Plain(i64);

    impl Clock for Plain {
        fn now(&self) -> UnixSeconds {
            UnixSeconds(self.0)
        }

        fn uptime(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[test]
    fn a_clock_of_whole_seconds_has_whole_milliseconds_and_claims_no_run() {
        assert_eq!((Plain(1_800_000_000).unix_millis(), Plain(1_800_000_000).boot()), (1_800_000_000_000, None));
        assert_eq!((Plain(-1).unix_millis(), Plain(i64::MAX).unix_millis()), (0, u64::MAX));
    }

    #[test]
    fn a_bound_shorter_than_fresh_wins() {
        assert_eq!(Freshness { age: Some(Duration::from_secs(2)) }.standing(Duration::from_secs(1)), Standing::Stale);
    }
}
