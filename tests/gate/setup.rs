//! A gate by itself, with the keys and the clock of the tests and the facts of a company.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use portcullis::domain::{Clock, Denial, DenyReason, Epoch, Revision};
use portcullis::gate::{Forward, Gate, InForce, RequestView, Rules, Tokens, Trace, Verdict};
use portcullis::live::{Settings, World};
use portcullis::rules::{self, Context};
use portcullis::telemetry::{Build, Metrics};
use portcullis::token::{
    self, Algorithm, Audience, ClaimNames, IssuerSettings, JwtVerifier, KeySets, KeySource, Organizations,
    RequiredClaim,
};
use portcullis::{wire, yaml};

use super::clock::TestClock;
use super::tokens::{ISSUER, TokenCase, key_set};

/// The company of the demo: its facts are those of the tests.
const COMPANY: &str = include_str!("../../config/demo/facts.yaml");

/// A gate with the keys of the tests, and the facts of the company once they are installed.
pub struct Setup {
    pub gate: Gate,
    pub world: Arc<World>,
    pub clock: Arc<TestClock>,
    pub metrics: Arc<Metrics>,
}

/// The first facts.
pub const FIRST: Revision = Revision { epoch: Epoch(7), seq: 1 };

pub fn rules_of(routes: &str, metrics: &Metrics) -> Rules {
    let node = yaml::parse("rules", routes, None).unwrap();
    let (upstreams, issuers, methods, own_headers) = (&[], &[], &[], &[]);
    let max_staleness = Duration::from_secs(300);
    let context = Context { upstreams, issuers, facts: true, max_staleness, methods, own_headers };
    let origins = vec!["https://app.test".to_owned()];
    Rules::new(rules::compile(node.items(), None, &context).unwrap(), &[], origins, metrics)
}

/// The issuer of the tests, whose tokens may come in the usual header and in the cookie `session`.
fn issuer(keys: KeySource) -> IssuerSettings {
    IssuerSettings {
        name: "test".into(),
        issuers: vec![ISSUER.to_owned()],
        audience: Audience::None,
        required_claims: vec![RequiredClaim { name: "sid".to_owned(), values: Vec::new() }],
        organizations: Organizations::Any,
        keys,
        algorithms: vec![Algorithm::ES256],
        from: ["header:authorization", "cookie:session"].map(|source| source.parse().unwrap()).to_vec(),
        leeway: Duration::from_secs(60),
        max_lifetime: None,
        claims: ClaimNames::default(),
        keep: vec!["amr".to_owned()],
    }
}

pub async fn tokens_of_the_tests(metrics: &Metrics) -> Tokens {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, key_set()).unwrap();
    let settings = token::Settings { issuers: vec![issuer(KeySource::File(file))] };
    let meters = token::Meters {
        cache_hits: metrics.token_cache.hit.clone(),
        cache_misses: metrics.token_cache.miss.clone(),
        refreshed: metrics.jwks_refresh.clone(),
    };
    let keys = Arc::new(KeySets::new(&settings, meters));
    keys.refresh().await.unwrap();
    assert!(keys.ready(), "{:?}", keys.status());
    let sources = settings.sources();
    Tokens { verifier: Box::new(JwtVerifier::new(keys.clone())), keys, settings, sources }
}

impl Setup {
    pub async fn new(routes: &str) -> Self {
        let metrics = Arc::new(Metrics::new(Build { version: "0", revision: "" }).unwrap());
        let clock = Arc::new(TestClock::default());
        let (world, _) = World::new(Settings::default(), clock.clone(), metrics.clone(), Box::new(|_| {}));
        let world = Arc::new(world);
        let tokens = tokens_of_the_tests(&metrics).await;
        let in_force = InForce::new(rules_of(routes, &metrics), tokens);
        let gate = Gate::new(in_force, world.clone(), clock.clone(), metrics.clone());
        Self { gate, world, clock, metrics }
    }

    /// The same with the facts of the company in force.
    pub async fn with_facts(routes: &str) -> Self {
        let setup = Self::new(routes).await;
        setup.install(FIRST);
        setup.world.prove(setup.clock.uptime());
        setup
    }

    pub fn install(&self, revision: Revision) {
        let company = yaml::parse("facts.yaml", COMPANY, None).unwrap();
        let facts = wire::Facts::read(&company, &|_| panic!("no model file")).unwrap();
        self.world.install_all(revision, &facts.catalog, facts.organizations).unwrap();
    }

    pub async fn check(&self, asked: &Asked) -> Result<(), DenyReason> {
        self.check_on(asked, &mut Trace::default()).await
    }

    pub async fn check_on(&self, asked: &Asked, trace: &mut Trace) -> Result<(), DenyReason> {
        self.forward(asked, trace).await.map(|_| ()).map_err(|denial| denial.reason)
    }

    /// What is sent on, or why nothing is.
    pub async fn forward(&self, asked: &Asked, trace: &mut Trace) -> Result<Forward, Denial> {
        match self.gate.check(&asked.view(), trace).await {
            Verdict::Forward(forward) => Ok(forward),
            Verdict::Refuse(denial) => Err(denial),
            Verdict::ReadBody { .. } => panic!("the body is asked for"),
        }
    }
}

/// A request.
#[derive(Clone)]
pub struct Asked {
    pub method: Method,
    pub target: &'static str,
    pub headers: HeaderMap,
    pub body: Option<&'static [u8]>,
}

pub fn asked(method: &str, target: &'static str) -> Asked {
    Asked { method: method.parse().unwrap(), target, headers: HeaderMap::new(), body: None }
}

impl Asked {
    pub fn field(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self
    }

    pub fn with(self, token: &TokenCase) -> Self {
        self.field("authorization", &format!("Bearer {}", token.sign()))
    }

    pub fn view(&self) -> RequestView<'_> {
        RequestView {
            method: &self.method,
            target: self.target.as_bytes(),
            is_absolute: false,
            host: "app.test",
            headers: &self.headers,
            is_upgrade: self.headers.contains_key(http::header::UPGRADE),
            body: self.body,
            is_confirmed: false,
        }
    }
}
