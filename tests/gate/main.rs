//! The gate by itself, where a test decides what happens while it waits: what changes meanwhile, and what cannot be had.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test file uses its part")]
#[path = "../support/canary.rs"]
mod canary;
#[allow(dead_code, reason = "each test file uses its part")]
#[path = "../support/clock.rs"]
mod clock;
mod order;
mod setup;
#[allow(dead_code, reason = "each test file uses its part")]
#[path = "../support/tokens.rs"]
mod tokens;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use portcullis::domain::{
    Clock, DenyReason, MembershipId, PermissionSlug, Principal, ResourceRef, Revision, TokenFault, UnixSeconds,
};
use portcullis::gate::explain::ExplainRequest;
use portcullis::gate::{InForce, Tokens, Trace, Verdict};
use portcullis::live::World;
use portcullis::source::{Check, SourceError};
use portcullis::token::{TokenError, TokenVerifier, Verified};
use portcullis::wire::{Revocation, RevocationKind};

use self::clock::TestClock;
use self::setup::{Asked, FIRST, Setup, asked, rules_of, tokens_of_the_tests};
use self::tokens::alice;

/// Alice's session, ended now.
fn revoke(world: &World, clock: &TestClock) {
    let now = clock.now();
    let id = "session_1".into();
    world.revocations().add([Revocation {
        kind: RevocationKind::Session,
        id,
        not_before: now,
        expires: now.plus(3600),
        holder: None,
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
const SEVERAL: &str = r#"
- id: any
  match: {path: "/any/{project}"}
  require:
    any:
      - "org:admin"
      - {permission: "project:view", resource: {type: project, id: "{path.project}"}}
- id: all
  match: {path: "/all/{project}"}
  require:
    all:
      - "org:admin"
      - {permission: "project:view", resource: {type: project, id: "{path.project}"}}
- id: of
  match: {path: "/of/{org}/{project}"}
  require: "project:view"
  resource: {type: project, id: "{path.project}"}
  organization: "{path.org}"
"#;

#[tokio::test]
async fn what_the_token_alone_answers_needs_no_facts() {
    use DenyReason::{FactsStale, FactsUnavailable, NotGranted, RevisionUnavailable, WrongOrganization};

    let (plain, admin) = (alice(), alice().permissions(["org:admin"]));
    let absent = Setup::new(SEVERAL).await;
    let stale = Setup::with_facts(SEVERAL).await;
    stale.clock.advance(301);
    let behind = Setup::with_facts(SEVERAL).await;
    let next = Revision { seq: FIRST.seq + 1, ..FIRST }.to_string();
    for (setup, outage) in [(&absent, FactsUnavailable), (&stale, FactsStale), (&behind, RevisionUnavailable)] {
        for (target, caller, expected) in [
            ("/any/42", &admin, Ok(())),
            ("/any/42", &plain, Err(NotGranted)),
            ("/all/42", &plain, Err(NotGranted)),
            ("/all/42", &admin, Err(outage)),
            ("/of/org_globex/42", &admin, Err(WrongOrganization)),
            ("/of/org_acme/42", &admin, Err(outage)),
        ] {
            let mut request = asked("GET", target).with(caller);
            if outage == RevisionUnavailable {
                request = request.field("x-portcullis-min-revision", &next);
            }
            let mut trace = Trace::default();
            assert_eq!(setup.check_on(&request, &mut trace).await, expected, "{outage:?}: {target}");
            if expected.is_ok() {
                assert_eq!((trace.revision, trace.holds_until()), (None, None), "it was not decided on any facts");
            }
            let question = ExplainRequest {
                method: "GET".to_owned(),
                url: target.to_owned(),
                headers: if outage == RevisionUnavailable {
                    vec![("x-portcullis-min-revision".to_owned(), next.clone())]
                } else {
                    Vec::new()
                },
                token: Some(caller.sign()),
                ..ExplainRequest::default()
            };
            let explanation = setup.gate.explain(&question).await.unwrap();
            let reason = expected.err().map_or("granted", DenyReason::reason);
            assert_eq!(explanation.reason, reason, "explained, {outage:?}: {target}");
        }
        // What is wrong with the request itself is answered all the same.
        let bad = asked("GET", "/any/42").with(&admin).field("x-portcullis-min-revision", "newest");
        assert_eq!(setup.check(&bad).await, Err(DenyReason::BadRevision));
    }
}

const UPGRADES: &str = r#"
- {id: socket, match: {methods: [GET], path: /socket}, authenticated: true, cors_preflight: forward}
- {id: supported, match: {methods: [GET], path: /supported}, authenticated: true, impersonation: allow}
"#;

#[tokio::test]
async fn f6_who_impersonates_may_look_and_opens_no_connection_to_write_on() {
    let setup = Setup::with_facts(UPGRADES).await;
    let helper = alice().claim("act", serde_json::json!({"sub": "user_helper"}));
    setup.check(&asked("GET", "/socket").with(&helper)).await.unwrap();
    let upgrade = |target| asked("GET", target).field("upgrade", "websocket").field("connection", "upgrade");
    assert_eq!(setup.check(&upgrade("/socket").with(&helper)).await, Err(DenyReason::NotAccepted));
    setup.check(&upgrade("/socket").with(&alice())).await.unwrap();
    setup.check(&upgrade("/supported").with(&helper)).await.unwrap();
}

#[tokio::test]
async fn f6_a_preflight_asks_for_no_upgrade() {
    let setup = Setup::with_facts(UPGRADES).await;
    let preflight =
        asked("OPTIONS", "/socket").field("origin", "https://app.test").field("access-control-request-method", "GET");
    setup.check(&preflight).await.unwrap();
    let upgrade = preflight.field("upgrade", "websocket").field("connection", "upgrade");
    assert_eq!(setup.check(&upgrade).await, Err(DenyReason::BadRequest));
}

const MOVE: &str = r#"
- id: move
  match: {path: /move}
  require: "project:view"
  resource: {type: project, id: "{body:/project}"}
"#;

fn moving(body: Option<&'static [u8]>) -> Asked {
    Asked { body, ..asked("POST", "/move").with(&alice()).field("content-type", "application/json") }
}

#[tokio::test]
async fn h5_a_request_with_a_body_is_judged_to_its_end_by_what_it_began_with() {
    let setup = Setup::with_facts(MOVE).await;
    let mut trace = Trace::default();
    let first = setup.gate.check(&moving(None).view(), &mut trace).await;
    assert!(matches!(first, Verdict::ReadBody { .. }));
    let others = "- {id: other, match: {path: /other}, public: true}\n- {id: hidden, match: {path: /h}, public: true, conceal: true}";
    let tokens = tokens_of_the_tests(&setup.metrics).await;
    setup.gate.replace(InForce::new(rules_of(others, &setup.metrics), tokens));
    let second = setup.check_on(&moving(Some(br#"{"project": "42"}"#)), &mut trace).await;
    assert_eq!((second, trace.route_id()), (Ok(()), Some("move")));
    assert_eq!(setup.check(&moving(Some(br#"{"project": "42"}"#))).await, Err(DenyReason::NoRoute));
}

#[tokio::test]
async fn what_became_known_before_the_body_is_not_taken_for_what_holds_with_it() {
    let setup = Setup::with_facts(&MOVE.replace("- id: move", "- mode: shadow\n  id: move")).await;
    let mut trace = Trace::default();
    let first = setup.gate.check(&moving(None).view(), &mut trace).await;
    assert!(matches!(first, Verdict::ReadBody { .. }));
    // The token ends while the body is read: who it was is not verified any more.
    setup.clock.advance(1000);
    let verdict = setup.gate.check(&moving(Some(br#"{"project": "42"}"#)).view(), &mut trace).await;
    let Verdict::Forward(forward) = verdict else { panic!("shadow mode lets it pass") };
    assert!(forward.overridden().is_some());
    assert_eq!(forward.principal().map(|principal| principal.user.to_string()), None);
}

/// Knows nobody, and says which set of tokens it belongs to.
struct Says(&'static str);

impl TokenVerifier for Says {
    fn verify(&self, _: &str, _: UnixSeconds) -> Result<Verified<Principal>, TokenError> {
        Err(TokenError::Fault(TokenFault::Issuer, self.0.into()))
    }

    fn generation(&self) -> u64 {
        0
    }
}

#[test]
fn h5_rules_and_tokens_are_replaced_together() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let setup = runtime.block_on(Setup::new(PROJECT));
    let Tokens { settings, keys, .. } = runtime.block_on(tokens_of_the_tests(&setup.metrics));
    let generation = |name: &'static str| {
        let routes = format!("- {{id: {name}, match: {{path: /a}}, authenticated: true}}");
        let sources = settings.sources();
        let tokens = Tokens { verifier: Box::new(Says(name)), keys: keys.clone(), settings: settings.clone(), sources };
        InForce::new(rules_of(&routes, &setup.metrics), tokens)
    };
    setup.gate.replace(generation("one"));
    let generations: Vec<_> = (0..5_000).map(|n| generation(if n % 2 == 0 { "one" } else { "two" })).collect();
    let over = Mutex::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for generation in generations {
                setup.gate.replace(generation);
            }
            *over.lock().unwrap() = true;
        });
        let request = asked("GET", "/a").field("authorization", "Bearer x");
        while !*over.lock().unwrap() {
            let mut trace = Trace::default();
            let verdict = runtime.block_on(setup.gate.check(&request.view(), &mut trace));
            let Verdict::Refuse(denial) = verdict else { panic!("nobody is known") };
            assert_eq!(denial.detail.as_deref(), trace.route_id(), "rules of one generation, tokens of another");
        }
    });
}

#[tokio::test]
async fn an_explanation_refuses_a_body_that_a_request_may_not_have() {
    let setup = Setup::with_facts(MOVE).await;
    let question = |headers: &[(&str, &str)]| ExplainRequest {
        method: "POST".to_owned(),
        url: "/move".to_owned(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        token: Some(alice().sign()),
        body: Some(r#"{"project": "42"}"#.to_owned()),
        ..ExplainRequest::default()
    };
    for (headers, reason) in [
        (&[][..], "granted"),
        (&[("content-type", "application/json")], "granted"),
        (&[("content-type", "text/plain")], "unsupported_body"),
        (&[("content-type", "application/json"), ("content-encoding", "gzip")], "unsupported_body"),
    ] {
        let explanation = setup.gate.explain(&question(headers)).await.unwrap();
        assert_eq!(explanation.reason, reason, "{headers:?}: {:?}", explanation.detail);
    }
}
