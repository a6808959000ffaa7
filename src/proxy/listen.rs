//! Where clients connect: the addresses, and what is spoken there.

use std::io::ErrorKind;
use std::net::ToSocketAddrs;
use std::sync::Arc;

use pingora::apps::HttpServerOptions;
use pingora::listeners::tls::{Acceptor, TlsSettings};
use pingora::proxy::{HttpProxy, ProxyHttp};
use pingora::server::configuration::ServerConf;
use rustls::server::danger::ClientCertVerifier;

use super::tls::Certificate;
use crate::socket::{Address, BindError};

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

impl Listener {
    /// What its address stands for on this machine.
    ///
    /// # Errors
    /// [`BindError`] when it stands for nothing.
    pub fn resolve(&self) -> Result<Address, BindError> {
        let resolved = self.address.to_socket_addrs();
        let resolved = resolved.and_then(|mut all| all.next().ok_or_else(|| ErrorKind::AddrNotAvailable.into()));
        let wrong = |source| BindError { address: self.address.clone(), source };
        resolved.map(Address::Tcp).map_err(wrong)
    }
}

impl ListenerTls {
    /// What shakes hands with clients.
    ///
    /// # Errors
    /// Pingora's.
    pub(super) fn acceptor(self) -> pingora::Result<Acceptor> {
        // The paths are not read when there is a resolver.
        let mut settings = TlsSettings::intermediate("", "")?;
        settings.set_cert_resolver(self.certificate);
        if let Some(clients) = self.clients {
            settings.set_client_cert_verifier(clients);
        }
        settings.enable_h2();
        Ok(settings.build())
    }
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
