//! How long does the gate take for one request, everything in memory: route, cached token, facts, decision?
//!
//! `cargo bench --bench gate` measures time. `… -- --count N CASE` decides the case of that name N times and exits, for counting
//! instructions: the difference between two counts under callgrind, divided by the difference of N, is the cost of one
//! (`docs/performance.md`). Its token is signed with a key that is made at once: to make an RSA key takes a number of instructions that
//! nobody can foretell.

#![allow(missing_docs, reason = "criterion's macros write items without documentation")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench that fails should stop where it fails"
)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, header};
use portcullis::app::SystemClock;
use portcullis::app::offline::{self, LoadKeys};
use portcullis::config::{self, Environment};
use portcullis::domain::{Clock, MembershipId, OrganizationId, PermissionSlug, SessionId, UserId};
use portcullis::gate::{Gate, RequestView, Trace, Verdict};
use portcullis::token::{Algorithm, Issuer, NewToken};

const CONFIGURATION: &str = r#"
version: 1
listen: [{address: "127.0.0.1:0"}]
upstreams: {app: {servers: ["127.0.0.1:1"]}}
tokens:
  - name: bench
    issuer: https://issuer.test
    audience: none
    required_claims: [sid]
    jwks_file: jwks.json
    algorithms: [RS256, ES256]
facts: {source: file, file: facts.yaml}
routes:
  - {id: public, match: {methods: [GET], path: /healthz}, public: true}
  - {id: organization, match: {methods: [GET], path: /billing}, require: "org:view"}
  - id: resource
    match: {methods: [PATCH], path: "/projects/{project}"}
    require: "project:edit"
    resource: {type: project, id: "{path.project}"}
"#;

struct NoEnvironment;

impl Environment for NoEnvironment {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

struct Bench {
    gate: Gate,
    headers: HeaderMap,
}

impl Bench {
    fn new(algorithm: Algorithm) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let issuer = Issuer::ephemeral("https://issuer.test", algorithm).unwrap();
        std::fs::write(folder.path().join("jwks.json"), issuer.jwks().unwrap()).unwrap();
        let facts = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/demo/facts.yaml");
        std::fs::copy(facts, folder.path().join("facts.yaml")).unwrap();
        let config = config::parse("bench.yaml", CONFIGURATION, folder.path(), &NoEnvironment).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let offline = runtime.block_on(offline::gate(config, Arc::new(SystemClock), LoadKeys::Files)).unwrap();
        let mut token = NewToken::of(UserId::new("user_alice").unwrap(), SystemClock.now());
        token.session = Some(SessionId::new("session_1").unwrap());
        token.organization = Some(OrganizationId::new("org_acme").unwrap());
        token.membership = Some(MembershipId::new("om_alice").unwrap());
        token.permissions = (0..9)
            .map(|number| PermissionSlug::new(&format!("area-{number}:view")).unwrap())
            .chain([PermissionSlug::new("org:view").unwrap()])
            .collect();
        token.lifetime = Duration::from_secs(12 * 60 * 60);
        let mut headers = HeaderMap::new();
        let bearer = format!("Bearer {}", issuer.mint(&token).unwrap());
        headers.insert(header::HOST, HeaderValue::from_static("app.example.com"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static("bench/1"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::AUTHORIZATION, HeaderValue::try_from(bearer).unwrap());
        Self { gate: offline.gate, headers }
    }

    fn check(&self, method: &Method, target: &str) -> Verdict {
        let request = RequestView {
            method,
            target: target.as_bytes(),
            is_absolute: false,
            host: "app.example.com",
            headers: &self.headers,
            is_upgrade: false,
            body: None,
            is_confirmed: false,
        };
        let mut trace = Trace::new(false);
        let verdict = self.gate.check(black_box(&request), &mut trace).now_or_never();
        verdict.expect("everything is in memory")
    }

    fn permits(&self, method: &Method, target: &str) -> bool {
        matches!(self.check(method, target), Verdict::Forward(_))
    }
}

/// Name, method, target, and whether it is permitted.
const CASES: [(&str, Method, &str, bool); 4] = [
    ("public", Method::GET, "/healthz", true),
    ("organization_permission", Method::GET, "/billing", true),
    ("resource_permission_by_group_on_ancestor", Method::PATCH, "/projects/42", true),
    ("resource_permission_denied", Method::PATCH, "/projects/99", false),
];

fn gate(criterion: &mut Criterion) {
    let bench = Bench::new(Algorithm::RS256);
    let mut group = criterion.benchmark_group("gate");
    for (name, method, target, permitted) in CASES {
        assert_eq!(bench.permits(&method, target), permitted, "{name}");
        group.bench_function(name, |bencher| bencher.iter(|| black_box(bench.check(&method, black_box(target)))));
    }
    group.finish();
}

criterion_group!(benches, gate);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--count") {
        let count: usize = arguments[at + 1].parse().unwrap();
        let wanted = arguments[at + 2].as_str();
        let (_, method, target, permitted) = CASES.into_iter().find(|(name, ..)| *name == wanted).unwrap();
        let bench = Bench::new(Algorithm::ES256);
        assert!((0..count).all(|_| bench.permits(&method, target) == permitted));
        return;
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
