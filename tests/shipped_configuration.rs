//! The configurations that come with the program: each loads, its rule tests pass, and the annotated one is complete.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis::app::SystemClock;
use portcullis::app::offline::{self, LoadKeys};
use portcullis::config::{self, Environment};
use serde_json::Value;

const ANNOTATED: &str = "config/portcullis.yaml";

struct Nothing;

impl Environment for Nothing {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// Everything that `portcullis validate` looks at.
fn assert_good(file: &str) {
    let sidecar = config::load(&path(file), &Nothing).unwrap_or_else(|error| panic!("{error}"));
    let (rules, tests) = (sidecar.rules.clone(), sidecar.tests.clone());
    assert!(!tests.is_empty(), "{file} has no tests");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let clock = Arc::new(SystemClock);
        let offline = offline::gate(sidecar, clock.clone(), LoadKeys::Files).await.unwrap();
        for keys in &offline.keys {
            assert!(keys.keys > 0, "{file}: {keys:?}");
        }
        for test in &tests {
            let explanation = offline::run_test(&rules, test, clock.clone()).await.unwrap();
            let name = &test.name;
            match &test.expect.deny {
                None => assert_eq!(explanation.outcome, "allow", "{file}, {name}: {explanation}"),
                Some(code) => assert!(
                    explanation.outcome == "deny" && (explanation.reason == code || explanation.code == Some(code)),
                    "{file}, {name}: {explanation}"
                ),
            }
            let route = explanation.route.as_ref().map(|route| route.id.clone());
            assert!(test.expect.route.is_none() || test.expect.route == route, "{file}, {name}: {explanation}");
        }
    });
}

#[test]
fn every_shipped_configuration_passes_its_own_tests() {
    for file in [ANNOTATED, "config/quickstart/portcullis.yaml", "config/demo/portcullis.yaml"] {
        assert_good(file);
    }
}

/// The ConfigMap holds a configuration and its facts, as files of these names.
#[test]
fn the_configuration_in_the_sample_pod_loads() {
    let text = std::fs::read_to_string(path("config/kubernetes/sidecar.yaml")).unwrap();
    let map = portcullis::yaml::parse("sidecar.yaml", text.split("\n---\n").next().unwrap(), None).unwrap();
    let file = |name: &str| map.get("data").and_then(|data| data.get(name)?.as_str()).unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("facts.yaml"), file("facts.yaml")).unwrap();
    let sidecar = config::parse("portcullis.yaml", &file("portcullis.yaml"), folder.path(), &Nothing).unwrap();
    let config::Origin::File(facts) = &sidecar.facts.origin else { panic!("no facts file") };
    let facts = config::issuer::read_facts(facts).unwrap();
    assert_eq!(facts.organizations.len(), 1);
    let outside = |address: &std::net::SocketAddr| address.ip().is_unspecified();
    assert!(sidecar.status.as_ref().is_some_and(outside), "the kubelet reaches the probes");
    assert!(sidecar.listeners.iter().all(|listener| listener.address.starts_with("0.0.0.0:")));
}

/// The names of the members that the schema has at `pointer`.
fn members(schema: &Value, pointer: &str) -> Vec<String> {
    let members = schema.pointer(&format!("{pointer}/properties")).and_then(Value::as_object);
    members.unwrap_or_else(|| panic!("the schema has nothing at {pointer}")).keys().cloned().collect()
}

#[test]
fn the_annotated_configuration_mentions_every_key() {
    let schema = serde_json::to_value(config::schema()).unwrap();
    let text = std::fs::read_to_string(path(ANNOTATED)).unwrap();
    let words: Vec<&str> =
        text.split(|character: char| !character.is_alphanumeric() && !"_-".contains(character)).collect();
    let mut missing = Vec::new();
    let mut pointers = vec![String::new()];
    let definitions = schema.get("$defs").and_then(Value::as_object).unwrap();
    pointers.extend(
        definitions
            .iter()
            .filter(|(_, shape)| shape.get("properties").is_some())
            .map(|(name, _)| format!("/$defs/{name}")),
    );
    for pointer in pointers {
        let unmentioned = members(&schema, &pointer).into_iter().filter(|key| !words.contains(&key.as_str()));
        missing.extend(unmentioned.map(|key| format!("{pointer}/{key}")));
    }
    assert_eq!(missing, Vec::<String>::new(), "{ANNOTATED} does not mention these");
}

/// What the annotated configuration states as defaults, and what is in force without it.
#[test]
fn the_defaults_that_the_annotated_configuration_states_are_those_in_force() {
    let stated = config::load(&path(ANNOTATED), &Nothing).unwrap();
    let bare = "version: 1\nlisten: [{address: 127.0.0.1:8080}]\nupstreams: {app: {servers: ['127.0.0.1:3000']}}\n\
         tokens: [{name: session, issuer: 'https://api.workos.com/user_management/client_123', audience: none, \
         required_claims: [sid], jwks_file: keys/jwks.json, algorithms: [RS256]}]\n\
         facts: {source: file, file: demo/facts.yaml}\nroutes: [{id: me, match: {methods: [GET], path: /me}, authenticated: true}]\n";
    let bare = config::parse("bare.yaml", bare, &path("config"), &Nothing).unwrap();
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
    assert_eq!(text(&stated.limits), text(&bare.limits));
    assert_eq!(text(&stated.proxy), text(&bare.proxy));
    assert_eq!(text(&stated.upstreams), text(&bare.upstreams));
    assert_eq!(text(&stated.facts), text(&bare.facts));
    assert_eq!(stated.log, bare.log);
    assert_eq!((stated.token_cache_bytes, stated.threads), (bare.token_cache_bytes, bare.threads));
    let (mut stated_tokens, bare_tokens) = (stated.tokens.clone(), &bare.tokens);
    for issuer in &mut stated_tokens.issuers {
        issuer.keep.clear();
    }
    assert_eq!(text(&stated_tokens), text(&bare_tokens));
    let (stated, bare) = (stated.rules.route("me").unwrap(), bare.rules.route("me").unwrap());
    let settings = |route: &portcullis::rules::Route| {
        text(&(
            (&route.upstream, route.mode, route.conceal, route.on_stale, route.serve_until, route.max_staleness),
            (route.revocations, route.encoded_slash, route.body_limit, route.impersonation, route.max_stream_age),
        ))
    };
    assert_eq!(settings(stated), settings(bare));
}

#[test]
fn what_is_not_kept_yet_is_refused_and_not_ignored() {
    let shipped = std::fs::read_to_string(path("config/quickstart/portcullis.yaml")).unwrap();
    for (line, problem) in [
        ("defaults: {revocations: require}", "route `me`: `revocations: require` needs a source of facts"),
        ("defaults: {max_stream_age: 999ms}", "max_stream_age `999ms` is shorter than `1s`"),
        ("limits: {connections: 0}", "`connections` is 0: nothing could pass"),
        ("header_prefix: 'x y'", "`x y` is not what the name of a header can begin with"),
    ] {
        let text = format!("{shipped}{line}\n");
        let problems = config::parse("p.yaml", &text, &path("config/quickstart"), &Nothing).unwrap_err().to_string();
        assert!(problems.contains(problem), "{line}: {problems}");
    }
}
