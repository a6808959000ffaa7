//! Two computations at once.

use std::{panic, thread};

/// What both return; computed at once, by two threads, when that `pays`.
pub fn at_once<A: Send, B>(pays: bool, first: impl FnOnce() -> A + Send, second: impl FnOnce() -> B) -> (A, B) {
    if !pays {
        return (first(), second());
    }
    thread::scope(|scope| {
        let first = scope.spawn(first);
        let second = second();
        match first.join() {
            Ok(first) => (first, second),
            Err(reason) => panic::resume_unwind(reason),
        }
    })
}
