//! Whether there is room for one more organization.
//!
//! Two things would be work without end: to load organizations that push one another out, and to read one over and over that does not fit
//! at all. So after an eviction that came too early nobody new is let in for a moment, and who was too large is not read again for a while.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::domain::{Clock, OrganizationId};

/// An organization that has to leave earlier than this shows that the working set does not fit.
const SHORTEST_STAY: Duration = Duration::from_secs(10);
/// For so long new organizations are refused then.
const CROWDED_FOR: Duration = Duration::from_secs(1);
/// An organization that does not fit is refused for so long, and for twice as long each further time, at most [`LONGEST_REFUSAL`].
const FIRST_REFUSAL: Duration = Duration::from_secs(10);
const LONGEST_REFUSAL: Duration = Duration::from_secs(300);
/// As many that do not fit are remembered.
const MOST_REFUSED: usize = 1024;

/// Knows whether anybody may come in.
pub(super) struct Room {
    clock: Arc<dyn Clock>,
    /// Uptime in milliseconds until which nobody new is let in.
    crowded_until: AtomicU64,
    /// Those that were read and do not fit: until which uptime they are not read again, and how long that was.
    too_large: Mutex<HashMap<OrganizationId, (Duration, Duration)>>,
}

impl Room {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, crowded_until: AtomicU64::new(0), too_large: Mutex::default() }
    }

    /// What organizations come and go by.
    pub(super) fn uptime(&self) -> Duration {
        self.clock.uptime()
    }

    /// Notes that one that came at this uptime had to leave for others.
    pub(super) fn evicted(&self, since: Duration) {
        let now = self.uptime();
        if now.saturating_sub(since) < SHORTEST_STAY {
            let until = u64::try_from((now + CROWDED_FOR).as_millis()).unwrap_or(u64::MAX);
            self.crowded_until.fetch_max(until, Ordering::Relaxed);
        }
    }

    /// Notes that this one was read and does not fit.
    pub(super) fn too_large(&self, organization: &OrganizationId) {
        let now = self.uptime();
        let mut too_large = self.too_large.lock().unwrap_or_else(PoisonError::into_inner);
        // One that did not come back for as long as it was refused begins anew.
        too_large.retain(|_, (until, wait)| now < *until + *wait);
        let before = too_large.get(organization).map(|(_, wait)| *wait);
        let wait = before.map_or(FIRST_REFUSAL, |wait| wait.saturating_mul(2).min(LONGEST_REFUSAL));
        if before.is_some() || too_large.len() < MOST_REFUSED {
            too_large.insert(organization.clone(), (now + wait, wait));
        }
    }

    /// Whether it may be read, as far as is known before that is done.
    pub(super) fn may_have(&self, organization: &OrganizationId) -> bool {
        let now = self.uptime();
        if now < Duration::from_millis(self.crowded_until.load(Ordering::Relaxed)) {
            return false;
        }
        let too_large = self.too_large.lock().unwrap_or_else(PoisonError::into_inner);
        too_large.get(organization).is_none_or(|(until, _)| now >= *until)
    }
}
