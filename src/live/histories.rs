//! Other histories that were asked about, and when first: whether they are over is known only after a proof that was asked for later.
//!
//! A revision of another history may be of one that has begun and that nobody here has heard of yet.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::moment::{Moment, Proof};
use crate::domain::{Clock, Epoch};

/// As many are remembered, those that were asked about last. One that was forgotten is asked about for the first time again.
const MOST: usize = 64;

/// What is known of histories that are not in force.
pub(super) struct Histories {
    clock: Arc<dyn Clock>,
    /// When each was first asked about; the one that was asked about last is the last one.
    asked: Mutex<VecDeque<(Epoch, Moment)>>,
    /// The last proof that the facts in force are the newest, since their history began.
    proven: Proof,
}

impl Histories {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, asked: Mutex::default(), proven: Proof::none() }
    }

    /// Another history is about to come into force.
    pub(super) fn begin(&self) {
        self.proven.set(None);
    }

    /// Notes that the facts in force were the newest there are.
    pub(super) fn prove(&self, moment: Moment) {
        self.proven.note(moment);
    }

    /// Whether the history in force was proven to be.
    pub(super) fn is_proven(&self) -> bool {
        self.proven.get().is_some()
    }

    /// Whether `epoch` is over: the facts in force, of another, were the newest at a moment after it was first asked about, and it was
    /// there then.
    pub(super) fn is_over(&self, epoch: Epoch) -> bool {
        let now = Moment::at(self.clock.uptime());
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let known = asked.iter().position(|(known, _)| *known == epoch).and_then(|at| asked.remove(at));
        let (_, first) = known.unwrap_or((epoch, now));
        asked.push_back((epoch, first));
        if asked.len() > MOST {
            asked.pop_front();
        }
        self.proven.get().is_some_and(|proven| proven > first)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::domain::UnixSeconds;

    struct Seconds(AtomicU64);

    impl Clock for Seconds {
        fn now(&self) -> UnixSeconds {
            UnixSeconds(0)
        }
        fn uptime(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn what_is_forgotten_is_not_taken_to_be_over() {
        let clock = Arc::new(Seconds(AtomicU64::new(10)));
        let histories = Histories::new(clock.clone());
        let (used, unused) = (Epoch(1), Epoch(2));
        assert!(!histories.is_over(used) && !histories.is_over(unused));
        histories.prove(Moment::at(Duration::from_secs(11)));
        clock.0.store(20, Ordering::Relaxed);
        for other in 100..100 + MOST as u64 {
            assert!(histories.is_over(used) && !histories.is_over(Epoch(other)));
        }
        assert_eq!(histories.asked.lock().unwrap().len(), MOST);
        assert!(histories.is_over(used));
        assert!(!histories.is_over(unused), "forgotten, so that it is asked about for the first time");
        histories.prove(Moment::at(Duration::from_secs(21)));
        assert!(histories.is_over(unused));
        histories.begin();
        assert!(!histories.is_over(used) && !histories.is_proven());
    }
}
