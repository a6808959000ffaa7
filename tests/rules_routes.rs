//! Which rule covers a request, and which sets of rules are refused because that would be unclear.

#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use portcullis::domain::DenyReason;
use portcullis::rules::{CanonicalPath, Context, PathCase, PathReading, RouteTable, TrailingSlash, Upstream, compile};
use portcullis::yaml::{Problems, parse};
use proptest::prelude::*;

const EXACT: PathReading = PathReading { case: PathCase::Exact, trailing_slash: TrailingSlash::Distinct };
const IGNORING_CASE: PathReading = PathReading { case: PathCase::Ignore, ..EXACT };
const IGNORING_SLASHES: PathReading = PathReading { trailing_slash: TrailingSlash::Same, ..EXACT };

fn table_for(readings: &[(&str, PathReading)], routes: &str) -> Result<RouteTable, Problems> {
    let node = parse("routes.yaml", routes, None)?;
    let upstreams: Vec<Upstream> =
        readings.iter().map(|(name, paths)| Upstream { name: (*name).to_owned(), paths: *paths }).collect();
    let context = Context {
        upstreams: &upstreams,
        issuers: &["authkit".to_owned(), "partner".to_owned()],
        facts: true,
        max_staleness: Duration::from_secs(300),
        methods: &[],
        own_headers: &[],
    };
    compile(node.items(), None, &context)
}

fn table(routes: &str) -> RouteTable {
    table_for(&[("app", EXACT)], routes).unwrap_or_else(|problems| panic!("{problems}"))
}

fn refused(routes: &str) -> String {
    table_for(&[("app", EXACT)], routes).expect_err("the rules are accepted").to_string()
}

/// The id of the rule that covers `request`, written `METHOD host/path` with headers behind it.
fn covered_by(table: &RouteTable, request: &str, headers: &[(&str, &str)]) -> Result<String, DenyReason> {
    let (method, target) = request.split_once(' ').unwrap();
    let (host, path) = target.split_at(target.find('/').unwrap());
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let path = table.path(path.as_bytes()).map_err(|bad| portcullis::domain::Denial::from(bad).reason)?;
    let found = table.find(&Method::from_bytes(method.as_bytes()).unwrap(), host, &path, &map);
    found
        .map(|found| found.map_or_else(|| "none".to_owned(), |found| found.route().id.to_string()))
        .map_err(|denial| denial.reason)
}

fn assert_covered(table: &RouteTable, cases: &[(&str, &str)]) {
    for (request, route) in cases {
        assert_eq!(covered_by(table, request, &[]).as_deref(), Ok(*route), "{request}");
    }
}

#[test]
fn literal_wins_over_capture_over_rest_from_the_left() {
    let table = table(
        "
- {id: root, match: {path: /}, public: true}
- {id: literal, match: {path: /a/b}, authenticated: true}
- {id: capture, match: {path: '/a/{x}'}, authenticated: true}
- {id: left, match: {path: '/a/{x}/c'}, authenticated: true}
- {id: right, match: {path: '/{x}/b/c'}, authenticated: true}
- {id: rest, match: {path: '/a/{x...}'}, authenticated: true}
- {id: slash, match: {path: /a/}, authenticated: true}
- {id: all, match: {path: '/{x...}'}, authenticated: true}
",
    );
    assert_covered(
        &table,
        &[
            ("GET h/", "root"),
            ("GET h/a/b", "literal"),
            ("GET h/a/c", "capture"),
            ("GET h/a/b/c", "left"),
            ("GET h/x/b/c", "right"),
            ("GET h/a/b/d", "rest"),
            ("GET h/a/b/", "rest"),
            ("GET h/a/", "slash"),
            ("GET h/a", "all"),
            ("GET h/x/", "all"),
            ("GET h/x/b/d", "all"),
        ],
    );
}

#[test]
fn segments_are_whole_and_literals_are_no_expressions() {
    let table = table(
        "
- {id: admin, match: {path: /admin}, authenticated: true}
- {id: dots, match: {path: '/a.c/x*/(y)?+'}, authenticated: true}
- {id: colon, match: {path: '/v1:run/%7Eme/caf\u{e9}'}, authenticated: true}
- {id: rest, match: {path: '/files/{rest...}'}, authenticated: true}
",
    );
    assert_covered(
        &table,
        &[
            ("GET h/admin", "admin"),
            ("GET h/%61dmin", "admin"),
            ("GET h/administrator", "none"),
            ("GET h/admin/", "none"),
            ("GET h/admin/x", "none"),
            ("GET h/Admin", "none"),
            ("GET h/a.c/x*/(y)%3F+", "dots"),
            ("GET h/abc/x*/(y)%3F+", "none"),
            ("GET h/a.c/xx/y", "none"),
            ("GET h/v1%3arun/~me/caf%c3%a9", "colon"),
            ("GET h/v1:run/%7eme/caf%C3%A9", "colon"),
            ("GET h/files", "none"),
            ("GET h/files/", "none"),
            ("GET h/files/a", "rest"),
            ("GET h/filesystem", "none"),
        ],
    );
}

