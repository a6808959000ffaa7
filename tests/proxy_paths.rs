//! One reading of a request: what was matched is, byte for byte, what the upstream received; what has two readings is refused.
//!
//! Rows are named by their identifiers in `docs/bypasses.md`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use support::{Ask, System, alice};

/// An open area and a closed one, side by side.
const ROUTES: &str = r#"
- {id: open, match: {path: "/public/{rest...}"}, public: true}
- {id: open-pki, match: {path: "/pki2"}, public: true}
- {id: dotted, match: {path: "/v1.0/status"}, public: true}
- {id: closed-root, match: {path: /admin}, require: "org:manage"}
- {id: closed, match: {path: "/admin/{rest...}"}, require: "org:manage"}
- {id: pki, match: {path: "/pki/{rest...}"}, require: "org:manage"}
- {id: private, match: {path: /private}, authenticated: true}
- {id: project, match: {methods: [GET], path: "/projects/{project}"}, require: "project:view", resource: {type: project, id: "{path.project}"}}
- {id: view-thing, match: {methods: [GET], path: "/things/{thing}"}, public: true}
- {id: delete-thing, match: {methods: [DELETE], path: "/things/{thing}"}, require: "org:manage"}
- {id: preflighted, match: {methods: [PUT], path: /preflighted}, require: "org:manage", cors_preflight: forward}
- {id: not-preflighted, match: {methods: [PUT], path: /not-preflighted}, require: "org:manage"}
- {id: slashes, match: {path: "/objects/{key}"}, public: true, encoded_slash: allow}
- {id: by-host, match: {path: /by-host, hosts: ["api.example.com"]}, public: true}
- {id: by-other-host, match: {path: /by-host, hosts: ["*.example.com"]}, authenticated: true}
"#;

fn system() -> System {
    System::with(ROUTES).start()
}

/// Each target is answered 400 `bad_path`, with a token that may do nothing and without one.
#[track_caller]
fn all_ambiguous(system: &System, rows: &[(&str, &str)]) {
    let alice = alice().sign();
    for (target, trick) in rows {
        system.get(target).send().refused(400, "bad_path", trick);
        system.get(target).with(&alice).send().refused(400, "bad_path", trick);
    }
}

#[test]
fn a1_a2_a5_dot_segments_are_refused_in_every_spelling() {
    let rows = [
        ("/public/../admin", "A1 parent"),
        ("/public/./../admin", "A1 both"),
        ("/public/..", "A1 at the end"),
        ("/public/.", "A1 itself"),
        ("/./admin", "A1 itself first"),
        ("/../admin", "A1 above the root"),
        ("/public/%2e%2e/admin", "A2 encoded"),
        ("/public/.%2e/admin", "A2 half encoded"),
        ("/public/%2E%2e/admin", "A2 in both cases"),
        ("/public/%2E%2E%2Fadmin", "A2 with an encoded slash"),
        ("/public/..%2fadmin", "A2 slash only"),
        ("/public/%252e%252e/admin", "A2 encoded twice"),
        ("/public/%252e%252e%252fadmin", "A2 all encoded twice"),
        ("/public/%25%32%65%25%32%65/admin", "A2 encoded in pieces"),
        ("/public/..%5cadmin", "A2 backslash"),
        ("/public/..;/admin", "A2 path parameter"),
        ("/public/..;x=1/admin", "A2 path parameter with a value"),
        ("/public/..%3b/admin", "A2 encoded path parameter"),
        ("/public/..%00/admin", "A2 NUL"),
        ("/public/..%23/admin", "A2 encoded fragment"),
        ("/public/..%3f/admin", "A2 encoded query"),
        ("/public/.%2e%2fadmin", "A2 both encoded"),
        ("/public/%c0%ae%c0%ae/admin", "A2 overlong dots"),
        ("/public/%ef%bc%8e%ef%bc%8e%2fadmin", "A2 full-width dots"),
    ];
    all_ambiguous(&system(), &rows);
}

#[test]
fn a3_a6_a14_encoded_slashes_and_backslashes_are_refused_in_both_cases() {
    let system = system();
    let rows = [
        ("/public%2fadmin", "A3 lower case"),
        ("/public%2Fadmin", "A3 upper case"),
        ("/public/a%2f", "A3 at the end"),
        ("/public%5cadmin", "A14 lower case"),
        ("/public%5Cadmin", "A14 upper case"),
        ("/public\\admin", "A6 raw backslash"),
        ("/public/..\\admin", "A6 backslash and dots"),
        ("/public/%u002e%u002e/admin", "A6 no escape at all"),
        ("/public/%2", "A6 half an escape"),
        ("/public/%", "A6 a lone per cent sign"),
        ("/public/%zz", "A6 an escape that is none"),
    ];
    all_ambiguous(&system, &rows);
    // Where a route allows it, the slash stays encoded, in its segment.
    assert_eq!(system.get("/objects/a%2fb").passes().target(), "/objects/a%2Fb");
    system.get("/objects/a%2f..%2fb").is_refused(400, "bad_path");
    system.get("/objects%2fa").is_refused(400, "bad_path");
}

