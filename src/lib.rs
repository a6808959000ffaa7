//! Portcullis: an authorization sidecar. A reverse proxy that verifies who is calling, decides whether they may, and forwards exactly
//! the bytes it judged.
//!
//! The map, from the ground up; a module imports from lower floors only (`tests/architecture.rs`):
//!
//! | floor | module | what lives there |
//! |---|---|---|
//! | 0 ground | [`domain`] | words and the decision: pure, no I/O, no clock |
//! | 0 ground | [`files`] | files that are looked at again, and files with secrets |
//! | 0 ground | [`socket`] | what is listened on, and pages of our own served there |
//! | 0 ground | [`yaml`] | YAML with places: every problem knows its file, line and column |
//! | 1 speech | [`rules`] | YAML route rules: text in, route table out |
//! | 1 speech | [`wire`] | the shapes of models and facts as others write them |
//! | 1 speech | [`telemetry`] | every metric series, the decision log, logging set-up |
//! | 2 engines | [`token`] | `Bearer …` to a verified principal |
//! | 2 engines | [`source`] | where facts come from |
//! | 2 engines | [`live`] | the world in force: catalog and organizations |
//! | 3 rooms | [`gate`] | one request in, one verdict out; knows no HTTP server |
//! | 3 rooms | [`sync`] | the loop that keeps the world fresh |
//! | 4 doors | [`proxy`] | the reverse proxy, on Pingora |
//! | 4 doors | [`store`] | the WorkOS authorization API, on SQLite or PostgreSQL |
//! | 4 doors | [`admin`] | live, ready, metrics, explain, world |
//! | 5 settings | [`config`] | the only reader of configuration |
//! | 6 wiring | [`app`] | builds every part once, runs, drains, shuts down |
//! | 7 door plate | [`cli`] | one file per command |

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod domain;
pub mod files;
pub mod gate;
pub mod live;
pub mod proxy;
pub mod rules;
pub mod socket;
pub mod source;
pub mod store;
pub mod sync;
pub mod telemetry;
pub mod token;
pub mod wire;
pub mod yaml;
