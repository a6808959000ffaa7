//! Pages of our own, as the store and the status and admin listeners serve them: a bounded number of connections, a deadline for the TLS
//! handshake and for every request head, and an orderly end.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::Socket;
use super::accept::{Acceptor, Source};

/// Time to send a request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that a request head may have.
const HEAD_LIMIT: usize = 32 * 1024;
/// The same for HTTP/2, uncompressed.
const HEAD_LIMIT_H2: u32 = 32 * 1024;
/// A quiet HTTP/2 connection is asked so often whether it is still there, and cut when it does not answer for as long.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Streams at once on one HTTP/2 connection.
const MOST_STREAMS: u32 = 64;
/// What an HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI ";
/// Time that requests in flight have to finish.
const DRAIN: Duration = Duration::from_secs(10);

/// What is served, and to how many at once.
#[derive(Debug, Clone)]
pub struct Pages {
    /// The pages.
    pub router: Router,
    /// TLS, with HTTP/2 where the client wants it; `None` = plain HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Connections open at once; more wait.
    pub connections: usize,
}

impl Pages {
    /// Serves them on `socket` until `stop` is over; then requests in flight may finish. A Unix socket speaks plain HTTP/1.1.
    ///
    /// # Errors
    /// What the system says when the socket cannot be used.
    pub async fn serve(self, socket: Socket, stop: impl Future<Output = ()>) -> io::Result<()> {
        let mut acceptor = Acceptor::new(Entry::of(socket)?);
        let tls = self.tls.map(|tls| {
            let mut tls = (*tls).clone();
            tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            TlsAcceptor::from(Arc::new(tls))
        });
        let room = Arc::new(Semaphore::new(self.connections));
        let graceful = GracefulShutdown::new();
        let ending = Arc::new(AtomicBool::new(false));
        let mut connections = JoinSet::new();
        let begin = |connections: &mut JoinSet<()>, visitor: Visitor, place| {
            let (router, tls, watcher) = (self.router.clone(), tls.clone(), graceful.watcher());
            let ending = Arc::clone(&ending);
            connections.spawn(async move {
                visitor.be_served(router, tls, watcher, &ending).await;
                drop(place);
            });
        };
        tokio::pin!(stop);
        loop {
            let place = tokio::select! {
                place = Arc::clone(&room).acquire_owned() => place,
                () = &mut stop => break,
            };
            let Ok(place) = place else { break };
            tokio::select! {
                visitor = acceptor.next() => begin(&mut connections, visitor, place),
                Some(_) = connections.join_next() => {}
                () = &mut stop => break,
            }
        }
        ending.store(true, Ordering::Release);
        acceptor.close(|visitor| {
            if let Ok(place) = Arc::clone(&room).try_acquire_owned() {
                begin(&mut connections, visitor, place);
            }
        });
        if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
            tracing::warn!("stopping with requests in flight");
        }
        Ok(())
    }
}

/// Where visitors come from.
enum Entry {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection that was accepted.
enum Visitor {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Entry {
    fn of(socket: Socket) -> io::Result<Self> {
        Ok(match socket {
            Socket::Tcp(socket) => Self::Tcp(TcpListener::from_std(socket)?),
            Socket::Unix(socket) => Self::Unix(UnixListener::from_std(socket)?),
        })
    }
}

impl Source for Entry {
    type Connection = Visitor;

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Visitor>> {
        match self {
            Self::Tcp(listener) => listener.poll_accept(context).map_ok(|(stream, _)| Visitor::Tcp(stream)),
            Self::Unix(listener) => listener.poll_accept(context).map_ok(|(stream, _)| Visitor::Unix(stream)),
        }
    }

    fn ask(self) -> io::Result<impl FnMut() -> io::Result<Visitor>> {
        let ask: Box<dyn FnMut() -> io::Result<Visitor> + Send> = match self {
            Self::Tcp(listener) => {
                let mut ask = listener.ask()?;
                Box::new(move || ask().map(|(stream, _)| Visitor::Tcp(stream)))
            }
            Self::Unix(listener) => {
                let mut ask = listener.ask()?;
                Box::new(move || ask().map(Visitor::Unix))
            }
        };
        Ok(ask)
    }
}

impl Visitor {
    /// Answers it until it leaves.
    async fn be_served(self, router: Router, tls: Option<TlsAcceptor>, watcher: Watcher, ending: &AtomicBool) {
        let stream = match self {
            Self::Unix(stream) => return converse(stream, false, router, watcher, ending).await,
            Self::Tcp(stream) => stream,
        };
        // Answers are small and complete; waiting for more of them only delays.
        let _ = stream.set_nodelay(true);
        match tls {
            None => {
                if let Ok(Ok(http2)) = tokio::time::timeout(HEAD_TIMEOUT, begins_http2(&stream)).await {
                    converse(stream, http2, router, watcher, ending).await;
                }
            }
            Some(tls) => {
                if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    converse(stream, http2, router, watcher, ending).await;
                }
            }
        }
    }
}

/// Whether the client begins as HTTP/2 does; waits for its first bytes, which stay where they are.
async fn begins_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut start = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut start).await?;
        let begun = start.get(..length).unwrap_or_default();
        if length == 0 || !PREFACE.starts_with(begun) || length == PREFACE.len() {
            return Ok(begun == PREFACE);
        }
        // What is there stays there, so that waiting for more means asking again.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    http2: bool,
    router: Router,
    watcher: Watcher,
    ending: &AtomicBool,
) {
    let (stream, service) = (TokioIo::new(stream), TowerToHyperService::new(router));
    let ended = if http2 {
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .max_concurrent_streams(MOST_STREAMS)
            .max_header_list_size(HEAD_LIMIT_H2)
            .serve_connection(stream, service);
        watcher.watch(connection).await
    } else {
        let is_last = ending.load(Ordering::Acquire);
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_LIMIT)
            .keep_alive(!is_last)
            .serve_connection(stream, service);
        // One that is told to end before its first request ends without it.
        if is_last { connection.await } else { watcher.watch(connection).await }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests;
