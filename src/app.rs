//! The wiring: builds every part once, in dependency order, runs them, drains, shuts down. The clock is read here and nowhere else.
//!
//! ```text
//! threads of Pingora's services:   proxy …   the request path, as many threads as configured
//!                                  facts     keys and facts, so that a flood of requests does not starve them
//!                                  status    live, ready, metrics, explain, world
//! stop:   a signal, or Stop::now -> listeners close -> requests in flight finish (at most `shutdown_timeout`) -> exit
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::background::{BackgroundService, GenBackgroundService};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::admin::{self, Admin};
use crate::config::{self, Sidecar};
use crate::domain::{Clock, UnixSeconds};
use crate::gate::Gate;
use crate::live::World;
use crate::proxy::connection::{ConnectionMeters, Entrance, OpenConnections};
use crate::proxy::listen::{BindError, Bound, Doorway, http_proxy};
use crate::proxy::upstream::Upstream;
use crate::proxy;
use crate::source::file::FileSource;
use crate::sync;
use crate::telemetry::{DecisionLog, Metrics, MetricsError, RefusedConnection, Sink};
use crate::token::{Cached, JwtVerifier, KeySets, Meters};

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
    fn now(&self) -> UnixSeconds {
        // A clock before 1970 is wrong; no token is valid then.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixSeconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    fn uptime(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
    }
}
