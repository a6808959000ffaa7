//! What can become of facts on their way, as metrics call it.

/// What arrived from the source of facts (`kind` of `portcullis_facts_updates_total`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactsUpdate {
    /// Everything at once.
    Complete,
    /// What changed since the revision in force.
    Changes,
    /// One organization, on first use.
    Organization,
}

/// What became of it (`result` of `portcullis_facts_updates_total`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateResult {
    /// In force.
    Applied,
    /// Nothing had changed.
    Unchanged,
    /// It was not acceptable; what was in force stays.
    Refused,
    /// It could not be had.
    Failed,
}

/// How the load of one organization ended (`result` of `portcullis_organization_loads_total`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrganizationLoad {
    /// It is resident now.
    Loaded,
    /// The source does not know it.
    Unknown,
    /// The source failed.
    Failed,
    /// It did not come within the wait of the request that asked for it.
    TimedOut,
    /// There was no room for it.
    NoRoom,
}

/// What became of a minimum revision that was not in force (`result` of `portcullis_min_revision_total`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinRevision {
    /// It was waited for, and came.
    Waited,
    /// It was of another history than the one in force, and let pass.
    OtherHistory,
    /// It did not come in time.
    Unavailable,
    /// Too many waited already.
    Crowded,
}

/// How a source answered one request over the network (`result` of `portcullis_facts_requests_total`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceAnswer {
    /// As it should.
    Answered,
    /// With an error that says something about the question.
    Refused,
    /// That there were too many questions.
    Limited,
    /// With an error of its own, or not at all.
    Failed,
}

/// Why following the store was interrupted (`reason` of `portcullis_facts_interruptions_total`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// It does not take the sync key any more.
    Unauthorized,
    /// It could not be reached, answered with an error, or ended the stream.
    Unreachable,
    /// It proved nothing and brought nothing for a while.
    Silent,
    /// It left something out.
    Gap,
    /// It has another history, or does not reach back as far.
    OtherHistory,
    /// It went back in time.
    Rollback,
    /// What it said was not acceptable.
    Refused,
    /// A fault of ours.
    Panic,
}

impl FactsUpdate {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Changes => "changes",
            Self::Organization => "organization",
        }
    }
}

impl UpdateResult {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl OrganizationLoad {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::NoRoom => "no_room",
        }
    }
}

impl MinRevision {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Waited => "waited",
            Self::OtherHistory => "other_history",
            Self::Unavailable => "unavailable",
            Self::Crowded => "crowded",
        }
    }
}

impl SourceAnswer {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::Failed => "failed",
        }
    }
}

impl Interruption {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Unreachable => "unreachable",
            Self::Silent => "silent",
            Self::Gap => "gap",
            Self::OtherHistory => "other_history",
            Self::Rollback => "rollback",
            Self::Refused => "refused",
            Self::Panic => "panic",
        }
    }
}
