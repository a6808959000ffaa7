//! Many connections on which little or nothing is said: heads that drip, bodies that drip, answers that are not read, silence.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::process::{PATIENCE, Process};
use super::support::System;
use super::support::upstream::RecordingUpstream;
use super::{MIB, ROUTES};

/// A little more on each connection, over and over, as long as `while_so`.
fn drip(streams: &mut [TcpStream], while_so: impl Fn() -> bool) {
    while while_so() {
        for stream in &mut *streams {
            let _ = stream.write_all(b"x");
        }
    }
}

/// Row 32.
#[test]
fn heads_that_never_end_keep_nobody_out() {
    let process = Process::start("{head_timeout: 2s}");
    let before = process.memory();
    let mut dripping = process.connections(2000, b"GET /open HTTP/1.1\r\nHost: a\r\nX-Drip: ");
    process.serves();
    let begun = Instant::now();
    let grown = process.memory().saturating_sub(before);
    assert!(grown < 300 * MIB, "{grown} bytes for 2000 heads");
    let late = || process.metric(r#"portcullis_refused_connections_total{reason="header_timeout"}"#);
    drip(&mut dripping, || late() < 2000.0 && begun.elapsed() < Duration::from_secs(60));
    assert_eq!(late(), 2000.0);
    process.serves();
    process.until("their places are free", |process| process.metric("portcullis_connections_open") <= 1.0);
}

/// Row 33. That a single one is cut off is shown in `proxy_streams`.
#[test]
fn bodies_that_drip_keep_nobody_out() {
    let process = Process::start("{client_timeout: 8s, body_rate: 1000}");
    let before = process.memory();
    let head = b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    let mut dripping = process.connections(150, head);
    process.until("they are at work", |process| process.metric("portcullis_requests_in_flight") >= 150.0);
    process.serves();
    let grown = process.memory().saturating_sub(before);
    assert!(grown < 100 * MIB, "{grown} bytes for 150 bodies");
    let begun = Instant::now();
    let in_flight = || process.metric("portcullis_requests_in_flight");
    drip(&mut dripping, || in_flight() > 0.0 && begun.elapsed() < Duration::from_secs(60));
    assert_eq!(in_flight(), 0.0);
    process.serves();
}

/// Row 33: an answer without end waits in the sockets, not in memory.
#[test]
fn answers_that_are_not_read_keep_nobody_out() {
    let upstream = RecordingUpstream::answering(|request, stream| {
        if !request.request_line().contains("/any") {
            return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        let chunk = [&b"4000\r\n"[..], &[b'x'; 0x4000], b"\r\n"].concat();
        while stream.write_all(&chunk).is_ok() {}
        false
    });
    let builder = System::with(ROUTES).limits("{client_timeout: 2s}");
    let process = Process::of(&builder, upstream, None);
    let before = process.memory();
    let unread: Vec<TcpStream> = (0..20)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            // The sooner it is full, the sooner it counts as unread.
            socket.set_recv_buffer_size(4096).unwrap();
            socket.connect(&process.address.into()).unwrap();
            let mut stream = TcpStream::from(socket);
            stream.write_all(b"GET /any HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            stream
        })
        .collect();
    process.until("they are at work", |process| process.metric("portcullis_requests_in_flight") >= 20.0);
    process.serves();
    let grown = process.memory().saturating_sub(before);
    assert!(grown < 50 * MIB, "{grown} bytes for 20 answers");
    process.until("they are cut off", |process| process.metric("portcullis_requests_in_flight") == 0.0);
    process.serves();
    drop(unread);
}

/// Row 36.
#[test]
fn five_thousand_idle_connections_keep_nobody_out() {
    // However long it takes to open them, none of them leaves by itself.
    let process = Process::start("{connections: 4500, head_timeout: 10m}");
    let before = process.memory();
    let silent = process.connections(4500, b"");
    let mut asked = process.connections(500, b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n");
    process.until("the oldest made room", |process| {
        process.metric(r#"portcullis_refused_connections_total{reason="made_room"}"#) >= 500.0
            && process.metric("portcullis_connections_open") <= 4500.0
    });
    for stream in &mut asked {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, *b"HTTP/1.1 200");
    }
    process.serves();
    let grown = process.memory().saturating_sub(before);
    assert!(grown < 600 * MIB, "{grown} bytes for 4500 connections");
    assert_eq!(process.metric(r#"portcullis_refused_connections_total{reason="too_many"}"#), 0.0);
    drop((asked, silent));
    process.until("all are closed", |process| process.metric("portcullis_connections_open") <= 1.0);
    process.until("their sockets too", |process| process.files() < 400);
    process.serves();
}
