//! Where a request ends: whatever a client writes about that, the upstream reads one request, the one that was judged, or none. And whatever
//! an upstream answers, and when, the next request is not mixed up with it (bypass cases F1, F2, E8; fault rows 31 and 38).
//!
//! The recorder reads what arrives by the book, and fails these tests when it finds anything else than requests, each once.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::client::Connection;
use support::upstream::{RecordingUpstream, Wire};
use support::{System, alice};

const ROUTES: &str = r#"
- {id: open, match: {path: "/open/{name}"}, public: true}
- {id: me, match: {path: /me}, authenticated: true}
"#;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What somebody reads who takes the request before it for shorter.
const BEHIND: &str = "GET /me HTTP/1.1\r\nHost: a\r\n\r\n";

fn system() -> System {
    System::with(ROUTES).limits("{client_timeout: 1s}").start()
}

/// Sends these bytes and a request behind them; the contents of the bodies that arrived, and that nothing arrived from behind.
#[track_caller]
fn arrives(system: &System, bytes: &[u8], trick: &str) -> Vec<Vec<u8>> {
    let mut connection = system.connect();
    connection.stream().set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    connection.send([bytes, BEHIND.as_bytes()].concat());
    let answer = connection.answer();
    let second = answer.and_then(|_| connection.answer());
    assert!(second.is_none_or(|answer| answer.status >= 400), "{trick}: what is behind it was permitted");
    contents(system, trick)
}

/// As [`arrives`], with nothing behind.
#[track_caller]
fn arrives_alone(system: &System, bytes: &[u8], trick: &str) -> Vec<Vec<u8>> {
    let mut connection = system.connect();
    connection.send(bytes);
    assert_eq!(connection.answer().map(|answer| answer.status), Some(200), "{trick}");
    contents(system, trick)
}

#[track_caller]
fn contents(system: &System, trick: &str) -> Vec<Vec<u8>> {
    let arrived = system.upstream.take();
    assert!(arrived.len() <= 1, "{trick}: {arrived:?}");
    for received in &arrived {
        assert_eq!(received.target(), "/open/post", "{trick}");
    }
    arrived.iter().map(support::upstream::Received::content).collect()
}

