//! The clock of the machine, until a test moves or breaks it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use portcullis::app::SystemClock;
use portcullis::domain::{Clock, UnixSeconds};

/// A clock that a test holds.
#[derive(Debug, Default)]
pub struct TestClock {
    ahead: AtomicI64,
    uptime_ahead: AtomicU64,
    broken: AtomicBool,
}

impl TestClock {
    /// Moves the time of day and the time since the start by as much.
    pub fn advance(&self, seconds: u32) {
        self.ahead.fetch_add(i64::from(seconds), Ordering::SeqCst);
        self.uptime_ahead.fetch_add(u64::from(seconds), Ordering::SeqCst);
    }

    /// Asked for the time of day, it panics.
    pub fn broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> UnixSeconds {
        assert!(!self.broken.load(Ordering::SeqCst), "the clock is broken");
        SystemClock.now().plus(self.ahead.load(Ordering::SeqCst))
    }

    fn uptime(&self) -> Duration {
        SystemClock.uptime() + Duration::from_secs(self.uptime_ahead.load(Ordering::SeqCst))
    }
}
