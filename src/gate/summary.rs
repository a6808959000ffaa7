//! Explanations in shapes that read well as JSON, and as text.

use std::fmt;

use serde::Serialize;

use crate::domain::decision::judge;
use crate::domain::discover::{Description, NearestGrant};
use crate::domain::{Facts, OrganizationId, Principal, Requirement};
use crate::rules::{Access as Needs, AskTemplate, Mode, Route};

/// What would become of a request, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// `allow`, `deny`, or `shadow` when it would pass only because the route is in shadow mode.
    pub outcome: &'static str,
    /// Why: the grounds of a permit, or the reason of a denial.
    pub reason: &'static str,
    /// What exactly is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteSummary>,
    /// What the path captured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub captures: Vec<(String, String)>,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<CallerSummary>,
    /// Each permission asked for, and what came of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<AskSummary>,
    /// The facts that were consulted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facts: Option<FactsSummary>,
}

/// A rule, for people.
#[derive(Debug, Clone, Serialize)]
pub struct RouteSummary {
    /// Its id.
    pub id: String,
    /// File, line and column.
    pub place: String,
    /// The paths it covers.
    pub path: String,
    /// The methods it covers; empty = all.
    pub methods: Vec<String>,
    /// The hosts it covers; empty = all.
    pub hosts: Vec<String>,
    /// `public`, `authenticated`, or the permissions it requires.
    pub requires: String,
    /// `enforce` or `shadow`.
    pub mode: &'static str,
    /// The upstream.
    pub upstream: Option<String>,
}

/// A caller, for people.
#[derive(Debug, Clone, Serialize)]
pub struct CallerSummary {
    /// The issuer's name in the configuration; `facts` when a membership was asked for.
    pub issuer: String,
    /// The person.
    pub user: String,
    /// The organization.
    pub organization: Option<String>,
    /// The membership.
    pub membership: Option<String>,
    /// Organization-wide permissions of the token.
    pub permissions: Vec<String>,
}

/// One permission asked for.
#[derive(Debug, Clone, Serialize)]
pub struct AskSummary {
    /// The permission.
    pub permission: String,
    /// On which resource; absent = organization-wide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Whether the caller holds it.
    pub granted: bool,
    /// By what, when granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Description>,
    /// Why not, when not granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied: Option<&'static str>,
    /// The smallest assignment that would grant it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_allow: Option<NearestGrant>,
}

/// The facts that a decision consulted.
#[derive(Debug, Clone, Serialize)]
pub struct FactsSummary {
    /// Their revision.
    pub revision: String,
    /// Milliseconds since they were proven to be the newest.
    pub age_ms: Option<u128>,
}

/// Somebody who can make a request.
#[derive(Debug, Clone, Serialize)]
pub struct Access {
    /// In which organization.
    pub organization: OrganizationId,
    /// The membership.
    pub membership: String,
    /// The person.
    pub user: String,
    /// For which permission, on which resource.
    pub permission: String,
    /// By what.
    pub by: String,
}

/// Who can make a request.
#[derive(Debug, Clone, Serialize)]
pub struct WhoAnswer {
    /// The rule.
    pub route: RouteSummary,
    /// What has to be known beside the list.
    pub note: &'static str,
    /// Everybody found, by organization and membership.
    pub access: Vec<Access>,
}

impl Explanation {
    pub(super) fn empty() -> Self {
        Self {
            outcome: "deny",
            reason: "internal",
            detail: None,
            route: None,
            captures: Vec::new(),
            caller: None,
            asks: Vec::new(),
            facts: None,
        }
    }
}

impl RouteSummary {
    pub(super) fn of(route: &Route) -> Self {
        Self {
            id: route.id.to_string(),
            place: route.place.to_string(),
            path: route.pattern.to_string(),
            methods: route.methods.iter().flatten().map(ToString::to_string).collect(),
            hosts: route.hosts.iter().map(ToString::to_string).collect(),
            requires: requires(route),
            mode: match route.mode {
                Mode::Enforce => "enforce",
                Mode::Shadow => "shadow",
            },
            upstream: route.upstream.as_deref().map(str::to_owned),
        }
    }
}

