use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use prometheus::IntCounter;

use super::*;
use crate::domain::{DenyReason, Epoch, TokenFault};
use crate::telemetry::Ground;

const SECOND: Duration = Duration::from_secs(1);
const ALLOWED: Outcome = Outcome::Allowed(Ground::Granted);

/// Passes on what is written.
struct Tap(Sender<Vec<u8>>);

impl Write for Tap {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A pipe that nobody reads until the test says so.
struct Blocked {
    entered: SyncSender<()>,
    opened: Receiver<()>,
}

impl Write for Blocked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.entered.try_send(());
        let _ = self.opened.recv();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn counter() -> IntCounter {
    IntCounter::new("dropped", "lines").unwrap()
}

fn entry(outcome: Outcome) -> Entry<'static> {
    Entry {
        unix_millis: 1_767_225_600_123,
        request_id: "req-1",
        client: Some(([127, 0, 0, 1], 4711).into()),
        route: Some("edit-project"),
        outcome,
        detail: None,
        status: 403,
        method: "PATCH",
        host: Some("app.test"),
        path: "/projects/42",
        user: Some("user_ada"),
        organization: Some("org_acme"),
        membership: Some("om_ada"),
        resource: None,
        revision: Some(Revision { epoch: Epoch(0xab), seq: 7 }),
        facts_age: Some(Duration::from_millis(1200)),
        duration: Duration::from_micros(345),
        upstream_status: None,
    }
}

/// What a log with these settings writes for these entries.
fn written(settings: &LogSettings, entries: &[Entry<'_>]) -> String {
    let (tap, lines) = channel();
    let sink = Sink::start(Tap(tap), 1024, counter()).unwrap();
    let log = DecisionLog::new(settings, sink.clone());
    for entry in entries {
        log.record(entry.outcome, log.sample(), || *entry);
    }
    assert!(sink.flush(10 * SECOND));
    String::from_utf8(lines.try_iter().flatten().collect()).unwrap()
}

#[test]
fn a_line_carries_what_is_needed_to_ask_why() {
    let resource = "authz_resource_1";
    let denied = Entry {
        resource: Some(resource),
        detail: Some("no role on it or above"),
        ..entry(Outcome::Denied(DenyReason::NotGranted))
    };
    assert_eq!(
        written(&LogSettings::default(), &[denied]),
        concat!(
            r#"{"time":"2026-01-01T00:00:00.123Z","outcome":"deny","reason":"not_granted","status":403,"#,
            r#""route":"edit-project","method":"PATCH","host":"app.test","path":"/projects/42","user":"user_ada","#,
            r#""organization":"org_acme","membership":"om_ada","resource":"authz_resource_1","#,
            r#""detail":"no role on it or above","revision":"r1.00000000000000ab.7","facts_age_ms":1200,"#,
            r#""duration_us":345,"request_id":"req-1","client":"127.0.0.1:4711"}"#,
            "\n"
        )
    );
    let text = LogSettings { format: Format::Text, ..LogSettings::default() };
    let expired = entry(Outcome::Denied(DenyReason::BadToken(TokenFault::Expired)));
    let line = written(&text, &[expired]);
    assert!(
        line.starts_with("time=2026-01-01T00:00:00.123Z outcome=deny reason=bad_token fault=expired status=403 "),
        "{line}"
    );
}

#[test]
fn denials_are_always_written_and_allows_by_sample() {
    let entries: Vec<_> =
        (0..200).map(|_| entry(ALLOWED)).chain([entry(Outcome::Denied(DenyReason::NoRoute))]).collect();
    for (sample_allows, expected) in [(0, 1), (1, 201), (100, 3), (u64::MAX, 2)] {
        let lines = written(&LogSettings { sample_allows, ..LogSettings::default() }, &entries);
        assert_eq!(lines.lines().count(), expected, "one in {sample_allows}");
    }
    for outcome in [Outcome::Shadowed(DenyReason::NotGranted), Outcome::Failed(DenyReason::UpstreamTimeout)] {
        let none = LogSettings { sample_allows: 0, ..LogSettings::default() };
        assert_eq!(written(&none, &[entry(outcome)]).lines().count(), 1, "{outcome:?}");
    }
}

#[test]
fn an_entry_that_is_not_written_is_not_built() {
    let sink = Sink::start(io::sink(), 1, counter()).unwrap();
    let log = DecisionLog::new(&LogSettings { sample_allows: 0, ..LogSettings::default() }, sink);
    log.record(ALLOWED, log.sample(), || panic!("built"));
}

#[test]
fn whatever_a_client_sends_a_line_stays_one_line_of_printable_text() {
    let nasty = "\"}\r\n{\"outcome\":\"allow\"\u{1b}[2J\u{9b}\u{202e}\u{0}";
    let resource = nasty;
    let denied = Entry {
        request_id: nasty,
        route: Some(nasty),
        detail: Some(nasty),
        method: nasty,
        host: Some(nasty),
        path: nasty,
        user: Some(nasty),
        organization: Some(nasty),
        membership: Some(nasty),
        resource: Some(resource),
        ..entry(Outcome::Denied(DenyReason::BadPath))
    };
    for format in [Format::Json, Format::Text] {
        let line = written(&LogSettings { format, ..LogSettings::default() }, &[denied]);
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        assert!(
            !line.trim_end().contains(|character: char| character.is_control() || character == '\u{202e}'),
            "{line:?}"
        );
    }
    let line = written(&LogSettings::default(), &[denied]);
    let read: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((read["path"].as_str(), read["outcome"].as_str()), (Some(nasty), Some("deny")));
}

#[test]
fn a_blocked_sink_costs_lines_and_never_a_request() {
    let (entered, seen) = sync_channel(1);
    let (open, opened) = channel();
    let dropped = counter();
    let sink = Sink::start(Blocked { entered, opened }, 4, dropped.clone()).unwrap();
    let log = DecisionLog::new(&LogSettings::default(), sink.clone());
    let denied = entry(Outcome::Denied(DenyReason::NoRoute));
    log.record(denied.outcome, log.sample(), || denied);
    seen.recv_timeout(10 * SECOND).unwrap();
    for _ in 0..100 {
        log.record(denied.outcome, log.sample(), || denied);
    }
    assert_eq!(dropped.get(), 96);
    assert!(!sink.flush(Duration::ZERO));
    drop(open);
    assert!(sink.flush(10 * SECOND));
}
