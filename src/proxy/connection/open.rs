//! How many connections may be open at once, and which of them makes room for another.
//!
//! A connection that nothing is being done for may be closed at any time (RFC 9112 §9.6), so at the limit the one that has waited
//! longest makes room: who holds many connections open and asks nothing keeps nobody else out. It is asked, and the newcomer is served
//! once it has gone; when a request comes to it first, it stays, and the newcomer asks another.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::progress::Progress;
use crate::proxy::relief;

/// All of them are looked through for the idle ones, however many want to come in, no more often than this for each that is open: a
/// few per cent of the time.
const BETWEEN_LOOKS: Duration = Duration::from_micros(1);

/// How many of the idle ones are found at one look.
const FOUND_AT_ONCE: usize = 1024;

/// So many newcomers that wait for room are never too many, and so many always: each has a descriptor beyond `limits.connections`.
const FEW: usize = 16;
const MANY: usize = 128;

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
    /// How many of them wait for one of the others to go.
    waiting: usize,
    /// Idle ones, since when and which, as found at the last look; the one that has waited longest is the last.
    idle: Vec<(u64, u64)>,
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
        let idle_for = u64::try_from(idle_for.as_millis()).unwrap_or(u64::MAX);
        let is_due = |progress: &&Arc<Progress>| {
            progress.idle_since().is_some_and(|since| progress.now().saturating_sub(since) >= idle_for)
        };
        self.lines.lock().open.values().filter(is_due).for_each(|progress| progress.end());
    }

    /// Lets nobody in while `is_shut`.
    pub(in crate::proxy) fn shut(&self, is_shut: bool) {
        self.is_shut.store(is_shut, Ordering::Relaxed);
    }

    /// Returns once one more may wait for room: until then the system keeps who wants to come in.
    pub(super) async fn may_come(&self) {
        loop {
            let closed = self.closed.notified();
            if self.lines.lock().waiting < self.most_waiting() {
                return;
            }
            closed.await;
        }
    }

    fn most_waiting(&self) -> usize {
        (self.limit / 4).clamp(FEW, MANY)
    }

    /// A place for one more, which is an idle one's if need be; `None` when there is none.
    pub(in crate::proxy) fn admit(self: &Arc<Self>) -> Option<Place> {
        if self.is_shut.load(Ordering::Relaxed) {
            relief::give();
            return None;
        }
        let mut lines = self.lines.lock();
        let mut room = None;
        if lines.open.len() - lines.waiting >= self.limit {
            if lines.waiting >= self.most_waiting() {
                return None;
            }
            room = Some(lines.ask()?);
            lines.waiting += 1;
        }
        lines.last += 1;
        let (number, progress) = (lines.last, Arc::new(Progress::new(self.began)));
        lines.open.insert(number, Arc::clone(&progress));
        Some(Place { open: Arc::clone(self), number, progress, room })
    }
}

impl Lines {
    /// Asks an idle one to make room; `None` when there is none, or it is too early to look for one again.
    fn ask(&mut self) -> Option<oneshot::Receiver<bool>> {
        loop {
            while let Some((since, number)) = self.idle.pop() {
                if let Some(room) = self.open.get(&number).and_then(|progress| progress.ask(since)) {
                    return Some(room);
                }
            }
            let between = BETWEEN_LOOKS * u32::try_from(self.open.len()).unwrap_or(u32::MAX);
            if self.looked.is_some_and(|looked| looked.elapsed() < between) {
                return None;
            }
            self.looked = Some(Instant::now());
            self.look();
            if self.idle.is_empty() {
                return None;
            }
        }
    }

    fn look(&mut self) {
        let since = |(number, progress): (&u64, &Arc<Progress>)| Some((progress.idle_since()?, *number));
        self.idle = self.open.iter().filter_map(since).collect();
        self.idle.sort_unstable_by_key(|idle| std::cmp::Reverse(*idle));
        self.idle.drain(..self.idle.len().saturating_sub(FOUND_AT_ONCE));
    }
}

/// One admitted connection; leaves when dropped.
pub(in crate::proxy) struct Place {
    open: Arc<OpenConnections>,
    number: u64,
    progress: Arc<Progress>,
    /// The answer of the one that was asked to go, while it is not known that it has.
    room: Option<oneshot::Receiver<bool>>,
}

