//! What the upstream reads about the caller is what was verified: nothing that a client wrote, in whatever spelling.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use support::{Outcome, System, alice, token};

const ROUTES: &str = r#"
- {id: open, match: {path: /open}, public: true}
- {id: me, match: {path: /me}, authenticated: true}
- {id: billing, match: {path: /billing}, require: "billing:view"}
- {id: project, match: {methods: [GET], path: "/projects/{project}"}, require: "project:view", resource: {type: project, id: "{path.project}"}}
- {id: post-anything, match: {methods: [POST], path: /open/post}, public: true}
- {id: on-trial, match: {path: /on-trial}, require: "billing:view", mode: shadow}
"#;

fn system() -> System {
    System::with(ROUTES).start()
}

const SPELLINGS: [&str; 16] = [
    "x-portcullis-user",
    "X-Portcullis-User",
    "X_PORTCULLIS_USER",
    "x_portcullis-user",
    "x-Portcullis_Organization",
    "X-PORTCULLIS-ROLES",
    "x-portcullis-permissions",
    "x-portcullis-anything-at-all",
    "x_portcullis_min_revision",
    "X_Request_Id",
    "x.portcullis.user",
    "X.Portcullis.Roles",
    "x~portcullis~user",
    "x-portcullis.organization",
    "x.portcullis.min.revision",
    "X.Request.Id",
];

/// As PHP and some gateways read a name.
fn fold(name: &str) -> String {
    name.to_lowercase().replace(|byte: char| !byte.is_ascii_alphanumeric(), "-")
}

#[test]
fn c4_c5_c6_c10_identity_headers_cannot_be_forged_in_any_spelling() {
    let system = system();
    let alice = alice().sign();
    for name in SPELLINGS {
        for ask in [system.get("/open"), system.get("/me").with(&alice), system.get("/on-trial")] {
            if fold(name).contains("min-revision") && ask.bytes().starts_with(b"GET /on") {
                continue;
            }
            let received = ask.field(name, "forged").field(name, "forged again").passes();
            assert!(!String::from_utf8_lossy(&received.head).contains("forged"), "{name}: {received:?}");
        }
    }
    let all = SPELLINGS.iter().fold(system.get("/open"), |ask, name| ask.field(name, "forged"));
    assert!(!String::from_utf8_lossy(&all.passes().head).contains("forged"));
}

#[test]
fn identity_headers_carry_what_the_decision_used() {
    let system = system();
    let erin = token().user("user_erin").membership("om_erin").organization("org_acme");
    let erin = erin.role("admin").roles(["admin", "member"]).permissions(["billing:view"]);
    let received = system.get("/billing").with(&erin.sign()).passes();
    let value = |name: &str| received.value(&format!("x-portcullis-{name}")).unwrap_or_default();
    assert_eq!(value("user"), "user_erin");
    assert_eq!(value("organization"), "org_acme");
    assert_eq!(value("membership"), "om_erin");
    assert_eq!(value("role"), "admin");
    assert_eq!(value("roles"), "admin,member");
    assert_eq!(value("route"), "billing");
    assert_eq!(received.value("x-portcullis-revision"), None, "no facts were consulted");
    assert_eq!(received.value("x-portcullis-permissions"), None, "only on request");

    // Without a membership in the token, the one that was found in the facts.
    let found = token().user("user_bob").organization("org_acme").sign();
    let received = system.get("/projects/42").with(&found).passes();
    assert_eq!(received.value("x-portcullis-membership").as_deref(), Some("om_bob"));
    assert!(received.value("x-portcullis-revision").unwrap().starts_with("r1."));

    let received = system.get("/open").with(&erin.sign()).passes();
    assert_eq!(received.value("x-portcullis-user"), None, "nobody was verified on a public route");
    assert_eq!(received.value("x-portcullis-route").as_deref(), Some("open"));

    // A rule on trial passes who is not verified, without an identity; and who is, with it.
    let received = system.get("/on-trial").with("forged").passes();
    assert_eq!(received.value("x-portcullis-user"), None);
    let received = system.get("/on-trial").with(&alice().sign()).passes();
    assert_eq!(received.value("x-portcullis-user").as_deref(), Some("user_alice"));
}

