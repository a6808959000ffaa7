//! The store's configuration: what is shipped is complete and loads, and everything that is wrong is reported with its place.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use portcullis::config::Environment;
use portcullis::config::store::{self, StoreFile};
use portcullis::store::Scope;
use portcullis::telemetry::Format;
use serde_json::Value;

/// Every variable is set.
struct Variables;

impl Environment for Variables {
    fn variable(&self, name: &str) -> Option<String> {
        (name != "UNSET").then(|| format!("sk_{}", name.to_lowercase()))
    }
}

const LEAST: &str = "version: 1\ndatabase: sqlite://./data/store.db\napi_keys: [sk_a]\n";

fn parse(text: &str) -> Result<StoreFile, Vec<String>> {
    let parsed = store::parse("store.yaml", text, Path::new("/etc/portcullis"), &Variables);
    parsed.map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    let problems = parse(text).map(|_| ()).unwrap_err();
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "expected {expected}\n   found {problem}");
    }
}

fn shipped(file: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(file).display().to_string()
}

#[test]
fn the_shipped_configuration_loads_with_its_model() {
    let config = store::load(Path::new(&shipped("store.yaml")), &Variables).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.listen.to_string(), "127.0.0.1:9902");
    let database = config.database.expose();
    assert!(database.starts_with("sqlite://") && database.ends_with("data/store.db"));
    assert_eq!(config.model.unwrap().roles.len(), 5);
    assert_eq!(config.own_key.unwrap().as_str(), "sk_portcullis_api_key");
    assert_eq!(config.sync_keys.all()[0].organizations(), None);
    let issuer = config.issuer.unwrap();
    assert_eq!((issuer.client_id.as_str(), issuer.token_lifetime), ("client_dev", Duration::from_secs(300)));
}

#[test]
fn the_shipped_configuration_names_every_key() {
    let text = std::fs::read_to_string(shipped("store.yaml")).unwrap();
    let schema = serde_json::to_value(store::schema()).unwrap();
    let mut names = Vec::new();
    collect(&schema, &mut names);
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(text.contains(&format!("{name}:")), "`{name}` is not in config/store.yaml");
    }
}

/// The names of all properties, the definitions of what is used elsewhere included.
fn collect(schema: &Value, names: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            if let Some(properties) = fields.get("properties").and_then(Value::as_object) {
                names.extend(properties.keys().cloned());
            }
            fields.values().for_each(|field| collect(field, names));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
        _ => {}
    }
}

#[test]
fn what_is_not_written_has_the_documented_default() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:9902");
    assert_eq!(config.database.expose(), "sqlite:///etc/portcullis/./data/store.db");
    assert_eq!((config.connections, config.max_memory), (8, 512 * 1024 * 1024));
    assert_eq!((config.max_resources_of_type, config.max_depth), (5000, 5));
    assert_eq!((config.request_timeout, config.log_format), (Duration::from_secs(30), Format::Json));
    assert!(
        config.tls.is_none() && config.model.is_none() && config.issuer.is_none() && config.sync_keys.all().is_empty()
    );
}

#[test]
fn paths_are_relative_to_the_file() {
    let text = format!("{LEAST}issuer: {{url: u, client_id: c, signing_key: ./k.pem, next_signing_key: /n.pem}}\n");
    let issuer = parse(&text).unwrap().issuer.unwrap();
    assert_eq!(issuer.signing_key, Path::new("/etc/portcullis/./k.pem"));
    assert_eq!(issuer.next_signing_key.as_deref(), Some(Path::new("/n.pem")));
    let absolute = LEAST.replace("sqlite://./data/store.db", "sqlite:///var/store.db");
    assert_eq!(parse(&absolute).unwrap().database.expose(), "sqlite:///var/store.db");
    let server = LEAST.replace("sqlite://./data/store.db", "postgres://user@host/db");
    assert_eq!(parse(&server).unwrap().database.expose(), "postgres://user@host/db");
}