#[test]
fn a4_repeated_slashes_and_odd_beginnings_are_refused() {
    let rows = [
        ("//admin/people", "A4 an authority for some"),
        ("///admin", "A4 three slashes"),
        ("/public//../admin", "A4 with a parent"),
        ("/public//admin", "A4 in the middle"),
        ("/public/a//", "A4 at the end"),
        ("/;/admin", "A4 a lone semicolon"),
        ("/public;x=1/a", "A4 a parameter"),
        ("/public/a%3Bb", "A4 an encoded parameter"),
        ("/./admin", "A4 itself"),
    ];
    all_ambiguous(&system(), &rows);
}

#[test]
fn row_39_control_characters_and_bytes_beyond_ascii_are_refused() {
    let system = system();
    let rows = [
        ("/public/%00", "NUL"),
        ("/public/a%0d%0aHost:%20b", "a line break"),
        ("/public/%0a", "a line feed"),
        ("/public/%7f", "delete"),
        ("/public/%ff", "no UTF-8"),
        ("/public/%c0%af", "an overlong slash"),
        ("/public/%ed%a0%80", "a surrogate"),
        ("/public/%f4%90%80%80", "beyond Unicode"),
        ("*", "no path"),
        ("admin", "no slash"),
        ("app.test:80", "an authority"),
        ("/public/a#b", "a fragment"),
        ("/public/#/../admin", "a fragment with a path"),
        ("ftp://app.test/public/a", "another scheme"),
        ("http://app.test", "a URL without a path"),
        ("http://app.test?/public/a", "a URL with a query only"),
    ];
    for (target, trick) in rows {
        system.get(target).send().refused(400, "bad_path", trick);
    }
    for target in ["/public/\u{e9}", "/public/<a>", "/public/\"a\"", "/public/{a}", "/public/\u{1}"] {
        let outcome = system.get(target).send();
        assert!(outcome.arrived.is_empty(), "{target}");
        assert_eq!(outcome.answer.map_or(400, |answer| answer.status), 400, "{target}");
    }
    // The parser escapes a space; what is judged, and what arrives, is the escape.
    assert_eq!(system.get("/public/a b").passes().target(), "/public/a%20b");
    system.get("/public/a /../../admin").is_refused(400, "bad_path");
    system.get("/admin HTTP/1.1 /public/a").send().refused_while_parsing("two targets");
}

#[test]
fn a9_the_query_takes_no_part_in_matching_and_passes_as_it_came() {
    let system = system();
    system.get("/private?x=/public/a").is_refused(401, "missing_token");
    system.get("/admin?/../public/a").is_refused(401, "missing_token");
    system.get("/private?/public/a").is_refused(401, "missing_token");
    system.get("/private%3f/public/a").is_refused(403, "no_route");
    for query in ["?x=/../admin//%2e%2e;%00&y", "?", "??", "?%zz%2F&a=+b", "?x=http://a/b"] {
        let target = format!("/public/a{query}");
        assert_eq!(system.get(&target).passes().target(), target);
    }
}

#[test]
fn a11_a19_what_is_judged_is_what_arrives_byte_for_byte() {
    let system = system();
    for (sent, arrives) in [
        ("/public/a", "/public/a"),
        ("/public/a/", "/public/a/"),
        ("/public/a%20b", "/public/a%20b"),
        ("/public/%61%2d%7e%5F%2e", "/public/a-~_."),
        ("/%70ublic/a", "/public/a"),
        ("/public/%c3%a9?q=%c3%a9", "/public/%C3%A9?q=%c3%a9"),
        ("/public/a:b@c!$&'()*+,=d", "/public/a:b@c!$&'()*+,=d"),
        ("/public/a%3ab", "/public/a%3Ab"),
        ("/public/..a/.b/c..", "/public/..a/.b/c.."),
        ("/public/%25zz", "/public/%25zz"),
    ] {
        assert_eq!(system.get(sent).passes().request_line(), format!("GET {arrives} HTTP/1.1"));
    }
    // The same resource, however it is spelled; another one is another one.
    let alice = alice().sign();
    for project in ["42", "%34%32", "4%32"] {
        assert_eq!(system.get(&format!("/projects/{project}")).with(&alice).passes().target(), "/projects/42");
    }
    for project in ["51", "4%32%20", "%EF%BC%942", "42%09", "042"] {
        let outcome = system.get(&format!("/projects/{project}")).with(&alice).send();
        assert!(outcome.arrived.is_empty(), "{project}");
        assert!(matches!(outcome.answer.unwrap().status, 400 | 403), "{project}");
    }
    // An encoded letter does not lead around a closed rule.
    for target in ["/%61dmin", "/adm%69n", "/admin/%61", "/%61dmin/x"] {
        system.get(target).with(&alice).is_refused(403, "not_granted");
    }
}

