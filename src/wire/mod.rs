//! Models and facts as others write them: YAML or JSON in, records of [`crate::domain`] out.
//!
//! Nothing is read by halves: a document is accepted as a whole, or every problem in it is reported, each with its place.

pub mod api;
pub mod feed;

mod facts;
mod grant;
mod ids;
mod model;
mod organization;
mod resolve;
mod revocations;
mod spot;

pub use facts::{Facts, FactsFile, Loader};
pub use grant::{Grant, GrantError, ResourceName, Subject};
pub use model::{Environment, ExternalIds, Model, NO_DEFAULT_ROLE, PermissionSpec, ResourceTypeSpec, RoleSpec};
pub use organization::{GroupSpec, MembershipSpec, OrganizationSpec, ResourceSpec};
pub use resolve::{Sample, reserved_start};
pub use revocations::{Holder, Revocation, RevocationKind, RevocationList};