#[test]
fn the_query_never_selects_a_rule() {
    let table = table("- {id: public, match: {path: /public}, public: true}");
    let (path, query) = portcullis::rules::split_target("/private?x=/public");
    assert_eq!((path, query), ("/private", Some("x=/public")));
    assert_covered(&table, &[("GET h/private", "none"), ("GET h/public", "public")]);
}

#[test]
fn a_rule_for_other_methods_lets_a_less_specific_one_answer() {
    let table = table(
        "
- {id: create, match: {methods: [POST], path: /a/b}, authenticated: true}
- {id: read, match: {methods: [GET], path: '/a/{x}'}, authenticated: true}
- {id: head, match: {methods: [HEAD], path: '/a/{x}'}, authenticated: true}
- {id: any, match: {path: '/a/{x}'}, authenticated: true}
- {id: get, match: {methods: [GET], path: /g}, authenticated: true}
",
    );
    assert_covered(
        &table,
        &[
            ("POST h/a/b", "create"),
            ("GET h/a/b", "read"),
            ("HEAD h/a/b", "head"),
            ("PUT h/a/b", "any"),
            ("PROPFIND h/a/b", "any"),
            ("HEAD h/g", "get"),
            ("OPTIONS h/g", "none"),
            ("POST h/g", "none"),
        ],
    );
    for method in ["get", "Get", "BREW", "CONNECT"] {
        assert_eq!(covered_by(&table, &format!("{method} h/g"), &[]), Err(DenyReason::BadRequest), "{method}");
    }
}

#[test]
fn hosts_narrow_after_the_path_and_before_methods() {
    let table = table(
        "
- {id: any, match: {path: /x}, authenticated: true}
- {id: exact, match: {path: /x, hosts: [api.example.com]}, authenticated: true}
- {id: below, match: {path: /x, hosts: ['*.example.com']}, authenticated: true}
- {id: deeper, match: {path: /x, hosts: ['*.b.example.com']}, authenticated: true}
- {id: method, match: {path: /x, methods: [GET]}, authenticated: true}
- {id: only, match: {path: /only, hosts: [api.example.com]}, authenticated: true}
- {id: path, match: {path: '/{y}', hosts: [api.example.com]}, authenticated: true}
",
    );
    assert_covered(
        &table,
        &[
            ("GET api.example.com/x", "exact"),
            ("GET API.Example.COM/x", "exact"),
            ("GET api.example.com./x", "exact"),
            ("GET api.example.com:8443/x", "exact"),
            ("GET api.example.com.:8443/x", "exact"),
            ("GET www.example.com/x", "below"),
            ("GET a.b.example.com/x", "deeper"),
            ("GET example.com/x", "method"),
            ("POST example.com/x", "any"),
            ("GET evilexample.com/x", "method"),
            ("GET api.example.com.evil.com/x", "method"),
            ("GET other/only", "none"),
            ("GET api.example.com/z", "path"),
        ],
    );
}

#[test]
fn headers_narrow_last_and_may_not_be_repeated() {
    let table = table(
        "
- {id: plain, match: {path: /x}, authenticated: true}
- {id: v2, match: {path: /x, headers: {X-Version: '2'}}, authenticated: true}
- {id: v2-beta, match: {path: /x, headers: {x_version: '2', x-beta: 'on'}}, authenticated: true}
- {id: v3, match: {path: /x, headers: {X-Version: '3'}}, authenticated: true}
",
    );
    let covered = |headers: &[(&str, &str)]| covered_by(&table, "GET h/x", headers);
    assert_eq!(covered(&[]).unwrap(), "plain");
    assert_eq!(covered(&[("x-version", "2")]).unwrap(), "v2");
    assert_eq!(covered(&[("x_version", "2")]).unwrap(), "v2");
    assert_eq!(covered(&[("x-version", "2"), ("x-beta", "on")]).unwrap(), "v2-beta");
    assert_eq!(covered(&[("x-version", "3"), ("x-beta", "on")]).unwrap(), "v3");
    assert_eq!(covered(&[("x-version", "2 ")]).unwrap(), "plain");
    for repeated in [[("x-version", "2"), ("x-version", "2")], [("x-version", "2"), ("x_version", "3")]] {
        assert_eq!(covered(&repeated), Err(DenyReason::BadRequest));
    }
}

