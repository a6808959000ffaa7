//! What operators ask a running sidecar: whether it lives, whether it is ready, what it counts, why it decides as it does.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::io::Write;

use serde_json::{Value, json};
use support::client::Answer;
use support::tokens::key_set;
use support::{Ask, COMPANY, System, alice, ask_page, token};

const ROUTES: &str = r#"
- {id: open, match: {path: /open}, public: true}
- {id: me, match: {path: /me}, authenticated: true}
- {id: billing, match: {path: /billing}, require: "billing:view"}
- {id: live, match: {path: /live}, require: "billing:view", grants: live}
- {id: settings, match: {path: "/orgs/{org}/settings"}, require: "org:manage", organization: "{path.org}"}
- {id: project, match: {methods: [GET], path: "/projects/{project}"}, require: "project:view", resource: {type: project, id: "{path.project}"}}
- {id: edit, match: {methods: [PATCH], path: "/projects/{project}"}, require: "project:edit", resource: {type: project, id: "{path.project}"}}
- {id: by-query, match: {methods: [GET], path: /project}, require: "project:view", resource: {type: project, id: "{query.id}"}}
- {id: by-host, match: {path: /hosted, hosts: [a.example.com]}, authenticated: true}
- {id: staff, match: {path: /staff}, authenticated: true, require_claims: {staff: true}}
- {id: trial, match: {path: "/trial/{project}"}, require: "project:edit", resource: {type: project, id: "{path.project}"}, mode: shadow}
- id: move-app
  match: {methods: [POST], path: "/apps/{app}/move"}
  require:
    all:
      - {permission: "app:edit", resource: {type: app, id: "{path.app}"}}
      - {permission: "app:create", resource: {type: project, id: "{body:/project}"}}
"#;

fn system() -> System {
    System::with(ROUTES).start()
}

fn of_acme(name: &str) -> String {
    token().user(&format!("user_{name}")).membership(&format!("om_{name}")).organization("org_acme").sign()
}

