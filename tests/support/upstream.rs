//! A recording upstream: keeps every byte of every connection it is sent, and answers what the test tells it to.

use std::io::{Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::framing::{self, Read};

pub use super::framing::Received;

/// A connection to the upstream. What is read from it is kept.
pub struct Wire {
    stream: TcpStream,
    record: Arc<Record>,
}

/// What one connection brought.
#[derive(Debug, Default)]
pub struct Record {
    bytes: Mutex<Vec<u8>>,
    /// Whether the sidecar ended it, or may still go on: then half a request is not because nobody read the rest.
    is_read_to_its_end: AtomicBool,
    is_over: AtomicBool,
}

impl Record {
    /// One that brought these, and may go on.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self { bytes: Mutex::new(bytes), ..Self::default() }
    }

    /// Every byte so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Whether the upstream left it before the sidecar did.
    pub fn was_left(&self) -> bool {
        self.is_over() && !self.is_read_to_its_end.load(Ordering::SeqCst)
    }
}

impl Wire {
    /// Who is on the other side.
    pub fn peer_addr(&self) -> std::io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    /// The way back, for another thread.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }
}

impl std::io::Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.stream.read(buffer);
        match &read {
            Ok(0) | Err(_) => self.record.is_read_to_its_end.store(true, Ordering::SeqCst),
            Ok(count) => self.record.bytes.lock().unwrap().extend_from_slice(&buffer[..*count]),
        }
        read
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.record.is_over.store(true, Ordering::SeqCst);
    }
}

/// A server on a port of its own.
pub struct RecordingUpstream {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    records: Arc<Mutex<Vec<Arc<Record>>>>,
}

impl RecordingUpstream {
    /// Answers `200 ok` to everything.
    pub fn start() -> Self {
        Self::answering(|_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok").is_ok()
        })
    }

    /// Answers as `reply` does; `false` from it closes the connection.
    pub fn answering(reply: impl Fn(&Received, &mut Wire) -> bool + Send + Sync + 'static) -> Self {
        Self::accepting(move |mut wire, received| {
            let mut read = 0;
            while let Some(request) = next(&mut wire, &mut read) {
                received.lock().unwrap().push(request.clone());
                if !reply(&request, &mut wire) {
                    return;
                }
            }
        })
    }

    /// Leaves each connection to `serve`; requests are kept, but not told by [`Self::take`].
    pub fn serving(serve: impl Fn(Wire) + Send + Sync + 'static) -> Self {
        Self::accepting(move |wire, _| serve(wire))
    }

    fn accepting(serve: impl Fn(Wire, &Mutex<Vec<Received>>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (received, records) = (Arc::<Mutex<Vec<Received>>>::default(), Arc::<Mutex<Vec<Arc<Record>>>>::default());
        let (requests, connections, serve) = (Arc::clone(&received), Arc::clone(&records), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
                let record = Arc::<Record>::default();
                connections.lock().unwrap().push(Arc::clone(&record));
                let (requests, serve) = (Arc::clone(&requests), Arc::clone(&serve));
                std::thread::spawn(move || serve(Wire { stream, record }, &requests));
            }
        });
        Self { address, received, records }
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

    /// Every connection, in the order in which they came.
    pub fn records(&self) -> Vec<Arc<Record>> {
        self.records.lock().unwrap().clone()
    }

    /// What connections brought that is no request, for a test that judges requests itself: those that are over are forgotten.
    pub fn unreadable(&self) -> Vec<String> {
        let mut records = self.records.lock().unwrap();
        let over: Vec<Arc<Record>> = records.extract_if(.., |record| record.is_over()).collect();
        over.iter().filter_map(|record| unreadable(&record.bytes())).collect()
    }
}

/// What these bytes have that is no request, nor the beginning of a body.
fn unreadable(mut bytes: &[u8]) -> Option<String> {
    while !bytes.is_empty() {
        match framing::read(bytes) {
            Ok(Read::Whole(_, used)) => bytes = &bytes[used..],
            Ok(Read::Begun(_)) => return None,
            Ok(Read::HalfHead) => return Some(format!("half a head: {:?}", framing::printed(bytes))),
            Err(why) => return Some(why),
        }
    }
    None
}

/// The next request of a connection; `None` when there is none, or what comes is no request: that is found when everything is judged.
fn next(wire: &mut Wire, read: &mut usize) -> Option<Received> {
    let mut chunk = [0; 16 * 1024];
    loop {
        {
            let bytes = wire.record.bytes.lock().unwrap();
            let rest = bytes.get(*read..).unwrap_or_default();
            if framing::is_whole(rest).ok()? {
                let Ok(Read::Whole(received, used)) = framing::read(rest) else { return None };
                *read += used;
                return Some(received);
            }
        }
        if matches!(wire.read(&mut chunk), Ok(0) | Err(_)) {
            return None;
        }
    }
}
