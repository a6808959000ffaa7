//! YAML to [`RouteTable`]: every rule is read and judged by itself, then against the others; all problems are reported together.

mod access;
mod matching;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::RouteTable;
use super::host::{HostId, HostIndex};
use super::method::{MethodCondition, Methods};
use super::misleading::misleading;
use super::pattern::PathPattern;
use super::route::{ClaimCondition, Impersonation, Route};
use super::spec::{DefaultsSpec, EncodedSlash, PathReading, RouteSpec, Weaker};
use super::template::{Pointer, Source, Template};
use super::tree::Tree;
use crate::domain::Freshness;
use crate::yaml::{Node, Place, Placed, Problems, Size, Span};

/// The most rules of one table.
const MOST_ROUTES: usize = 50_000;

/// The most that is read of a body, and what is read when nothing else is said. Pingora can hand back no more than this.
const LARGEST_BODY: u64 = 64 * 1024;

const SERVE_UNTIL: Duration = Duration::from_secs(60 * 60);
/// The shortest age at which a stream may be ended.
const SHORTEST_STREAM_AGE: Duration = Duration::from_secs(1);

/// What rules may refer to.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// The configured upstreams. None at all: rules need no upstream, because somebody else forwards.
    pub upstreams: &'a [Upstream],
    /// The names of the configured issuers.
    pub issuers: &'a [String],
    /// Whether there is a source of facts.
    pub facts: bool,
    /// The global bound of staleness.
    pub max_staleness: Duration,
    /// Methods beyond the IANA registry.
    pub methods: &'a [Placed<String>],
    /// Headers of ours, which clients cannot send, folded ([`super::fold_header`]). One that ends in `-` is how several begin.
    pub own_headers: &'a [String],
}

impl Context<'_> {
    /// Whether clients' headers of this name are taken away before a request is forwarded, so that no rule may go by them either.
    fn takes_away(&self, folded: &str) -> bool {
        let is_own = |own: &String| if own.ends_with('-') { folded.starts_with(own.as_str()) } else { folded == own };
        misleading(folded).is_some() || self.own_headers.iter().any(is_own)
    }
}

/// Why a rule may not look at such a header.
fn taken_away(name: &str) -> String {
    format!("header `{name}` is what a proxy says, or we do, and any client could send it; no rule may look at it")
}

/// An upstream as far as rules are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// How it reads paths.
    pub paths: PathReading,
}

/// Compiles the items of `routes`, under `defaults`.
///
/// # Errors
/// Every problem, each with its place: what the YAML cannot say, what refers to nothing, rules that tie or contradict themselves.
pub fn compile(routes: &[Node], defaults: Option<&Node>, context: &Context<'_>) -> Result<RouteTable, Problems> {
    let mut problems = Problems::default();
    let mut methods = Methods::default();
    for name in context.methods {
        if !methods.add(name) {
            problems.0.push(name.problem(format!(
                "method `{}` is not an upper-case token, or more than {} are configured",
                name.value,
                Methods::MOST_CONFIGURED
            )));
        }
    }
    if let Some(beyond) = routes.get(MOST_ROUTES) {
        problems.0.push(beyond.problem(format!("more than {MOST_ROUTES} routes")));
    }
    let (defaults, errors) = defaults.map_or_else(Default::default, Node::read_what_fits::<DefaultsSpec>);
    let defaults_read = errors.0.is_empty();
    problems.extend(errors);
    let mut compiler = Compiler {
        context,
        defaults: defaults.unwrap_or_default(),
        defaults_read,
        methods,
        problems,
        pointers: Vec::new(),
    };
    compiler.check_defaults();
    let mut compiled = Vec::with_capacity(routes.len());
    for node in routes.iter().take(MOST_ROUTES) {
        match node.read_all::<RouteSpec>() {
            Ok(spec) => compiled.extend(compiler.route(node, &spec, compiled.len())),
            Err(errors) => compiler.problems.extend(errors),
        }
    }
    let Compiler { methods, mut problems, .. } = compiler;
    duplicates(&compiled, &mut problems);
    let mut table = RouteTable::index(compiled, methods);
    table.ties(&mut problems);
    table.header_conditions(&mut problems);
    problems.into_result()?;
    table.warnings = table.spellings();
    table.warnings.sort();
    Ok(table)
}