#[test]
fn ready_names_what_is_missing_until_nothing_is() {
    let system = System::with(ROUTES).key_set(None).company("not: facts").unready().start();
    system.until("it lives", |system| system.status_page("/live").status == 200);
    let answer = system.status_page("/ready");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["ready"], false);
    let waiting = |answer: &Answer| -> BTreeSet<String> {
        let reasons = answer.json()["reasons"].as_array().unwrap().clone();
        reasons.iter().map(|reason| reason["waiting_for"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(waiting(&answer), BTreeSet::from(["facts".to_owned(), "keys".to_owned()]));
    assert!(answer.json()["reasons"].to_string().contains("\"issuer\":\"test\""));
    system.write("jwks.json", &key_set());
    system.until("the keys are there", |system| !waiting(&system.status_page("/ready")).contains("keys"));
    let answer = system.status_page("/ready");
    assert_eq!((answer.status, waiting(&answer)), (503, BTreeSet::from(["facts".to_owned()])));
    system.write("facts.yaml", COMPANY);
    system.until("it is ready", |system| system.status_page("/ready").status == 200);
    assert_eq!(system.status_page("/ready").json(), json!({"ready": true, "reasons": []}));
    // What goes wrong later is a metric and a 503 for each request that needs it.
    std::fs::remove_file(system.folder().join("facts.yaml")).unwrap();
    std::fs::remove_file(system.folder().join("jwks.json")).unwrap();
    let failed = r#"portcullis_facts_updates_total{kind="complete",result="failed"}"#;
    system.until("facts cannot be had", |system| system.metric(failed) > 0.0);
    system.clock.advance(3600);
    assert_eq!(system.status_page("/ready").status, 200);
}

#[test]
fn ready_asks_for_no_facts_where_none_are_configured() {
    let routes = "- {id: me, match: {path: /me}, authenticated: true}";
    let system = System::with(routes).facts("{source: none}").start();
    assert_eq!(system.status_page("/ready").status, 200);
}

#[test]
fn the_metrics_are_those_of_the_contract() {
    let system = system();
    system.get("/open").passes();
    system.get("/me").with(&alice().sign()).passes();
    system.get("/me").is_refused(401, "missing_token");
    system.get("/trial/99").with(&alice().sign()).passes();
    assert_eq!(system.admin_page("POST", "/reload", "").status, 200);
    let page = system.status_page("/metrics");
    assert_eq!(page.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = String::from_utf8(page.body).unwrap();
    for name in [
        "portcullis_requests_total{outcome=\"allow\",reason=\"public\",route=\"open\"} 1",
        "portcullis_requests_total{outcome=\"allow\",reason=\"authenticated\",route=\"me\"} 1",
        "portcullis_requests_total{outcome=\"deny\",reason=\"missing_token\",route=\"me\"} 1",
        "portcullis_requests_total{outcome=\"shadow\",reason=\"not_granted\",route=\"trial\"} 1",
        "portcullis_decision_duration_seconds_count 4",
        "portcullis_request_duration_seconds_count{upstream=\"app\"}",
        "portcullis_upstream_duration_seconds_count{upstream=\"app\"}",
        "portcullis_token_cache_total{result=\"hit\"}",
        "portcullis_token_cache_total{result=\"miss\"}",
        "portcullis_jwks_refresh_total{issuer=\"test\",result=\"changed\"}",
        "portcullis_facts_age_seconds ",
        "portcullis_facts_revision ",
        "portcullis_facts_updates_total{kind=\"complete\",result=\"applied\"} 1",
        "portcullis_organizations_resident 2",
        "portcullis_facts_bytes ",
        "portcullis_shadow_denied_total{reason=\"not_granted\",route=\"trial\"} 1",
        "portcullis_config_reloads_total{result=\"ok\"} 1",
        "portcullis_build_info{revision=",
        "portcullis_panics_total 0",
        "process_cpu_seconds_total",
    ] {
        assert!(text.contains(name), "{name} is not in\n{text}");
    }
}

/// Those that a request may bring about: facts and keys are looked at again beside the requests, on a slow machine meanwhile.
fn series(system: &System) -> BTreeSet<String> {
    let text = String::from_utf8(system.status_page("/metrics").body).unwrap();
    let beside = ["portcullis_facts_updates_total{", "portcullis_jwks_refresh_total{issuer=\"test\",", "#"];
    let lines = text.lines().filter(|line| !beside.iter().any(|begin| line.starts_with(begin)));
    lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

#[test]
fn no_request_adds_a_series_of_its_own() {
    let system = system();
    let some = |round: u32| {
        for n in 0..20 {
            let odd = round * 1000 + n;
            system.get(&format!("/nothing/{odd}")).host(&format!("h{odd}.test")).send();
            system.get(&format!("/projects/{odd}")).with(&alice().sign()).send();
            system
                .get(&format!("/projects/{odd}?q={odd}"))
                .with(&alice().organization(&format!("org_{odd}")).sign())
                .send();
            system.get("/me").with(&alice().claim("iss", format!("https://{odd}.test")).sign()).send();
            system.get("/me").with(&alice().user(&format!("user_{odd}")).sign()).send();
            system.ask(&format!("M{odd}"), "/me").send();
        }
        system.upstream.take();
    };
    some(0);
    let before = series(&system);
    some(1);
    assert_eq!(series(&system), before);
}

#[test]
fn routes_and_world_say_what_is_in_force() {
    let system = system();
    let routes = system.admin_page("GET", "/routes", "").json();
    let ids: Vec<&str> = routes.as_array().unwrap().iter().map(|route| route["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), ROUTES.matches("id: ").count() - ROUTES.matches(" id: \"").count());
    assert!(ids.contains(&"project") && ids.contains(&"move-app"));
    let project = &routes.as_array().unwrap()[ids.iter().position(|id| *id == "project").unwrap()];
    assert!(project["place"].as_str().unwrap().contains("portcullis.yaml:"), "{project}");
    assert_eq!(project["requires"], "project:view on project:{path.project}");
    assert_eq!(project["methods"], json!(["GET", "HEAD"]));
    let world = system.admin_page("GET", "/world", "");
    assert_eq!(world.status, 200);
    assert!(world.json().to_string().contains("r1."), "{}", world.json());
}

/// Method, URL, token, further fields, body.
type Row = (&'static str, &'static str, Option<String>, Vec<(&'static str, &'static str)>, Option<&'static str>);

#[test]
fn explain_and_the_sidecar_agree() {
    let system = system();
    let alice_token = alice().sign();
    let rows: Vec<Row> = vec![
        ("GET", "/open", None, vec![], None),
        ("GET", "/me", None, vec![], None),
        ("GET", "/me", Some(alice_token.clone()), vec![], None),
        ("GET", "/me", Some("x.y.z".to_owned()), vec![], None),
        ("GET", "/me", Some(alice().expired_by(5).sign()), vec![], None),
        ("GET", "/me", Some(alice_token.clone()), vec![("authorization", "Bearer x")], None),
        ("GET", "/billing", Some(alice_token.clone()), vec![], None),
        ("GET", "/billing", Some(alice().permissions(["billing:view"]).sign()), vec![], None),
        ("GET", "/live", Some(of_acme("carol")), vec![], None),
        ("GET", "/live", Some(alice_token.clone()), vec![("x-portcullis-min-revision", "x")], None),
        ("GET", "/live", Some(of_acme("dave")), vec![], None),
        ("GET", "/orgs/org_globex/settings", Some(alice_token.clone()), vec![], None),
        ("GET", "/projects/42", Some(alice_token.clone()), vec![], None),
        ("PATCH", "/projects/99", Some(alice_token.clone()), vec![], None),
        ("GET", "/projects/nowhere", Some(alice_token.clone()), vec![], None),
        ("GET", "/projects/42", Some(token().user("user_zoe").organization("org_acme").sign()), vec![], None),
        (
            "GET",
            "/projects/42",
            Some(token().user("user_bob").membership("om_alice").organization("org_acme").sign()),
            vec![],
            None,
        ),
        ("GET", "/projects/42", Some(token().user("user_bob").sign()), vec![], None),
        ("GET", "/project", Some(alice_token.clone()), vec![], None),
        ("GET", "/project?id=42", Some(alice_token.clone()), vec![], None),
        ("GET", "/project?id=42&ID=43", Some(alice_token.clone()), vec![], None),
        ("GET", "/staff", Some(alice_token.clone()), vec![], None),
        ("GET", "/staff", Some(alice().claim("staff", true).sign()), vec![], None),
        ("GET", "/trial/99", Some(alice_token.clone()), vec![], None),
        ("GET", "/trial/42", Some(alice_token.clone()), vec![], None),
        ("GET", "/hosted", Some(alice_token.clone()), vec![], None),
        ("GET", "/nothing", Some(alice_token.clone()), vec![], None),
        ("PUT", "/projects/42", Some(alice_token.clone()), vec![], None),
        ("GET", "/open/%2e%2e/me", Some(alice_token.clone()), vec![], None),
        ("GET", "//open", None, vec![], None),
        ("POST", "/apps/gateway/move", Some(of_acme("bob")), vec![], Some(r#"{"project":"42"}"#)),
        ("POST", "/apps/gateway/move", Some(of_acme("bob")), vec![], Some(r#"{"project":"43"}"#)),
        ("POST", "/apps/gateway/move", Some(of_acme("bob")), vec![], Some(r#"{"project":"42","project":"43"}"#)),
        ("POST", "/apps/gateway/move", Some(of_acme("bob")), vec![], Some("{}")),
        ("POST", "/apps/gateway/move", Some(of_acme("carol")), vec![], Some("{}")),
        ("POST", "/apps/gateway/move", None, vec![], Some("{}")),
    ];
    for (method, url, token, fields, body) in rows {
        let mut ask: Ask<'_> = system.ask(method, url);
        if let Some(token) = &token {
            ask = ask.with(token);
        }
        for (name, value) in &fields {
            ask = ask.field(name, value);
        }
        if let Some(body) = body {
            ask = ask.json(body);
        }
        let outcome = ask.send();
        let answer = outcome.answer.unwrap();
        let decided = (!outcome.arrived.is_empty(), answer.code());

        let mut headers: Vec<(&str, &str)> = vec![("host", "app.test")];
        headers.extend(fields);
        let question = json!({"method": method, "url": url, "headers": headers, "token": token, "body": body});
        let page = system.admin_page("POST", "/explain", &question.to_string());
        let said = page.json();
        assert_eq!(page.status, 200, "{said}");
        let outcome = said["outcome"].as_str().unwrap();
        let code = if outcome == "deny" { said["code"].as_str().unwrap() } else { "" };
        assert_eq!((outcome != "deny", code.to_owned()), decided, "{method} {url}: {said}");
        if let Some(token) = &token {
            assert!(!said.to_string().contains(token.as_str()));
        }
    }
}

#[test]
fn explain_says_by_what_and_what_would_help() {
    let system = system();
    let ask = |membership: &str, method: &str, url: &str| {
        let question = json!({"method": method, "url": url, "membership": membership});
        system.admin_page("POST", "/explain", &question.to_string()).json()
    };
    let allowed = ask("om_alice", "PATCH", "/projects/42");
    assert_eq!((&allowed["outcome"], &allowed["reason"]), (&json!("allow"), &json!("granted")));
    let text = allowed["asks"].to_string();
    assert!(text.contains("group_engineering") && text.contains("workspace-admin"), "{text}");
    assert_eq!(allowed["captures"], json!([["project", "42"]]));
    let denied = ask("om_alice", "PATCH", "/projects/99");
    assert_eq!((&denied["outcome"], &denied["code"]), (&json!("deny"), &json!("not_granted")));
    assert!(denied["asks"][0]["would_allow"].is_object(), "{denied}");
    for (question, code) in [
        (json!({"method": "GET", "url": "/me", "membership": "om_nobody"}), 400),
        (json!({"method": "GET", "url": "/me", "membership": "om_alice", "token": "x"}), 400),
        (json!({"method": "G T", "url": "/me"}), 400),
        (json!({"method": "GET", "url": "me"}), 400),
        (json!({"method": "GET", "url": "/me", "nonsense": 1}), 422),
        (json!({}), 422),
        (json!([]), 422),
    ] {
        let answer = system.admin_page("POST", "/explain", &question.to_string());
        assert_eq!(answer.status, code, "{question}: {}", String::from_utf8_lossy(&answer.body));
    }
    assert!(system.upstream.take().is_empty(), "a question is no request");
    assert_eq!(system.metric("portcullis_decision_duration_seconds_count"), 0.0, "nor is it counted");
}

#[test]
fn who_lists_everybody_who_can() {
    let system = system();
    let answer = system.admin_page("POST", "/who", &json!({"method": "PATCH", "url": "/projects/42"}).to_string());
    assert_eq!(answer.status, 200);
    let found: BTreeSet<String> = answer.json()["access"]
        .as_array()
        .unwrap()
        .iter()
        .map(|access| {
            format!("{} {}", access["organization"].as_str().unwrap(), access["membership"].as_str().unwrap())
        })
        .collect();
    for expected in ["org_acme om_alice", "org_acme om_bob"] {
        assert!(found.contains(expected), "{found:?}");
    }
    assert!(!found.contains("org_acme om_dave"), "inactive: {found:?}");
    assert!(!found.contains("org_acme om_grace"), "{found:?}");
}

#[test]
fn reload_replaces_rules_or_changes_nothing() {
    let system = system();
    system.get("/new").is_refused(403, "no_route");
    let text = std::fs::read_to_string(system.config_file()).unwrap();
    system.write("portcullis.yaml", &format!("{text}- {{id: new, match: {{path: /new}}, public: true}}\n"));
    assert_eq!(system.admin_page("POST", "/reload", "").json(), json!({"reloaded": true, "needs_restart": []}));
    system.get("/new").passes();
    system.write("portcullis.yaml", &text.replace("public: true", "publik: true"));
    let answer = system.admin_page("POST", "/reload", "");
    assert_eq!((answer.status, answer.code().as_str()), (422, "bad_configuration"));
    assert!(answer.json()["detail"].as_str().unwrap().contains("portcullis.yaml:"), "{}", answer.json());
    system.get("/new").passes();
    system.get("/open").passes();
    system.get("/me").with(&alice().sign()).passes();
    assert_eq!(system.metric(r#"portcullis_config_reloads_total{result="refused"}"#), 1.0);
    system.write("portcullis.yaml", &text.replace("{path: /open}", "{path: /opened}"));
    assert_eq!(system.admin_page("POST", "/reload", "").status, 200);
    system.get("/open").is_refused(403, "no_route");
    system.get("/new").is_refused(403, "no_route");
}

#[test]
fn a_reload_names_what_takes_a_restart() {
    let system = System::with(ROUTES).and("trusted_proxies: [\"127.0.0.0/8\"]").start();
    let text = std::fs::read_to_string(system.config_file()).unwrap();
    assert_eq!(
        system.get("/open").field("x-real-ip", "192.0.2.1").passes().value("x-real-ip").as_deref(),
        Some("192.0.2.1")
    );
    let changed = text.replace("127.0.0.0/8", "10.0.0.0/8").replace("threads: 2", "threads: 3");
    let changed = changed.replace("source: file", "source: file, max_memory: 1MiB");
    system.write("portcullis.yaml", &format!("{changed}- {{id: new, match: {{path: /new}}, public: true}}\n"));
    let answer = system.admin_page("POST", "/reload", "");
    assert_eq!(answer.json(), json!({"reloaded": true, "needs_restart": ["facts", "threads"]}));
    let ready = system.status_page("/ready");
    assert_eq!(
        (ready.status, ready.json()["configuration"].clone()),
        (200, json!({"needs_restart": ["facts", "threads"]}))
    );
    // What it does not name is in force.
    system.get("/new").passes();
    assert_eq!(system.get("/open").field("x-real-ip", "192.0.2.1").passes().value("x-real-ip"), None);
    // It is compared with what the process was started with, not with what was read last.
    assert_eq!(system.admin_page("POST", "/reload", "").json(), answer.json());
    system.write("portcullis.yaml", &text);
    assert_eq!(system.admin_page("POST", "/reload", "").json(), json!({"reloaded": true, "needs_restart": []}));
}

#[test]
fn a_reload_that_takes_its_time_keeps_no_probe_waiting() {
    let system = system();
    let text = std::fs::read_to_string(system.config_file()).unwrap();
    std::fs::remove_file(system.config_file()).unwrap();
    // Whoever opens it to read waits until somebody opens it to write.
    let made = std::process::Command::new("mkfifo").arg(system.config_file()).status();
    assert!(made.unwrap().success());
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| system.admin_page("POST", "/reload", ""));
        let mut pipe = std::fs::OpenOptions::new().write(true).open(system.config_file()).unwrap();
        for page in ["/live", "/ready", "/metrics"] {
            assert_eq!(system.status_page(page).status, 200, "{page}");
        }
        assert!(!reload.is_finished());
        pipe.write_all(text.as_bytes()).unwrap();
        drop(pipe);
        assert_eq!(reload.join().unwrap().status, 200);
    });
}

/// Every page: its listener's way to ask for it, and whether it is for operators only.
const PAGES: [(&str, &str, bool); 8] = [
    ("GET", "/live", false),
    ("GET", "/ready", false),
    ("GET", "/metrics", false),
    ("GET", "/world", true),
    ("GET", "/routes", true),
    ("POST", "/explain", true),
    ("POST", "/who", true),
    ("POST", "/reload", true),
];

#[test]
fn h11_every_operators_page_refuses_other_hosts_forms_and_methods() {
    let system = system();
    let json = ("content-type", "application/json");
    for (method, path, for_operators) in PAGES {
        assert_eq!(system.get(path).send().arrived.len(), 0, "no page is on the proxy's listener: {path}");
        let elsewhere = ask_page(system.status, method, path, &[json], "{}");
        assert_eq!(elsewhere.status == 404, for_operators, "{path} on the status listener: {}", elsewhere.status);
        if !for_operators {
            assert_eq!(ask_page(system.admin, method, path, &[json], "").status, 404, "{path} on the admin listener");
            continue;
        }
        for host in [
            "attacker.example",
            "attacker.example:9900",
            "127.0.0.1.attacker.example",
            "localhost.attacker.example",
            "10.0.0.1",
        ] {
            let answer = ask_page(system.admin, method, path, &[("host", host), json], "{}");
            assert_eq!((answer.status, answer.code().as_str()), (403, "wrong_host"), "{path} {host}");
        }
        if method == "POST" {
            for kind in [
                "text/plain",
                "application/x-www-form-urlencoded",
                "multipart/form-data",
                "text/plain;application/json",
                "",
            ] {
                let answer = ask_page(system.admin, method, path, &[("content-type", kind)], "{}");
                assert_eq!((answer.status, answer.code().as_str()), (415, "unsupported_body"), "{path} {kind}");
            }
            assert_eq!(ask_page(system.admin, "GET", path, &[], "").status, 405, "{path}");
        }
        for host in ["localhost", "LOCALHOST:1", "[::1]:9900"] {
            let answer = ask_page(system.admin, method, path, &[("host", host), json], "{}");
            assert!(!matches!(answer.status, 401 | 403), "{path} {host}: {}", answer.status);
        }
    }
}

#[test]
fn h10_h11_with_a_token_every_operators_page_asks_for_it_and_nobody_repeats_it() {
    let canary = "admin-canary-4711";
    let mut system = System::with(ROUTES);
    system = system.admin(&format!("{{address: \"127.0.0.1:0\", token: {canary}}}"));
    let system = system.start();
    let json = ("content-type", "application/json");
    for (method, path, _) in PAGES.iter().filter(|(.., for_operators)| *for_operators) {
        for shown in [
            "",
            "Bearer",
            "Bearer x",
            "Bearer admin-canary-471",
            "Bearer admin-canary-47111",
            "Basic admin-canary-4711",
            canary,
        ] {
            let answer = ask_page(system.admin, method, path, &[json, ("authorization", shown)], "{}");
            assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{path} {shown}");
            assert!(!String::from_utf8_lossy(&answer.body).contains(canary));
        }
        let bearer = format!("Bearer {canary}");
        let fields = [json, ("authorization", bearer.as_str()), ("host", "admin.internal")];
        let answer = ask_page(system.admin, method, path, &fields, "{}");
        assert_ne!(answer.status, 401, "{path}");
        assert!(!String::from_utf8_lossy(&answer.body).contains(canary), "{path}");
    }
    let secret = alice().claim("secret", "token-canary-4711").sign();
    system.get("/billing").with(&secret).is_refused(403, "not_granted");
    let bearer = format!("Bearer {canary}");
    let question = json!({"method": "GET", "url": "/billing", "token": secret});
    let said = ask_page(system.admin, "POST", "/explain", &[json, ("authorization", &bearer)], &question.to_string());
    assert_eq!(said.json()["code"], "not_granted", "{}", said.json());
    let all = [
        String::from_utf8(said.body).unwrap(),
        String::from_utf8(system.status_page("/metrics").body).unwrap(),
        String::from_utf8(system.status_page("/ready").body).unwrap(),
        system.logged(),
    ];
    for text in all {
        assert!(!text.contains("canary"), "{text}");
        assert!(secret.split('.').all(|part| !text.contains(part)), "{text}");
    }
}

#[test]
fn without_a_listener_of_its_own_the_status_is_on_the_admin_listener() {
    let system = System::with(ROUTES).without_status().start();
    for path in ["/live", "/ready", "/metrics", "/world", "/routes"] {
        assert_eq!(ask_page(system.admin, "GET", path, &[], "").status, 200, "{path}");
    }
    assert_eq!(Value::from(system.status.port()), Value::from(system.admin.port()));
}

#[test]
fn an_odd_question_does_not_harm_the_listener() {
    let system = system();
    for body in ["", "{", "null", "\u{0}", &"x".repeat(300 * 1024), "[[[[[[[[[[[[[[[[[[", "{\"method\":\"GET\"}"] {
        for path in ["/explain", "/who"] {
            let status = system.admin_page("POST", path, body).status;
            assert!((400..500).contains(&status), "{path}: {status}");
        }
    }
    assert_eq!(system.admin_page("GET", "/world", "").status, 200);
}
