//! What may be sent on: a permit bound to the one request that was judged.

use std::sync::Arc;

use http::HeaderName;

use super::RequestView;
use super::in_force::InForce;
use crate::domain::{Grounds, MembershipId, Permit, Principal, Revision};
use crate::live::View;
use crate::rules::{CanonicalPath, Route};
use crate::telemetry::{Ground, Outcome};
use crate::token::Verified;

/// A permitted request: the only value that an upstream request is written from.
pub struct Forward {
    pub(super) permit: Permit,
    pub(super) target: Option<Box<[u8]>>,
    pub(super) in_force: Arc<InForce>,
    pub(super) route: usize,
    pub(super) principal: Option<Verified<Principal>>,
    pub(super) membership: Option<MembershipId>,
    pub(super) revision: Option<Revision>,
    pub(super) credential_headers: Box<[HeaderName]>,
}

impl Forward {
    /// The target to send when it is not, byte for byte, what was received.
    pub fn target(&self) -> Option<&[u8]> {
        self.target.as_deref()
    }

    /// The place of the upstream among all.
    pub fn upstream(&self) -> usize {
        self.route().map_or(usize::MAX, |route| self.in_force.rules.upstream(route))
    }

    /// The id of the rule.
    pub fn route_id(&self) -> &str {
        self.route().map_or("", |route| &route.id)
    }

    /// The largest body that the rule lets through, in bytes, 0 = any; `None` = what holds for all rules.
    pub fn max_body(&self) -> Option<u64> {
        self.route()?.max_body
    }

    /// The verified caller; `None` on public routes and preflights.
    pub fn principal(&self) -> Option<&Principal> {
        self.principal.as_deref()
    }

    /// The caller's membership: as the token says, or as found in the facts.
    pub fn membership(&self) -> Option<&MembershipId> {
        self.membership.as_ref()
    }

    /// The revision of the facts that were consulted.
    pub fn revision(&self) -> Option<Revision> {
        self.revision
    }

    /// Whether this is a cross-origin preflight, which carries no credential.
    pub fn is_preflight(&self) -> bool {
        matches!(self.permit.grounds(), Grounds::Preflight)
    }

    /// For a preflight, the headers besides `authorization` and `cookie` that credentials are configured to stand in; otherwise none.
    pub fn credential_headers(&self) -> &[HeaderName] {
        &self.credential_headers
    }

    /// How log and metrics tell it.
    pub fn outcome(&self) -> Outcome {
        match self.permit.grounds() {
            Grounds::Granted(_) => Outcome::Allowed(Ground::Granted),
            Grounds::Public => Outcome::Allowed(Ground::Public),
            Grounds::Authenticated => Outcome::Allowed(Ground::Authenticated),
            Grounds::Preflight => Outcome::Allowed(Ground::Preflight),
            Grounds::ShadowOverride(denial) => Outcome::Shadowed(denial.reason),
        }
    }

    /// Why it would have been denied, when it passes only because the route is in shadow mode.
    pub fn overridden(&self) -> Option<&crate::domain::Denial> {
        match self.permit.grounds() {
            Grounds::ShadowOverride(denial) => Some(denial),
            _ => None,
        }
    }

    fn route(&self) -> Option<&Route> {
        self.in_force.rules.table.routes().get(self.route)
    }
}

/// The membership that the decision used.
pub(super) fn membership(principal: Option<&Verified<Principal>>, view: Option<&View>) -> Option<MembershipId> {
    let principal = principal?;
    principal.membership.clone().or_else(|| view?.shard()?.membership_of(&principal.user))
}

/// What to send as target when it differs from what was received: the judged path and the query as it came.
pub(super) fn target(request: &RequestView<'_>, path: &CanonicalPath<'_>, query: Option<&[u8]>) -> Option<Box<[u8]>> {
    let judged = path.as_str().as_bytes();
    if request.target.starts_with(judged)
        && !request.is_absolute
        && judged.len() + query.map_or(0, |query| query.len() + 1) == request.target.len()
    {
        return None;
    }
    let mut target = judged.to_vec();
    if let Some(query) = query {
        target.push(b'?');
        target.extend_from_slice(query);
    }
    Some(target.into())
}
