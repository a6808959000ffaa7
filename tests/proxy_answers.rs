//! Every answer that the sidecar gives itself: status, code, reason, challenge, and that nothing was forwarded.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use portcullis::domain::{Clock, Revision};
use portcullis::{wire, yaml};
use support::upstream::RecordingUpstream;
use support::{Outcome, System, alice, nowhere, token};

const ROUTES: &str = r#"
- {id: health, match: {methods: [GET], path: /healthz}, public: true}
- {id: me, match: {path: /me}, authenticated: true}
- {id: billing, match: {methods: [GET], path: /billing}, require: "billing:view"}
- {id: live, match: {methods: [GET], path: /live}, require: "billing:view", grants: live}
- {id: settings, match: {path: "/orgs/{org}/settings"}, require: "org:manage", organization: "{path.org}"}
- {id: project, match: {methods: [GET], path: "/projects/{project}"}, require: "project:view", resource: {type: project, id: "{path.project}"}}
- {id: by-query, match: {methods: [GET], path: /project}, require: "project:view", resource: {type: project, id: "{query.id}"}}
- {id: by-body, match: {methods: [POST], path: /projects}, require: "project:view", body_limit: 1KiB, resource: {type: project, id: "{body:/id}"}}
- {id: vault, match: {methods: [GET], path: "/projects/{project}/vault"}, require: "project:edit", resource: {type: project, id: "{path.project}"}, conceal: true}
- {id: concealed, match: {path: /concealed}, require: "billing:view", conceal: true, organization: "{header.x-org}"}
"#;

fn system() -> System {
    System::with(ROUTES).start()
}

#[test]
fn every_refusal_has_its_status_and_its_code() {
    let system = system();
    let good = alice().sign();
    let with = |method: &str, target: &str| system.ask(method, target).with(&good);
    let rows = [
        (system.get("/me/../healthz"), 400, "bad_path", "a dot segment"),
        (with("GET", "/me").host("a b"), 400, "bad_request", "a host that is none"),
        (with("GET", "/me").field("connection", "authorization"), 400, "bad_request", "a nominated header"),
        (with("GET", "/me").field("authorization", "Bearer x"), 400, "ambiguous_credentials", "two tokens"),
        (with("GET", "/me").field("cookie", "session=x"), 400, "ambiguous_credentials", "a token in two places"),
        (with("GET", "/project"), 400, "bad_value", "a missing value"),
        (with("GET", "/project?id=42&id=43"), 400, "bad_value", "a repeated value"),
        (with("GET", "/live").field("x-portcullis-min-revision", "newest"), 400, "bad_revision", "no revision"),
        (system.get("/me"), 401, "missing_token", "no token"),
        (with("GET", "/me").field("expect", "x"), 400, "bad_request", "an unknown expectation"),
        (with("GET", "/billing"), 403, "not_granted", "a missing permission"),
        (with("GET", "/projects/51"), 403, "not_granted", "no role on the resource"),
        (with("GET", "/projects/nowhere"), 403, "not_granted", "an unknown resource reads the same"),
        (with("GET", "/orgs/org_globex/settings"), 403, "wrong_organization", "another organization"),
        (with("GET", "/nothing"), 403, "no_route", "no rule"),
        (with("POST", "/healthz"), 403, "no_route", "no rule for this method"),
        (with("POST", "/me").field("x", "y").host("app.test:1"), 200, "", "passes"),
        (system.post("/me").field("cookie", &format!("session={good}")), 403, "cross_site", "a cookie from elsewhere"),
        (with("GET", "/projects/99/vault"), 404, "not_found", "concealed: no role"),
        (with("GET", "/concealed").field("x-org", "org_x"), 404, "not_found", "concealed: another organization"),
        (with("POST", "/projects").json(&"x".repeat(2000)), 413, "body_too_large", "a large body"),
        (with("GET", &format!("/me?{}", "a".repeat(9000))), 414, "target_too_long", "a long query"),
        (with("GET", &format!("/{}", "a".repeat(9000))), 414, "target_too_long", "a long path"),
        (with("POST", "/projects").body("{}"), 415, "unsupported_body", "no content type"),
        (with("GET", "/me").field("x", &"a".repeat(33 * 1024)), 431, "headers_too_large", "a large header"),
    ];
    for (ask, status, code, trick) in rows {
        if status == 200 {
            ask.passes();
            continue;
        }
        let answer = ask.send().refused(status, code, trick);
        let problem = answer.json();
        assert_eq!(answer.field("content-type"), Some("application/problem+json"), "{trick}");
        assert_eq!(problem["status"], status, "{trick}");
        assert_eq!(problem["request_id"].as_str(), answer.field("x-request-id"), "{trick}");
        assert_eq!(answer.field("x-request-id").unwrap().len(), 32, "{trick}");
        assert_eq!(answer.field("cache-control"), Some("no-store"), "{trick}");
        assert_eq!(answer.field("www-authenticate").is_some(), status == 401, "{trick}");
        assert_eq!(answer.field("retry-after"), None, "{trick}");
    }
    let many = (0..110).fold(with("GET", "/me"), |ask, n| ask.field(&format!("x-{n}"), "y"));
    many.is_refused(431, "headers_too_large");
}

