//! Everything that is wrong with a set of rules is reported at once, each at its place.

#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::time::Duration;

use portcullis::rules::{Access, Context, Impersonation, Mode, PathReading, RouteTable, Upstream, compile};
use portcullis::yaml::{Placed, Problems, parse};

fn compiled(document: &str, facts: bool, upstreams: &[&str]) -> Result<RouteTable, Problems> {
    let node = parse("c.yaml", document, None)?;
    let upstreams: Vec<Upstream> =
        upstreams.iter().map(|name| Upstream { name: (*name).to_owned(), paths: PathReading::default() }).collect();
    let methods: Vec<Placed<String>> = node.get("methods").map(|node| node.read().unwrap()).unwrap_or_default();
    let context = Context {
        upstreams: &upstreams,
        issuers: &["authkit".to_owned()],
        facts,
        max_staleness: Duration::from_secs(300),
        methods: &methods,
        own_headers: &["x-portcullis-".to_owned(), "x-request-id".to_owned()],
    };
    compile(node.get("routes").map_or(&[], |routes| routes.items()), node.get("defaults"), &context)
}

fn table(document: &str) -> RouteTable {
    compiled(document, true, &["app", "other"]).unwrap_or_else(|problems| panic!("{problems}"))
}

fn problems(document: &str) -> Vec<String> {
    let problems = compiled(document, true, &["app", "other"]).expect_err("the rules are accepted");
    problems.0.iter().map(ToString::to_string).collect()
}

#[test]
fn all_problems_are_reported_together_at_their_places() {
    let document = "\
defaults: {upstream: nowhere, mood: good, max_staleness: 10m}
routes:
  - id: a b
    match: {path: a, methods: [get, BREW], hosts: ['a:80']}
    public: true
  - id: two
    match: {path: '/x/{y}'}
    require: Project:edit
    resource: {type: project, id: '{path.z}'}
  - id: three
    match: {pth: /x}
    requires: project:edit
    mode: off
  - match: {path: /y}
    authenticated: true
";
    assert_eq!(
        problems(document),
        [
            "c.yaml:1:22: unknown upstream `nowhere`, configured: `app`, `other`",
            "c.yaml:1:31: unknown key `mood`, expected one of `upstream`, `mode`, `grants`, `conceal`, `on_stale`, `serve_until`, \
         `max_staleness`, `revocations`, `encoded_slash`, `body_limit`, `max_body`, `impersonation`, `max_stream_age`",
            "c.yaml:1:58: max_staleness `10m` is longer than the global one, `5m`",
            "c.yaml:3:9: route id `a b` is not of letters, digits and `-_.:/`, at most 128",
            "c.yaml:4:19: path `a` does not begin with `/`",
            "c.yaml:4:32: method `get` is not written in upper case",
            "c.yaml:4:37: method `BREW` is neither registered nor configured",
            "c.yaml:4:52: expected a host or `*.suffix` without port, found `a:80`",
            "c.yaml:8:14: permission `Project:edit` contains 'P', which is not allowed there",
            "c.yaml:11:13: unknown key `pth`, expected one of `path`, `methods`, `hosts`, `headers`, `grpc`",
            "c.yaml:12:5: unknown key `requires`, expected one of `id`, `match`, `require`, `authenticated`, `public`, `resource`, \
         `organization`, `require_claims`, `cors_preflight`, `tokens`, `weaker`, `upstream`, `mode`, `grants`, `conceal`, `on_stale`, \
         `serve_until`, `max_staleness`, `revocations`, `encoded_slash`, `body_limit`, `max_body`, `impersonation`, `max_stream_age`, `verify`",
            "c.yaml:13:11: unknown value `off`, expected one of `enforce`, `shadow`",
            "c.yaml:14:5: missing key `id`",
        ]
    );
}

