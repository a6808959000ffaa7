//! A place in the log, and whether somebody who stands there can go on.

use crate::domain::Epoch;
use crate::store::log::Head;
use crate::wire::feed::ResyncReason;

/// After which transaction of which history somebody stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) epoch: Epoch,
    pub(super) seq: u64,
    /// What the log amounts to there.
    pub(super) chain: String,
}

impl Position {
    /// Why whoever stands here has to start over, as far as the head of the log tells.
    pub(super) fn is_cut_off(&self, head: &Head) -> Option<ResyncReason> {
        if self.epoch != head.epoch {
            return Some(ResyncReason::Epoch);
        }
        if self.seq > head.seq {
            return Some(ResyncReason::Ahead);
        }
        if self.seq == head.seq && self.chain != head.chain {
            return Some(ResyncReason::Chain);
        }
        (self.seq + 1 < head.oldest).then_some(ResyncReason::TooOld)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_place_on_the_same_log_can_be_gone_on_from() {
        let head = Head { epoch: Epoch(1), seq: 9, chain: "nine".to_owned(), oldest: 5 };
        let reason =
            |epoch, seq, chain: &str| Position { epoch: Epoch(epoch), seq, chain: chain.to_owned() }.is_cut_off(&head);
        assert_eq!(reason(1, 9, "nine"), None);
        assert_eq!(reason(1, 4, "four"), None, "the next one, 5, is there");
        assert_eq!(reason(1, 3, "three"), Some(ResyncReason::TooOld));
        assert_eq!(reason(1, 9, "another nine"), Some(ResyncReason::Chain));
        assert_eq!(reason(1, 10, "ten"), Some(ResyncReason::Ahead));
        assert_eq!(reason(2, 9, "nine"), Some(ResyncReason::Epoch));
    }
}
