//! Why a request would be allowed or denied, and who could make it: the same steps as a decision, with every intermediate result kept.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::in_force::InForce;
use super::summary::{CallerSummary, Explanation, FactsSummary, RouteSummary, asks};
use super::{Gate, RequestView, Trace, find, revision, revoked, split_target, verify, without_facts};
use crate::domain::{
    Decision, Denial, DenyReason, Facts, Grounds, MembershipId, OrganizationId, Principal, Requirement, UnixSeconds,
    decide,
};
use crate::live::{Lookup, Summary, View};
use crate::rules::{Route, RouteMatch, Sources, body_is_readable};

/// One request, as a person describes it.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The method.
    pub method: String,
    /// A URL, or a path and query.
    pub url: String,
    /// Header fields.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// A token to verify, as if it came in the `authorization` header.
    pub token: Option<String>,
    /// A membership to ask for: its roles of now stand for the claims of its token.
    pub membership: Option<MembershipId>,
    /// The body, for rules that take values from it; JSON, unless a `content-type` says something else.
    pub body: Option<String>,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// No method.
    #[error("`{0}` is not a method")]
    Method(String),
    /// No URL.
    #[error("`{0}` is neither a URL nor a path")]
    Url(String),
    /// No header.
    #[error("`{0}` is not a header field")]
    Header(String),
    /// Nobody knows it.
    #[error("membership `{0}` is not in the facts")]
    Membership(MembershipId),
    /// Two ways to say who.
    #[error("give a token or a membership, not both")]
    TwoCallers,
    /// Nothing is covered by it.
    #[error("no rule covers this request: everybody is refused")]
    NoRoute,
    /// No such rule.
    #[error("there is no route `{0}`")]
    UnknownRoute(String),
    /// No such form.
    #[error("`{0}` is not of the form `type:external id`")]
    Resource(String),
    /// The values of the request are not enough.
    #[error("{0}; name the resource instead")]
    Values(String),
    /// A request that cannot be judged.
    #[error("{0}")]
    Refused(String),
}

impl QuestionError {
    pub(super) fn refused(denial: &Denial) -> Self {
        Self::Refused(describe(denial))
    }

    pub(super) fn values(denial: &Denial) -> Self {
        Self::Values(describe(denial))
    }
}

/// A question turned into a request.
pub(super) struct Question {
    method: Method,
    host: String,
    target: String,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
}

impl Question {
    pub(super) fn new(request: &ExplainRequest) -> Result<Self, QuestionError> {
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|_| QuestionError::Method(request.method.escape_debug().to_string()))?;
        let (host, target) = split_url(&request.url)?;
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            let wrong = || QuestionError::Header(format!("{}: …", name.escape_debug()));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            headers.append(name, HeaderValue::from_str(value).map_err(|_| wrong())?);
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned).unwrap_or(host);
        if let Some(token) = &request.token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            headers.append(header::AUTHORIZATION, value.map_err(|_| QuestionError::Header("token".to_owned()))?);
        }
        if request.body.is_some() && !headers.contains_key(header::CONTENT_TYPE) {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(Self { method, host, target, headers, body: request.body.clone().map(String::into_bytes) })
    }

    pub(super) fn view(&self) -> RequestView<'_> {
        RequestView {
            method: &self.method,
            target: self.target.as_bytes(),
            is_absolute: false,
            host: &self.host,
            headers: &self.headers,
            is_upgrade: self.headers.contains_key(header::UPGRADE),
            body: self.body.as_deref(),
            is_confirmed: false,
        }
    }
}

fn split_url(url: &str) -> Result<(String, String), QuestionError> {
    // What is wrong inside a path is the gate's to say.
    if url.starts_with('/') {
        return Ok(("localhost".to_owned(), url.to_owned()));
    }
    let wrong = || QuestionError::Url(url.escape_debug().to_string());
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).ok_or_else(wrong)?;
    url.parse::<Uri>().map_err(|_| wrong())?;
    match rest.find('/').map(|slash| rest.split_at(slash)) {
        Some((host, target)) => Ok((host.to_owned(), target.to_owned())),
        None => Ok((rest.to_owned(), "/".to_owned())),
    }
}

