//! Who is asking: one credential, verified by the keys of its issuer, and what a route may further ask of it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis::token::{Algorithm, Issuer};
use serde_json::{Value, json};
use support::tokens::{ISSUER, TokenCase, issuer, key_set_of};
use support::{System, alice, token};

const ROUTES: &str = r#"
- {id: open, match: {path: /open}, public: true}
- {id: me, match: {path: /me}, authenticated: true}
- {id: billing, match: {path: /billing}, require: "billing:view"}
- {id: staff, match: {path: /staff}, authenticated: true, require_claims: {department: [it, security], level: 3}}
- {id: never-impersonated, match: {path: /never}, authenticated: true, impersonation: deny}
- {id: always-impersonated, match: {path: /always}, authenticated: true, impersonation: allow}
"#;

fn system() -> System {
    System::with(ROUTES).start()
}

fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// The claims that `case` would have, as JSON text.
fn payload(case: &TokenCase) -> String {
    let token = case.sign();
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    String::from_utf8(payload).unwrap()
}

#[test]
fn tokens_of_every_configured_algorithm_pass() {
    let system = system();
    for algorithm in [Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA] {
        let token = alice().signed_with(algorithm).sign();
        let received = system.get("/me").with(&token).passes();
        assert_eq!(received.value("x-portcullis-user").as_deref(), Some("user_alice"), "{algorithm:?}");
        for scheme in ["bearer", "BEARER"] {
            system.get("/me").field("authorization", &format!("{scheme}  {token} ")).passes();
        }
    }
}

#[test]
fn d1_d2_d3_d5_a_token_does_not_choose_how_it_is_verified() {
    let system = system();
    let claims = payload(&alice());
    let es = issuer(Algorithm::ES256);
    let (kid, rsa_kid) = (es.key_id(), issuer(Algorithm::RS256).key_id());
    let good = alice().sign();
    system.get("/me").with(&good).passes();
    let signature = good.rsplit('.').next().unwrap();
    let rsa = alice().signed_with(Algorithm::RS256).sign();
    let rsa_signature = rsa.rsplit('.').next().unwrap();
    let with =
        |header: Value, signature: &str| format!("{}.{}.{signature}", encode(header.to_string()), encode(&claims));
    let hmac = |key: &[u8], algorithm: &str| {
        let signed =
            format!("{}.{}", encode(json!({"alg": algorithm, "typ": "JWT", "kid": kid}).to_string()), encode(&claims));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
        format!("{signed}.{}", encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes())))
    };
    let jwk = es.jwks().unwrap();
    let rows = [
        (hmac(jwk.as_bytes(), "HS256"), "algorithm", "D1 the key set as HMAC secret"),
        (hmac(b"", "HS256"), "algorithm", "D1 an empty secret"),
        (hmac(b"x", "HS384"), "algorithm", "D1 another HMAC"),
        (with(json!({"alg": "none", "kid": kid}), ""), "algorithm", "D2 none"),
        (with(json!({"alg": "None", "kid": kid}), ""), "algorithm", "D2 None"),
        (with(json!({"alg": "nOnE"}), signature), "algorithm", "D2 nOnE"),
        (with(json!({"alg": "", "kid": kid}), ""), "algorithm", "D2 nothing"),
        (with(json!({"alg": "ES256", "kid": kid}), ""), "signature", "D2 an empty signature"),
        (with(json!({"kid": kid}), signature), "malformed", "D2 no algorithm"),
        (with(json!({"alg": "RS256", "kid": kid}), signature), "algorithm", "D3 the key is for another algorithm"),
        (with(json!({"alg": "ES256", "kid": rsa_kid}), signature), "algorithm", "D3 another key"),
        (with(json!({"alg": "PS256", "kid": rsa_kid}), rsa_signature), "algorithm", "D3 not configured"),
        (with(json!({"alg": "ES256", "kid": "x", "jku": "http://127.0.0.1:1/"}), signature), "unknown_key", "D5 jku"),
        (with(json!({"alg": "ES256", "kid": "x", "x5u": "http://127.0.0.1:1/"}), signature), "unknown_key", "D5 x5u"),
        (
            with(
                json!({"alg": "ES256", "jwk": serde_json::from_str::<Value>(&jwk).unwrap()["keys"][0], "kid": "x"}),
                signature,
            ),
            "unknown_key",
            "D5 jwk",
        ),
        (with(json!({"alg": "ES256", "kid": kid, "crit": ["exp"]}), signature), "malformed", "D5 crit"),
        (with(json!({"alg": "ES256", "kid": kid, "zip": "DEF"}), signature), "malformed", "D5 zip"),
        (with(json!({"alg": "ES256", "kid": "../../etc/passwd"}), signature), "unknown_key", "a path as key id"),
        (with(json!({"alg": "ES256", "kid": kid, "typ": "logout+jwt"}), signature), "wrong_kind", "another kind"),
        ("a.b.c".to_owned(), "malformed", "no JSON"),
        ("..".to_owned(), "malformed", "nothing"),
        (good.replacen('.', "..", 1), "malformed", "four parts"),
    ];
    for (token, reason, trick) in rows {
        let answer = system.get("/me").with(&token).send().refused(401, "bad_token", trick);
        assert_eq!(answer.reason(), reason, "{trick}");
    }
}