#[test]
fn values_are_percent_encoded_and_long_ones_left_out() {
    let system = System::with(ROUTES).and("identity_headers: [user, membership, permissions, roles]").start();
    let odd = alice().claim("sub", "zo\u{eb} \"x\", 100%\u{2603}").permissions(["b", "a:c"]);
    let received = system.get("/me").with(&odd.sign()).passes();
    assert_eq!(received.value("x-portcullis-user").as_deref(), Some("zo%C3%AB%20%22x%22%2C%20100%25%E2%98%83"));
    assert_eq!(received.value("x-portcullis-permissions").as_deref(), Some("a:c,b"));
    assert_eq!(received.value("x-portcullis-route"), None, "not listed");

    let many: Vec<String> = (0..300).map(|n| format!("permission:number-{n}")).collect();
    let received = system.get("/me").with(&alice().claim("permissions", many).sign()).passes();
    assert_eq!(received.value("x-portcullis-permissions"), None);
    assert_eq!(received.value("x-portcullis-membership").as_deref(), Some("om_alice"));
}

#[test]
fn c1_c7_c9_headers_that_tell_another_story_are_removed() {
    let system = system();
    let names = [
        "X-Forwarded-For",
        "x_forwarded_for",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Uri",
        "X-Forwarded-User",
        "X_Forwarded_User",
        "X-Forwarded-Email",
        "X-Forwarded-Method",
        "X-Forwarded-Server",
        "X-Forwarded-Scheme",
        "X-Forwarded-Client-Cert",
        "Forwarded",
        "X-Original-URL",
        "X_Original_Url",
        "X-Original-URI",
        "X-Original-Host",
        "X-Original-Path",
        "X-Rewrite-URL",
        "X-Rewrite-Uri",
        "X-Real-IP",
        "X-Client-IP",
        "X-Cluster-Client-IP",
        "True-Client-IP",
        "X-Host",
        "X-HTTP-Host-Override",
        "X-Scheme",
        "X-Url-Scheme",
        "Front-End-Https",
        "X-Envoy-Original-Path",
        "X-Envoy-Internal",
        "X-Envoy-External-Address",
        "Proxy",
        "Cluster-Client-IP",
        "x-arr-ssl",
        "X.Forwarded.For",
        "X.HTTP.Method.Override",
        "Client-IP",
        "CF-Connecting-IP",
        "Fastly-Client-IP",
        "X-Azure-ClientIP",
        "X-Originating-IP",
        "X-Remote-IP",
        "X-Remote-Addr",
        "WL-Proxy-Client-IP",
        "Proxy-Client-IP",
        "X-Forwarded",
        "Forwarded-For",
    ];
    for name in names {
        let received = system.get("/open").field(name, "/admin-canary").passes();
        assert!(!String::from_utf8_lossy(&received.head).contains("canary"), "{name}: {received:?}");
    }
    let received = system.get("/open").host("app.test:81").field("X-Forwarded-For", "1.2.3.4").passes();
    assert_eq!(received.value("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(received.value("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(received.value("x-forwarded-host").as_deref(), Some("app.test:81"));
    // None of them decides anything: C2, C3.
    for (name, value) in [
        ("X-Forwarded-Uri", "/open"),
        ("X-Original-URL", "/open"),
        ("User-Agent", "kube-probe/1.30"),
        ("X-Forwarded-Host", "open"),
    ] {
        system.get("/me").field(name, value).is_refused(401, "missing_token");
    }
}

#[test]
fn what_a_trusted_proxy_says_of_the_outer_hop_stands() {
    let system = System::with(ROUTES).and("trusted_proxies: [\"127.0.0.0/8\"]").start();
    let ask = system.get("/open").field("x-forwarded-for", "203.0.113.7").field("x-forwarded-proto", "https");
    let received = ask
        .field("x-forwarded-host", "public.test")
        .field("x-portcullis-user", "forged")
        .field("x-request-id", "forged")
        .passes();
    assert_eq!(received.value("x-forwarded-for").as_deref(), Some("203.0.113.7, 127.0.0.1"));
    assert_eq!(received.value("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(received.value("x-forwarded-host").as_deref(), Some("public.test"));
    assert!(!String::from_utf8_lossy(&received.head).contains("forged"), "identity is never theirs to say");

    let other = System::with(ROUTES).and("trusted_proxies: [\"192.0.2.0/24\", \"2001:db8::1\"]").start();
    let received = other.get("/open").field("x-forwarded-for", "203.0.113.7").passes();
    assert_eq!(received.value("x-forwarded-for").as_deref(), Some("127.0.0.1"));
}

#[test]
fn b6_c1_no_peer_changes_which_request_it_is_not_even_a_trusted_one() {
    let system = System::with(ROUTES).and("trusted_proxies: [\"127.0.0.0/8\"]").start();
    let names = [
        "X-HTTP-Method-Override",
        "X.HTTP.Method.Override",
        "x_http_method",
        "X-Method-Override",
        "X-Original-Method",
        "X-Original-URL",
        "X-Original-URI",
        "X-Original-Path",
        "X-Original-Host",
        "X-Rewrite-URL",
        "X-HTTP-Host-Override",
        "X-Host",
        "X-Envoy-Original-Path",
        "X-Forwarded-Method",
        "X-Forwarded-Uri",
        "Proxy",
    ];
    for name in names {
        let received = system.get("/open").field(name, "/admin-canary").passes();
        assert!(!String::from_utf8_lossy(&received.head).contains("canary"), "{name}: {received:?}");
    }
    for name in ["x-real-ip", "cf-connecting-ip", "x-forwarded-port", "forwarded"] {
        assert_eq!(system.get("/open").field(name, "said").passes().value(name).as_deref(), Some("said"), "{name}");
    }
}

#[test]
fn one_request_id_names_a_request_on_both_sides_and_in_the_log() {
    let system = system();
    let Outcome { answer, arrived } = system.get("/open").field("x-request-id", "chosen-by-the-client").send();
    let id = answer.unwrap().field("x-request-id").unwrap().to_owned();
    assert_eq!(arrived[0].value("x-request-id").as_deref(), Some(id.as_str()));
    system.until("it is logged", |system| system.logged().contains(&id));
    assert!(!system.logged().contains("chosen-by-the-client"));
}

#[test]
fn the_token_is_forwarded_unless_it_must_not_be() {
    let alice = alice().sign();
    let bearer = format!("Bearer {alice}");
    let forwarding = system();
    assert_eq!(forwarding.get("/me").with(&alice).passes().value("authorization"), Some(bearer));
    let system = System::with(ROUTES).and("forward_token: false").start();
    let received = system.get("/me").with(&alice).field("cookie", "a=b").passes();
    assert_eq!(received.value("authorization"), None);
    assert_eq!(received.value("cookie").as_deref(), Some("a=b"));
    let received = system.get("/open").with("whatever").passes();
    assert_eq!(received.value("authorization"), None, "on public routes neither");
}

#[test]
fn identity_headers_may_have_another_name() {
    let system = System::with(ROUTES).and("header_prefix: X-Acme_Auth").start();
    let ask =
        system.get("/me").with(&alice().sign()).field("x-acme-auth-user", "forged").field("X_ACME_AUTH_ROLE", "forged");
    let received = ask.passes();
    assert!(!String::from_utf8_lossy(&received.head).contains("forged"));
    assert_eq!(received.value("x-acme_auth-user").as_deref(), Some("user_alice"));
    let received = system.get("/open").field("x-portcullis-min-revision", "r1.a.b").passes();
    assert_eq!(received.value("x-portcullis-min-revision"), None);
}

#[test]
fn c13_claims_are_taken_whole() {
    let routes = "- {id: staff, match: {path: /staff}, authenticated: true, require_claims: {email_domain: acme.test, email: a@acme.test}}";
    let system = System::with(routes).start();
    let with = |domain: &str, email: &str| {
        system.get("/staff").with(&alice().claim("email_domain", domain).claim("email", email).sign())
    };
    with("acme.test", "a@acme.test").passes();
    for (domain, email) in [
        ("evil-acme.test", "a@acme.test"),
        ("acme.test.evil.test", "a@acme.test"),
        ("ACME.test", "a@acme.test"),
        ("acme.test", "a@evil.test@acme.test"),
        ("acme.test", " a@acme.test"),
        ("acme.test", "a@acme.test\u{0}"),
    ] {
        with(domain, email).is_refused(403, "not_granted");
    }
}

#[test]
fn a_connection_header_nominates_nothing_that_was_judged() {
    let system = system();
    let alice = alice().sign();
    for value in [
        "authorization",
        "close, authorization",
        "keep-alive, x-portcullis-user",
        "cookie",
        "Host",
        "X-Forwarded-For",
        "content-type",
    ] {
        let outcome = system.get("/me").with(&alice).field("connection", value).send();
        assert!(outcome.arrived.is_empty(), "{value}");
        assert_eq!(outcome.answer.map_or(400, |answer| answer.status), 400, "{value}");
    }
    for value in ["keep-alive", "close", "Keep-Alive, TE", ""] {
        let received = system.get("/me").with(&alice).field("connection", value).field("te", "trailers").passes();
        assert_eq!(received.values("authorization").len(), 1, "{value}");
    }
}

#[test]
fn f2_a_body_has_one_length() {
    let system = system();
    let smuggled = "GET /me HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = |fields: &str, rest: &str| format!("POST /open/post HTTP/1.1\r\nHost: a\r\n{fields}\r\n{rest}");
    let rows = [
        (post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), "both"),
        (post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), "both, the other way round"),
        (post("Content-length: 5\r\nTransfer-Encoding: identity\r\n", "hello"), "another coding"),
        (post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), "an unknown coding"),
        (post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), "two codings"),
        (post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), "chunked is not last"),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), "twice"),
        (post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), "a space before the colon"),
        (post("Transfer-Encoding:\x0bchunked\r\n", "0\r\n\r\n"), "a vertical tab"),
        (post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"), "a folded line"),
        (post("X: y\r\n Transfer-Encoding: chunked\r\n", "0\r\n\r\n"), "folded into another field"),
        (post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), "two equal lengths"),
        (post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), "two lengths"),
        (post("Content-Length: 5, 5\r\n", "hello"), "a list of lengths"),
        (post("Content-Length: +5\r\n", "hello"), "a sign"),
        (post("Content-Length: 0x5\r\n", "hello"), "hexadecimal"),
        (post("Content-Length: 5 5\r\n", "hello"), "a space inside"),
        (post("Content-Length: -1\r\n", "hello"), "negative"),
        (post("Content-Length: 99999999999999999999\r\n", "hello"), "too large a number"),
        (post("Content-Length: \r\n", "hello"), "empty"),
        (post("X: a\0b\r\nContent-Length: 0\r\n", ""), "NUL in a value"),
        (post("X: a\rb\r\nContent-Length: 0\r\n", ""), "a bare CR"),
        (post("X y: a\r\nContent-Length: 0\r\n", ""), "a space in a name"),
        (post(": a\r\nContent-Length: 0\r\n", ""), "no name"),
        (
            "POST /open/post HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            "chunked in HTTP/1.0",
        ),
        (post("Content-Length: 0\r\nExpect: 200-ok\r\n", ""), "another expectation"),
    ];
    for (bytes, trick) in rows {
        let mut connection = system.connect();
        connection.send(format!("{bytes}{smuggled}"));
        let answer = connection.answer();
        let arrived = system.upstream.take();
        assert!(arrived.is_empty(), "{trick}: {arrived:?}");
        assert_eq!(answer.map_or(400, |answer| answer.status), 400, "{trick}");
        assert!(connection.is_closed(), "{trick}");
    }
}