#[test]
fn what_a_rule_says_is_judged_in_itself() {
    let one = |rest: &str| {
        problems(&format!("defaults: {{upstream: app}}\nroutes:\n- {{id: r, match: {{path: '/a/{{x}}'}}, {rest}}}\n"))
    };
    for (rest, problem) in [
        ("upstream: app", "3:3: route `r` needs exactly one of `require`, `authenticated` and `public`"),
        (
            "public: true, authenticated: true",
            "3:3: route `r` needs exactly one of `require`, `authenticated` and `public`",
        ),
        ("require: 'a:b', public: true", "3:3: route `r` needs exactly one of `require`, `authenticated` and `public`"),
        ("public: false", "3:44: only `true` can stand here; leave the key out instead"),
        ("require: {any: []}", "3:45: nothing is required; write `authenticated: true` if any valid token will do"),
        ("require: ['a:b']", "3:45: expected a permission, or a mapping with `any` or `all`, found a list"),
        ("require: {any: ['a:b'], all: ['a:b']}", "3:45: expected exactly one of `permission`, `any` and `all`"),
        (
            "require: {any: [{permission: 'a:b', all: 1}]}",
            "3:72: unknown key `all`, expected one of `permission`, `resource`",
        ),
        ("require: 'a:b', resource: {type: t}", "3:62: expected either `type` and `id`, or `resource_id` alone"),
        (
            "require: 'a:b', resource: {type: t, id: a, resource_id: b}",
            "3:62: expected either `type` and `id`, or `resource_id` alone",
        ),
        (
            "require: 'a:b', resource: {type: T, id: a}",
            "3:69: resource type `T` contains 'T', which is not allowed there",
        ),
        ("require: 'a:b', resource: {type: t, id: '{path.y}'}", "3:76: the path has no capture `y`, it has `x`"),
        ("require: 'a:b', resource: {resource_id: ''}", "3:76: the value is empty"),
        ("require: 'a:b', organization: '{cookie.x}'", "3:66: `{cookie.x}` is not a value of a request, expected"),
        (
            "require: {all: [{permission: 'a:b', resource: {resource_id: x}}]}, resource: {resource_id: y}",
            "3:113: `resource` is never used: every part of `require` names its own",
        ),
        (
            "public: true, resource: {resource_id: x}",
            "3:60: `resource` has no meaning on a route that is `public: true`",
        ),
        (
            "public: true, organization: '{path.x}'",
            "3:64: `organization` has no meaning on a route that is `public: true`",
        ),
        ("public: true, grants: live", "3:58: `grants` has no meaning on a route that is `public: true`"),
        ("public: true, tokens: [authkit]", "3:58: `tokens` has no meaning on a route that is `public: true`"),
        (
            "public: true, require_claims: {a: b}",
            "3:66: `require_claims` has no meaning on a route that is `public: true`",
        ),
        ("public: true, impersonation: deny", "3:65: `impersonation` has no meaning on a route that is `public: true`"),
        (
            "authenticated: true, resource: {resource_id: x}",
            "3:67: `resource` has no meaning on a route that is `authenticated: true`",
        ),
        ("authenticated: true, upstream: web", "3:67: unknown upstream `web`, configured: `app`, `other`"),
        ("authenticated: true, tokens: [authkit, x]", "3:75: unknown issuer `x`, configured: `authkit`"),
        ("authenticated: true, tokens: []", "3:65: no issuers; leave the key out for all"),
        ("authenticated: true, require_claims: {a: []}", "3:73: claim `a` needs a name and at least one value"),
        ("authenticated: true, max_staleness: 301s", "3:72: max_staleness `5m 1s` is longer than the global one, `5m`"),
        ("authenticated: true, on_stale: serve, serve_until: 25h", "3:87: serve_until `1day 1h` is longer than `24h`"),
        ("authenticated: true, serve_until: 1h", "3:70: `serve_until` has no meaning without `on_stale: serve`"),
        ("authenticated: true, body_limit: 65KiB", "3:69: body_limit `65KiB` is not within `1B` and `64KiB`"),
        ("authenticated: true, body_limit: 0", "3:69: body_limit `0B` is not within `1B` and `64KiB`"),
        ("authenticated: true, weaker: acknowledged", "3:65: `weaker` has no meaning without header conditions"),
        ("authenticated: true, conceal: 1", "3:66: expected a boolean, found the number `1`"),
        (
            "authenticated: true, max_staleness: 30",
            "3:72: expected a duration with its unit, such as `30s`, found the number `30`",
        ),
    ] {
        let found = one(rest);
        assert!(
            found.len() == 1 && found[0].starts_with(&format!("c.yaml:{problem}")),
            "{rest}:\n{}",
            found.join("\n")
        );
    }
}

