//! A client's stream with a deadline for every request head.

use std::any::Any;
use std::fmt;
use std::future::Future;
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
use super::progress::Progress;
use crate::proxy::websocket::Frames;

/// How an HTTP/2 connection begins (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// What a client that is too slow is told before the connection closes.
const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// A client's stream with a deadline for every request head.
pub(super) struct GuardedStream {
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
    pub(super) fn new(inner: Stream, timeout: Duration, meters: ConnectionMeters) -> Self {
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
