//! A client's stream: what is read from it is held against the bounds before anybody parses it.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::ConnectionMeters;
use super::conduct::Conduct;
use super::head::ArrivingHead;
use super::progress::Progress;
use crate::proxy::websocket::Frames;

/// How an HTTP/2 connection begins (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client that is too slow is told before the connection closes.
const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What a client is told whose request head is too large to be looked at.
const HEADERS_TOO_LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// How an HTTP/2 client is told that its connection ends (RFC 9113 §7): because another needs the room, and because it went too far.
const NO_ERROR: u8 = 0;
const ENHANCE_YOUR_CALM: u8 = 11;

/// How long what a client goes on sending is read and thrown away: closing on unread bytes would take back what it was told last. And how
/// long one that is to go may take to read its answers.
const LINGER: Duration = Duration::from_secs(1);

/// What every client has to keep to.
#[derive(Clone)]
pub struct Bounds {
    /// Time to send a request head.
    pub head_timeout: Duration,
    /// Bytes of a head that is not complete yet, as they are in force.
    pub head_bytes: Arc<dyn Fn() -> usize + Send + Sync>,
}

/// A client's stream with a deadline and a size for every request head, and a bound on what costs work and brings none.
pub(super) struct GuardedStream {
    inner: Stream,
    digest: Arc<ProxyDigest>,
    progress: Arc<Progress>,
    /// What goes to the client, once that is a WebSocket.
    frames: Option<Box<Frames>>,
    seen: u32,
    head: Head,
    arriving: ArrivingHead,
    /// How many bytes of the HTTP/2 preface a new connection began with; it may come in pieces.
    preface: usize,
    /// What goes on over an HTTP/2 connection.
    conduct: Option<Box<Conduct>>,
    /// Whether something was written that has not left yet.
    is_unsent: bool,
    deadline: Option<Pin<Box<Sleep>>>,
    bounds: Bounds,
    meters: ConnectionMeters,
}

impl Drop for GuardedStream {
    fn drop(&mut self) {
        // The hooks see complete heads only; a connection that ends inside one was never seen by them.
        let is_same_head =
            self.progress.step.load(Ordering::Acquire) == self.seen && Progress::is_between_requests(self.seen);
        if is_same_head && (self.head == Head::Begun || self.head == Head::First && self.preface > 0) {
            self.meters.malformed.inc();
        }
        if self.progress.is_cut.load(Ordering::Acquire)
            && self.frames.as_ref().is_some_and(|frames| frames.is_between())
        {
            let nothing = Box::new(io::Cursor::new(Vec::<u8>::new()));
            *self.progress.left.lock() = Some(std::mem::replace(&mut self.inner, nothing));
        }
    }
}

/// How far the current request head is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    /// The first of a new connection: the deadline runs from the start.
    First,
    /// None begun on a kept-alive connection: Pingora's idle limit holds.
    Idle,
    /// Some bytes are here: the deadline runs.
    Begun,
    /// HTTP/2: heads are frames among others.
    Frames,
    /// There will be none: the client was told why.
    Refused(Refusal),
}

impl GuardedStream {
    pub(super) fn new(inner: Stream, progress: Arc<Progress>, bounds: Bounds, meters: ConnectionMeters) -> Self {
        progress.waits();
        let user_data: Box<dyn Any + Send + Sync> = Box::new(Arc::clone(&progress));
        // The response of a proxy digest belongs to CONNECT tunnels; only the user data is of use here.
        let response = ResponseHeader::from(http::Response::new(()).into_parts().0);
        let digest = Arc::new(ProxyDigest::new(Box::new(response), Some(user_data)));
        Self {
            inner,
            digest,
            progress,
            frames: None,
            seen: 0,
            head: Head::First,
            arriving: ArrivingHead::default(),
            preface: 0,
            conduct: None,
            is_unsent: false,
            deadline: None,
            bounds,
            meters,
        }
    }

    /// Waits for the first byte of a new connection. `false`: there will be none. Where that cannot be seen, nothing is waited for.
    pub(super) async fn begins(&mut self) -> bool {
        self.try_peek(&mut [0]).await.is_ok()
    }

