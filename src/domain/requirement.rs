//! What a route asks for, with the values of one request filled in.

use smallvec::SmallVec;

use super::id::{PermissionSlug, ResourceRef};

/// What has to hold before a request may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement<'a> {
    /// This text must equal the token's organization, byte for byte; judged before `scope`, without facts.
    pub organization: Option<std::borrow::Cow<'a, str>>,
    /// The rest.
    pub scope: Scope<'a>,
}

/// How much a route asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Nothing: anybody may pass, also without a token.
    Public,
    /// A cross-origin preflight request, forwarded by explicit setting.
    Preflight,
    /// A valid token.
    Authenticated,
    /// Every one of these; the first that fails answers. Never empty.
    All(Asks<'a>),
    /// At least one of these. Never empty.
    Any(Asks<'a>),
}

/// Usually one.
pub type Asks<'a> = SmallVec<[Ask<'a>; 1]>;

/// One permission, organization-wide or on one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask<'a> {
    /// The permission.
    pub permission: &'a PermissionSlug,
    /// On which resource; `None` = organization-wide.
    pub resource: Option<ResourceRef<'a>>,
    /// Where the organization-wide answer comes from.
    pub grants: Grants,
}

/// Where the organization-wide answer comes from (`grants:`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grants {
    /// The token's claim, inline: no facts needed.
    #[default]
    Token,
    /// The membership's organization roles in the facts: a revocation takes effect at once.
    Live,
    /// Both must say yes.
    Both,
}

impl Ask<'_> {
    /// Whether facts are needed to answer. A resource of type `organization` is compared with the token's organization only.
    pub fn consults_facts(&self) -> bool {
        let on_resource = match &self.resource {
            None => false,
            Some(ResourceRef::Id(_)) => true,
            Some(ResourceRef::External { resource_type, .. }) => !resource_type.is_organization(),
        };
        on_resource || self.grants != Grants::Token
    }
}

impl<'a> Requirement<'a> {
    /// Whether any part needs facts.
    pub fn consults_facts(&self) -> bool {
        self.asks().iter().any(Ask::consults_facts)
    }

    /// The permissions asked for, in the order of the rule.
    pub fn asks(&self) -> &[Ask<'a>] {
        match &self.scope {
            Scope::Public | Scope::Preflight | Scope::Authenticated => &[],
            Scope::All(asks) | Scope::Any(asks) => asks,
        }
    }
}
