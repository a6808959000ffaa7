//! One rule, ready to judge: everything a request of it may be asked, all defaults settled.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::Value;

use super::header::HeaderCondition;
use super::host::HostPattern;
use super::method::MethodCondition;
use super::pattern::PathPattern;
use super::spec::{
    ClaimValue, CorsPreflight, EncodedSlash, ImpersonationSpec, Mode, OnStale, PathReading, Revocations, Verify,
};
use super::template::{Pointer, Template};
use crate::domain::{Denial, DenyReason, Grants, PermissionSlug, Principal, ResourceTypeSlug};
use crate::yaml::Place;

/// One rule.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its number in the table, from 0, in the order of the configuration.
    pub index: usize,
    /// Its name.
    pub id: Arc<str>,
    /// Where it is written.
    pub place: Place,
    /// Which paths it covers.
    pub pattern: PathPattern,
    /// Which hosts it covers; empty = all.
    pub hosts: Box<[HostPattern]>,
    /// The methods it covers, in the order of the registry, `HEAD` included where `GET` brings it; `None` = all.
    pub methods: Option<Box<[Box<str>]>>,
    /// What a caller needs.
    pub access: Access,
    /// This value must equal the token's organization.
    pub organization: Option<Template>,
    /// The upstream's name; `None` only where no upstreams are configured.
    pub upstream: Option<Arc<str>>,
    /// Whether denials are enforced.
    pub mode: Mode,
    /// Whether a 403 is answered 404.
    pub conceal: bool,
    /// What happens when the facts are stale.
    pub on_stale: OnStale,
    /// With [`OnStale::Serve`]: facts older than this are not served either. At most 24 hours.
    pub serve_until: Duration,
    /// Facts older than this are stale; at most the global bound.
    pub max_staleness: Duration,
    /// What the list of revocations is worth.
    pub revocations: Revocations,
    /// Whether `%2F` may stand in the path.
    pub encoded_slash: EncodedSlash,
    /// The largest body that is read for values, in bytes; at most 64 KiB.
    pub body_limit: usize,
    /// The largest body that is let through, in bytes, 0 = any; `None` = what holds for all rules.
    pub max_body: Option<u64>,
    /// Whether tokens with an `act` claim are accepted.
    pub impersonation: Impersonation,
    /// Claims that the token must have, each with one of the values.
    pub require_claims: Box<[ClaimCondition]>,
    /// What happens to preflight requests.
    pub cors_preflight: CorsPreflight,
    /// The issuers whose tokens are accepted; `None` = all.
    pub tokens: Option<Box<[Box<str>]>>,
    /// At this age a request that still goes on is cut. At least a second.
    pub max_stream_age: Option<Duration>,
    /// Who has the last word on what the facts allow.
    pub verify: Verify,
    pub(super) method_condition: MethodCondition,
    pub(super) conditions: Box<[HeaderCondition]>,
    pub(super) pointers: Box<[Pointer]>,
    /// How its upstream reads paths.
    pub(super) reading: PathReading,
    /// Whether its header conditions may select a weaker requirement.
    pub(super) weaker_acknowledged: bool,
}

/// A claim that a token must have: one of the values, or a list with one of them in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimCondition {
    /// The claim.
    pub name: Box<str>,
    /// What it may be. Never empty.
    pub values: Box<[ClaimValue]>,
}

/// What a caller needs.
#[derive(Debug, Clone)]
pub enum Access {
    /// Nothing.
    Public,
    /// A valid token.
    Authenticated,
    /// Every one of these. Never empty.
    All(Box<[AskTemplate]>),
    /// At least one of these. Never empty.
    Any(Box<[AskTemplate]>),
}

/// One permission, with values of the request still to be filled in.
#[derive(Debug, Clone)]
pub struct AskTemplate {
    /// The permission.
    pub permission: PermissionSlug,
    /// On which resource; `None` = organization-wide.
    pub resource: Option<ResourceTemplate>,
    /// Where the organization-wide answer comes from.
    pub grants: Grants,
}

/// One resource, with values of the request still to be filled in.
#[derive(Debug, Clone)]
pub enum ResourceTemplate {
    /// By its `authz_resource_` id.
    Id(Template),
    /// By type and external id.
    External {
        /// The resource type.
        resource_type: ResourceTypeSlug,
        /// The external id.
        id: Template,
    },
}

/// Whether tokens with an `act` claim are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Impersonation {
    /// For every method.
    Allow,
    /// For safe methods (RFC 9110 §9.2.1) only.
    #[default]
    Safe,
    /// For none.
    Deny,
}

impl From<ImpersonationSpec> for Impersonation {
    fn from(spec: ImpersonationSpec) -> Self {
        match spec {
            ImpersonationSpec::Allow => Self::Allow,
            ImpersonationSpec::Deny => Self::Deny,
        }
    }
}

impl Route {
    /// Whether anybody may pass, also without a token.
    pub fn is_public(&self) -> bool {
        matches!(self.access, Access::Public)
    }

