//! Clients that ask for too much, in every way that costs them little: each guard refuses them, memory stays bounded, and whoever behaves
//! is served meanwhile (faults and invariants, rows 31 to 37 and 67, 68).
//!
//! Where memory or descriptors matter the program itself runs, as a process of its own.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod admission;
mod bodies;
mod busy;
mod heads;
mod http2;
mod idle;
mod memory;
mod process;
#[path = "../support/mod.rs"]
mod support;

/// Something for everybody, and something behind a token.
pub const ROUTES: &str = r#"
- {id: open, match: {path: /open}, public: true}
- {id: small, match: {path: /small}, public: true, max_body: 1KiB}
- {id: any, match: {path: /any}, public: true, max_body: 0B}
- {id: me, match: {path: /me}, authenticated: true}
- {id: project, match: {path: "/projects/{project}"}, require: "project:view", resource: {type: project, id: "{path.project}"}}
"#;

/// Bytes of a MiB.
pub const MIB: u64 = 1 << 20;
