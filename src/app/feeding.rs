//! What keeps the facts coming, by where they come from.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::{Facts, Origin};
use crate::domain::Clock;
use crate::live::{Orders, World};
use crate::source::workos::HostedError;
use crate::source::{Check, FileSource, Source, WorkosSource};
use crate::sync::{Loop, Refresher, Settings, Ttl};
use crate::telemetry::Metrics;

/// How long a request waits for an organization that takes many questions to read.
pub(super) const LOAD_WAIT: Duration = Duration::from_secs(2);

/// A source, about to be pulled from.
pub(super) enum Feeding {
    File(FileSource),
    Workos { source: Arc<WorkosSource>, ttl: Ttl, events: Option<Duration> },
}

/// The loop, and the refresher beside it where there has to be one.
pub(super) struct Upkept {
    facts: Loop,
    orders: Orders,
    refresher: Option<Refresher>,
}

impl Feeding {
    /// The source that `facts` asks for; `None` where there are no facts.
    pub(super) fn of(
        facts: &Facts,
        clock: &Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
    ) -> Result<Option<Self>, HostedError> {
        Ok(match &facts.origin {
            Origin::Nowhere => None,
            Origin::File(file) => Some(Self::File(FileSource::new(file.clone()))),
            Origin::Workos(workos) => {
                let source = WorkosSource::new(workos.server.clone(), Arc::clone(clock), Arc::clone(metrics))?;
                Some(Self::Workos { source: Arc::new(source), ttl: workos.ttl, events: workos.events })
            }
        })
    }

    /// Whom the gate may ask for single permissions.
    pub(super) fn check(&self) -> Option<Arc<dyn Check>> {
        match self {
            Self::File(_) => None,
            Self::Workos { source, .. } => Some(Arc::<WorkosSource>::clone(source)),
        }
    }

    pub(super) fn begin(
        self,
        world: &Arc<World>,
        clock: &Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
        orders: Orders,
    ) -> Upkept {
        let facts = |source: Arc<dyn Source>, settings| Loop {
            world: Arc::clone(world),
            source,
            clock: Arc::clone(clock),
            metrics: Arc::clone(metrics),
            settings,
        };
        match self {
            Self::File(source) => Upkept { facts: facts(Arc::new(source), Settings::LOCAL), orders, refresher: None },
            Self::Workos { source, ttl, events } => {
                let settings = Settings { interval: ttl.min, ..Settings::REMOTE };
                let facts = facts(Arc::<WorkosSource>::clone(&source), settings);
                // Revocations are to be heard of here.
                let on_end = Box::new(|_: &_, _: &str| {});
                let refresher = Refresher { facts: facts.clone(), source, ttl, events, on_end };
                Upkept { facts, orders, refresher: Some(refresher) }
            }
        }
    }
}

impl Upkept {
    /// Runs until `shutdown` says `true` or is dropped.
    pub(super) async fn run(self, shutdown: watch::Receiver<bool>) {
        let beside = async {
            match self.refresher {
                Some(refresher) => refresher.run(shutdown.clone()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.facts.run(self.orders, shutdown.clone()) => {}
            () = beside => {}
        }
    }
}
