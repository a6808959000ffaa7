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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_consulted_for_live_grants_and_for_resources_other_than_the_organization() {
        let permission: PermissionSlug = "a:b".parse().unwrap();
        let (project, organization) = ("project".parse().unwrap(), "organization".parse().unwrap());
        let on = |resource_type| Some(ResourceRef::External { resource_type, external_id: "1".into() });
        for (resource, grants, expected) in [
            (None, Grants::Token, false),
            (None, Grants::Live, true),
            (None, Grants::Both, true),
            (on(&organization), Grants::Token, false),
            (on(&organization), Grants::Live, true),
            (on(&project), Grants::Token, true),
            (Some(ResourceRef::Id("authz_resource_1".into())), Grants::Token, true),
        ] {
            let plain = Ask { permission: &permission, resource: None, grants: Grants::Token };
            let ask = Ask { permission: &permission, resource, grants };
            assert_eq!(ask.consults_facts(), expected, "{ask:?}");
            // One that does is enough.
            let asks = Asks::from_vec(vec![plain, ask]);
            for scope in [Scope::All(asks.clone()), Scope::Any(asks.clone())] {
                let requirement = Requirement { organization: None, scope };
                assert_eq!(requirement.consults_facts(), expected, "{requirement:?}");
                assert_eq!(requirement.asks(), &*asks);
            }
        }
        for scope in [Scope::Public, Scope::Preflight, Scope::Authenticated] {
            let requirement = Requirement { organization: Some("org_acme".into()), scope };
            assert!(!requirement.consults_facts() && requirement.asks().is_empty(), "{requirement:?}");
        }
    }
}
