//! Processes that take the place of one another.

use super::Metrics;

/// How one process taking the place of another went (`result` of `portcullis_upgrades_total`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeResult {
    /// This one has the sockets of the other.
    TakenOver,
    /// The other one has the sockets of this.
    HandedOver,
    /// This one goes on.
    Failed,
}

impl Metrics {
    /// Counts how one process taking the place of another went for this one.
    pub fn upgraded(&self, result: UpgradeResult) {
        let result = match result {
            UpgradeResult::TakenOver => "taken_over",
            UpgradeResult::HandedOver => "handed_over",
            UpgradeResult::Failed => "failed",
        };
        self.upgrades.with_label_values(&[result]).inc();
    }
}
