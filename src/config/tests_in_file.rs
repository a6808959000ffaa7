//! `tests` and `model`: rule tests, with facts made up from a few words.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Map, Value};

use super::Reader;
use super::raw;
use crate::domain::record::{CatalogRows, OrganizationRows};
use crate::domain::{
    MembershipId, OrganizationId, PermissionSlug, Principal, RoleSlug, SessionId, UnixSeconds, UserId,
};
use crate::token;
use crate::wire::{Environment, Grant, OrganizationSpec};
use crate::yaml::{Node, Place, Problem};

/// The organization that tests happen in when their claims name none.
const TEST_ORGANIZATION: &str = "org_test";

/// One rule test.
#[derive(Debug, Clone)]
pub struct RuleTest {
    /// What it shows.
    pub name: String,
    /// Where it is written.
    pub place: Place,
    /// The caller; `None` = no token.
    pub caller: Option<Principal>,
    /// The facts; `None` = none.
    pub facts: Option<(CatalogRows, OrganizationId, OrganizationRows)>,
    /// The method.
    pub method: Method,
    /// The host.
    pub host: String,
    /// Path and query.
    pub target: String,
    /// Header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Option<Vec<u8>>,
    /// What must come out.
    pub expect: Expectation,
}

/// What must come out of a rule test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The code of the denial; `None` = it must pass.
    pub deny: Option<String>,
    /// The rule that must have decided; `None` = any.
    pub route: Option<String>,
}

impl Reader<'_> {
    pub(super) fn tests(&mut self, tokens: &token::Settings) -> Vec<RuleTest> {
        let document = self.document;
        let environment = document.get("model").and_then(|node| match Environment::read(node) {
            Ok(environment) => Some((environment, node)),
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        });
        let Some(tests) = document.get("tests") else { return Vec::new() };
        if !tests.is_sequence() {
            self.problem_at("tests", "`tests` is not a list");
        }
        let mut read = Vec::new();
        for node in tests.items() {
            match self.read::<raw::Test>(node).map(|test| rule_test(test, node, environment.as_ref(), tokens)) {
                Some(Ok(test)) => read.push(test),
                Some(Err(problem)) => self.problems.push(problem),
                None => {}
            }
        }
        read
    }
}