fn duplicates(routes: &[Route], problems: &mut Problems) {
    let mut known: HashMap<&str, &Place> = HashMap::new();
    for route in routes {
        if let Some(first) = known.get(&*route.id) {
            problems.0.push(route.place.problem(format!("route `{}` is already defined at {first}", route.id)));
        } else {
            known.insert(&route.id, &route.place);
        }
    }
}

impl RouteTable {
    fn index(routes: Vec<Route>, methods: Methods) -> Self {
        let mut hosts = HostIndex::default();
        let ids: Vec<Vec<HostId>> = routes
            .iter()
            .map(|route| match &*route.hosts {
                [] => vec![HostId::ANY],
                patterns => patterns.iter().map(|pattern| hosts.id(pattern)).collect(),
            })
            .collect();
        let tree = |reading: PathReading| {
            let mut tree = Tree::new(reading);
            // Of two equal rules in one leaf the first wins: those whose upstream reads paths like this have to come first.
            for own in [true, false] {
                for (route, ids) in routes.iter().zip(&ids).filter(|(route, _)| (route.reading == reading) == own) {
                    ids.iter().for_each(|id| tree.insert(&route.pattern, *id, route.index));
                }
            }
            tree
        };
        let mut readings: Vec<PathReading> = Vec::new();
        for route in &routes {
            if route.reading != PathReading::default() && !readings.contains(&route.reading) {
                readings.push(route.reading);
            }
        }
        let mut claim_names: Vec<Box<str>> = routes.iter().flat_map(claims).map(Into::into).collect();
        claim_names.sort();
        claim_names.dedup();
        Self {
            exact: tree(PathReading::default()),
            generous: readings.into_iter().map(tree).collect(),
            encoded_slashes: routes.iter().any(|route| route.encoded_slash == EncodedSlash::Allow),
            warnings: Vec::new(),
            claim_names,
            hosts,
            methods,
            routes,
        }
    }
}

fn claims(route: &Route) -> impl Iterator<Item = &str> {
    let values = route.templates().flat_map(Template::sources).filter_map(|source| match source {
        Source::Claim(name) => Some(&**name),
        _ => None,
    });
    route.require_claims.iter().map(|claim| &*claim.name).chain(values)
}

struct Compiler<'a> {
    context: &'a Context<'a>,
    defaults: DefaultsSpec,
    /// Whether the defaults could be read; if not, what a rule would take from them is not missed.
    defaults_read: bool,
    methods: Methods,
    problems: Problems,
    /// Of the route at hand.
    pointers: Vec<Pointer>,
}