impl Gate {
    /// What would become of `request`, and why. Decides by the same steps as [`Gate::check`], and neither counts nor logs.
    ///
    /// # Errors
    /// [`QuestionError`] when the question makes no sense.
    pub async fn explain(&self, request: &ExplainRequest) -> Result<Explanation, QuestionError> {
        if request.token.is_some() && request.membership.is_some() {
            return Err(QuestionError::TwoCallers);
        }
        let question = Question::new(request)?;
        let assumed = match &request.membership {
            Some(membership) => {
                Some(self.assumed(membership).ok_or_else(|| QuestionError::Membership(membership.clone()))?)
            }
            None => None,
        };
        Ok(self.explain_as(&question.view(), assumed.as_ref()).await)
    }

    /// As [`Gate::explain`], for a caller whose claims are given instead of a token: rule tests.
    pub async fn explain_as(&self, request: &RequestView<'_>, assumed: Option<&Principal>) -> Explanation {
        let in_force = self.in_force.load_full();
        let mut explanation = Explanation::empty();
        let result = self.steps(&in_force, request, assumed, &mut explanation).await;
        let denial = match result {
            Ok(grounds) => {
                explanation.outcome = "allow";
                explanation.reason = grounds;
                return explanation;
            }
            Err(denial) => denial,
        };
        explanation.outcome = "deny";
        explanation.reason = denial.reason.reason();
        explanation.code = Some(denial.reason.code());
        explanation.detail = denial.detail.as_ref().map(ToString::to_string);
        if let DenyReason::BadToken(fault) = denial.reason {
            explanation.detail = Some(match &explanation.detail {
                Some(detail) => format!("{}: {detail}", fault.code()),
                None => fault.code().to_owned(),
            });
        }
        let shadow = explanation.route.as_ref().is_some_and(|route| route.mode == "shadow");
        if shadow && denial.overridden().is_ok() {
            explanation.outcome = "shadow";
        }
        explanation
    }

