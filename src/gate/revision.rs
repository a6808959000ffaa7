//! Read your writes: a client that has seen a revision is not decided on older facts.
//!
//! It says so in [`MIN_REVISION`]; what is not here yet is waited for, a short and bounded time, by a bounded number of requests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::domain::{Denial, DenyReason, Revision};
use crate::live::World;
use crate::rules::single_header;
use crate::telemetry::{Metrics, MinRevision};

/// The header by which a client asks for facts at least as new as what it has seen (`docs/decisions.md`).
pub const MIN_REVISION: &str = "x-portcullis-min-revision";

/// A minimum revision this far ahead of what is in force was never given out by the store.
const FAR_FUTURE: u64 = 1_000_000;
/// The longest that a request waits for facts as new as it asks for.
const LONGEST_WAIT: Duration = Duration::from_millis(150);
/// As many requests wait at once; one more is refused at once.
const MOST_WAITING: usize = 1024;

/// Those who wait.
#[derive(Debug, Default)]
pub(super) struct Waiters(AtomicUsize);

/// One of them; leaves when dropped.
struct Waiter<'a>(&'a AtomicUsize);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How the facts in force stand to the revision that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// At least as new.
    Reached,
    /// Of the same history, and older.
    Behind,
    /// Of a history after the one that is asked for, which is over: the number says nothing about it.
    OtherHistory,
    /// Of another history, and the one that is asked for may have begun since.
    Unproven,
}

/// The revision that a request asks for; `None` when it asks for none.
///
/// # Errors
/// `bad_revision` for what cannot be read.
pub(super) fn wanted(headers: &HeaderMap) -> Result<Option<Revision>, Denial> {
    if !headers.contains_key(const { HeaderName::from_static(MIN_REVISION) }) {
        return Ok(None);
    }
    let bad = |detail: String| Denial::because(DenyReason::BadRevision, detail);
    let value = single_header(headers, MIN_REVISION).map_err(|repeated| bad(repeated.to_string()))?;
    let text = value.and_then(|value| value.to_str().ok()).ok_or_else(|| bad("the revision is not text".to_owned()))?;
    text.parse().map(Some).map_err(|error: crate::domain::IdError| bad(error.to_string()))
}

/// Holds what is in force against `wanted`, without waiting.
///
/// # Errors
/// `bad_revision` for one that cannot exist, `revision_unavailable` for one that is not here.
pub(super) fn reached(world: &World, wanted: Revision) -> Result<(), Denial> {
    let applied = world.revision();
    match standing(world, wanted, applied)? {
        Standing::Reached | Standing::OtherHistory => Ok(()),
        Standing::Behind => Err(unavailable(wanted, applied, "is in force")),
        Standing::Unproven => Err(unavailable(wanted, applied, "is not proven to be of a newer history yet")),
    }
}

impl Waiters {
    /// Returns once what is in force is as new as `wanted`, or when that says nothing about it.
    ///
    /// # Errors
    /// As [`reached`]; `revision_unavailable` also when it takes too long or too many wait.
    pub(super) async fn until(&self, world: &World, wanted: Revision, metrics: &Metrics) -> Result<(), Denial> {
        let counted = |result: MinRevision| metrics.min_revision(result);
        // Before the first look: what comes into force after it is heard of.
        let mut changes = world.changes();
        let applied = world.revision();
        match standing(world, wanted, applied)? {
            Standing::Reached => return Ok(()),
            Standing::OtherHistory => {
                counted(MinRevision::OtherHistory);
                return Ok(());
            }
            Standing::Unproven => {
                counted(MinRevision::Unavailable);
                return Err(unavailable(wanted, applied, "is not proven to be of a newer history yet"));
            }
            Standing::Behind => {}
        }
        let Some(_place) = self.enter() else {
            counted(MinRevision::Crowded);
            return Err(unavailable(wanted, applied, "is in force, and too many wait"));
        };
        let in_force = async {
            while changes.changed().await.is_ok() {
                match standing(world, wanted, world.revision()) {
                    Ok(Standing::Behind) => {}
                    other => return other.map(drop),
                }
            }
            std::future::pending().await
        };
        match tokio::time::timeout(LONGEST_WAIT, in_force).await {
            Ok(result) => {
                counted(MinRevision::Waited);
                result.and_then(|()| reached(world, wanted))
            }
            Err(_) => {
                counted(MinRevision::Unavailable);
                Err(unavailable(wanted, world.revision(), "is in force"))
            }
        }
    }

    fn enter(&self) -> Option<Waiter<'_>> {
        let entered = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |waiting| {
            (waiting < MOST_WAITING).then_some(waiting + 1)
        });
        entered.ok().map(|_| Waiter(&self.0))
    }
}

fn standing(world: &World, wanted: Revision, applied: Option<Revision>) -> Result<Standing, Denial> {
    match applied {
        Some(applied) if applied.epoch == wanted.epoch => match wanted.seq.checked_sub(applied.seq) {
            None | Some(0) => Ok(Standing::Reached),
            Some(ahead) if ahead > FAR_FUTURE => {
                let detail = format!("revision {wanted} lies far ahead of {applied}");
                Err(Denial::because(DenyReason::BadRevision, detail))
            }
            Some(_) => Ok(Standing::Behind),
        },
        Some(_) if world.is_over(wanted.epoch) => Ok(Standing::OtherHistory),
        Some(_) | None => Ok(Standing::Unproven),
    }
}

fn unavailable(wanted: Revision, applied: Option<Revision>, how: &str) -> Denial {
    let applied = applied.map_or_else(|| "nothing".to_owned(), |applied| applied.to_string());
    let detail = format!("revision {wanted} was asked for, {applied} {how}");
    Denial::because(DenyReason::RevisionUnavailable, detail)
}

#[cfg(test)]
mod tests;
