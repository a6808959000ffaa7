//! What a rule asks for, with the values of one request in it; and which values are refused.

#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use portcullis::domain::{DenyReason, Grants, OrganizationId, Principal, Requirement, Scope, UnixSeconds, UserId};
use portcullis::rules::{BodyValues, Context, RouteTable, Sources, compile};
use portcullis::yaml::parse;
use serde_json::{Map, Value, json};

fn table(routes: &str) -> RouteTable {
    let node = parse("routes.yaml", routes, None).unwrap();
    let context = Context {
        upstreams: &[],
        issuers: &["authkit".to_owned()],
        facts: true,
        max_staleness: Duration::from_secs(300),
        methods: &[],
        own_headers: &[],
    };
    compile(node.items(), None, &context).unwrap_or_else(|problems| panic!("{problems}"))
}

/// One request, built up field by field.
#[derive(Clone)]
struct Request {
    method: &'static str,
    path: &'static str,
    query: Option<&'static str>,
    headers: Vec<(&'static str, &'static str)>,
    claims: Value,
    body: Option<&'static str>,
}

fn request(method: &'static str, path: &'static str) -> Request {
    Request { method, path, query: None, headers: Vec::new(), claims: json!({}), body: None }
}

impl Request {
    fn query(self, query: &'static str) -> Self {
        Self { query: Some(query), ..self }
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn claims(self, claims: Value) -> Self {
        Self { claims, ..self }
    }

    fn body(self, body: &'static str) -> Self {
        Self { body: Some(body), ..self }
    }

    /// What `table` asks for, as text: before the body is read, or all.
    fn asked(&self, table: &RouteTable, before_body: bool) -> Result<String, (DenyReason, String)> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let path = table.path(self.path.as_bytes()).unwrap();
        let method = Method::from_bytes(self.method.as_bytes()).unwrap();
        let found = table.find(&method, "h", &path, &headers).unwrap().expect("a rule covers the request");
        let refused =
            |denial: portcullis::domain::Denial| (denial.reason, denial.detail.unwrap_or_default().to_string());
        let body: Option<BodyValues> =
            self.body.map(|body| found.read_body(body.as_bytes())).transpose().map_err(refused)?;
        let claims: &Map<String, Value> = self.claims.as_object().unwrap();
        let sources = Sources { query: self.query, headers: &headers, claims: Some(claims), body: body.as_ref() };
        let requirement =
            if before_body { found.requirement_before_body(&sources) } else { found.requirement(&sources) };
        requirement.map(|requirement| shown(&requirement)).map_err(refused)
    }

    fn all(&self, table: &RouteTable) -> Result<String, (DenyReason, String)> {
        self.asked(table, false)
    }

    fn bad_value(&self, table: &RouteTable) -> String {
        let (reason, detail) = self.all(table).unwrap_err();
        assert_eq!(reason, DenyReason::BadValue, "{detail}");
        detail
    }
}

fn shown(requirement: &Requirement<'_>) -> String {
    let kind = match requirement.scope {
        Scope::Public => "public",
        Scope::Preflight => "preflight",
        Scope::Authenticated => "authenticated",
        Scope::All(_) => "all",
        Scope::Any(_) => "any",
    };
    let organization = requirement.organization.iter().map(|text| format!("in {text}"));
    let asks = requirement.asks().iter().map(|ask| {
        let resource = ask.resource.as_ref().map(|resource| format!("@{resource}")).unwrap_or_default();
        let grants = if ask.grants == Grants::Token { "" } else { "!" };
        format!("{}{resource}{grants}", ask.permission)
    });
    std::iter::once(kind.to_owned()).chain(organization).chain(asks).collect::<Vec<_>>().join(" ")
}

