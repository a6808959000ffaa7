//! Logging as a process sets it up: one sink for our events and for those of libraries, no noise at a client's command, no secrets.
#![expect(clippy::unwrap_used, reason = "helpers of tests stand outside of test functions")]

use std::io::{self, Write};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use portcullis::telemetry::{Build, Format, Metrics, Sink, count_panics, install};

const CANARY: &str = "eyJhbGciOiJSUzI1NiJ9.canary";

struct Tap(Sender<Vec<u8>>);

impl Write for Tap {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).unwrap();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One test, because logging is set up once in a process.
#[test]
fn events_of_ours_and_of_libraries_become_lines_and_secrets_and_noise_do_not() {
    let metrics = Metrics::new(Build { version: "", revision: "" }).unwrap();
    let (tap, lines) = channel();
    let sink = Sink::start(Tap(tap), 1024, metrics.log_lines_dropped.clone()).unwrap();
    assert!(install(Format::Json, "loud", sink.clone()).unwrap_err().to_string().contains("log level is `loud`"));
    install(Format::Json, "info", sink.clone()).unwrap();
    assert!(install(Format::Json, "info", sink.clone()).is_err(), "twice");
    count_panics(metrics.panics.clone());

    tracing::info!(revision = 7, "facts are in force");
    tracing::debug!("too detailed");
    log::warn!(target: "rustls::conn", "first line\r\n{{\"level\":\"INFO\"}}\u{1b}[2J");
    log::error!(target: "pingora_proxy::proxy_h1", "client went away");
    let _ = std::thread::spawn(|| panic!("{CANARY}")).join();
    assert!(sink.flush(Duration::from_secs(10)));

    let text = String::from_utf8(lines.try_iter().flatten().collect()).unwrap();
    let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<_> = events.iter().map(|event| event["message"].as_str().unwrap()).collect();
    assert_eq!(messages.len(), 3, "{text}");
    assert_eq!(messages[0], "facts are in force");
    assert_eq!(messages[1], "first line\\r\\n{\\\"level\\\":\\\"INFO\\\"}\\u{1b}[2J");
    assert_eq!((messages[2], events[2]["level"].as_str()), ("panic", Some("ERROR")));
    assert!(events[2]["place"].as_str().unwrap().starts_with("tests/facts_logging.rs:"), "{text}");
    assert_eq!(events[1]["source"], "rustls::conn");
    assert!(!text.contains("canary"), "{text}");
    assert_eq!(metrics.panics.get(), 1);
}
