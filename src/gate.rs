//! The gate: one request in, one verdict out. Knows no HTTP server; every door calls it.
//!
//! The order is part of the contract, because it decides which of several faults is answered: canonical path, route, credential,
//! token, conditions on the token, values of path, query and headers, facts, decision, and only then a body. A request looks at the
//! rules, the catalog and its organization once and uses only what it saw.

mod changes;
pub mod explain;
mod forward;
mod in_force;
mod revision;
mod revoked;
mod summary;
mod verify;
mod who;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, Method, header};
use tokio::sync::watch;

use crate::domain::{
    Caller, Clock, Decision, Denial, DenyReason, Facts, OrganizationId, Principal, Requirement, Revision, Standing,
    TokenFault, decide,
};
use crate::live::{Lookup, View, World};
use crate::rules::{self, CanonicalPath, Mode, OnStale, Route, RouteMatch, RouteTable, Sources, Verify, single_header};
use crate::source::Check;
use crate::telemetry::{Metrics, RouteMeter};
use crate::token::{Place, TokenError, Verified, credential};

use self::revision::Waiters;

pub use self::changes::Changes;
pub use self::forward::Forward;
pub use self::in_force::{InForce, Rules, Tokens};
pub use self::revision::MIN_REVISION;
pub use self::summary::{Access, AskSummary, CallerSummary, Explanation, FactsSummary, RouteSummary, WhoAnswer};
pub use self::who::WhoRequest;

/// Decides requests.
pub struct Gate {
    in_force: ArcSwap<InForce>,
    world: Arc<World>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    waiters: Waiters,
    /// Says that what is in force was replaced.
    replaced: watch::Sender<()>,
    /// Asked where a route says `verify: live`.
    check: Option<Arc<dyn Check>>,
}

/// A request as every door describes it.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// The method.
    pub method: &'a Method,
    /// Path and query, as received.
    pub target: &'a [u8],
    /// Whether the target came in absolute form, so that what is forwarded is not what was received.
    pub is_absolute: bool,
    /// The host, with the port if the client gave one.
    pub host: &'a str,
    /// All header fields.
    pub headers: &'a HeaderMap,
    /// Whether the client asks to leave HTTP on this connection.
    pub is_upgrade: bool,
    /// The body, once the gate has asked for it.
    pub body: Option<&'a [u8]>,
    /// Whether the server that facts come from is not to be asked, where a rule has it asked: it has confirmed this request of late.
    pub is_confirmed: bool,
}

/// What is to be done with a request.
#[must_use]
pub enum Verdict {
    /// Send it on, as described.
    Forward(Forward),
    /// Answer it.
    Refuse(Denial),
    /// Everything else permits it so far: read its body, of at most so many bytes, and ask again with it.
    ReadBody {
        /// Bytes.
        limit: usize,
    },
}

/// What became known of a request on the way to its verdict; for the log and the metrics.
#[derive(Clone, Default)]
pub struct Trace {
    in_force: Option<Arc<InForce>>,
    route: Option<usize>,
    /// The verified caller.
    pub principal: Option<Verified<Principal>>,
    /// The resource asked for first, when the request was denied or details were wanted.
    pub resource: Option<Box<str>>,
    detailed: bool,
    /// Whether the rule lets the server that facts come from have the last word.
    pub asks_server: bool,
    /// The facts that were consulted.
    pub revision: Option<Revision>,
    /// How old they were.
    pub facts_age: Option<Duration>,
    /// Uptime from which on what was decided on is too old.
    holds_until: Option<Duration>,
}

impl Gate {
    /// A gate that judges by `in_force` and the facts of `world`.
    pub fn new(in_force: InForce, world: Arc<World>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self {
            in_force: ArcSwap::from_pointee(in_force),
            world,
            clock,
            metrics,
            waiters: Waiters::default(),
            replaced: watch::Sender::new(()),
            check: None,
        }
    }

    /// Judges one request, and notes in `trace` what became known of it. With the trace of a request that has [begun](Self::begin), or was
    /// judged without its body, it is judged by the same rules and tokens, and nothing else that was known of it counts any more.
    pub async fn check(&self, request: &RequestView<'_>, trace: &mut Trace) -> Verdict {
        let in_force = trace.in_force.take().unwrap_or_else(|| self.in_force.load_full());
        *trace = Trace { in_force: Some(Arc::clone(&in_force)), ..Trace::new(trace.detailed) };
        match self.walk(&in_force, request, trace).await {
            Ok(verdict) => verdict,
            Err(denial) => refuse(&in_force, request, denial, trace),
        }
    }