    async fn steps(
        &self,
        in_force: &InForce,
        request: &RequestView<'_>,
        assumed: Option<&Principal>,
        explanation: &mut Explanation,
    ) -> Result<&'static str, Denial> {
        let rules = &in_force.rules;
        let (raw_path, query) = split_target(request.target);
        let path = rules.table.path(raw_path)?;
        let found = find(&rules.table, request, &path)?.ok_or_else(|| Denial::new(DenyReason::NoRoute))?;
        let route = found.route();
        explanation.route = Some(RouteSummary::of(route));
        explanation.captures = captures(&found);
        let mut trace = Trace::default();
        let verified;
        let principal: Option<&Principal> = if found.is_preflight() || route.is_public() {
            None
        } else if let Some(assumed) = assumed {
            route.accepts(assumed, request.method, request.is_upgrade)?;
            Some(assumed)
        } else {
            let identified = self.identify(in_force, request, route, &mut trace);
            explanation.caller = trace.principal.as_deref().map(CallerSummary::of);
            verified = identified?;
            Some(&verified)
        };
        explanation.caller = principal.map(CallerSummary::of);
        let mut sources = Sources {
            query: query.and_then(|query| std::str::from_utf8(query).ok()),
            headers: request.headers,
            claims: principal.map(|principal| &principal.claims),
            body: None,
        };
        let body;
        if found.needs_body() {
            // As for a request: what the body cannot change is decided before it is read.
            let requirement = found.requirement_before_body(&sources)?;
            self.weigh(&requirement, route, principal, request, explanation).await?;
            body_is_readable(request.headers)?;
            let bytes = request.body.ok_or_else(|| Denial::because(DenyReason::BadValue, "the rule reads a body"))?;
            body = found.read_body(bytes)?;
            sources.body = Some(&body);
        }
        let requirement = found.requirement(&sources)?;
        let grounds = self.weigh(&requirement, route, principal, request, explanation).await?;
        if let Some(principal) = principal.filter(|_| assumed.is_none()) {
            // As for a request: once more after the last wait.
            revoked::check(&self.world, &*self.clock, route, principal, &mut trace)?;
        }
        Ok(grounds)
    }

    /// Decides `requirement` on the facts in force, and notes what it was decided on.
    async fn weigh(
        &self,
        requirement: &Requirement<'_>,
        route: &Route,
        principal: Option<&Principal>,
        request: &RequestView<'_>,
        explanation: &mut Explanation,
    ) -> Result<&'static str, Denial> {
        let organization = principal.and_then(|principal| principal.organization.as_ref());
        let caller = principal.map(Principal::caller);
        let (view, decision) = match organization.filter(|_| requirement.consults_facts()) {
            Some(organization) => match self.facts_now(route, organization, request, explanation).await {
                Ok(view) => {
                    let decision = decide(requirement, caller, view.facts());
                    (Some(view), Ok(decision))
                }
                Err(outage) => (None, without_facts(requirement, caller, outage)),
            },
            None => (None, Ok(decide(requirement, caller, Facts::Unavailable))),
        };
        let facts = view.as_ref().map_or(Facts::Unavailable, View::facts);
        explanation.asks = asks(requirement, principal, facts);
        let permit = match decision? {
            Decision::Allow(permit) => permit,
            Decision::Deny(denial) => return Err(denial),
        };
        let membership = principal.and_then(|principal| {
            principal.membership.clone().or_else(|| view.as_ref()?.shard()?.membership_of(&principal.user))
        });
        let questions = verify::questions(route, requirement, principal, membership.as_ref(), view.as_ref())?;
        drop(view);
        if let Some(questions) = &questions {
            self.verify(questions).await?;
        }
        Ok(match permit.grounds() {
            Grounds::Granted(_) => "granted",
            Grounds::Public => "public",
            Grounds::Authenticated => "authenticated",
            Grounds::Preflight => "preflight",
            Grounds::ShadowOverride(_) => "shadow",
        })
    }

    /// The facts of `organization`, as a request would have them, but for the time that it waits for a revision.
    async fn facts_now(
        &self,
        route: &Route,
        organization: &OrganizationId,
        request: &RequestView<'_>,
        explanation: &mut Explanation,
    ) -> Result<View, Denial> {
        let wanted = revision::wanted(request.headers)?;
        if let Some(wanted) = wanted {
            revision::reached(&self.world, wanted)?;
        }
        let view = self.known(organization, wanted.is_some()).await?;
        let mut trace = Trace::default();
        let fresh = self.fresh_enough(route, &view, &mut trace);
        let age_ms = trace.facts_age.map(|age| age.as_millis());
        explanation.facts = Some(FactsSummary { revision: view.revision().to_string(), age_ms });
        fresh.map(|()| view)
    }

    /// The compiled rules, for people.
    pub fn routes(&self) -> Vec<RouteSummary> {
        self.in_force.load().rules.table.routes().iter().map(RouteSummary::of).collect()
    }

    /// The facts in force, for people.
    pub fn world_summary(&self) -> Summary {
        self.world.summary(self.clock.uptime())
    }

    /// The caller that `membership` would be, had it a token minted now.
    fn assumed(&self, membership: &MembershipId) -> Option<Principal> {
        self.world.organizations().into_iter().find_map(|organization| {
            let view = self.ready(&organization)?;
            let claims = view.shard()?.claims(view.catalog(), membership)?;
            Some(Principal {
                issuer: "facts".into(),
                user: claims.member.user,
                session: None,
                organization: Some(claims.organization),
                membership: Some(claims.member.id),
                role: claims.role,
                roles: claims.roles.into(),
                permissions: claims.permissions.into(),
                issued_at: Some(self.clock.now()),
                expires_at: UnixSeconds(i64::MAX),
                impersonated: false,
                claims: serde_json::Map::new(),
            })
        })
    }

    pub(super) fn ready(&self, organization: &OrganizationId) -> Option<View> {
        match self.world.view(organization) {
            Lookup::Ready(view) => Some(view),
            Lookup::NotResident | Lookup::NoFacts => None,
        }
    }
}

fn captures(found: &RouteMatch<'_, '_>) -> Vec<(String, String)> {
    let names = found.route().pattern.captures();
    names.filter_map(|name| Some((name.to_owned(), found.capture(name)?.into_owned()))).collect()
}

fn describe(denial: &Denial) -> String {
    match &denial.detail {
        Some(detail) => format!("{}: {detail}", denial.reason.reason()),
        None => denial.reason.reason().to_owned(),
    }
}
