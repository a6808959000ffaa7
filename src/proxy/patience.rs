//! How long a client may take over what is permitted: to read its answer, and to send the body that it announced.

use std::time::{Duration, Instant};

use http::header;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};

/// Bounds on slow clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The longest that a client leaves an answer unread, or pauses in a body; `None` = as long as it likes.
    pub client_timeout: Option<Duration>,
    /// Bytes of a body a second, over all of it, that a client sends at least once `client_timeout` is over; 0 = any.
    pub body_rate: u32,
}

/// How it is told that a body is too large.
pub(super) const TOO_LARGE: ErrorType = ErrorType::HTTPStatus(413);

/// A body on its way up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Upload {
    begun: Instant,
    bytes: u64,
    /// Whether it may be as slow as it likes: it is a conversation.
    is_conversation: bool,
    /// The most bytes that it may have; `None` = any number.
    most: Option<u64>,
}

impl Patience {
    /// Sets the timers of Pingora for one request.
    pub(super) fn apply(&self, session: &mut Session) {
        // A WebSocket may be silent for long; an answer that is not read is not read either way.
        let is_conversation = is_conversation(session);
        let downstream = session.as_downstream_mut();
        downstream.set_write_timeout(self.client_timeout);
        downstream.set_total_drain_timeout(self.client_timeout);
        if !is_conversation {
            downstream.set_read_timeout(self.client_timeout);
        }
    }

    /// Looks at a further part of a body.
    ///
    /// # Errors
    /// It comes too slowly, or has become too large.
    pub(super) fn heed(&self, upload: &mut Upload, bytes: usize) -> pingora::Result<()> {
        upload.bytes += bytes as u64;
        if upload.most.is_some_and(|most| upload.bytes > most) {
            return Err(Error::explain(TOO_LARGE, "the body is larger than the route lets through").into_down());
        }
        let Some(grace) = self.client_timeout.filter(|_| !upload.is_conversation) else { return Ok(()) };
        let took = upload.begun.elapsed();
        if took > grace && upload.bytes < u64::from(self.body_rate) * took.as_secs() {
            return Err(Error::explain(ErrorType::ReadTimedout, "the body comes too slowly").into_down());
        }
        Ok(())
    }
}

impl Upload {
    /// A body of at most `most` bytes. What is said on an upgraded connection is none.
    pub(super) fn begin(session: &Session, most: Option<u64>) -> Self {
        let most = most.filter(|_| !session.is_upgrade_req());
        Self { begun: Instant::now(), bytes: 0, is_conversation: is_conversation(session), most }
    }
}

/// Whether what the client sends after the head is no upload but goes back and forth: a WebSocket, or gRPC.
fn is_conversation(session: &Session) -> bool {
    let kind = session.req_header().headers.get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes);
    session.is_upgrade_req() || kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}
