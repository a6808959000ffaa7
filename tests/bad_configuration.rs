//! The program with configurations that are wrong, and the commands that look at configurations: exit codes, places, and that nothing is
//! started on half a configuration.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const FACTS: &str = include_str!("../config/demo/facts.yaml");
const DEMO: &str = include_str!("../config/demo/portcullis.yaml");

/// A good configuration; every row of a table breaks one thing in it.
const GOOD: &str = r#"version: 1
listen: [{address: "127.0.0.1:0"}]
status: {address: "127.0.0.1:0"}
admin: {address: "unix:admin.sock"}
upstreams: {app: {servers: ["127.0.0.1:1"]}}
tokens:
  - {name: a, issuer: "https://a.test", audience: api, jwks_file: jwks.json, algorithms: [ES256], leeway: 30s}
facts: {source: file, file: facts.yaml, max_staleness: 300s}
limits: {head: 32KiB}
routes:
  - {id: open, match: {methods: [GET], path: /open}, public: true}
  - {id: view, match: {path: "/projects/{project}"}, require: "project:view", resource: {type: project, id: "{path.project}"}}
"#;

/// Where its facts come from.
const FILE: &str = "source: file, file: facts.yaml";

fn folder(configuration: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("portcullis.yaml"), configuration).unwrap();
    fs::write(folder.path().join("facts.yaml"), FACTS).unwrap();
    let issuer = portcullis::token::Issuer::ephemeral("https://a.test", portcullis::token::Algorithm::ES256).unwrap();
    fs::write(folder.path().join("jwks.json"), issuer.jwks().unwrap()).unwrap();
    folder
}

fn portcullis(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    portcullis(folder, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("ended by a signal"))
}

