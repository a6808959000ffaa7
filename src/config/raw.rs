//! The shape of a sidecar's configuration, with defaults and units. Unknown keys are refused; [`super`] turns it into typed settings.
//!
//! `routes`, `defaults` and `model` have shapes of their own in `rules` and `wire`.

mod facts;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::proxy::headers::IdentityHeader;
use crate::rules::{DefaultsSpec, PathReading, RouteSpec};
use crate::wire::Model;
use crate::yaml::{Placed, Secret, Size, Span};

pub(super) use self::facts::{Facts, FactsSource, Residents, ResourceTypes};

/// One or a list.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a value or a list of values")]
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    pub(super) fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// An address that clients connect to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Listen {
    /// `host:port` to listen on; port 0 takes any free one.
    pub address: Placed<String>,
    /// Encrypt with this certificate.
    pub tls: Option<ListenTls>,
    /// Also speak HTTP/2 without TLS, as gRPC clients in the same pod do.
    #[serde(default)]
    pub h2c: bool,
}

/// TLS towards clients.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenTls {
    /// PEM file with the certificate chain, leaf first.
    pub certificate: Placed<PathBuf>,
    /// PEM file with the private key.
    pub key: Placed<PathBuf>,
    /// PEM file with the authorities that client certificates must come from; absent = clients need none.
    pub client_ca: Option<Placed<PathBuf>>,
}

/// Where liveness, readiness and metrics are served.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Status {
    /// `host:port`.
    pub address: Placed<String>,
}

/// Where explain, who, world, routes and reload are served.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    /// `host:port` or `unix:PATH`.
    pub address: Placed<String>,
    /// The bearer token that callers must show; required for anything but loopback.
    pub token: Option<Secret>,
}

/// How one process takes the place of another without a refused connection.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Upgrade {
    /// Where the two meet: a Unix socket in a folder that nobody else can enter, which is made when it is not there.
    pub socket: Placed<PathBuf>,
    /// The longest that either waits for the other, and the new one for its keys and facts.
    #[serde(default = "one_minute")]
    pub timeout: Span,
}

/// An application behind the sidecar.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    /// `host:port` or `unix:/path`, taken in turn.
    pub servers: Placed<Vec<String>>,
    /// At most this long until a connection is established.
    #[serde(default = "one_second")]
    pub connect_timeout: Span,
    /// At most this long without a byte of the answer.
    #[serde(default = "one_minute")]
    pub read_timeout: Span,
    /// At most this long for the upstream to take what is sent.
    #[serde(default = "one_minute")]
    pub write_timeout: Span,
    /// Encrypt the connection to the upstream.
    pub tls: Option<UpstreamTls>,
    /// Speak HTTP/2 to the upstream, as gRPC needs.
    #[serde(default)]
    pub h2: bool,
    /// How servers take turns.
    #[serde(default)]
    pub load_balancing: LoadBalancing,
    /// Leave out servers that fail this check.
    pub health_check: Option<HealthCheck>,
    /// How often an idempotent request is tried again when a reused connection turns out to be dead.
    #[serde(default = "one")]
    pub retries: usize,
    /// How this upstream reads paths.
    #[serde(default)]
    pub paths: PathReading,
}

/// How servers take turns.
#[derive(Debug, Default, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum LoadBalancing {
    /// One after the other.
    #[default]
    RoundRobin,
}

/// TLS towards an upstream.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpstreamTls {
    /// The name the upstream's certificate must be for.
    pub sni: Placed<String>,
    /// PEM file with the authorities to trust instead of the system's.
    pub ca: Option<Placed<PathBuf>>,
    /// PEM file with our certificate chain, when the upstream asks for one.
    pub certificate: Option<Placed<PathBuf>>,
    /// PEM file with its private key.
    pub key: Option<Placed<PathBuf>>,
}

/// A periodic check of every server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HealthCheck {
    /// A path that must answer 200; absent = a connection must be possible.
    pub path: Option<String>,
    /// Time between two checks.
    #[serde(default = "five_seconds")]
    pub interval: Span,
}

