//! Bodies that are larger than they may be, or have no end (row 35).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::process::Process;
use super::support::upstream::RecordingUpstream;
use super::support::{System, alice};
use super::{MIB, ROUTES};

fn chunked(path: &str, chunks: &[usize]) -> Vec<u8> {
    let mut bytes = format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    for length in chunks {
        bytes.extend_from_slice(format!("{length:x}\r\n").as_bytes());
        bytes.extend(std::iter::repeat_n(b'x', *length));
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

#[test]
fn a_body_has_the_size_that_its_route_allows_or_the_one_for_all() {
    let system = System::with(ROUTES).limits("{max_body: 10KiB}").start();
    for (path, length, passes) in [
        ("/open", 10_240, true),
        ("/open", 10_241, false),
        ("/small", 1024, true),
        ("/small", 1025, false),
        ("/any", 100_000, true),
    ] {
        let outcome = system.post(path).body(&"x".repeat(length)).send();
        let in_chunks = system.raw(chunked(path, &[length / 2, length - length / 2]));
        if passes {
            outcome.passed(path);
            in_chunks.passed(path);
        } else {
            outcome.refused(413, "body_too_large", path);
            let answer = in_chunks.answer.unwrap();
            assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"), "{path}");
            assert!(in_chunks.arrived.is_empty(), "{path}: no whole request");
        }
    }
    // Who may not ask is told so first.
    let body = "x".repeat(20_000);
    system.post("/me").body(&body).is_refused(401, "missing_token");
    system.post("/me").with(&alice().sign()).body(&body).is_refused(413, "body_too_large");
    let largest = format!("POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", u64::MAX);
    system.raw(largest).refused(413, "body_too_large", "the largest number there is");
}

#[test]
fn a_body_over_http2_has_the_same_limit() {
    let system =
        System::with(ROUTES).listen("{address: \"127.0.0.1:0\", h2c: true}").limits("{max_body: 10KiB}").start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let send = async |length: usize| {
        let stream = tokio::net::TcpStream::connect(system.address).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        let request = http::Request::post("http://app.test/open").body(()).unwrap();
        let exchange = async {
            let (response, mut body) = client.send_request(request, false).unwrap();
            body.send_data(vec![b'x'; length].into(), true).unwrap();
            response.await.unwrap().status().as_u16()
        };
        tokio::select! {
            status = exchange => status,
            ended = connection => panic!("the connection ended: {ended:?}"),
        }
    };
    assert_eq!(runtime.block_on(send(10_240)), 200);
    assert_eq!(runtime.block_on(send(10_241)), 413);
    system.upstream.take();
}

/// What is said on a connection that was upgraded is no body, however long it lasts.
#[test]
fn an_upgraded_connection_has_no_limit() {
    let upstream = RecordingUpstream::answering(|request, stream| {
        if request.value("upgrade").is_none() {
            return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok();
        }
        let switching = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(switching).unwrap();
        let mut said = vec![0; 100_000];
        stream.read_exact(&mut said).and_then(|()| stream.write_all(b"all of it")).is_ok()
    });
    let system = System::with(ROUTES).upstream(upstream).limits("{max_body: 1KiB}").start();
    let upgrade = system
        .get("/open")
        .field("connection", "Upgrade")
        .field("upgrade", "websocket")
        .field("sec-websocket-version", "13")
        .field("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let mut connection = system.connect();
    connection.send(upgrade.bytes());
    assert_eq!(connection.answer().unwrap().status, 101);
    connection.send(vec![b'x'; 100_000]);
    assert_eq!(connection.read_some(), b"all of it");
    system.upstream.take();
}

/// Takes what comes and says nothing.
fn swallowing() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut scratch = vec![0; 1 << 16];
                let mut tail = Vec::new();
                while let Ok(count @ 1..) = stream.read(&mut scratch) {
                    tail.extend_from_slice(&scratch[..count]);
                    // A request without a body is answered.
                    if tail.len() < 4000 && tail.ends_with(b"\r\n\r\n") {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                        tail.clear();
                    }
                    tail.truncate(4096);
                }
            });
        }
    });
    address
}

#[test]
fn a_body_without_end_passes_through_and_stays_nowhere() {
    const BYTES: usize = 200 << 20;
    let builder = System::with(ROUTES).upstreams(&format!("{{app: {{servers: [\"{}\"]}}}}", swallowing()));
    let process = Process::of(&builder, RecordingUpstream::start(), None);
    let before = process.memory();
    let mut endless = TcpStream::connect(process.address).unwrap();
    endless.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    endless.write_all(b"POST /any HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let chunk = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
    let mut most = 0;
    for number in 0..BYTES / 0x10000 {
        endless.write_all(&chunk).unwrap();
        if number % 400 == 0 {
            most = most.max(process.memory());
            process.serves();
        }
    }
    let grown = most.max(process.memory()).saturating_sub(before);
    assert!(grown < 50 * MIB, "{grown} bytes for one body");
}

#[test]
fn a_body_that_went_too_far_is_not_read_for_long() {
    let process = Process::start("{max_body: 1MiB}");
    let mut endless = TcpStream::connect(process.address).unwrap();
    endless.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    endless.write_all(b"POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let chunk = [&b"1000\r\n"[..], &[b'x'; 0x1000], b"\r\n"].concat();
    let begun = Instant::now();
    while endless.write_all(&chunk).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(15), "still read");
    }
    process.until("it is done with", |process| process.metric("portcullis_requests_in_flight") == 0.0);
    let refused = r#"portcullis_requests_total{outcome="error",reason="body_too_large",route="open"}"#;
    assert_eq!(process.metric(refused), 1.0);
    assert!(process.upstream.received().iter().all(|request| !request.request_line().starts_with("POST")));
    process.serves();
}
