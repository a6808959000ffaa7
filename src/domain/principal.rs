//! Who asks, as the decision sees it.

use std::sync::Arc;

use super::id::{MembershipId, OrganizationId, PermissionSlug, RoleSlug, SessionId, UserId};
use super::time::UnixSeconds;

/// Everything a verified token says that Portcullis uses.
///
/// Building one proves nothing: only `token::Verified<Principal>` says that a signature stood behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    /// The `name` of the issuer in the configuration that vouches for this principal.
    pub issuer: Arc<str>,
    /// The person (`sub`).
    pub user: UserId,
    /// The login session (`sid`).
    pub session: Option<SessionId>,
    /// The selected organization (`org_id`).
    pub organization: Option<OrganizationId>,
    /// The membership of the user in the organization, where the token carries it.
    pub membership: Option<MembershipId>,
    /// The highest-priority organization role.
    pub role: Option<RoleSlug>,
    /// All organization roles, in the order of the token.
    pub roles: Box<[RoleSlug]>,
    /// Organization-wide permissions: sorted, without repetition.
    pub permissions: Box<[PermissionSlug]>,
    /// When the token was issued (`iat`).
    pub issued_at: Option<UnixSeconds>,
    /// When the token ends (`exp`); leeway not included.
    pub expires_at: UnixSeconds,
    /// Whether somebody acts in the user's name (`act`).
    pub impersonated: bool,
    /// The further claims that the configuration refers to (`{claim.name}`, `require_claims`), by name.
    pub claims: serde_json::Map<String, serde_json::Value>,
}

impl Principal {
    /// What the decision needs to know of this principal.
    pub fn caller(&self) -> Caller<'_> {
        Caller {
            user: &self.user,
            organization: self.organization.as_ref(),
            membership: self.membership.as_ref(),
            permissions: &self.permissions,
        }
    }
}

/// The part of a [`Principal`] that a decision may depend on.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The person.
    pub user: &'a UserId,
    /// The organization the token is for.
    pub organization: Option<&'a OrganizationId>,
    /// The membership the token names; found by (user, organization) when absent.
    pub membership: Option<&'a MembershipId>,
    /// Organization-wide permissions of the token: sorted, without repetition.
    pub permissions: &'a [PermissionSlug],
}

impl Caller<'_> {
    /// Whether the token itself carries `permission`, organization-wide.
    pub fn claims_permission(&self, permission: &PermissionSlug) -> bool {
        self.permissions.binary_search(permission).is_ok()
    }
}