#[test]
fn what_a_match_says_is_judged_in_itself() {
    let one = |matching: &str| {
        problems(&format!("routes:\n- {{id: r, upstream: app, public: true, match: {{{matching}}}}}\n"))
    };
    for (matching, problem) in [
        ("methods: [GET]", "2:47: missing key `path` or `grpc`"),
        ("path: /a, grpc: S/M", "2:64: `grpc` beside `path`; a gRPC method is a path of its own"),
        ("grpc: S/M, methods: [POST]", "2:68: `methods` beside `grpc`, which is always `POST`"),
        ("grpc: S.M", "2:54: expected `package.Service/Method` or `package.Service/*`, found `S.M`"),
        ("path: /a, methods: []", "2:67: no methods; leave the key out for all"),
        ("path: /a, methods: [CONNECT]", "2:68: method `CONNECT` is neither registered nor configured"),
        ("path: /a, hosts: []", "2:65: no hosts; leave the key out for all"),
        ("path: /a, headers: {'a b': c}", "2:75: `a b: c` is not a header and its value"),
        ("path: /a, headers: {host: c}", "2:74: header `host` as a condition; use `hosts`"),
        (
            "path: /a, headers: {x-a: b, X_A: c}",
            "2:81: header `X_A` a second time; only letters and digits count, in any case",
        ),
        ("path: /a, headers: {a: 1}", "2:71: expected a string, found the number `1`"),
        ("path: '/a/{b}/{b}'", "2:54: capture `b` stands twice in the path"),
    ] {
        let found = one(matching);
        assert_eq!(found, [format!("c.yaml:{problem}")], "{matching}");
    }
}

#[test]
fn c1_c9_no_rule_looks_at_what_any_client_could_have_sent() {
    let names = [
        "X-Forwarded-Proto",
        "x_forwarded.host",
        "x-real-ip",
        "Forwarded",
        "x-original-url",
        "x-http-method-override",
        "x-portcullis-user",
        "X_Portcullis.Role",
        "x-request-id",
    ];
    for name in names {
        let says = |name: &str| {
            format!(
                "header `{name}` is what a proxy says, or we do, and any client could send it; no rule may look at it"
            )
        };
        let condition =
            format!("routes:\n- {{id: r, upstream: app, public: true, match: {{path: /a, headers: {{{name}: a}}}}}}\n");
        let [found] = problems(&condition).try_into().unwrap();
        assert!(found.ends_with(&says(name)), "{found}");
        let rest = format!("require: 'a:b', resource: {{type: t, id: '{{header.{name}}}'}}");
        let value = format!("routes:\n- {{id: r, upstream: app, match: {{path: /a}}, {rest}}}\n");
        let [found] = problems(&value).try_into().unwrap();
        let folded = name.to_lowercase().replace(['_', '.'], "-");
        assert!(found.ends_with(&says(&folded)), "{found}");
    }
    table(
        "routes:\n- {id: r, upstream: app, public: true, weaker: acknowledged, match: {path: /a, headers: {x-team: a}}}\n",
    );
}

#[test]
fn facts_are_needed_for_what_only_facts_can_answer() {
    let without_facts = |rest: &str| {
        let document = format!("routes:\n- {{id: r, match: {{path: '/a/{{x}}'}}, require: 'a:b', {rest}}}\n");
        compiled(&document, false, &["app"]).map(|_| ()).map_err(|problems| problems.to_string())
    };
    assert_eq!(
        without_facts("resource: {type: t, id: '{path.x}'}").unwrap_err(),
        "c.yaml:2:62: `resource` needs facts, and `facts.source` is `none`"
    );
    assert!(without_facts("resource: {resource_id: '{path.x}'}").is_err());
    assert_eq!(
        without_facts("grants: live").unwrap_err(),
        "c.yaml:2:60: `grants` other than `token` needs facts, and `facts.source` is `none`"
    );
    assert_eq!(without_facts("organization: '{path.x}'"), Ok(()));
    assert_eq!(without_facts("resource: {type: organization, id: '{path.x}'}"), Ok(()));
}

#[test]
fn duplicate_ids_and_keys_are_refused_with_both_places() {
    let rules = "routes:\n- {id: r, upstream: app, match: {path: /a}, public: true}\n- {id: r, upstream: app, match: {path: /b}, public: true}\n";
    assert_eq!(problems(rules), ["c.yaml:3:3: route `r` is already defined at c.yaml:2:3"]);
    let key = parse("c.yaml", "routes:\n- {id: r, id: s}\n", None).unwrap_err().to_string();
    assert_eq!(key, "c.yaml:2:11: duplicate key `id`, already given at c.yaml:2:4");
}

#[test]
fn an_upstream_is_found_by_name_by_default_or_alone() {
    let rules = "routes:\n- {id: r, match: {path: /a}, public: true}\n";
    let upstream = |upstreams: &[&str]| {
        compiled(rules, true, upstreams)
            .map(|table| table.routes()[0].upstream.clone())
            .map_err(|problems| problems.to_string())
    };
    assert_eq!(upstream(&["app"]), Ok(Some("app".into())));
    assert_eq!(upstream(&[]), Ok(None));
    assert_eq!(
        upstream(&["app", "other"]).unwrap_err(),
        "c.yaml:2:8: route `r` has no upstream, and there is no default"
    );
    let unknown = problems("defaults: {upstream: web}\nroutes: []\n");
    assert_eq!(unknown, ["c.yaml:1:22: unknown upstream `web`, configured: `app`, `other`"]);
}