#[test]
fn row_38_lines_that_end_in_a_line_feed_alone_make_one_request_or_none() {
    let system = system();
    let rows = [
        ("POST /open/post HTTP/1.1\nHost: a\nContent-Length: 3\n\nabc", "all of them"),
        ("POST /open/post HTTP/1.1\r\nHost: a\nContent-Length: 3\r\n\r\nabc", "one of them"),
        ("POST /open/post HTTP/1.1\r\nHost: a\r\nContent-Length: 3\n\r\nabc", "the last field"),
        ("POST /open/post HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\nabc", "the blank line"),
        ("POST /open/post HTTP/1.1\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "the request line"),
        ("POST /open/post HTTP/1.1\r\nHost: a\r\nX: y\nContent-Length: 3\r\n\r\nabc", "in front of the length"),
        (
            "POST /open/post HTTP/1.1\r\nHost: a\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "in front of the coding",
        ),
        ("\nPOST /open/post HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "a line feed first"),
        ("\r\n\r\nPOST /open/post HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "blank lines first"),
    ];
    for (bytes, trick) in rows {
        for content in arrives(&system, bytes.as_bytes(), trick) {
            assert_eq!(content, b"abc", "{trick}");
        }
    }
    let rows = [
        ("POST /open/post HTTP/1.1\rHost: a\rContent-Length: 3\r\rabc", "carriage returns alone"),
        ("POST /open/post HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\r\n\r\nabc", "two carriage returns"),
        ("POST /open/post HTTP/1.1\r\nHost: a\r\nX: y\rContent-Length: 3\r\n\r\nabc", "a carriage return inside"),
        ("POST /open/post HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\x0b\r\n\r\nabc", "a vertical tab"),
        ("POST /open/post HTTP/1.1\r\nHost: a\r\nContent-Length\r\n : 3\r\n\r\nabc", "a name on two lines"),
        ("POST /open/post HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n 3\r\n\r\nabc", "a value on two lines"),
        ("POST /open/post HTTP/1.1\r\n Host: a\r\nContent-Length: 3\r\n\r\nabc", "a fold before any field"),
        ("POST  /open/post HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "two spaces"),
        ("POST\t/open/post\tHTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "tabs"),
        ("POST /open/post HTTP/1.1 \r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "a space at the end"),
        ("POST /open/post HTTP/1.10\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "a version that is none"),
        ("POST /open/post http/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "a version in lower case"),
        ("POST /open/post HTTP/2.0\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "another version"),
        ("POST /open/post\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "no version"),
        (
            "POST /open/post HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "chunks in HTTP/1.0",
        ),
    ];
    for (bytes, trick) in rows {
        assert!(arrives(&system, bytes.as_bytes(), trick).is_empty(), "{trick}");
    }
    system.get("/open/x").passes();
}

/// A body in chunks as they stand, and what of it may arrive: this content, or nothing at all.
#[test]
fn row_38_a_chunk_has_one_size() {
    let system = system();
    let chunked =
        |body: &str| format!("POST /open/post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let long = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(3000));
    for (body, trick) in [
        ("3\r\nabc\r\n0\r\n\r\n", "plain"),
        ("003\r\nabc\r\n0\r\n\r\n", "leading zeros"),
        ("00000000000000003\r\nabc\r\n0\r\n\r\n", "many leading zeros"),
        ("3\r\nabc\r\n000\r\n\r\n", "zeros at the end"),
        ("1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "two chunks"),
        ("3;x=y\r\nabc\r\n0;z\r\n\r\n", "extensions"),
        ("3;x=\"y;z\"\r\nabc\r\n0\r\n\r\n", "a quoted extension"),
        ("3 ;x\r\nabc\r\n0\r\n\r\n", "a space before an extension"),
        ("3 \r\nabc\r\n0\r\n\r\n", "a space behind the size"),
        (&long, "a long extension"),
        (
            "3\r\nabc\r\n0\r\nX-Portcullis-User: forged\r\nContent-Length: 100\r\nX-Request-Id: forged\r\n\r\n",
            "trailers",
        ),
        ("3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\nHost: b\r\nAuthorization: Bearer x\r\n\r\n", "more trailers"),
    ] {
        for content in arrives(&system, chunked(body).as_bytes(), trick) {
            assert_eq!(content, b"abc", "{trick}");
        }
    }
    assert_eq!(arrives(&system, chunked("3\r\nabc\r\n0\r\n\r\n").as_bytes(), "plain"), [b"abc"]);
    // No size is taken for the last, and what follows for a request, which it is not.
    for (body, trick) in [("\r\nabc\r\n0\r\n\r\n", "no size"), (";x\r\nabc\r\n0\r\n\r\n", "an extension alone")] {
        for content in arrives(&system, chunked(body).as_bytes(), trick) {
            assert!(content.is_empty(), "{trick}: {content:?}");
        }
    }
    // Without an end, what is behind is taken for trailers.
    for content in arrives(&system, chunked("3\r\nabc\r\n0\r\n").as_bytes(), "no end") {
        assert_eq!(content, b"abc", "no end");
    }
    let trailers = "3\r\nabc\r\n0\r\nX-Portcullis-User: forged\r\n\r\n";
    assert!(
        arrives(&system, chunked(trailers).as_bytes(), "trailers").len() <= 1,
        "and the recorder found none behind the body"
    );
    for (body, trick) in [
        (" 3\r\nabc\r\n0\r\n\r\n", "a space before the size"),
        ("\t3\r\nabc\r\n0\r\n\r\n", "a tab before the size"),
        ("0x3\r\nabc\r\n0\r\n\r\n", "0x"),
        ("+3\r\nabc\r\n0\r\n\r\n", "a sign"),
        ("-3\r\nabc\r\n0\r\n\r\n", "a negative size"),
        ("3_0\r\nabc\r\n0\r\n\r\n", "an underscore"),
        ("3h\r\nabc\r\n0\r\n\r\n", "no digit"),
        ("3\nabc\n0\n\n", "line feeds"),
        ("3\nabc\r\n0\r\n\r\n", "a line feed behind the size"),
        ("3\r\nabc\n0\r\n\r\n", "a line feed behind the data"),
        ("3\r\nabc0\r\n\r\n", "nothing behind the data"),
        ("3\r\nabcde\r\n0\r\n\r\n", "more data than said"),
        ("4\r\nabc\r\n0\r\n\r\n", "less data than said"),
        ("3\rabc\r\n0\r\n\r\n", "a carriage return alone"),
        ("3;x\nabc\r\n0\r\n\r\n", "a line feed in an extension"),
        ("3\r\nabc\r\n", "no last chunk"),
        ("10000000000000003\r\nabc\r\n0\r\n\r\n", "a size beyond 64 bits"),
        ("ffffffffffffffff\r\nabc\r\n0\r\n\r\n", "the largest of 64 bits"),
        ("fffffffffffffffe\r\nabc\r\n0\r\n\r\n", "nearly the largest"),
        ("７\r\nabc\r\n0\r\n\r\n", "a full-width digit"),
    ] {
        let arrived = arrives(&system, chunked(body).as_bytes(), trick);
        assert!(arrived.is_empty(), "{trick}: {arrived:?}");
    }
}

/// An extension without an end is not kept, and not read for ever.
#[test]
fn a_chunk_extension_has_an_end() {
    let system = System::with(ROUTES).limits("{client_timeout: 2s}").start();
    for (begin, part) in [
        ("3;", &[b'x'; 64 * 1024][..]),
        ("3\r\nabc\r\n0\r\n", &b"x: y\r\n".repeat(8 * 1024)[..]),
        ("000000000000000000", &[b'0'; 64 * 1024][..]),
    ] {
        let mut connection = system.connect();
        connection.send(format!("POST /open/post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{begin}"));
        connection.stream().set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        let (mut bytes, mut stream) = (0, connection.stream());
        while bytes < 64 * 1024 * 1024 && stream.write_all(part).is_ok() {
            bytes += part.len();
        }
        assert!(bytes < 64 * 1024 * 1024, "{begin:?}: all of it was read");
        assert!(connection.answer().is_none_or(|answer| answer.status >= 400), "{begin:?}");
        let arrived = system.upstream.take();
        assert!(arrived.is_empty(), "{begin:?}: {arrived:?}");
    }
    system.get("/open/x").passes();
}

/// I8, with bodies that look like requests, cut into chunks by chance.
#[test]
fn bodies_arrive_as_they_were_sent_however_they_are_cut() {
    let system = system();
    let mut chance = StdRng::seed_from_u64(1);
    for round in 0..60 {
        let content: Vec<u8> = match round % 3 {
            0 => BEHIND.repeat(round + 1).into_bytes(),
            1 => (0..chance.random_range(0..40_000)).map(|_| chance.random()).collect(),
            _ => b"0\r\n\r\n".repeat(round),
        };
        let mut body = Vec::new();
        let mut rest = content.as_slice();
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(chance.random_range(1..=rest.len()));
            body.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            body.extend_from_slice(chunk);
            body.extend(b"\r\n");
            rest = after;
        }
        let head = "POST /open/post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let bytes = [head.as_bytes(), &body, b"0\r\n\r\n"].concat();
        assert!(arrives_alone(&system, &bytes, "chunks").first() == Some(&content), "round {round}");
        let head = format!("POST /open/post HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", content.len());
        let arrived = arrives_alone(&system, &[head.as_bytes(), &content].concat(), "a length");
        assert!(arrived.first() == Some(&content), "round {round}");
    }
}

/// Answers every head as soon as it is there, and goes on reading what was announced, so that it would take what comes instead for a body.
fn answers_early(mut wire: Wire) {
    let (mut seen, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    while let Ok(count @ 1..) = wire.read(&mut chunk) {
        seen.extend_from_slice(&chunk[..count]);
        while let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            seen.drain(..end + 4);
            if wire.write_all(OK).is_err() {
                return;
            }
        }
    }
}

#[test]
fn row_31_an_answer_before_the_body_is_read_poisons_nothing() {
    let system = System::with(ROUTES).upstream(RecordingUpstream::serving(answers_early)).start();
    let alice = alice().sign();
    let post = |fields: &str| format!("POST /open/post HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    for framing in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
        for rest in [None, Some(""), Some(BEHIND), Some("3\r\nabc\r\n")] {
            let mut connection = system.connect();
            connection.send(post(framing));
            assert_eq!(connection.answer().unwrap().status, 200, "{framing}");
            match rest {
                None => drop(connection),
                Some(rest) => {
                    connection.send(rest);
                    let _ = connection.stream().shutdown(Shutdown::Write);
                    assert!(connection.answer().is_none_or(|answer| answer.status >= 400), "{framing}: {rest}");
                }
            }
            for _ in 0..2 {
                let answer = system.get("/me").with(&alice).send().answer.unwrap();
                assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok"[..]), "{framing}: {rest:?}");
            }
        }
    }
}

#[test]
fn row_31_interim_answers_nobody_asked_for_open_no_tunnel() {
    let upstream = RecordingUpstream::answering(|received, stream| {
        let interim = match received.target().as_str() {
            "/open/100" => "HTTP/1.1 100 Continue\r\n\r\n",
            "/open/102" => "HTTP/1.1 102 Processing\r\n\r\n",
            "/open/103" => "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\nx-portcullis-user: forged\r\n\r\n",
            "/open/many" => &"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(20),
            "/open/101" => "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            "/open/199" => "HTTP/1.1 199 Whatever\r\n\r\n",
            _ => "",
        };
        stream.write_all(interim.as_bytes()).is_ok() && stream.write_all(OK).is_ok()
    });
    let options = "connect_timeout: 1s, read_timeout: 1s";
    let system = System::with(ROUTES).upstream(upstream).upstream_options(options).start();
    let alice = alice().sign();
    for code in ["100", "102", "103", "many", "101", "199"] {
        for _ in 0..2 {
            let mut connection = system.connect();
            // What would be a second request, were this no tunnel; and bytes to the upstream, were it one. At once: what comes while the
            // first is served already is an error of the client.
            connection.send([system.get(&format!("/open/{code}")).bytes().as_slice(), BEHIND.as_bytes()].concat());
            let mut last = None;
            while let Some(answer) = next(&mut connection) {
                assert_ne!(answer, 101, "{code}: a tunnel");
                last = Some(answer);
                if answer >= 200 {
                    break;
                }
            }
            assert!(last.is_none_or(|status| status == 200 || status == 502 || status == 504), "{code}: {last:?}");
            drop(connection);
            let arrived = system.upstream.take();
            assert!(arrived.iter().all(|received| received.target() == format!("/open/{code}")), "{code}: {arrived:?}");
            let answer = system.get("/me").with(&alice).send().answer.unwrap();
            assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok"[..]), "{code}");
        }
    }
}

/// The status of the next answer, interim ones included.
fn next(connection: &mut Connection) -> Option<u16> {
    connection.stream().set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    connection.answer_to_head().map(|answer| answer.status)
}
