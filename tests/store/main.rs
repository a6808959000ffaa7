//! The store as its clients see it: one module for each noun, each test on every engine that is installed.
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

mod access_log;
mod assignments;
mod audit;
mod bad_input;
mod checks;
mod commands;
mod concurrency;
mod configuration;
mod crash;
mod database_faults;
mod events;
mod group_assignments;
mod groups;
mod identity_provider;
mod issuer;
mod lists;
mod memberships;
mod model;
mod organizations;
mod permissions;
mod plan;
mod resources;
mod roles;
mod sdk;
mod sessions;
mod signing_keys;
mod support;
mod table;
mod tls;
mod users;
