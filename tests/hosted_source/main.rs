//! A sidecar whose facts come through the WorkOS API alone, with our own store as the server, and in between a proxy that counts, changes
//! and withholds answers.

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
#![allow(clippy::duplicate_mod, reason = "the sidecar and the store are tested together here, each with its helpers")]

#[path = "../store/support/mod.rs"]
mod api;
mod between;
mod equality;
mod faults;
mod freshness;
mod site;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod verify;