#[test]
fn path_values_are_decoded_once_and_compared_as_they_are() {
    let table = table(
        "
- {id: one, match: {path: '/p/{p}'}, require: 'a:b', resource: {type: project, id: '{path.p}'}}
- {id: id, match: {path: '/r/{r}'}, require: 'a:b', resource: {resource_id: '{path.r}'}, grants: live}
- {id: rest, match: {path: '/f/{rest...}'}, require: 'a:b', resource: {type: file, id: '{path.rest}'}}
- {id: text, match: {path: '/t/{x}/{y}'}, require: 'a:b', resource: {type: t, id: 'x={path.x},y={path.y}'}, organization: org_1}
",
    );
    for (path, asked) in [
        ("/p/42", "all a:b@project:42"),
        ("/p/A%20b%3a%c3%a9", "all a:b@project:A b:é"),
        ("/p/100%25", "all a:b@project:100%"),
        ("/r/authz_resource_1", "all a:b@authz_resource_1!"),
        ("/f/a", "all a:b@file:a"),
        ("/f/a/b%20c/", "all a:b@file:a/b c/"),
        ("/t/1/2", "all in org_1 a:b@t:x=1,y=2"),
    ] {
        assert_eq!(request("GET", path).all(&table).as_deref(), Ok(asked), "{path}");
    }
}

#[test]
fn an_encoded_slash_in_the_rest_is_no_value() {
    let table = table(
        "
- {id: one, match: {path: '/o/{key}'}, require: 'a:b', resource: {type: o, id: '{path.key}'}, encoded_slash: allow}
- {id: rest, match: {path: '/f/{rest...}'}, require: 'a:b', resource: {type: f, id: '{path.rest}'}, encoded_slash: allow}
",
    );
    assert_eq!(request("GET", "/o/a%2fb").all(&table).as_deref(), Ok("all a:b@o:a/b"));
    assert_eq!(request("GET", "/f/a/b").all(&table).as_deref(), Ok("all a:b@f:a/b"));
    assert_eq!(request("GET", "/f/a%2fb").bad_value(&table), "path.rest: has an encoded slash");
}

#[test]
fn query_values_are_single_and_unambiguous() {
    let table = table("- {id: q, match: {path: /q}, require: 'a:b', resource: {type: p, id: '{query.project}'}}");
    for query in ["project=a+b", "x=1&PROJECT=a%20b", "pro%6Aect=a+b&projects=2"] {
        assert_eq!(request("GET", "/q").query(query).all(&table).as_deref(), Ok("all a:b@p:a b"), "{query}");
    }
    assert_eq!(request("GET", "/q").bad_value(&table), "query.project: missing");
    let repeated = "query.project: repeated, or given under a name that can be taken for it";
    for (query, detail) in [
        ("", "query.project: missing"),
        ("project=", "query.project: empty"),
        ("project", "query.project: empty"),
        ("project=1&project=1", repeated),
        ("project=1&Project=2", repeated),
        ("project[]=1", repeated),
        ("project=1&project%5B%5D=2", repeated),
        ("project=1&%70roject=2", repeated),
        ("project=1;project=2", "query.project: query has a `;`, which some readers take for a separator"),
        ("project=%ff", "query.project: query does not decode"),
        ("project=%", "query.project: query does not decode"),
    ] {
        assert_eq!(request("GET", "/q").query(query).bad_value(&table), detail, "{query}");
    }
}

#[test]
fn header_values_are_single_under_any_spelling() {
    let table = table("- {id: h, match: {path: /h}, require: 'a:b', resource: {type: p, id: '{header.X_Team-Id}'}}");
    for name in ["x-team-id", "X-Team-Id", "x_team_id"] {
        assert_eq!(request("GET", "/h").header(name, "t1").all(&table).as_deref(), Ok("all a:b@p:t1"), "{name}");
    }
    let bad = |request: Request| request.bad_value(&table);
    assert_eq!(bad(request("GET", "/h")), "header.X_Team-Id: missing");
    assert_eq!(bad(request("GET", "/h").header("x-team-id", "")), "header.X_Team-Id: empty");
    assert_eq!(bad(request("GET", "/h").header("x-team-id", "é")), "header.X_Team-Id: not visible ASCII");
    for second in ["x-team-id", "x_team_id", "x_team-id"] {
        let twice = request("GET", "/h").header("x-team-id", "t1").header(second, "t1");
        assert_eq!(bad(twice), "header.X_Team-Id: header `x-team-id` is repeated");
    }
}

