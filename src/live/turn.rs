//! Several things that come into force as one, for readers that take no lock.

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// A sequence lock: odd while something comes into force. Writers take turns by a lock of their own.
#[derive(Debug, Default)]
pub(super) struct Turn(AtomicU64);

impl Turn {
    /// What `read` finds, all of it from between two writes.
    pub(super) fn read<T>(&self, read: impl Fn() -> T) -> T {
        loop {
            let before = self.0.load(Ordering::Acquire);
            if before.is_multiple_of(2) {
                let found = read();
                fence(Ordering::Acquire);
                if self.0.load(Ordering::Relaxed) == before {
                    return found;
                }
            }
            // A writer needs a few stores; it may have lost its processor in between.
            std::thread::yield_now();
        }
    }

    /// Lets readers see everything that `write` does, or nothing of it.
    pub(super) fn write(&self, write: impl FnOnce()) {
        /// Ends the turn even when the writer panics, so that readers go on.
        struct End<'a>(&'a AtomicU64);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Release);
            }
        }
        self.0.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        let end = End(&self.0);
        write();
        drop(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_both_or_neither() {
        let (turn, one, other) = (Turn::default(), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                loop {
                    let seen = turn.read(|| (one.load(Ordering::Relaxed), other.load(Ordering::Relaxed)));
                    assert_eq!(seen.0, seen.1);
                    if seen.0 == 100_000 {
                        break;
                    }
                }
            });
            for value in 1..=100_000 {
                turn.write(|| {
                    one.store(value, Ordering::Relaxed);
                    other.store(value, Ordering::Relaxed);
                });
            }
            reader.join().unwrap();
        });
    }
}