#[test]
fn grpc_methods_are_matched_by_path_post_and_content_type() {
    let table = table(
        "
- {id: get, match: {grpc: shop.v1.Orders/Get}, authenticated: true}
- {id: orders, match: {grpc: 'shop.v1.Orders/*'}, authenticated: true}
",
    );
    let grpc = [("content-type", "application/grpc+proto")];
    assert_eq!(covered_by(&table, "POST h/shop.v1.Orders/Get", &grpc).unwrap(), "get");
    assert_eq!(covered_by(&table, "POST h/shop.v1.Orders/Put", &grpc).unwrap(), "orders");
    assert_eq!(covered_by(&table, "GET h/shop.v1.Orders/Get", &grpc).unwrap(), "none");
    assert_eq!(
        covered_by(&table, "POST h/shop.v1.Orders/Get", &[("content-type", "application/json")]).unwrap(),
        "none"
    );
    assert_eq!(covered_by(&table, "POST h/shop.v1.Orders/Get/x", &grpc).unwrap(), "none");
    assert_eq!(covered_by(&table, "POST h/shop.v1.Orders/Get", &[grpc[0], grpc[0]]), Err(DenyReason::BadRequest));
}

#[test]
fn rules_that_tie_are_refused_with_both_places() {
    let problem = refused(
        "
- {id: one, match: {methods: [GET, PUT], path: '/a/{x}'}, authenticated: true}
- {id: two, match: {methods: [PUT, POST], path: '/a/{y}'}, public: true}
",
    );
    assert_eq!(
        problem,
        "routes.yaml:3:3: route `two` ties with route `one` at routes.yaml:2:3: `/a/{y}` with PUT matches both, and neither is more specific"
    );
    for tie in [
        "- {id: one, match: {path: /a}, public: true}\n- {id: two, match: {path: /%61}, public: true}",
        "- {id: one, match: {path: '/{a...}'}, public: true}\n- {id: two, match: {path: '/{b...}'}, public: true}",
        "- {id: one, match: {path: /a, hosts: [x, y]}, public: true}\n- {id: two, match: {path: /a, hosts: [Y.]}, public: true}",
        "- {id: one, match: {path: /a, headers: {a: '1'}}, public: true}\n- {id: two, match: {path: /a, headers: {b: '1'}}, public: true}",
        "- {id: one, match: {grpc: S/M}, public: true}\n- {id: two, match: {path: /S/M, methods: [POST], headers: {x: '1'}}, public: true}",
    ] {
        let problem = refused(tie);
        assert!(
            problem.starts_with("routes.yaml:2:3: route `two` ties with route `one` at routes.yaml:1:3"),
            "{problem}"
        );
    }
}

#[test]
fn rules_that_differ_somewhere_do_not_tie() {
    table(
        "
- {id: a, match: {path: /x}, public: true}
- {id: b, match: {path: /x/}, public: true}
- {id: c, match: {path: /X}, public: true}
- {id: d, match: {path: /x, methods: [GET]}, public: true}
- {id: e, match: {path: /x, methods: [POST]}, public: true}
- {id: f, match: {path: /x, methods: [HEAD]}, public: true}
- {id: g, match: {path: /x, hosts: [h]}, public: true}
- {id: h, match: {path: /x, methods: [GET], headers: {a: '1'}}, public: true}
- {id: i, match: {path: /x, methods: [GET], headers: {a: '2', b: '1'}}, public: true}
- {id: j, match: {path: '/{x}'}, public: true}
- {id: k, match: {path: '/{x...}'}, public: true}
",
    );
}