/// An issuer of session tokens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tokens {
    /// The name that routes, logs and metrics use.
    pub name: Placed<String>,
    /// What `iss` must be, exactly: one or a list.
    pub issuer: OneOrMany<String>,
    /// `none`, or what `aud` must contain: one or a list. `none` needs `required_claims`.
    pub audience: OneOrMany<String>,
    /// Claims that must be there: names, or a mapping from name to the value or values accepted.
    #[serde(default)]
    pub required_claims: RequiredClaims,
    /// `any`, a list of ids, or `{prefix: …}`; must be written when there is more than one issuer.
    pub organizations: Option<Organizations>,
    /// Where the key set is fetched: https, or http on loopback.
    pub jwks: Option<Placed<String>>,
    /// A file with the key set, instead of `jwks`.
    pub jwks_file: Option<Placed<PathBuf>>,
    /// Which algorithms this issuer signs with.
    pub algorithms: Placed<Vec<String>>,
    /// Where its tokens are looked for: `header:NAME` or `cookie:NAME`.
    #[serde(default = "authorization_header")]
    pub from: Placed<Vec<String>>,
    /// How far the issuer's clock may be off; at most 60 s.
    #[serde(default = "thirty_seconds")]
    pub leeway: Span,
    /// A token valid for longer than this is refused.
    #[serde(default = "one_day")]
    pub max_lifetime: Span,
    /// Which claim says what.
    #[serde(default)]
    pub claims: Claims,
}

/// Claims that must be there.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a list of claim names, or a mapping from names to values")]
pub(super) enum RequiredClaims {
    #[default]
    Nothing,
    Names(Vec<String>),
    Values(BTreeMap<String, OneOrMany<Value>>),
}

/// The organizations an issuer may speak for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected `any`, a list of ids, or `{prefix: TEXT}`")]
pub(super) enum Organizations {
    /// `any`
    Word(String),
    Ids(Vec<String>),
    Prefix(Prefix),
}

/// A common beginning of ids.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Prefix {
    /// What every id begins with.
    pub prefix: String,
}

/// The names of the claims that Portcullis reads.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Claims {
    /// The person.
    pub user: String,
    /// The organization.
    pub organization: String,
    /// The membership of the person in the organization.
    pub membership: String,
    /// Organization-wide permissions.
    pub permissions: String,
    /// The highest-priority organization role.
    pub role: String,
    /// All organization roles.
    pub roles: String,
    /// The login session.
    pub session: String,
}

impl Default for Claims {
    fn default() -> Self {
        let names = crate::token::ClaimNames::default();
        Self {
            user: names.user,
            organization: names.organization,
            membership: names.membership,
            permissions: names.permissions,
            role: names.role,
            roles: names.roles,
            session: names.session,
        }
    }
}

/// Requests from other sites.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Csrf {
    /// Origins whose unsafe requests may carry a cookie credential, such as `https://app.example.com`.
    pub origins: Vec<String>,
}

/// Limits on what clients may send and hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    /// Bytes of a request head.
    pub head: Size,
    /// Header fields of a request.
    pub header_fields: usize,
    /// Bytes of a request target.
    pub target: Size,
    /// Time to send a request head.
    pub head_timeout: Span,
    /// The longest that a client leaves an answer unread or pauses in a body; 0 = any.
    pub client_timeout: Span,
    /// Bytes of a body a second, on average, once that time is over; 0 = any.
    pub body_rate: u32,
    /// Bytes of a request body, streamed or read; 0 = any. A route may say otherwise.
    pub max_body: Size,
    /// Connections open at once. At the limit the one that has been idle for longest makes room.
    pub connections: usize,
    /// Requests in flight at once, over all connections; as many as connections when absent.
    pub requests: Option<usize>,
    /// Requests on one connection before it is closed.
    pub requests_per_connection: Option<u32>,
    /// Time that connections without a request stay open after the signal to stop; the answer to their next request is the last.
    pub lame_duck: Span,
    /// Time that requests in flight have to finish after the signal to stop.
    pub shutdown_timeout: Span,
    /// Memory for verified tokens.
    pub token_cache: Size,
    /// Memory of the whole process; near it, further work is refused. Not looked at when absent.
    pub memory: Option<Size>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Size(32 * 1024),
            header_fields: 100,
            target: Size(8 * 1024),
            head_timeout: Span(Duration::from_secs(10)),
            client_timeout: Span(Duration::from_secs(30)),
            body_rate: 100,
            max_body: Size(0),
            connections: 10_000,
            requests: None,
            requests_per_connection: None,
            lame_duck: Span(Duration::from_secs(5)),
            shutdown_timeout: Span(Duration::from_secs(30)),
            token_cache: Size(64 * 1024 * 1024),
            memory: None,
        }
    }
}

