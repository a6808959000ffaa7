//! Listening: sockets are bound before anything runs, so that an address in use is an error with a name and not a panic.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::IntoRawFd;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::listeners::tls::TlsSettings;
use pingora::proxy::{HttpProxy, ProxyHttp};
use pingora::server::configuration::ServerConf;
use pingora::server::{Fds, ListenFds, ShutdownWatch};
use pingora::services::Service;
use pingora::services::listening::Service as ListeningService;
use rustls::server::danger::ClientCertVerifier;
use socket2::{Domain, Protocol, Socket, Type};

use super::connection::Entrance;
use super::tls::Certificate;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// One address that clients connect to.
#[derive(Debug, Clone)]
pub struct Listener {
    /// `host:port`; port 0 takes any free one.
    pub address: String,
    /// TLS; `None` = plain text.
    pub tls: Option<ListenerTls>,
    /// Whether HTTP/2 is spoken without TLS.
    pub h2c: bool,
}

/// TLS towards clients: HTTP/2 and HTTP/1.1 by ALPN.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    /// The certificate and its key.
    pub certificate: Arc<Certificate>,
    /// What client certificates are held against; `None` = clients need none.
    pub clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl ListenerTls {
    fn settings(self) -> pingora::Result<TlsSettings> {
        // The paths are not read when there is a resolver.
        let mut settings = TlsSettings::intermediate("", "")?;
        settings.set_cert_resolver(self.certificate);
        if let Some(clients) = self.clients {
            settings.set_client_cert_verifier(clients);
        }
        settings.enable_h2();
        Ok(settings)
    }
}

/// A listener that holds its socket.
#[derive(Debug)]
pub struct Bound {
    listener: Listener,
    socket: TcpListener,
    address: SocketAddr,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{address}`")]
pub struct BindError {
    address: String,
    #[source]
    source: std::io::Error,
}

impl Listener {
    /// Binds the address.
    ///
    /// # Errors
    /// [`BindError`] when it is no address of this machine, or somebody else has it.
    pub fn bind(self) -> Result<Bound, BindError> {
        let bind = || {
            let address = self.address.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            let socket = TcpListener::from(socket);
            let address = socket.local_addr()?;
            Ok((socket, address))
        };
        match bind() {
            Ok((socket, address)) => Ok(Bound { listener: self, socket, address }),
            Err(source) => Err(BindError { address: self.address, source }),
        }
    }
}

impl Bound {
    /// The address, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether HTTP/2 is spoken without TLS.
    pub fn h2c(&self) -> bool {
        self.listener.h2c
    }
}

/// The Pingora service behind some listeners: hands our sockets to Pingora, and stops when we say so.
///
/// Pingora's own graceful stop sleeps for a fixed time; ours ends when the last connection has.
pub struct Doorway<P> {
    name: String,
    inner: ListeningService<Entrance<P>>,
    sockets: ListenFds,
    stop: ShutdownWatch,
    threads: usize,
}

/// Makes a proxy ready to be served: options that hold for every connection of a listener.
pub fn http_proxy<P: ProxyHttp>(
    conf: &Arc<ServerConf>,
    proxy: P,
    h2c: bool,
    requests_per_connection: Option<u32>,
) -> HttpProxy<P> {
    let mut proxy = pingora::proxy::http_proxy(conf, proxy);
    let mut options = HttpServerOptions::default();
    options.h2c = h2c;
    // Pingora counts how often a connection is used again.
    options.keepalive_request_limit = requests_per_connection.map(|requests| requests.saturating_sub(1));
    options.h2_idle_timeout = Some(std::time::Duration::from_secs(60));
    proxy.server_options = Some(options);
    proxy
}

impl<P> Doorway<P>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    /// A service that leads from `listeners` through `entrance`, on `threads` threads, until `stop` turns true.
    ///
    /// # Errors
    /// Pingora's error when TLS cannot be set up.
    pub fn new(
        name: &str,
        entrance: Entrance<P>,
        listeners: Vec<Bound>,
        threads: usize,
        stop: ShutdownWatch,
    ) -> pingora::Result<Self> {
        let mut inner = ListeningService::new(name.to_owned(), entrance);
        let mut sockets = Fds::new();
        for bound in listeners {
            let address = bound.address.to_string();
            sockets.add(address.clone(), bound.socket.into_raw_fd());
            match bound.listener.tls {
                Some(tls) => inner.add_tls_with_settings(&address, None, tls.settings()?),
                None => inner.add_tcp(&address),
            }
        }
        Ok(Self { name: name.to_owned(), inner, sockets: Arc::new(parking_lot::Mutex::new(sockets)), stop, threads })
    }
}

#[async_trait]
impl<P> Service for Doorway<P>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, listeners_per_fd: usize) {
        let (sockets, stop) = (Arc::clone(&self.sockets), self.stop.clone());
        Service::start_service(&mut self.inner, Some(sockets), stop, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn threads(&self) -> Option<usize> {
        Some(self.threads)
    }
}
