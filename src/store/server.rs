//! The listening side: sockets, TLS, deadlines, and an orderly end.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
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
/// Connections open at once; more wait.
const MOST_CONNECTIONS: usize = 4096;
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
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { break };
            tokio::select! {
                accepted = socket.accept() => match accepted {
                    Ok((stream, _)) => {
                        // Answers are small and complete; waiting for more of them only delays.
                        let _ = stream.set_nodelay(true);
                        let (pages, watcher, tls) = (self.pages.clone(), graceful.watcher(), tls.clone());
                        connections.spawn(async move {
                            match tls {
                                None => converse(stream, pages, watcher, place).await,
                                Some(tls) => {
                                    let secured = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await;
                                    if let Ok(Ok(stream)) = secured {
                                        converse(stream, pages, watcher, place).await;
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
        upkeep.shutdown().await;
        if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
            tracing::warn!("stopping with requests in flight");
        }
        self.store.close().await;
        Ok(())
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    pages: Router,
    watcher: hyper_util::server::graceful::Watcher,
    place: OwnedSemaphorePermit,
) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(pages));
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended early");
    }
    drop(place);
}
