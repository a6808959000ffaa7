//! The names of the reasons: stable text for answers, log and metrics. What users type and scrape, so it does not change.

use super::decision::{DenyReason, TokenFault};

impl DenyReason {
    /// How many reasons there are; the faults of a token count as one.
    pub const COUNT: usize = 29;

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
    /// The position of this reason among all, below [`COUNT`](Self::COUNT): a place in a flat array of counters.
    pub fn ordinal(self) -> usize {
        match self {
            Self::BadPath => 0,
            Self::BadRequest => 1,
            Self::AmbiguousCredentials => 2,
            Self::BadValue => 3,
            Self::BadRevision => 4,
            Self::MissingToken => 5,
            Self::BadToken(_) => 6,
            Self::Revoked => 7,
            Self::NotGranted => 8,
            Self::UnknownResource => 9,
            Self::UnknownMembership => 10,
            Self::MembershipInactive => 11,
            Self::WrongOrganization => 12,
            Self::NotAccepted => 13,
            Self::CrossSite => 14,
            Self::NoRoute => 15,
            Self::Timeout => 16,
            Self::BodyTooLarge => 17,
            Self::TargetTooLong => 18,
            Self::UnsupportedBody => 19,
            Self::HeadersTooLarge => 20,
            Self::Internal => 21,
            Self::KeysUnavailable => 22,
            Self::FactsUnavailable => 23,
            Self::FactsStale => 24,
            Self::RevisionUnavailable => 25,
            Self::Overloaded => 26,
            Self::UpstreamUnreachable => 27,
            Self::UpstreamTimeout => 28,
        }
    }
}

impl TokenFault {
    /// Every fault.
    pub const ALL: [Self; 12] = [
        Self::Malformed,
        Self::Algorithm,
        Self::Signature,
        Self::UnknownKey,
        Self::Issuer,
        Self::Audience,
        Self::Expired,
        Self::NotYetValid,
        Self::Lifetime,
        Self::WrongKind,
        Self::MissingClaim,
        Self::IdentityMismatch,
    ];

    /// The `reason` beside `bad_token` in answers, and `fault` in log and metrics.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: [DenyReason; DenyReason::COUNT] = [
        DenyReason::BadPath,
        DenyReason::BadRequest,
        DenyReason::AmbiguousCredentials,
        DenyReason::BadValue,
        DenyReason::BadRevision,
        DenyReason::MissingToken,
        DenyReason::BadToken(TokenFault::Expired),
        DenyReason::Revoked,
        DenyReason::NotGranted,
        DenyReason::UnknownResource,
        DenyReason::UnknownMembership,
        DenyReason::MembershipInactive,
        DenyReason::WrongOrganization,
        DenyReason::NotAccepted,
        DenyReason::CrossSite,
        DenyReason::NoRoute,
        DenyReason::Timeout,
        DenyReason::BodyTooLarge,
        DenyReason::TargetTooLong,
        DenyReason::UnsupportedBody,
        DenyReason::HeadersTooLarge,
        DenyReason::Internal,
        DenyReason::KeysUnavailable,
        DenyReason::FactsUnavailable,
        DenyReason::FactsStale,
        DenyReason::RevisionUnavailable,
        DenyReason::Overloaded,
        DenyReason::UpstreamUnreachable,
        DenyReason::UpstreamTimeout,
    ];

    #[test]
    fn every_reason_has_its_own_name_and_its_own_place() {
        let names: BTreeSet<_> = ALL.iter().map(|reason| reason.reason()).collect();
        assert_eq!(names.len(), DenyReason::COUNT);
        let places: BTreeSet<_> = ALL.iter().map(|reason| reason.ordinal()).collect();
        assert_eq!(places, (0..DenyReason::COUNT).collect());
        let faults: BTreeSet<_> = TokenFault::ALL.iter().map(|fault| fault.code()).collect();
        assert_eq!(faults.len(), TokenFault::ALL.len());
    }

    #[test]
    fn the_client_cannot_tell_an_unknown_resource_from_a_missing_grant() {
        for reason in [DenyReason::UnknownResource, DenyReason::NotAccepted] {
            assert_eq!(reason.code(), DenyReason::NotGranted.code());
            assert_ne!(reason.reason(), DenyReason::NotGranted.reason());
        }
    }
}
