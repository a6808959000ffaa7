//! What keeps the facts coming, by where they come from.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use crate::config::{Facts, Origin, Store};
use crate::domain::{Clock, OrganizationId, UnixSeconds};
use crate::live::{Orders, World};
use crate::source::workos::{Ended, HostedError};
use crate::source::{Check, FeedClient, FileSource, Source, WorkosSource};
use crate::sync::feed::Feed;
use crate::sync::persist;
use crate::sync::{Loop, Refresher, Settings, Ttl};
use crate::telemetry::Metrics;
use crate::wire::{Holder, Revocation, RevocationKind};

/// How long a request waits for an organization that takes many questions to read.
pub(super) const LOAD_WAIT: Duration = Duration::from_secs(2);

/// A source, about to be pulled from.
pub(super) enum Feeding {
    File(FileSource),
    Store(Store),
    Workos { source: Arc<WorkosSource>, ttl: Ttl, events: Option<Duration> },
}

/// What keeps the facts coming.
pub(super) enum Upkept {
    /// The loop, and the refresher beside it where there has to be one.
    Pulled { facts: Loop, orders: Orders, refresher: Option<Box<Refresher>> },
    /// The follower of a store's feed. Its client is made where it runs.
    Followed { follow: Follow, orders: Orders, released: UnboundedReceiver<OrganizationId> },
}

/// What a follower is made of.
pub(super) struct Follow {
    store: Store,
    world: Arc<World>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
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
            Origin::Store(store) => Some(Self::Store(store.clone())),
            Origin::Workos(workos) => {
                let source = WorkosSource::new(workos.server.clone(), Arc::clone(clock), Arc::clone(metrics))?;
                Some(Self::Workos { source: Arc::new(source), ttl: workos.ttl, events: workos.events })
            }
        })
    }

    /// Whom the gate may ask for single permissions.
    pub(super) fn check(&self) -> Option<Arc<dyn Check>> {
        match self {
            Self::File(_) | Self::Store(_) => None,
            Self::Workos { source, .. } => Some(Arc::<WorkosSource>::clone(source)),
        }
    }

    pub(super) fn begin(
        self,
        world: &Arc<World>,
        clock: &Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
        orders: Orders,
        released: UnboundedReceiver<OrganizationId>,
    ) -> Upkept {
        let facts = |source: Arc<dyn Source>, settings| Loop {
            world: Arc::clone(world),
            source,
            clock: Arc::clone(clock),
            metrics: Arc::clone(metrics),
            settings,
        };
        match self {
            Self::File(source) => {
                Upkept::Pulled { facts: facts(Arc::new(source), Settings::LOCAL), orders, refresher: None }
            }
            Self::Store(store) => {
                // Revocations ride the same stream.
                world.revocations().follow_world();
                let (world, clock, metrics) = (Arc::clone(world), Arc::clone(clock), Arc::clone(metrics));
                Upkept::Followed { follow: Follow { store, world, clock, metrics }, orders, released }
            }
            Self::Workos { source, ttl, events } => {
                let settings = Settings { interval: ttl.min, ..Settings::REMOTE };
                let facts = facts(Arc::<WorkosSource>::clone(&source), settings);
                let (list, told) = (Arc::clone(world), Arc::clone(clock));
                let on_end = Box::new(move |ended: &Ended, at: &str| {
                    list.revocations().add([revocation(ended, at, told.now())])
                });
                let refresher = Refresher { facts: facts.clone(), source, ttl, events, on_end };
                Upkept::Pulled { facts, orders, refresher: Some(Box::new(refresher)) }
            }
        }
    }
}

/// What ended at `at` (RFC 3339; now, when that cannot be read) refuses every token issued until then.
fn revocation(ended: &Ended, at: &str, now: UnixSeconds) -> Revocation {
    let (kind, id, holder) = match ended {
        Ended::Session(id) => (RevocationKind::Session, id.as_str(), None),
        Ended::Membership { id, holder } => (RevocationKind::Membership, id.as_str(), holder.as_ref()),
        Ended::User(id) => (RevocationKind::User, id.as_str(), None),
        Ended::Organization(id) => (RevocationKind::Organization, id.as_str(), None),
    };
    let since = humantime::parse_rfc3339(at).ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let not_before = since.and_then(|since| i64::try_from(since.as_secs()).ok()).map_or(now, UnixSeconds);
    let holder = holder
        .map(|(user, organization)| Holder { user: user.as_str().into(), organization: organization.as_str().into() });
    let kept = i64::try_from(Revocation::KEPT.as_secs()).unwrap_or(i64::MAX);
    Revocation { kind, id: id.into(), not_before, expires: not_before.plus(kept), holder }
}

impl Upkept {
    /// Runs until `shutdown` says `true` or is dropped.
    pub(super) async fn run(self, mut shutdown: watch::Receiver<bool>) {
        match self {
            Self::Pulled { facts, orders, refresher } => {
                let beside = async {
                    match refresher {
                        Some(refresher) => refresher.run(shutdown.clone()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = facts.run(orders, shutdown.clone()) => {}
                    () = beside => {}
                }
            }
            Self::Followed { follow: Follow { store, world, clock, metrics }, orders, released } => {
                let client = match FeedClient::new(&store.feed) {
                    Ok(client) => client,
                    Err(error) => {
                        tracing::error!(%error, "the store cannot be followed: decisions that need facts are refused");
                        _ = shutdown.wait_for(|stop| *stop).await;
                        return;
                    }
                };
                let (everything, key, url) = (store.everything, store.feed.key, store.feed.url.to_string());
                let persist = store.persist.map(|folder| persist::Settings { folder, key, store: url });
                Feed { world, client, clock, metrics, everything, persist }.run(orders, released, shutdown).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::IssuerSettings;

    #[test]
    fn what_ended_is_remembered_until_the_last_token_of_a_day_has_ended() {
        let (ended, now) = (Ended::Session("session_1".parse().unwrap()), UnixSeconds(1_000_000));
        let rows = [("1970-01-10T12:00:00.500Z", 820_800_i64), ("nonsense", now.0)];
        for (at, not_before) in rows {
            let entry = revocation(&ended, at, now);
            assert_eq!((entry.kind, &*entry.id), (RevocationKind::Session, "session_1"));
            assert_eq!(entry.not_before.0, not_before, "{at}");
            let longest = Revocation::LONGEST_LIFETIME + IssuerSettings::MOST_LEEWAY;
            assert_eq!(entry.expires.since(entry.not_before), i64::try_from(longest.as_secs()).unwrap());
        }
    }
}