    /// Whether a head is due that has not come in time; arms the timer on first call.
    fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self.head {
            Head::First | Head::Begun => {
                let timeout = self.bounds.head_timeout;
                self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout))).as_mut().poll(context)
            }
            Head::Idle | Head::Frames | Head::Refused(_) => Poll::Pending,
        }
    }

    /// What the connection carries after `received` came next.
    fn follow(&mut self, received: &[u8]) -> Result<(), Refusal> {
        if matches!(self.head, Head::First | Head::Idle) {
            self.progress.begins();
        }
        if self.head == Head::First {
            let missing = HTTP2_PREFACE.get(self.preface..).unwrap_or_default();
            let known = missing.len().min(received.len());
            if received.get(..known) == missing.get(..known) {
                self.preface += known;
                if self.preface < HTTP2_PREFACE.len() {
                    return Ok(());
                }
                self.head = Head::Frames;
                self.conduct = Some(Box::new(Conduct::new()));
                return self.follow(received.get(known..).unwrap_or_default());
            }
            // It was the beginning of a head, whatever that is.
            let begun = HTTP2_PREFACE.get(..self.preface).unwrap_or_default();
            self.arriving.take(begun, (self.bounds.head_bytes)());
        }
        if let Some(conduct) = &mut self.conduct {
            let before = conduct.last_stream();
            let is_within = conduct.received(received);
            if conduct.last_stream() != before {
                self.progress.arrives();
                self.deadline = None;
            }
            return is_within.then_some(()).ok_or(Refusal::Flood);
        }
        self.head = Head::Begun;
        self.arriving.take(received, (self.bounds.head_bytes)()).then_some(()).ok_or(Refusal::HeadTooLarge)
    }

    /// Of a connection that is to go: the answers that it was given have left, or are not taken in time, where another waits. The HTTP/2
    /// library writes what it has after it has read what there is, so it has another turn.
    fn poll_answers_sent(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.head != Head::Frames {
            return Poll::Ready(());
        }
        if self.deadline.is_none() {
            self.deadline = Some(Box::pin(tokio::time::sleep(LINGER)));
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        match &mut self.deadline {
            Some(_) if self.is_unsent && self.progress.is_ending() => Poll::Pending,
            Some(deadline) if self.is_unsent => deadline.as_mut().poll(context),
            _ => Poll::Ready(()),
        }
    }

    /// Tells the client why there will be nothing more: one attempt, since one that does not read either gets the close alone.
    fn refuse(&mut self, refusal: Refusal, context: &mut Context<'_>) -> io::Error {
        self.head = Head::Refused(refusal);
        self.deadline = None;
        let (counter, said) = match refusal {
            Refusal::Late => (Some(&self.meters.head_timeouts), REQUEST_TIMEOUT),
            Refusal::HeadTooLarge => (Some(&self.meters.heads_too_large), HEADERS_TOO_LARGE),
            Refusal::Ends => (None, &[][..]),
            Refusal::Flood => (Some(&self.meters.floods), &[][..]),
            Refusal::MakesRoom => (Some(&self.meters.made_room), &[][..]),
        };
        if let Some(counter) = counter {
            counter.inc();
        }
        let code = if refusal == Refusal::Flood { ENHANCE_YOUR_CALM } else { NO_ERROR };
        let goaway = self.conduct.as_ref().and_then(|conduct| conduct.goaway(code));
        let said = goaway.as_ref().map_or(said, |frame| &frame[..]);
        if !said.is_empty() {
            let _ = Pin::new(&mut self.inner).poll_write(context, said);
            let _ = Pin::new(&mut self.inner).poll_shutdown(context);
        }
        refusal.error()
    }

    /// Throws away what still comes, for a while.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 4096];
        loop {
            let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
            if deadline.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            let mut unread = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.inner).poll_read(context, &mut unread)) {
                Ok(()) if !unread.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    }

    /// Follows what was written, of what was to be, for the end of its last frame.
    fn follow_frames<'b>(&mut self, written: usize, buffers: impl IntoIterator<Item = &'b [u8]>) {
        let is_switching = self.progress.is_switching.load(Ordering::Acquire);
        if !is_switching && self.conduct.is_none() {
            return;
        }
        let mut left = written;
        for buffer in buffers {
            let passed = buffer.get(..left.min(buffer.len())).unwrap_or_default();
            left -= passed.len();
            if let Some(conduct) = &mut self.conduct {
                conduct.sent(passed);
            } else {
                self.frames.get_or_insert_with(|| Box::new(Frames::new())).pass(passed);
            }
        }
    }

    fn follow_progress(&mut self) -> bool {
        let step = self.progress.step.load(Ordering::Acquire);
        if step != self.seen {
            self.seen = step;
            self.deadline = None;
            self.arriving = ArrivingHead::default();
            if self.head != Head::Frames {
                self.head = Head::Idle;
            }
        }
        Progress::is_between_requests(step)
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Head::Refused(refusal) = this.head {
            ready!(this.poll_linger(context));
            return Poll::Ready(Err(refusal.error()));
        }
        if !this.follow_progress() {
            return Pin::new(&mut this.inner).poll_read(context, buffer);
        }
        let filled = buffer.filled().len();
        match Pin::new(&mut this.inner).poll_read(context, buffer) {
            Poll::Ready(result) => {
                let received = buffer.filled().get(filled..).unwrap_or_default();
                if let Err(refusal) = if received.is_empty() { Ok(()) } else { this.follow(received) } {
                    buffer.set_filled(filled);
                    let error = this.refuse(refusal, context);
                    ready!(this.poll_linger(context));
                    return Poll::Ready(Err(error));
                }
                Poll::Ready(result)
            }
            Poll::Pending if this.progress.is_to_go(context.waker()) => {
                ready!(this.poll_answers_sent(context));
                Poll::Ready(Err(this.refuse(Refusal::of(&this.progress), context)))
            }
            Poll::Pending => {
                ready!(this.poll_overdue(context));
                Poll::Ready(Err(this.refuse(Refusal::Late, context)))
            }
        }
    }
}