#[test]
fn header_conditions_do_not_select_a_weaker_requirement() {
    let rules = |with: &str, without: &str| {
        format!(
            "- {{id: without, match: {{path: '/x'}}, {without}}}\n- {{id: with, match: {{path: /x, headers: {{a: '1'}}}}, {with}}}"
        )
    };
    for (with, without) in [
        ("public: true", "authenticated: true"),
        ("authenticated: true", "require: 'a:b'"),
        ("require: 'a:c'", "require: 'a:b'"),
        ("require: {any: ['a:b', 'a:c']}", "require: 'a:b'"),
        ("require: 'a:b'", "require: {all: ['a:b', 'a:c']}"),
        ("require: 'a:b', mode: shadow", "require: 'a:b'"),
        ("require: 'a:b'", "require: 'a:b', organization: org_1"),
        ("require: 'a:b'", "require: 'a:b', require_claims: {a: 1}"),
        ("require: 'a:b'", "require: 'a:b', tokens: [authkit]"),
        ("require: 'a:b', tokens: [authkit, partner]", "require: 'a:b', tokens: [authkit]"),
        ("require: 'a:b', revocations: ignore", "require: 'a:b'"),
        ("require: 'a:b', impersonation: allow", "require: 'a:b'"),
        ("require: 'a:b'", "require: 'a:b', grants: live"),
        ("require: 'a:b', grants: live, on_stale: serve", "require: 'a:b', grants: live"),
        ("require: 'a:b', grants: live", "require: 'a:b', grants: live, max_staleness: 10s"),
        (
            "require: 'a:b', grants: live, on_stale: serve, serve_until: 2h",
            "require: 'a:b', grants: live, on_stale: serve, serve_until: 1h",
        ),
        (
            "require: 'a:b', resource: {type: p, id: '{query.a}'}",
            "require: 'a:b', resource: {type: p, id: '{query.b}'}",
        ),
        (
            "require: 'a:b', resource: {type: p, id: '{query.a}'}",
            "require: 'a:b', resource: {type: o, id: '{query.a}'}",
        ),
        (
            "require: 'a:b', resource: {type: p, id: '{query.a}'}",
            "require: 'a:b', resource: {resource_id: '{query.a}'}",
        ),
        (
            "require: 'a:b', resource: {resource_id: '{query.a}'}",
            "require: 'a:b', resource: {resource_id: '{query.b}'}",
        ),
        ("require: 'a:b', resource: {resource_id: '{query.a}'}", "require: 'a:b'"),
    ] {
        let problem = refused(&rules(with, without));
        assert!(
            problem.contains("route `with` has header conditions and does not ask for at least what route `without`"),
            "{problem}"
        );
        table(&rules(&format!("{with}, weaker: acknowledged"), without));
    }
    for (with, without) in [
        ("authenticated: true", "public: true"),
        ("require: {all: ['a:b', 'a:c']}", "require: 'a:c'"),
        ("require: 'a:b'", "require: {any: ['a:b', 'a:c']}"),
        ("require: 'a:b', grants: both", "require: 'a:b'"),
        ("require: 'a:b', revocations: require", "require: 'a:b'"),
        ("require: 'a:b'", "require: 'a:b'"),
        (
            "require: 'a:b', resource: {type: p, id: '{query.a}'}",
            "require: 'a:b', resource: {type: p, id: '{query.a}'}",
        ),
        (
            "require: 'a:b', resource: {resource_id: '{query.a}'}",
            "require: 'a:b', resource: {resource_id: '{query.a}'}",
        ),
        (
            "require: 'a:b', grants: live, on_stale: serve, serve_until: 1h",
            "require: 'a:b', grants: live, on_stale: serve, serve_until: 2h",
        ),
    ] {
        table(&rules(with, without));
    }
}

#[test]
fn whatever_answers_for_a_path_behind_another_is_found() {
    let rules = |path: &str, behind: &str| {
        format!(
            "- {{id: behind, match: {{path: '{behind}'}}, authenticated: true}}\n\
             - {{id: probe, match: {{path: '{path}', headers: {{a: '1'}}}}, public: true}}"
        )
    };
    for (path, behind) in [
        ("/a/b", "/{t}/b"),
        ("/a/{x}", "/{t}/b"),
        ("/a/{x}", "/{t}/{y}"),
        ("/a/{x}/", "/{t}/b/"),
        ("/a/{x}/", "/{t}/{y}/"),
        ("/a/{x}/c", "/{t}/b/c"),
        ("/a/{x}/c", "/{t}/{y}/c"),
        ("/a/{x}/{z}", "/{t}/b/c"),
        ("/a/{x}/{z}", "/{t}/{y}/c"),
        ("/a/{x}/c", "/{t}/{rest...}"),
        ("/a/{rest...}", "/{t}/b"),
        ("/a/{rest...}", "/{t}/b/c"),
        ("/a/{rest...}", "/{t}/{y}/c/"),
        ("/a/{rest...}", "/{t}/b/{rest...}"),
    ] {
        let problem = refused(&rules(path, behind));
        assert!(problem.contains("route `probe` has header conditions"), "{path} before {behind}: {problem}");
    }
    for (path, behind) in [
        ("/a/{x}", "/b/{y}"),
        ("/a/{x}", "/{t}"),
        ("/a/{x}", "/{t}/b/c"),
        ("/a/{x}", "/{t}/{y}/"),
        ("/a/{x}/", "/{t}/b"),
        ("/a/{x}/c", "/{t}/b/d"),
        ("/a/{rest...}", "/{t}"),
        ("/a/{rest...}", "/{t}/"),
        // These answer first.
        ("/{x}/a", "/b/{y}"),
        ("/{x}", "/b"),
        ("/{rest...}", "/b/{y}"),
        ("/a/{rest...}", "/a/{y}"),
    ] {
        table(&rules(path, behind));
    }
}

