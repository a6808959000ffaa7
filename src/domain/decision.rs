//! The decision: a total, pure function from (requirement, caller, facts) to a permit or a denial.
//!
//! A [`Permit`] can be built here and nowhere else; it is what the proxy asks for before it opens a connection to an upstream.

use super::catalog::Catalog;
use super::id::{OrganizationId, ResourceRef};
use super::principal::Caller;
use super::record::MembershipStatus;
use super::requirement::{Ask, Grants, Requirement, Scope};
use super::shard::{Asked, Basis, ROOT, Shard};

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

impl Decision {
    /// Whether it may pass.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// The proof, or the reason why there is none.
    ///
    /// # Errors
    /// The denial.
    pub fn into_result(self) -> Result<Permit, Denial> {
        match self {
            Self::Allow(permit) => Ok(permit),
            Self::Deny(denial) => Err(denial),
        }
    }
}

impl Permit {
    /// Why the request may pass.
    pub fn grounds(&self) -> &Grounds {
        &self.grounds
    }
}

impl Denial {
    /// A denial that the reason says everything about.
    pub fn new(reason: DenyReason) -> Self {
        Self { reason, detail: None }
    }

    /// A denial with a word for the log.
    pub fn because(reason: DenyReason, detail: impl Into<Box<str>>) -> Self {
        Self { reason, detail: Some(detail.into()) }
    }

    /// Lets the request pass on a route in shadow mode. Besides [`decide`] this is the only way to a permit.
    ///
    /// # Errors
    /// The denial itself, when shadow mode does not override its reason.
    pub fn overridden(self) -> Result<Permit, Self> {
        if self.reason.is_overridable() { Ok(Permit { grounds: Grounds::ShadowOverride(self) }) } else { Err(self) }
    }
}

impl DenyReason {
    /// The `code` of the answer that the client gets.
    ///
    /// A client must not learn whether a resource exists or which further condition it failed, so some reasons share a code.
    pub fn code(self) -> &'static str {
        match self {
            Self::UnknownResource | Self::NotAccepted => Self::NotGranted.reason(),
            other => other.reason(),
        }
    }

    /// The `reason` of log lines and metrics: as [`code`](Self::code), but it tells an unknown resource from a missing grant.
    pub fn reason(self) -> &'static str {
        match self {
            Self::BadPath => "bad_path",
            Self::BadRequest => "bad_request",
            Self::AmbiguousCredentials => "ambiguous_credentials",
            Self::BadValue => "bad_value",
            Self::BadRevision => "bad_revision",
            Self::MissingToken => "missing_token",
            Self::BadToken(_) => "bad_token",
            Self::Revoked => "revoked",
            Self::NotGranted => "not_granted",
            Self::UnknownResource => "unknown_resource",
            Self::UnknownMembership => "unknown_membership",
            Self::MembershipInactive => "membership_inactive",
            Self::WrongOrganization => "wrong_organization",
            Self::NotAccepted => "not_accepted",
            Self::CrossSite => "cross_site",
            Self::NoRoute => "no_route",
            Self::Timeout => "timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::TargetTooLong => "target_too_long",
            Self::UnsupportedBody => "unsupported_body",
            Self::HeadersTooLarge => "headers_too_large",
            Self::Internal => "internal",
            Self::KeysUnavailable => "keys_unavailable",
            Self::FactsUnavailable => "facts_unavailable",
            Self::FactsStale => "facts_stale",
            Self::RevisionUnavailable => "revision_unavailable",
            Self::Overloaded => "overloaded",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamTimeout => "upstream_timeout",
        }
    }

    /// Whether we could not tell, for a reason that may pass by itself (503).
    pub fn is_outage(self) -> bool {
        matches!(
            self,
            Self::KeysUnavailable
                | Self::FactsUnavailable
                | Self::FactsStale
                | Self::RevisionUnavailable
                | Self::Overloaded
        )
    }

    /// Whether shadow mode lets the request pass: who is calling and what they may (401, 403), and missing facts, but nothing that is
    /// wrong with the request itself, and never a request that no rule covers.
    pub fn is_overridable(self) -> bool {
        match self {
            Self::MissingToken
            | Self::BadToken(_)
            | Self::Revoked
            | Self::NotGranted
            | Self::UnknownResource
            | Self::UnknownMembership
            | Self::MembershipInactive
            | Self::WrongOrganization
            | Self::NotAccepted
            | Self::CrossSite
            | Self::FactsUnavailable
            | Self::FactsStale
            | Self::RevisionUnavailable => true,
            Self::BadPath
            | Self::BadRequest
            | Self::AmbiguousCredentials
            | Self::BadValue
            | Self::BadRevision
            | Self::NoRoute
            | Self::Timeout
            | Self::BodyTooLarge
            | Self::TargetTooLong
            | Self::UnsupportedBody
            | Self::HeadersTooLarge
            | Self::Internal
            | Self::KeysUnavailable
            | Self::Overloaded
            | Self::UpstreamUnreachable
            | Self::UpstreamTimeout => false,
        }
    }
}

impl TokenFault {
    /// The name of the fault: `reason` of a `bad_token` answer.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Signature => "signature",
            Self::UnknownKey => "unknown_key",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Lifetime => "lifetime",
            Self::WrongKind => "wrong_kind",
            Self::MissingClaim => "missing_claim",
            Self::IdentityMismatch => "identity_mismatch",
        }
    }
}

