//! What organizations take in memory.

use super::Scale;
use super::company::{Company, catalog};
use super::process::resident;

pub fn measure(scale: Scale) {
    let catalog = catalog();
    for (what, (organizations, assignments)) in [("usual", scale.usual), ("large", scale.large)] {
        let before = resident(std::process::id());
        let company = Company::of(assignments);
        let mut shards = Vec::new();
        let (mut counted, mut bytes) = (0, 0);
        for _ in 0..organizations {
            let shard = company.shard(&catalog);
            counted += shard.memory().assignments;
            bytes += shard.memory().total();
            shards.push(shard);
        }
        drop(company);
        let grown = resident(std::process::id()).saturating_sub(before);
        println!(
            "{organizations} {what} organizations, {:.1} M assignments in all: {:.0} MB by their own count, the process grew by {:.0} MB",
            counted as f64 / 1e6,
            bytes as f64 / 1e6,
            grown as f64 / 1e6,
        );
    }
}
