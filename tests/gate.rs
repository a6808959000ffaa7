//! The gate by itself, where a test decides what happens while it waits: what changes meanwhile, and what cannot be had.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use portcullis::app;
use portcullis::config::{self, Environment};
use portcullis::domain::{
    Clock, Denial, DenyReason, Epoch, MembershipId, PermissionSlug, Principal, ResourceRef, Revision, TokenFault,
    UnixSeconds,
};
use portcullis::gate::explain::ExplainRequest;
use portcullis::gate::{Gate, RequestView, Rules, Tokens, Trace, Verdict};
use portcullis::live::{Settings, World};
use portcullis::rules::{self, Context};
use portcullis::source::{Check, SourceError};
use portcullis::telemetry::Metrics;
use portcullis::token::{self, JwtVerifier, KeySets, TokenError, TokenVerifier, Verified};
use portcullis::wire::{self, Revocation, RevocationKind};
use portcullis::yaml;
use support::clock::TestClock;
use support::tokens::{ISSUER, key_set};
use support::{COMPANY, TokenCase, alice};

struct NoEnvironment;

impl Environment for NoEnvironment {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

/// A gate with the keys of the tests, and the facts of the company once they are installed.
struct Setup {
    gate: Gate,
    world: Arc<World>,
    clock: Arc<TestClock>,
    metrics: Arc<Metrics>,
}

const FIRST: Revision = Revision { epoch: Epoch(7), seq: 1 };

fn rules_of(routes: &str, metrics: &Metrics) -> Rules {
    let node = yaml::parse("rules", routes, None).unwrap();
    let (upstreams, issuers, methods) = (&[], &[], &[]);
    let context = Context { upstreams, issuers, facts: true, max_staleness: Duration::from_secs(300), methods };
    Rules::new(rules::compile(node.items(), None, &context).unwrap(), &[], Vec::new(), metrics)
}

async fn tokens_of_the_tests(metrics: &Metrics) -> Tokens {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("jwks.json"), key_set()).unwrap();
    let text = format!(
        "version: 1\nlisten: [{{address: \"127.0.0.1:0\"}}]\nupstreams: {{app: {{servers: [\"127.0.0.1:1\"]}}}}\n\
         tokens: [{{name: test, issuer: \"{ISSUER}\", audience: none, required_claims: [sid], jwks_file: jwks.json, \
         algorithms: [ES256]}}]\nroutes: [{{id: any, match: {{path: /}}, public: true}}]\n"
    );
    let settings = config::parse("gate.yaml", &text, folder.path(), &NoEnvironment).unwrap().tokens;
    let meters = token::Meters {
        cache_hits: metrics.token_cache.hit.clone(),
        cache_misses: metrics.token_cache.miss.clone(),
        refreshed: metrics.jwks_refresh.clone(),
    };
    let keys = Arc::new(KeySets::new(&settings, meters));
    keys.refresh().await.unwrap();
    assert!(keys.ready(), "{:?}", keys.status());
    let sources = settings.sources();
    Tokens { verifier: Box::new(JwtVerifier::new(keys)), settings, sources }
}

impl Setup {
    async fn new(routes: &str) -> Self {
        let metrics = Arc::new(app::metrics().unwrap());
        let clock = Arc::new(TestClock::default());
        let (world, _) = World::new(Settings::default(), clock.clone(), metrics.clone(), Box::new(|_| {}));
        let world = Arc::new(world);
        let tokens = tokens_of_the_tests(&metrics).await;
        let gate = Gate::new(rules_of(routes, &metrics), tokens, world.clone(), clock.clone(), metrics.clone());
        Self { gate, world, clock, metrics }
    }

    /// The same with the facts of the company in force.
    async fn with_facts(routes: &str) -> Self {
        let setup = Self::new(routes).await;
        setup.install(FIRST);
        setup.world.prove(setup.clock.uptime());
        setup
    }

    fn install(&self, revision: Revision) {
        let company = yaml::parse("facts.yaml", COMPANY, None).unwrap();
        let facts = wire::Facts::read(&company, &|_| panic!("no model file")).unwrap();
        self.world.install_all(revision, &facts.catalog, facts.organizations).unwrap();
    }

    async fn check(&self, asked: &Asked) -> Result<(), DenyReason> {
        self.check_on(asked, &mut Trace::default()).await
    }

