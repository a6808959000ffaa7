//! The listening side: the socket, what goes on beside the requests, and an orderly end.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Store, door, status};
use crate::socket::pages::Pages;
use crate::socket::{Address, BindError, Socket};

/// Connections open at once; more wait.
const MOST_CONNECTIONS: usize = 24_576;

/// A bound socket, and what is served there.
pub struct Server {
    socket: Socket,
    tls: Option<Arc<rustls::ServerConfig>>,
    store: Store,
    pages: Router,
}

impl Server {
    /// Binds `address`; plain HTTP without `tls`.
    ///
    /// # Errors
    /// [`BindError`]
    pub fn bind(store: Store, address: SocketAddr, tls: Option<Arc<rustls::ServerConfig>>) -> Result<Self, BindError> {
        Ok(Self { socket: Address::Tcp(address).bind()?, tls, pages: door::router(store.clone()), store })
    }

    /// Where it is, with the port that was taken.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        match self.socket.address()? {
            Address::Tcp(address) => Ok(address),
            Address::Unix(_) => Err(std::io::ErrorKind::AddrNotAvailable.into()),
        }
    }

    /// Serves until `stop` turns true; then requests in flight may finish, and the database is let go of.
    ///
    /// # Errors
    /// What the system says when the socket cannot be used.
    pub async fn serve(self, mut stop: watch::Receiver<bool>) -> std::io::Result<()> {
        let mut upkeep = JoinSet::new();
        let tidied = self.store.clone();
        upkeep.spawn(async move { status::keep_tidy(&tidied).await });
        let followed = self.store.clone();
        upkeep.spawn(async move { followed.0.tail.run(&followed.0.database).await });
        let stopped = async {
            // An error means that nobody can stop us any more; then we do not stop.
            if stop.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
            self.store.0.stopping.send_replace(true);
        };
        let pages = Pages { router: self.pages, tls: self.tls, connections: MOST_CONNECTIONS };
        let served = pages.serve(self.socket, stopped).await;
        upkeep.shutdown().await;
        self.store.close().await;
        served
    }
}
