//! One wrapper around the client's socket: what has to hold before Pingora's own hooks run, and after they are done.
//!
//! Pingora reads and parses a request before it calls any hook, with a time limit per read, so a client that sends one byte a
//! minute is never stopped. The wrapper sits below the parser and counts from the first byte of a head to its last.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use pingora::proxy::{HttpProxy, ProxyHttp, Session};
use pingora::server::ShutdownWatch;
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Sleep;

use super::exchange::Supervised;
use super::streams::Streams;
use super::websocket::{Frames, POLICY_VIOLATION};

/// How an HTTP/2 connection begins (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// What a client that is too slow is told before the connection closes.
const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// The longest that a client has to take in the last frame of a connection that was cut.
const GOODBYE: Duration = Duration::from_secs(1);

/// The server application under our listeners: admits connections, wraps their streams, hands them to the proxy.
pub struct Entrance<P> {
    proxy: Arc<Supervised<P>>,
    open: Arc<OpenConnections>,
    head_timeout: Duration,
    meters: ConnectionMeters,
}

/// Counters of what ends before a request reaches the proxy.
#[derive(Clone)]
pub struct ConnectionMeters {
    /// Connections refused because too many are open.
    pub refused: IntCounter,
    /// Connections closed because a request head took too long.
    pub head_timeouts: IntCounter,
    /// Connections that ended in the middle of a request head, or with one that the parser refused.
    pub malformed: IntCounter,
}

impl<P> Entrance<P> {
    /// An entrance to `proxy` that gives a client `head_timeout` to send each request head, and has exchanges that last watched by
    /// `streams`.
    pub fn new(
        proxy: HttpProxy<P>,
        streams: Arc<Streams>,
        open: Arc<OpenConnections>,
        head_timeout: Duration,
        meters: ConnectionMeters,
    ) -> Self {
        Self { proxy: Arc::new(Supervised::new(proxy, streams)), open, head_timeout, meters }
    }
}

#[async_trait]
impl<P> ServerApp for Entrance<P>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let Some(_place) = self.open.admit() else {
            self.meters.refused.inc();
            return None;
        };
        let guarded = GuardedStream::new(stream, self.head_timeout, self.meters.clone());
        self.proxy.process_new(Box::new(guarded), shutdown).await
    }

    async fn cleanup(&self) {
        self.proxy.cleanup().await;
    }
}

/// How many connections are open, and how many may be.
pub struct OpenConnections {
    count: AtomicUsize,
    limit: usize,
    closed: Notify,
}

impl OpenConnections {
    /// None open, at most `limit` at once.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { count: AtomicUsize::new(0), limit, closed: Notify::new() })
    }

    /// Open connections now.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Returns once no connection is open.
    pub async fn all_closed(&self) {
        loop {
            let closed = self.closed.notified();
            if self.count() == 0 {
                return;
            }
            closed.await;
        }
    }

    fn admit(self: &Arc<Self>) -> Option<Place> {
        let admitted = self
            .count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| (open < self.limit).then_some(open + 1));
        admitted.ok().map(|_| Place(Arc::clone(self)))
    }
}

/// One admitted connection; leaves when dropped.
struct Place(Arc<OpenConnections>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
        self.0.closed.notify_waiters();
    }
}

/// What the hooks tell the wrapper, and it them.
#[derive(Debug, Default)]
struct Progress {
    /// An odd number while a request is being worked on, an even one between requests.
    step: AtomicU32,
    /// Whether the answer that comes next switches to WebSocket.
    is_switching: AtomicBool,
    /// Whether the exchange was cut: the wrapper will be dropped.
    is_cut: AtomicBool,
    /// The stream of a WebSocket connection that was cut, where a last frame can be sent.
    left: parking_lot::Mutex<Option<Stream>>,
}

impl Progress {
    fn is_between_requests(step: u32) -> bool {
        step.is_multiple_of(2)
    }
}

/// A client's HTTP/1 connection, for whoever ends what goes on over it.
pub(super) struct Line(Arc<Progress>);

impl Line {
    /// The connection of `session`; `None` for HTTP/2, where others go on over it.
    pub(super) fn of(session: &ServerSession) -> Option<Self> {
        let digest = session.as_http1()?.digest().proxy_digest.as_ref()?;
        digest.user_data.as_ref()?.downcast_ref::<Arc<Progress>>().map(Arc::clone).map(Self)
    }

    /// Notes that the exchange was cut, before it is dropped.
    pub(super) fn is_cut(&self) {
        self.0.is_cut.store(true, Ordering::Release);
    }