    async fn check_on(&self, asked: &Asked, trace: &mut Trace) -> Result<(), DenyReason> {
        match self.gate.check(&asked.view(), trace).await {
            Verdict::Forward(_) => Ok(()),
            Verdict::Refuse(Denial { reason, .. }) => Err(reason),
            Verdict::ReadBody { .. } => panic!("the body is asked for"),
        }
    }
}

/// A request.
#[derive(Clone)]
struct Asked {
    method: Method,
    target: &'static str,
    headers: HeaderMap,
    body: Option<&'static [u8]>,
}

fn asked(method: &str, target: &'static str) -> Asked {
    Asked { method: method.parse().unwrap(), target, headers: HeaderMap::new(), body: None }
}

impl Asked {
    fn field(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self
    }

    fn with(self, token: &TokenCase) -> Self {
        self.field("authorization", &format!("Bearer {}", token.sign()))
    }

    fn view(&self) -> RequestView<'_> {
        RequestView {
            method: &self.method,
            target: self.target.as_bytes(),
            is_absolute: false,
            host: "app.test",
            headers: &self.headers,
            is_upgrade: self.headers.contains_key(http::header::UPGRADE),
            body: self.body,
        }
    }
}

/// Alice's session, ended now.
fn revoke(world: &World, clock: &TestClock) {
    let now = clock.now();
    let id = "session_1".into();
    world.revocations().add([Revocation {
        kind: RevocationKind::Session,
        id,
        not_before: now,
        expires: now.plus(3600),
    }]);
}

const PROJECT: &str = r#"
- id: project
  match: {path: "/projects/{project}"}
  require: "project:view"
  resource: {type: project, id: "{path.project}"}
- {id: organization, match: {path: "/o/{org}"}, authenticated: true, organization: "{path.org}"}
"#;

#[tokio::test]
async fn e6_a_revocation_that_comes_while_a_revision_is_waited_for_is_respected() {
    let setup = Setup::with_facts(PROJECT).await;
    let alice = alice();
    setup.check(&asked("GET", "/projects/42").with(&alice)).await.unwrap();
    let next = Revision { seq: FIRST.seq + 1, ..FIRST };
    let asked = asked("GET", "/projects/42").with(&alice).field("x-portcullis-min-revision", &next.to_string());
    // Paused, so that the wait is as long as the test wants.
    tokio::time::pause();
    let meanwhile = async {
        tokio::task::yield_now().await;
        revoke(&setup.world, &setup.clock);
        setup.install(next);
    };
    let (answer, ()) = tokio::join!(setup.check(&asked), meanwhile);
    assert_eq!(answer, Err(DenyReason::Revoked));
    assert_eq!(setup.world.revision(), Some(next));
}

/// A server that says yes, after the session ended.
struct RevokesFirst(Arc<World>, Arc<TestClock>);

#[async_trait]
impl Check for RevokesFirst {
    async fn check(&self, _: &MembershipId, _: &PermissionSlug, _: &ResourceRef<'_>) -> Result<bool, SourceError> {
        revoke(&self.0, &self.1);
        Ok(true)
    }
}

const VERIFIED: &str = r#"
- id: project
  match: {path: "/projects/{project}"}
  require: "project:view"
  resource: {type: project, id: "{path.project}"}
  grants: live
  verify: live
"#;

#[tokio::test]
async fn e6_a_revocation_that_comes_while_the_server_is_asked_is_respected() {
    let mut setup = Setup::with_facts(VERIFIED).await;
    setup.gate = setup.gate.with_check(Arc::new(RevokesFirst(setup.world.clone(), setup.clock.clone())));
    let asked = asked("GET", "/projects/42").with(&alice());
    assert_eq!(setup.check(&asked).await, Err(DenyReason::Revoked));
}

#[tokio::test]
async fn e6_an_explanation_respects_such_a_revocation_too() {
    let mut setup = Setup::with_facts(VERIFIED).await;
    setup.gate = setup.gate.with_check(Arc::new(RevokesFirst(setup.world.clone(), setup.clock.clone())));
    let question = ExplainRequest {
        method: "GET".to_owned(),
        url: "/projects/42".to_owned(),
        token: Some(alice().sign()),
        ..ExplainRequest::default()
    };
    let explanation = setup.gate.explain(&question).await.unwrap();
    assert_eq!((explanation.outcome, explanation.reason), ("deny", "revoked"));
}
