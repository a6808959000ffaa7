//! The end of a sidecar: who asks for it, and what is waited for.
//!
//! ```text
//! SIGQUIT -> another process takes over, or nothing happens
//! asked   -> nobody is accepted any more, /ready says so
//!            each answer is the last one of its connection: `connection: close`, GOAWAY
//!         -> after `lame_duck`: connections without a request are closed
//!         -> when the last connection has ended, at most `shutdown_timeout` after it was asked: the facts are written
//!         -> the end
//! ```

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::sockets::Held;
use super::takeover;
use crate::config::Upgrade;
use crate::proxy::connection::OpenConnections;
use crate::sync::describe;
use crate::telemetry::{Metrics, UpgradeResult};

/// The longest that the end waits for facts to be written to disk.
const LAST_WRITE: Duration = Duration::from_secs(10);

/// The time between two looks for connections that wait for a request.
const LOOK: Duration = Duration::from_millis(100);

/// Stops a running sidecar from elsewhere in the process.
#[derive(Debug, Clone)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets requests in flight finish, then ends.
    pub fn now(&self) {
        self.0.send_replace(true);
    }

    /// Hears of it.
    pub(super) fn subscribe(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }
}

/// What Pingora waits for: a reason to stop or a successor, and then the end of the last request, and of what keeps the facts.
pub(super) struct Drain {
    pub(super) stop: Stop,
    pub(super) upgrade: Option<Upgrade>,
    pub(super) held: Arc<Held>,
    pub(super) handed_over: watch::Sender<bool>,
    pub(super) stopping: watch::Sender<bool>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) open: Arc<OpenConnections>,
    pub(super) lame_duck: Duration,
    pub(super) timeout: Duration,
    pub(super) end: watch::Sender<bool>,
}

#[async_trait]
impl ShutdownSignalWatch for Drain {
    async fn recv(&self) -> ShutdownSignal {
        self.told_to_stop().await;
        // Whoever asks is answered by the other process from here on, which is ready.
        self.stopping.send_replace(!*self.handed_over.borrow());
        self.held.drop_all();
        self.stop.now();
        tracing::info!(connections = self.open.count(), "stopping: requests in flight may finish");
        tokio::select! {
            () = self.open.all_closed() => {}
            () = self.close_idle_ones() => {}
            () = tokio::time::sleep(self.timeout) => {
                tracing::warn!(connections = self.open.count(), "stopping with connections open");
            }
            () = interrupted() => tracing::warn!("stopping at once"),
        }
        // Whatever decides on them is over. Whoever keeps them holds a receiver until they are on disk.
        self.end.send_replace(true);
        tokio::select! {
            () = self.end.closed() => {}
            () = tokio::time::sleep(LAST_WRITE) => tracing::warn!("stopping before the facts are on disk"),
            () = interrupted() => tracing::warn!("stopping at once"),
        }
        ShutdownSignal::FastShutdown
    }
}

impl Drain {
    /// Until it is asked to stop, or another process has taken over.
    async fn told_to_stop(&self) {
        let (mut stop, mut interruption) = (self.stop.subscribe(), Interruption::expected());
        let told = async {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = &mut interruption => {}
            }
        };
        tokio::select! {
            () = told => {}
            () = self.succeeded() => {}
        }
    }

    /// Hands over at each SIGQUIT, until that has gone well. Heard in any case: by itself it ends a process, and writes down its memory.
    async fn succeeded(&self) {
        let Ok(mut quit) = signal(SignalKind::quit()) else { return pending().await };
        while quit.recv().await.is_some() {
            if self.hand_over().await {
                return;
            }
        }
        pending().await
    }

    async fn hand_over(&self) -> bool {
        let Some(upgrade) = &self.upgrade else {
            tracing::warn!("SIGQUIT is ignored: there is no `upgrade` in the configuration");
            return false;
        };
        let sockets = self.held.sockets();
        if sockets.is_empty() {
            tracing::warn!("SIGQUIT is ignored: there are no sockets to hand over yet");
            return false;
        }
        tracing::info!(socket = %upgrade.socket.display(), "handing over to the process that waits there");
        match takeover::hand_over(upgrade, &sockets).await {
            Ok(()) => {
                self.metrics.upgraded(UpgradeResult::HandedOver);
                self.handed_over.send_replace(true);
                tracing::info!(sockets = sockets.len(), "handed over: the other process accepts connections");
                true
            }
            Err(error) => {
                self.metrics.upgraded(UpgradeResult::Failed);
                let error = describe(&error);
                tracing::error!(error, "nothing was handed over: this process goes on");
                false
            }
        }
    }

    /// Has those go that have waited for a request for a while, since it was asked to stop or since their last one. Is never over.
    async fn close_idle_ones(&self) {
        tokio::time::sleep(self.lame_duck).await;
        loop {
            self.open.let_go(self.lame_duck);
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// SIGTERM or Ctrl-C; never, where signals cannot be had.
async fn interrupted() {
    Interruption::expected().await;
}

/// SIGTERM and Ctrl-C, heard from the moment this is made.
pub(super) struct Interruption(Option<(Signal, Signal)>);

impl Interruption {
    pub(super) fn expected() -> Self {
        Self(
            signal(SignalKind::terminate())
                .and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)))
                .ok(),
        )
    }
}

impl Future for Interruption {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some((terminate, interrupt)) = &mut self.0 else { return Poll::Pending };
        match (terminate.poll_recv(context), interrupt.poll_recv(context)) {
            (Poll::Pending, Poll::Pending) => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }
}
