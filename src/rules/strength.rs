//! Which of two rules asks for more.

use super::route::{Access, AskTemplate, ClaimCondition, Impersonation, Route};
use super::spec::{Mode, OnStale};
use crate::domain::Grants;

impl Route {
    /// Whether whoever passes this rule would pass `other` too, as far as the rules themselves can tell: it asks for at least as much.
    pub fn implies(&self, other: &Self) -> bool {
        implies(self, other)
    }
}

/// Whether whoever passes `one` would pass `other` too, as far as the rules themselves can tell. Unrelated rules: `false` both ways.
pub(super) fn implies(one: &Route, other: &Route) -> bool {
    if other.is_public() {
        return true;
    }
    access_implies(&one.access, &other.access)
        && (other.mode == Mode::Shadow || one.mode == Mode::Enforce)
        && match (&one.organization, &other.organization) {
            (_, None) => true,
            (Some(one), Some(other)) => one.same(other),
            (None, Some(_)) => false,
        }
        && one.revocations >= other.revocations
        && (!other.consults_facts() || facts_imply(one, other))
        && impersonation(one) >= impersonation(other)
        && other.require_claims.iter().all(|other| {
            let narrower = |one: &ClaimCondition| {
                one.name == other.name && one.values.iter().all(|value| other.values.contains(value))
            };
            one.require_claims.iter().any(narrower)
        })
        && match (&one.tokens, &other.tokens) {
            (_, None) => true,
            (Some(one), Some(other)) => one.iter().all(|name| other.contains(name)),
            (None, Some(_)) => false,
        }
}

/// Whether `one` asks for strictly less than `other`.
pub(super) fn weaker(one: &Route, other: &Route) -> bool {
    implies(other, one) && !implies(one, other)
}

fn impersonation(route: &Route) -> Impersonation {
    if route.is_public() { Impersonation::Allow } else { route.impersonation }
}

fn facts_imply(one: &Route, other: &Route) -> bool {
    one.max_staleness <= other.max_staleness
        && match (one.on_stale, other.on_stale) {
            (OnStale::Deny, _) => true,
            (OnStale::Serve, OnStale::Serve) => one.serve_until <= other.serve_until,
            (OnStale::Serve, OnStale::Deny) => false,
        }
}

fn access_implies(one: &Access, other: &Access) -> bool {
    match (one, other) {
        (_, Access::Public) => true,
        (Access::Public, _) => false,
        (_, Access::Authenticated) => true,
        (Access::Authenticated, _) => false,
        (Access::All(one), Access::All(other)) => {
            other.iter().all(|other| one.iter().any(|one| ask_implies(one, other)))
        }
        (Access::All(one), Access::Any(other)) => {
            other.iter().any(|other| one.iter().any(|one| ask_implies(one, other)))
        }
        (Access::Any(one), Access::All(other)) => {
            one.iter().all(|one| other.iter().all(|other| ask_implies(one, other)))
        }
        (Access::Any(one), Access::Any(other)) => {
            one.iter().all(|one| other.iter().any(|other| ask_implies(one, other)))
        }
    }
}

fn ask_implies(one: &AskTemplate, other: &AskTemplate) -> bool {
    let resource = match (&one.resource, &other.resource) {
        (None, None) => true,
        (Some(one), Some(other)) => one.same(other),
        _ => false,
    };
    resource && one.permission == other.permission && (one.grants == other.grants || one.grants == Grants::Both)
}