#[test]
fn claim_values_are_strings_or_integers_of_the_verified_token() {
    let table = table(
        "
- {id: c, match: {path: /c}, require: 'a:b', resource: {type: p, id: '{claim.https://x/team}'}}
- {id: r, match: {path: /r}, authenticated: true, organization: 'o-{claim.tenant}', require_claims: {amr: [mfa], beta: true}}
",
    );
    assert_eq!(table.claim_names().collect::<Vec<_>>(), ["amr", "beta", "https://x/team", "tenant"]);
    let with = |value: Value| request("GET", "/c").claims(json!({"https://x/team": value}));
    assert_eq!(with(json!("t")).all(&table).as_deref(), Ok("all a:b@p:t"));
    assert_eq!(with(json!(-7)).all(&table).as_deref(), Ok("all a:b@p:-7"));
    for bad in [json!(true), json!(1.5), json!(1.0), json!(null), json!(["t"]), json!({"t": 1})] {
        assert_eq!(with(bad).bad_value(&table), "claim.https://x/team: neither a string nor an integer");
    }
    assert_eq!(with(json!("")).bad_value(&table), "claim.https://x/team: empty");
    assert_eq!(request("GET", "/c").bad_value(&table), "claim.https://x/team: missing");
    let tenant = request("GET", "/r").claims(json!({"tenant": "x"}));
    assert_eq!(tenant.all(&table).as_deref(), Ok("authenticated in o-x"));
}

const MOVE: &str = "
- id: move
  match: {methods: [POST], path: '/apps/{app}/move'}
  require:
    all:
      - {permission: app:edit, resource: {type: app, id: '{path.app}'}}
      - {permission: app:create, resource: {type: project, id: '{body:/target/project}'}}
- id: either
  match: {methods: [PUT], path: '/apps/{app}/move'}
  require:
    any:
      - {permission: app:edit, resource: {type: app, id: '{path.app}'}}
      - {permission: app:create, resource: {type: project, id: '{body:/target/project}'}}
- {id: only, match: {path: /only}, require: 'a:b', resource: {resource_id: '{body:/id}'}, organization: 'o{body:/org}'}
- {id: mixed, match: {path: /mixed}, require: {all: ['a:b', 'c:d']}, resource: {resource_id: '{query.q}-{body:/id}'}}
";

