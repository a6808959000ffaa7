//! The reasons as a closed list: how many there are, and each one's place among them.

use super::decision::{DenyReason, TokenFault};

impl DenyReason {
    /// Every reason once; the faults of a token count as one.
    pub const ALL: [Self; 29] = [
        Self::BadPath,
        Self::BadRequest,
        Self::AmbiguousCredentials,
        Self::BadValue,
        Self::BadRevision,
        Self::MissingToken,
        Self::BadToken(TokenFault::Malformed),
        Self::Revoked,
        Self::NotGranted,
        Self::UnknownResource,
        Self::UnknownMembership,
        Self::MembershipInactive,
        Self::WrongOrganization,
        Self::NotAccepted,
        Self::CrossSite,
        Self::NoRoute,
        Self::Timeout,
        Self::BodyTooLarge,
        Self::TargetTooLong,
        Self::UnsupportedBody,
        Self::HeadersTooLarge,
        Self::Internal,
        Self::KeysUnavailable,
        Self::FactsUnavailable,
        Self::FactsStale,
        Self::RevisionUnavailable,
        Self::Overloaded,
        Self::UpstreamUnreachable,
        Self::UpstreamTimeout,
    ];

    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_its_own_name_and_its_own_place() {
        let names: BTreeSet<_> = DenyReason::ALL.iter().map(|reason| reason.reason()).collect();
        assert_eq!(names.len(), DenyReason::COUNT);
        let places: BTreeSet<_> = DenyReason::ALL.iter().map(|reason| reason.ordinal()).collect();
        assert_eq!(places, (0..DenyReason::COUNT).collect());
    }

    #[test]
    fn the_client_cannot_tell_an_unknown_resource_from_a_missing_grant() {
        for reason in [DenyReason::UnknownResource, DenyReason::NotAccepted] {
            assert_eq!(reason.code(), DenyReason::NotGranted.code());
            assert_ne!(reason.reason(), DenyReason::NotGranted.reason());
        }
    }
}
