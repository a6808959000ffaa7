//! Route rules: YAML in, a table out that finds the one rule of a request and what it asks for. Pure: no I/O, no async, no clock.
//!
//! ```text
//! routes, defaults (yaml::Node) -- compile --> RouteTable
//! request --> CanonicalPath --> RouteTable::find --> RouteMatch --> (values) --> domain::Requirement
//! ```
//!
//! **Which rule wins.** A rule matches when its path, host, method and header conditions all do. Of the rules that match, paths are
//! compared first, segment by segment from the left: literal over capture over rest. Then hosts: exact over the longer `*.suffix` over
//! any. Then methods: listed over `HEAD` implied by `GET` over any. Then headers: the conditions that contain the other's. Two rules that
//! some request matches and that are equal in all of this are a load error.
//!
//! **The order of a decision.** [`RouteTable::path`], [`RouteTable::find`] · the token · [`Route::accepts`] ·
//! [`RouteMatch::requirement_before_body`] and its decision · the body, when [`RouteMatch::needs_body`] · [`RouteMatch::requirement`] and
//! its decision.

mod body;
mod compile;
mod fold;
mod header;
mod host;
mod method;
mod misleading;
mod overlap;
mod path;
mod pattern;
mod query;
mod route;
mod spec;
mod strength;
mod template;
mod tree;
mod values;

use std::ops::ControlFlow;

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN};
use http::{HeaderMap, Method};
use smallvec::SmallVec;

use host::{HostId, HostIndex};
use method::{Closeness, MethodIndex, Methods};
use tree::{Leaf, Tree};

use crate::domain::requirement::Asks;
use crate::domain::{Denial, DenyReason, Requirement, Scope};
use crate::yaml::Problem;

pub use body::{BodyError, BodyValues, readable as body_is_readable};
pub use compile::{Context, Upstream, compile};
pub use header::{RepeatedHeader, fold_byte, fold_header, single_header};
pub use host::{HostPattern, host_name, is_host, same_authority};
pub use misleading::{Misleading, misleading};
pub use path::{BadPath, CanonicalPath, MAX_PATH_BYTES, split_target};
pub use pattern::{Capture, PathPattern, PatternError, Segment};
pub use query::QueryError;
pub use route::{Access, AskTemplate, ClaimCondition, Impersonation, ResourceTemplate, Route};
pub use spec::{
    AskSpec, ClaimValue, CorsPreflight, DefaultsSpec, EncodedSlash, ImpersonationSpec, MatchSpec, Mode, OnStale,
    OneOrMore, PathCase, PathReading, RequireSpec, ResourceSpec, Revocations, RouteSpec, TrailingSlash, Verify, Weaker,
};
pub use template::{Pointer, Template, TemplateError};
pub use values::Sources;

/// All rules, indexed.
#[derive(Debug, Clone)]
pub struct RouteTable {
    routes: Vec<Route>,
    methods: Methods,
    hosts: HostIndex,
    /// Paths as they are.
    exact: Tree,
    /// Paths as upstreams read them that do not tell all of them apart: one tree for each such reading.
    generous: Vec<Tree>,
    warnings: Vec<Problem>,
    claim_names: Vec<Box<str>>,
    encoded_slashes: bool,
}

/// The one rule of a request.
#[derive(Debug, Clone, Copy)]
pub struct RouteMatch<'t, 'p> {
    route: &'t Route,
    path: &'p CanonicalPath<'p>,
    preflight: bool,
}

/// What selects a rule beside the path.
#[derive(Clone, Copy)]
struct Selection<'s> {
    method: MethodIndex,
    hosts: &'s [HostId],
    headers: &'s HeaderMap,
}

impl RouteTable {
    /// The rules in the order of the configuration; [`Route::index`] is the place in here.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The rule called `id`.
    pub fn route(&self, id: &str) -> Option<&Route> {
        self.routes.iter().find(|route| *route.id == *id)
    }

    /// What is allowed but worth a second look.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The claims that the rules look at, sorted: a token verifier has to keep them in `Principal::claims`.
    pub fn claim_names(&self) -> impl Iterator<Item = &str> {
        self.claim_names.iter().map(AsRef::as_ref)
    }