    /// From the target to the verdict; whatever refuses on the way may still be overridden by shadow mode.
    async fn walk(
        &self,
        in_force: &Arc<InForce>,
        request: &RequestView<'_>,
        trace: &mut Trace,
    ) -> Result<Verdict, Denial> {
        let rules = &in_force.rules;
        let (raw_path, query) = split_target(request.target);
        let path = rules.table.path(raw_path)?;
        let found = find(&rules.table, request, &path)?;
        let Some(found) = found else {
            return Err(Denial::new(DenyReason::NoRoute));
        };
        let route = found.route();
        trace.route = Some(route.index);
        let principal = if found.is_preflight() || route.is_public() {
            None
        } else {
            Some(self.identify(in_force, request, route, trace)?)
        };
        let body = match request.body {
            Some(bytes) if found.needs_body() => Some(found.read_body(bytes)?),
            _ => None,
        };
        let sources = Sources {
            query: query.and_then(|query| std::str::from_utf8(query).ok()),
            headers: request.headers,
            claims: principal.as_ref().map(|principal| &principal.claims),
            body: body.as_ref(),
        };
        let requirement =
            if body.is_some() { found.requirement(&sources)? } else { found.requirement_before_body(&sources)? };
        let decided = self.decide(route, &requirement, principal.as_ref(), request, trace).await;
        if trace.detailed || route.verify == Verify::Live || !matches!(decided, Ok((Decision::Allow(_), _))) {
            let resource = requirement.asks().iter().find_map(|ask| ask.resource.as_ref());
            trace.resource = resource.map(|on| on.to_string().into());
        }
        let (decision, view) = decided?;
        let permit = match decision {
            Decision::Allow(permit) => permit,
            Decision::Deny(denial) => return Err(denial),
        };
        if found.needs_body() && body.is_none() {
            rules::body_is_readable(request.headers)?;
            return Ok(Verdict::ReadBody { limit: route.body_limit });
        }
        let membership = forward::membership(principal.as_ref(), view.as_ref());
        let questions =
            verify::questions(route, &requirement, principal.as_deref(), membership.as_ref(), view.as_ref())?;
        drop(view);
        if let Some(questions) = &questions {
            trace.asks_server = true;
            if !request.is_confirmed {
                self.verify(questions).await?;
            }
        }
        if let Some(principal) = &principal {
            // Facts, a revision or the server may have been waited for, and what was waited for may be a revocation.
            revoked::check(&self.world, &*self.clock, route, principal, trace)?;
        }
        let target = forward::target(request, &path, query);
        Ok(Verdict::Forward(Forward {
            permit,
            target,
            in_force: Arc::clone(in_force),
            route: route.index,
            principal: principal.clone(),
            membership,
            revision: trace.revision,
            credential_headers: if found.is_preflight() { in_force.credential_headers() } else { Box::default() },
        }))
    }

    /// Finds and verifies the credential, and holds it against what the route accepts.
    fn identify(
        &self,
        in_force: &InForce,
        request: &RequestView<'_>,
        route: &Route,
        trace: &mut Trace,
    ) -> Result<Verified<Principal>, Denial> {
        let InForce { rules, tokens, .. } = in_force;
        let found = credential::find(request.headers, &tokens.sources)
            .map_err(|ambiguous| Denial::because(DenyReason::AmbiguousCredentials, ambiguous.to_string()))?;
        let credential = found.ok_or_else(|| Denial::new(DenyReason::MissingToken))?;
        let principal = tokens.verifier.verify(credential.token(), self.clock.now()).map_err(denial_of)?;
        trace.principal = Some(principal.clone());
        if !tokens.may_stand_at(&principal.issuer, credential.source()) {
            let detail = format!("issuer `{}` has no tokens in `{}`", principal.issuer, credential.source());
            return Err(Denial::because(DenyReason::BadToken(TokenFault::Issuer), detail));
        }
        revoked::check(&self.world, &*self.clock, route, &principal, trace)?;
        if credential.place() == Place::Cookie {
            same_site(request, &rules.csrf_origins)?;
        }
        route.accepts(&principal, request.method, request.is_upgrade)?;
        Ok(principal)
    }