/// When the configuration is read again.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reload {
    /// When it changed, or a file that it names and that is read with it; and when told to.
    #[default]
    Watch,
    /// When told to: by SIGHUP, or `POST /reload` on the admin listener.
    Signal,
}

/// One rule test: a request with what is given, and what is expected of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Test {
    /// What it shows.
    pub name: String,
    /// The token and the facts.
    #[serde(default)]
    pub given: Given,
    /// Method and URL: `PATCH /projects/42`.
    pub when: Placed<String>,
    /// What must come out.
    pub expect: Expect,
}

/// What a rule test starts from.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Given {
    /// The claims of the token; absent = no token, unless there are assignments.
    pub claims: Option<serde_json::Map<String, Value>>,
    /// `membership role resource`, such as `om_1 project-viewer project:42`. Roles come from `model`.
    pub assignments: Option<Placed<Vec<String>>>,
    /// Header fields of the request.
    pub headers: BTreeMap<String, String>,
    /// The body of the request.
    pub body: Option<Value>,
}

/// What a rule test expects.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected `allow`, or a mapping with `deny: CODE` or `allow: true`, and `route: ID`")]
pub(super) enum Expect {
    /// `allow`
    Word(String),
    Details(Expected),
}

/// An expectation in detail.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Expected {
    /// The code of the denial.
    pub deny: Option<String>,
    /// `true` when it must pass.
    pub allow: Option<bool>,
    /// The rule that must have decided.
    pub route: Option<String>,
}

fn one() -> usize {
    1
}

fn one_second() -> Span {
    Span(Duration::from_secs(1))
}

fn five_seconds() -> Span {
    Span(Duration::from_secs(5))
}

fn thirty_seconds() -> Span {
    Span(Duration::from_secs(30))
}

fn one_minute() -> Span {
    Span(Duration::from_secs(60))
}

fn one_day() -> Span {
    Span(Duration::from_secs(24 * 60 * 60))
}

fn authorization_header() -> Placed<Vec<String>> {
    Placed { value: vec!["header:authorization".to_owned()], place: crate::yaml::Place::new("default".into(), 1, 1) }
}

/// The whole file, for its JSON Schema only: [`super::load`] reads it part by part.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the fields exist for their names, types and descriptions")]
#[serde(deny_unknown_fields)]
pub(super) struct Sidecar {
    /// The version of this format: 1.
    pub version: u32,
    /// Addresses that clients connect to.
    pub listen: Vec<Listen>,
    /// Where liveness, readiness and metrics are served; absent = on the admin listener.
    pub status: Option<Status>,
    /// Where explain, who, world, routes and reload are served.
    pub admin: Option<Admin>,
    /// How one process takes the place of another: `portcullis proxy --upgrade`, then SIGQUIT to the old one.
    pub upgrade: Option<Upgrade>,
    /// The applications behind the sidecar, by name.
    pub upstreams: BTreeMap<String, Upstream>,
    /// The issuers of session tokens.
    pub tokens: Option<Vec<Tokens>>,
    /// Where facts come from.
    pub facts: Option<Facts>,
    /// What routes do unless they say otherwise.
    pub defaults: Option<DefaultsSpec>,
    /// The rules.
    pub routes: Vec<RouteSpec>,
    /// Tests of the rules, run by `portcullis validate`.
    pub tests: Option<Vec<Test>>,
    /// Resource types, permissions and roles that the rule tests refer to.
    pub model: Option<Model>,
    /// Networks or addresses of proxies whose `x-forwarded-…` headers are believed.
    pub trusted_proxies: Option<Vec<String>>,
    /// Requests from other sites.
    pub csrf: Option<Csrf>,
    /// Which identity headers upstreams are sent.
    pub identity_headers: Option<Vec<IdentityHeader>>,
    /// What identity headers begin with; `x-portcullis` unless written.
    pub header_prefix: Option<String>,
    /// Whether upstreams are sent the `authorization` header; yes unless written.
    pub forward_token: Option<bool>,
    /// Methods to accept besides those of the IANA registry.
    pub methods: Option<Vec<String>>,
    /// Limits on what clients may send and hold.
    pub limits: Option<Limits>,
    /// Worker threads of the proxy; as many as processors unless written.
    pub threads: Option<usize>,
    /// When this file is read again; `watch` unless written.
    pub reload: Option<Reload>,
    /// What is logged.
    pub log: Option<crate::telemetry::LogSettings>,
}
