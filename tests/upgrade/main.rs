//! Beginnings and ends of the program itself, under load: a stop that fails no request, and one process that takes the place of another
//! without a refused connection (`PORTCULLIS_UPGRADES` times; once unless set).

#![allow(dead_code, reason = "what is shared with other tests is not used as a whole")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and is told by the environment how long to go on"
)]

#[path = "../support/canary.rs"]
mod canary;
mod handover;
mod listeners;
mod load;
mod process;
mod stop;
#[path = "../support/tokens.rs"]
mod tokens;
