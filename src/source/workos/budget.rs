//! How many requests the server is sent: a token bucket that whoever asks takes from first, and that stands still when the server says so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use crate::domain::Clock;

/// At most so many requests in a second, a tenth of a second's worth of them at once.
pub(super) struct Budget {
    clock: Arc<dyn Clock>,
    /// From one request to the next.
    every: Duration,
    /// How far requests may run ahead of that.
    ahead: Duration,
    state: Mutex<State>,
}

struct State {
    /// Uptime at which the next request may leave, when nothing runs ahead.
    next: Duration,
    /// Uptime until which nothing may leave.
    paused: Duration,
}

impl Budget {
    pub(super) fn new(per_second: u32, clock: Arc<dyn Clock>) -> Self {
        let every = Duration::from_secs(1) / per_second.max(1);
        let state = Mutex::new(State { next: Duration::ZERO, paused: Duration::ZERO });
        Self { clock, every, ahead: Duration::from_millis(100).saturating_sub(every), state }
    }

    /// Waits for its turn. Dropped while it waits, the turn is lost.
    pub(super) async fn take(&self) {
        loop {
            sleep(self.reserve()).await;
            // The server may have asked for a pause meanwhile: the turn is lost.
            if self.paused().is_zero() {
                return;
            }
        }
    }

    /// Nothing leaves for so long.
    pub(super) fn pause(&self, length: Duration) {
        let until = self.clock.uptime() + length;
        let mut state = self.state();
        state.paused = state.paused.max(until);
        state.next = state.next.max(until);
    }

    /// How long the pause still is.
    fn paused(&self) -> Duration {
        self.state().paused.saturating_sub(self.clock.uptime())
    }

    fn reserve(&self) -> Duration {
        let now = self.clock.uptime();
        let mut state = self.state();
        let turn = state.next.max(now.saturating_sub(self.ahead));
        state.next = turn + self.every;
        turn.max(state.paused).saturating_sub(now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::domain::UnixSeconds;

    /// The clock of the paused runtime, some time after the start of the machine.
    struct RuntimeClock(Instant);

    impl Clock for RuntimeClock {
        fn now(&self) -> UnixSeconds {
            UnixSeconds(0)
        }
        fn uptime(&self) -> Duration {
            Duration::from_secs(1000) + self.0.elapsed()
        }
    }

    fn budget(per_second: u32) -> Budget {
        Budget::new(per_second, Arc::new(RuntimeClock(Instant::now())))
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_has_no_more_requests_than_its_budget_and_the_few_that_may_run_ahead() {
        let (budget, begun) = (budget(100), Instant::now());
        let mut within_a_second = 0;
        while begun.elapsed() < Duration::from_secs(1) {
            budget.take().await;
            within_a_second += 1;
        }
        assert!((100..=111).contains(&within_a_second), "{within_a_second}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_used_is_not_saved_up() {
        let budget = budget(10);
        sleep(Duration::from_secs(60)).await;
        let begun = Instant::now();
        for _ in 0..11 {
            budget.take().await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(999), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_leaves_during_a_pause_not_even_what_had_its_turn() {
        let budget = budget(2);
        let begun = Instant::now();
        budget.take().await;
        let waiting = async {
            budget.take().await;
            begun.elapsed()
        };
        let (left, ()) = tokio::join!(waiting, async { budget.pause(Duration::from_secs(7)) });
        assert!(left >= Duration::from_secs(7), "{left:?}");
        budget.take().await;
        assert!(begun.elapsed() >= Duration::from_millis(7_500), "{:?}", begun.elapsed());
    }
}
