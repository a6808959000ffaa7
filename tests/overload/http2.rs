//! HTTP/2 frames that cost much and bring nothing (row 37), written by hand: each kind ends its own connection, and nobody else's.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::process::Process;
use super::support::System;
use super::support::upstream::RecordingUpstream;
use super::{MIB, ROUTES};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const ENHANCE_YOUR_CALM: u8 = 11;

/// `GET /any`, compressed by the static table (RFC 7541, appendix A).
const GET_ANY: &[u8] = b"\x82\x86\x04\x04/any\x01\x01a";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, GET_ANY)
}

/// How a connection ended.
#[derive(Debug, Default)]
struct End {
    /// Frames of each kind that the sidecar sent.
    frames: [usize; 16],
    /// The code of its last `GOAWAY`.
    goaway: Option<u8>,
}

/// A client of its own making.
struct Client(TcpStream);

impl Client {
    fn of(process: &Process) -> Self {
        let mut stream = TcpStream::connect(process.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
        Self(stream)
    }

    /// Sends `bytes` over and over, and reads what comes until the other side has closed.
    fn floods(self, mut bytes: impl FnMut(u32) -> Vec<u8> + Send + 'static) -> End {
        let mut sending = self.0.try_clone().unwrap();
        let sender = std::thread::spawn(move || {
            let begun = Instant::now();
            let mut stream = 1;
            while begun.elapsed() < Duration::from_secs(20) {
                if sending.write_all(&bytes(stream)).is_err() {
                    return;
                }
                stream += 2;
            }
        });
        let end = self.end();
        sender.join().unwrap();
        end
    }

    /// The next frame: its kind and its stream.
    fn frame(&mut self) -> (u8, u32) {
        let mut header = [0; 9];
        self.0.read_exact(&mut header).unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize];
        self.0.read_exact(&mut payload).unwrap();
        (header[3], u32::from_be_bytes([header[5], header[6], header[7], header[8]]))
    }

    /// Reads to the end.
    fn end(mut self) -> End {
        let mut end = End::default();
        let mut header = [0; 9];
        while self.0.read_exact(&mut header).map_err(still_open).is_ok() {
            let mut payload = vec![0; u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize];
            if self.0.read_exact(&mut payload).map_err(still_open).is_err() {
                break;
            }
            end.frames[usize::from(header[3])] += 1;
            if header[3] == GOAWAY {
                end.goaway = Some(payload[7]);
            }
        }
        end
    }
}

/// Silence is no end.
fn still_open(error: std::io::Error) {
    assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "it was not closed");
}

fn sidecar(upstream: RecordingUpstream) -> Process {
    let builder = System::with(ROUTES).listen("{address: \"127.0.0.1:0\", h2c: true}");
    Process::of(&builder, upstream, None)
}

/// Does not answer `/any` for long.
fn slow() -> RecordingUpstream {
    RecordingUpstream::answering(|request, stream| {
        let is_slow = request.request_line().contains("/any");
        if is_slow {
            // Until it is closed.
            let _ = stream.writer().set_read_timeout(Some(Duration::from_secs(10)));
            return stream.read(&mut [0; 1]).is_ok_and(|count| count > 0);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    })
}

#[track_caller]
fn ends_calmly(process: &Process, name: &str, end: &End, floods: f64) {
    assert_eq!(end.goaway, Some(ENHANCE_YOUR_CALM), "{name}: {end:?}");
    let counted = process.metric(r#"portcullis_refused_connections_total{reason="flood"}"#);
    assert_eq!(counted, floods, "{name}");
    process.serves();
}

#[test]
fn requests_that_are_taken_back_end_the_connection() {
    let process = sidecar(slow());
    let before = process.memory();
    let end = Client::of(&process).floods(|stream| {
        // As fast as they can be looked at: those that are not looked at cost little, and are bounded elsewhere.
        std::thread::yield_now();
        [get(stream), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    });
    assert_eq!(end.goaway, Some(ENHANCE_YOUR_CALM), "{end:?}");
    // Slowly enough for each to be looked at before it is taken back; on a busy machine the first clients may not be.
    let counted = || process.metric(r#"portcullis_refused_connections_total{reason="flood"}"#);
    for _ in 0..5 {
        let client = Client::of(&process);
        let mut sending = client.0.try_clone().unwrap();
        let end = std::thread::spawn(move || client.end());
        let (_never, wait) = std::sync::mpsc::channel::<()>();
        for stream in (1..).step_by(2) {
            let made = sending.write_all(&get(stream));
            let _ = wait.recv_timeout(Duration::from_millis(5));
            if made.and_then(|()| sending.write_all(&frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]))).is_err() {
                break;
            }
            let _ = wait.recv_timeout(Duration::from_millis(5));
        }
        let end = end.join().unwrap();
        assert_eq!(end.goaway, Some(ENHANCE_YOUR_CALM), "{end:?}");
        if counted() > 0.0 {
            break;
        }
    }
    assert!(counted() > 0.0);
    let arrived = process.upstream.take().iter().filter(|request| request.request_line().contains("/any")).count();
    assert!(arrived < 1000, "{arrived} requests for the upstream");
    let grown = process.memory().saturating_sub(before);
    assert!(grown < 50 * MIB, "{grown} bytes");
    process.until("nothing is left", |process| process.metric("portcullis_requests_in_flight") == 0.0);
    process.serves();
}

#[test]
fn requests_that_are_made_to_fail_end_the_connection() {
    let process = sidecar(slow());
    let end = Client::of(&process).floods(|stream| {
        let begun = frame(HEADERS, END_HEADERS, stream, GET_ANY);
        // More than a window may hold.
        [begun, frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff])].concat()
    });
    assert_eq!(end.goaway, Some(ENHANCE_YOUR_CALM), "{end:?}");
    assert!(end.frames[usize::from(RST_STREAM)] <= 110, "{end:?}");
    process.until("nothing is left", |process| process.metric("portcullis_requests_in_flight") == 0.0);
    process.serves();
}

