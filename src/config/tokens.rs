//! `tokens`.

use std::str::FromStr;
use std::time::Duration;

use super::Reader;
use super::raw::{self, OneOrMany, RequiredClaims};
use crate::domain::OrganizationId;
use crate::token::{self, Algorithm, Audience, IssuerSettings, JwksUrl, KeySource, RequiredClaim, SUPPORTED};
use crate::yaml::Node;

impl Reader<'_> {
    pub(super) fn tokens(&mut self) -> token::Settings {
        let document = self.document;
        let Some(node) = document.get("tokens") else { return token::Settings { issuers: Vec::new() } };
        if !node.is_sequence() {
            self.problem_at("tokens", "`tokens` is not a list of issuers");
        }
        let several = node.items().len() > 1;
        let mut settings = token::Settings { issuers: Vec::new() };
        for item in node.items() {
            settings.issuers.extend(self.issuer(item, several));
        }
        // What goes wrong between entries; what is wrong inside one was noted at its place.
        if self.problems.is_empty() {
            for problem in settings.problems() {
                self.problem_at("tokens", problem);
            }
        }
        settings
    }

    fn issuer(&mut self, node: &Node, several: bool) -> Option<IssuerSettings> {
        let raw: raw::Tokens = self.read(node)?;
        let at = |key: &str| node.get(key).unwrap_or(node);
        let keys = match (raw.jwks, raw.jwks_file) {
            (Some(url), None) => {
                let url = url.map(|url| JwksUrl::new(&url));
                self.accept(&url.place, url.value).map(KeySource::Url)
            }
            (None, Some(file)) => Some(KeySource::File(self.path(&file))),
            (Some(both), Some(_)) => {
                self.problems.push(both.problem("`jwks` and `jwks_file` exclude each other"));
                None
            }
            (None, None) => {
                self.problems.push(node.problem("neither `jwks` nor `jwks_file` is given"));
                None
            }
        };
        let mut algorithms = Vec::new();
        for name in raw.algorithms.iter() {
            match Algorithm::from_str(name).ok().filter(|algorithm| SUPPORTED.contains(algorithm)) {
                Some(algorithm) => algorithms.push(algorithm),
                None => {
                    let message = format!("algorithm `{name}` is not supported, expected one of {SUPPORTED:?}");
                    self.problems.push(raw.algorithms.problem(message));
                }
            }
        }
        let mut from = Vec::new();
        for source in raw.from.iter() {
            from.extend(self.accept(&raw.from.place, source.parse()));
        }
        let organizations = match raw.organizations {
            None if several => {
                let message = "`organizations` is missing: with several issuers each must say whom it may speak for";
                self.problems.push(node.problem(message));
                None
            }
            None => Some(token::Organizations::Any),
            Some(raw) => self.organizations(raw, at("organizations")),
        };
        if raw.leeway.0 > IssuerSettings::MOST_LEEWAY {
            self.problems.push(at("leeway").problem("`leeway` is longer than 60s"));
        }
        let audience = match raw.audience {
            OneOrMany::One(word) if word == "none" => Audience::None,
            other => Audience::AnyOf(other.into_vec()),
        };
        let required_claims = match raw.required_claims {
            RequiredClaims::Nothing => Vec::new(),
            RequiredClaims::Names(names) => {
                names.into_iter().map(|name| RequiredClaim { name, values: Vec::new() }).collect()
            }
            RequiredClaims::Values(values) => {
                let claim = |(name, values): (_, OneOrMany<_>)| RequiredClaim { name, values: values.into_vec() };
                values.into_iter().map(claim).collect()
            }
        };
        if audience == Audience::None && required_claims.is_empty() {
            let message = "`audience: none` needs `required_claims` that only an access token has, such as [sid]";
            self.problems.push(at("audience").problem(message));
        }
        let claims = token::ClaimNames {
            user: raw.claims.user,
            organization: raw.claims.organization,
            membership: raw.claims.membership,
            permissions: raw.claims.permissions,
            role: raw.claims.role,
            roles: raw.claims.roles,
            session: raw.claims.session,
        };
        Some(IssuerSettings {
            name: raw.name.as_str().into(),
            issuers: raw.issuer.into_vec(),
            audience,
            required_claims,
            organizations: organizations?,
            keys: keys?,
            algorithms,
            from,
            leeway: raw.leeway.0,
            max_lifetime: Some(raw.max_lifetime.0).filter(|lifetime| *lifetime > Duration::ZERO),
            claims,
            keep: Vec::new(),
        })
    }

    fn organizations(&mut self, raw: raw::Organizations, node: &Node) -> Option<token::Organizations> {
        match raw {
            raw::Organizations::Word(word) if word == "any" => Some(token::Organizations::Any),
            raw::Organizations::Word(word) => {
                self.problems
                    .push(node.problem(format!("`{word}` is neither `any`, a list of ids nor `{{prefix: …}}`")));
                None
            }
            raw::Organizations::Ids(ids) => {
                let ids = ids.iter().map(|id| OrganizationId::new(id)).collect::<Result<Vec<_>, _>>();
                self.accept(node.place(), ids).map(token::Organizations::Only)
            }
            raw::Organizations::Prefix(raw::Prefix { prefix }) => Some(token::Organizations::Prefix(prefix)),
        }
    }
}
