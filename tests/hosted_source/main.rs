//! A sidecar whose facts come through the WorkOS API alone, with our own store as the server, and in between a proxy that counts, changes
//! and withholds answers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    clippy::wrong_self_convention,
    clippy::zombie_processes,
    reason = "the stores' support reads like its tests"
)]

#[path = "../store/support/mod.rs"]
mod api;
mod between;
mod equality;
mod faults;
mod freshness;
mod site;
#[path = "../support/mod.rs"]
mod support;
mod verify;
