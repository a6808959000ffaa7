//! As much of a sidecar as follows a store.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portcullis::app::SystemClock;
use portcullis::domain::{Clock, OrganizationId, ResourceRef, Revision};
use portcullis::live::{LoadError, Lookup, Settings, World};
use portcullis::source::{FeedClient, FeedSettings};
use portcullis::sync::feed::Feed;
use portcullis::sync::persist;
use portcullis::telemetry::{Build, Metrics};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::support::canary;

/// The sync key of tests, for all organizations.
pub const SYNC_KEY: &str = "sync_canary-4711";

/// A world that follows a store.
pub struct Sidecar {
    pub world: Arc<World>,
    pub metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Sidecar {
    /// Follows the store at this address, with what its requests ask for in memory.
    pub fn start(store: SocketAddr) -> Self {
        Self::start_with(store, SYNC_KEY, false, Settings::default())
    }

    pub fn start_with(store: SocketAddr, key: &str, everything: bool, settings: Settings) -> Self {
        Self::start_as(store, key, everything, settings, Arc::new(SystemClock), None)
    }

    /// A sidecar with a clock of its own, which keeps its facts in a folder.
    pub fn start_as(
        store: SocketAddr,
        key: &str,
        everything: bool,
        settings: Settings,
        clock: Arc<dyn Clock>,
        folder: Option<&Path>,
    ) -> Self {
        let persist = folder.map(|folder| Self::kept_in(folder, key, "http://store.test"));
        Self::start_keeping(store, key, everything, settings, clock, persist)
    }

    /// Facts on disk, of the store that is known by this URL, wherever it can be reached.
    pub fn kept_in(folder: &Path, key: &str, url: &str) -> persist::Settings {
        persist::Settings { folder: folder.to_owned(), key: key.to_owned(), store: url.to_owned() }
    }

    pub fn start_keeping(
        store: SocketAddr,
        key: &str,
        everything: bool,
        settings: Settings,
        clock: Arc<dyn Clock>,
        persist: Option<persist::Settings>,
    ) -> Self {
        let url = format!("http://{store}").parse().unwrap();
        let source = FeedSettings { url, key: key.to_owned(), ca: None };
        Self::start_from(&source, everything, settings, clock, persist)
    }

    /// Follows this store.
    pub fn start_from(
        source: &FeedSettings,
        everything: bool,
        settings: Settings,
        clock: Arc<dyn Clock>,
        persist: Option<persist::Settings>,
    ) -> Self {
        canary::is_not_in("the debug output of settings", format!("{source:?}"));
        let metrics = Arc::new(Metrics::new(Build { version: "test", revision: "" }).unwrap());
        let (release, released) = mpsc::unbounded_channel();
        let on_release = Box::new(move |organization: &OrganizationId| _ = release.send(organization.clone()));
        let (world, orders) = World::new(settings, Arc::clone(&clock), Arc::clone(&metrics), on_release);
        let world = Arc::new(world);
        let client = FeedClient::new(source).unwrap();
        world.revocations().follow_world();
        let kept = Arc::clone(&clock);
        let feed =
            Feed { world: Arc::clone(&world), client, clock, metrics: Arc::clone(&metrics), everything, persist };
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(feed.run(orders, released, stopped));
        Self { world, metrics, clock: kept, stop, task }
    }

    /// Ends as a process that is killed: without a last word.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
        canary::is_not_in("the metrics", self.metrics.render());
        canary::is_not_in("the log", canary::new_events());
    }

    /// What a request would be answered with: `None` while there is nothing to decide on.
    pub async fn may(&self, organization: &str, membership: &str, permission: &str, resource: &str) -> Option<bool> {
        let organization: OrganizationId = organization.parse().unwrap();
        if !self.world.is_resident(&organization) {
            self.load(&organization).await.ok()?;
        }
        let Lookup::Ready(view) = self.world.view(&organization) else { return None };
        let Some(shard) = view.shard() else { return Some(false) };
        let resource = ResourceRef::Id(resource.into());
        Some(shard.check(view.catalog(), &membership.parse().unwrap(), &permission.parse().unwrap(), &resource))
    }

    /// Waits longer than a request does: the machine may be busy.
    async fn load(&self, organization: &OrganizationId) -> Result<(), LoadError> {
        let mut loaded = self.world.load(organization).await;
        for _ in 0..8 {
            if loaded != Err(LoadError::TimedOut) {
                break;
            }
            loaded = self.world.load(organization).await;
        }
        loaded
    }

    /// Waits until facts at least this new are in force.
    pub async fn reaches(&self, seq: u64) {
        self.until(|revision| revision.is_some_and(|revision| revision.seq >= seq)).await;
    }

    /// Waits until the revision in force is as wanted.
    pub async fn until(&self, wanted: impl Fn(Option<Revision>) -> bool) {
        let mut changes = self.world.changes();
        let reached = async {
            while !wanted(self.world.revision()) {
                // Looked at again and again: what is in force may change before we listen.
                let _ = tokio::time::timeout(Duration::from_millis(20), changes.changed()).await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
        assert!(reached.is_ok(), "still at {:?}", self.world.revision());
    }

    /// The age of what is in force; `None` before the first proof.
    pub fn age(&self) -> Option<Duration> {
        self.world.freshness(self.clock.uptime()).age
    }

    /// The time of its clock.
    pub fn uptime(&self) -> Duration {
        self.clock.uptime()
    }

    /// How often following the store was interrupted for this reason.
    pub fn interruptions(&self, reason: &str) -> u64 {
        let series = format!("portcullis_facts_interruptions_total{{reason=\"{reason}\"}} ");
        let text = self.metrics.render();
        let value = text.lines().find_map(|line| line.strip_prefix(&series));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Waits until something proved that what is in force is the newest there is.
    pub async fn is_fresh(&self) {
        eventually(async || self.age().is_some_and(|age| age < Duration::from_secs(2))).await;
    }

    /// How often facts went astray; must stay 0.
    pub fn divergence(&self) -> u64 {
        self.metrics.facts_divergence.get()
    }
}

/// Waits until something holds.
pub async fn eventually(holds: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "it does not come to hold");
}
