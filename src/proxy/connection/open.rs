//! How many connections may be open at once, and which of them makes room for another.
//!
//! A connection that nothing is being done for may be closed at any time (RFC 9112 §9.6), so at the limit the one that has waited
//! longest makes room: who holds many connections open and asks nothing keeps nobody else out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::progress::Progress;

/// All of them are looked through for the idle ones no more often than this, however many want to come in.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// How many of the idle ones are found at one look.
const FOUND_AT_ONCE: usize = 1024;

/// So many that make room are never too many.
const FEW: usize = 16;

/// How many connections are open, and how many may be.
pub struct OpenConnections {
    began: Instant,
    /// Sockets that connections are still accepted from.
    doors: AtomicUsize,
    limit: usize,
    /// Whether nobody is let in for now.
    is_shut: AtomicBool,
    lines: Mutex<Lines>,
    closed: Notify,
}

#[derive(Default)]
struct Lines {
    last: u64,
    open: HashMap<u64, Arc<Progress>>,
    /// How many of them were told to make room, and are still there.
    leaving: usize,
    /// Idle ones and since when, as found at the last look; the one that has waited longest is the last.
    idle: Vec<(u64, Arc<Progress>)>,
    looked: Option<Instant>,
}

impl OpenConnections {
    /// None open, at most `limit` at once.
    pub fn new(limit: usize) -> Arc<Self> {
        let (doors, is_shut) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (lines, closed) = (Mutex::default(), Notify::new());
        Arc::new(Self { began: Instant::now(), doors, limit, is_shut, lines, closed })
    }

    /// Open connections now.
    pub fn count(&self) -> usize {
        self.lines.lock().open.len()
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

    /// At the end: has those go that have waited for a request for so long, and counts them for none that made room.
    pub fn let_go(&self, idle_for: Duration) {
        let mut lines = self.lines.lock();
        let idle_for = u64::try_from(idle_for.as_millis()).unwrap_or(u64::MAX);
        let is_due = |progress: &&Arc<Progress>| {
            progress.idle_since().is_some_and(|since| progress.now().saturating_sub(since) >= idle_for)
        };
        let told = lines.open.values().filter(is_due).filter(|progress| progress.end()).count();
        lines.leaving += told;
    }

    /// Lets nobody in while `is_shut`.
    pub(in crate::proxy) fn shut(&self, is_shut: bool) {
        self.is_shut.store(is_shut, Ordering::Relaxed);
    }

    /// A place for one more, which is an idle one's if need be; `None` when there is none.
    pub(in crate::proxy) fn admit(self: &Arc<Self>) -> Option<Place> {
        if self.is_shut.load(Ordering::Relaxed) {
            return None;
        }
        let mut lines = self.lines.lock();
        if lines.open.len() - lines.leaving >= self.limit && !self.make_room(&mut lines) {
            return None;
        }
        lines.last += 1;
        let (number, progress) = (lines.last, Arc::new(Progress::new(self.began)));
        lines.open.insert(number, Arc::clone(&progress));
        Some(Place { open: Arc::clone(self), number, progress })
    }

    fn make_room(&self, lines: &mut Lines) -> bool {
        // Those that leave are still there for a moment, and there may not be many of them either.
        if lines.leaving > FEW.max(self.limit / 4) {
            return false;
        }
        loop {
            while let Some((since, progress)) = lines.idle.pop() {
                if progress.idle_since() == Some(since) && progress.leave() {
                    lines.leaving += 1;
                    return true;
                }
            }
            if lines.looked.is_some_and(|looked| looked.elapsed() < BETWEEN_LOOKS) {
                return false;
            }
            lines.look();
        }
    }
}

impl Lines {
    fn look(&mut self) {
        self.looked = Some(Instant::now());
        let since = |progress: &Arc<Progress>| Some((progress.idle_since()?, Arc::clone(progress)));
        self.idle = self.open.values().filter_map(since).collect();
        self.idle.sort_unstable_by_key(|(since, _)| std::cmp::Reverse(*since));
        self.idle.drain(..self.idle.len().saturating_sub(FOUND_AT_ONCE));
    }
}

/// One admitted connection; leaves when dropped.
pub(in crate::proxy) struct Place {
    open: Arc<OpenConnections>,
    number: u64,
    progress: Arc<Progress>,
}

impl Place {
    /// How far the connection is.
    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.open.lines.lock();
        lines.open.remove(&self.number);
        if self.progress.is_leaving() {
            lines.leaving -= 1;
        }
        drop(lines);
        self.open.closed.notify_waiters();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// So many connections that wait for a request.
    fn waiting(open: &Arc<OpenConnections>, count: usize) -> Vec<Place> {
        let admit = |_| {
            let place = open.admit().unwrap();
            place.progress().waits();
            // Since when is counted in milliseconds.
            while place.progress().idle_since() == Some(place.progress().now()) {
                std::thread::yield_now();
            }
            place
        };
        (0..count).map(admit).collect()
    }

    #[test]
    fn who_has_waited_longest_makes_room() {
        let open = OpenConnections::new(3);
        let places = waiting(&open, 3);
        places[0].progress().waits();
        let first = open.admit().unwrap();
        assert_eq!(places.iter().map(|place| place.progress().is_leaving()).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(open.count(), 4, "who is to leave is still there");
        drop((first, places));
        assert_eq!((open.count(), open.lines.lock().leaving), (0, 0));
        assert_eq!(waiting(&open, 3).len(), 3);
    }

    #[test]
    fn nobody_makes_room_who_has_a_request_or_has_not_shaken_hands() {
        let open = OpenConnections::new(2);
        let (busy, silent) = (open.admit().unwrap(), open.admit().unwrap());
        busy.progress().waits();
        busy.progress().head_complete();
        assert!(open.admit().is_none());
        drop(silent);
        assert!(open.admit().is_some());
    }

    #[test]
    fn those_that_leave_are_not_many_either() {
        let open = OpenConnections::new(100);
        let _places = waiting(&open, 100);
        let admitted: Vec<_> = std::iter::from_fn(|| open.admit()).collect();
        assert_eq!((admitted.len(), open.count()), (26, 126));
    }

    #[test]
    fn nobody_is_let_in_while_it_is_shut() {
        let open = OpenConnections::new(2);
        open.shut(true);
        assert!(open.admit().is_none());
        open.shut(false);
        assert!(open.admit().is_some());
    }

    #[test]
    fn at_the_end_those_go_that_have_waited_and_no_others() {
        let open = OpenConnections::new(4);
        let [idle, busy, shaking] = [(); 3].map(|()| open.admit().unwrap());
        idle.progress().waits();
        busy.progress().waits();
        busy.progress().head_complete();
        open.let_go(Duration::from_secs(60));
        assert!(!idle.progress().is_leaving());
        open.let_go(Duration::ZERO);
        assert!(idle.progress().is_leaving() && idle.progress().is_ending());
        assert!(!busy.progress().is_leaving() && !shaking.progress().is_leaving());
        drop((idle, busy, shaking));
        assert_eq!((open.count(), open.lines.lock().leaving), (0, 0));
    }
}