/// Decides: `requirement` as the route asks it, `caller` when there is a verified token, `facts` of the caller's organization.
///
/// Total: every input has an answer, and whatever is unknown denies. An ask that [consults facts](Ask::consults_facts) is answered only
/// when the facts are there and the caller's user, organization and membership are one active row of them, whatever the token claims.
pub fn decide(requirement: &Requirement<'_>, caller: Option<Caller<'_>>, facts: Facts<'_>) -> Decision {
    match settle(requirement, caller, facts) {
        Ok(grounds) => Decision::Allow(Permit { grounds }),
        Err(reason) => Decision::Deny(Denial::new(reason)),
    }
}

/// Answers one ask of a caller; the parts of [`decide`] apart from scope and organization value.
///
/// # Errors
/// The reason why it is not granted.
pub fn judge(ask: &Ask<'_>, caller: Caller<'_>, facts: Facts<'_>) -> Result<Basis, DenyReason> {
    let organization = caller.organization.ok_or(DenyReason::BadToken(TokenFault::MissingClaim))?;
    let claimed = caller.claims_permission(ask.permission);
    let known = if ask.consults_facts() { Some(identify(caller, organization, facts)?) } else { None };
    let resource = match (&ask.resource, &known) {
        (None, _) => ROOT,
        (Some(ResourceRef::External { resource_type, external_id }), _) if resource_type.is_organization() => {
            if external_id != organization.as_str() {
                return Err(DenyReason::UnknownResource);
            }
            ROOT
        }
        (Some(resource), Some(known)) => known.shard.resource(resource).ok_or(DenyReason::UnknownResource)?,
        (Some(_), None) => return Err(DenyReason::FactsUnavailable),
    };
    let asked = known.as_ref().and_then(|known| {
        let index = known.catalog.permission(ask.permission)?;
        Some((known, Asked { index, slug: ask.permission }))
    });
    let live = || asked.and_then(|(known, asked)| known.shard.organization_grant(known.catalog, known.member, asked));
    let organization_wide = match ask.grants {
        Grants::Token => claimed.then_some(Basis::Claim),
        Grants::Live => live().map(Basis::Grant),
        Grants::Both if claimed => live().map(Basis::Both),
        Grants::Both => None,
    };
    let on_resource = || {
        let (known, asked) = asked.filter(|_| resource != ROOT)?;
        known.shard.resource_grant(known.catalog, known.member, asked, resource).map(Basis::Grant)
    };
    organization_wide.map(|basis| basis.asked_on(resource)).or_else(on_resource).ok_or(DenyReason::NotGranted)
}

fn settle(requirement: &Requirement<'_>, caller: Option<Caller<'_>>, facts: Facts<'_>) -> Result<Grounds, DenyReason> {
    match (&requirement.scope, &requirement.organization) {
        (Scope::Preflight, _) => return Ok(Grounds::Preflight),
        (Scope::Public, None) => return Ok(Grounds::Public),
        _ => {}
    }
    let caller = caller.ok_or(DenyReason::MissingToken)?;
    let missing = DenyReason::BadToken(TokenFault::MissingClaim);
    if let Some(value) = &requirement.organization
        && value != caller.organization.ok_or(missing)?.as_str()
    {
        return Err(DenyReason::WrongOrganization);
    }
    let judge = |ask| judge(ask, caller, facts);
    match &requirement.scope {
        Scope::Preflight => Ok(Grounds::Preflight),
        Scope::Public => Ok(Grounds::Public),
        Scope::Authenticated => Ok(Grounds::Authenticated),
        Scope::All(asks) => {
            let last = asks.iter().try_fold(None, |_, ask| judge(ask).map(Some))?;
            last.map(Grounds::Granted).ok_or(DenyReason::NotGranted)
        }
        Scope::Any(_) if caller.organization.is_none() => Err(missing),
        Scope::Any(asks) => {
            let mut denial = None;
            for ask in asks {
                match judge(ask) {
                    Ok(basis) => return Ok(Grounds::Granted(basis)),
                    Err(reason) if reason.is_outage() => denial = denial.or(Some(reason)),
                    Err(_) => denial = Some(DenyReason::NotGranted),
                }
            }
            Err(denial.unwrap_or(DenyReason::NotGranted))
        }
    }
}

/// The caller as a row of the facts.
struct Identified<'a> {
    catalog: &'a Catalog,
    shard: &'a Shard,
    member: u32,
}

/// Finds the one row that is the caller's user, organization and membership.
fn identify<'a>(
    caller: Caller<'_>,
    organization: &OrganizationId,
    facts: Facts<'a>,
) -> Result<Identified<'a>, DenyReason> {
    let Facts::Known { catalog, shard } = facts else { return Err(DenyReason::FactsUnavailable) };
    let shard = shard.ok_or(DenyReason::UnknownMembership)?;
    if !catalog.covers(shard.catalog_at_least()) {
        return Err(DenyReason::FactsUnavailable);
    }
    let mismatch = DenyReason::BadToken(TokenFault::IdentityMismatch);
    if shard.organization() != organization {
        return Err(mismatch);
    }
    let (member, status) = match caller.membership {
        Some(id) => match shard.member_as(id, caller.user).ok_or(DenyReason::UnknownMembership)? {
            (member, status, true) => (member, status),
            (_, _, false) => return Err(mismatch),
        },
        None => shard.member_of(caller.user).ok_or(DenyReason::UnknownMembership)?,
    };
    match status {
        MembershipStatus::Active => Ok(Identified { catalog, shard, member }),
        MembershipStatus::Inactive | MembershipStatus::Pending => Err(DenyReason::MembershipInactive),
    }
}

#[cfg(test)]
mod tests;
