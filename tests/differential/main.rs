//! However an upstream reads what the sidecar forwards, it reads what was permitted: generated targets, hosts, fields and framings through
//! a whole sidecar to servers that others have written (hyper, Node's `http`, Python's `http.server`, nginx). Each tells how it read the
//! request; a judge looks that up in the same rules, and no rule found there may ask for more than the one that permitted the request.
//!
//! `PORTCULLIS_REQUESTS` says how many requests for each server, `PORTCULLIS_REQUESTS_SEED` which. Servers that are not installed are
//! reported as skipped; the gate installs them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and says what it skipped"
)]

mod bodies;
mod identity;
mod judge;
mod parsers;
mod requests;
mod rules;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use portcullis::config::{self, ProcessEnvironment};
use portcullis::rules::RouteTable;
use rand::SeedableRng;
use rand::rngs::StdRng;

use self::parsers::{PATIENCE, Parser, Reading};
use self::requests::{Request, Requests};
use self::support::client::{Answer, Connection};
use self::support::{System, alice};

/// Unless something else is said: what a plain `cargo test` has time for.
const REQUESTS: usize = 300;

/// Rules that stand side by side.
const PAIRS: usize = 24;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// The rules of a running sidecar.
fn table(system: &System) -> RouteTable {
    config::load(&system.config_file(), &ProcessEnvironment).unwrap_or_else(|error| panic!("{error}")).rules
}

/// The answer to it, on a connection of its own.
fn answer(system: &System, request: &Request) -> Option<Answer> {
    let mut connection = Connection::open(system.address);
    connection.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    connection.send(&request.bytes);
    let mut answer = if request.is_head { connection.answer_to_head() } else { connection.answer() };
    while answer.as_ref().is_some_and(|answer| answer.status == 100) {
        answer = connection.answer();
    }
    answer
}

#[test]
fn hyper_reads_a_permitted_request_as_none_that_asks_for_more() {
    compare("hyper");
}

#[test]
fn node_reads_a_permitted_request_as_none_that_asks_for_more() {
    compare("node");
}

#[test]
fn python_reads_a_permitted_request_as_none_that_asks_for_more() {
    compare("python");
}

#[test]
fn nginx_reads_a_permitted_request_as_none_that_asks_for_more() {
    compare("nginx");
}

fn compare(name: &'static str) {
    let Some(parser) = Parser::start(name) else { return };
    let (count, seed) = (number("PORTCULLIS_REQUESTS"), number("PORTCULLIS_REQUESTS_SEED").unwrap_or(1));
    let count = count.map_or(REQUESTS, |count| usize::try_from(count).unwrap());
    let pairs = rules::pairs(&mut StdRng::seed_from_u64(seed), PAIRS);
    let text: String = pairs.iter().map(|pair| pair.rules.as_str()).collect();
    let system = System::with(&text).upstream(parser.recorded()).start();
    let table = table(&system);
    let mut requests = Requests::new(seed, &pairs, alice().sign());
    let (mut compared, mut statuses) = (0, BTreeMap::<u16, usize>::new());
    for _ in 0..count {
        let request = requests.next();
        let printed = String::from_utf8_lossy(&request.bytes).into_owned();
        let Some(answer) = answer(&system, &request) else { continue };
        *statuses.entry(answer.status).or_default() += 1;
        let Some(reading) = Reading::of(&answer) else {
            assert!(answer.status >= 400, "{}: answered, and not read: {answer:?} to\n{printed}", parser.name);
            continue;
        };
        compared += 1;
        let faults = judge::faults(&table, &reading);
        assert!(faults.is_empty(), "{}: {faults:?}: {reading:?} of\n{printed}", parser.name);
        assert_eq!(answer.field("x-request-id"), Some(&*reading.id), "{}: another's answer to\n{printed}", parser.name);
        if let (Some(sent), Some(read)) = (&request.body, &reading.body) {
            assert_eq!(sent, read, "{}: another body of\n{printed}", parser.name);
        }
    }
    eprintln!("{}: {count} requests, {compared} permitted and read; answers: {statuses:?}", parser.name);
    assert!(compared * 10 >= count, "{}: only {compared} of {count} were permitted", parser.name);
    assert!(statuses.len() >= 4, "the changes lead to few answers: {statuses:?}");
}

/// A rule that lets `%2F` pass is for an upstream that keeps it; these do not, and the judge has to say so.
#[test]
fn the_judge_sees_an_upstream_that_reads_otherwise() {
    const RULES: &str = r#"
- {id: object, match: {path: "/objects/{key}"}, public: true, encoded_slash: allow}
- {id: secret, match: {path: "/objects/{key}/secret"}, require: "org:manage"}
"#;
    for parser in ["hyper", "node", "python", "nginx"].into_iter().filter_map(Parser::start) {
        let system = System::with(RULES).upstream(parser.recorded()).start();
        let table = table(&system);
        let faults = |target: &str| {
            let bytes = format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n").into_bytes();
            let answer = answer(&system, &Request { bytes, body: None, is_head: false }).unwrap();
            judge::faults(&table, &Reading::of(&answer).unwrap())
        };
        assert_eq!(faults("/objects/a"), Vec::<String>::new(), "{}", parser.name);
        let found = faults("/objects/a%2fsecret");
        assert!(found.iter().any(|fault| fault.contains("covered by secret")), "{}: {found:?}", parser.name);
    }
}

/// As if the canonical form let something through.
#[test]
fn the_judge_sees_what_a_broken_canonical_form_would_let_pass() {
    let pairs = rules::pairs(&mut StdRng::seed_from_u64(1), PAIRS);
    let text: String = pairs.iter().map(|pair| pair.rules.as_str()).collect();
    let system = System::with(&text).start();
    let table = table(&system);
    let mut seen = 0;
    for (number, pair) in pairs.iter().enumerate().filter(|(_, pair)| pair.open != pair.closed) {
        let reading = |path: String| Reading {
            id: "1".to_owned(),
            route: format!("open-{number}"),
            method: "GET".to_owned(),
            host: "api.test".to_owned(),
            paths: vec![path],
            body: None,
            value: None,
        };
        let up = "/..".repeat(pair.open.matches('/').count());
        assert_eq!(judge::faults(&table, &reading(pair.open.clone())), Vec::<String>::new());
        for trick in [
            format!("{}{up}{}", pair.open, pair.closed),
            format!("{}{}{}", pair.open, up.replace('.', "%2e"), pair.closed),
            format!("{}{}{}", pair.open, up.replace('.', "%252e"), pair.closed),
            format!("{}{}{}", pair.open, up.replace('/', "%5c"), pair.closed),
            format!("/{}", pair.closed),
            format!("{};x=y", pair.closed),
            format!("{}%00{}", pair.closed, pair.open),
        ] {
            assert!(!judge::faults(&table, &reading(trick.clone())).is_empty(), "{trick}");
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
}
