//! The sync feed, both sides of it: a real store on a real socket, and a sidecar's world that follows it; on SQLite, and on PostgreSQL
//! where it is installed.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

mod company;
mod faults;
mod follow;
mod histories;
mod line;
mod loads;
mod lookups;
mod sidecar;
#[path = "../store/support/mod.rs"]
mod support;