    /// Brings the raw path of a request (without query) to canonical form.
    ///
    /// # Errors
    /// [`BadPath`] when it is ambiguous, or has an encoded slash and no rule allows that.
    pub fn path<'p>(&self, raw: &'p [u8]) -> Result<CanonicalPath<'p>, BadPath> {
        if self.encoded_slashes { CanonicalPath::parse_with_encoded_slashes(raw) } else { CanonicalPath::parse(raw) }
    }

    /// The rule that covers a request; `None` is `no_route`. `host` is the request's authority, port allowed.
    ///
    /// # Errors
    /// `bad_request` for an unknown method or a repeated header that selects rules; `bad_path` for an encoded slash that the rule does
    /// not allow, and where the upstream reads the path as one that another upstream's rule covers.
    pub fn find<'t, 'p>(
        &'t self,
        method: &Method,
        host: &str,
        path: &'p CanonicalPath<'p>,
        headers: &HeaderMap,
    ) -> Result<Option<RouteMatch<'t, 'p>>, Denial> {
        let method = self.methods.of(method).ok_or_else(|| bad_request("method is unknown"))?;
        self.find_method(method, host, path, headers)
    }

    /// For a cross-origin preflight request (`OPTIONS` with `Origin` and `Access-Control-Request-Method`, Fetch §4.8): the rule that
    /// covers the requested method, when it forwards preflights. `None`: judge the request like any other.
    ///
    /// # Errors
    /// As [`Self::find`]; `bad_request` also when one of the two headers is repeated.
    pub fn find_preflight<'t, 'p>(
        &'t self,
        method: &Method,
        host: &str,
        path: &'p CanonicalPath<'p>,
        headers: &HeaderMap,
    ) -> Result<Option<RouteMatch<'t, 'p>>, Denial> {
        if method != Method::OPTIONS
            || !headers.contains_key(ORIGIN)
            || !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        {
            return Ok(None);
        }
        let one = |name: HeaderName| {
            single_header(headers, name.as_str()).map_err(|repeated| bad_request(&repeated.to_string()))
        };
        one(ORIGIN)?;
        let requested = one(ACCESS_CONTROL_REQUEST_METHOD)?.and_then(|name| name.to_str().ok());
        let requested = requested.and_then(|name| self.methods.named(name));
        let requested = requested.ok_or_else(|| bad_request("requested method is unknown"))?;
        let found = self.find_method(requested, host, path, headers)?;
        let forwarded = found.filter(|found| found.route.cors_preflight == CorsPreflight::Forward);
        Ok(forwarded.map(|found| RouteMatch { preflight: true, ..found }))
    }

    fn find_method<'t, 'p>(
        &'t self,
        method: MethodIndex,
        host: &str,
        path: &'p CanonicalPath<'p>,
        headers: &HeaderMap,
    ) -> Result<Option<RouteMatch<'t, 'p>>, Denial> {
        let hosts = self.hosts.matching(host);
        let selection = Selection { method, hosts: &hosts, headers };
        let mut route = self.select(&self.exact, path, selection)?;
        if !self.generous.is_empty() {
            route = self.select_generously(route, path, selection)?;
        }
        if path.encoded_slash() && route.is_none_or(|route| route.encoded_slash == EncodedSlash::Reject) {
            return Err(BadPath::EncodedSlash.into());
        }
        Ok(route.map(|route| RouteMatch { route, path, preflight: false }))
    }

    /// What the upstream takes for the same path is judged alike, or refused where that would be another upstream's.
    fn select_generously<'t>(
        &'t self,
        exact: Option<&'t Route>,
        path: &CanonicalPath<'_>,
        selection: Selection<'_>,
    ) -> Result<Option<&'t Route>, Denial> {
        if let Some(route) = exact {
            let Some(tree) = self.generous.iter().find(|tree| tree.reading() == route.reading) else {
                return Ok(exact);
            };
            return match self.select(tree, path, selection)? {
                Some(other) if other.upstream != route.upstream => Err(BadPath::Equivalent.into()),
                Some(other) => Ok(Some(other)),
                None => Ok(exact),
            };
        }
        let mut only = None;
        for tree in &self.generous {
            if let Some(route) = self.select(tree, path, selection)?.filter(|route| route.reading == tree.reading()) {
                match only.replace(route) {
                    Some(other) if other.index != route.index => return Err(BadPath::Equivalent.into()),
                    _ => {}
                }
            }
        }
        Ok(only)
    }

    fn select<'t>(
        &'t self,
        tree: &Tree,
        path: &CanonicalPath<'_>,
        selection: Selection<'_>,
    ) -> Result<Option<&'t Route>, Denial> {
        let found = tree.walk(path, |leaf| match self.best(leaf, selection) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(route)) => ControlFlow::Break(Ok(route)),
            Err(denial) => ControlFlow::Break(Err(denial)),
        });
        match found {
            ControlFlow::Continue(()) => Ok(None),
            ControlFlow::Break(found) => found.map(Some),
        }
    }

    /// The most specific rule of a leaf that matches: by host, then method, then header conditions.
    fn best<'t>(&'t self, leaf: &Leaf, selection: Selection<'_>) -> Result<Option<&'t Route>, Denial> {
        for host in selection.hosts {
            let mut best: Option<((Closeness, usize), &Route)> = None;
            for route in leaf.of(*host).iter().filter_map(|index| self.routes.get(*index)) {
                let Some(closeness) = route.method_condition.closeness(selection.method) else { continue };
                let rank = (closeness, header::weight(&route.conditions));
                if best.is_some_and(|(best, _)| rank <= best) {
                    continue;
                }
                if route.conditions.is_empty() || header::all_hold(&route.conditions, selection.headers)? {
                    best = Some((rank, route));
                }
            }
            if let Some((_, route)) = best {
                return Ok(Some(route));
            }
        }
        Ok(None)
    }
}

