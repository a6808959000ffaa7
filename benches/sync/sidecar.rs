//! As much of a sidecar as follows a store.

use std::net::SocketAddr;
use std::sync::Arc;

use portcullis::app::SystemClock;
use portcullis::domain::{Clock, OrganizationId};
use portcullis::live::{Settings, World};
use portcullis::source::{FeedClient, FeedSettings};
use portcullis::sync::feed::Feed;
use portcullis::telemetry::{Build, Metrics};
use tokio::sync::{mpsc, watch};

/// A world that follows. Dropping it ends that.
pub struct Sidecar {
    pub world: Arc<World>,
    _stop: watch::Sender<bool>,
}

impl Sidecar {
    /// Follows the store at `address`, on the runtime at hand.
    pub fn start(address: SocketAddr) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Arc::new(Metrics::new(Build { version: "bench", revision: "" }).unwrap());
        let (release, released) = mpsc::unbounded_channel();
        let on_release = Box::new(move |organization: &OrganizationId| _ = release.send(organization.clone()));
        let (world, orders) = World::new(Settings::default(), Arc::clone(&clock), Arc::clone(&metrics), on_release);
        let world = Arc::new(world);
        let url = format!("http://{address}").parse().unwrap();
        let client = FeedClient::new(&FeedSettings { url, key: crate::target::SYNC_KEY.to_owned(), ca: None }).unwrap();
        let feed = Feed { world: Arc::clone(&world), client, clock, metrics, everything: false, persist: None };
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(feed.run(orders, released, stopped));
        Self { world, _stop: stop }
    }

    /// Waits until there are facts.
    pub async fn ready(&self) {
        while self.world.revision().is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Brings an organization into memory.
    pub async fn load(&self, organization: &str) {
        let organization: OrganizationId = organization.parse().unwrap();
        while self.world.load(&organization).await.is_err() {}
    }

    /// The number of the last transaction in force.
    pub fn seq(&self) -> u64 {
        self.world.revision().map_or(0, |revision| revision.seq)
    }
}
