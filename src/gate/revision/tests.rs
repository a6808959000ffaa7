use std::sync::Arc;

use http::HeaderValue;

use super::*;
use crate::domain::record::CatalogRows;
use crate::domain::{Clock, Epoch, UnixSeconds};
use crate::live::Settings;
use crate::telemetry::Build;

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(0)
    }
    fn uptime(&self) -> Duration {
        Duration::ZERO
    }
}

fn revision(epoch: u64, seq: u64) -> Revision {
    Revision { epoch: Epoch(epoch), seq }
}

struct Setup {
    world: Arc<World>,
    waiters: Arc<Waiters>,
    metrics: Arc<Metrics>,
}

/// Facts of history 1 at number 5, proven.
fn setup() -> Setup {
    let metrics = Arc::new(Metrics::new(Build { version: "", revision: "" }).unwrap());
    let (world, _) = World::new(Settings::default(), Arc::new(Stopped), metrics.clone(), Box::new(|_| {}));
    world.install_catalog(revision(1, 5), &CatalogRows::default()).unwrap();
    world.prove(Duration::ZERO);
    Setup { world: Arc::new(world), waiters: Arc::default(), metrics }
}

impl Setup {
    async fn until(&self, wanted: Revision) -> Result<(), DenyReason> {
        self.waiters.until(&self.world, wanted, &self.metrics).await.map_err(|denial| denial.reason)
    }

    fn counted(&self, result: &str) -> bool {
        self.metrics.render().contains(&format!("portcullis_min_revision_total{{result=\"{result}\"}} 1"))
    }
}

#[test]
fn a_request_without_the_header_asks_for_nothing_and_one_with_two_for_nothing_sensible() {
    let mut headers = HeaderMap::new();
    assert_eq!(wanted(&headers), Ok(None));
    headers.append(MIN_REVISION, HeaderValue::from_static("r1.0000000000000001.7"));
    assert_eq!(wanted(&headers), Ok(Some(revision(1, 7))));
    headers.append(MIN_REVISION, HeaderValue::from_static("r1.0000000000000001.7"));
    assert_eq!(wanted(&headers).unwrap_err().reason, DenyReason::BadRevision);
    for bad in ["", "7", "r1.1.7", "r2.0000000000000001.7", "r1.0000000000000001.99999999999999999999"] {
        headers.insert(MIN_REVISION, HeaderValue::from_str(bad).unwrap());
        assert_eq!(wanted(&headers).unwrap_err().reason, DenyReason::BadRevision, "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_in_force_is_not_waited_for_and_what_cannot_be_is_refused() {
    let setup = setup();
    let begun = tokio::time::Instant::now();
    assert_eq!(setup.until(revision(1, 5)).await, Ok(()));
    assert_eq!(setup.until(revision(1, 1)).await, Ok(()));
    assert_eq!(setup.until(revision(1, 5 + FAR_FUTURE + 1)).await, Err(DenyReason::BadRevision));
    assert!(begun.elapsed().is_zero());
}

#[tokio::test(start_paused = true)]
async fn what_comes_into_force_in_time_is_waited_for() {
    let setup = setup();
    let change = async {
        for seq in 6..=8 {
            tokio::time::sleep(Duration::from_millis(40)).await;
            setup.world.pass(Epoch(1), seq).unwrap();
        }
    };
    let begun = tokio::time::Instant::now();
    let (waited, ()) = tokio::join!(setup.until(revision(1, 8)), change);
    assert_eq!(waited, Ok(()));
    assert_eq!(begun.elapsed().as_millis(), 120);
    assert!(setup.counted("waited"));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_in_time_is_unavailable() {
    let setup = setup();
    let begun = tokio::time::Instant::now();
    assert_eq!(setup.until(revision(1, 6)).await, Err(DenyReason::RevisionUnavailable));
    assert_eq!(begun.elapsed(), LONGEST_WAIT);
    assert!(setup.counted("unavailable"));
    assert_eq!(setup.waiters.0.load(Ordering::Relaxed), 0, "nobody waits any more");
}

#[tokio::test(start_paused = true)]
async fn a_bounded_number_waits() {
    let setup = Arc::new(setup());
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..MOST_WAITING {
        let setup = setup.clone();
        waiting.spawn(async move { setup.until(revision(1, 6)).await });
    }
    while setup.waiters.0.load(Ordering::Relaxed) < MOST_WAITING {
        tokio::task::yield_now().await;
    }
    let begun = tokio::time::Instant::now();
    assert_eq!(setup.until(revision(1, 6)).await, Err(DenyReason::RevisionUnavailable));
    assert!(begun.elapsed().is_zero());
    assert!(setup.counted("crowded"));
    setup.world.pass(Epoch(1), 6).unwrap();
    assert!(waiting.join_all().await.into_iter().all(|waited| waited == Ok(())));
}

/// Revision 2 may be of a store that was begun anew a moment ago: only what was asked of it later shows that it was not.
#[tokio::test(start_paused = true)]
async fn another_history_says_nothing_once_the_one_in_force_is_proven_after_it_was_asked_for() {
    const UNAVAILABLE: Result<(), DenyReason> = Err(DenyReason::RevisionUnavailable);
    let setup = setup();
    assert_eq!(setup.until(revision(2, 900)).await, UNAVAILABLE, "proven, but before anybody knew of it");
    setup.world.prove(Duration::ZERO);
    assert_eq!(setup.until(revision(2, 900)).await, UNAVAILABLE, "asked for at the same time");
    setup.world.prove(Duration::from_secs(1));
    assert_eq!(setup.until(revision(2, 900)).await, Ok(()));
    assert!(setup.counted("other_history"));
    assert_eq!(reached(&setup.world, revision(2, 1)).map_err(|denial| denial.reason), Ok(()));
    setup.world.install_catalog(revision(3, 1), &CatalogRows::default()).unwrap();
    for wanted in [revision(1, 1), revision(2, 1)] {
        assert_eq!(setup.until(wanted).await, UNAVAILABLE, "{wanted}: nothing proves that 3 is the newest");
    }
    assert_eq!(setup.until(revision(3, 1)).await, Ok(()));
    setup.world.prove(Duration::ZERO);
    assert_eq!(setup.until(revision(1, 1)).await, UNAVAILABLE);
    setup.world.prove(Duration::from_secs(1));
    assert_eq!(setup.until(revision(1, 1)).await, Ok(()));
}