    /// Decides on one view of the facts; the view comes back for what else it knows of the caller.
    async fn decide(
        &self,
        route: &Route,
        requirement: &Requirement<'_>,
        principal: Option<&Verified<Principal>>,
        request: &RequestView<'_>,
        trace: &mut Trace,
    ) -> Result<(Decision, Option<View>), Denial> {
        let caller = principal.map(|principal| principal.caller());
        let organization = caller.and_then(|caller| caller.organization);
        let Some(organization) = organization.filter(|_| requirement.consults_facts()) else {
            return Ok((decide(requirement, caller, Facts::Unavailable), None));
        };
        match self.facts(route, organization, request, trace).await {
            Ok(view) => Ok((decide(requirement, caller, view.facts()), Some(view))),
            Err(outage) => {
                let decision = without_facts(requirement, caller, outage)?;
                (trace.revision, trace.facts_age) = (None, None);
                Ok((decision, None))
            }
        }
    }

    /// The facts of `organization`: there, as new as the client asks for, and as fresh as the route does.
    async fn facts(
        &self,
        route: &Route,
        organization: &OrganizationId,
        request: &RequestView<'_>,
        trace: &mut Trace,
    ) -> Result<View, Denial> {
        let wanted = revision::wanted(request.headers)?;
        if let Some(wanted) = wanted {
            self.waiters.until(&self.world, wanted, &self.metrics).await?;
        }
        let view = self.known(organization, wanted.is_some()).await?;
        if let Some(wanted) = wanted.filter(|wanted| wanted.epoch != view.revision().epoch) {
            // Another history may have begun since.
            revision::reached(&self.world, wanted)?;
        }
        trace.revision = Some(view.revision());
        self.fresh_enough(route, &view, trace)?;
        Ok(view)
    }

    /// What is known of `organization`: at once when it is in memory, or after a bounded time. Former facts will do unless the client
    /// `asks` for some at least as new as it knows.
    async fn known(&self, organization: &OrganizationId, asks: bool) -> Result<View, Denial> {
        let will_do = |view: &View| !asks || !view.is_former();
        match self.world.view(organization) {
            Lookup::Ready(view) if will_do(&view) => return Ok(view),
            Lookup::Ready(_) | Lookup::NotResident => {}
            Lookup::NoFacts => return Err(Denial::because(DenyReason::FactsUnavailable, "there are no facts yet")),
        }
        let loaded = self.world.load(organization).await;
        loaded.map_err(|error| Denial::because(DenyReason::FactsUnavailable, error.to_string()))?;
        match self.world.view(organization) {
            Lookup::Ready(view) if will_do(&view) => Ok(view),
            Lookup::Ready(_) => {
                Err(Denial::because(DenyReason::RevisionUnavailable, "the organization has to be read again"))
            }
            Lookup::NotResident | Lookup::NoFacts => {
                Err(Denial::because(DenyReason::FactsUnavailable, "the organization had to leave again"))
            }
        }
    }

    fn fresh_enough(&self, route: &Route, view: &View, trace: &mut Trace) -> Result<(), Denial> {
        let uptime = self.clock.uptime();
        let freshness = view.freshness(uptime);
        trace.facts_age = freshness.age;
        match freshness.standing(route.max_staleness) {
            Standing::Fresh => {}
            Standing::Degraded => self.metrics.degraded_decisions.inc(),
            Standing::Stale => {
                let served =
                    route.on_stale == OnStale::Serve && freshness.age.is_some_and(|age| age <= route.serve_until);
                if !served {
                    return Err(Denial::new(DenyReason::FactsStale));
                }
                self.metrics.degraded_decisions.inc();
            }
        }
        let bound = match route.on_stale {
            OnStale::Deny => route.max_staleness,
            OnStale::Serve => route.max_staleness.max(route.serve_until),
        };
        trace.holds_for(bound.saturating_sub(freshness.age.unwrap_or_default()), uptime);
        Ok(())
    }
}

/// What is decided when facts would be consulted and cannot be had: what the token alone answers, and otherwise `outage`.
fn without_facts(
    requirement: &Requirement<'_>,
    caller: Option<Caller<'_>>,
    outage: Denial,
) -> Result<Decision, Denial> {
    if !outage.reason.is_outage() {
        return Err(outage);
    }
    match decide(requirement, caller, Facts::Unavailable) {
        Decision::Deny(denial) if denial.reason.is_outage() => Err(outage),
        decided => Ok(decided),
    }
}

