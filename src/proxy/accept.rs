//! The accept loops in front of Pingora.
//!
//! Pingora has loops of its own; these are here for what those cannot promise: a connection counts from the moment it is accepted, with its
//! TLS handshake, which has a deadline; no failure to accept stops the others for long; and whoever has connected before a stop is served.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::listeners::tls::Acceptor as TlsAcceptor;
use pingora::protocols::l4::stream::Stream as TcpConnection;
use pingora::protocols::{GetSocketDigest, SocketDigest, Stream};
use pingora::proxy::ProxyHttp;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::buffered::Buffered;
use super::connection::{Door, Entrance, Place};
use super::listen::Listener;
use crate::socket::Socket;
use crate::socket::accept::Acceptor;

/// The Pingora service behind some listeners: accepts connections until it is told to stop, and ends when the last one has.
pub struct Doorway<P> {
    name: &'static str,
    entrance: Arc<Entrance<P>>,
    /// TLS of each listener, and that it is not closed yet.
    doors: Vec<(Option<Arc<TlsAcceptor>>, Door)>,
    sockets: Option<oneshot::Receiver<Vec<Socket>>>,
    stop: ShutdownWatch,
    threads: usize,
}

impl<P> Doorway<P>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    /// A service that leads from `listeners` through `entrance`, on `threads` threads, once their `sockets` are there, in the same order,
    /// until `stop` turns true; then each answer is the last one of its connection.
    ///
    /// # Errors
    /// Pingora's error when TLS cannot be set up.
    pub fn new(
        name: &'static str,
        entrance: Entrance<P>,
        listeners: Vec<Listener>,
        sockets: oneshot::Receiver<Vec<Socket>>,
        threads: usize,
        stop: ShutdownWatch,
    ) -> pingora::Result<Self> {
        let door = |listener: Listener| {
            let tls = listener.tls.map(|tls| tls.acceptor().map(Arc::new)).transpose()?;
            Ok((tls, entrance.door()))
        };
        let doors = listeners.into_iter().map(door).collect::<pingora::Result<_>>()?;
        Ok(Self { name, entrance: Arc::new(entrance), doors, sockets: Some(sockets), stop, threads })
    }
}

#[async_trait]
impl<P> Service for Doorway<P>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        let doors = std::mem::take(&mut self.doors);
        let Some(sockets) = self.sockets.take() else { return };
        let mut stop = self.stop.clone();
        let sockets = tokio::select! {
            sockets = sockets => sockets.unwrap_or_default(),
            // Told before there was anything to accept from.
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let mut loops = JoinSet::new();
        for ((tls, door), socket) in doors.into_iter().zip(sockets) {
            let Some(socket) = listen(socket) else { continue };
            let way = Way { entrance: Arc::clone(&self.entrance), tls, stop: self.stop.clone() };
            loops.spawn(way.accept(Acceptor::new(socket), door));
        }
        while loops.join_next().await.is_some() {}
    }

    fn name(&self) -> &str {
        self.name
    }

    fn threads(&self) -> Option<usize> {
        Some(self.threads)
    }
}

/// The socket, where this is called from.
fn listen(socket: Socket) -> Option<TcpListener> {
    let Socket::Tcp(socket) = socket else { return None };
    let listened = TcpListener::from_std(socket);
    listened.map_err(|error| tracing::error!(%error, "a socket cannot be listened on")).ok()
}

/// The way of a connection from one socket to the proxy.
struct Way<P> {
    entrance: Arc<Entrance<P>>,
    tls: Option<Arc<TlsAcceptor>>,
    /// Nobody has looked at it: HTTP/2 connections wait for it to change, also those that begin after it did.
    stop: ShutdownWatch,
}

impl<P> Way<P>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    /// Accepts until it is told to stop, and returns when the last connection has ended.
    async fn accept(self, mut acceptor: Acceptor<TcpListener>, door: Door) {
        let mut connections = JoinSet::new();
        let mut stop = self.stop.clone();
        loop {
            let next = async {
                self.entrance.may_come().await;
                acceptor.next().await
            };
            tokio::select! {
                connection = next => self.admit(connection, &mut connections),
                Some(_) = connections.join_next() => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        acceptor.close(|connection| self.admit(connection, &mut connections));
        drop(door);
        while connections.join_next().await.is_some() {}
    }

    /// Has a connection served, if there is a place for it.
    fn admit(&self, (stream, peer): (TcpStream, SocketAddr), connections: &mut JoinSet<()>) {
        let Some(place) = self.entrance.admit() else { return };
        if self.tls.is_none() {
            place.waits();
        }
        let (entrance, tls, stop) = (Arc::clone(&self.entrance), self.tls.clone(), self.stop.clone());
        connections.spawn(serve(entrance, place, opened(stream, peer), tls, stop));
    }
}

async fn serve<P>(
    entrance: Arc<Entrance<P>>,
    mut place: Place,
    stream: TcpConnection,
    tls: Option<Arc<TlsAcceptor>>,
    stop: ShutdownWatch,
) where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    if !entrance.has_room(&mut place).await {
        return;
    }
    let stream: Stream = match tls {
        None => Box::new(Buffered::plain(stream)),
        Some(tls) => {
            let handshake = tls.tls_handshake(Buffered::encrypted(stream));
            match tokio::time::timeout(entrance.head_timeout(), handshake).await {
                Ok(Ok(stream)) => Box::new(stream),
                Ok(Err(_)) | Err(_) => return entrance.meters().tls.inc(),
            }
        }
    };
    entrance.welcome(place, stream, &stop).await;
}

/// A connection as Pingora has them.
fn opened(stream: TcpStream, peer: SocketAddr) -> TcpConnection {
    // Answers are written as a whole; waiting for more of them only delays.
    let _ = stream.set_nodelay(true);
    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    // Empty until now.
    let _ = digest.peer_addr.set(Some(peer.into()));
    let mut stream = TcpConnection::from(stream);
    stream.set_socket_digest(digest);
    stream
}