#[test]
fn rules_for_other_hosts_do_not_answer() {
    let rules = |hosts: &str, others: &str| {
        let without = format!("- {{id: without, match: {{path: /x{others}}}, authenticated: true}}");
        format!("{without}\n- {{id: probe, match: {{path: /x, headers: {{a: '1'}}{hosts}}}, public: true}}")
    };
    let hosts = |names: &str| if names.is_empty() { String::new() } else { format!(", hosts: [{names}]") };
    for (probe, without) in [
        ("a.test", ""),
        ("a.test", "a.test"),
        ("a.test", "'*.test'"),
        ("b.a.test", "'*.a.test'"),
        ("'*.a.test'", "'*.test'"),
        ("a.test", "c.test, 'b.test', a.test"),
        ("a.test, b.test", "b.test"),
        ("'*.test'", "'*.test'"),
    ] {
        let problem = refused(&rules(&hosts(probe), &hosts(without)));
        assert!(problem.contains("route `probe` has header conditions"), "{probe}, {without}: {problem}");
    }
    for (probe, without) in [
        // These answer first, for their hosts.
        ("", "a.test"),
        ("a.test", "b.test"),
        ("a.test", "'*.a.test'"),
        ("a.test", "'*.b.test'"),
        ("ba.test", "'*.a.test'"),
        ("'*.a.test'", "'*.b.test'"),
        ("a.test, b.test", "c.test, d.test"),
    ] {
        table(&rules(&hosts(probe), &hosts(without)));
    }
}

#[test]
fn header_conditions_are_compared_with_whatever_answers_without_them() {
    let behind = refused(
        "
- {id: rest, match: {path: '/{rest...}'}, authenticated: true}
- {id: probe, match: {path: /x, headers: {a: '1'}}, public: true}
",
    );
    assert!(behind.starts_with("routes.yaml:3:3: route `probe` has header conditions"), "{behind}");
    // A rule for the same path answers first, so that the one behind never does.
    table(
        "
- {id: rest, match: {path: '/{rest...}'}, require: 'a:b'}
- {id: plain, match: {path: /x}, authenticated: true}
- {id: probe, match: {path: /x, headers: {a: '1'}}, authenticated: true}
",
    );
    // The content type of gRPC is part of the protocol.
    table(
        "
- {id: rest, match: {path: '/{rest...}'}, authenticated: true}
- {id: health, match: {grpc: grpc.health.v1.Health/Check}, public: true}
",
    );
}

#[test]
fn a_path_that_two_upstreams_read_as_theirs_is_refused() {
    let rules = "
- {id: case, match: {path: /admin/}, authenticated: true, upstream: ignoring-case}
- {id: slash, match: {path: /ADMIN}, public: true, upstream: ignoring-slashes}
";
    let readings = [("ignoring-case", IGNORING_CASE), ("ignoring-slashes", IGNORING_SLASHES)];
    let table = table_for(&readings, rules).unwrap();
    assert_covered(&table, &[("GET h/aDMIN/", "case"), ("GET h/ADMIN", "slash")]);
    assert_eq!(covered_by(&table, "GET h/ADMIN/", &[]), Err(DenyReason::BadPath));
}

