//! What goes on beside the requests: facts, keys, and signals and files that ask for a reload. Each is a task of its own, and none takes
//! the others with it: one that panics is begun anew.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;

use super::feeding::Upkept;
use super::reload::Reloader;

/// The time between a panic and the next beginning.
const PAUSE: Duration = Duration::from_secs(1);

/// The time between two looks at the files of the configuration.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Keys, facts and reloads.
pub(super) struct Upkeep {
    /// And what tells them to end.
    facts: Mutex<Option<(Upkept, watch::Receiver<bool>)>>,
    reloader: Arc<Reloader>,
}

impl Upkeep {
    pub(super) fn new(facts: Option<(Upkept, watch::Receiver<bool>)>, reloader: Arc<Reloader>) -> Self {
        Self { facts: Mutex::new(facts), reloader }
    }
}

#[async_trait]
impl BackgroundService for Upkeep {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut tasks = JoinSet::new();
        if let Some((facts, end)) = self.facts.lock().take() {
            // What follows the facts restarts by itself: it has what nobody else has, such as the orders.
            tasks.spawn(facts.run(end));
        }
        let (reloader, stop) = (Arc::clone(&self.reloader), shutdown.clone());
        tasks.spawn(restarted("keys", move || {
            let (reloader, stop) = (Arc::clone(&reloader), stop.clone());
            async move { reloader.keep_keys_fresh(stop).await }
        }));
        let reloader = Arc::clone(&self.reloader);
        tasks.spawn(restarted("watch", move || {
            let reloader = Arc::clone(&reloader);
            async move {
                loop {
                    sleep(BETWEEN_LOOKS).await;
                    let reloader = Arc::clone(&reloader);
                    let _ = spawn_blocking(move || reloader.look()).await;
                }
            }
        }));
        let reloader = Arc::clone(&self.reloader);
        tasks.spawn(restarted("reloads", move || {
            let reloader = Arc::clone(&reloader);
            async move {
                let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
                while hangup.recv().await.is_some() {
                    // What is wrong is in the log.
                    let reloader = Arc::clone(&reloader);
                    let _ = spawn_blocking(move || reloader.reload()).await;
                }
            }
        }));
        let all_ended = async { while tasks.join_next().await.is_some() {} };
        tokio::select! {
            () = all_ended => {}
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
    }
}

/// Runs what `begin` makes to its end, from the beginning after each panic.
pub(super) async fn restarted<F: Future<Output = ()> + Send + 'static>(what: &'static str, begin: impl Fn() -> F) {
    loop {
        let mut task = JoinSet::new();
        task.spawn(begin());
        match task.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                tracing::error!(what, "a panic, which is a fault of ours: it is begun anew");
                sleep(PAUSE).await;
            }
            Some(_) | None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_panics_is_begun_anew_until_it_ends() {
        let begun = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&begun);
        let panics_twice = move || {
            let number = seen.fetch_add(1, Ordering::SeqCst);
            async move { assert!(number > 1, "for a test") }
        };
        restarted("test", panics_twice).await;
        assert_eq!(begun.load(Ordering::SeqCst), 3);
    }
}