/// A denial, unless the route only watches.
fn refuse(in_force: &Arc<InForce>, request: &RequestView<'_>, denial: Denial, trace: &Trace) -> Verdict {
    let rules = &in_force.rules;
    let route = trace.route.and_then(|index| rules.table.routes().get(index));
    let Some(route) = route.filter(|route| route.mode == Mode::Shadow) else { return Verdict::Refuse(denial) };
    let permit = match denial.overridden() {
        Ok(permit) => permit,
        Err(denial) => return Verdict::Refuse(denial),
    };
    let (raw_path, query) = split_target(request.target);
    let Ok(path) = rules.table.path(raw_path) else {
        return Verdict::Refuse(Denial::because(DenyReason::Internal, "a judged path became ambiguous"));
    };
    let target = forward::target(request, &path, query);
    let principal = trace.principal.clone();
    let membership = principal.as_ref().and_then(|principal| principal.membership.clone());
    let (in_force, route) = (Arc::clone(in_force), route.index);
    let (revision, credential_headers) = (trace.revision, Box::default());
    Verdict::Forward(Forward { permit, target, in_force, route, principal, membership, revision, credential_headers })
}

impl Trace {
    /// Nothing known yet; `detailed` when more than the decision needs is to be noted.
    pub fn new(detailed: bool) -> Self {
        Self { detailed, ..Self::default() }
    }

    /// Whether more than the decision needs is noted.
    pub fn is_detailed(&self) -> bool {
        self.detailed
    }

    /// Whether the route answers 404 for 403.
    pub fn conceals(&self) -> bool {
        self.route().is_some_and(|route| route.conceal)
    }

    /// Uptime from which on the facts or revocations that were looked at are too old; `None` when none were needed.
    pub fn holds_until(&self) -> Option<Duration> {
        self.holds_until
    }

    fn holds_for(&mut self, time: Duration, uptime: Duration) {
        let until = uptime.saturating_add(time);
        self.holds_until = Some(self.holds_until.map_or(until, |earlier| earlier.min(until)));
    }

    /// After this time an exchange that the rule permitted ends.
    pub fn max_stream_age(&self) -> Option<Duration> {
        self.route()?.max_stream_age
    }

    /// The id of the rule that covers the request.
    pub fn route_id(&self) -> Option<&str> {
        self.route().map(|route| &*route.id)
    }

    /// Lets `record` use the meter of the route, or of no route.
    pub fn meter(&self, record: impl FnOnce(&RouteMeter)) {
        if let Some(in_force) = &self.in_force {
            record(in_force.rules.meters.at(self.route));
        }
    }

    fn route(&self) -> Option<&Route> {
        self.in_force.as_ref()?.rules.table.routes().get(self.route?)
    }
}

fn split_target(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', target).and_then(|at| Some((target.get(..at)?, target.get(at + 1..)?))) {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

fn find<'t, 'p>(
    table: &'t RouteTable,
    request: &RequestView<'_>,
    path: &'p CanonicalPath<'p>,
) -> Result<Option<RouteMatch<'t, 'p>>, Denial> {
    match table.find_preflight(request.method, request.host, path, request.headers)? {
        // It shows no token, and what it would open is not judged again.
        Some(_) if request.is_upgrade => {
            Err(Denial::because(DenyReason::BadRequest, "a preflight that asks for an upgrade"))
        }
        Some(preflight) => Ok(Some(preflight)),
        None => table.find(request.method, request.host, path, request.headers),
    }
}

fn denial_of(error: TokenError) -> Denial {
    match error {
        TokenError::Fault(fault, detail) => Denial { reason: DenyReason::BadToken(fault), detail: Some(detail) },
        unavailable @ TokenError::KeysUnavailable { .. } => {
            Denial::because(DenyReason::KeysUnavailable, unavailable.to_string())
        }
    }
}

/// Browsers send cookies along with requests that other sites cause; such a request may only read (Fetch Metadata, RFC 6454).
fn same_site(request: &RequestView<'_>, origins: &[Box<str>]) -> Result<(), Denial> {
    const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    if request.method.is_safe() && !request.is_upgrade {
        return Ok(());
    }
    let one = |name: &HeaderName| {
        single_header(request.headers, name.as_str())
            .map_err(|repeated| Denial::because(DenyReason::BadRequest, repeated.to_string()))
    };
    let site = one(&FETCH_SITE)?;
    if site.is_some_and(|site| matches!(site.as_bytes(), b"same-origin" | b"none")) {
        return Ok(());
    }
    let origin = one(&header::ORIGIN)?;
    if origin.is_some_and(|origin| origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())) {
        return Ok(());
    }
    Err(Denial::because(DenyReason::CrossSite, "neither `sec-fetch-site` nor `origin` shows that it came from here"))
}
