//! What the store costs, over HTTP, as its clients see it: checks at a fixed rate, roles for groups of any size, writes by one and by many.
//!
//! `cargo bench --bench store` measures; with `-- --test` every part runs once on a small scale. PostgreSQL is measured where it is installed.
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

mod checks;
mod company;
mod groups;
#[path = "../../tests/store/support/postgres.rs"]
mod postgres;
mod statistics;
mod target;
mod writes;

use std::time::Duration;

/// How large everything is.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Assignments in one organization.
    pub assignments: [usize; 2],
    /// Members of a group.
    pub members: [usize; 3],
    /// For how long something is measured.
    pub span: Duration,
    /// Checks per second.
    pub rate: u32,
}

const FULL: Scale = Scale {
    assignments: [1_000, 1_000_000],
    members: [10, 10_000, 100_000],
    span: Duration::from_secs(5),
    rate: 2_000,
};
const SMALL: Scale =
    Scale { assignments: [100, 1_000], members: [1, 10, 100], span: Duration::from_millis(200), rate: 500 };

fn main() {
    let scale = if std::env::args().any(|argument| argument == "--test") { SMALL } else { FULL };
    let folder = tempfile::tempdir().unwrap();
    let sqlite = |name: &str| format!("sqlite://{}/{name}.db", folder.path().display());
    println!("an fsync of 4 KiB in that folder: {:.0} per second", statistics::fsyncs(folder.path(), scale.span / 4));
    for assignments in scale.assignments {
        checks::measure(&sqlite(&format!("checks-{assignments}")), assignments, scale);
    }
    for members in scale.members {
        groups::measure(&sqlite(&format!("groups-{members}")), members, scale);
    }
    writes::measure("SQLite", &sqlite("writes"), scale);
    match postgres::database() {
        Some(database) => writes::measure("PostgreSQL", &database, scale),
        None => eprintln!("skipped: PostgreSQL is not installed"),
    }
}
