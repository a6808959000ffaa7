//! What one client's answer was is nobody else's: connections to the upstream are not shared by mistake, and answers are not kept. And what
//! a client may cost before it is judged is bounded.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use support::upstream::RecordingUpstream;
use support::{System, alice};

const ROUTES: &str = r#"
- {id: open, match: {path: "/open/{trick}"}, public: true}
- {id: me, match: {path: /me}, authenticated: true}
"#;

#[test]
fn e7_no_answer_is_kept_for_others() {
    let upstream = RecordingUpstream::answering(|received, stream| {
        let body = received.value("host").unwrap();
        let head = "HTTP/1.1 200 OK\r\ncache-control: public, max-age=3600\r\netag: \"1\"\r\ncontent-length";
        stream.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).is_ok()
    });
    let system = System::with(ROUTES).upstream(upstream).start();
    for host in ["a.test", "b.test", "a.test", "b.test"] {
        let outcome = system.get("/open/x").host(host).send();
        assert_eq!(outcome.arrived.len(), 1, "it was answered by the upstream itself");
        assert_eq!(outcome.answer.unwrap().body, host.as_bytes());
    }
}

#[test]
fn e8_a_connection_that_said_too_much_serves_nobody_else() {
    const POISON: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    let upstream = RecordingUpstream::answering(|received, stream| {
        let answer = match received.target().as_str() {
            "/open/behind" => format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok{POISON}"),
            "/open/behind-chunks" => {
                format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{POISON}")
            }
            "/open/behind-nothing" => format!("HTTP/1.1 204 No Content\r\n\r\n{POISON}"),
            "/open/two-lengths" => {
                format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 40\r\n\r\nok{POISON}")
            }
            "/open/unasked" => format!("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n{POISON}"),
            "/open/early" => {
                format!("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok{POISON}")
            }
            "/open/later" => {
                // While nobody uses the connection.
                let mut later = stream.writer();
                std::thread::spawn(move || {
                    let (_never, wait) = std::sync::mpsc::channel::<()>();
                    let _ = wait.recv_timeout(Duration::from_millis(30));
                    later.write_all(POISON.as_bytes())
                });
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned()
            }
            "/open/interim" => format!(
                "{}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok{POISON}",
                "HTTP/1.1 102 Processing\r\n\r\n".repeat(3)
            ),
            "/open/old" => format!("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok{POISON}"),
            "/open/both" => {
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{POISON}"
                )
            }
            "/open/chunk" => {
                format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n{POISON}")
            }
            "/open/half" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n20\r\nok".to_owned(),
            "/open/not-modified" => format!("HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n{POISON}"),
            "/open/short" => "HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\nok".to_owned(),
            _ => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned(),
        };
        stream.write_all(answer.as_bytes()).is_ok() && !["/open/short", "/open/half"].contains(&&*received.target())
    });
    let system =
        System::with(ROUTES).upstream_options("connect_timeout: 1s, read_timeout: 1s").upstream(upstream).start();
    let alice = alice().sign();
    let tricks = [
        "behind",
        "behind-chunks",
        "behind-nothing",
        "two-lengths",
        "unasked",
        "early",
        "short",
        "later",
        "interim",
        "old",
        "both",
        "chunk",
        "half",
        "not-modified",
    ];
    for trick in tricks {
        for _ in 0..3 {
            // Both on connections to the upstream that may be used again.
            system.get("/me").with(&alice).passes();
            let mut connection = system.connect();
            connection.send(system.get(&format!("/open/{trick}")).field("connection", "close").bytes());
            let mut answer = Vec::new();
            connection.stream().read_to_end(&mut answer).unwrap_or_default();
            if trick == "later" {
                // Until it has come: on a connection in use it would be the answer to whatever was asked.
                let (_never, wait) = std::sync::mpsc::channel::<()>();
                let _ = wait.recv_timeout(Duration::from_millis(300));
            }
            for _ in 0..2 {
                let Some(answer) = system.get("/me").with(&alice).send().answer else { panic!("{trick}: no answer") };
                assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok"[..]), "{trick}");
            }
        }
    }
    system.upstream.take();
}

/// One frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn next_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 9];
    stream.read_exact(&mut head).unwrap();
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).unwrap();
    (head[3], payload)
}

const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

#[test]
fn f4_what_an_http2_client_may_cost_is_bounded() {
    let system = System::with(ROUTES).listen("{address: \"127.0.0.1:0\", h2c: true}").start();
    let mut stream = TcpStream::connect(system.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
    let (kind, payload) = next_frame(&mut stream);
    assert_eq!(kind, SETTINGS);
    let setting = |wanted: u16| {
        let settings = payload
            .chunks(6)
            .map(|six| (u16::from_be_bytes([six[0], six[1]]), u32::from_be_bytes([six[2], six[3], six[4], six[5]])));
        settings.filter(|(name, _)| *name == wanted).map(|(_, value)| value).next_back()
    };
    // RFC 9113 §6.5.2: streams at once, and bytes of a list of fields.
    assert!(setting(3).is_some_and(|streams| streams <= 100), "{payload:?}");
    assert!(setting(6).is_some_and(|bytes| bytes <= 64 * 1024), "{payload:?}");

    // A list of fields without an end: the connection ends instead.
    let fields = [&b"\0\x01a\x01b"[..]; 3000].concat();
    let mut sent = stream.write_all(&frame(HEADERS, 0, 1, b"\x82\x86\x84"));
    let mut bytes = 0;
    while sent.is_ok() && bytes < 64 * 1024 * 1024 {
        sent = stream.write_all(&frame(CONTINUATION, 0, 1, &fields));
        bytes += fields.len();
    }
    assert!(sent.is_err(), "{bytes} bytes of fields were taken in");
    let _ = stream.shutdown(Shutdown::Both);
    assert!(system.upstream.take().is_empty());
    system.get("/open/x").passes();
}
