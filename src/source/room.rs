//! Room in memory for what is being read: many large organizations that are first needed together do not take it all at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is read takes so many times its JSON: the text, the rows, and what is built of them.
const TIMES: u64 = 4;
/// Room there is in any case, in bytes, and at most.
const LEAST: u64 = 64 * 1024 * 1024;
const MOST: u64 = 1024 * 1024 * 1024;

/// Shared by those who read.
#[derive(Debug, Clone)]
pub struct Room {
    kibibytes: u32,
    free: Arc<Semaphore>,
}

/// Somebody's share; given back when dropped.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held for what its drop does")] Option<OwnedSemaphorePermit>);

impl Room {
    /// As much as what is kept of it may take, within 64 MiB and 1 GiB.
    pub fn new(bytes: u64) -> Self {
        let kibibytes = u32::try_from(bytes.clamp(LEAST, MOST) / 1024).unwrap_or(u32::MAX);
        Self { kibibytes, free: Arc::new(Semaphore::new(usize::try_from(kibibytes).unwrap_or(usize::MAX))) }
    }

    /// Waits until there is room for what is read from so many bytes of JSON; for more than there is room for at all, until nobody else reads.
    pub async fn take(&self, json: u64) -> Place {
        let wanted = json.saturating_mul(TIMES).div_ceil(1024).min(u64::from(self.kibibytes));
        let wanted = u32::try_from(wanted).unwrap_or(self.kibibytes);
        // It is never closed.
        Place(Arc::clone(&self.free).acquire_many_owned(wanted).await.ok())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_is_read_together_fits() {
        let room = Room::new(0);
        let quarter = LEAST / TIMES / 4;
        let places: Vec<_> = (0..4).map(|_| room.take(quarter).now_or_never().unwrap()).collect();
        assert!(room.take(1).now_or_never().is_none(), "full");
        drop(places);
        let largest = room.take(u64::MAX).now_or_never();
        assert!(largest.is_some(), "alone, anything is read");
        assert!(room.take(1).now_or_never().is_none());
        drop(largest);
        assert!(room.take(1).now_or_never().is_some());
    }
}