#[test]
fn a_rule_of_the_same_path_answers_for_its_hosts_only() {
    let rules = |plain: &str, probe: &str| {
        let hosts = |names: &str| if names.is_empty() { String::new() } else { format!(", hosts: [{names}]") };
        format!(
            "- {{id: rest, match: {{path: '/{{rest...}}'}}, authenticated: true}}\n\
             - {{id: plain, match: {{path: /x{}}}, public: true}}\n\
             - {{id: probe, match: {{path: /x, headers: {{a: '1'}}{}}}, public: true}}",
            hosts(plain),
            hosts(probe)
        )
    };
    for (plain, probe) in [("a.test", "'*.test'"), ("a.test, b.test", "a.test, c.test"), ("a.test", "")] {
        let problem = refused(&rules(plain, probe));
        assert!(problem.contains("route `probe` has header conditions"), "{plain}, {probe}: {problem}");
    }
    for (plain, probe) in
        [("", ""), ("", "a.test"), ("'*.test'", "a.test"), ("a.test, b.test", "b.test"), ("a.test", "a.test")]
    {
        table(&rules(plain, probe));
    }
}

#[test]
fn spellings_that_the_upstream_takes_for_one_are_judged_alike() {
    let rules = "
- {id: admin, match: {path: /admin}, require: 'admin:all'}
- {id: item, match: {path: '/admin/{id}/edit'}, require: 'admin:all'}
- {id: rest, match: {path: '/{rest...}'}, public: true}
";
    let ignoring = |reading| table_for(&[("app", reading)], rules).unwrap();
    let case =
        [("GET h/Admin", "admin"), ("GET h/%41DMIN", "admin"), ("GET h/aDmin/x/EDIT", "item"), ("GET h/other", "rest")];
    let slash = [("GET h/admin/", "admin"), ("GET h/admin/x/edit/", "item"), ("GET h/other/", "rest")];
    assert_covered(&ignoring(IGNORING_CASE), &case);
    assert_covered(&ignoring(IGNORING_SLASHES), &slash);
    assert_covered(
        &ignoring(PathReading { case: PathCase::Ignore, ..IGNORING_SLASHES }),
        &[&case[..], &slash].concat(),
    );
    assert_covered(&ignoring(PathReading { case: PathCase::Ignore, ..IGNORING_SLASHES }), &[("GET h/ADMIN/", "admin")]);
    assert_covered(&ignoring(IGNORING_CASE), &[("GET h/admin/", "rest")]);
    assert_covered(&ignoring(EXACT), &[("GET h/Admin", "rest"), ("GET h/admin/", "rest")]);
}

#[test]
fn spellings_that_two_upstreams_share_are_refused() {
    let upstreams = [("web", IGNORING_CASE), ("admin", EXACT)];
    let table = table_for(
        &upstreams,
        "
- {id: admin, match: {path: /admin}, require: 'admin:all', upstream: admin}
- {id: rest, match: {path: '/{rest...}'}, public: true, upstream: web}
- {id: only, match: {path: /only}, public: true, upstream: web}
",
    )
    .unwrap();
    assert_covered(&table, &[("GET h/admin", "admin"), ("GET h/x", "rest"), ("GET h/ONLY", "only")]);
    assert_eq!(covered_by(&table, "GET h/Admin", &[]), Err(DenyReason::BadPath));

    // Two upstreams, one rule each for two spellings: each gets what is written for it.
    let table = table_for(
        &upstreams,
        "
- {id: upper, match: {path: /Admin}, public: true, upstream: admin}
- {id: lower, match: {path: /admin}, public: true, upstream: web}
",
    )
    .unwrap();
    assert_covered(&table, &[("GET h/Admin", "upper"), ("GET h/admin", "lower"), ("GET h/ADMIN", "lower")]);
}

#[test]
fn rules_that_tie_only_for_the_upstream_are_refused_too() {
    let rules = "
- {id: one, match: {path: /admin}, authenticated: true}
- {id: two, match: {path: /Admin/}, public: true}
";
    assert!(table_for(&[("app", IGNORING_CASE)], rules).is_ok());
    let both = PathReading { case: PathCase::Ignore, trailing_slash: TrailingSlash::Same };
    let problem = table_for(&[("app", both)], rules).unwrap_err().to_string();
    assert!(
        problem.contains("ties with route `one`") && problem.contains("matches both as their upstream reads paths"),
        "{problem}"
    );
}

