//! F14 and F15: whatever a client sends to a running sidecar. Oracle: what its upstream received.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use portcullis::rules::{CanonicalPath, split_target};

use super::support::System;
use super::support::upstream::Received;

const RULES: &str = "
- {id: open, match: {path: '/open/{rest...}'}, public: true}
- {id: closed, match: {path: '/open/closed/{rest...}'}, authenticated: true}
- {id: admin, match: {path: '/{rest...}'}, authenticated: true}
";

/// After so many inputs a client that behaves has to be served.
const TRIED: u32 = 64;

struct Tried {
    system: System,
    inputs: AtomicU32,
}

impl Tried {
    fn new() -> Self {
        let limits = "{shutdown_timeout: 1s, head_timeout: 2s}";
        Self { system: System::with(RULES).limits(limits).start(), inputs: AtomicU32::new(0) }
    }

    /// Sends it, and nothing more; reads until the sidecar hangs up.
    fn send(&self, parts: &[&[u8]]) {
        let mut stream = TcpStream::connect(self.system.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut hung_up = false;
        for part in parts {
            hung_up |= stream.write_all(part).is_err();
        }
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            let is_over = matches!(error.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe);
            assert!(is_over || hung_up, "the sidecar keeps the connection: {error}");
        }
        self.judge();
    }

    fn judge(&self) {
        for received in self.system.upstream.take() {
            may_arrive(&received);
        }
        let unreadable = self.system.upstream.unreadable();
        assert!(unreadable.is_empty(), "arrived, and is no request: {unreadable:?}");
        if self.inputs.fetch_add(1, Ordering::Relaxed).is_multiple_of(TRIED) {
            let answer = self.system.get("/open/still").send().answer;
            assert_eq!(answer.map(|answer| answer.status), Some(200), "nobody is served any more");
            assert!(self.system.metric("portcullis_panics_total") < 1.0, "{}", self.system.logged());
        }
    }
}

/// Only what the one public rule covers, as one request with one meaning, and with nobody's name on it.
fn may_arrive(received: &Received) {
    let target = received.target();
    let (path, _) = split_target(&target);
    let canonical = CanonicalPath::parse(path.as_bytes());
    assert!(canonical.is_ok_and(|canonical| canonical.as_str() == path), "{received:?}");
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let below = |folder: &str| decoded.strip_prefix(folder).is_some_and(|rest| !rest.is_empty());
    assert!(below("/open/") && !below("/open/closed/"), "{received:?}");
    let count = |name: &str| received.values(name).len();
    assert_eq!((count("host"), count("x-request-id"), count("x-forwarded-for")), (1, 1, 1), "{received:?}");
    assert!(count("content-length") + count("transfer-encoding") <= 1, "{received:?}");
    assert_eq!(received.values("x-portcullis-route"), ["open"], "{received:?}");
    for (name, _) in received.fields() {
        let folded: String =
            name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
        let is_told = folded.starts_with("x-portcullis-") && name != "x-portcullis-route";
        assert!(!is_told && !["x-original-url", "x-rewrite-url"].contains(&&*folded), "{received:?}");
    }
}

/// HTTP/1: bytes of one connection.
pub fn f14_http1(bytes: &[u8]) {
    static TRIED: OnceLock<Tried> = OnceLock::new();
    TRIED.get_or_init(Tried::new).send(&[bytes]);
}

/// HTTP/2: what follows the preface and the client's settings.
pub fn f15_http2(bytes: &[u8]) {
    static TRIED: OnceLock<Tried> = OnceLock::new();
    TRIED.get_or_init(Tried::new).send(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", bytes]);
}