fn rule_test(
    raw: raw::Test,
    node: &Node,
    environment: Option<&(Environment, &Node)>,
    tokens: &token::Settings,
) -> Result<RuleTest, Problem> {
    let wrong = |message: String| node.problem(message);
    let (method, url) = raw
        .when
        .split_once(' ')
        .ok_or_else(|| raw.when.problem("`when` is not of the form `METHOD /path`".to_owned()))?;
    let method =
        Method::from_bytes(method.as_bytes()).map_err(|_| raw.when.problem(format!("`{method}` is not a method")))?;
    let (host, target) = match url.split_once("://").map(|(_, rest)| rest) {
        Some(rest) => {
            let slash = rest.find('/').unwrap_or(rest.len());
            let (host, target) = rest.split_at(slash);
            (host.to_owned(), if target.is_empty() { "/".to_owned() } else { target.to_owned() })
        }
        None => ("localhost".to_owned(), url.to_owned()),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &raw.given.headers {
        let name =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong(format!("`{name}` is not a header name")))?;
        let value =
            HeaderValue::from_str(value).map_err(|_| wrong(format!("the value of `{name}` is not one of a header")))?;
        headers.append(name, value);
    }
    let body = raw.given.body.as_ref().map(|body| body.to_string().into_bytes());
    if body.is_some() && !headers.contains_key(http::header::CONTENT_TYPE) {
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let grants: Vec<Grant<MembershipId>> = match &raw.given.assignments {
        None => Vec::new(),
        Some(texts) => texts
            .iter()
            .map(|text| text.parse().map_err(|error| texts.problem(format!("{error}"))))
            .collect::<Result<_, Problem>>()?,
    };
    let caller = caller(raw.given.claims, &grants, tokens).map_err(wrong)?;
    let facts = match (&caller, environment) {
        (Some(caller), Some((environment, model))) => {
            let organization = caller.organization.clone().map_or_else(|| OrganizationId::new(TEST_ORGANIZATION), Ok);
            let mut spec = OrganizationSpec::empty(organization.map_err(|error| wrong(error.to_string()))?);
            spec.assignments = grants;
            if let Some(membership) = caller.membership.clone() {
                spec.memberships.push(crate::wire::MembershipSpec {
                    id: membership,
                    user: caller.user.clone(),
                    status: crate::domain::record::MembershipStatus::Active,
                    roles: Vec::new(),
                });
            }
            spec.invent_missing(environment, |_| caller.user.clone());
            let rows = environment.organization(&spec, model).map_err(|problems| {
                let text: Vec<_> = problems.into_iter().map(|problem| problem.message).collect();
                wrong(text.join("; "))
            })?;
            Some((environment.rows().clone(), spec.id, rows))
        }
        (_, None) if !grants.is_empty() => {
            return Err(wrong("`assignments` need `model` to say what roles mean".to_owned()));
        }
        _ => None,
    };
    let expect = match raw.expect {
        raw::Expect::Word(word) if word == "allow" => Expectation { deny: None, route: None },
        raw::Expect::Word(word) => return Err(wrong(format!("`{word}`: expected `allow` or `{{deny: CODE}}`"))),
        raw::Expect::Details(raw::Expected { deny: Some(_), allow: Some(true), .. }) => {
            return Err(wrong("`allow` and `deny` exclude each other".to_owned()));
        }
        raw::Expect::Details(raw::Expected { deny: None, allow: None | Some(false), .. }) => {
            return Err(wrong("expected `allow: true` or `deny: CODE`".to_owned()));
        }
        raw::Expect::Details(raw::Expected { deny, route, .. }) => Expectation { deny, route },
    };
    Ok(RuleTest {
        name: raw.name,
        place: node.place().clone(),
        caller,
        facts,
        method,
        host,
        target,
        headers,
        body,
        expect,
    })
}

/// The caller that the claims describe. Assignments without claims make a caller of the membership they name.
fn caller(
    claims: Option<Map<String, Value>>,
    grants: &[Grant<MembershipId>],
    tokens: &token::Settings,
) -> Result<Option<Principal>, String> {
    if claims.is_none() && grants.is_empty() {
        return Ok(None);
    }
    let claims = claims.unwrap_or_default();
    let issuer = tokens.issuers.first();
    let names = issuer.map(|issuer| issuer.claims.clone()).unwrap_or_default();
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let list = |name: &str| -> Vec<&str> {
        claims.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let membership = match (text(&names.membership), grants.first()) {
        (Some(id), _) => Some(MembershipId::new(id).map_err(|error| error.to_string())?),
        (None, Some(grant)) => Some(grant.subject.clone()),
        (None, None) => None,
    };
    let organization = text(&names.organization).unwrap_or(TEST_ORGANIZATION);
    let mut permissions = list(&names.permissions)
        .into_iter()
        .map(PermissionSlug::new)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    permissions.sort();
    permissions.dedup();
    let roles = list(&names.roles).into_iter().map(RoleSlug::new).collect::<Result<Vec<_>, _>>();
    let roles = roles.map_err(|error| error.to_string())?;
    Ok(Some(Principal {
        issuer: issuer.map_or_else(|| "test".into(), |issuer| issuer.name.clone()),
        user: UserId::new(text(&names.user).unwrap_or("user_test")).map_err(|error| error.to_string())?,
        session: text(&names.session).map(SessionId::new).transpose().map_err(|error| error.to_string())?,
        organization: Some(OrganizationId::new(organization).map_err(|error| error.to_string())?),
        membership,
        role: text(&names.role).map(RoleSlug::new).transpose().map_err(|error| error.to_string())?,
        roles: roles.into(),
        permissions: permissions.into(),
        issued_at: None,
        expires_at: UnixSeconds(i64::MAX),
        impersonated: claims.get("act").is_some_and(|act| !act.is_null()),
        claims,
    }))
}
