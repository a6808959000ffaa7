//! How much is being done at once, and when new work is refused so that old work does not suffer (503 `overloaded`).
//!
//! ```text
//! requests in flight   at `limits.requests`, the next one is refused before anything is looked at
//! memory, of `limits.memory`
//!   from 80 %          remembered verifications are forgotten, connections close after their answer, threads give back what is free
//!   from 90 %          further requests are refused
//!   from 95 %          further connections are closed
//! ```

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use super::connection::OpenConnections;
use super::relief;
use crate::gate::Gate;

/// How often memory is looked at.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// While memory is short, verifications are forgotten this often: they cost less to repeat than to do without.
const BETWEEN_FORGETTING: Duration = Duration::from_secs(10);

/// And free memory is given back this often.
const BETWEEN_RELIEFS: Duration = Duration::from_secs(1);

/// Where the kernel tells how much memory this process has (`man 5 proc_pid_status`).
const STATUS: &str = "/proc/self/status";

/// How short memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pressure {
    None,
    /// Nothing is kept that can be done without.
    Tight,
    /// No further requests.
    Short,
    /// No further connections.
    Out,
}

impl Pressure {
    fn of(used: u64, limit: u64) -> Self {
        match used.saturating_mul(100) / limit.max(1) {
            0..80 => Self::None,
            80..90 => Self::Tight,
            90..95 => Self::Short,
            _ => Self::Out,
        }
    }
}

/// What is being done, and how much of it may be.
pub struct Load {
    in_flight: AtomicUsize,
    most: usize,
    /// Bytes; `None` = whatever the machine has.
    memory: Option<u64>,
    pressure: AtomicU8,
    open: Arc<OpenConnections>,
    gate: Arc<Gate>,
}

impl Load {
    /// Nothing is being done yet; at most `requests` at once, in `memory` bytes. `open` is shut and what `gate` remembers forgotten
    /// when memory runs out.
    pub fn new(requests: usize, memory: Option<u64>, open: Arc<OpenConnections>, gate: Arc<Gate>) -> Arc<Self> {
        let (in_flight, pressure) = (AtomicUsize::new(0), AtomicU8::new(Pressure::None as u8));
        Arc::new(Self { in_flight, most: requests, memory, pressure, open, gate })
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// One more request; or why it is to be refused.
    pub(super) fn begin(self: &Arc<Self>) -> Result<InFlight, &'static str> {
        relief::give();
        if self.is(Pressure::Short) {
            return Err("memory is short");
        }
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            return Err("too many requests at once");
        }
        Ok(InFlight(Arc::clone(self)))
    }

    /// Whether connections are to be closed after their answer.
    pub(super) fn lets_go(&self) -> bool {
        self.is(Pressure::Tight)
    }

    fn is(&self, pressure: Pressure) -> bool {
        self.pressure.load(Ordering::Relaxed) >= pressure as u8
    }

    /// Follows the memory in use, for ever.
    async fn watch(&self, limit: u64) {
        let (mut before, mut forgotten, mut relieved) = (Pressure::None, None::<Instant>, None::<Instant>);
        let is_due = |last: Option<Instant>, between| last.is_none_or(|last| last.elapsed() >= between);
        loop {
            // Where it cannot be had nothing is known to be short.
            let used = resident(Path::new(STATUS)).unwrap_or_default();
            let pressure = Pressure::of(used, limit);
            self.pressure.store(pressure as u8, Ordering::Relaxed);
            self.open.shut(pressure >= Pressure::Out);
            if pressure > before {
                tracing::warn!(used, limit, ?pressure, "memory is short: see `limits.memory`");
            } else if pressure < before {
                tracing::info!(used, limit, ?pressure, "memory is less short than it was");
            }
            before = pressure;
            if pressure >= Pressure::Tight {
                if is_due(forgotten, BETWEEN_FORGETTING) {
                    self.gate.forget_verified();
                    forgotten = Some(Instant::now());
                }
                if is_due(relieved, BETWEEN_RELIEFS) {
                    relief::ask();
                    relieved = Some(Instant::now());
                }
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }
}

#[async_trait]
impl BackgroundService for Load {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let Some(limit) = self.memory else { return };
        tokio::select! {
            () = self.watch(limit) => {}
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
    }
}

/// A request in flight, until this is dropped.
pub(super) struct InFlight(Arc<Load>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes of memory that the process described by `status` has.
fn resident(status: &Path) -> Option<u64> {
    let status = std::fs::read_to_string(status).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    resident.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_this_process_can_be_had() {
        let used = resident(Path::new(STATUS)).unwrap();
        assert!((1 << 20..1 << 40).contains(&used), "{used}");
        assert_eq!(resident(Path::new("/dev/null")), None);
    }

    #[test]
    fn pressure_grows_by_steps() {
        use Pressure::{None, Out, Short, Tight};
        for (used, pressure) in [(0, None), (79, None), (80, Tight), (90, Short), (94, Short), (95, Out), (300, Out)] {
            assert_eq!(Pressure::of(used << 20, 100 << 20), pressure, "{used}");
        }
        assert_eq!(Pressure::of(u64::MAX, 1), Out);
    }
}
