//! The sync feed, both sides of it: a real store on a real socket, and a sidecar's world that follows it; on SQLite, and on PostgreSQL
//! where it is installed.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::wrong_self_convention,
    clippy::zombie_processes,
    reason = "a test fails by panicking, says what it skipped, and ends with its process"
)]

mod busy;
#[path = "../support/client.rs"]
#[allow(dead_code, reason = "each test file uses its part")]
mod client;
mod company;
mod faults;
mod follow;
mod former;
mod histories;
mod line;
mod loads;
mod lookups;
mod persist;
mod prefixes;
mod process;
mod script;
mod scripted;
mod sidecar;
#[path = "../store/support/mod.rs"]
mod support;
mod tls;

use support::canary;
