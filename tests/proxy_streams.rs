//! Connections and streams: what is large passes as it comes, what is slow is bounded, what is upgraded was permitted first, and a stop
//! loses nothing that was begun.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use support::client::Connection;
use support::upstream::RecordingUpstream;
use support::{System, alice};
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};

const ROUTES: &str = r#"
- {id: open, match: {path: /open}, public: true}
- {id: me, match: {path: /me}, authenticated: true}
- {id: billing, match: {path: /billing}, require: "billing:view"}
- {id: project, match: {path: "/projects/{project}"}, require: "project:view", resource: {type: project, id: "{path.project}"}}
- {id: socket, match: {methods: [GET], path: /socket}, authenticated: true}
"#;

const PATIENCE: Duration = Duration::from_secs(20);

fn read_until(stream: &mut impl Read, end: &str) -> String {
    let mut text = String::new();
    let mut chunk = [0; 4096];
    while !text.contains(end) {
        let count = stream.read(&mut chunk).unwrap();
        assert_ne!(count, 0, "closed after {text}");
        text.push_str(&String::from_utf8_lossy(&chunk[..count]));
    }
    text
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_request_body_passes_as_it_comes() {
    let (seen, first_seen) = channel();
    let seen = Mutex::new(seen);
    let upstream = RecordingUpstream::serving(move |mut stream| {
        read_until(&mut stream, "first chunk");
        seen.lock().unwrap().send(()).unwrap();
        read_until(&mut stream, "last chunk");
        stream.write_all(OK).unwrap();
    });
    let system = System::with(ROUTES).upstream(upstream).start();
    for framing in ["Transfer-Encoding: chunked", "Content-Length: 21"] {
        let mut connection = system.connect();
        let chunk = |text: &str| match framing.contains("chunked") {
            true => format!("{:x}\r\n{text}\r\n", text.len()),
            false => text.to_owned(),
        };
        connection.send(format!("POST /open HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{}", chunk("first chunk")));
        first_seen
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("the first chunk arrives only after the last was sent"));
        connection.send(chunk("last chunk"));
        if framing.contains("chunked") {
            connection.send("0\r\n\r\n");
        }
        assert_eq!(connection.answer().unwrap().status, 200, "{framing}");
    }
}

#[test]
fn an_answer_passes_as_it_comes() {
    let (go_on, may_go_on): (Sender<()>, Receiver<()>) = channel();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = RecordingUpstream::answering(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").unwrap();
        may_go_on.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        stream.write_all(b"4\r\nlast\r\n0\r\n\r\n").is_ok()
    });
    let system = System::with(ROUTES).upstream(upstream).start();
    let mut connection = system.connect();
    connection.send(system.get("/open").bytes());
    let mut text = String::new();
    while !text.contains("first") {
        text.push_str(&String::from_utf8_lossy(&connection.read_some()));
    }
    assert!(!text.contains("last"));
    go_on.send(()).unwrap();
    while !text.contains("last") {
        text.push_str(&String::from_utf8_lossy(&connection.read_some()));
    }
    assert_eq!(system.upstream.take().len(), 1);
}

#[test]
fn large_bodies_pass_whole_in_both_directions() {
    const BYTES: usize = 8 * 1024 * 1024;
    let upstream = RecordingUpstream::answering(|request, stream| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.body.len());
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&request.body)).is_ok()
    });
    let system = System::with(ROUTES).upstream(upstream).start();
    let body: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
    let mut connection = system.connect();
    connection.send(format!(
        "POST /me HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Length: {BYTES}\r\n\r\n",
        alice().sign()
    ));
    connection.send(&body);
    let answer = connection.answer().unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.body == body, "the body came back changed");
    assert!(system.upstream.take()[0].body == body, "the body arrived changed");
}

