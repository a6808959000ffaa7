//! Decisions by token and by facts, through the whole proxy: who may do what, and that whatever is unknown denies.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use support::{Ask, COMPANY, Outcome, System, TokenCase, alice, token};

const ROUTES: &str = r#"
- {id: org-view, match: {path: /org}, require: "org:view"}
- {id: by-token, match: {path: /billing/token}, require: "billing:view"}
- {id: by-facts, match: {path: /billing/live}, require: "billing:view", grants: live}
- {id: by-both, match: {path: /billing/both}, require: "billing:view", grants: both}
- {id: me, match: {path: /me}, authenticated: true}
- {id: settings, match: {path: "/orgs/{org}/settings"}, require: "org:manage", organization: "{path.org}"}
- {id: of-organization, match: {path: "/orgs/{org}/billing"}, require: "billing:view", resource: {type: organization, id: "{path.org}"}}
- {id: view, match: {methods: [GET], path: "/projects/{project}"}, require: "project:view", resource: {type: project, id: "{path.project}"}}
- {id: edit, match: {methods: [PATCH], path: "/projects/{project}"}, require: "project:edit", resource: {type: project, id: "{path.project}"}}
- {id: edit-live, match: {methods: [PUT], path: "/projects/{project}"}, require: "project:edit", grants: live, resource: {type: project, id: "{path.project}"}}
- {id: comment, match: {methods: [POST], path: "/projects/{project}/comments"}, require: {any: ["project:review", "project:edit"]}, resource: {type: project, id: "{path.project}"}}
- {id: both-permissions, match: {methods: [POST], path: "/projects/{project}/review"}, require: {all: ["project:review", "project:edit"]}, resource: {type: project, id: "{path.project}"}}
- {id: by-id, match: {path: "/by-id/{id}"}, require: "project:view", resource: {resource_id: "{path.id}"}}
- {id: files, match: {path: "/workspaces/{ws}/files/{rest...}"}, require: "file:read", resource: {type: workspace, id: "{path.ws}"}}
- id: move-app
  match: {methods: [POST], path: "/apps/{app}/move"}
  require:
    all:
      - {permission: "app:edit", resource: {type: app, id: "{path.app}"}}
      - {permission: "app:create", resource: {type: project, id: "{body:/target/project}"}}
  body_limit: 1KiB
- {id: trial, match: {path: "/trial/{project}"}, require: "project:edit", resource: {type: project, id: "{path.project}"}, mode: shadow}
- {id: trial-query, match: {path: /trial}, require: "project:edit", resource: {type: project, id: "{query.id}"}, mode: shadow}
- {id: patient, match: {path: "/patient/{project}"}, require: "project:view", resource: {type: project, id: "{path.project}"}, on_stale: serve, serve_until: 600s}
- {id: impatient, match: {path: "/impatient/{project}"}, require: "project:view", resource: {type: project, id: "{path.project}"}, max_staleness: 60s}
"#;

fn system() -> System {
    System::with(ROUTES).start()
}

/// Somebody of Acme, without organization-wide permissions in the token.
fn of_acme(name: &str) -> TokenCase {
    token().user(&format!("user_{name}")).membership(&format!("om_{name}")).organization("org_acme")
}

#[test]
fn grants_say_where_the_organization_wide_answer_comes_from() {
    let system = system();
    let claims_it = ["billing:view"];
    let rows = [
        ("carol holds it by her group, the token does not say so", of_acme("carol"), [false, true, false]),
        ("carol, and the token says so", of_acme("carol").permissions(claims_it), [true, true, true]),
        ("alice's token says so, the facts do not", alice().permissions(claims_it), [true, false, false]),
        ("alice has it nowhere", alice(), [false, false, false]),
        ("erin is an admin by her role", of_acme("erin"), [false, true, false]),
    ];
    for (case, token, expected) in rows {
        let token = token.sign();
        for (target, passes) in ["/billing/token", "/billing/live", "/billing/both"].into_iter().zip(expected) {
            let ask = system.get(target).with(&token);
            match passes {
                true => drop(ask.send().passed(&format!("{case}: {target}"))),
                false => drop(ask.send().refused(403, "not_granted", &format!("{case}: {target}"))),
            }
        }
    }
}