    /// After that: tells a WebSocket client why, where the last frame to it was whole. Everything else is closed already.
    pub(super) async fn say_goodbye(self) {
        let Some(mut stream) = self.0.left.lock().take() else { return };
        let goodbye = async {
            stream.write_all(&POLICY_VIOLATION).await?;
            stream.flush().await?;
            AsyncWriteExt::shutdown(&mut stream).await?;
            // What is left unread when a connection is closed resets it, and the frame is lost with that.
            let mut unread = [0; 4096];
            while stream.read(&mut unread).await? > 0 {}
            io::Result::Ok(())
        };
        // A client that does not want to hear it is gone all the same.
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}

/// Called by the proxy before it answers that the connection becomes a WebSocket.
pub fn switching_to_websocket(session: &Session) {
    if let Some(progress) = progress(session) {
        progress.is_switching.store(true, Ordering::Release);
    }
}

/// Called by the proxy when the head of a request is complete: its deadline no longer runs.
pub fn head_complete(session: &Session) {
    if let Some(progress) = progress(session) {
        progress.step.fetch_or(1, Ordering::AcqRel);
    }
}

/// Called by the proxy when a request has been answered: the next head may begin.
pub fn request_done(session: &Session) {
    if let Some(progress) = progress(session) {
        let step = progress.step.load(Ordering::Acquire);
        progress.step.store((step | 1).wrapping_add(1), Ordering::Release);
    }
}

fn progress(session: &Session) -> Option<&Progress> {
    // An HTTP/2 connection carries many requests at once and sets its own pace.
    let session = session.as_downstream().as_http1()?;
    session.digest().proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref::<Arc<Progress>>().map(Arc::as_ref)
}

/// A client's stream with a deadline for every request head.
struct GuardedStream {
    inner: Stream,
    digest: Arc<ProxyDigest>,
    progress: Arc<Progress>,
    /// What goes to the client, once that is a WebSocket.
    frames: Option<Box<Frames>>,
    seen: u32,
    head: Head,
    /// How many bytes of the HTTP/2 preface a new connection began with; it may come in pieces.
    preface: usize,
    deadline: Option<Pin<Box<Sleep>>>,
    timeout: Duration,
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
}

impl GuardedStream {
    fn new(inner: Stream, timeout: Duration, meters: ConnectionMeters) -> Self {
        let progress = Arc::new(Progress::default());
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
            preface: 0,
            deadline: None,
            timeout,
            meters,
        }
    }

    /// Whether a head is due that has not come in time; arms the timer on first call.
    fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self.head {
            Head::First | Head::Begun => {
                let timeout = self.timeout;
                self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout))).as_mut().poll(context)
            }
            Head::Idle | Head::Frames => Poll::Pending,
        }
    }

    /// What a new connection carries, after `received`, which is not empty, came next.
    fn begun_with(&mut self, received: &[u8]) -> Head {
        let missing = HTTP2_PREFACE.get(self.preface..).unwrap_or_default();
        let known = missing.len().min(received.len());
        if received.get(..known) != missing.get(..known) {
            return Head::Begun;
        }
        self.preface += known;
        if self.preface == HTTP2_PREFACE.len() { Head::Frames } else { Head::First }
    }

    /// Follows what was written, of what was to be, for the end of its last frame.
    fn follow_frames<'b>(&mut self, written: usize, buffers: impl IntoIterator<Item = &'b [u8]>) {
        if !self.progress.is_switching.load(Ordering::Acquire) {
            return;
        }
        let frames = self.frames.get_or_insert_with(|| Box::new(Frames::new()));
        let mut left = written;
        for buffer in buffers {
            let passed = buffer.get(..left.min(buffer.len())).unwrap_or_default();
            frames.pass(passed);
            left -= passed.len();
        }
    }

    fn follow_progress(&mut self) -> bool {
        let step = self.progress.step.load(Ordering::Acquire);
        if step != self.seen {
            self.seen = step;
            self.deadline = None;
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
        if !this.follow_progress() {
            return Pin::new(&mut this.inner).poll_read(context, buffer);
        }
        let filled = buffer.filled().len();
        match Pin::new(&mut this.inner).poll_read(context, buffer) {
            Poll::Ready(result) => {
                let received = buffer.filled().get(filled..).unwrap_or_default();
                this.head = match this.head {
                    head if received.is_empty() || head == Head::Frames => head,
                    Head::First => this.begun_with(received),
                    _ => Head::Begun,
                };
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(this.poll_overdue(context));
                this.meters.head_timeouts.inc();
                this.head = Head::Idle;
                // One attempt: a client that does not read either gets the close alone.
                let _ = Pin::new(&mut this.inner).poll_write(context, REQUEST_TIMEOUT);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the request head took too long")))
            }
        }
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        self.follow_frames(written, [bytes]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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
        match tokio::time::timeout(self.timeout, self.inner.try_peek(buffer)).await {
            Ok(peeked) => peeked,
            Err(_) => {
                self.meters.head_timeouts.inc();
                Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was sent in time"))
            }
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
