//! How many connections may be open at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// How many connections are open, and how many may be.
pub struct OpenConnections {
    count: AtomicUsize,
    /// Sockets that connections are still accepted from.
    doors: AtomicUsize,
    limit: usize,
    closed: Notify,
}

impl OpenConnections {
    /// None open, at most `limit` at once.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { count: AtomicUsize::new(0), doors: AtomicUsize::new(0), limit, closed: Notify::new() })
    }

    /// Open connections now.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Returns once no connection is open, and no door through which another could come.
    pub async fn all_closed(&self) {
        loop {
            let closed = self.closed.notified();
            if self.doors.load(Ordering::Acquire) == 0 && self.count() == 0 {
                return;
            }
            closed.await;
        }
    }

    /// Another socket that connections are accepted from.
    pub(in crate::proxy) fn door(self: &Arc<Self>) -> Door {
        self.doors.fetch_add(1, Ordering::AcqRel);
        Door(Arc::clone(self))
    }

    /// A place for one more; `None` when all are taken.
    pub(in crate::proxy) fn admit(self: &Arc<Self>) -> Option<Place> {
        let admitted = self
            .count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| (open < self.limit).then_some(open + 1));
        admitted.ok().map(|_| Place(Arc::clone(self)))
    }
}

/// One admitted connection; leaves when dropped.
pub(in crate::proxy) struct Place(Arc<OpenConnections>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
        self.0.closed.notify_waiters();
    }
}

/// A socket that connections are accepted from, until this is dropped.
pub(in crate::proxy) struct Door(Arc<OpenConnections>);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.doors.fetch_sub(1, Ordering::AcqRel);
        self.0.closed.notify_waiters();
    }
}