#[test]
fn a_role_counts_on_its_resource_and_below_it() {
    let system = system();
    let rows = [
        ("GET /projects/42", "alice", true, "workspace-admin by a group, one level above"),
        ("PATCH /projects/43", "alice", true, "the same, another project"),
        ("GET /projects/99", "alice", true, "viewer, direct"),
        ("PATCH /projects/99", "alice", false, "a viewer does not edit"),
        ("GET /projects/51", "alice", false, "another workspace"),
        ("PATCH /projects/42", "bob", true, "editor, direct"),
        ("PATCH /projects/43", "bob", false, "a role on one says nothing of another"),
        ("POST /projects/42/comments", "bob", true, "one of two permissions"),
        ("POST /projects/42/review", "bob", true, "both, by two roles"),
        ("POST /projects/42/review", "alice", false, "one of both"),
        ("GET /projects/43", "frank", true, "a role of the organization's own"),
        ("PATCH /projects/43", "frank", false, "which does not edit"),
        ("GET /workspaces/ws-platform/files/a/b", "grace", true, "by a group"),
        ("GET /workspaces/ws-engineering/files/a", "grace", false, "of another workspace"),
        ("GET /workspaces/42/files/a", "bob", false, "an id of another type"),
        ("GET /projects/ws-engineering", "alice", false, "the other way round"),
        ("GET /projects/042", "bob", false, "another spelling of an id"),
        ("GET /projects/42%20", "bob", false, "another id"),
        ("GET /projects/99", "carol", false, "somebody else's"),
    ];
    for (request, name, passes, case) in rows {
        let (method, target) = request.split_once(' ').unwrap();
        let ask = system.ask(method, target).with(&of_acme(name).sign());
        match passes {
            true => drop(ask.send().passed(case)),
            false => drop(ask.send().refused(403, "not_granted", case)),
        }
    }
}

#[test]
fn an_organization_wide_permission_covers_what_belongs_to_the_organization() {
    let system = system();
    let editor = of_acme("carol").permissions(["project:edit", "project:view"]).sign();
    for project in ["42", "51", "99"] {
        system.ask("PATCH", &format!("/projects/{project}")).with(&editor).passes();
    }
    system.ask("PATCH", "/projects/nowhere").with(&editor).is_refused(403, "not_granted");
    // Live, the claim is worth nothing.
    system.ask("PUT", "/projects/42").with(&editor).is_refused(403, "not_granted");
    system.ask("PUT", "/projects/42").with(&of_acme("erin").sign()).passes();
    // The other company has a 42 of its own, and no 43.
    let gina =
        token().user("user_gina").membership("om_gina").organization("org_globex").permissions(["project:edit"]).sign();
    system.ask("PATCH", "/projects/42").with(&gina).passes();
    system.ask("PATCH", "/projects/43").with(&gina).is_refused(403, "not_granted");
    // Bob works for both; what he has in one does not count in the other.
    let bob_at_globex = token().user("user_bob").membership("om_bob_globex").organization("org_globex").sign();
    system.ask("PATCH", "/projects/42").with(&bob_at_globex).is_refused(403, "not_granted");
}

#[test]
fn a_resource_may_be_named_by_its_own_id() {
    let company =
        COMPANY.replace("id: \"99\", name: Sensitive,", "id: \"99\", name: Sensitive, resource_id: authz_resource_99,");
    let system = System::with(ROUTES).company(&company).start();
    system.get("/by-id/authz_resource_99").with(&alice().sign()).passes();
    system.get("/by-id/authz_resource_99").with(&of_acme("bob").sign()).is_refused(403, "not_granted");
    system.get("/by-id/99").with(&alice().sign()).is_refused(403, "not_granted");
    let gina =
        token().user("user_gina").membership("om_gina").organization("org_globex").permissions(["project:view"]).sign();
    system.get("/by-id/authz_resource_99").with(&gina).is_refused(403, "not_granted");
}

