//! How far it goes: organizations in memory, checks beside a writer, thousands of sidecars on one store, changes under request load, cold
//! starts.
//!
//! `cargo bench --bench scale` measures all of it, `-- memory storm` only these; with `--test` every part runs once on a small scale. Stores
//! and sidecars are processes here, on the same machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::zombie_processes,
    clippy::panic,
    missing_docs,
    dead_code,
    reason = "a bench fails by panicking"
)]

#[path = "../company/mod.rs"]
mod company;
mod fan;
mod memory;
mod process;
#[path = "../sync/sidecar.rs"]
mod sidecar;
#[path = "../store/statistics.rs"]
mod statistics;
mod storm;
#[path = "../store/target.rs"]
mod target;
mod whole;
mod writer;

use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How large everything is.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Large organizations, and assignments of each.
    pub large: (usize, usize),
    /// Usual organizations, and assignments of each.
    pub usual: (usize, usize),
    /// Sidecars of one store: processes, and sidecars of each.
    pub sidecars: (usize, usize),
    /// Sidecars that are handed changes, and the organizations they have, one each.
    pub followers: (usize, usize),
    /// For how long something is measured.
    pub span: Duration,
    /// Changes per second.
    pub rates: [u32; 3],
}

const FULL: Scale = Scale {
    large: (25, 2_000_000),
    usual: (1_000, 500),
    // Two connections each: the store of a machine that allows 20,000 descriptors has room for no more.
    sidecars: (2, 4_900),
    followers: (500, 100),
    span: Duration::from_secs(10),
    rates: [10, 100, 1_000],
};
const SMALL: Scale = Scale {
    large: (2, 5_000),
    usual: (10, 500),
    sidecars: (2, 10),
    followers: (10, 5),
    span: Duration::from_millis(500),
    rates: [10, 20, 40],
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(place) = arguments.iter().position(|argument| argument == "--subscribe") {
        return storm::subscribe(&arguments[place + 1], arguments[place + 2].parse().unwrap());
    }
    let scale = if arguments.iter().any(|argument| argument == "--test") { SMALL } else { FULL };
    let named = |part: &str| {
        arguments.iter().all(|argument| argument.starts_with("--")) || arguments.iter().any(|argument| argument == part)
    };
    if named("memory") {
        memory::measure(scale);
    }
    if named("writer") {
        writer::measure(scale);
    }
    if named("fan") {
        fan::measure(scale);
    }
    if named("load") {
        whole::under_load(scale);
    }
    if named("cold") {
        whole::cold_starts();
    }
    if named("storm") {
        storm::measure(scale);
    }
}