#[test]
fn d6_the_audience_has_to_be_the_configured_one() {
    let tokens = format!(
        "- {{name: test, issuer: \"{ISSUER}\", audience: [api, web], jwks_file: jwks.json, algorithms: [ES256], leeway: 0s}}"
    );
    let system = System::with(ROUTES).tokens(&tokens).start();
    let with = |audience: Value| system.get("/me").with(&alice().claim("aud", audience).sign());
    with(json!("api")).passes();
    with(json!(["x", "web"])).passes();
    for (audience, reason) in [
        (json!("other"), "audience"),
        (json!([]), "audience"),
        (json!(["api2"]), "audience"),
        (Value::Null, "audience"),
        (json!(""), "audience"),
        (json!("api web"), "audience"),
        (json!(["api", 7]), "malformed"),
        (json!({"api": true}), "malformed"),
    ] {
        with(audience).is_a_bad_token(reason);
    }
}

#[test]
fn d7_unknown_key_ids_cause_no_load_of_keys_each() {
    let system = system();
    let claims = payload(&alice());
    let loads = |system: &System| {
        let page = String::from_utf8(system.status_page("/metrics").body).unwrap();
        let counted = page.lines().filter(|line| line.starts_with("portcullis_jwks_refresh_total"));
        counted.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>()
    };
    let before = loads(&system);
    let unknown = |thread: usize, id: usize| {
        let header = json!({"alg": "ES256", "kid": format!("k{thread}-{id}")}).to_string();
        system.get("/me").with(&format!("{}.{}.x", encode(header), encode(&claims))).bytes()
    };
    let begun = Instant::now();
    let (good, mut slowest, mut passed) = (alice().sign(), Duration::ZERO, 0);
    std::thread::scope(|scope| {
        let flood: Vec<_> = (0..4)
            .map(|thread| {
                let (system, unknown) = (&system, &unknown);
                scope.spawn(move || {
                    for part in 0..25 {
                        let mut connection = system.connect();
                        for id in 0..100 {
                            connection.send(unknown(thread, part * 100 + id));
                            assert_eq!(connection.answer().unwrap().reason(), "unknown_key");
                        }
                    }
                })
            })
            .collect();
        // Who has a good token does not notice.
        while passed < 50 || flood.iter().any(|flood| !flood.is_finished()) {
            let asked = Instant::now();
            system.get("/me").with(&good).passes();
            slowest = slowest.max(asked.elapsed());
            passed += 1;
        }
    });
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    // A file is looked at every five seconds anyway.
    let most = before + 2.0 + begun.elapsed().as_secs_f64() / 5.0;
    assert!(loads(&system) <= most, "{before} -> {}, at most {most}", loads(&system));
}

