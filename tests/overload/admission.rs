//! What is let in: connections, as many as descriptors allow, requests, and who has to make room.

use std::io::{Read, Write};

use super::ROUTES;
use super::process::Process;
use super::support::System;
use super::support::client::Connection;

const POST: &str = "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";

/// A connection that has had an answer.
fn kept(system: &System) -> Connection {
    let mut connection = system.connect();
    ask_again(system, &mut connection);
    connection
}

/// Has an answer on it, after which it is idle.
fn ask_again(system: &System, connection: &mut Connection) {
    let before = system.metric("portcullis_requests_in_flight");
    connection.send(system.get("/open").bytes());
    assert_eq!(connection.answer().unwrap().status, 200);
    // An answer is there before all is put away.
    system.until("it is done with", |system| system.metric("portcullis_requests_in_flight") == before);
}

/// One on which a request is being worked on.
fn busy(system: &System) -> Connection {
    let before = system.metric("portcullis_requests_in_flight");
    let mut connection = system.connect();
    connection.send(POST);
    system.until("it is at work", |system| system.metric("portcullis_requests_in_flight") > before);
    connection
}

#[test]
fn at_the_limit_the_connection_that_was_idle_for_longest_makes_room() {
    let system = System::with(ROUTES).limits("{connections: 3}").start();
    let mut busy = busy(&system);
    let (mut first, mut second) = (kept(&system), kept(&system));
    ask_again(&system, &mut first);
    let mut third = kept(&system);
    assert!(second.is_closed(), "it was idle for longest");
    busy.send("body");
    assert_eq!(busy.answer().unwrap().status, 200);
    system.until("it is done with", |system| system.metric("portcullis_requests_in_flight") == 0.0);
    for connection in [&mut first, &mut third] {
        ask_again(&system, connection);
    }
    assert_eq!(system.metric(r#"portcullis_refused_connections_total{reason="made_room"}"#), 1.0);
    system.upstream.take();
}

#[test]
fn a_connection_that_says_nothing_and_a_head_without_end_make_room_too() {
    let system = System::with(ROUTES).limits("{connections: 2}").start();
    let mut silent = system.connect();
    let mut dripping = system.connect();
    dripping.send("GET /open HTTP/1.1\r\nHost:");
    for _ in 0..2 {
        drop(kept(&system));
    }
    let (_one, _two) = (busy(&system), busy(&system));
    assert!(silent.is_closed() && dripping.is_closed());
    system.upstream.take();
}

#[test]
fn requests_beyond_the_limit_are_refused_before_anything_is_looked_at() {
    let system = System::with(ROUTES).limits("{requests: 2}").start();
    let (mut one, two) = (busy(&system), busy(&system));
    for ask in [system.get("/open"), system.get("/me"), system.get("/me").with("no token at all"), system.get("/none")]
    {
        let answer = ask.is_refused(503, "overloaded");
        assert_eq!(answer.field("retry-after"), Some("1"));
    }
    let refused = |system: &System| {
        system.metric(r#"portcullis_requests_total{outcome="deny",reason="overloaded",route="none"}"#)
    };
    system.until("they are counted", |system| refused(system) == 4.0);
    assert_eq!(system.metric(r#"portcullis_token_cache_total{result="miss"}"#), 0.0);
    // Who was there first has its answer, and the connection of one who was refused is as good as before.
    let mut patient = system.connect();
    patient.send(system.get("/open").bytes());
    assert_eq!(patient.answer().unwrap().status, 503);
    one.send("body");
    assert_eq!(one.answer().unwrap().status, 200);
    system.until("there is room", |system| system.metric("portcullis_requests_in_flight") == 1.0);
    patient.send(system.get("/open").bytes());
    assert_eq!(patient.answer().unwrap().status, 200);
    // A client that leaves gives its place back too.
    drop(two);
    system.until("it is noticed", |system| system.metric("portcullis_requests_in_flight") == 0.0);
    system.upstream.take();
}

#[test]
fn what_is_refused_or_fails_gives_its_place_back() {
    let system = System::with(ROUTES).limits("{requests: 1}").start();
    // An answer is there before all is put away.
    let done = || system.until("it is done with", |system| system.metric("portcullis_requests_in_flight") == 0.0);
    for _ in 0..5 {
        system.get("/open").passes();
        done();
        system.get("/me").is_refused(401, "missing_token");
        done();
        system.get("/open#").is_refused(400, "bad_path");
        done();
        system.post("/small").body(&"x".repeat(2000)).is_refused(413, "body_too_large");
        done();
    }
}

/// Row 36.
#[test]
fn no_more_connections_are_let_in_than_there_are_descriptors_for() {
    let process = Process::with_files("{}", 601);
    let warning = process.logged("limits.connections").unwrap();
    assert!(warning.contains("\"connections\":154") && warning.contains("\"requests\":154"), "{warning}");
    process.until("nobody is there", |process| process.metric("portcullis_connections_open") == 0.0);
    let mut busy = process.connections(300, POST.as_bytes());
    process.until("as many as fit are at work", |process| process.metric("portcullis_requests_in_flight") == 154.0);
    // Who had not asked yet may have made room for another; who has asked never does.
    let refused = |process: &Process, reason: &str| {
        process.metric(&format!(r#"portcullis_refused_connections_total{{reason="{reason}"}}"#))
    };
    process.until("the others were refused", |process| {
        refused(process, "too_many") + refused(process, "made_room") == 146.0
    });
    assert!(process.files() < 601, "{}", process.files());
    assert_eq!(process.page("/ready").status, 200);
    let mut served = 0;
    for stream in &mut busy {
        let mut answer = [0; 12];
        let sent = stream.write_all(b"body").is_ok() && stream.read_exact(&mut answer).is_ok();
        served += usize::from(sent && answer == *b"HTTP/1.1 200");
    }
    assert_eq!(served, 154, "each has its connection to the upstream");
    drop(busy);
    process.serves();
}

#[test]
fn without_descriptors_for_anybody_it_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = super::support::nowhere();
    let configuration = System::with(ROUTES).facts("{source: none}").tokens("").configuration(upstream);
    let open = "- {id: open, match: {path: /open}, public: true}";
    let configuration = configuration.replace(ROUTES, open);
    std::fs::write(folder.path().join("portcullis.yaml"), configuration).unwrap();
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 200 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_portcullis")])
        .args(["proxy", "--config", "portcullis.yaml"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("200 files open"), "{said}");
}
