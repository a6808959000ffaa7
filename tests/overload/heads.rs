//! Request heads of every wrong size (row 34): refused with an answer of ours, before a token is looked at.

use super::process::Process;
use super::support::client::Connection;
use super::support::{System, alice};
use super::{MIB, ROUTES};

fn with_fields(count: usize) -> String {
    let fields: String = (0..count).map(|number| format!("x-{number}: v\r\n")).collect();
    format!("GET /me HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n{fields}\r\n", alice().sign())
}

#[test]
fn heads_that_are_too_large_in_any_way_are_refused_before_a_token_is_looked_at() {
    let system = System::with(ROUTES).start();
    let bearer = format!("Authorization: Bearer {}\r\n", alice().sign());
    let cookies = "a=b; ".repeat(10_000);
    for (name, head, status, code) in [
        ("150 fields", with_fields(150), 431, Some("headers_too_large")),
        ("257 fields", with_fields(255), 431, None),
        ("5000 fields", with_fields(5000), 431, None),
        ("a field without end", format!("GET /me HTTP/1.1\r\nHost: a\r\n{bearer}X: {}", "a".repeat(40_000)), 431, None),
        ("a path of 64 KiB", format!("GET /{} HTTP/1.1\r\nHost: a\r\n{bearer}\r\n", "a".repeat(65_536)), 431, None),
        (
            "a path of 10 KiB",
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n{bearer}\r\n", "a".repeat(10_240)),
            414,
            Some("target_too_long"),
        ),
        ("10,000 cookies", format!("GET /me HTTP/1.1\r\nHost: a\r\n{bearer}Cookie: {cookies}\r\n\r\n"), 431, None),
        ("a MiB", format!("GET /me HTTP/1.1\r\nHost: a\r\n{bearer}X: {}\r\n\r\n", "a".repeat(1 << 20)), 431, None),
    ] {
        let outcome = system.raw(&head);
        let answer = outcome.answer.unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!(answer.status, status, "{name}");
        assert!(outcome.arrived.is_empty(), "{name}");
        if let Some(code) = code {
            assert_eq!(answer.code(), code, "{name}");
        }
    }
    // The cookies may come in one piece with their end, and are parsed then.
    let unparsed = system.metric(r#"portcullis_refused_connections_total{reason="headers_too_large"}"#);
    assert!((5.0..=6.0).contains(&unparsed), "{unparsed}");
    assert_eq!(system.metric(r#"portcullis_token_cache_total{result="miss"}"#), 0.0);
    assert_eq!(system.metric(r#"portcullis_token_cache_total{result="hit"}"#), 0.0);
    // What is within the limits passes, with a body of any size behind it.
    let body = "x".repeat(200_000);
    let head = format!("POST /open HTTP/1.1\r\nHost: a\r\nX: {}\r\nContent-Length: 200000\r\n\r\n", "a".repeat(30_000));
    system.raw(format!("{head}{body}")).passed("a large head before a large body");
}

#[test]
fn heads_without_end_take_no_memory() {
    let process = Process::start("{connections: 2000}");
    let before = process.memory();
    let piece = vec![b'a'; 24 * 1024];
    let mut begun: Vec<Connection> = (0..300).map(|_| process.connect()).collect();
    // As much as each may have of a head, and then as much as each can send.
    for connection in &mut begun {
        connection.send("GET /open HTTP/1.1\r\nHost: a\r\nX: ");
        connection.send(&piece);
    }
    process.serves();
    for connection in &mut begun {
        for _ in 0..20 {
            connection.send(&piece);
        }
    }
    let refused = begun.iter_mut().filter_map(|connection| connection.answer().map(|answer| answer.status));
    assert!(refused.filter(|status| *status == 431).count() >= 290);
    let grown = process.memory().saturating_sub(before);
    assert!(grown < 80 * MIB, "{grown} bytes for 300 heads");
    process.serves();
}
