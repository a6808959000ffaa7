//! The reasons as a closed list: how many there are, and each one's place among them.

use super::decision::DenyReason;

impl DenyReason {
    /// How many reasons there are; the faults of a token count as one.
    pub const COUNT: usize = 29;

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
    use crate::domain::TokenFault;

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
    }

    #[test]
    fn the_client_cannot_tell_an_unknown_resource_from_a_missing_grant() {
        for reason in [DenyReason::UnknownResource, DenyReason::NotAccepted] {
            assert_eq!(reason.code(), DenyReason::NotGranted.code());
            assert_ne!(reason.reason(), DenyReason::NotGranted.reason());
        }
    }
}
