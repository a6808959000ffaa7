//! The listening side: sockets, TLS, deadlines, and an orderly end.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::{Store, door, status};

/// Time to send a request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that a request head may have.
const HEAD_LIMIT: usize = 32 * 1024;
/// The same for HTTP/2, uncompressed.
const HEAD_LIMIT_H2: u32 = 32 * 1024;
/// Connections open at once; more wait.
const MOST_CONNECTIONS: usize = 24_576;
/// A quiet HTTP/2 connection is asked so often whether it is still there, and cut when it does not answer for as long.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Streams at once on one HTTP/2 connection.
const MOST_STREAMS: u32 = 64;
/// What an HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI ";
/// Time that requests in flight have to finish.
const DRAIN: Duration = Duration::from_secs(10);

/// A bound socket, and what is served there.
pub struct Server {
    socket: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    store: Store,
    pages: Router,
}

impl Server {
    /// Binds `address`; plain HTTP without `tls`.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(store: Store, address: SocketAddr, tls: Option<Arc<rustls::ServerConfig>>) -> std::io::Result<Self> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let tls = tls.map(|tls| {
            let mut tls = (*tls).clone();
            tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            Arc::new(tls)
        });
        Ok(Self { socket, tls, pages: door::router(store.clone()), store })
    }

    /// Where it is.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `stop` turns true; then requests in flight may finish, and the database is let go of.
    ///
    /// # Errors
    /// What the system says when the socket cannot be used.
    pub async fn serve(self, mut stop: watch::Receiver<bool>) -> std::io::Result<()> {
        let socket = tokio::net::TcpListener::from_std(self.socket)?;
        let tls = self.tls.map(TlsAcceptor::from);
        let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let stopped = async move {
            // An error means that nobody can stop us any more; then we do not stop.
            if stop.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::pin!(stopped);
        let mut upkeep = JoinSet::new();
        let tidied = self.store.clone();
        upkeep.spawn(async move { status::keep_tidy(&tidied).await });
        let followed = self.store.clone();
        upkeep.spawn(async move { followed.0.tail.run(&followed.0.database).await });
        loop {
            let place = tokio::select! {
                place = Arc::clone(&room).acquire_owned() => place,
                () = &mut stopped => break,
            };
            let Ok(place) = place else { break };
            tokio::select! {
                accepted = socket.accept() => match accepted {
                    Ok((stream, _)) => {
                        // Answers are small and complete; waiting for more of them only delays.
                        let _ = stream.set_nodelay(true);
                        let (pages, watcher, tls) = (self.pages.clone(), graceful.watcher(), tls.clone());
                        connections.spawn(async move {
                            match tls {
                                None => {
                                    let http2 = tokio::time::timeout(HEAD_TIMEOUT, begins_http2(&stream)).await;
                                    if let Ok(Ok(http2)) = http2 {
                                        converse(stream, http2, pages, watcher, place).await;
                                    }
                                }
                                Some(tls) => {
                                    let secured = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await;
                                    if let Ok(Ok(stream)) = secured {
                                        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                                        converse(stream, http2, pages, watcher, place).await;
                                    }
                                }
                            }
                        });
                    }
                    // Out of file descriptors, mostly: some will be closed.
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                () = &mut stopped => break,
            }
        }
        drop(socket);
        self.store.0.stopping.send_replace(true);
        if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
            tracing::warn!("stopping with requests in flight");
        }
        upkeep.shutdown().await;
        self.store.close().await;
        Ok(())
    }
}

/// Whether the client begins as HTTP/2 does; waits for its first bytes, which stay where they are.
async fn begins_http2(stream: &TcpStream) -> std::io::Result<bool> {
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
    pages: Router,
    watcher: hyper_util::server::graceful::Watcher,
    place: OwnedSemaphorePermit,
) {
    let (stream, service) = (TokioIo::new(stream), TowerToHyperService::new(pages));
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
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_LIMIT)
            .serve_connection(stream, service);
        watcher.watch(connection).await
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
    drop(place);
}