#[test]
fn frames_that_carry_nothing_end_the_connection() {
    let process = sidecar(slow());
    let before = process.memory();
    let floods = [
        ("pings", frame(PING, 0, 0, &[0; 8])),
        ("answers to pings", frame(PING, 1, 0, &[0; 8])),
        ("settings", frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])),
        ("priorities", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 16])),
        ("windows", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("frames of an unknown kind", frame(99, 0, 0, &[0; 100])),
    ];
    let mut counted = 0.0;
    for (name, one) in floods {
        let many = one.repeat(100);
        let end = Client::of(&process).floods(move |_| many.clone());
        counted += 1.0;
        ends_calmly(&process, name, &end, counted);
    }
    let grown = process.memory().saturating_sub(before);
    assert!(grown < 50 * MIB, "{grown} bytes");
}

/// What the HTTP/2 library bounds by itself: it has to go on doing so.
#[test]
fn heads_and_bodies_without_end_end_the_connection_and_take_no_memory() {
    let process = sidecar(slow());
    let before = process.memory();
    let headers = frame(HEADERS, END_STREAM, 1, GET_ANY);
    let continuation =
        frame(CONTINUATION, 0, 1, &[&[0x00, 0x01, b'x', 0x7f, 0x81, 0x7f][..], &[b'a'; 16_000]].concat());
    let empty = frame(CONTINUATION, 0, 1, &[]);
    for (name, further) in [("continuations", continuation), ("empty continuations", empty.repeat(100))] {
        let (headers, mut is_first) = (headers.clone(), true);
        let end = Client::of(&process).floods(move |_| match std::mem::take(&mut is_first) {
            true => headers.clone(),
            false => further.clone(),
        });
        assert!(end.goaway.is_some(), "{name}: {end:?}");
        process.serves();
    }
    let post = b"\x83\x86\x04\x04/any\x01\x01a";
    let mut is_first = true;
    let end = Client::of(&process).floods(move |_| match std::mem::take(&mut is_first) {
        true => frame(HEADERS, END_HEADERS, 1, post),
        false => frame(DATA, 0, 1, &[]).repeat(100),
    });
    assert_eq!(end.goaway, Some(ENHANCE_YOUR_CALM), "empty data: {end:?}");
    let grown = process.memory().saturating_sub(before);
    assert!(grown < 50 * MIB, "{grown} bytes");
    process.serves();
}

/// A field of 4,000 bytes goes into the table, and is named 16,000 times: 64 MB in a frame of 16 KiB.
#[test]
fn a_head_that_unpacks_to_much_is_refused_and_takes_no_memory() {
    let process = sidecar(slow());
    let before = process.memory();
    let field = [&[0x40, 0x01, b'x', 0x7f, 0xa1, 0x1e][..], &[b'a'; 4000]].concat();
    let mut ends = 0;
    for round in 0..20 {
        let mut client = Client::of(&process);
        let bomb = [GET_ANY, &field, &vec![0xbe; 12_000]].concat();
        let sent = client.0.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &bomb));
        assert!(sent.is_ok(), "{round}");
        let mut header = [0; 9];
        // Settings first; then it is refused, however that is said.
        loop {
            if client.0.read_exact(&mut header).map_err(still_open).is_err() {
                ends += 1;
                break;
            }
            let mut payload = vec![0; u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize];
            client.0.read_exact(&mut payload).unwrap();
            match header[3] {
                // 431 stands in no table.
                HEADERS => assert!(payload.windows(3).any(|part| part == b"431") || payload[0] != 0x88, "{payload:?}"),
                RST_STREAM | GOAWAY => {
                    ends += 1;
                    break;
                }
                _ => {}
            }
        }
    }
    assert_eq!(ends, 20);
    assert!(process.upstream.take().iter().all(|request| !request.request_line().contains("/any")));
    let grown = process.memory().saturating_sub(before);
    assert!(grown < 30 * MIB, "{grown} bytes");
    process.serves();
}

/// Who takes back a request now and then, answers pings and widens windows is no flood.
#[test]
fn a_client_that_behaves_is_not_taken_for_a_flood() {
    let process = sidecar(RecordingUpstream::start());
    let mut client = Client::of(&process);
    let mut pongs = 0;
    for number in 0..60 {
        let stream = number * 2 + 1;
        client.0.write_all(&get(stream)).unwrap();
        if number % 2 == 0 {
            client.0.write_all(&frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])).unwrap();
        }
        client.0.write_all(&frame(PING, 0, 0, &[0; 8]).repeat(5)).unwrap();
        client.0.write_all(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])).unwrap();
        // The body of its answer, or, where that was taken back, the last answer to a ping.
        let mut is_answered = number % 2 == 0;
        while !is_answered || pongs < (number + 1) * 5 {
            let (kind, of) = client.frame();
            assert_ne!(kind, GOAWAY);
            is_answered |= kind == DATA && of == stream;
            pongs += u32::from(kind == PING);
        }
    }
    assert_eq!(process.metric(r#"portcullis_refused_connections_total{reason="flood"}"#), 0.0);
}