#[test]
fn the_organization_of_a_route_is_the_tokens_byte_for_byte() {
    let system = system();
    let admin = of_acme("erin").permissions(["org:manage", "billing:view"]).sign();
    system.get("/orgs/org_acme/settings").with(&admin).passes();
    system.get("/orgs/org%5facme/settings").with(&admin).passes();
    for organization in ["org_globex", "ORG_ACME", "org_acme2", "org_acm", "org_acme%20"] {
        system.get(&format!("/orgs/{organization}/settings")).with(&admin).is_refused(403, "wrong_organization");
    }
    // Before any permission is looked at.
    system.get("/orgs/org_globex/settings").with(&alice().sign()).is_refused(403, "wrong_organization");
    system.get("/orgs/org_acme/settings").with(&alice().sign()).is_refused(403, "not_granted");
    system.get("/orgs/org_acme/billing").with(&admin).passes();
    system.get("/orgs/org_globex/billing").with(&admin).is_refused(403, "not_granted");
}

#[test]
fn a_token_without_an_organization_is_good_for_itself_only() {
    let system = system();
    let nobody = token().user("user_alice").permissions(["billing:view", "project:view"]).sign();
    system.get("/me").with(&nobody).passes();
    for target in ["/billing/token", "/billing/live", "/projects/42", "/orgs/org_acme/settings"] {
        system.get(target).with(&nobody).is_a_bad_token("missing_claim");
    }
}

#[test]
fn user_organization_and_membership_have_to_be_one_row() {
    let system = system();
    let rows = [
        ("another user", token().user("user_bob").membership("om_alice").organization("org_acme")),
        ("another membership", token().user("user_alice").membership("om_bob").organization("org_acme")),
        ("a membership elsewhere", token().user("user_bob").membership("om_bob_globex").organization("org_acme")),
    ];
    for (case, token) in rows {
        let token = token.permissions(["project:view", "billing:view"]).sign();
        let outcome = system.get("/projects/42").with(&token).send();
        assert!(outcome.arrived.is_empty(), "{case}");
        let answer = outcome.answer.unwrap();
        let told = (answer.status, answer.code(), answer.reason());
        let mismatch = (401, "bad_token".to_owned(), "identity_mismatch".to_owned());
        let unknown = (403, "unknown_membership".to_owned(), String::new());
        assert!(told == mismatch || (case == "a membership elsewhere" && told == unknown), "{case}: {told:?}");
        // Where no facts are consulted, the token is all there is.
        system.get("/billing/token").with(&token).passes();
    }
    system.get("/projects/42").with(&token().user("user_bob").organization("org_acme").sign()).passes();
    let unknown = token().user("user_zoe").organization("org_acme").sign();
    system.get("/projects/42").with(&unknown).is_refused(403, "unknown_membership");
    system.get("/billing/live").with(&of_acme("dave").sign()).is_refused(403, "membership_inactive");
    system.get("/billing/token").with(&of_acme("dave").permissions(["billing:view"]).sign()).passes();
}

#[test]
fn without_facts_the_token_decides_alone() {
    let routes = r#"
- {id: billing, match: {path: /billing}, require: "billing:view"}
- {id: settings, match: {path: "/orgs/{org}/settings"}, require: "org:manage", organization: "{path.org}"}
- {id: of-organization, match: {path: "/orgs/{org}/billing"}, require: "billing:view", resource: {type: organization, id: "{path.org}"}}
"#;
    let system = System::with(routes).facts("{source: none}").start();
    let admin = alice().permissions(["billing:view", "org:manage"]).sign();
    for target in ["/billing", "/orgs/org_acme/settings", "/orgs/org_acme/billing"] {
        let received = system.get(target).with(&admin).passes();
        assert_eq!(received.value("x-portcullis-revision"), None);
        system.get(target).with(&alice().sign()).is_refused(403, "not_granted");
    }
    system.get("/orgs/org_globex/settings").with(&admin).is_refused(403, "wrong_organization");
    system.get("/orgs/org_globex/billing").with(&admin).is_refused(403, "not_granted");
}

