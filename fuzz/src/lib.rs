//! The targets of `tests/fuzz`, for cargo-fuzz.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a target fails by panicking")]

#[path = "../../tests/fuzz/targets/mod.rs"]
mod targets;

pub use targets::*;
