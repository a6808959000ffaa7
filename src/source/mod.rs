//! Where facts come from.

mod feed;
mod file;
mod room;
pub mod workos;

use async_trait::async_trait;

pub use feed::{FeedClient, FeedError, FeedSettings};
pub use file::FileSource;
pub use room::Room;
pub use workos::WorkosSource;

use crate::domain::record::{CatalogRows, OrganizationRows};
use crate::domain::{MembershipId, OrganizationId, PermissionSlug, ResourceRef, Revision};
use crate::yaml::Problems;

/// A place that facts are pulled from. Pulled by one task; asked for single organizations by that task's helpers. An implementation bounds
/// its own waits.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// What is there, unless it is what `known` says. An answer proves that at the time of the call nothing newer was there.
    ///
    /// # Errors
    /// [`SourceError`]; the facts in force stay, and grow older.
    async fn pull(&self, known: Option<&Revision>) -> Result<Update, SourceError>;

    /// The facts of one organization, for sources that do not hand out all of them at once; `None` when there is no such organization.
    ///
    /// # Errors
    /// [`SourceError`]; the organization stays unknown for now.
    async fn fetch(&self, organization: &OrganizationId) -> Result<Option<OrganizationRows>, SourceError>;

    /// Whether what is fetched of an organization proves that these are its newest facts, which the answer to a pull does not prove then.
    fn proves_each_organization(&self) -> bool {
        false
    }
}

/// A server that can be asked for one permission at the moment it matters.
#[async_trait]
pub trait Check: Send + Sync + 'static {
    /// Whether the membership has the permission on the resource now. Answers within a bound.
    ///
    /// # Errors
    /// [`SourceError`]; it is not known then.
    async fn check(
        &self,
        membership: &MembershipId,
        permission: &PermissionSlug,
        resource: &ResourceRef<'_>,
    ) -> Result<bool, SourceError>;
}

/// The answer to a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// Nothing has changed.
    Unchanged,
    /// Everything, as of one moment.
    Complete(Complete),
}

/// Facts as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complete {
    /// The moment.
    pub revision: Revision,
    /// What the environment declares.
    pub catalog: CatalogRows,
    /// The organizations.
    pub organizations: Organizations,
}

/// Which organizations come with an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Organizations {
    /// All there are: one that is not among them does not exist.
    All(Vec<(OrganizationId, OrganizationRows)>),
    /// None: each is fetched when it is first asked for.
    OnDemand,
}

/// Why facts could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is not there or does not answer.
    #[error("facts at `{origin}` cannot be read")]
    Unavailable {
        /// The path or URL.
        origin: String,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// It is there and not acceptable.
    #[error("facts at `{origin}` are refused:\n{problems}")]
    Refused {
        /// The path or URL.
        origin: String,
        /// Everything that is wrong with it.
        problems: Problems,
    },
    /// It is larger than is ever read.
    #[error("facts at `{origin}` have {bytes} bytes, at most {limit} are read")]
    TooLarge {
        /// The path or URL.
        origin: String,
        /// Bytes found.
        bytes: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// It is being written to.
    #[error("facts at `{origin}` change while they are read")]
    Unsettled {
        /// The path.
        origin: String,
    },
    /// It changes from one question to the next, so that the answers do not go together.
    #[error("facts at `{origin}` change while they are read: {what}")]
    Inconsistent {
        /// The URL.
        origin: String,
        /// What does not go together.
        what: String,
    },
    /// An answer of it cannot be true.
    #[error("facts at `{origin}` are refused")]
    Implausible {
        /// The URL.
        origin: String,
        /// Which answer, and why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