#[test]
fn a_rule_on_trial_counts_what_it_would_refuse_and_forwards_it() {
    let system = system();
    let alice = alice().sign();
    system.get("/trial/42").with(&alice).passes();
    system.get("/trial/99").with(&alice).passes();
    system.get("/trial/42").passes();
    system.get("/trial/42").with("x.y.z").passes();
    let denied =
        |reason: &str| system.metric(&format!(r#"portcullis_shadow_denied_total{{reason="{reason}",route="trial"}}"#));
    system.until("all are counted", |_| {
        denied("not_granted") == 1.0 && denied("missing_token") == 1.0 && denied("bad_token") == 1.0
    });
    // What is wrong with the request itself is no question of permission.
    system.get("/trial/42/..").is_refused(400, "bad_path");
    system.get("/trial").with(&alice).is_refused(400, "bad_value");
    system.get("/trial/42/more").with(&alice).is_refused(403, "no_route");
    system.get("/trial/42").with(&alice).with(&alice).is_refused(400, "ambiguous_credentials");
    let logged = system.logged();
    assert!(logged.contains(r#""outcome":"shadow","reason":"not_granted""#), "{logged}");
}

#[test]
fn stale_facts_deny_unless_the_route_serves_them_and_then_for_a_while() {
    let system = system();
    let alice = alice().lifetime(3600).sign();
    system.get("/patient/42").with(&alice).passes();
    std::fs::remove_file(system.folder().join("facts.yaml")).unwrap();
    let failed = r#"portcullis_facts_updates_total{kind="complete",result="failed"}"#;
    system.until("the facts cannot be had", |system| system.metric(failed) > 0.0);
    let ask = |target: &str| system.get(target).with(&alice);
    system.clock.advance(90);
    ask("/impatient/42").is_refused(503, "facts_stale");
    ask("/projects/42").passes();
    system.clock.advance(300);
    ask("/projects/42").is_refused(503, "facts_stale");
    ask("/patient/42").passes();
    ask("/patient/51").is_refused(403, "not_granted");
    ask("/trial/42").passes();
    assert!(system.metric("portcullis_facts_age_seconds") >= 390.0);
    assert!(system.metric("portcullis_degraded_decisions_total") >= 2.0);
    system.clock.advance(300);
    ask("/patient/42").is_refused(503, "facts_stale");
    system.write("facts.yaml", COMPANY);
    system.until("the facts are back", |_| ask("/projects/42").send().answer.unwrap().status == 200);
    system.upstream.take();
}

#[test]
fn a_changed_facts_file_takes_effect_and_a_bad_one_changes_nothing() {
    let system = system();
    let bob = of_acme("bob").sign();
    let edit = || system.ask("PATCH", "/projects/42").with(&bob);
    edit().passes();
    system.write("facts.yaml", &COMPANY.replace("      - om_bob project-editor project:42\n", ""));
    system.until("the role is gone", |system| {
        let status = edit().send().answer.unwrap().status;
        system.upstream.take();
        status == 403
    });
    edit().is_refused(403, "not_granted");
    let refused = r#"portcullis_facts_updates_total{kind="complete",result="refused"}"#;
    assert_eq!(system.metric(refused), 0.0);
    let bad = [
        "version: 1\n".to_owned(),
        "{".to_owned(),
        COMPANY.replace("om_bob project-editor project:42", "om_bob no-such-role project:42"),
        COMPANY.replace("parent: \"workspace:ws-security\"", "parent: \"project:99\""),
    ];
    for (turn, text) in bad.iter().enumerate() {
        let before = system.metric(refused);
        system.write("facts.yaml", text);
        system.until("the facts are refused", |system| system.metric(refused) > before);
        edit().is_refused(403, "not_granted");
        system.get("/projects/42").with(&alice().sign()).passes();
        assert_eq!(system.status_page("/ready").status, 200, "turn {turn}");
    }
    system.write("facts.yaml", COMPANY);
    system.until("the role is back", |system| {
        let status = edit().send().answer.unwrap().status;
        system.upstream.take();
        status == 200
    });
}

fn move_app(system: &System) -> Ask<'_> {
    system.post("/apps/gateway/move").with(&of_acme("bob").sign())
}

#[test]
fn a_value_of_the_body_is_judged_and_the_same_bytes_arrive() {
    let system = system();
    for body in [
        r#"{"target":{"project":"42"}}"#,
        "  {\"x\": [1, 2.50, \"\\u00e9\"],\r\n \"target\": {\"project\": \"4\\u0032\", \"y\": null}}  ",
        r#"{"target":{"project":42}}"#,
    ] {
        let received = move_app(&system).json(body).passes();
        assert_eq!(received.body, body.as_bytes());
        assert_eq!(received.value("content-length"), Some(body.len().to_string()));
    }
    move_app(&system).json(r#"{"target":{"project":"43"}}"#).is_refused(403, "not_granted");
    let chunked = |chunks: &str| {
        let mut bytes =
            move_app(&system).field("content-type", "application/json").field("transfer-encoding", "chunked").bytes();
        bytes.extend_from_slice(chunks.as_bytes());
        system.raw(bytes)
    };
    let received = chunked("b\r\n{\"target\":{\r\n10\r\n\"project\":\"42\"}}\r\n0\r\n\r\n").passed("chunked");
    assert!(String::from_utf8_lossy(&received.body).contains("\"project\":\"42\""));
    chunked("1b\r\n{\"target\":{\"project\":\"43\"}}\r\n0\r\n\r\n").refused(403, "not_granted", "chunked");
    let long = format!("500\r\n{}\r\n0\r\n\r\n", " ".repeat(0x500));
    chunked(&long).refused(413, "body_too_large", "chunked");
}

#[test]
fn g1_g2_g4_a_body_with_two_readings_or_too_many_bytes_is_refused() {
    let system = system();
    let rows = [
        (r#"{"target":{"project":"42"},"target":{"project":"43"}}"#, "G1 a key twice on the way"),
        (r#"{"target":{"project":"43","project":"42"}}"#, "G1 the key itself twice"),
        (r#"{"target":{"project":"42","pr\u006fject":"43"}}"#, "G1 twice, once escaped"),
        (r#"{"target":{"project":"42"},"x":{"a":1,"a":2}}"#, "G1 twice elsewhere"),
        (r#"{"target":{"project":"42","Project":"43"}}"#, "G1 another case"),
        (r#"{"TARGET":{"project":"43"},"target":{"project":"42"}}"#, "G1 another case on the way"),
        ("\u{feff}{\"target\":{\"project\":\"42\"}}", "G1 a byte order mark"),
        (r#"{"target":{"project":"42"}} {}"#, "G1 two documents"),
        (r#"{"target":{"project":"42"}"#, "G4 cut off"),
        (r#"{"target":{"project":["42"]}}"#, "G4 a list"),
        (r#"{"target":{"project":{"id":"42"}}}"#, "G4 an object"),
        (r#"{"target":{"project":4.2e1}}"#, "G4 another number"),
        (r#"{"target":{"project":null}}"#, "G4 null"),
        (r#"{"target":{"project":""}}"#, "G4 empty"),
        (r#"{"target":{}}"#, "G4 missing"),
        (r#"{"target":{"project":"\ud834"}}"#, "G4 half a character"),
        ("", "G4 nothing"),
        ("{'target':{'project':'42'}}", "G4 no JSON"),
    ];
    for (body, trick) in rows {
        move_app(&system).json(body).send().refused(400, "bad_value", trick);
    }
    let padded = |bytes: usize| format!("{:<bytes$}", r#"{"target":{"project":"42"}}"#);
    move_app(&system).json(&padded(1024)).passes();
    move_app(&system).json(&padded(1025)).is_refused(413, "body_too_large");
    let body = r#"{"target":{"project":"42"}}"#;
    for (name, value) in [
        ("content-type", "text/plain"),
        ("content-type", "application/json; charset=utf-16"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-type", "multipart/form-data; boundary=x"),
        ("x", "y"),
    ] {
        move_app(&system).field(name, value).body(body).is_refused(415, "unsupported_body");
    }
    move_app(&system).field("content-encoding", "gzip").json(body).is_refused(415, "unsupported_body");
    move_app(&system).field("content-type", "text/plain").json(body).is_refused(400, "bad_request");
    move_app(&system).json(body).passes();
}

#[test]
fn f6_an_upgrade_does_not_get_around_a_body() {
    let system = system();
    let ask = move_app(&system).field("connection", "upgrade").field("upgrade", "websocket");
    ask.json(r#"{"target":{"project":"42"}}"#).is_refused(400, "bad_request");
}

#[test]
fn a_body_is_asked_for_only_when_everything_else_permits() {
    let system = system();
    let head = |ask: Ask<'_>| {
        let ask = ask.field("content-type", "application/json").field("expect", "100-continue");
        ask.field("content-length", "27").bytes()
    };
    let mut connection = system.connect();
    connection.send(head(move_app(&system)));
    assert_eq!(connection.answer().unwrap().status, 100);
    connection.send(r#"{"target":{"project":"42"}}"#);
    assert_eq!(connection.answer().unwrap().status, 200);
    assert_eq!(system.upstream.take().len(), 1);

    let mut connection = system.connect();
    connection.send(head(system.post("/apps/gateway/move").with(&alice().sign()).field("x", "y")));
    assert_eq!(connection.answer().unwrap().status, 100, "alice may edit the app");
    connection.send(r#"{"target":{"project":"51"}}"#);
    assert_eq!(connection.answer().unwrap().status, 403);

    for (ask, status) in [
        (system.post("/apps/gateway/move"), 401),
        (system.post("/apps/gateway/move").with(&of_acme("carol").sign()), 403),
        (system.post("/apps/nowhere/move").with(&of_acme("bob").sign()), 403),
        (move_app(&system).field("x-portcullis-min-revision", "x"), 400),
    ] {
        let mut connection = system.connect();
        connection.send(head(ask));
        assert_eq!(connection.answer().unwrap().status, status);
        assert!(connection.is_closed());
    }
    assert!(system.upstream.take().is_empty());
}

#[test]
fn h1_a_body_that_never_comes_is_408_after_ten_seconds() {
    let system = system();
    let begun = Instant::now();
    let Outcome { answer, arrived } =
        system.raw(move_app(&system).field("content-type", "application/json").field("content-length", "27").bytes());
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (408, "timeout"));
    assert!(arrived.is_empty());
    assert!((Duration::from_secs(9)..Duration::from_secs(19)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[test]
fn e9_ids_are_compared_byte_for_byte() {
    let company = COMPANY
        .replace("{type: project, id: \"51\"", "{type: project, id: \"Foo\"")
        .replace("project-viewer project:99", "project-viewer project:Foo");
    let system = System::with(ROUTES).company(&company).start();
    system.get("/projects/Foo").with(&alice().sign()).passes();
    for id in ["foo", "FOO", "Fo%C3%B6", "Foo%00", "Foo%20", "%EF%BC%A6oo"] {
        let outcome = system.get(&format!("/projects/{id}")).with(&alice().sign()).send();
        assert!(outcome.arrived.is_empty(), "{id}");
        assert!(matches!(outcome.answer.unwrap().status, 400 | 403), "{id}");
    }
}

/// Bypass case E3: wherever ids are put together, one that has a separator in it is still itself.
#[test]
fn e3_ids_with_separators_in_them_are_told_apart() {
    const IDS: [&str; 10] = ["a", "b", "a:b", "a#b", "a@b", "a|b", "a,b", "project:a", "a:", ":b"];
    let escaped = |id: &str| id.replace('#', "%23").replace('|', "%7C").replace(':', "%3A");
    for granted in IDS {
        let resources: String = IDS
            .map(|id| format!("      - {{type: project, id: \"{id}\", name: x, parent: \"workspace:ws-security\"}}\n"))
            .concat();
        let company = COMPANY
            .replacen("      - {type: app, id: gateway", &format!("{resources}      - {{type: app, id: gateway"), 1)
            .replace(
                "- om_alice project-viewer project:99",
                &format!("- \"om_alice project-viewer project:{granted}\""),
            );
        let system = System::with(ROUTES).company(&company).start();
        let alice = alice().sign();
        for asked in IDS {
            let by_path = system.get(&format!("/projects/{}", escaped(asked))).with(&alice).send();
            assert_eq!(by_path.answer.unwrap().status == 200, asked == granted, "{asked}, and {granted} was granted");
        }
        for asked in ["a%00b", "a%00", "a%1fb", "a%0Ab", "A", "project", "project%3Aa%3Ab", "a%3Ab%3A"] {
            let outcome = system.get(&format!("/projects/{asked}")).with(&alice).send();
            assert!(outcome.arrived.is_empty() && outcome.answer.unwrap().status >= 400, "{asked}");
        }
    }
}