#[test]
fn defaults_hold_where_a_rule_says_nothing() {
    let table = table(
        "
defaults: {upstream: app, mode: shadow, grants: live, conceal: true, on_stale: serve, serve_until: 2h, max_staleness: 1m,
  revocations: require, encoded_slash: allow, body_limit: 1KiB, impersonation: deny, max_stream_age: 1h}
methods: [PURGE]
routes:
- {id: silent, match: {path: /a, methods: [PURGE, GET]}, require: 'a:b'}
- {id: loud, match: {path: /b}, require: 'a:b', upstream: other, mode: enforce, grants: token, conceal: false, on_stale: deny,
   max_staleness: 2m, revocations: ignore, encoded_slash: reject, body_limit: 2KiB, impersonation: allow, max_stream_age: 1m}
",
    );
    let [silent, loud] = table.routes() else { panic!("two routes") };
    let shown = |route: &portcullis::rules::Route| {
        format!(
            "{:?} {:?} {} {:?} {:?} {:?} {:?} {:?} {} {:?} {:?} {}",
            route.upstream.as_deref(),
            route.mode,
            route.conceal,
            route.on_stale,
            route.serve_until,
            route.max_staleness,
            route.revocations,
            route.encoded_slash,
            route.body_limit,
            route.impersonation,
            route.max_stream_age,
            route.consults_facts()
        )
    };
    assert_eq!(shown(silent), "Some(\"app\") Shadow true Serve 7200s 60s Require Allow 1024 Deny Some(3600s) true");
    assert_eq!(shown(loud), "Some(\"other\") Enforce false Deny 7200s 120s Ignore Reject 2048 Allow Some(60s) false");
    assert_eq!(
        silent.methods.as_deref().unwrap().iter().map(AsRef::as_ref).collect::<Vec<_>>(),
        ["GET", "HEAD", "PURGE"]
    );
    assert_eq!(table.route("loud").map(|route| route.index), Some(1));
}

#[test]
fn nothing_said_is_the_careful_choice() {
    let table = table("routes:\n- {id: r, upstream: app, match: {path: /a}, authenticated: true}\n");
    let route = &table.routes()[0];
    assert_eq!((route.mode, route.conceal, route.impersonation), (Mode::Enforce, false, Impersonation::Safe));
    assert_eq!((route.serve_until.as_secs(), route.max_staleness.as_secs(), route.body_limit), (3600, 300, 65536));
    assert!(matches!(route.access, Access::Authenticated) && route.tokens.is_none() && route.methods.is_none());
}

#[test]
fn requirements_are_shown_as_they_are_written() {
    let table = table(
        "
defaults: {upstream: app}
routes:
- {id: a, match: {path: '/a/{x}'}, require: 'p:q', resource: {type: project, id: 'p-{path.x}'}}
- {id: b, match: {path: /b}, require: {any: ['p:q', {permission: 'r:s', resource: {resource_id: '{query.r}'}}]}}
- {id: c, match: {path: /c}, require: {permission: 'p:q'}}
- {id: d, match: {path: /d}, public: true}
- {id: e, match: {path: /e}, require: {all: ['p:q', 'r:s']}}
",
    );
    let shown: Vec<String> = table.routes().iter().map(|route| route.access.to_string()).collect();
    assert_eq!(
        shown,
        ["p:q on project:p-{path.x}", "any of p:q, r:s on {query.r}", "p:q", "public", "all of p:q, r:s"]
    );
}

#[test]
fn the_schema_describes_every_key_and_refuses_others() {
    for schema in [
        schemars::schema_for!(portcullis::rules::RouteSpec),
        schemars::schema_for!(portcullis::rules::DefaultsSpec),
        schemars::schema_for!(portcullis::rules::PathReading),
    ] {
        let schema = serde_json::to_value(schema).unwrap();
        assert_eq!(schema["additionalProperties"], false);
        for (key, property) in schema["properties"].as_object().unwrap() {
            let described = property.get("description").or_else(|| property["allOf"].get(0)).is_some();
            assert!(described, "{key}: {property}");
        }
    }
    let schema = serde_json::to_value(schemars::schema_for!(portcullis::rules::RouteSpec)).unwrap();
    assert_eq!(schema["required"], serde_json::json!(["id", "match"]));
    assert_eq!(schema["properties"]["mode"]["anyOf"][0]["$ref"], "#/$defs/Mode");
}