impl Compiler<'_> {
    fn problem(&mut self, place: &Place, message: impl Into<String>) {
        self.problems.0.push(place.problem(message));
    }

    /// What is wrong with the defaults is reported once, not for every route.
    fn check_defaults(&mut self) {
        let defaults = std::mem::take(&mut self.defaults);
        if let Some(name) = &defaults.upstream {
            self.upstream_named(name);
        }
        self.bounds(defaults.max_staleness.as_ref(), defaults.serve_until.as_ref(), defaults.body_limit.as_ref());
        self.stream_age(defaults.max_stream_age.as_ref());
        self.defaults = defaults;
    }

    fn bounds(&mut self, staleness: Option<&Placed<Span>>, until: Option<&Placed<Span>>, body: Option<&Placed<Size>>) {
        let global = self.context.max_staleness;
        if let Some(staleness) = staleness.filter(|staleness| staleness.value.0 > global) {
            let message =
                format!("max_staleness `{}` is longer than the global one, `{}`", staleness.value, Span(global));
            self.problem(&staleness.place, message);
        }
        if let Some(until) = until.filter(|until| until.value.0 > Freshness::LONGEST_SERVED) {
            self.problem(&until.place, format!("serve_until `{}` is longer than `24h`", until.value));
        }
        if let Some(limit) = body.filter(|limit| !(1..=LARGEST_BODY).contains(&limit.value.0)) {
            self.problem(&limit.place, format!("body_limit `{}` is not within `1B` and `64KiB`", limit.value));
        }
    }

    /// Ages are looked at a few times a second.
    fn stream_age(&mut self, age: Option<&Placed<Span>>) {
        if let Some(age) = age.filter(|age| age.value.0 < SHORTEST_STREAM_AGE) {
            self.problem(&age.place, format!("max_stream_age `{}` is shorter than `1s`", age.value));
        }
    }

    /// `None` when something is wrong that leaves no rule to compare with others.
    fn route(&mut self, node: &Node, spec: &RouteSpec, index: usize) -> Option<Route> {
        let before = self.problems.0.len();
        self.pointers.clear();
        self.id(&spec.id);
        let pattern = self.pattern(&spec.matching);
        let methods = self.methods(&spec.matching);
        let hosts = self.hosts(&spec.matching);
        let conditions = self.conditions(&spec.matching);
        let (upstream, reading) = self.upstream(spec);
        let tokens = self.tokens(spec);
        let require_claims = self.require_claims(spec);
        self.bounds(spec.max_staleness.as_ref(), spec.serve_until.as_ref(), spec.body_limit.as_ref());
        self.stream_age(spec.max_stream_age.as_ref());
        let any = PathPattern::parse("/").ok()?;
        let known = pattern.as_ref().unwrap_or(&any);
        let organization = match &spec.organization {
            Some(text) if pattern.is_some() => self.template(text, known),
            _ => None,
        };
        let access = self.access(node, spec, pattern.as_ref());
        if let Some(access) = &access {
            self.contradictions(spec, access, &conditions);
        }
        if self.problems.0.len() > before {
            return None;
        }
        let defaults = &self.defaults;
        let span = |own: &Option<Placed<Span>>, default: &Option<Placed<Span>>| {
            own.as_ref().or(default.as_ref()).map(|span| span.value.0)
        };
        let limit =
            spec.body_limit.as_ref().or(defaults.body_limit.as_ref()).map_or(LARGEST_BODY, |limit| limit.value.0);
        let impersonation = spec.impersonation.as_ref().or(defaults.impersonation.as_ref());
        Some(Route {
            index,
            id: spec.id.value.as_str().into(),
            place: node.place().clone(),
            pattern: pattern?,
            hosts,
            methods: methods.map(|listed| {
                let covered = MethodCondition::new(Some(listed)).covered();
                self.methods.names_in(covered).map(Into::into).collect()
            }),
            access: access?,
            organization,
            upstream,
            mode: spec.mode.or(defaults.mode).unwrap_or_default(),
            conceal: spec.conceal.or(defaults.conceal).unwrap_or_default(),
            on_stale: spec.on_stale.or(defaults.on_stale).unwrap_or_default(),
            serve_until: span(&spec.serve_until, &defaults.serve_until).unwrap_or(SERVE_UNTIL),
            max_staleness: span(&spec.max_staleness, &defaults.max_staleness).unwrap_or(self.context.max_staleness),
            revocations: spec.revocations.or(defaults.revocations).unwrap_or_default(),
            encoded_slash: spec.encoded_slash.or(defaults.encoded_slash).unwrap_or_default(),
            body_limit: usize::try_from(limit).unwrap_or(usize::MAX),
            max_body: spec.max_body.or(defaults.max_body).map(|most| most.0),
            impersonation: impersonation.map_or_else(Impersonation::default, |spec| spec.value.into()),
            require_claims,
            cors_preflight: spec.cors_preflight.unwrap_or_default(),
            tokens,
            max_stream_age: span(&spec.max_stream_age, &defaults.max_stream_age),
            verify: spec.verify.as_ref().map(|verify| verify.value).unwrap_or_default(),
            method_condition: MethodCondition::new(methods),
            conditions,
            pointers: std::mem::take(&mut self.pointers).into(),
            reading,
            weaker_acknowledged: spec.weaker.as_ref().is_some_and(|weaker| weaker.value == Weaker::Acknowledged),
        })
    }

    fn id(&mut self, id: &Placed<String>) {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b'/');
        if id.is_empty() || id.len() > 128 || !id.bytes().all(allowed) {
            self.problem(
                &id.place,
                format!("route id `{}` is not of letters, digits and `-_.:/`, at most 128", id.value),
            );
        }
    }

    fn upstream(&mut self, spec: &RouteSpec) -> (Option<Arc<str>>, PathReading) {
        let upstream = match (&spec.upstream, &self.defaults.upstream, self.context.upstreams) {
            (Some(name), _, _) => self.upstream_named(name),
            (None, Some(name), all) => all.iter().find(|upstream| upstream.name == name.value),
            (None, None, [only]) => Some(only),
            (None, None, []) => None,
            (None, None, _) if !self.defaults_read => None,
            (None, None, _) => {
                self.problem(
                    &spec.id.place,
                    format!("route `{}` has no upstream, and there is no default", spec.id.value),
                );
                None
            }
        };
        (
            upstream.map(|upstream| upstream.name.as_str().into()),
            upstream.map(|upstream| upstream.paths).unwrap_or_default(),
        )
    }

    fn upstream_named(&mut self, name: &Placed<String>) -> Option<&'_ Upstream> {
        let all = self.context.upstreams;
        let found = all.iter().find(|upstream| upstream.name == name.value);
        if found.is_none() {
            let known = listed(all.iter().map(|upstream| upstream.name.as_str()));
            self.problem(&name.place, format!("unknown upstream `{}`, {known}", name.value));
        }
        found
    }

    fn tokens(&mut self, spec: &RouteSpec) -> Option<Box<[Box<str>]>> {
        let names = spec.tokens.as_ref()?;
        if names.is_empty() {
            self.problem(&names.place, "no issuers; leave the key out for all");
        }
        for name in names.value.iter().filter(|name| !self.context.issuers.contains(&name.value)).collect::<Vec<_>>() {
            let known = listed(self.context.issuers.iter().map(String::as_str));
            self.problem(&name.place, format!("unknown issuer `{}`, {known}", name.value));
        }
        Some(names.value.iter().map(|name| name.value.as_str().into()).collect())
    }

    fn require_claims(&mut self, spec: &RouteSpec) -> Box<[ClaimCondition]> {
        let Some(claims) = &spec.require_claims else { return Box::default() };
        let mut required = Vec::with_capacity(claims.len());
        for (name, values) in &claims.value {
            if name.is_empty() || values.0.is_empty() {
                self.problem(&claims.place, format!("claim `{name}` needs a name and at least one value"));
            }
            required.push(ClaimCondition { name: name.as_str().into(), values: values.0.clone().into() });
        }
        required.into()
    }

    fn template(&mut self, text: &Placed<String>, pattern: &PathPattern) -> Option<Template> {
        match Template::parse(text, pattern, &mut self.pointers) {
            Ok(template) => {
                let header = |source: &Source| match source {
                    Source::Header(name) if self.context.takes_away(name) => Some(taken_away(name)),
                    _ => None,
                };
                let problems: Vec<String> = template.sources().filter_map(header).collect();
                problems.into_iter().for_each(|problem| self.problem(&text.place, problem));
                Some(template)
            }
            Err(error) => {
                self.problem(&text.place, error.to_string());
                None
            }
        }
    }
}

fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none is configured".to_owned() } else { format!("configured: {}", names.join(", ")) }
}
