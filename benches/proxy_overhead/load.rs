//! The client: keep-alive connections that ask as soon as they were answered, or at a fixed rate.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, yield_now};

/// The requests of one scenario, ready to be written, used one after the other and round again.
pub struct Requests {
    bytes: Vec<Box<[u8]>>,
    next: AtomicUsize,
}

impl Requests {
    /// At least one request; each is a whole HTTP/1.1 head and has no body.
    pub fn new(bytes: Vec<Box<[u8]>>) -> Arc<Self> {
        assert!(!bytes.is_empty(), "a scenario has requests");
        Arc::new(Self { bytes, next: AtomicUsize::new(0) })
    }

    fn next(&self) -> &[u8] {
        &self.bytes[self.next.fetch_add(1, Ordering::Relaxed) % self.bytes.len()]
    }
}

/// `GET path`, as a small client would ask it, with or without a session token.
pub fn request(path: &str, token: Option<&str>) -> Box<[u8]> {
    let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nhost: app.example\r\nuser-agent: bench\r\naccept: */*\r\n{authorization}\r\n")
        .into_bytes()
        .into()
}

/// When a connection sends its next request.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// As soon as the last one was answered.
    Closed,
    /// So many requests per second over all connections, whether or not the last one was answered in time.
    Fixed(u32),
}

/// What came of one run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Requests that were answered.
    pub requests: u64,
    /// The first status other than 200, if there was one.
    pub unexpected: Option<u16>,
    /// Time from the moment a request was due to the end of its answer; at a fixed rate only.
    pub latencies: Vec<Duration>,
}

/// Connections to one proxy.
pub struct Load {
    connections: Vec<Connection>,
    requests: Arc<Requests>,
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Load {
    /// Opens `connections` connections.
    pub async fn open(address: SocketAddr, connections: usize, requests: Arc<Requests>) -> io::Result<Self> {
        let mut opened = Vec::with_capacity(connections);
        for _ in 0..connections {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            opened.push(Connection { stream, buffer: vec![0; 16 * 1024] });
        }
        Ok(Self { connections: opened, requests })
    }

    /// Sends for `duration`, and waits for the last answers.
    pub async fn run(&mut self, pace: Pace, duration: Duration) -> io::Result<Outcome> {
        let count = self.connections.len();
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for (index, connection) in self.connections.drain(..).enumerate() {
            let schedule = Schedule::new(pace, start, index, count);
            tasks.spawn(connection.run(Arc::clone(&self.requests), schedule, start + duration));
        }
        let mut total = Outcome::default();
        while let Some(finished) = tasks.join_next().await {
            let (connection, outcome) = finished.map_err(io::Error::other)??;
            self.connections.push(connection);
            total.requests += outcome.requests;
            total.unexpected = total.unexpected.or(outcome.unexpected);
            total.latencies.extend(outcome.latencies);
        }
        Ok(total)
    }
}

/// When one connection's requests are due.
struct Schedule {
    due: Instant,
    interval: Option<Duration>,
}

impl Schedule {
    fn new(pace: Pace, start: Instant, index: usize, connections: usize) -> Self {
        match pace {
            Pace::Closed => Self { due: start, interval: None },
            Pace::Fixed(per_second) => {
                let gap = Duration::from_secs_f64(1.0 / f64::from(per_second));
                Self { due: start + gap * index as u32, interval: Some(gap * connections as u32) }
            }
        }
    }

    /// Waits until the next request is due, and says since when it is. It spins: timers tick in milliseconds, far too
    /// coarse here.
    async fn wait(&mut self) -> Instant {
        let due = self.due;
        if let Some(interval) = self.interval {
            while Instant::now() < due {
                yield_now().await;
            }
            self.due += interval;
        }
        due
    }
}

impl Connection {
    async fn run(
        mut self,
        requests: Arc<Requests>,
        mut schedule: Schedule,
        end: Instant,
    ) -> io::Result<(Self, Outcome)> {
        let mut outcome = Outcome::default();
        loop {
            let due = schedule.wait().await;
            if Instant::now() >= end {
                return Ok((self, outcome));
            }
            self.stream.write_all(requests.next()).await?;
            let status = self.answer().await?;
            outcome.requests += 1;
            if status != 200 {
                outcome.unexpected.get_or_insert(status);
            }
            if schedule.interval.is_some() {
                outcome.latencies.push(due.elapsed());
            }
        }
    }

    /// Reads one answer and returns its status.
    async fn answer(&mut self) -> io::Result<u16> {
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the proxy closed a connection that was to be kept",
                ));
            }
            filled += read;
            if let Some((status, length)) = head(&self.buffer[..filled])
                && filled >= length
            {
                return Ok(status);
            }
        }
    }
}

/// Status and whole length, head and body, of the answer at the start of `bytes`; `None` while its head is incomplete.
fn head(bytes: &[u8]) -> Option<(u16, usize)> {
    let end = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body: usize = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(Some(0), |(_, value)| value.trim().parse().ok())?;
    Some((status, end + body))
}

/// Asks once, on a connection of its own, and returns the status.
pub async fn ask_once(address: SocketAddr, request: Box<[u8]>) -> io::Result<u16> {
    let mut load = Load::open(address, 1, Requests::new(vec![request])).await?;
    let Some(mut connection) = load.connections.pop() else { return Err(io::Error::other("no connection")) };
    connection.stream.write_all(load.requests.next()).await?;
    connection.answer().await
}

/// Asks for `path` once and returns the whole answer, head and body.
pub async fn page(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: status\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
