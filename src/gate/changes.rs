//! What may change the answer to a request that was permitted, and goes on.

use tokio::sync::watch;

use super::Gate;

/// What may change the answer to a request.
pub struct Changes {
    rules: watch::Receiver<()>,
    world: watch::Receiver<()>,
    keys: u64,
}

impl Changes {
    /// Whether anything changed since the last call, or since this was made.
    pub fn any(&mut self, gate: &Gate) -> bool {
        let keys = std::mem::replace(&mut self.keys, gate.keys_generation());
        let heard = |of: &mut watch::Receiver<()>| {
            let has_changed = of.has_changed().unwrap_or(true);
            if has_changed {
                of.mark_unchanged();
            }
            has_changed
        };
        let (rules, world) = (heard(&mut self.rules), heard(&mut self.world));
        rules || world || keys != self.keys
    }
}

impl Gate {
    /// Hears of whatever may change the answer to a request from now on, time and keys apart: rules and tokens, facts and revocations.
    pub fn changes(&self) -> Changes {
        Changes { rules: self.replaced.subscribe(), world: self.world.changes(), keys: self.keys_generation() }
    }

    /// Grows whenever a key was added, changed or taken away.
    fn keys_generation(&self) -> u64 {
        self.in_force.load().tokens.verifier.generation()
    }
}