    /// The permissions asked for.
    pub fn asks(&self) -> &[AskTemplate] {
        match &self.access {
            Access::Public | Access::Authenticated => &[],
            Access::All(asks) | Access::Any(asks) => asks,
        }
    }

    /// Whether facts are needed for a decision.
    pub fn consults_facts(&self) -> bool {
        self.asks().iter().any(AskTemplate::consults_facts)
    }

    /// Whether the body has to be read for a decision.
    pub fn needs_body(&self) -> bool {
        !self.pointers.is_empty()
    }

    /// Whether the route takes this token at all: its issuer, impersonation, required claims. Permissions are another question.
    ///
    /// # Errors
    /// `not_accepted`, with what it was in the detail; never a claim's value.
    pub fn accepts(&self, principal: &Principal, method: &Method, is_upgrade: bool) -> Result<(), Denial> {
        let refused = |detail: String| Err(Denial { reason: DenyReason::NotAccepted, detail: Some(detail.into()) });
        if let Some(tokens) = &self.tokens
            && !tokens.iter().any(|name| **name == *principal.issuer)
        {
            return refused(format!("the route does not accept tokens of issuer `{}`", principal.issuer));
        }
        if principal.impersonated && self.impersonation.refuses(method, is_upgrade) {
            return refused("the token impersonates, which the route does not accept".to_owned());
        }
        if let Some(claim) = self.require_claims.iter().find(|claim| !claim.holds(principal)) {
            return refused(format!("claim `{}` is not what the route requires", claim.name));
        }
        Ok(())
    }

    /// All templates of the route.
    pub(super) fn templates(&self) -> impl Iterator<Item = &Template> {
        let ids = self.asks().iter().filter_map(|ask| ask.resource.as_ref()).map(ResourceTemplate::id);
        self.organization.iter().chain(ids)
    }
}

impl ClaimCondition {
    fn holds(&self, principal: &Principal) -> bool {
        let fits = |claim: &Value| self.values.iter().any(|value| value.is(claim));
        match principal.claims.get(&*self.name) {
            Some(Value::Array(items)) => items.iter().any(fits),
            Some(claim) => fits(claim),
            None => false,
        }
    }
}

impl Access {
    /// Whether facts are consulted for every permission asked for, where any is asked for.
    pub(super) fn is_looked_for_in_facts(&self) -> bool {
        match self {
            Self::Public | Self::Authenticated => true,
            Self::All(asks) | Self::Any(asks) => asks.iter().all(AskTemplate::consults_facts),
        }
    }
}

impl AskTemplate {
    fn consults_facts(&self) -> bool {
        self.grants != Grants::Token || self.resource.as_ref().is_some_and(ResourceTemplate::consults_facts)
    }

    pub(super) fn needs_body(&self) -> bool {
        self.resource.as_ref().is_some_and(|resource| resource.id().needs_body())
    }
}

impl fmt::Display for ResourceTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::External { resource_type, id } => write!(f, "{resource_type}:{id}"),
        }
    }
}

impl ResourceTemplate {
    pub(super) fn id(&self) -> &Template {
        match self {
            Self::Id(id) | Self::External { id, .. } => id,
        }
    }

    /// The organization itself is compared with the token's.
    pub(super) fn consults_facts(&self) -> bool {
        !matches!(self, Self::External { resource_type, .. } if resource_type.is_organization())
    }

    /// Whether both mean the same resource for the same request.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Id(a), Self::Id(b)) => a.same(b),
            (Self::External { resource_type: a, id: x }, Self::External { resource_type: b, id: y }) => {
                a == b && x.same(y)
            }
            _ => false,
        }
    }
}

impl Impersonation {
    /// Whether a token with an `act` claim is refused for `method`. What is written on a connection after an upgrade is no safe method.
    pub fn refuses(self, method: &Method, is_upgrade: bool) -> bool {
        match self {
            Self::Allow => false,
            Self::Safe => is_upgrade || !method.is_safe(),
            Self::Deny => true,
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, asks) = match self {
            Self::Public => return f.write_str("public"),
            Self::Authenticated => return f.write_str("authenticated"),
            Self::All(asks) => ("all of ", asks),
            Self::Any(asks) => ("any of ", asks),
        };
        f.write_str(if asks.len() == 1 { "" } else { word })?;
        for (index, ask) in asks.iter().enumerate() {
            write!(f, "{}{ask}", if index > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for AskTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.resource {
            None => write!(f, "{}", self.permission),
            Some(ResourceTemplate::Id(id)) => write!(f, "{} on {id}", self.permission),
            Some(ResourceTemplate::External { resource_type, id }) => {
                write!(f, "{} on {resource_type}:{id}", self.permission)
            }
        }
    }
}

impl ClaimValue {
    /// Whether `claim` is this value, of the same type.
    fn is(&self, claim: &Value) -> bool {
        match self {
            Self::Bool(value) => claim.as_bool() == Some(*value),
            Self::Integer(value) => claim.as_i64() == Some(*value),
            Self::Text(value) => claim.as_str() == Some(value),
        }
    }
}
