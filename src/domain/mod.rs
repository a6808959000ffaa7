//! The words of the product and the decision. Pure: no I/O, no async, no clock, no framework.

mod at_once;
pub mod build;
pub mod catalog;
pub mod claims;
pub mod decision;
pub mod digest;
pub mod discover;
pub mod id;
pub mod principal;
mod reason;
pub mod record;
pub mod requirement;
pub mod shard;
pub mod time;

pub use build::{Anomalies, Anomaly, BuildError, Built, Keep};
pub use catalog::{Catalog, Generation};
pub use decision::{Decision, Denial, DenyReason, Facts, Grounds, Permit, TokenFault, decide};
pub use digest::Digest;
pub use id::{
    AssignmentId, Epoch, ExternalId, GroupId, Id, IdError, MembershipId, OrganizationId, PermissionSlug, ResourceId,
    ResourceRef, ResourceTypeSlug, Revision, RoleId, RoleSlug, SessionId, UserId,
};
pub use principal::{Caller, Principal};
pub use record::{
    CatalogRecord, CatalogRows, Change, Delta, OrganizationRecord, OrganizationRows, Part, Record, Transaction,
};
pub use requirement::{Ask, Grants, Requirement, Scope};
pub use shard::{Basis, Memory, Shard};
pub use time::{Clock, Freshness, Standing, UnixSeconds};