fn requires(route: &Route) -> String {
    let list = |asks: &[AskTemplate], between: &str| asks.iter().map(ask).collect::<Vec<_>>().join(between);
    let needs = match &route.access {
        Needs::Public => "public".to_owned(),
        Needs::Authenticated => "authenticated".to_owned(),
        Needs::All(asks) => list(asks, " and "),
        Needs::Any(asks) => list(asks, " or "),
    };
    match &route.organization {
        Some(value) => format!("{needs}, in organization {value}"),
        None => needs,
    }
}

fn ask(ask: &AskTemplate) -> String {
    match &ask.resource {
        Some(resource) => format!("{} on {resource}", ask.permission),
        None => ask.permission.to_string(),
    }
}

impl CallerSummary {
    pub(super) fn of(principal: &Principal) -> Self {
        Self {
            issuer: principal.issuer.to_string(),
            user: principal.user.to_string(),
            organization: principal.organization.as_ref().map(ToString::to_string),
            membership: principal.membership.as_ref().map(ToString::to_string),
            permissions: principal.permissions.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Every ask of `requirement`, each judged by itself.
pub(super) fn asks(requirement: &Requirement<'_>, principal: Option<&Principal>, facts: Facts<'_>) -> Vec<AskSummary> {
    let Some(principal) = principal else { return Vec::new() };
    let known = match facts {
        Facts::Known { catalog, shard: Some(shard) } => Some((catalog, shard)),
        Facts::Known { shard: None, .. } | Facts::Unavailable => None,
    };
    let summary = |ask: &crate::domain::Ask<'_>| {
        let judged = judge(ask, principal.caller(), facts);
        let by = judged.as_ref().ok().map(|basis| match known {
            Some((catalog, shard)) => shard.describe(catalog, basis),
            None => Description { claim: true, grant: None },
        });
        let would_allow = known
            .filter(|_| judged.is_err())
            .and_then(|(catalog, shard)| shard.nearest_grant(catalog, ask.permission, ask.resource.as_ref()));
        AskSummary {
            permission: ask.permission.to_string(),
            resource: ask.resource.as_ref().map(ToString::to_string),
            granted: judged.is_ok(),
            by,
            denied: judged.err().map(|reason| reason.reason()),
            would_allow,
        }
    };
    requirement.asks().iter().map(summary).collect()
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.outcome, self.reason)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        if let Some(route) = &self.route {
            write!(f, "\n  rule      {} at {}: {} requires {}", route.id, route.place, route.path, route.requires)?;
            if route.mode == "shadow" {
                f.write_str(", in shadow mode")?;
            }
        }
        for (name, value) in &self.captures {
            write!(f, "\n  capture   {name} = {value}")?;
        }
        if let Some(caller) = &self.caller {
            write!(f, "\n  caller    {}", caller.user)?;
            if let Some(organization) = &caller.organization {
                write!(f, " in {organization}")?;
            }
            if let Some(membership) = &caller.membership {
                write!(f, " as {membership}")?;
            }
            write!(f, ", by {}", caller.issuer)?;
        }
        for ask in &self.asks {
            write!(f, "\n  asks for  {}", ask.permission)?;
            if let Some(resource) = &ask.resource {
                write!(f, " on {resource}")?;
            }
            match (&ask.by, ask.denied) {
                (Some(by), _) => write!(f, ": yes, by {by}")?,
                (None, Some(denied)) => write!(f, ": no, {denied}")?,
                (None, None) => f.write_str(": no")?,
            }
            if let Some(nearest) = &ask.would_allow {
                write!(f, "\n            {nearest} would allow it")?;
            }
        }
        if let Some(facts) = &self.facts {
            write!(f, "\n  facts     {}", facts.revision)?;
            if let Some(age) = facts.age_ms {
                write!(f, ", proven {age} ms ago")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for WhoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = &self.route;
        write!(f, "{} at {}: {} requires {}\n{}", route.id, route.place, route.path, route.requires, self.note)?;
        for access in &self.access {
            let Access { organization, membership, user, permission, by } = access;
            write!(f, "\n  {organization}  {membership}  {user}  {permission}: by {by}")?;
        }
        Ok(())
    }
}
