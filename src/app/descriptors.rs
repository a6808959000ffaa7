//! How many sockets and files the process may have open: as many as the system gives, and no more connections than fit.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for all but clients: listeners, logs, facts, keys, the store, status pages, runtimes.
const RESERVE: u64 = 256;

/// The most connections to upstreams that are kept for later.
const MOST_KEPT: usize = 1024;

/// With fewer nobody is served.
const LEAST: u64 = 300;

/// There is no room for even a handful of connections.
#[derive(Debug, thiserror::Error)]
#[error("the process may have {limit} files open, expected at least {LEAST}: raise the limit (`ulimit -n`)")]
pub struct TooFew {
    limit: u64,
}

/// Has the system give as many descriptors as it may. Answers how many there are.
pub(super) fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        return current.unwrap_or(u64::MAX);
    }
    maximum.unwrap_or(u64::MAX)
}

/// How many connections may be open, and how many requests in flight: each takes a descriptor, a request that of its connection to the
/// upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) connections: usize,
    pub(super) requests: usize,
}

/// How many connections to upstreams are kept for later: no more than a small part of all descriptors.
pub(super) fn kept(descriptors: u64) -> usize {
    usize::try_from(descriptors / 16).map_or(MOST_KEPT, |kept| kept.min(MOST_KEPT))
}

impl Room {
    /// As many as are wanted and fit into `descriptors`; says so when those are not all.
    ///
    /// # Errors
    /// [`TooFew`] when none fits.
    pub(super) fn within(descriptors: u64, wanted: Self) -> Result<Self, TooFew> {
        if descriptors < LEAST {
            return Err(TooFew { limit: descriptors });
        }
        let room = usize::try_from(descriptors - RESERVE).unwrap_or(usize::MAX) - kept(descriptors);
        let connections = wanted.connections.min(room.saturating_sub(wanted.requests).max(room / 2));
        let there_is = Self { connections, requests: wanted.requests.min(room - connections) };
        if there_is != wanted {
            tracing::warn!(
                descriptors,
                connections = there_is.connections,
                requests = there_is.requests,
                "`limits.connections` and `limits.requests` do not fit into the files that this process may have open \
                 (`ulimit -Hn`): fewer are let in"
            );
        }
        Ok(there_is)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(connections: usize, requests: usize) -> Room {
        Room { connections, requests }
    }

    #[test]
    fn there_are_never_more_than_fit() {
        let many = usize::MAX;
        for (wanted, descriptors, fit) in [
            (room(10_000, 10_000), 1 << 20, Some(room(10_000, 10_000))),
            (room(10_000, 10_000), 21_280, Some(room(10_000, 10_000))),
            (room(10_000, 10_000), 21_279, Some(room(9_999, 10_000))),
            (room(10_000, 10_000), 1024, Some(room(352, 352))),
            (room(15_000, 1000), 20_000, Some(room(15_000, 1000))),
            (room(15_000, 1000), 10_256, Some(room(8359, 1000))),
            (room(100, 20_000), 10_256, Some(room(100, 9259))),
            (room(100, 100), 300, Some(room(13, 13))),
            (room(10, 10), 299, None),
            (room(10, 10), 0, None),
            (room(many, many), 1024, Some(room(352, 352))),
        ] {
            assert_eq!(Room::within(descriptors, wanted).ok(), fit, "{wanted:?} {descriptors}");
        }
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let all = raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!((limit.current, limit.maximum.unwrap_or(u64::MAX)), (limit.maximum, all));
    }
}
