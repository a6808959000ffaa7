//! How one request ended, as log and metrics tell it: a closed list of pairs (`outcome`, `reason`).

use crate::domain::{DenyReason, Grounds, TokenFault};

/// How one request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was permitted and the upstream answered, whatever it answered.
    Allowed(Ground),
    /// It was refused.
    Denied(DenyReason),
    /// It would have been refused, but the route is in shadow mode.
    Shadowed(DenyReason),
    /// It was permitted, and then we or the upstream failed.
    Failed(DenyReason),
    /// It was permitted, lasted, and was ended because it is permitted no more.
    Cut(Cut),
}

/// Why a permitted exchange was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Decided again, it is refused.
    Refused(DenyReason),
    /// It is as old as its rule lets it become.
    MaxAge,
}

impl Cut {
    const COUNT: usize = DenyReason::COUNT + 1;

    /// The `reason`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Refused(reason) => reason.reason(),
            Self::MaxAge => "max_stream_age",
        }
    }

    fn ordinal(self) -> usize {
        match self {
            Self::Refused(reason) => reason.ordinal(),
            Self::MaxAge => DenyReason::COUNT,
        }
    }
}

/// Why a request was permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// The caller holds what the route requires.
    Granted,
    /// The route is public.
    Public,
    /// The route asks for a valid token only.
    Authenticated,
    /// A cross-origin preflight.
    Preflight,
}

impl Ground {
    const COUNT: usize = 4;

    fn word(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Public => "public",
            Self::Authenticated => "authenticated",
            Self::Preflight => "preflight",
        }
    }

    fn ordinal(self) -> usize {
        match self {
            Self::Granted => 0,
            Self::Public => 1,
            Self::Authenticated => 2,
            Self::Preflight => 3,
        }
    }
}

impl From<&Grounds> for Outcome {
    /// The outcome of a permit that was made use of.
    fn from(grounds: &Grounds) -> Self {
        match grounds {
            Grounds::Granted(_) => Self::Allowed(Ground::Granted),
            Grounds::Public => Self::Allowed(Ground::Public),
            Grounds::Authenticated => Self::Allowed(Ground::Authenticated),
            Grounds::Preflight => Self::Allowed(Ground::Preflight),
            Grounds::ShadowOverride(denial) => Self::Shadowed(denial.reason),
        }
    }
}

impl Outcome {
    /// How many pairs there are.
    pub(super) const COUNT: usize = Ground::COUNT + 3 * DenyReason::COUNT + Cut::COUNT;

    /// The `outcome`: `allow`, `deny`, `shadow`, `error`, `cut`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Allowed(_) => "allow",
            Self::Denied(_) => "deny",
            Self::Shadowed(_) => "shadow",
            Self::Failed(_) => "error",
            Self::Cut(_) => "cut",
        }
    }

    /// The `reason`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Allowed(ground) => ground.word(),
            Self::Denied(reason) | Self::Shadowed(reason) | Self::Failed(reason) => reason.reason(),
            Self::Cut(cut) => cut.reason(),
        }
    }

    /// What was wrong with the token, where that was the reason.
    pub fn fault(self) -> Option<TokenFault> {
        match self {
            Self::Denied(DenyReason::BadToken(fault))
            | Self::Shadowed(DenyReason::BadToken(fault))
            | Self::Cut(Cut::Refused(DenyReason::BadToken(fault))) => Some(fault),
            _ => None,
        }
    }

    /// The position of the pair among all, below [`COUNT`](Self::COUNT).
    pub(super) fn ordinal(self) -> usize {
        match self {
            Self::Allowed(ground) => ground.ordinal(),
            Self::Denied(reason) => Ground::COUNT + reason.ordinal(),
            Self::Shadowed(reason) => Ground::COUNT + DenyReason::COUNT + reason.ordinal(),
            Self::Failed(reason) => Ground::COUNT + 2 * DenyReason::COUNT + reason.ordinal(),
            Self::Cut(cut) => Ground::COUNT + 3 * DenyReason::COUNT + cut.ordinal(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_outcome_has_a_place_of_its_own() {
        let grounds = [Ground::Granted, Ground::Public, Ground::Authenticated, Ground::Preflight].map(Outcome::Allowed);
        let reasons = DenyReason::ALL.into_iter();
        let refused =
            reasons.flat_map(|reason| [Outcome::Denied, Outcome::Shadowed, Outcome::Failed].map(|end| end(reason)));
        let cuts = DenyReason::ALL.into_iter().map(Cut::Refused).chain([Cut::MaxAge]).map(Outcome::Cut);
        let all: Vec<_> = grounds.into_iter().chain(refused).chain(cuts).collect();
        let places: BTreeSet<_> = all.iter().map(|outcome| outcome.ordinal()).collect();
        assert_eq!(places, (0..Outcome::COUNT).collect());
        let names: BTreeSet<_> = all.iter().map(|outcome| (outcome.word(), outcome.reason())).collect();
        assert_eq!(names.len(), Outcome::COUNT);
    }
}
