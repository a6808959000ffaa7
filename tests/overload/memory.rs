//! Memory near its limit (row 67): what can be done without goes first, then new requests, then new connections; and all of it comes back.

use std::sync::mpsc::channel;
use std::time::Duration;

use super::ROUTES;
use super::process::Process;
use super::support::System;
use super::support::client::Connection;
use super::support::upstream::RecordingUpstream;

const OPEN: &str = "GET /open HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn as_memory_runs_short_work_is_refused_by_steps_and_let_in_again() {
    let usual = Process::start("{}").memory();
    let limit = usual + (150 << 20);
    let limits = format!("{{memory: {limit}, head: 1000KiB, head_timeout: 5m, requests: 5000}}");
    let process = Process::of(&System::with(ROUTES).limits(&limits), RecordingUpstream::start(), None);
    let mut kept = process.connect();
    kept.send(OPEN);
    assert_eq!(kept.answer().unwrap().field("connection"), Some("keep-alive"));

    // Each holds most of a MiB, for a head that does not come to its end.
    let mut held = Vec::<Connection>::new();
    let piece = vec![b'a'; 900 << 10];
    let (mut closing, mut refused) = (0, 0);
    let (_never, pause) = channel::<()>();
    while refused == 0 {
        if process.memory() > limit / 100 * 75 {
            // No step is passed over between two looks, however fast this machine is.
            let _ = pause.recv_timeout(Duration::from_millis(300));
        }
        assert!(held.len() < 600, "never refused, with {} bytes of {limit}", process.memory());
        let mut connection = process.connect();
        connection.send("GET /open HTTP/1.1\r\nHost: a\r\nX: ");
        connection.send(&piece);
        held.push(connection);
        if let Some(answer) = process.ask(OPEN) {
            if answer.status == 503 {
                assert_eq!((answer.code().as_str(), answer.field("retry-after")), ("overloaded", Some("1")));
                refused += 1;
            } else {
                closing += usize::from(answer.field("connection") == Some("close"));
            }
        }
        assert_eq!(process.page("/ready").status, 200);
    }
    assert!(closing > 0, "connections are let go of before requests are refused");
    assert!(process.logged("memory is short").is_some());

    // Further connections are closed before they take what is left.
    let shut = |process: &Process| process.metric(r#"portcullis_refused_connections_total{reason="too_many"}"#) > 0.0;
    while !shut(&process) {
        assert!(held.len() < 800, "never shut, with {} bytes of {limit}", process.memory());
        let mut connection = process.connect();
        connection.send("GET /open HTTP/1.1\r\nHost: a\r\nX: ");
        connection.send(&piece);
        held.push(connection);
    }
    assert!(process.memory() < limit + limit / 5, "{} of {limit}", process.memory());
    drop(held);
    process.until("there is memory again", |process| process.ask(OPEN).is_some_and(|answer| answer.status == 200));
    process.serves();
}