#[test]
fn a_member_who_left_or_never_was_is_told_so() {
    let system = system();
    let dave = token().user("user_dave").membership("om_dave").organization("org_acme").sign();
    system.get("/projects/42").with(&dave).is_refused(403, "membership_inactive");
    let nobody = token().user("user_zoe").membership("om_zoe").organization("org_acme").sign();
    system.get("/projects/42").with(&nobody).is_refused(403, "unknown_membership");
    let stranger = token().user("user_alice").membership("om_alice").organization("org_unheard_of").sign();
    system.get("/projects/42").with(&stranger).is_refused(403, "unknown_membership");
}

#[test]
fn a_challenge_names_what_is_wrong_with_the_token() {
    let system = system();
    let answer = system.get("/me").is_refused(401, "missing_token");
    assert_eq!(answer.field("www-authenticate"), Some(r#"Bearer realm="portcullis""#));
    assert_eq!(answer.reason(), "");
    let other_scheme = system.get("/me").field("authorization", "Basic dXNlcjpwYXNz");
    other_scheme.is_refused(401, "missing_token");
    let rows = [
        (alice().expired_by(1).sign(), "expired"),
        (alice().claim("nbf", 32_503_680_000_i64).sign(), "not_yet_valid"),
        (alice().claim("iss", "https://other.test").sign(), "issuer"),
        (alice().lifetime(25 * 3600).sign(), "lifetime"),
        (alice().claim("sid", serde_json::Value::Null).sign(), "missing_claim"),
        (alice().claim("nonce", "n").sign(), "wrong_kind"),
        ("x.y".to_owned(), "malformed"),
        (format!("{}=", alice().sign()), "malformed"),
    ];
    for (token, reason) in rows {
        let answer = system.get("/me").with(&token).is_a_bad_token(reason);
        let expected = format!(r#"Bearer realm="portcullis", error="invalid_token", error_description="{reason}""#);
        assert_eq!(answer.field("www-authenticate"), Some(expected.as_str()));
    }
}

#[test]
fn without_keys_and_facts_requests_that_need_them_wait_for_a_retry() {
    let system = System::with(ROUTES).key_set(None).company("version: 1\nnonsense: true\n").unready().start();
    system.until("the status pages answer", |system| system.status_page("/live").status == 200);
    system.get("/healthz").passes();
    let answer = system.get("/me").with(&alice().sign()).is_refused(503, "keys_unavailable");
    assert_eq!(answer.field("retry-after"), Some("1"));
    system.get("/me").is_refused(401, "missing_token");
    system.write("jwks.json", &support::tokens::key_set());
    system.until("the keys are there", |system| {
        system.get("/me").with(&alice().sign()).send().answer.unwrap().status == 200
    });
    let answer = system.get("/projects/42").with(&alice().sign()).is_refused(503, "facts_unavailable");
    assert_eq!(answer.field("retry-after"), Some("1"));
}

#[test]
fn a_revision_that_comes_into_force_in_time_is_waited_for() {
    let system = system();
    let alice = alice().sign();
    let in_force = system.world.revision().unwrap();
    let next = Revision { seq: in_force.seq + 1, ..in_force };
    let company = yaml::parse("facts.yaml", support::COMPANY, None).unwrap();
    let facts = wire::Facts::read(&company, &|_| panic!("no model file")).unwrap();
    let mut connection = system.connect();
    let begun = Instant::now();
    let ask = |target: &str| system.get(target).with(&alice).field("x-portcullis-min-revision", &next.to_string());
    connection.send(ask("/projects/42").bytes());
    system.until("it is on its way", |_| begun.elapsed() > Duration::from_millis(40));
    system.world.install_all(next, &facts.catalog, facts.organizations).unwrap();
    assert_eq!(connection.answer().unwrap().status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(40));
    let [arrived] = <[_; 1]>::try_from(system.upstream.take()).unwrap();
    assert_eq!(arrived.value("x-portcullis-revision"), Some(next.to_string()));
    assert_eq!(system.metric(r#"portcullis_min_revision_total{result="waited"}"#), 1.0);
    // Another history, which may have begun a moment ago, until a later look at the source shows that it did not.
    let other = || system.get("/projects/42").with(&alice).field("x-portcullis-min-revision", "r1.00000000000000aa.7");
    other().is_refused(503, "revision_unavailable");
    system.clock.advance(1);
    system.world.prove(system.clock.uptime());
    other().passes();
    assert_eq!(system.metric(r#"portcullis_min_revision_total{result="other_history"}"#), 1.0);
}

#[test]
fn stale_facts_and_a_revision_that_is_not_here_yet_are_503() {
    let system = system();
    let alice = alice().sign();
    let passed = system.get("/projects/42").with(&alice).passes();
    let revision = passed.value("x-portcullis-revision").unwrap();
    let (head, seq) = revision.rsplit_once('.').unwrap();
    let next = format!("{head}.{}", seq.parse::<u64>().unwrap() + 1);
    let with_revision =
        |revision: &str| system.get("/projects/42").with(&alice).field("x-portcullis-min-revision", revision);
    with_revision(&revision).passes();
    let answer = with_revision(&next).is_refused(503, "revision_unavailable");
    assert_eq!(answer.field("retry-after"), Some("1"));
    with_revision(&format!("{head}.99999999999")).is_refused(400, "bad_revision");
    with_revision("r1").is_refused(400, "bad_revision");
    with_revision(&revision).field("x_portcullis_min_revision", &next).is_refused(400, "bad_revision");
    system.get("/me").with(&alice).field("x-portcullis-min-revision", &next).passes();

    std::fs::remove_file(system.folder().join("facts.yaml")).unwrap();
    let failed = r#"portcullis_facts_updates_total{kind="complete",result="failed"}"#;
    system.until("the facts cannot be had", |system| system.metric(failed) > 0.0);
    system.clock.advance(280);
    system.get("/projects/42").with(&alice).passes();
    system.clock.advance(30);
    let fresh = support::alice().lifetime(3600).sign();
    let answer = system.get("/projects/42").with(&fresh).is_refused(503, "facts_stale");
    assert_eq!(answer.field("retry-after"), Some("1"));
    system.get("/me").with(&fresh).passes();
}

#[test]
fn an_upstream_that_is_not_there_is_502_and_a_silent_one_504() {
    let system = System::with(ROUTES).upstreams(&format!("{{app: {{servers: [\"{}\"]}}}}", nowhere())).start();
    system.get("/%68ealthz").is_refused(502, "upstream_unreachable");
    system.until("its line has the path that was judged", |system| {
        system.logged().contains(r#""reason":"upstream_unreachable","status":502,"route":"health","method":"GET","host":"app.test","path":"/healthz""#)
    });
    system.get("/projects/43/vault").is_refused(401, "missing_token");

    let silent = RecordingUpstream::answering(|_, _| true);
    let system = System::with(ROUTES).upstream(silent).upstream_options("read_timeout: 200ms").start();
    let Outcome { answer, arrived } = system.get("/healthz").send();
    assert_eq!(arrived.len(), 1);
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_timeout"));

    let hangs_up = RecordingUpstream::answering(|_, _| false);
    let system = System::with(ROUTES).upstream(hangs_up).start();
    let Outcome { answer, arrived } = system.post("/me").with(&alice().sign()).send();
    assert_eq!(arrived.len(), 1, "an unsafe request is not tried again");
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_unreachable"));
}

#[test]
fn a_panic_is_500_forwards_nothing_and_harms_no_other_request() {
    let system = system();
    system.clock.broken(true);
    let mut connection = system.connect();
    connection.send(system.get("/me").with(&alice().sign()).bytes());
    let answer = connection.answer().unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
    assert!(!String::from_utf8_lossy(&answer.body).contains("broken"), "the panic's own words");
    assert!(system.upstream.take().is_empty());
    system.get("/healthz").passes();
    system.clock.broken(false);
    connection.send(system.get("/me").with(&alice().sign()).bytes());
    assert_eq!(connection.answer().unwrap().status, 200, "the same connection goes on");
    assert_eq!(system.upstream.take().len(), 1);
    system.until("it is counted", |system| {
        system.metric(r#"portcullis_requests_total{outcome="deny",reason="internal",route="me"}"#) == 1.0
    });
}

#[test]
fn head_is_answered_without_a_body() {
    let system = system();
    let mut connection = system.connect();
    connection.send("HEAD /billing HTTP/1.1\r\nHost: app.test\r\n\r\n");
    let answer = connection.answer_to_head().unwrap();
    assert_eq!(answer.status, 401);
    assert!(answer.field("content-length").unwrap().parse::<u32>().unwrap() > 0);
    // Were there a body, it would be read as the next answer.
    connection.send(system.ask("HEAD", "/healthz").bytes());
    assert_eq!(connection.answer_to_head().unwrap().status, 200);
    assert_eq!(system.upstream.take()[0].request_line(), "HEAD /healthz HTTP/1.1");
}

#[test]
fn a_connection_goes_on_after_a_denial() {
    let system = system();
    let mut connection = system.connect();
    for _ in 0..3 {
        for target in ["/me", "/nothing"] {
            connection.send(system.get(target).bytes());
            assert!(matches!(connection.answer().unwrap().status, 401 | 403));
        }
        connection.send(system.post("/me").body("0123456789").bytes());
        assert_eq!(connection.answer().unwrap().status, 401, "its body is not read as a request");
    }
    assert!(system.upstream.take().is_empty());
    connection.send(system.get("/healthz").bytes());
    assert_eq!(connection.answer().unwrap().status, 200);
    assert_eq!(system.upstream.take().len(), 1);
}

#[test]
fn a_connection_ends_where_the_rest_cannot_be_told_from_a_request() {
    let system = system();
    let alice = alice().sign();
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: app.test\r\n\r\n";
    for (ask, status) in [
        (system.post("/me").field("expect", "100-continue").body(smuggled), 401),
        (system.post("/projects").with(&alice).json(&smuggled.repeat(50)), 413),
        (system.post("/me/..").body(smuggled), 400),
    ] {
        let mut connection = system.connect();
        connection.send(ask.bytes());
        assert_eq!(connection.answer().unwrap().status, status);
        assert!(connection.is_closed());
        assert!(system.upstream.take().is_empty());
    }
}

#[test]
fn grpc_clients_get_a_grpc_status() {
    let system = system();
    let alice = alice().sign();
    let rows = [
        (system.post("/me"), "16", "missing_token"),
        (system.get("/billing").with(&alice), "7", "not_granted"),
        (system.get("/projects/99/vault").with(&alice), "5", "not_found"),
        (system.post("/a/../b"), "3", "bad_path"),
        (system.get("/live").with(&alice).field("x-portcullis-min-revision", "x"), "3", "bad_revision"),
    ];
    for (ask, status, code) in rows {
        let Outcome { answer, arrived } = ask.field("content-type", "application/grpc+proto").send();
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.field("grpc-status")), (200, Some(status)), "{code}");
        assert!(answer.field("grpc-message").unwrap().starts_with(code), "{code}");
        assert_eq!(answer.field("content-type"), Some("application/grpc"));
        assert!(answer.field("x-request-id").is_some());
        assert!(answer.body.is_empty() && arrived.is_empty());
    }
}

#[test]
fn a_concealed_route_tells_nothing_but_its_challenge() {
    let system = system();
    let alice = alice().sign();
    let refused = |target: &str| {
        let answer = system.get(target).with(&alice).is_refused(404, "not_found");
        let mut problem = answer.json();
        problem["request_id"] = "".into();
        problem
    };
    assert_eq!(refused("/projects/99/vault"), refused("/projects/nowhere/vault"));
    system.get("/projects/42/vault").with(&alice).passes();
    system.get("/projects/42/vault").is_refused(401, "missing_token");
    let logged = system.logged();
    assert!(
        logged.contains(r#""reason":"unknown_resource""#) && logged.contains(r#""reason":"not_granted""#),
        "{logged}"
    );
}

#[test]
fn what_cannot_be_parsed_gets_a_bare_answer_and_is_counted() {
    let system = system();
    for bytes in [
        "nonsense\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nbad header\r\nHost: a\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    ] {
        system.raw(bytes).refused_while_parsing(bytes);
    }
    let counted = r#"portcullis_refused_connections_total{reason="malformed"}"#;
    system.until("all are counted", |system| system.metric(counted) >= 2.0);
    system.get("/healthz").passes();
    system.get("/me").is_refused(401, "missing_token");
}
