//! The new process of the two in [`super::takeover`]: gets ready without sockets, and gets them from the old one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::time::{sleep, timeout};

use super::sockets::{Held, Wanted};
use super::stopping::Stop;
use super::takeover::{TakeoverError, take_over};
use crate::admin::Admin;
use crate::config::Upgrade;
use crate::telemetry::{Metrics, UpgradeResult};

/// The time between two looks whether keys and facts are there.
const LOOK: Duration = Duration::from_millis(50);

/// Why this process did not take the place of another, once that is known.
#[derive(Clone, Default)]
pub struct Failure(Arc<Mutex<Option<TakeoverError>>>);

impl Failure {
    /// The reason; `None` when there is none.
    pub fn take(&self) -> Option<TakeoverError> {
        self.0.lock().take()
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failure").field(&*self.0.lock()).finish()
    }
}

/// Who waits until it can take the place of another process.
pub(super) struct Successor {
    pub(super) upgrade: Upgrade,
    pub(super) pages: Arc<Admin>,
    pub(super) wanted: Mutex<Option<Wanted>>,
    pub(super) held: Arc<Held>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: Stop,
    pub(super) failure: Failure,
}

#[async_trait]
impl BackgroundService for Successor {
    async fn start(&self, _: ShutdownWatch) {
        let Some(wanted) = self.wanted.lock().take() else { return };
        match self.succeed(wanted).await {
            Ok(()) => self.metrics.upgraded(UpgradeResult::TakenOver),
            Err(error) => {
                *self.failure.0.lock() = Some(error);
                self.stop.now();
            }
        }
    }
}

impl Successor {
    async fn succeed(&self, wanted: Wanted) -> Result<(), TakeoverError> {
        let within = self.upgrade.timeout;
        let ready = async {
            while !self.pages.missing().is_empty() {
                sleep(LOOK).await;
            }
        };
        if timeout(within, ready).await.is_err() {
            let missing: Vec<String> = self.pages.missing().iter().map(ToString::to_string).collect();
            return Err(TakeoverError::Unready { within, missing: missing.join(", ") });
        }
        take_over(&self.upgrade, |sockets| {
            let inherited = sockets.len();
            let addresses = wanted.bring(sockets, &self.held)?;
            for address in &addresses {
                tracing::info!(%address, "listening");
            }
            tracing::info!(sockets = addresses.len(), inherited, "took over");
            Ok(())
        })
        .await
    }
}