#[test]
fn keys_are_kept_as_hashes_with_their_scopes() {
    let hash = hexadecimal(&portcullis::store::sha256("sk_reader"));
    let text = LEAST.replace("[sk_a]", &format!("[\"${{KEY}}\", {{name: reader, sha256: {hash}, scopes: [read]}}]"));
    let config = parse(&text).unwrap();
    assert!(!format!("{config:?}").contains("sk_key"), "no key is ever printed: {config:?}");
    let admit = |key: &str, scope| {
        let mut headers = http::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {key}").parse().unwrap());
        config.api_keys.admit(&headers, scope).is_ok()
    };
    assert!(admit("sk_key", Scope::Mint) && admit("sk_reader", Scope::Read));
    assert!(!admit("sk_reader", Scope::Write) && !admit("sk_other", Scope::Read));
    let text = format!("{LEAST}sync_keys: [{{name: edge, sha256: {hash}, organizations: [org_1]}}, sk_all]\n");
    let parsed = parse(&text).unwrap();
    let keys = parsed.sync_keys.all();
    assert_eq!((keys[0].name(), keys[1].name()), ("edge", "sync_key_2"));
    assert_eq!(keys[0].organizations().map(std::collections::BTreeSet::len), Some(1));
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_problem_is_reported_with_its_place() {
    refused("version: 1\n", &["store.yaml:1:1: "]);
    refused(
        "version: 2\nlisten: nowhere\ndatabase: mysql://root:secret@host/db\napi_keys: []\nconnections: 0\n",
        &[
            "store.yaml:1:10: version is 2",
            "store.yaml:2:9: `nowhere` is not an address",
            "store.yaml:3:11: the database is neither",
            "store.yaml:4:11: `api_keys` is empty",
            "store.yaml:5:14: `connections` is 0",
        ],
    );
    for wrong in ["0", "65"] {
        refused(&format!("{LEAST}max_depth: {wrong}\n"), &["store.yaml:4:12: `max_depth` is "]);
    }
    refused(&format!("{LEAST}listening: a\n"), &["store.yaml:4:1: unknown"]);
    refused(&format!("{LEAST}version: 1\n"), &["store.yaml:4:1: "]);
    refused(&LEAST.replace("sk_a", "\"${UNSET}\""), &["store.yaml:3:12: "]);
    refused(&LEAST.replace("sk_a", "''"), &["store.yaml:3:12: a key is empty"]);
    let hashed = "{name: a, sha256: abc, scopes: []}, {name: a, sha256: zz, scopes: [all]}";
    let problems = parse(&LEAST.replace("sk_a", hashed)).map(|_| ()).unwrap_err();
    assert!(!problems.is_empty());
    let hashed =
        format!("{{name: a, sha256: {0}, scopes: []}}, {{name: a, sha256: abc, scopes: [read]}}", "0".repeat(64));
    let problems = parse(&LEAST.replace("sk_a", &hashed)).map(|_| ()).unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:#?}");
    let issuer = "issuer: {url: '', client_id: a/b, signing_key: k, next_signing_key: k, token_lifetime: 10ms}";
    let problems = parse(&format!("{LEAST}{issuer}\n")).map(|_| ()).unwrap_err();
    assert_eq!(problems.len(), 4, "{problems:#?}");
    let issuer = "issuer: {url: u, client_id: a, signing_key: k, token_lifetime: 24h1s}";
    refused(&format!("{LEAST}{issuer}\n"), &["store.yaml:4:64: `token_lifetime` is longer than 24h"]);
    parse(&format!("{LEAST}{}\n", issuer.replace("24h1s", "24h"))).unwrap();
    refused(&format!("{LEAST}model: ./nothing.yaml\n"), &["store.yaml:4:8: cannot read"]);
    let tls = "tls: {certificate: nothing.pem, key: nothing.key}";
    refused(&format!("{LEAST}{tls}\n"), &["store.yaml:4:20: `/etc/portcullis/nothing.pem`"]);
}

#[test]
fn a_password_in_a_database_address_is_not_repeated() {
    let problems = parse(&LEAST.replace("sqlite://./data/store.db", "pg://u:hunter2@h/db")).map(|_| ()).unwrap_err();
    assert!(!problems.join("\n").contains("hunter2"), "{problems:?}");
}

#[test]
fn the_command_refuses_a_bad_configuration_with_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.yaml");
    std::fs::write(&file, "version: 1\n").unwrap();
    for arguments in [&["store"][..], &["store", "new-epoch"][..]] {
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis")).args(arguments).arg("--config").arg(&file).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("store.yaml:1:1"), "{output:?}");
    }
}

#[test]
fn a_store_runs_until_it_is_told_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.yaml");
    let issuer = "issuer: {url: http://store.test, client_id: client_dev, signing_key: keys/issuer.pem}";
    std::fs::write(&file, format!("{LEAST}listen: 127.0.0.1:0\n{issuer}\n")).unwrap();
    let program = env!("CARGO_BIN_EXE_portcullis");
    let mut running = Command::new(program);
    let running = running.args(["store", "--config"]).arg(&file).stderr(std::process::Stdio::piped());
    let mut running = running.spawn().unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(running.stderr.take().unwrap()));
    let line = lines.map(Result::unwrap).find(|line| line.contains("listening")).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert!(line["address"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")), "{line}");
    assert!(folder.path().join("keys/issuer.pem").exists() && folder.path().join("data/store.db").exists());
    let told = Command::new("kill").args(["-TERM", &running.id().to_string()]).status().unwrap();
    assert!(told.success());
    assert_eq!(running.wait().unwrap().code(), Some(0));
    let epoch = Command::new(program).args(["store", "new-epoch", "--config"]).arg(&file).output().unwrap();
    assert_eq!(epoch.status.code(), Some(0), "{epoch:?}");
    assert!(String::from_utf8_lossy(&epoch.stdout).contains("r1."), "{epoch:?}");
}