impl Place {
    /// How far the connection is.
    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// A request is waited for from now on, unless there has to be room first.
    pub(in crate::proxy) fn waits(&self) {
        if self.room.is_none() {
            self.progress.waits();
        }
    }

    /// Waits until another has gone, where that is what it takes. `false`: nobody goes.
    pub(super) async fn has_room(&mut self) -> bool {
        while let Some(room) = &mut self.room {
            if room.await.unwrap_or(false) {
                self.room = None;
                return true;
            }
            let another = self.open.lines.lock().ask();
            let is_vain = another.is_none();
            // Whoever waits again after nobody went asks again.
            self.room = Some(another.unwrap_or_else(|| oneshot::channel().1));
            if is_vain {
                return false;
            }
        }
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.open.lines.lock();
        lines.open.remove(&self.number);
        // INVARIANT: who waits is counted until the other has gone, which tells while `lines` is held, or until it goes itself.
        let is_waiting = self.room.take().is_some_and(|mut room| room.try_recv() != Ok(true));
        lines.waiting -= usize::from(is_waiting) + usize::from(self.progress.is_gone());
        drop(lines);
        self.open.closed.notify_waiters();
        relief::give();
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
    use futures_util::FutureExt;

    use super::*;

    /// So many connections that wait for a request.
    fn waiting(open: &Arc<OpenConnections>, count: usize) -> Vec<Place> {
        let admit = |_| {
            let place = open.admit().unwrap();
            place.waits();
            // Since when is counted in milliseconds.
            while place.progress().idle_since() == Some(place.progress().now()) {
                std::thread::yield_now();
            }
            place
        };
        (0..count).map(admit).collect()
    }

    /// Looks are as far apart as that takes.
    fn later(open: &OpenConnections) {
        open.lines.lock().looked = None;
    }

    fn leaving(places: &[Place]) -> Vec<bool> {
        places.iter().map(|place| place.progress().is_leaving()).collect()
    }

    /// What is known of it by now.
    fn has_room(place: &mut Place) -> Option<bool> {
        place.has_room().now_or_never()
    }

    #[track_caller]
    fn nobody_is_left(open: &OpenConnections) {
        assert_eq!((open.count(), open.lines.lock().waiting), (0, 0));
    }

    #[test]
    fn who_has_waited_longest_makes_room() {
        let open = OpenConnections::new(3);
        let mut places = waiting(&open, 3);
        places[0].waits();
        let mut newcomer = open.admit().unwrap();
        assert_eq!(leaving(&places), [false, true, false]);
        assert_eq!(has_room(&mut newcomer), None, "who is to leave is still there");
        newcomer.waits();
        assert!(newcomer.progress().idle_since().is_none(), "who waits for room has none to give");
        drop(places.remove(1));
        assert_eq!(has_room(&mut newcomer), Some(true));
        assert_eq!((open.count(), open.lines.lock().waiting), (3, 0));
        drop((newcomer, places));
        nobody_is_left(&open);
    }

    #[test]
    fn who_gets_a_request_first_stays_and_the_newcomer_asks_another() {
        let open = OpenConnections::new(2);
        let mut places = waiting(&open, 2);
        let mut newcomer = open.admit().unwrap();
        assert_eq!(leaving(&places), [true, false]);
        places[0].progress().begins();
        assert_eq!(has_room(&mut newcomer), None);
        assert_eq!(leaving(&places), [false, true]);
        places[1].progress().head_complete();
        places[0].progress().head_complete();
        later(&open);
        for _ in 0..2 {
            assert_eq!(has_room(&mut newcomer), Some(false), "all have something to do");
        }
        assert_eq!(leaving(&places), [false, false]);
        drop(newcomer);
        assert_eq!((open.count(), open.lines.lock().waiting), (2, 0));
        later(&open);
        assert!(open.admit().is_none());
        drop(places.pop());
        assert_eq!(has_room(&mut open.admit().unwrap()), Some(true));
        drop(places);
        nobody_is_left(&open);
    }

    #[test]
    fn who_waits_for_room_and_who_makes_it_may_go_in_any_order() {
        let open = OpenConnections::new(1);
        for newcomer_first in [true, false] {
            let mut places = waiting(&open, 1);
            later(&open);
            let newcomer = open.admit().unwrap();
            if newcomer_first {
                drop(newcomer);
                assert_eq!(open.lines.lock().waiting, 0);
                places.clear();
            } else {
                // Which the newcomer has not heard when it goes.
                places.clear();
                assert_eq!(open.lines.lock().waiting, 0);
                drop(newcomer);
            }
            nobody_is_left(&open);
        }
    }

    #[test]
    fn who_has_gone_since_it_was_found_is_not_asked() {
        let open = OpenConnections::new(3);
        let mut places = waiting(&open, 3);
        let mut first = open.admit().unwrap();
        // The second one goes by itself, which leaves its place to the next.
        drop((places.remove(1), places.remove(0)));
        assert_eq!(has_room(&mut first), Some(true));
        let second = waiting(&open, 1);
        let third = open.admit().unwrap();
        assert_eq!(leaving(&places), [true]);
        drop((first, second, third, places));
        nobody_is_left(&open);
    }

    #[test]
    fn nobody_makes_room_who_has_a_request_or_has_not_shaken_hands() {
        let open = OpenConnections::new(2);
        let (busy, silent) = (open.admit().unwrap(), open.admit().unwrap());
        busy.waits();
        busy.progress().head_complete();
        assert!(open.admit().is_none());
        drop(silent);
        assert!(open.admit().is_some());
    }

    #[test]
    fn a_request_that_has_arrived_and_is_not_taken_up_yet_holds_its_place_for_a_moment() {
        let open = OpenConnections::new(1);
        let places = waiting(&open, 1);
        // In whole milliseconds.
        let (arrived, moment) = (Instant::now(), Duration::from_millis(999));
        places[0].progress().arrives();
        assert!(open.admit().is_none() || arrived.elapsed() >= moment);
        // It was no request.
        while places[0].progress().idle_since().is_none() {
            std::thread::yield_now();
        }
        later(&open);
        assert!(arrived.elapsed() >= moment && open.admit().is_some());
    }

    #[test]
    fn those_that_wait_for_room_are_not_many_either() {
        for (limit, many) in [(10, 10), (40, 16), (100, 25), (1000, 128)] {
            let open = OpenConnections::new(limit);
            let places: Vec<_> = (0..limit).map(|_| open.admit().unwrap()).collect();
            places.iter().for_each(Place::waits);
            assert_eq!(open.may_come().now_or_never(), Some(()));
            let mut newcomers: Vec<_> = std::iter::from_fn(|| open.admit()).collect();
            assert_eq!((newcomers.len(), open.count()), (many, limit + many));
            if many < limit {
                let mut next = std::pin::pin!(open.may_come());
                assert_eq!(next.as_mut().now_or_never(), None);
                drop(newcomers.pop());
                assert_eq!(next.now_or_never(), Some(()));
            }
            drop((places, newcomers));
            nobody_is_left(&open);
        }
    }

    #[test]
    fn a_flood_does_not_have_all_looked_through_each_time() {
        let open = OpenConnections::new(1);
        let busy = waiting(&open, 1);
        busy[0].progress().head_complete();
        assert!(open.admit().is_none());
        // Long enough for any machine.
        let looked = Instant::now() + Duration::from_secs(3600);
        open.lines.lock().looked = Some(looked);
        for _ in 0..100 {
            assert!(open.admit().is_none());
        }
        assert_eq!(open.lines.lock().looked, Some(looked));
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
        idle.waits();
        busy.waits();
        busy.progress().head_complete();
        open.let_go(Duration::from_secs(60));
        assert!(!idle.progress().is_leaving());
        open.let_go(Duration::ZERO);
        assert!(idle.progress().is_leaving() && idle.progress().is_ending());
        assert!(!busy.progress().is_leaving() && !shaking.progress().is_leaving());
        idle.progress().begins();
        assert!(idle.progress().is_leaving(), "it goes after that request");
        drop((idle, busy, shaking));
        nobody_is_left(&open);
    }
}