#[test]
fn a15_a17_segments_are_whole_and_literals_are_literal() {
    let system = system();
    let alice = alice().sign();
    for (target, code) in [
        ("/administrator", "no_route"),
        ("/admin.json", "no_route"),
        ("/adminx/a", "no_route"),
        ("/pki", "no_route"),
        ("/pki2/a", "no_route"),
        ("/v1x0/status", "no_route"),
        ("/v1.0/statusx", "no_route"),
        ("/Public/a", "no_route"),
        ("/ADMIN", "no_route"),
        ("/admin/", "no_route"),
        ("/public", "no_route"),
        ("/admin/a", "not_granted"),
        ("/pki/a", "not_granted"),
    ] {
        let answer = system.get(target).with(&alice).send().refused(403, code, target);
        assert_eq!(answer.status, 403);
    }
    system.get("/v1.0/status").passes();
    system.get("/pki2").passes();
}

#[test]
fn b1_b2_hosts_ignore_case_a_trailing_dot_and_the_port() {
    let system = system();
    let asked = |host: &str| system.get("/by-host").host(host);
    for host in
        ["api.example.com", "API.example.COM", "api.example.com.", "api.example.com:8080", "API.EXAMPLE.COM.:443"]
    {
        let received = asked(host).passes();
        assert_eq!(received.value("host").as_deref(), Some(host), "the host is not rewritten");
        assert_eq!(received.value("x-portcullis-route").as_deref(), Some("by-host"));
    }
    for host in ["www.example.com", "WWW.example.com.", "x.api.example.com", "www.example.com:1"] {
        asked(host).is_refused(401, "missing_token");
    }
    for host in ["example.com", "example.org", "api.example.com.evil.test", "apixexample.com", "127.0.0.1", "[::1]:80"]
    {
        asked(host).is_refused(403, "no_route");
    }
    for host in [
        "",
        "api.example.com/",
        "api.example.com@evil.test",
        "api.example.com,evil.test",
        "a b",
        "api.example.com..",
        ".api.example.com",
        "api..example.com",
        "api.example.com:80:80",
        "api.example.com:x",
        "api.example.com:80@evil.test",
        "[::1].example.com",
        "api.example.com#",
        "a%00",
    ] {
        let outcome = asked(host).send();
        assert!(outcome.arrived.is_empty(), "{host}");
        assert_eq!(outcome.answer.map_or(400, |answer| answer.status), 400, "{host}");
    }
}

#[test]
fn a_request_names_one_host() {
    let system = system();
    let rows = [
        ("GET /public/a HTTP/1.1\r\n\r\n", "no host"),
        ("GET /public/a HTTP/1.0\r\n\r\n", "no host in HTTP/1.0"),
        ("GET http://evil.test/public/a HTTP/1.1\r\nHost: app.test\r\n\r\n", "a URL of another host"),
        ("GET http://app.test/public/a HTTP/1.1\r\n\r\n", "a URL and no host"),
        ("GET http://app.test:81/public/a HTTP/1.1\r\nHost: app.test\r\n\r\n", "a URL with another port"),
        ("GET http://user@app.test/public/a HTTP/1.1\r\nHost: app.test\r\n\r\n", "a URL with a user"),
        ("GET /public/a HTTP/1.1\r\nHost: app.test\r\nHost: app.test\r\n\r\n", "the same host twice"),
        ("GET /public/a HTTP/1.1\r\nHost: app.test\r\nhost: evil.test\r\n\r\n", "two hosts"),
        ("GET /public/a HTTP/1.1\r\nHost: app.test, evil.test\r\n\r\n", "two hosts in one field"),
        ("GET /public/a HTTP/1.1\r\nHost: \u{e9}\r\n\r\n", "a host that is not ASCII"),
    ];
    for (bytes, trick) in rows {
        let outcome = system.raw(bytes);
        assert!(outcome.arrived.is_empty(), "{trick}");
        assert_eq!(outcome.answer.map_or(400, |answer| answer.status), 400, "{trick}");
    }
    let received =
        system.raw("GET http://app.test/public/a?b HTTP/1.1\r\nHost: app.test\r\n\r\n").passed("absolute form");
    assert_eq!(received.request_line(), "GET /public/a?b HTTP/1.1", "forwarded in the form that was judged");
    system.raw("GET http://app.test/private HTTP/1.1\r\nHost: app.test\r\n\r\n").refused(
        401,
        "missing_token",
        "closed",
    );
    system
        .raw("GET http://app.test/public/../admin HTTP/1.1\r\nHost: app.test\r\n\r\n")
        .refused(400, "bad_path", "dots");
}

