//! The decision: a total, pure function from (requirement, caller, facts) to a permit or a denial.
//!
//! A [`Permit`] can be built here and nowhere else; it is what the proxy asks for before it opens a connection to an upstream.

use super::catalog::Catalog;
use super::principal::Caller;
use super::requirement::Requirement;
use super::shard::{Basis, Shard};

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// It may pass.
    Allow(Permit),
    /// It may not.
    Deny(Denial),
}

/// The proof that a request may pass. Private fields: only this file builds one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Permit {
    grounds: Grounds,
}

/// Why a request may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grounds {
    /// The caller holds what the route requires. The basis of the ask that settled it.
    Granted(Basis),
    /// The route is public.
    Public,
    /// The route asks for a valid token, and there was one.
    Authenticated,
    /// A cross-origin preflight on a route that forwards them.
    Preflight,
    /// It would have been denied, but the route is in shadow mode.
    ShadowOverride(Denial),
}

/// The reason why a request may not pass, for the log, the metrics and the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The reason, from a closed list.
    pub reason: DenyReason,
    /// What exactly was wrong, for the log only; never a secret.
    pub detail: Option<Box<str>>,
}

/// The closed list of reasons (`code` of the answer, `reason` of metrics and log).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenyReason {
    /// The target is ambiguous or not a path.
    BadPath,
    /// Host, framing, headers or method are ambiguous or missing.
    BadRequest,
    /// A credential in two places.
    AmbiguousCredentials,
    /// A value that the rule needs is missing, repeated, empty or not a scalar.
    BadValue,
    /// A minimum revision that cannot be read or cannot exist.
    BadRevision,
    /// No credential where one is needed.
    MissingToken,
    /// A credential that does not verify.
    BadToken(TokenFault),
    /// A credential that was revoked before its end.
    Revoked,
    /// The caller lacks the permission.
    NotGranted,
    /// The resource is not known in the caller's organization; answered as `not_granted`.
    UnknownResource,
    /// The membership is not known.
    UnknownMembership,
    /// The membership is inactive or pending.
    MembershipInactive,
    /// The token is for another organization than the route's value.
    WrongOrganization,
    /// The token is from an issuer, or lacks a claim, that the route does not accept; or impersonates where that is not allowed.
    /// Answered as `not_granted`.
    NotAccepted,
    /// A cookie credential on an unsafe request from another site.
    CrossSite,
    /// No rule covers the request.
    NoRoute,
    /// The client was too slow.
    Timeout,
    /// The body is larger than the route reads.
    BodyTooLarge,
    /// The request target is too long.
    TargetTooLong,
    /// The body is not what the rule can read.
    UnsupportedBody,
    /// Too many or too large headers.
    HeadersTooLarge,
    /// A fault of ours; nothing was forwarded.
    Internal,
    /// There never were keys for this issuer.
    KeysUnavailable,
    /// The facts are not there, and did not come in time.
    FactsUnavailable,
    /// The facts are older than the route allows.
    FactsStale,
    /// The minimum revision was not reached in time.
    RevisionUnavailable,
    /// Too much work at once.
    Overloaded,
    /// No connection to the upstream.
    UpstreamUnreachable,
    /// The upstream did not answer in time.
    UpstreamTimeout,
}

/// What is wrong with a token (`reason` of `bad_token`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenFault {
    /// Not three parts of canonical base64url with JSON objects in them, a duplicate member, a critical header, or too long.
    Malformed,
    /// An algorithm that the issuer's configuration or the key does not have.
    Algorithm,
    /// The signature does not verify.
    Signature,
    /// A key id that no key set has.
    UnknownKey,
    /// No configured issuer, or an organization that the issuer may not speak for.
    Issuer,
    /// Not for this audience.
    Audience,
    /// Past its end.
    Expired,
    /// Not begun yet, or issued in the future.
    NotYetValid,
    /// Valid for longer than the issuer may ask for.
    Lifetime,
    /// An ID token, or another kind that is not an access token.
    WrongKind,
    /// A claim that is required is missing or has the wrong type.
    MissingClaim,
    /// User, organization and membership of the token are not one row of the facts.
    IdentityMismatch,
}

/// What a decision may look at.
#[derive(Debug, Clone, Copy)]
pub enum Facts<'a> {
    /// Not consulted, or not to be had: an ask that needs them is denied.
    Unavailable,
    /// The catalog, and the caller's organization; `None` when the store does not know the organization.
    Known {
        /// Permissions, roles, resource types.
        catalog: &'a Catalog,
        /// The caller's organization.
        shard: Option<&'a Shard>,
    },
}

/// Decides: `requirement` as the route asks it, `caller` when there is a verified token, `facts` of the caller's organization.
///
/// Total: every input has an answer, and whatever is unknown denies.
pub fn decide(requirement: &Requirement<'_>, caller: Option<Caller<'_>>, facts: Facts<'_>) -> Decision {
    todo!()
}