#[test]
fn d8_a_known_signature_proves_nothing_about_other_bytes_with_a_warm_cache() {
    let system = system();
    for algorithm in [Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA] {
        let good = alice().signed_with(algorithm).sign();
        for _ in 0..3 {
            system.get("/billing").with(&good).is_refused(403, "not_granted");
        }
        let parts: Vec<&str> = good.split('.').collect();
        let more = encode(payload(&alice().permissions(["billing:view"])));
        let admin = alice().permissions(["billing:view"]).signed_with(algorithm).sign();
        let other_signature = admin.rsplit('.').next().unwrap();
        let rows = [
            (format!("{}.{more}.{}", parts[0], parts[2]), "signature"),
            (format!("{}.{}.{other_signature}", parts[0], parts[1]), "signature"),
            (format!("{good}="), "malformed"),
            (format!("{good}.{}", parts[2]), "malformed"),
        ];
        for (token, reason) in rows {
            system.get("/billing").with(&token).is_a_bad_token(reason);
        }
        system.get("/billing").with(&admin).passes();
    }
    assert!(system.metric(r#"portcullis_token_cache_total{result="hit"}"#) >= 6.0, "the cache was warm");
}

#[test]
fn d10_e2_a_new_token_counts_at_once_and_a_warm_cache_knows_nothing_of_routes() {
    let system = system();
    let before = alice().permissions(["billing:view"]);
    system.get("/billing").with(&before.sign()).passes();
    system.get("/billing").with(&before.permissions([]).sign()).is_refused(403, "not_granted");
    let lax = alice().sign();
    system.get("/me").with(&lax).passes();
    system.get("/billing").with(&lax).is_refused(403, "not_granted");
    system.get("/staff").with(&lax).is_refused(403, "not_granted");
}

#[test]
fn a_cached_token_ends_with_its_time() {
    let system = system();
    let token = alice().sign();
    system.get("/me").with(&token).passes();
    system.clock.advance(250);
    system.get("/me").with(&token).passes();
    system.clock.advance(51);
    system.get("/me").with(&token).is_a_bad_token("expired");
}

#[test]
fn a_cached_token_ends_with_its_key() {
    let system = system();
    let token = alice().sign();
    system.get("/me").with(&token).passes();
    let new = Issuer::ephemeral(ISSUER, Algorithm::ES256).unwrap();
    system.write("jwks.json", &key_set_of([&new]));
    assert_eq!(system.admin_page("POST", "/reload", "").status, 200);
    system.until("the new key is in force", |system| {
        system.get("/me").with(&alice().sign_by(&new)).send().answer.unwrap().status == 200
    });
    system.upstream.take();
    system.get("/me").with(&token).is_a_bad_token("unknown_key");
    // A key set that cannot be used takes no key away.
    system.write("jwks.json", "<html>maintenance</html>");
    assert_eq!(system.admin_page("POST", "/reload", "").status, 200);
    let failed = r#"portcullis_jwks_refresh_total{issuer="test",result="failed"}"#;
    system.until("the load failed", |system| system.metric(failed) > 0.0);
    system.get("/me").with(&alice().sign_by(&new)).passes();
}

#[test]
fn one_credential_in_one_place() {
    let tokens = format!(
        "- {{name: test, issuer: \"{ISSUER}\", audience: none, required_claims: [sid], jwks_file: jwks.json, algorithms: [ES256], \
         from: [\"header:authorization\", \"cookie:session\", \"header:x-session-token\"]}}"
    );
    let system = System::with(ROUTES).tokens(&tokens).start();
    let alice = alice().sign();
    let me = || system.get("/me");
    me().field("cookie", &format!("a=b; session={alice}; c")).passes();
    me().field("x-session-token", &alice).passes();
    me().field("cookie", "session=").with(&alice).passes();
    me().field("cookie", "sessions=x; xsession=y; Session=z").with(&alice).passes();
    let rows = [
        (me().with(&alice).with(&alice), "the same header twice"),
        (me().with(&alice).field("Authorization", "Basic eDp5"), "two schemes"),
        (me().with(&alice).field("cookie", &format!("session={alice}")), "a header and a cookie"),
        (me().with(&alice).field("cookie", "session=x"), "a header and a cookie that is none"),
        (me().with(&alice).field("x-session-token", &alice), "two headers"),
        (me().with(&alice).field("x_session_token", &alice), "a header and another spelling of one"),
        (me().field("X_Session-Token", &alice), "another spelling alone"),
        (me().field("cookie", &format!("session={alice}; session={alice}")), "one cookie twice"),
        (me().field("cookie", &format!("session={alice}")).field("cookie", "session=y"), "two cookie headers"),
        (me().field("x-session-token", &alice).field("x-session-token", "y"), "a header twice"),
    ];
    for (ask, trick) in rows {
        ask.send().refused(400, "ambiguous_credentials", trick);
    }
    for (ask, trick) in [
        (system.get(&format!("/me?access_token={alice}")), "in the query"),
        (me().field("authorization", &alice), "without a scheme"),
        (me().field("authorization", &format!("Token {alice}")), "another scheme"),
        (me().field("authorization", &format!("Bearer{alice}")), "no space"),
        (me().field("cookie", &format!("Session={alice}")), "another cookie"),
        (me().field("proxy-authorization", &format!("Bearer {alice}")), "for somebody else"),
    ] {
        ask.send().refused(401, "missing_token", trick);
    }
    me().field("authorization", &format!("Bearer {alice} {alice}")).is_a_bad_token("malformed");
    // Where anybody may pass, nobody has to be told apart.
    system.get("/open").with(&alice).field("cookie", "session=x").passes();
}

#[test]
fn a_cookie_proves_nothing_about_who_caused_an_unsafe_request() {
    let system = System::with(ROUTES).and("csrf: {origins: [\"https://app.example.com\"]}").start();
    let cookie = format!("session={}", alice().sign());
    let post = || system.post("/me").field("cookie", &cookie);
    let rows = [
        (post(), "nothing said"),
        (post().field("sec-fetch-site", "cross-site"), "another site"),
        (post().field("sec-fetch-site", "same-site"), "a sibling"),
        (post().field("sec-fetch-site", "Same-Origin"), "another spelling"),
        (post().field("sec-fetch-site", ""), "empty"),
        (post().field("origin", "https://evil.test"), "another origin"),
        (post().field("origin", "null"), "no origin"),
        (post().field("origin", "https://app.example.com.evil.test"), "a longer origin"),
        (post().field("origin", "http://app.example.com"), "without encryption"),
        (post().field("origin", "https://app.example.com:8443"), "another port"),
        (post().field("referer", "https://app.example.com/"), "a referer"),
        (post().field("x-requested-with", "XMLHttpRequest"), "a header"),
        (system.ask("DELETE", "/me").field("cookie", &cookie), "DELETE"),
        (
            system.get("/me").field("cookie", &cookie).field("connection", "upgrade").field("upgrade", "websocket"),
            "an upgrade",
        ),
    ];
    for (ask, trick) in rows {
        ask.send().refused(403, "cross_site", trick);
    }
    post().field("sec-fetch-site", "same-origin").field("sec-fetch-site", "cross-site").is_refused(400, "bad_request");
    post().field("sec-fetch-site", "cross-site").field("sec_fetch_site", "same-origin").is_refused(400, "bad_request");
    post().field("sec-fetch-site", "same-origin").passes();
    post().field("sec-fetch-site", "none").passes();
    post().field("origin", "https://app.example.com").passes();
    system.get("/me").field("cookie", &cookie).passes();
    system.post("/me").with(&alice().sign()).passes();
    system.post("/me").field("cookie", "session=x").is_a_bad_token("malformed");
}

/// Two issuers, each with keys of its own and organizations of its own.
struct TwoIssuers {
    system: System,
    customers: Issuer,
    partners: Issuer,
}

fn two_issuers() -> TwoIssuers {
    let routes = r#"
- {id: any, match: {path: /any}, authenticated: true}
- {id: customers-only, match: {path: /customers}, authenticated: true, tokens: [customers]}
- {id: partners-only, match: {path: /partners}, authenticated: true, tokens: [partners]}
"#;
    let tokens = r#"
- {name: customers, issuer: ["https://customers.test", "https://customers.test/"], audience: none, required_claims: [sid], organizations: [org_acme],
   jwks_file: customers.json, algorithms: [ES256], from: ["header:authorization"]}
- {name: partners, issuer: "https://partners.test", audience: partners, organizations: {prefix: org_partner_},
   jwks_file: partners.json, algorithms: [ES256], from: ["header:authorization"]}
"#;
    let customers = Issuer::ephemeral("https://customers.test", Algorithm::ES256).unwrap();
    let partners = Issuer::ephemeral("https://partners.test", Algorithm::ES256).unwrap();
    let system = System::with(routes).tokens(tokens).unready().start();
    system.write("customers.json", &customers.jwks().unwrap());
    system.write("partners.json", &partners.jwks().unwrap());
    system.until("it is ready", |system| system.status_page("/ready").status == 200);
    TwoIssuers { system, customers, partners }
}

#[test]
fn e1_issuers_do_not_speak_for_each_other() {
    let TwoIssuers { system, customers, partners } = two_issuers();
    let customer = alice().sign_by(&customers);
    let of_partner = token().user("user_pat").organization("org_partner_1").claim("aud", "partners");
    let partner = of_partner.sign_by(&partners);
    for (target, token) in [("/any", &customer), ("/customers", &customer), ("/any", &partner), ("/partners", &partner)]
    {
        system.get(target).with(token).passes();
    }
    system.get("/partners").with(&customer).is_refused(403, "not_granted");
    system.get("/customers").with(&partner).is_refused(403, "not_granted");
    let any = |token: &str| system.get("/any").with(token);
    // The keys of one, the name of the other.
    any(&alice().claim("iss", "https://customers.test").sign_by(&partners)).is_a_bad_token("unknown_key");
    any(&of_partner.clone().claim("iss", "https://partners.test").sign_by(&customers)).is_a_bad_token("unknown_key");
    // The organizations of one, signed by the other.
    any(&of_partner.clone().organization("org_acme").sign_by(&partners)).is_a_bad_token("issuer");
    any(&alice().organization("org_partner_1").sign_by(&customers)).is_a_bad_token("issuer");
    any(&alice().organization("org_acme2").sign_by(&customers)).is_a_bad_token("issuer");
    // Names are compared as they are.
    any(&alice().claim("iss", "https://customers.test/").sign_by(&customers)).passes();
    for name in
        ["https://CUSTOMERS.test", "https://customers.test//", "http://customers.test", "https://customers.test "]
    {
        any(&alice().claim("iss", name).sign_by(&customers)).is_a_bad_token("issuer");
    }
    any(&alice().claim("iss", json!(["https://customers.test"])).sign_by(&customers)).is_a_bad_token("issuer");
}

#[test]
fn claims_that_a_route_requires_have_one_of_its_values() {
    let system = system();
    let with = |department: Value, level: Value| {
        system.get("/staff").with(&alice().claim("department", department).claim("level", level).sign())
    };
    with(json!("it"), json!(3)).passes();
    with(json!(["sales", "security"]), json!(3)).passes();
    for (department, level) in [
        (json!("sales"), json!(3)),
        (json!("IT"), json!(3)),
        (json!("it,security"), json!(3)),
        (json!({"it": true}), json!(3)),
        (Value::Null, json!(3)),
        (json!("it"), json!("3")),
        (json!("it"), json!(4)),
        (json!("it"), json!(true)),
        (json!("it"), Value::Null),
    ] {
        with(department, level).is_refused(403, "not_granted");
    }
    system.get("/staff").with(&alice().sign()).is_refused(403, "not_granted");
}

#[test]
fn who_impersonates_may_look_and_not_touch_unless_a_route_says_so() {
    let system = system();
    let acting = alice().claim("act", json!({"sub": "user_support"})).sign();
    system.get("/me").with(&acting).passes();
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        system.ask(method, "/me").with(&acting).is_refused(403, "not_granted");
        system.ask(method, "/always").with(&acting).passes();
    }
    system.get("/never").with(&acting).is_refused(403, "not_granted");
    system.get("/never").with(&alice().sign()).passes();
}

#[test]
fn h12_no_token_is_logged() {
    let system = system();
    let canary = "canary-4711";
    let token = alice().claim("secret", canary).sign();
    system.get(&format!("/me?token={canary}")).with(&token).field("x", canary).passes();
    system.get(&format!("/billing?token={canary}")).with(&token).is_refused(403, "not_granted");
    system.get("/me").with(&format!("{token}{canary}")).is_refused(401, "bad_token");
    system.get("/me").field("cookie", &format!("session={canary}")).is_a_bad_token("malformed");
    system.until("all is logged", |system| system.logged().lines().count() >= 4);
    let logged = system.logged();
    for part in token.split('.') {
        assert!(!logged.contains(part), "{logged}");
    }
    assert!(!logged.contains(canary), "{logged}");
    let metrics = String::from_utf8(system.status_page("/metrics").body).unwrap();
    assert!(!metrics.contains(canary));
}