#[test]
fn a_weaker_rule_behind_a_literal_is_warned_of() {
    let warnings = |reading, rules: &str| -> Vec<String> {
        table_for(&[("app", reading)], rules).unwrap().warnings().iter().map(ToString::to_string).collect()
    };
    let rules = "
- {id: admin, match: {path: /users/admin}, require: 'admin:all'}
- {id: user, match: {path: '/users/{user}'}, authenticated: true}
";
    assert_eq!(
        warnings(EXACT, rules),
        [
            "routes.yaml:3:3: route `user` covers other spellings of the path of route `admin` at routes.yaml:2:3 and asks for a valid token \
         only: if the upstream ignores case or trailing slashes, say so with `paths` at the upstream"
        ]
    );
    assert!(warnings(IGNORING_CASE, rules).is_empty());
    for quiet in [
        "- {id: a, match: {path: /users/admin}, require: 'a:b'}\n- {id: b, match: {path: '/users/{u}'}, require: 'a:b'}",
        "- {id: a, match: {path: /users/admin}, require: 'a:b'}\n- {id: b, match: {path: '/users/{u}'}, require: 'c:d'}",
        "- {id: a, match: {path: /users/admin, methods: [GET]}, require: 'a:b'}\n- {id: b, match: {path: '/users/{u}', methods: [PUT]}, public: true}",
        "- {id: a, match: {path: /users/admin, hosts: [x]}, require: 'a:b'}\n- {id: b, match: {path: '/users/{u}', hosts: [y]}, public: true}",
        "- {id: a, match: {path: /health}, public: true}\n- {id: b, match: {path: '/{x...}'}, require: 'c:d'}",
    ] {
        assert_eq!(warnings(EXACT, quiet), Vec::<String>::new(), "{quiet}");
    }
}

#[test]
fn an_encoded_slash_passes_on_the_routes_that_allow_it_only() {
    let table = table(
        "
- {id: object, match: {path: '/objects/{key}'}, public: true, encoded_slash: allow}
- {id: item, match: {path: '/items/{key}'}, public: true}
",
    );
    assert_covered(
        &table,
        &[("GET h/objects/a%2fb", "object"), ("GET h/objects/a", "object"), ("GET h/objects/a/b", "none")],
    );
    for request in ["GET h/items/a%2fb", "GET h/nothing%2F", "GET h/objects/a%2f..", "GET h/objects%2fa"] {
        assert_eq!(covered_by(&table, request, &[]), Err(DenyReason::BadPath), "{request}");
    }
    let path = table.path(b"/objects/a%2fb").unwrap();
    assert_eq!(path.as_str(), "/objects/a%2Fb");
    let found = table.find(&Method::GET, "h", &path, &HeaderMap::new()).unwrap().unwrap();
    assert_eq!(found.capture("key").as_deref(), Some("a/b"));
}

#[test]
fn preflights_are_judged_by_the_rule_of_the_requested_method() {
    let table = table(
        "
- {id: put, match: {methods: [PUT], path: /x}, authenticated: true, cors_preflight: forward}
- {id: get, match: {methods: [GET], path: /x}, authenticated: true}
- {id: options, match: {methods: [OPTIONS], path: /y}, public: true}
",
    );
    let preflight = |method: &str, path: &'static str, headers: &[(&'static str, &'static str)]| {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let path = CanonicalPath::parse(path.as_bytes()).unwrap();
        let found = table.find_preflight(&Method::from_bytes(method.as_bytes()).unwrap(), "h", &path, &map);
        found
            .map(|found| found.map(|found| (found.route().id.to_string(), found.is_preflight())))
            .map_err(|denial| denial.reason)
    };
    let asking = |requested| [("origin", "https://app"), ("access-control-request-method", requested)];
    assert_eq!(preflight("OPTIONS", "/x", &asking("PUT")), Ok(Some(("put".to_owned(), true))));
    assert_eq!(preflight("OPTIONS", "/x", &asking("GET")), Ok(None));
    assert_eq!(preflight("OPTIONS", "/y", &asking("PUT")), Ok(None));
    assert_eq!(preflight("GET", "/x", &asking("PUT")), Ok(None));
    assert_eq!(preflight("OPTIONS", "/x", &asking("PUT")[..1]), Ok(None));
    assert_eq!(preflight("OPTIONS", "/x", &asking("PUT")[1..]), Ok(None));
    assert_eq!(preflight("OPTIONS", "/x", &asking("put")), Err(DenyReason::BadRequest));
    assert_eq!(
        preflight("OPTIONS", "/x", &[&asking("PUT")[..], &asking("GET")[1..]].concat()),
        Err(DenyReason::BadRequest)
    );
    assert_eq!(
        preflight("OPTIONS", "/x", &[&asking("PUT")[..], &asking("PUT")[..1]].concat()),
        Err(DenyReason::BadRequest)
    );
}