/// Fault row 34: neither its connection nor the upstream's is held for as long as it likes.
#[test]
fn a_client_that_does_not_read_its_answer_is_cut_off() {
    let upstream = RecordingUpstream::answering(|_, stream| {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunk = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
        stream.write_all(head).unwrap();
        while stream.write_all(&chunk).is_ok() {}
        false
    });
    let system = System::with(ROUTES).upstream(upstream).limits("{client_timeout: 1s}").start();
    let mut connection = system.connect();
    connection.send(format!("GET /me HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n", alice().sign()));
    system.until("it was cut off", |system| {
        system.metric(r#"portcullis_requests_total{outcome="error",reason="timeout",route="me"}"#) == 1.0
    });
    system.until("its place is free", |system| system.metric("portcullis_streams_open") == 0.0);
    drop(connection);
    system.upstream.take();
}

/// Fault row 32: each byte comes in time, and the whole would take hours.
#[test]
fn a_body_that_drips_is_cut_off_and_a_conversation_is_not() {
    let system = System::with(ROUTES).limits("{client_timeout: 1s, body_rate: 1000}").start();
    let (_never, wait) = std::sync::mpsc::channel::<()>();
    let drip = |kind: &str, drops: usize| {
        let mut connection = system.connect();
        connection.send(format!(
            "POST /me HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Type: {kind}\r\nContent-Length: 60\r\n\r\n",
            alice().sign()
        ));
        for _ in 0..drops {
            // Fails once it was cut off.
            let _ = std::io::Write::write_all(&mut connection.stream(), b"x");
            let _ = wait.recv_timeout(std::time::Duration::from_millis(50));
        }
        connection.answer().map(|answer| answer.status)
    };
    assert_eq!(drip("text/plain", 40), Some(408));
    assert_eq!(drip("application/grpc", 60), Some(200));
    system.upstream.take();
}

#[test]
fn a_refused_upload_is_answered_while_it_is_sent() {
    let system = System::with(ROUTES).start();
    let mut connection = system.connect();
    connection.send(format!("POST /me HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 1 << 30));
    connection.send(vec![b'x'; 512 * 1024]);
    let answer = connection.answer().unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (401, "missing_token"));
    assert!(connection.is_closed(), "the rest is not waited for");
    assert!(system.upstream.take().is_empty());
}

#[test]
fn connections_to_the_upstream_are_used_again() {
    let peers = Arc::<Mutex<BTreeSet<SocketAddr>>>::default();
    let seen = Arc::clone(&peers);
    let upstream = RecordingUpstream::answering(move |_, stream| {
        seen.lock().unwrap().insert(stream.peer_addr().unwrap());
        stream.write_all(OK).is_ok()
    });
    let system = System::with(ROUTES).upstream(upstream).start();
    for _ in 0..10 {
        system.get("/open").passes();
        system.get("/me").with(&alice().sign()).passes();
        system.get("/me").is_refused(401, "missing_token");
    }
    let connections = peers.lock().unwrap().len();
    assert!(connections <= 3, "{connections} connections for 20 requests, one after the other");
}

#[test]
fn a_pooled_connection_that_died_costs_nobody_a_safe_request() {
    let turn = AtomicUsize::new(0);
    let upstream = RecordingUpstream::answering(move |_, stream| {
        // Every answer promises a further one; every second connection is closed all the same.
        stream.write_all(OK).is_ok() && turn.fetch_add(1, Ordering::SeqCst).is_multiple_of(2)
    });
    let system = System::with(ROUTES).upstream(upstream).start();
    for _ in 0..10 {
        let outcome = system.get("/open").send();
        assert_eq!(outcome.answer.unwrap().status, 200);
    }
}

/// A WebSocket server that echoes, and how many connections it got.
fn echo_server() -> (RecordingUpstream, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let upstream = RecordingUpstream::serving(move |wire| {
        count.fetch_add(1, Ordering::SeqCst);
        let Ok(mut socket) = tokio_tungstenite::tungstenite::accept(wire) else { return };
        while let Ok(message) = socket.read() {
            if message.is_text() && socket.send(message).is_err() {
                break;
            }
        }
    });
    (upstream, connections)
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn handshake(token: Option<&str>) -> http::Request<()> {
    let mut request = http::Request::get("ws://app.test/socket")
        .header("host", "app.test")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(()).unwrap()
}

#[test]
fn a_websocket_opens_after_a_permit_and_not_without_one() {
    let (upstream, connections) = echo_server();
    let system = System::with(ROUTES).upstream(upstream).start();
    block_on(async {
        let token = alice().sign();
        for refused in [None, Some("x.y.z")] {
            let stream = tokio::net::TcpStream::connect(system.address).await.unwrap();
            let error = tokio_tungstenite::client_async(handshake(refused), stream).await.unwrap_err();
            let WebSocketError::Http(response) = error else { panic!("{error}") };
            assert_eq!(response.status(), 401);
        }
        assert_eq!(connections.load(Ordering::SeqCst), 0, "nothing reached the upstream");
        let stream = tokio::net::TcpStream::connect(system.address).await.unwrap();
        let (mut socket, response) = tokio_tungstenite::client_async(handshake(Some(&token)), stream).await.unwrap();
        assert!(response.headers().contains_key("x-request-id"));
        for text in ["one", "two", &"three".repeat(50_000)] {
            socket.send(Message::text(text)).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap().to_text().unwrap(), text);
        }
        socket.close(None).await.unwrap();
    });
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[test]
fn f5_an_upgrade_that_is_answered_at_once_stays_open() {
    let upstream = RecordingUpstream::answering(|_, stream| {
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nwelcome";
        stream.write_all(answer.as_bytes()).unwrap();
        let mut chunk = [0; 16];
        while let Ok(count @ 1..) = stream.read(&mut chunk) {
            stream.write_all(&chunk[..count]).unwrap();
        }
        false
    });
    let system = System::with(ROUTES).upstream(upstream).start();
    let ask = system.get("/socket").with(&alice().sign()).field("connection", "upgrade").field("upgrade", "websocket");
    #[expect(clippy::disallowed_methods, reason = "how often is for whoever runs the tests to say")]
    let rounds = std::env::var("PORTCULLIS_TUNNELS").map_or(100, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let mut connection = system.connect();
        connection.send(ask.bytes());
        assert_eq!(connection.answer().unwrap().status, 101);
        let mut received = Vec::new();
        for (sent, expected) in [("", "welcome"), ("one", "welcomeone"), ("two", "welcomeonetwo")] {
            connection.send(sent);
            while received.len() < expected.len() {
                let some = connection.read_some();
                assert!(!some.is_empty(), "closed in round {round} after {:?}", String::from_utf8_lossy(&received));
                received.extend(some);
            }
            assert_eq!(String::from_utf8_lossy(&received), expected);
        }
    }
    assert_eq!(system.upstream.take().len(), rounds);
}

#[test]
fn f1_what_is_pipelined_behind_an_upgrade_never_arrives_unjudged() {
    let upgrade = |token: &str| {
        format!(
            "GET /socket HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    };
    let smuggled = "GET /billing HTTP/1.1\r\nHost: a\r\nX-Smuggled: yes\r\n\r\n";
    for status in ["200 OK", "400 Bad Request", "426 Upgrade Required"] {
        let upstream = RecordingUpstream::answering(move |_, stream| {
            stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).is_ok()
        });
        let system = System::with(ROUTES).upstream(upstream).start();
        // Refused by the upstream, and refused by us.
        for token in [alice().sign(), "x.y.z".to_owned()] {
            let mut connection = system.connect();
            connection.send(format!("{}{smuggled}", upgrade(&token)));
            connection.answer().unwrap();
            let second = connection.answer();
            assert!(second.is_none_or(|answer| matches!(answer.status, 400 | 401)), "{status}");
            let arrived = system.upstream.take();
            assert!(arrived.iter().all(|request| request.target() == "/socket"), "{arrived:?}");
            assert!(arrived.len() <= 1 && arrived.iter().all(|request| request.body.is_empty()), "{arrived:?}");
        }
    }
    // Another protocol than WebSocket is not switched to.
    let system = System::with(ROUTES).start();
    let received = system
        .get("/open")
        .field("connection", "Upgrade, HTTP2-Settings")
        .field("upgrade", "h2c")
        .field("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA")
        .passes();
    assert_eq!((received.value("upgrade"), received.value("http2-settings")), (None, None));
}

/// Answers over HTTP/2: status, fields, body.
struct Http2Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Vec<u8>,
}

async fn over_http2(system: &System, requests: Vec<http::Request<()>>) -> Vec<Http2Answer> {
    let stream = tokio::net::TcpStream::connect(system.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let exchange = async {
        let mut answers = Vec::new();
        let mut pending = Vec::new();
        for request in requests {
            client = client.ready().await.unwrap();
            pending.push(client.send_request(request, true).unwrap().0);
        }
        for response in pending {
            let (parts, mut stream) = response.await.unwrap().into_parts();
            let mut body = Vec::new();
            while let Some(chunk) = stream.data().await {
                let chunk: Bytes = chunk.unwrap();
                let _ = stream.flow_control().release_capacity(chunk.len());
                body.extend_from_slice(&chunk);
            }
            answers.push(Http2Answer { status: parts.status.as_u16(), headers: parts.headers, body });
        }
        answers
    };
    tokio::select! {
        answers = exchange => answers,
        ended = connection => panic!("the connection ended: {ended:?}"),
    }
}

#[test]
fn http2_without_tls_is_judged_like_any_other_request() {
    let system = System::with(ROUTES).listen("{address: \"127.0.0.1:0\", h2c: true}").start();
    let token = alice().sign();
    let get = |url: &str| http::Request::get(format!("http://app.test{url}"));
    let with = |url: &str| get(url).header("authorization", format!("Bearer {token}"));
    let rows = [
        (get("/open").body(()), 200, ""),
        (with("/me").header("x-portcullis-user", "forged").body(()), 200, ""),
        (get("/me").body(()), 401, "missing_token"),
        (with("/billing").body(()), 403, "not_granted"),
        (with("/projects/42").body(()), 200, ""),
        (get("/open/../me").body(()), 400, "bad_path"),
        (get("//open").body(()), 400, "bad_path"),
        (get("/open%2f").body(()), 400, "bad_path"),
        (get("/open").header("host", "other.test").body(()), 400, ""),
        (with("/me").header("authorization", "Bearer x").body(()), 400, "ambiguous_credentials"),
        (get("/nothing").body(()), 403, "no_route"),
    ];
    let requests = rows.iter().map(|(request, ..)| request.as_ref().unwrap().clone()).collect();
    let answers = block_on(over_http2(&system, requests));
    for ((request, status, code), answer) in rows.iter().zip(&answers) {
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let told = (answer.status, problem["code"].as_str().unwrap_or_default());
        assert_eq!(told, (*status, *code), "{:?}", request.as_ref().unwrap().uri());
        // Two hosts are refused by the parser.
        assert!(answer.headers.contains_key("x-request-id") || answer.status == 400);
    }
    let mut arrived = system.upstream.take();
    arrived.sort_by_key(support::upstream::Received::target);
    let lines: Vec<String> = arrived.iter().map(support::upstream::Received::request_line).collect();
    assert_eq!(lines, ["GET /me HTTP/1.1", "GET /open HTTP/1.1", "GET /projects/42 HTTP/1.1"]);
    assert_eq!(arrived[0].value("host").as_deref(), Some("app.test"));
    assert_eq!(arrived[0].value("x-portcullis-user").as_deref(), Some("user_alice"));

    let call = http::Request::post("http://app.test/billing")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let answers = block_on(over_http2(&system, vec![call.body(()).unwrap()]));
    assert_eq!((answers[0].status, answers[0].headers["grpc-status"].to_str().unwrap()), (200, "16"));
    // HTTP/1.1 is spoken on the same port.
    system.get("/open").passes();
}

#[test]
fn http2_is_spoken_only_where_it_is_configured() {
    let system = System::with(ROUTES).start();
    let mut connection = system.connect();
    connection.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let answer = connection.answer();
    assert!(answer.is_none_or(|answer| matches!(answer.status, 400 | 405)));
    assert!(system.upstream.take().is_empty());
}

/// Bytes one after the other, a moment between two. Whether all could be sent.
fn drip(connection: &Connection, bytes: &[u8], moment: Duration) -> bool {
    let mut stream = connection.stream();
    let (_never, wait) = channel::<()>();
    for byte in bytes {
        if stream.write_all(&[*byte]).is_err() {
            return false;
        }
        let _ = wait.recv_timeout(moment);
    }
    true
}

#[test]
fn a_head_that_does_not_come_in_time_is_408() {
    let system = System::with(ROUTES).limits("{head_timeout: 400ms}").start();
    let half = b"GET /open HTTP/1.1\r\nHost: a\r\n";
    let mut silent = system.connect();
    let mut slow = system.connect();
    slow.send(half);
    for connection in [&mut silent, &mut slow] {
        assert_eq!(connection.answer().unwrap().status, 408);
        assert!(connection.is_closed());
    }
    // Every single read is fast enough; the head as a whole is not.
    let mut dripping = system.connect();
    assert!(!drip(&dripping, &half.repeat(40), Duration::from_millis(20)), "it was not cut off");
    assert!(dripping.answer().is_none_or(|answer| answer.status == 408));
    assert!(system.upstream.take().is_empty());
    let counted = r#"portcullis_refused_connections_total{reason="header_timeout"}"#;
    assert_eq!(system.metric(counted), 3.0);
}

#[test]
fn a_head_that_comes_slowly_and_in_time_is_served_and_the_next_one_has_its_own() {
    // Far more than it takes, also on a machine that has no time.
    let system = System::with(ROUTES).limits("{head_timeout: 5s}").start();
    let mut timely = system.connect();
    assert!(drip(&timely, b"GET /open", Duration::from_millis(5)));
    timely.send(" HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(timely.answer().unwrap().status, 200);
    // The second head of a connection has a deadline, too.
    timely.send("GET /open HTTP/1.1\r\nHost: a\r\n");
    assert_eq!(timely.answer().unwrap().status, 408);
    assert_eq!(system.upstream.take().len(), 1);
    assert_eq!(system.metric(r#"portcullis_refused_connections_total{reason="header_timeout"}"#), 1.0);
}

/// Whether the connection stays open, and silent, for `time`.
fn stays_open(mut stream: &TcpStream, time: Duration) -> bool {
    stream.set_read_timeout(Some(time)).unwrap();
    let read = stream.read(&mut [0; 1]);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    read.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
fn an_idle_connection_has_no_head_to_be_late_with() {
    let system = System::with(ROUTES).limits("{head_timeout: 1s}").start();
    let mut connection = system.connect();
    connection.send(system.get("/open").bytes());
    assert_eq!(connection.answer().unwrap().status, 200);
    assert!(stays_open(connection.stream(), Duration::from_millis(1500)));
    // Nor is the rest of a refused request one.
    connection.send("POST /me HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    assert_eq!(connection.answer().unwrap().status, 401);
    connection.send("0123456789");
    assert!(stays_open(connection.stream(), Duration::from_millis(1500)));
    connection.send(system.get("/open").bytes());
    assert_eq!(connection.answer().unwrap().status, 200);
    assert_eq!(system.upstream.take().len(), 2);
    assert_eq!(system.metric(r#"portcullis_refused_connections_total{reason="header_timeout"}"#), 0.0);
    assert_eq!(system.metric(r#"portcullis_refused_connections_total{reason="malformed"}"#), 0.0);
}

#[test]
fn connections_are_counted_and_one_too_many_is_closed() {
    let system = System::with(ROUTES).limits("{connections: 2}").start();
    let held: Vec<Connection> = (0..2)
        .map(|_| {
            let mut connection = system.connect();
            connection.send("POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n");
            connection
        })
        .collect();
    system.until("both are at work", |system| system.metric("portcullis_requests_in_flight") == 2.0);
    let outcome = system.get("/open").send();
    assert!(outcome.answer.is_none() && outcome.arrived.is_empty());
    assert_eq!(system.metric(r#"portcullis_refused_connections_total{reason="too_many"}"#), 1.0);
    drop(held);
    system.until("there is room again", |system| system.get("/open").send().answer.is_some());
}

#[test]
fn a_connection_ends_after_as_many_requests_as_configured() {
    let system = System::with(ROUTES).limits("{requests_per_connection: 3}").start();
    let mut connection = system.connect();
    for _ in 0..3 {
        connection.send(system.get("/open").bytes());
        assert_eq!(connection.answer().unwrap().status, 200);
    }
    assert!(connection.is_closed());
    assert_eq!(system.upstream.take().len(), 3);
}

#[test]
fn a_stop_lets_what_was_begun_finish() {
    let (go_on, may_go_on): (Sender<()>, Receiver<()>) = channel();
    let (begun, has_begun) = channel();
    let (may_go_on, begun) = (Mutex::new(may_go_on), Mutex::new(begun));
    let upstream = RecordingUpstream::answering(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfirst").unwrap();
        begun.lock().unwrap().send(()).unwrap();
        may_go_on.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        stream.write_all(b"last").is_ok()
    });
    // Neither ends while this test takes its time.
    let (patient, limits) = ("connect_timeout: 1s, read_timeout: 60s", "{shutdown_timeout: 60s}");
    let mut system = System::with(ROUTES).upstream(upstream).upstream_options(patient).limits(limits).start();
    let mut connection = system.connect();
    connection.send(system.get("/open").bytes());
    has_begun.recv_timeout(PATIENCE).unwrap();
    let asked = Instant::now();
    system.stop().now();
    system.until("no new connection is taken", |system| match TcpStream::connect(system.address) {
        // Whoever is in time is served, and waited for.
        Ok(stream) => !stays_open(&stream, Duration::from_millis(50)),
        Err(_) => true,
    });
    go_on.send(()).unwrap();
    let answer = connection.answer().unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.body), "firstlast");
    drop(connection);
    system.ended();
    assert!(
        asked.elapsed() < Duration::from_secs(55),
        "it does not wait for its time to run out: {:?}",
        asked.elapsed()
    );
    assert_eq!(system.upstream.take().len(), 1);
}
