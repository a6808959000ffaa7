//! Tokens that were revoked before their end.

use crate::domain::{Clock, Denial, DenyReason, Principal, Standing};
use crate::live::World;
use crate::rules::{Revocations, Route};

use super::Trace;

/// Holds a verified token against the revocations in force, as `route` wants them respected.
///
/// # Errors
/// `revoked` for what is known to be; `facts_stale` where the route requires a list and there is none that is fresh enough.
pub(super) fn check(
    world: &World,
    clock: &dyn Clock,
    route: &Route,
    principal: &Principal,
    trace: &mut Trace,
) -> Result<(), Denial> {
    if route.revocations == Revocations::Ignore {
        return Ok(());
    }
    let revocations = world.revocations();
    if let Some(kind) = revocations.find(principal, clock.now()) {
        return Err(Denial::because(DenyReason::Revoked, format!("the {} of the token was revoked", kind.as_str())));
    }
    if route.revocations == Revocations::Require {
        let uptime = clock.uptime();
        let freshness = revocations.freshness(uptime);
        if freshness.standing(route.max_staleness) == Standing::Stale {
            return Err(Denial::because(
                DenyReason::FactsStale,
                "the list of revocations is too old, or not there yet",
            ));
        }
        trace.holds_for(route.max_staleness.saturating_sub(freshness.age.unwrap_or_default()), uptime);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
