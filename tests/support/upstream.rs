//! A recording upstream: keeps the raw bytes of every request it receives, and answers what the test tells it to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// Request line and header fields, byte for byte, blank line included.
    pub head: Vec<u8>,
    /// The body, transfer coding included.
    pub body: Vec<u8>,
}

impl Received {
    /// The request line without its line end.
    pub fn request_line(&self) -> String {
        self.text().lines().next().unwrap_or_default().to_owned()
    }

    /// The request target.
    pub fn target(&self) -> String {
        self.request_line().split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// The values of all fields called `name`, compared as written but for case.
    pub fn values(&self, name: &str) -> Vec<String> {
        let wanted = name.to_ascii_lowercase();
        self.fields().into_iter().filter(|(name, _)| *name == wanted).map(|(_, value)| value).collect()
    }

    /// The only value of `name`; panics when there are several.
    pub fn value(&self, name: &str) -> Option<String> {
        let values = self.values(name);
        assert!(values.len() <= 1, "{name} arrived more than once: {values:?}");
        values.into_iter().next()
    }

    /// All fields: lower-case name, value.
    pub fn fields(&self) -> Vec<(String, String)> {
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        self.text().lines().skip(1).filter_map(field).collect()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.head).into_owned()
    }
}

/// How the upstream answers.
pub type Reply = dyn Fn(&Received, &mut TcpStream) -> bool + Send + Sync;

/// A server on a port of its own.
pub struct RecordingUpstream {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl RecordingUpstream {
    /// Answers `200 ok` to everything.
    pub fn start() -> Self {
        Self::answering(|_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok").is_ok()
        })
    }

    /// Answers as `reply` does; `false` from it closes the connection.
    pub fn answering(reply: impl Fn(&Received, &mut TcpStream) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let reply: Arc<Reply> = Arc::new(reply);
        let record = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (record, reply) = (Arc::clone(&record), Arc::clone(&reply));
                std::thread::spawn(move || serve(stream, &record, &*reply));
            }
        });
        Self { address, received }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything received so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Everything received since the last call.
    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut *self.received.lock().unwrap())
    }
}

fn serve(mut stream: TcpStream, record: &Mutex<Vec<Received>>, reply: &Reply) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer) {
        record.lock().unwrap().push(request.clone());
        if !reply(&request, &mut stream) {
            return;
        }
    }
}

/// Reads one request; what follows it stays in `buffer`.
fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Received> {
    let head_end = loop {
        if let Some(at) = find(buffer, b"\r\n\r\n") {
            break at + 4;
        }
        fill(stream, buffer)?;
    };
    let mut received = Received { head: buffer.drain(..head_end).collect(), body: Vec::new() };
    if received.values("transfer-encoding").iter().any(|coding| coding.eq_ignore_ascii_case("chunked")) {
        let end = loop {
            if let Some(at) = find(buffer, b"0\r\n\r\n") {
                break at + 5;
            }
            fill(stream, buffer)?;
        };
        received.body = buffer.drain(..end).collect();
    } else if let Some(length) = received.value("content-length") {
        let length: usize = length.parse().unwrap();
        while buffer.len() < length {
            fill(stream, buffer)?;
        }
        received.body = buffer.drain(..length).collect();
    }
    Some(received)
}

fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 16 * 1024];
    match stream.read(&mut chunk) {
        Ok(0) | Err(_) => None,
        Ok(count) => {
            buffer.extend_from_slice(&chunk[..count]);
            Some(())
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
