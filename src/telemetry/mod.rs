//! Signs of life: every metric series, the decision log, logging set-up.
//!
//! Nothing here may hold up a request. Counters of the request path are resolved before the first request; lines are handed to one
//! writer thread through a bounded queue, and dropped and counted when it is full.

mod facts;
mod line;
mod load;
mod log;
mod meters;
mod metrics;
mod outcome;
mod setup;
mod sink;
mod store;
mod streams;
mod upgrades;

pub use facts::{FactsUpdate, Interruption, MinRevision, OrganizationLoad, SourceAnswer, UpdateResult};
pub use line::Format;
pub use load::LoadGauges;
pub use log::{DecisionLog, Entry, LogSettings};
pub use meters::{RouteMeter, RouteMeters, TokenCacheMeters};
pub use metrics::{Build, FactsGauges, Metrics, MetricsError, RefusedConnection};
pub use outcome::{Cut, Ground, Outcome};
pub use setup::{SetupError, count_panics, install};
pub use sink::Sink;
pub use store::StoreMetrics;
pub use streams::{RevocationGauges, StreamMeters};
pub use upgrades::UpgradeResult;
