//! Of several faults the first in the order of `docs/decisions.md` is answered: each request here has all the faults that come later, too.

use portcullis::domain::{DenyReason, TokenFault};
use portcullis::gate::{Trace, Verdict};
use serde_json::json;

use super::revoke;
use super::setup::{Asked, Setup, asked};
use super::tokens::{TokenCase, alice};

const ORDER: &str = r#"
- id: order
  match: {methods: [POST], path: "/order/{project}"}
  require:
    all:
      - {permission: "project:view", resource: {type: project, id: "{path.project}"}}
      - {permission: "project:edit", resource: {type: project, id: "{body:/project}"}}
  organization: "{query.org}"
  require_claims: {amr: mfa}
"#;

fn in_cookie(request: Asked, token: &TokenCase) -> Asked {
    request.field("cookie", &format!("session={}", token.sign()))
}

#[tokio::test]
async fn the_first_fault_is_answered() {
    let bad_revision = |target| asked("POST", target).field("x-portcullis-min-revision", "newest");
    let (plain, strong) = (alice(), alice().claim("amr", json!(["pwd", "mfa"])));
    let absent = Setup::new(ORDER).await;
    let revoked = Setup::new(ORDER).await;
    revoke(&revoked.world, &revoked.clock);
    for (setup, request, expected) in [
        (&revoked, bad_revision("/order/%zz"), DenyReason::BadPath),
        (&revoked, bad_revision("/other"), DenyReason::NoRoute),
        (
            &revoked,
            in_cookie(bad_revision("/order/51"), &plain.clone().expired_by(61)).with(&plain.clone().expired_by(61)),
            DenyReason::AmbiguousCredentials,
        ),
        (&revoked, bad_revision("/order/51"), DenyReason::MissingToken),
        (
            &revoked,
            in_cookie(bad_revision("/order/51"), &plain.clone().expired_by(61)),
            DenyReason::BadToken(TokenFault::Expired),
        ),
        (&revoked, in_cookie(bad_revision("/order/51"), &plain), DenyReason::Revoked),
        (&absent, in_cookie(bad_revision("/order/51"), &plain), DenyReason::CrossSite),
        (&absent, bad_revision("/order/51").with(&plain), DenyReason::NotAccepted),
        (&absent, bad_revision("/order/51").with(&strong), DenyReason::BadValue),
        (&absent, bad_revision("/order/51?org=org_globex").with(&strong), DenyReason::BadRevision),
        (&absent, asked("POST", "/order/51?org=org_globex").with(&strong), DenyReason::WrongOrganization),
        (&absent, asked("POST", "/order/51?org=org_acme").with(&strong), DenyReason::FactsUnavailable),
    ] {
        assert_eq!(setup.check(&request).await, Err(expected), "{}", request.target);
    }
}

#[tokio::test]
async fn with_facts_the_permission_is_judged_before_the_body_and_the_body_before_what_it_names() {
    let setup = Setup::with_facts(ORDER).await;
    let strong = alice().claim("amr", "mfa");
    let request = |target| asked("POST", target).with(&strong);
    assert_eq!(setup.check(&request("/order/51?org=org_acme")).await, Err(DenyReason::NotGranted));
    assert_eq!(setup.check(&request("/order/42?org=org_acme")).await, Err(DenyReason::UnsupportedBody));
    let json = request("/order/42?org=org_acme").field("content-type", "application/json");
    let verdict = setup.gate.check(&json.view(), &mut Trace::default()).await;
    assert!(matches!(verdict, Verdict::ReadBody { limit: 65_536 }));
    for (body, expected) in [
        (&br#"{"project": "43"}"#[..], Ok(())),
        (br#"{"project": "99"}"#, Err(DenyReason::NotGranted)),
        (br#"{"project": "100"}"#, Err(DenyReason::UnknownResource)),
        (br#"{"project": ""}"#, Err(DenyReason::BadValue)),
        (br#"{"project": 42"#, Err(DenyReason::BadValue)),
    ] {
        assert_eq!(setup.check(&Asked { body: Some(body), ..json.clone() }).await, expected);
    }
    setup.clock.advance(301);
    assert_eq!(setup.check(&json).await, Err(DenyReason::FactsStale));
}