#[test]
fn what_follows_a_request_on_the_wire_is_judged_by_itself_or_not_read() {
    let system = system();
    let mut connection = system.connect();
    connection
        .send("POST /open/post HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /me HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connection.answer().unwrap().status, 200);
    let second = connection.answer();
    let arrived = system.upstream.take();
    assert_eq!(arrived.len(), 1);
    assert_eq!(arrived[0].body, b"abc");
    assert!(second.is_none_or(|answer| answer.status == 401));
}

#[test]
fn a_chunked_body_arrives_whole_and_alone() {
    let system = system();
    let received = system
        .raw("POST /open/post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        .passed("chunked");
    assert!(!String::from_utf8_lossy(&received.body).contains("x="), "chunk extensions are not passed on");
    assert!(received.value("content-length").is_none());
    for body in ["3\r\nabcd\r\n0\r\n\r\n", "zz\r\nabc\r\n0\r\n\r\n", "-1\r\n\r\n", "fffffffffffffffff\r\nabc\r\n"] {
        let bytes = format!(
            "POST /open/post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}GET /me HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        let outcome = system.raw(bytes);
        assert!(outcome.arrived.is_empty(), "{body}: {:?}", outcome.arrived);
        assert_ne!(outcome.answer.map_or(400, |answer| answer.status), 200, "{body}");
    }
}