#[test]
fn what_needs_no_body_is_asked_before_the_body_is_read() {
    let table = table(MOVE);
    let needed: Vec<bool> = table.routes().iter().map(portcullis::rules::Route::needs_body).collect();
    assert_eq!(needed, [true, true, true, true]);
    let before = |method, path| request(method, path).query("q=1").asked(&table, true);
    assert_eq!(before("POST", "/apps/7/move").as_deref(), Ok("all app:edit@app:7"));
    assert_eq!(before("PUT", "/apps/7/move").as_deref(), Ok("authenticated"));
    assert_eq!(before("GET", "/only").as_deref(), Ok("authenticated"));
    let body = r#"{"target": {"project": "p1"}}"#;
    let both = "app:edit@app:7 app:create@project:p1";
    assert_eq!(request("POST", "/apps/7/move").body(body).all(&table), Ok(format!("all {both}")));
    assert_eq!(request("PUT", "/apps/7/move").body(body).all(&table), Ok(format!("any {both}")));
    let only = request("GET", "/only").body(r#"{"id": 12, "org": "x"}"#);
    assert_eq!(only.all(&table).as_deref(), Ok("all in ox a:b@12"));
    let mixed = request("GET", "/mixed").query("q=1").body(r#"{"id": "z"}"#);
    assert_eq!(mixed.all(&table).as_deref(), Ok("all a:b@1-z c:d@1-z"));
}

#[test]
fn a_body_that_was_not_read_or_lacks_the_value_never_passes() {
    let table = table(MOVE);
    assert_eq!(request("POST", "/apps/7/move").bad_value(&table), "body:/target/project: the body was not read");
    for (body, detail) in [
        ("{}", "body:/target/project: missing"),
        (r#"{"target": {"project": ""}}"#, "body:/target/project: empty"),
        (r#"{"target": {"project": ["p1"]}}"#, "body:/target/project: neither a string nor an integer"),
        (r#"{"target": {"project": 1.0}}"#, "body:/target/project: neither a string nor an integer"),
        (r#"{"target": "p1"}"#, "body:/target/project: missing"),
    ] {
        assert_eq!(request("POST", "/apps/7/move").body(body).bad_value(&table), detail, "{body}");
    }
    for (body, problem) in [
        (r#"{"target": {"project": "p1", "project": "p2"}}"#, "an object has a key twice"),
        (r#"{"target": {"project": "p1"}, "Target": {}}"#, "a key differs only in case from one that is read"),
        (r#"{"target": {"project": "p1", "PROJECT": "p2"}}"#, "a key differs only in case from one that is read"),
        (r#"{"target": {"project": "p1"}} x"#, "it is malformed"),
        (r#"{"target": {"project": "p1"}"#, "it ends too early"),
    ] {
        let detail = request("POST", "/apps/7/move").body(body).bad_value(&table);
        assert!(
            detail.starts_with("body is not strict JSON at line 1, column ") && detail.ends_with(problem),
            "{detail}"
        );
    }
}

#[test]
fn a_body_beyond_the_limit_is_not_read_at_all() {
    let table =
        table("- {id: b, match: {path: /b}, require: 'a:b', resource: {resource_id: '{body:/id}'}, body_limit: 16}");
    assert_eq!(request("GET", "/b").body(r#"{"id": "1234567"}"#).all(&table).unwrap_err().0, DenyReason::BodyTooLarge);
    assert_eq!(request("GET", "/b").body(r#"{"id": "123456"}"#).all(&table).as_deref(), Ok("all a:b@123456"));
}

#[test]
fn a_route_takes_only_the_tokens_it_accepts() {
    let table = table(
        "
- {id: tokens, match: {path: /t}, authenticated: true, tokens: [authkit]}
- {id: claims, match: {path: /c}, authenticated: true, require_claims: {amr: [mfa, hwk], level: 2, beta: true}}
- {id: careful, match: {path: /i}, authenticated: true}
- {id: never, match: {path: /n}, authenticated: true, impersonation: deny}
- {id: always, match: {path: /a}, authenticated: true, impersonation: allow}
",
    );
    let principal = |issuer: &str, impersonated: bool, claims: Value| Principal {
        issuer: issuer.into(),
        user: UserId::new("user_1").unwrap(),
        session: None,
        organization: Some(OrganizationId::new("org_1").unwrap()),
        membership: None,
        role: None,
        roles: [].into(),
        permissions: [].into(),
        issued_at: None,
        expires_at: UnixSeconds(0),
        impersonated,
        claims: claims.as_object().unwrap().clone(),
    };
    let accepts = |route: &str, principal: &Principal, method: &Method| match table
        .route(route)
        .unwrap()
        .accepts(principal, method, false)
    {
        Ok(()) => true,
        Err(denial) => {
            assert_eq!(denial.reason, DenyReason::NotAccepted);
            false
        }
    };
    let plain = |issuer| principal(issuer, false, json!({}));
    assert!(accepts("tokens", &plain("authkit"), &Method::GET) && !accepts("tokens", &plain("partner"), &Method::GET));
    for (claims, accepted) in [
        (json!({"amr": "mfa", "level": 2, "beta": true}), true),
        (json!({"amr": ["pwd", "hwk"], "level": 2, "beta": true}), true),
        (json!({"amr": ["pwd"], "level": 2, "beta": true}), false),
        (json!({"amr": "mfa2", "level": 2, "beta": true}), false),
        (json!({"amr": "mfa", "level": "2", "beta": true}), false),
        (json!({"amr": "mfa", "level": 2, "beta": "true"}), false),
        (json!({"amr": "mfa", "level": 2}), false),
        (json!({}), false),
    ] {
        assert_eq!(accepts("claims", &principal("authkit", false, claims.clone()), &Method::GET), accepted, "{claims}");
    }
    let actor = principal("authkit", true, json!({}));
    for (route, safe, unsafe_) in [("careful", true, false), ("never", false, false), ("always", true, true)] {
        assert_eq!(
            (accepts(route, &actor, &Method::GET), accepts(route, &actor, &Method::POST)),
            (safe, unsafe_),
            "{route}"
        );
        assert!(accepts(route, &plain("authkit"), &Method::POST));
    }
}