#[test]
fn b6_the_method_that_is_judged_is_the_method_that_arrives() {
    let system = system();
    let headers =
        ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "x_http_method_override", "X-Original-Method"];
    for name in headers {
        let received = system.get("/things/1").field(name, "DELETE").passes();
        assert_eq!(received.request_line(), "GET /things/1 HTTP/1.1");
        assert!(!String::from_utf8_lossy(&received.head).contains("DELETE"), "{name}");
    }
    let delete = system.ask("DELETE", "/things/1");
    delete.is_refused(401, "missing_token");
    delete.field("X-HTTP-Method-Override", "GET").with(&alice().sign()).is_refused(403, "not_granted");
    for method in ["get", "Get", "GETT", "FOO", "delete"] {
        let outcome = system.ask(method, "/public/a").send();
        assert!(outcome.arrived.is_empty(), "{method}");
        assert!(matches!(outcome.answer.unwrap().status, 400 | 403), "{method}");
    }
    system.raw("CONNECT app.test:443 HTTP/1.1\r\nHost: app.test:443\r\n\r\n").refused_while_parsing("CONNECT");
}

#[test]
fn b7_head_follows_get_and_options_is_no_way_in() {
    let system = system();
    let alice = alice().sign();
    assert_eq!(system.ask("HEAD", "/things/1").passes().request_line(), "HEAD /things/1 HTTP/1.1");
    assert_eq!(system.ask("HEAD", "/projects/42").send().answer.unwrap().status, 401);
    assert_eq!(system.ask("HEAD", "/projects/51").with(&alice).send().answer.unwrap().status, 403);
    assert!(system.upstream.take().is_empty());
    system.ask("HEAD", "/projects/42").with(&alice).passes();

    system.ask("OPTIONS", "/preflighted").is_refused(403, "no_route");
    system.ask("OPTIONS", "/admin").is_refused(401, "missing_token");
    let preflight = |target: &str, method: &str| {
        let ask = system.ask("OPTIONS", target).field("origin", "https://other.test");
        ask.field("access-control-request-method", method)
    };
    let received = preflight("/preflighted", "PUT").with(&alice).field("cookie", "session=x; a=b").passes();
    for name in ["authorization", "cookie"] {
        assert_eq!(received.value(name), None, "{name}");
    }
    assert_eq!(received.fields().iter().find(|(name, _)| name.starts_with("x-portcullis")), None);
    let rows: [(Ask<'_>, u16, &str, &str); 7] = [
        (preflight("/preflighted", "DELETE"), 403, "no_route", "a method without a rule"),
        (preflight("/preflighted", "put"), 400, "bad_request", "an unknown method"),
        (
            preflight("/preflighted", "PUT").field("access-control-request-method", "GET"),
            400,
            "bad_request",
            "two methods",
        ),
        (preflight("/preflighted", "PUT").field("origin", "https://a.test"), 400, "bad_request", "two origins"),
        (preflight("/not-preflighted", "PUT"), 403, "no_route", "a rule that does not say so"),
        (preflight("/admin", "GET"), 401, "missing_token", "a rule that covers OPTIONS itself"),
        (
            system.ask("OPTIONS", "/preflighted").field("origin", "https://a.test"),
            403,
            "no_route",
            "no requested method",
        ),
    ];
    for (ask, status, code, trick) in rows {
        ask.send().refused(status, code, trick);
    }
    preflight("/preflighted", "PUT").body("").passes();
    preflight("/preflighted", "PUT").body("x").is_refused(400, "bad_request");
    let chunked = "OPTIONS /preflighted HTTP/1.1\r\nHost: a\r\nOrigin: https://a.test\r\nAccess-Control-Request-Method: PUT\r\n\
                   Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    system.raw(chunked).refused(400, "bad_request", "a preflight with a chunked body");
}

#[test]
fn an_upstream_that_ignores_case_or_trailing_slashes_is_judged_as_it_reads() {
    let routes = r#"
- {id: open, match: {path: "/files/{name}"}, public: true}
- {id: closed, match: {path: /files/admin}, require: "org:manage"}
"#;
    let reading = "paths: {case: ignore, trailing_slash: same}";
    let system = System::with(routes).upstream_options(reading).start();
    let alice = alice().sign();
    for target in ["/files/admin", "/files/ADMIN", "/files/Admin", "/FILES/admin", "/files/admin/", "/files/%41dmin"] {
        let outcome = system.get(target).with(&alice).send();
        assert!(outcome.arrived.is_empty(), "{target}");
        let answer = outcome.answer.unwrap();
        assert!(matches!(answer.code().as_str(), "not_granted" | "bad_path"), "{target}: {}", answer.code());
    }
    assert_eq!(system.get("/files/Other/").passes().target(), "/files/Other/");
}
