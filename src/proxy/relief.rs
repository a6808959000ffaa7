//! Memory that was freed and not given back. Each thread keeps what it had, for what comes next; the system sees that as memory of the
//! process, so when memory is short it would count for ever. No thread can give back what another one keeps: they are asked to, and do it
//! when they have something to do anyway.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

/// How often all threads were asked.
static ROUND: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// The last round that this thread took part in.
    static GIVEN: Cell<u32> = const { Cell::new(0) };
}

/// Asks every thread, and begins with this one.
pub(super) fn ask() {
    ROUND.fetch_add(1, Ordering::Relaxed);
    give();
}

/// Gives back what this thread keeps, if it was asked to since it last did.
pub(super) fn give() {
    let round = ROUND.load(Ordering::Relaxed);
    if GIVEN.replace(round) != round {
        collect::collect();
    }
}