/// Why a connection ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// The head did not come in time.
    Late,
    /// It is larger than any that is looked at.
    HeadTooLarge,
    /// Too many frames that bring nothing.
    Flood,
    /// Another needs the room.
    MakesRoom,
    /// Everything ends.
    Ends,
}

impl Refusal {
    /// Why a connection leaves that nothing is being done for.
    fn of(progress: &Progress) -> Self {
        if progress.is_ending() { Self::Ends } else { Self::MakesRoom }
    }

    fn error(self) -> io::Error {
        use io::ErrorKind::{ConnectionAborted, InvalidData, TimedOut};
        let (kind, text) = match self {
            Self::Late => (TimedOut, "the request head took too long"),
            Self::HeadTooLarge => (InvalidData, "the request head is too large"),
            Self::Flood => (InvalidData, "too many frames that bring nothing"),
            Self::MakesRoom => (ConnectionAborted, "an idle connection made room for another"),
            Self::Ends => (ConnectionAborted, "an idle connection was closed at the end"),
        };
        io::Error::new(kind, text)
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if matches!(self.head, Head::Refused(_)) {
            // The last word was said, and nobody waits for more.
            return Poll::Ready(Ok(bytes.len()));
        }
        self.is_unsent = true;
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        self.follow_frames(written, [bytes]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(context))?;
        if std::mem::take(&mut self.is_unsent) && self.progress.is_leaving() {
            // Nothing keeps it any more.
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if matches!(self.head, Head::Refused(_)) {
            return Poll::Ready(Ok(buffers.iter().map(|buffer| buffer.len()).sum()));
        }
        self.is_unsent = true;
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(context, buffers))?;
        self.follow_frames(written, buffers.iter().map(|buffer| &**buffer));
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for GuardedStream {
    async fn shutdown(&mut self) {
        Shutdown::shutdown(&mut *self.inner).await;
    }
}

impl UniqueID for GuardedStream {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for GuardedStream {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.inner.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

#[async_trait]
impl Peek for GuardedStream {
    async fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let Self { inner, deadline, progress, bounds, .. } = self;
        let refusal = {
            let mut peek = inner.try_peek(buffer);
            poll_fn(|context| {
                if let Poll::Ready(peeked) = peek.as_mut().poll(context) {
                    return Poll::Ready(Ok(peeked));
                }
                if progress.is_to_go(context.waker()) {
                    return Poll::Ready(Err(Refusal::of(progress)));
                }
                let deadline = deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(bounds.head_timeout)));
                deadline.as_mut().poll(context).map(|()| Err(Refusal::Late))
            })
            .await
        };
        match refusal {
            Ok(peeked) => peeked,
            Err(refusal) => Err(poll_fn(|context| Poll::Ready(self.refuse(refusal, context))).await),
        }
    }
}

impl GetTimingDigest for GuardedStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.inner.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.inner.get_write_pending_time()
    }
}

impl GetProxyDigest for GuardedStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

impl GetSocketDigest for GuardedStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

impl fmt::Debug for GuardedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedStream").field("inner", &self.inner).field("head", &self.head).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