#[test]
fn the_good_configuration_is_good() {
    let folder = folder(GOOD);
    let output = run(folder.path(), &["validate", "--config", "portcullis.yaml"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    for line in ["public: open", "2 routes, 0 of 0 tests passed", "project:view on project:{path.project}"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
}

#[test]
fn every_mistake_is_named_with_its_place_and_nothing_starts() {
    let rows = [
        ("version: 1", "version: 2", "1:10", "version is 2"),
        ("status:", "statuz:", "3:1", "unknown key `statuz`"),
        ("\"127.0.0.1:0\"}]", "\"127.0.0.1\"}]", "2:20", "is not an address"),
        ("status: {address", "status: {adress", "3:10", "unknown key `adress`"),
        ("admin: {address: \"unix:admin.sock\"}", "admin: {address: \"0.0.0.0:0\"}", "4:18", "`token` is required"),
        ("servers: [\"127.0.0.1:1\"]", "servers: []", "5:28", "`servers` is empty"),
        ("servers: [\"127.0.0.1:1\"]", "servers: [\"a:1\"], tls: {sni: \"\"}", "5:48", "could not be verified"),
        ("name: a, ", "name: a, name: b, ", "7:", "name"),
        ("audience: api, ", "", "7:5", "audience"),
        ("audience: api", "audience: none", "7:", "needs `required_claims`"),
        ("jwks_file: jwks.json", "jwks: \"http://a.test/jwks\"", "7:", "plain http"),
        ("jwks_file: jwks.json, ", "", "7:5", "neither `jwks` nor `jwks_file`"),
        ("[ES256]", "[HS256]", "7:", "`HS256` is not supported"),
        ("[ES256]", "[none]", "7:", "`none` is not supported"),
        ("leeway: 30s", "leeway: 61s", "7:", "longer than 60s"),
        ("leeway: 30s", "leeway: 30", "7:", "found"),
        ("issuer: \"https://a.test\"", "issuer: \"${NO_SUCH_VARIABLE_4711}\"", "7:", "NO_SUCH_VARIABLE_4711"),
        ("file: facts.yaml, ", "", "8:8", "`source: file` needs `file`"),
        ("source: file", "source: stoer", "8:", "stoer"),
        ("source: file", "source: file, url: \"https://a.test\"", "8:28", "`url` has no use with `source: file`"),
        ("source: file, file: facts.yaml", "source: none, key: sk_1", "8:28", "`key` has no use with `source: none`"),
        ("source: file, file: facts.yaml", "source: workos, key: sk_1", "8:8", "needs `url`"),
        ("source: file, file: facts.yaml", "source: workos, url: \"https://a.test\"", "8:8", "needs `key`"),
        ("source: file", "source: workos", "8:", "`file` has no use with `source: workos`"),
        (FILE, "source: workos, url: \"http://a.test\", key: k", "8:30", "`insecure: true` accepts it"),
        (FILE, "source: workos, url: \"https://a.test\", key: k, rate: 0", "8:", "nothing could be asked"),
        (FILE, "source: workos, url: \"https://a.test\", key: k, check_within: 0s", "8:", "no check could be answered"),
        (FILE, "source: workos, url: \"https://a.test\", key: k, ttl: {min: 2s, max: 1s}", "8:", "not below it"),
        (FILE, "source: workos, url: \"https://a.test\", key: k, ttl: {max: 1h}", "8:", "shorter than `ttl.max`"),
        (FILE, "source: workos, url: \"https://a.test\", key: k, model: {roles: []}", "8:", "unknown key `roles`"),
        ("resource: {type: project,", "verify: live, resource: {type: project,", "12:", "can be asked"),
        (
            "resource: {type: project, id: \"{path.project}\"}",
            "verify: live",
            "12:",
            "needs a `resource`, or `grants` other than `token`",
        ),
        ("public: true", "public: true, verify: live", "11:", "`verify` has no meaning"),
        ("32KiB", "32KB", "9:", "expected a size"),
        ("public: true", "publik: true", "11:", "unknown key `publik`"),
        (", public: true", "", "11:", "exactly one of"),
        ("public: true", "public: true, authenticated: true", "11:", "exactly one of"),
        ("[GET]", "[get]", "11:", "get"),
        ("path: /open", "path: /open/../closed", "11:", "can never match"),
        ("id: view", "id: open", "12:", "open"),
        ("\"project:view\"", "\"project view\"", "12:", "permission"),
        ("{path.project}\"}}", "{path.projekt}\"}}", "12:", "no capture `projekt`"),
        ("resource: {type: project,", "upstream: other, resource: {type: project,", "12:", "unknown upstream `other`"),
        ("resource: {type: project,", "tokens: [other], resource: {type: project,", "12:", "other"),
        ("resource: {type: project,", "body_limit: 65KiB, resource: {type: project,", "12:", "64"),
        ("methods: [GET], path: /open", "path: \"/projects/{p}\"", "12:5", "route `view` ties with route `open`"),
        ("version: 1\n", "version: 1\nversion: 1\n", "2:1", "version"),
        ("routes:", "routes: {", "", "portcullis.yaml"),
    ];
    let mut unnamed = Vec::new();
    for (good, bad, place, message) in rows {
        assert!(GOOD.contains(good), "{good}");
        let folder = folder(&GOOD.replacen(good, bad, 1));
        let output = run(folder.path(), &["validate", "--config", "portcullis.yaml"]);
        let said = text(&output.stderr);
        assert_eq!(code(&output), 2, "{bad}: {said}");
        let named = said.lines().any(|line| {
            line.starts_with(&format!("portcullis.yaml:{place}"))
                && line.to_lowercase().contains(&message.to_lowercase())
        });
        if !named {
            unnamed.push(format!("{bad}: expected {place} … {message}, found: {said}"));
        }
    }
    assert!(unnamed.is_empty(), "{}", unnamed.join("\n"));
}

/// What is revoked is remembered for as long as a token of a day: of one that lives longer it would be forgotten.
#[test]
fn tokens_that_outlive_their_revocation_are_refused_where_revocations_count() {
    const STORE: &str = "source: store, url: \"http://127.0.0.1:1\", key: k";
    const WORKOS: &str = "source: workos, url: \"https://a.test\", key: k";
    let refused = |source: &str, lifetime: &str, more: &[(&str, &str)]| {
        let long = GOOD.replacen("leeway: 30s", &format!("max_lifetime: {lifetime}"), 1).replacen(FILE, source, 1);
        let long = more.iter().fold(long, |text, (good, bad)| text.replacen(good, bad, 1));
        let output = run(folder(&long).path(), &["validate", "--config", "portcullis.yaml"]);
        let said = text(&output.stderr);
        let named =
            said.lines().any(|line| line.starts_with("portcullis.yaml:7:") && line.contains("`max_lifetime` is 0"));
        assert_eq!(named, code(&output) == 2, "{source} {lifetime}: {said}");
        named
    };
    for source in [STORE, WORKOS] {
        for lifetime in ["0s", "24h1s", "7d"] {
            assert!(refused(source, lifetime, &[]), "{source} {lifetime}");
        }
        assert!(!refused(source, "24h", &[]));
        assert!(!refused(source, "7d", &[("require: ", "revocations: ignore, require: ")]), "nobody looks at them");
        assert!(!refused(source, "7d", &[("routes:", "defaults: {revocations: ignore}\nroutes:")]));
    }
    let other = "tokens:\n  - {name: b, issuer: \"https://b.test\", audience: api, jwks_file: jwks.json, algorithms: [ES256], organizations: any}";
    let two =
        [("tokens:", other), ("name: a,", "organizations: any, name: a,"), ("require: ", "tokens: [b], require: ")];
    let elsewhere = refused(STORE, "7d", &two);
    assert!(!elsewhere, "no route takes such a token");
    assert!(!refused(FILE, "0s", &[]), "a file says nothing of revocations");
    assert!(!refused(&format!("{WORKOS}, events: 0s"), "0s", &[]), "nor does a server that is not asked for events");
}

#[test]
fn the_sidecar_starts_on_nothing_less_than_a_whole_configuration() {
    let broken = GOOD
        .replace("version: 1", "version: 2")
        .replace("leeway: 30s", "leeway: 61s")
        .replace("public: true", "publik: true");
    let folder = folder(&broken);
    let proxy = run(folder.path(), &["proxy", "--config", "portcullis.yaml"]);
    assert_eq!(code(&proxy), 2);
    let said = text(&proxy.stderr);
    for place in ["portcullis.yaml:1:10", "portcullis.yaml:7:", "portcullis.yaml:11:"] {
        assert!(said.contains(place), "{place}: {said}");
    }
    assert!(!folder.path().join("admin.sock").exists() && !said.contains("listening"), "{said}");
    assert!(proxy.stdout.is_empty());

    let validated = run(folder.path(), &["validate", "--format", "json", "--config", "portcullis.yaml"]);
    assert_eq!(code(&validated), 2);
    let report: Value = serde_json::from_slice(&validated.stdout).unwrap();
    assert_eq!(report["good"], false);
    let problems = report["problems"].as_array().unwrap();
    assert!(problems.len() >= 3, "{problems:?}");
    for problem in problems {
        let mut parts = problem.as_str().unwrap().splitn(4, ':');
        assert_eq!(parts.next(), Some("portcullis.yaml"), "{problem}");
        assert!(parts.next().unwrap().parse::<u32>().unwrap() > 0 && parts.next().unwrap().parse::<u32>().unwrap() > 0);
    }
    for command in [
        &["explain", "--config", "portcullis.yaml", "GET", "/open"],
        &["who", "--config", "portcullis.yaml", "GET", "/open"],
    ] {
        assert_eq!(code(&run(folder.path(), command)), 2, "{command:?}");
    }
    for command in ["proxy", "validate"] {
        let output = run(folder.path(), &[command, "--config", "nowhere.yaml"]);
        assert_eq!(code(&output), 2, "{command}");
        assert!(text(&output.stderr).contains("nowhere.yaml"));
    }
}

#[test]
fn an_address_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for part in ["listen: [{address: \"127.0.0.1:0\"", "status: {address: \"127.0.0.1:0\""] {
        let folder = folder(&GOOD.replace(part, &part.replace("127.0.0.1:0", &address)));
        let output = run(folder.path(), &["proxy", "--config", "portcullis.yaml"]);
        assert_eq!(code(&output), 1);
        assert!(text(&output.stderr).contains(&format!("cannot listen on `{address}`")), "{}", text(&output.stderr));
    }
}

#[test]
fn validate_runs_the_tests_in_the_file() {
    let tests = r#"
model: {resource_types: {project: {}}, permissions: [{slug: "project:view", name: View, resource_type: project}], roles: [{slug: viewer, name: Viewer, resource_type: project, permissions: ["project:view"]}]}
tests:
  - {name: a viewer sees it, given: {assignments: ["om_1 viewer project:42"]}, when: GET /projects/42, expect: allow}
  - {name: a wish, given: {assignments: ["om_1 viewer project:42"]}, when: GET /projects/43, expect: allow}
"#;
    let folder_of = |tests: &str| folder(&format!("{GOOD}{tests}"));
    let failing = folder_of(tests);
    let output = run(failing.path(), &["validate", "--config", "portcullis.yaml"]);
    assert_eq!(code(&output), 1, "{}{}", text(&output.stdout), text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.contains("test ok      a viewer sees it"), "{shown}");
    assert!(shown.contains("test FAILED  a wish (portcullis.yaml:"), "{shown}");
    let output = run(failing.path(), &["validate", "--format", "json", "--config", "portcullis.yaml"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["good"], &report["tests"][1]["passed"]), (&Value::from(false), &Value::from(false)));
    let passing = folder_of(&tests.replace("/projects/43, expect: allow", "/projects/43, expect: {deny: not_granted}"));
    assert_eq!(code(&run(passing.path(), &["validate", "--config", "portcullis.yaml"])), 0);
    let unknown = folder_of(&tests.replace("om_1 viewer project:42", "om_1 vieuwer project:42"));
    assert_eq!(code(&run(unknown.path(), &["validate", "--config", "portcullis.yaml"])), 2);
}

fn demo() -> TempDir {
    let folder = folder(DEMO);
    fs::write(folder.path().join("body.json"), r#"{"target":{"project":"42"}}"#).unwrap();
    folder
}

#[test]
fn the_demos_configuration_validates() {
    let output = run(demo().path(), &["validate", "--config", "portcullis.yaml"]);
    assert_eq!(code(&output), 0, "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("shadow: reports"));
}

#[test]
fn explain_tells_by_its_exit_code() {
    let folder = demo();
    let rows: [(&[&str], i32, &str); 9] = [
        (&["--membership", "om_alice", "PATCH", "/projects/42"], 0, "group_engineering"),
        (&["--membership", "om_alice", "PATCH", "/projects/99"], 3, "not_granted"),
        (&["GET", "/healthz"], 0, "public"),
        (&["GET", "/me"], 3, "missing_token"),
        (&["GET", "/healthz/%2e%2e/me"], 3, "bad_path"),
        (&["--membership", "om_bob", "--body", "body.json", "POST", "/apps/gateway/move"], 0, "app:create"),
        (
            &["--membership", "om_alice", "-H", "host: anywhere", "GET", "https://app.test/projects/99"],
            0,
            "project-viewer",
        ),
        (&["--membership", "om_nobody", "GET", "/me"], 1, "om_nobody"),
        (&["--membership", "om_alice", "G T", "/me"], 1, "is not a method"),
    ];
    for (arguments, expected, word) in rows {
        let output = run(folder.path(), &[&["explain", "--config", "portcullis.yaml"], arguments].concat());
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(code(&output), expected, "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
    let json = [
        "explain",
        "--config",
        "portcullis.yaml",
        "--format",
        "json",
        "--membership",
        "om_alice",
        "PATCH",
        "/projects/99",
    ];
    let answer: Value = serde_json::from_slice(&run(folder.path(), &json).stdout).unwrap();
    assert_eq!((&answer["outcome"], &answer["code"]), (&Value::from("deny"), &Value::from("not_granted")));
    assert!(answer["route"]["place"].as_str().unwrap().starts_with("portcullis.yaml:"));
    let who = run(folder.path(), &["who", "--config", "portcullis.yaml", "PATCH", "/projects/42"]);
    assert_eq!(code(&who), 0);
    assert!(text(&who.stdout).contains("om_alice") && !text(&who.stdout).contains("om_grace"), "{}", text(&who.stdout));
}

#[test]
fn tokens_are_minted_from_facts_and_looked_into() {
    use std::os::unix::fs::PermissionsExt;

    let folder = demo();
    let issuer = "version: 1\nissuer: {url: \"https://a.test\", client_id: c, signing_key: keys/issuer.pem, token_lifetime: 300s}\n\
                  facts: {source: file, file: facts.yaml}\n";
    fs::write(folder.path().join("issuer.yaml"), issuer).unwrap();
    let mint = |membership: &str| {
        run(folder.path(), &["token", "mint", "--config", "issuer.yaml", "--membership", membership])
    };
    let minted = mint("om_erin");
    assert_eq!(code(&minted), 0, "{}", text(&minted.stderr));
    let token = text(&minted.stdout).trim().to_owned();
    let mode = fs::metadata(folder.path().join("keys/issuer.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let inspected = run(folder.path(), &["token", "inspect", &token]);
    assert_eq!(code(&inspected), 0);
    assert!(text(&inspected.stderr).contains("not verified"));
    let shown = text(&inspected.stdout);
    for word in ["user_erin", "org_acme", "om_erin", "billing:manage", "RS256", "https://a.test"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    for membership in ["om_nobody", "om_dave"] {
        let refused = mint(membership);
        assert_eq!(code(&refused), 1, "{membership}");
        assert!(refused.stdout.is_empty() && text(&refused.stderr).contains(membership));
    }
    let nonsense = run(folder.path(), &["token", "inspect", "canary.x.y"]);
    assert_eq!(code(&nonsense), 1);
    assert!(!text(&nonsense.stderr).contains("canary"), "{}", text(&nonsense.stderr));
    fs::write(folder.path().join("issuer.yaml"), issuer.replace("client_id", "clientid")).unwrap();
    let wrong = mint("om_erin");
    assert_eq!(code(&wrong), 2);
    assert!(text(&wrong.stderr).contains("issuer.yaml:2:"), "{}", text(&wrong.stderr));
}

/// Whether `value` fits `schema`, of the keywords that our schemas use.
fn fits(schema: &Value, value: &Value, root: &Value) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        return fits(&root["$defs"][name.rsplit('/').next().unwrap()], value, root);
    }
    for keyword in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[keyword].as_array() {
            let errors: Vec<String> = choices.iter().filter_map(|choice| fits(choice, value, root).err()).collect();
            if errors.len() == choices.len() {
                return Err(errors.join(" | "));
            }
        }
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let named = |expected: &Value| expected == kind || (expected == "number" && kind == "integer");
    let fitting = match &schema["type"] {
        Value::Null => true,
        Value::Array(kinds) => kinds.iter().any(named),
        one => named(one),
    };
    if !fitting {
        return Err(format!("{value} is not {}", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(value)) {
        return Err(format!("{value} is not one of {}", schema["enum"]));
    }
    if let Some(items) = value.as_array().filter(|_| schema["items"].is_object()) {
        items.iter().try_for_each(|item| fits(&schema["items"], item, root))?;
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        match (&schema["properties"][key], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => return Err(format!("unknown key `{key}`")),
            (Value::Null, Value::Null | Value::Bool(true)) => {}
            (Value::Null, others) => fits(others, value, root)?,
            (known, _) => fits(known, value, root).map_err(|error| format!("{key}: {error}"))?,
        }
    }
    Ok(())
}

#[test]
fn the_schemas_accept_what_the_program_accepts() {
    let folder = demo();
    for (name, file) in [("sidecar", DEMO), ("sidecar", GOOD), ("facts", FACTS)] {
        let output = run(folder.path(), &["schema", name]);
        assert_eq!(code(&output), 0);
        let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(schema["$schema"].as_str().unwrap().contains("json-schema.org"));
        assert!(!schema["description"].to_string().contains("super::"), "{}", schema["description"]);
        let document: Value = serde_saphyr::from_str(file).unwrap();
        fits(&schema, &document, &schema).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut wrong = document;
        wrong["nonsense"] = Value::from(1);
        assert!(fits(&schema, &wrong, &schema).is_err(), "{name}");
    }
    assert_eq!(code(&run(folder.path(), &["schema", "model"])), 0);
}

#[test]
fn every_command_shows_how_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["demo", "proxy", "validate", "explain", "who", "schema", "token mint"] {
        let arguments: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let output = run(folder.path(), &arguments);
        assert_eq!(code(&output), 0);
        assert!(text(&output.stdout).contains("Example"), "{command}: {}", text(&output.stdout));
    }
    assert!(text(&run(folder.path(), &["--version"]).stdout).starts_with("portcullis "));
}

/// A running sidecar, the program itself.
struct Running {
    child: Child,
    lines: BufReader<std::process::ChildStderr>,
    seen: String,
}

impl Running {
    const ARGUMENTS: [&str; 7] =
        ["proxy", "--config", "portcullis.yaml", "--log-level", "trace", "--log-format", "json"];

    fn start(folder: &Path) -> Self {
        Self::spawned(portcullis(folder, &Self::ARGUMENTS))
    }

    /// With the root certificates of this file alone.
    fn with_roots(folder: &Path, roots: &Path) -> Self {
        let mut command = portcullis(folder, &Self::ARGUMENTS);
        command.env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR");
        Self::spawned(command)
    }

    fn spawned(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        Self { child, lines, seen: String::new() }
    }

    /// Reads its log up to the line with `word`.
    fn line_with(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "{word} was never logged: {}", self.seen);
            self.seen.push_str(&line);
            if line.contains(word) {
                return line;
            }
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn h12_a_running_sidecar_reloads_stops_and_logs_no_secret_at_any_level() {
    let canary = "canary4711";
    let configuration = GOOD.replace("unix:admin.sock\"", &format!("unix:admin.sock\", token: {canary}admin"));
    let folder = folder(&configuration);
    let mut running = Running::start(folder.path());
    let line: Value = serde_json::from_str(&running.line_with("\"listening\"")).unwrap();
    let address = line["address"].as_str().unwrap().to_owned();
    running.line_with("facts are in force");
    let mut stream = TcpStream::connect(&address).unwrap();
    let request = format!(
        "GET /projects/1?token={canary} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {canary}.{canary}.{canary}\r\n\
         Cookie: session={canary}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401") && !answer.contains(canary), "{answer}");
    running.line_with("\"reason\":\"bad_token\"");

    fs::write(folder.path().join("portcullis.yaml"), configuration.replace("version: 1", "version: 3")).unwrap();
    running.signal("HUP");
    running.line_with("configuration not reloaded");
    fs::write(folder.path().join("portcullis.yaml"), &configuration).unwrap();
    running.signal("HUP");
    running.line_with("configuration reloaded");

    running.signal("TERM");
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
    running.lines.read_to_string(&mut running.seen).unwrap();
    assert!(!running.seen.contains(canary), "{}", running.seen);
    assert!(TcpStream::connect(&address).is_err());
}

/// Runs `program` so that it may leave a core dump in `folder`, if it does.
fn dumping(folder: &Path, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c unlimited; exec \"$0\" \"$@\"", program]).args(arguments);
    command.current_dir(folder).stdin(Stdio::null());
    command
}

#[test]
fn a_process_with_keys_leaves_no_core_dump() {
    let other = tempfile::tempdir().unwrap();
    let status = dumping(other.path(), "sh", &["-c", "kill -ABRT $$"]).status().unwrap();
    if !status.core_dumped() {
        eprintln!("skipped: no process leaves a core dump on this machine");
        return;
    }
    let folder = folder(GOOD);
    let program = env!("CARGO_BIN_EXE_portcullis");
    let mut running = Running::spawned(dumping(folder.path(), program, &Running::ARGUMENTS));
    running.line_with("\"listening\"");
    running.signal("ABRT");
    let status = running.child.wait().unwrap();
    assert!(status.signal().is_some() && !status.core_dumped(), "{status}");
}

/// A file with one certificate.
fn root(folder: &Path) -> std::path::PathBuf {
    let issuer = portcullis::token::Issuer::ephemeral("https://r.test", portcullis::token::Algorithm::RS256).unwrap();
    let keys: Value = serde_json::from_str(&issuer.jwks().unwrap()).unwrap();
    let certificate = keys["keys"][0]["x5c"][0].as_str().unwrap();
    let lines: Vec<&str> = certificate.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let file = folder.join("roots.pem");
    let text = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn without_root_certificates_a_reload_to_keys_over_https_is_refused_and_ends_nothing() {
    let folder = folder(GOOD);
    let roots = root(folder.path());
    let mut running = Running::with_roots(folder.path(), &roots);
    running.line_with("key set loaded");
    fs::remove_file(roots).unwrap();
    let over_https = GOOD.replace("jwks_file: jwks.json", "jwks: \"https://a.test/jwks\"");
    fs::write(folder.path().join("portcullis.yaml"), over_https).unwrap();
    running.signal("HUP");
    let line = running.line_with("configuration ");
    assert!(line.contains("not reloaded") && line.contains("root certificates"), "{line}");
    // What is in force is kept fresh as before.
    let other = portcullis::token::Issuer::ephemeral("https://a.test", portcullis::token::Algorithm::ES256).unwrap();
    fs::write(folder.path().join("jwks.json"), other.jwks().unwrap()).unwrap();
    running.line_with("key set loaded");
}