#[test]
fn a_rule_that_wins_whatever_the_headers_are_is_not_weakened_by_them() {
    table(
        "
- {id: strict, match: {path: /x, methods: [GET]}, require: 'a:b'}
- {id: host, match: {path: /x, hosts: [h]}, require: 'a:b'}
- {id: header, match: {path: /x, headers: {a: '1'}}, authenticated: true}
- {id: any, match: {path: /x}, authenticated: true}
",
    );
}

#[test]
fn the_narrower_content_type_wins() {
    let table = table(
        "
- {id: grpc, match: {grpc: S/M}, authenticated: true}
- {id: proto, match: {path: /S/M, methods: [POST], headers: {content-type: application/grpc+proto}}, authenticated: true}
",
    );
    for (kind, route) in [("application/grpc+proto", "proto"), ("application/grpc", "grpc"), ("text/plain", "none")] {
        assert_eq!(covered_by(&table, "POST h/S/M", &[("content-type", kind)]).as_deref(), Ok(route), "{kind}");
    }
}

/// The rule that the words of the contract give, looked up without any index: of all rules that match, the one whose path has a literal
/// over a capture over the rest, from the left.
fn looked_up(patterns: &[String], path: &str, fold: bool) -> Option<usize> {
    let fold = |text: &str| if fold { text.trim_end_matches('/').to_lowercase() } else { text.to_owned() };
    let path = fold(path);
    let path: Vec<&str> = path.split('/').skip(1).collect();
    let kinds = |pattern: &str| -> Option<Vec<u8>> {
        let pattern = fold(pattern);
        let mut kinds = Vec::new();
        for (index, segment) in pattern.split('/').skip(1).enumerate() {
            if segment.ends_with("...}") {
                let rest = path.get(index..).filter(|rest| rest.first().is_some_and(|first| !first.is_empty()))?;
                return Some([kinds, vec![0; rest.len().min(1)]].concat());
            }
            kinds.push(match path.get(index)? {
                found if segment.starts_with('{') && !found.is_empty() => 1,
                found if *found == segment => 2,
                _ => return None,
            });
        }
        (kinds.len() == path.len()).then_some(kinds)
    };
    let matching = patterns.iter().enumerate().filter_map(|(index, pattern)| Some((kinds(pattern)?, index)));
    matching.max_by_key(|(kinds, _)| kinds.clone()).map(|(_, index)| index)
}

fn pattern() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "B", "c", "{}"]);
    let end = prop::sample::select(vec!["", "", "", "/", "/{rest...}"]);
    (prop::collection::vec(segment, 1..4), end).prop_map(|(segments, end)| {
        let captures = segments.iter().enumerate().map(|(index, text)| text.replace("{}", &format!("{{x{index}}}")));
        format!("/{}{end}", captures.collect::<Vec<_>>().join("/"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_tree_finds_what_looking_at_every_rule_finds(
        patterns in prop::collection::hash_set(pattern(), 1..12),
        paths in prop::collection::vec("(/[abBcd]){1,4}/?", 20),
    ) {
        let patterns: Vec<String> = patterns.into_iter().collect();
        let rules: String = patterns
            .iter()
            .enumerate()
            .map(|(index, pattern)| format!("- {{id: r{index}, match: {{path: '{pattern}'}}, public: true}}\n"))
            .collect();
        let generous = PathReading { case: PathCase::Ignore, trailing_slash: TrailingSlash::Same };
        for (reading, fold) in [(EXACT, false), (generous, true)] {
            let Ok(table) = table_for(&[("app", reading)], &rules) else {
                prop_assert!(fold, "distinct patterns do not tie where paths are exact");
                continue;
            };
            for path in &paths {
                let found = covered_by(&table, &format!("GET h{path}"), &[]);
                let expected = looked_up(&patterns, path, fold).map_or("none".to_owned(), |index| format!("r{index}"));
                prop_assert_eq!(found, Ok(expected), "{} {}", path, rules);
            }
        }
    }
}

#[test]
fn ten_thousand_rules_are_found_one_by_one() {
    let mut rules = String::new();
    for index in 0..10_000 {
        rules.push_str(&format!(
            "- {{id: r{index}, match: {{path: '/service-{}/items-{index}/{{id}}'}}, public: true}}\n",
            index % 100
        ));
    }
    let table = table(&rules);
    for index in (0..10_000).step_by(997) {
        assert_covered(&table, &[(&format!("GET h/service-{}/items-{index}/7", index % 100), &format!("r{index}"))]);
    }
}
