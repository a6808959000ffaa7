//! What a rule asks for: `require`, `authenticated`, `public`, and what may stand beside them.

use super::Compiler;
use crate::domain::Grants;
use crate::rules::header::HeaderCondition;
use crate::rules::pattern::PathPattern;
use crate::rules::route::{Access, AskTemplate, ResourceTemplate};
use crate::rules::spec::{AskSpec, OnStale, RequireSpec, ResourceSpec, RouteSpec, Verify};
use crate::yaml::{Node, Place, Placed};

impl Compiler<'_> {
    pub(super) fn access(&mut self, node: &Node, spec: &RouteSpec, pattern: Option<&PathPattern>) -> Option<Access> {
        for flag in spec.authenticated.iter().chain(&spec.public).filter(|flag| !flag.value) {
            self.problem(&flag.place, "only `true` can stand here; leave the key out instead");
        }
        match (&spec.require, &spec.authenticated, &spec.public) {
            (Some(require), None, None) => self.require(spec, require, pattern),
            (None, Some(_), None) => Some(Access::Authenticated),
            (None, None, Some(_)) => Some(Access::Public),
            _ => {
                let message =
                    format!("route `{}` needs exactly one of `require`, `authenticated` and `public`", spec.id.value);
                self.problem(node.place(), message);
                None
            }
        }
    }

    fn require(
        &mut self,
        spec: &RouteSpec,
        require: &Placed<RequireSpec>,
        pattern: Option<&PathPattern>,
    ) -> Option<Access> {
        let grants = self.grants(spec);
        let (asks, any) = match &require.value {
            RequireSpec::One(ask) => (vec![ask], false),
            RequireSpec::Any(asks) => (asks.iter().map(|ask| &ask.value).collect(), true),
            RequireSpec::All(asks) => (asks.iter().map(|ask| &ask.value).collect(), false),
        };
        if asks.is_empty() {
            self.problem(&require.place, "nothing is required; write `authenticated: true` if any valid token will do");
        }
        if let Some(resource) = &spec.resource
            && asks.iter().all(|ask| ask.resource.is_some())
            && !asks.is_empty()
        {
            self.problem(&resource.place, "`resource` is never used: every part of `require` names its own");
        }
        let asks: Vec<AskTemplate> = asks.into_iter().filter_map(|ask| self.ask(spec, ask, grants, pattern)).collect();
        Some(if any { Access::Any(asks.into()) } else { Access::All(asks.into()) })
    }

    fn grants(&mut self, spec: &RouteSpec) -> Grants {
        let Some(grants) = spec.grants.as_ref().or(self.defaults.grants.as_ref()).cloned() else {
            return Grants::default();
        };
        if grants.value != Grants::Token && !self.context.facts {
            self.problem(&grants.place, "`grants` other than `token` needs facts, and `facts.source` is `none`");
        }
        grants.value
    }

    fn ask(
        &mut self,
        spec: &RouteSpec,
        ask: &AskSpec,
        grants: Grants,
        pattern: Option<&PathPattern>,
    ) -> Option<AskTemplate> {
        let Some(resource) = ask.resource.as_ref().or(spec.resource.as_ref()) else {
            return Some(AskTemplate { permission: ask.permission.clone(), resource: None, grants });
        };
        let pattern = pattern?;
        let template = match &resource.value {
            ResourceSpec::Id(id) => ResourceTemplate::Id(self.template(id, pattern)?),
            ResourceSpec::External { resource_type, id } => {
                ResourceTemplate::External { resource_type: resource_type.clone(), id: self.template(id, pattern)? }
            }
        };
        if template.consults_facts() && !self.context.facts {
            self.problem(&resource.place, "`resource` needs facts, and `facts.source` is `none`");
        }
        Some(AskTemplate { permission: ask.permission.clone(), resource: Some(template), grants })
    }

    /// Keys that promise something which would never be checked.
    pub(super) fn contradictions(&mut self, spec: &RouteSpec, access: &Access, conditions: &[HeaderCondition]) {
        let kind = match access {
            Access::Public => Some("public"),
            Access::Authenticated => Some("authenticated"),
            Access::All(_) | Access::Any(_) => None,
        };
        let of_permissions =
            [("resource", place(&spec.resource)), ("grants", place(&spec.grants)), ("verify", place(&spec.verify))];
        let of_tokens = [
            ("organization", place(&spec.organization)),
            ("require_claims", place(&spec.require_claims)),
            ("tokens", place(&spec.tokens)),
            ("impersonation", place(&spec.impersonation)),
        ];
        let tokens = of_tokens.into_iter().filter(|_| matches!(access, Access::Public));
        for (key, place) in of_permissions.into_iter().filter(|_| kind.is_some()).chain(tokens) {
            if let (Some(place), Some(kind)) = (place, kind) {
                self.problem(place, format!("`{key}` has no meaning on a route that is `{kind}: true`"));
            }
        }
        if let (Some(until), OnStale::Deny) =
            (&spec.serve_until, spec.on_stale.or(self.defaults.on_stale).unwrap_or_default())
        {
            self.problem(&until.place, "`serve_until` has no meaning without `on_stale: serve`");
        }
        if let Some(verify) = spec.verify.as_ref().filter(|verify| verify.value == Verify::Live)
            && !access.is_looked_for_in_facts()
        {
            let message = "`verify: live` confirms what the facts grant: the rule needs a `resource`, or `grants` other than `token`";
            self.problem(&verify.place, message);
        }
        if let (Some(weaker), true) = (&spec.weaker, conditions.is_empty()) {
            self.problem(&weaker.place, "`weaker` has no meaning without header conditions");
        }
    }
}

fn place<T>(placed: &Option<Placed<T>>) -> Option<&Place> {
    placed.as_ref().map(|placed| &placed.place)
}