impl<'t, 'p> RouteMatch<'t, 'p> {
    /// The rule.
    pub fn route(&self) -> &'t Route {
        self.route
    }

    /// The path that was matched: what is forwarded.
    pub fn path(&self) -> &'p CanonicalPath<'p> {
        self.path
    }

    /// Whether this is a preflight request, forwarded without token, cookies, body and identity headers.
    pub fn is_preflight(&self) -> bool {
        self.preflight
    }

    /// The decoded text of the capture `name`.
    pub fn capture(&self, name: &str) -> Option<std::borrow::Cow<'p, str>> {
        let capture = self.route.pattern.capture(name)?;
        Some(if capture.rest { self.path.rest(capture.segment) } else { self.path.decoded(capture.segment) })
    }

    /// Whether the body has to be read before the whole requirement is known.
    pub fn needs_body(&self) -> bool {
        !self.preflight && self.route.needs_body()
    }

    /// Reads the values that the rule takes from the body. The headers are judged by [`body_is_readable`] before.
    ///
    /// # Errors
    /// `body_too_large` beyond [`Route::body_limit`]; `bad_value` when it is not strict JSON.
    pub fn read_body(&self, bytes: &[u8]) -> Result<BodyValues, Denial> {
        if bytes.len() > self.route.body_limit {
            return Err(Denial { reason: DenyReason::BodyTooLarge, detail: None });
        }
        body::read(bytes, &self.route.pointers)
            .map_err(|error| Denial { reason: DenyReason::BadValue, detail: Some(error.to_string().into()) })
    }

    /// What can be asked without the body: everything, when the rule takes nothing from it. Otherwise every value that is not from the
    /// body is read all the same, and the parts of an `all` that need no body are asked; for an `any`, only a valid token is.
    ///
    /// # Errors
    /// `bad_value` when a value is missing, repeated, empty or no scalar.
    pub fn requirement_before_body<'r>(&'r self, sources: &Sources<'r>) -> Result<Requirement<'r>, Denial> {
        self.build(sources, self.needs_body())
    }

    /// All that the rule asks for.
    ///
    /// # Errors
    /// `bad_value` when a value is missing, repeated, empty or no scalar, or when the body was needed and not read.
    pub fn requirement<'r>(&'r self, sources: &Sources<'r>) -> Result<Requirement<'r>, Denial> {
        self.build(sources, false)
    }

    fn build<'r>(&'r self, sources: &Sources<'r>, without_body: bool) -> Result<Requirement<'r>, Denial> {
        if self.preflight {
            return Ok(Requirement { organization: None, scope: Scope::Preflight });
        }
        let filling = values::Filling { path: self.path, sources: *sources };
        let organization = match &self.route.organization {
            Some(template) if !(without_body && template.needs_body()) => Some(filling.text(template)?),
            _ => None,
        };
        let scope = match &self.route.access {
            Access::Public => Scope::Public,
            Access::Authenticated => Scope::Authenticated,
            Access::All(asks) => match filled(filling, asks, without_body)? {
                asks if asks.is_empty() => Scope::Authenticated,
                asks => Scope::All(asks),
            },
            Access::Any(asks) => {
                let filled = filled(filling, asks, without_body)?;
                if filled.len() == asks.len() { Scope::Any(filled) } else { Scope::Authenticated }
            }
        };
        Ok(Requirement { organization, scope })
    }
}

fn filled<'r>(filling: values::Filling<'r>, asks: &'r [AskTemplate], without_body: bool) -> Result<Asks<'r>, Denial> {
    let mut filled = SmallVec::new();
    for ask in asks.iter().filter(|ask| !(without_body && ask.needs_body())) {
        filled.push(filling.ask(ask)?);
    }
    Ok(filled)
}

fn bad_request(detail: &str) -> Denial {
    Denial { reason: DenyReason::BadRequest, detail: Some(detail.into()) }
}
