//! A client that sends exactly the bytes it is told to, and reads one answer at a time.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::canary;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Lower-case name, value.
    pub fields: Vec<(String, String)>,
    /// The body, transfer coding removed.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The `code` of a problem document, empty when there is none.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The `reason` of a problem document, empty when there is none.
    pub fn reason(&self) -> String {
        self.json()["reason"].as_str().unwrap_or_default().to_owned()
    }
}

/// A connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The other side may have hung up already; what it said before is still to be read.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Reads one answer to a request whose method was not HEAD; `None` when the connection closed without one.
    pub fn answer(&mut self) -> Option<Answer> {
        self.read_answer(false)
    }

    /// Reads one answer to a HEAD request.
    pub fn answer_to_head(&mut self) -> Option<Answer> {
        self.read_answer(true)
    }

    /// The next bytes, at least one; empty when the connection closed.
    pub fn read_some(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() {
            self.fill();
        }
        std::mem::take(&mut self.buffer)
    }

    /// Whether the other side closed the connection, without sending anything more. Waits for that; silence is no close.
    pub fn is_closed(&mut self) -> bool {
        let read = self.stream.read(&mut [0; 1]);
        let silent = |error: &std::io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        self.buffer.is_empty() && read.as_ref().map_or_else(|error| !silent(error), |count| *count == 0)
    }

    /// The socket itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn read_answer(&mut self, to_head: bool) -> Option<Answer> {
        let answer = self.next_answer(to_head)?;
        canary::is_not_in("the head of an answer", format!("{:?}", answer.fields));
        canary::is_not_in("an answer", &answer.body);
        Some(answer)
    }

    fn next_answer(&mut self, to_head: bool) -> Option<Answer> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill() {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer.drain(..end).collect::<Vec<_>>()).into_owned();
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let fields: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer { status, fields, body: Vec::new() };
        if to_head || status == 101 || status == 204 || status == 304 || status == 100 {
            return Some(answer);
        }
        if answer.field("transfer-encoding").is_some() {
            answer.body = self.chunked();
        } else if let Some(length) = answer.field("content-length").and_then(|length| length.parse::<usize>().ok()) {
            while self.buffer.len() < length && self.fill() {}
            let length = length.min(self.buffer.len());
            answer.body = self.buffer.drain(..length).collect();
        } else {
            while self.fill() {}
            answer.body = std::mem::take(&mut self.buffer);
        }
        Some(answer)
    }

    fn chunked(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line_end = loop {
                if let Some(at) = find(&self.buffer, b"\r\n") {
                    break at;
                }
                if !self.fill() {
                    return body;
                }
            };
            let line: Vec<u8> = self.buffer.drain(..line_end + 2).collect();
            let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).unwrap();
            while self.buffer.len() < size + 2 {
                if !self.fill() {
                    return body;
                }
            }
            body.extend(self.buffer.drain(..size));
            self.buffer.drain(..2);
            if size == 0 {
                return body;
            }
        }
    }

    fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                true
            }
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
