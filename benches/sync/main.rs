//! What it takes until a change that was committed in the store is in force in the sidecars, and what following costs the store.
//!
//! `cargo bench --bench sync` measures; with `-- --test` every part runs once on a small scale. Store and sidecars share this machine, and each
//! sidecar here is a real one as far as facts go: a `World` that follows over a real socket.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::zombie_processes,
    missing_docs,
    dead_code,
    reason = "a bench fails by panicking"
)]

#[path = "../store/company.rs"]
mod company;
mod fan_out;
mod propagation;
mod sidecar;
#[path = "../store/statistics.rs"]
mod statistics;
#[path = "../store/target.rs"]
mod target;

use std::time::Duration;

/// How large everything is.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Changes per second, one after the other.
    pub rates: [u32; 3],
    /// For how long something is measured.
    pub span: Duration,
    /// Sidecars at once.
    pub sidecars: usize,
    /// Organizations that they share.
    pub organizations: usize,
}

const FULL: Scale = Scale { rates: [10, 100, 1_000], span: Duration::from_secs(10), sidecars: 500, organizations: 100 };
const SMALL: Scale = Scale { rates: [10, 20, 40], span: Duration::from_millis(300), sidecars: 5, organizations: 5 };

fn main() {
    let scale = if std::env::args().any(|argument| argument == "--test") { SMALL } else { FULL };
    let folder = tempfile::tempdir().unwrap();
    let sqlite = |name: &str| format!("sqlite://{}/{name}.db", folder.path().display());
    propagation::measure(&sqlite("propagation"), scale);
    fan_out::measure(&sqlite("fan-out"), scale);
}
