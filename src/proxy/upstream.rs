//! Where admitted requests go: peers, their timeouts and TLS, balancing over several servers, health checks.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr as InetAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::lb::discovery::ServiceDiscovery;
use pingora::lb::health_check::{HealthCheck as PingoraHealthCheck, HttpHealthCheck, TcpHealthCheck};
use pingora::lb::selection::RoundRobin;
use pingora::lb::{Backend, Backends, Extensions, LoadBalancer};
use pingora::protocols::ALPN;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{CertKey, WrappedX509};
use pingora::{Error, ErrorType};

use super::upgrade::InTurn;

/// How long a connection to an upstream may stay unused in the pool.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection that nobody may use again stays in the pool.
const UNUSED_TIMEOUT: Duration = Duration::from_millis(1);
/// How often host names are looked up again.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(10);
/// How many servers are tried for a healthy one before the upstream counts as unreachable.
const SELECTION_STEPS: usize = 64;

/// One upstream of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// Its name in the configuration and in metrics.
    pub name: String,
    /// `host:port` or `unix:/path`; never empty.
    pub servers: Vec<String>,
    /// At most this long until a connection is established, TLS included.
    pub connect_timeout: Duration,
    /// At most this long between two reads of an answer.
    pub read_timeout: Duration,
    /// At most this long for one write of a request.
    pub write_timeout: Duration,
    /// TLS to the upstream; `None` = plain text.
    pub tls: Option<UpstreamTls>,
    /// Whether to speak HTTP/2 only.
    pub http2: bool,
    /// Whether and how to find out which servers are well.
    pub health_check: Option<HealthCheck>,
    /// How often an idempotent request that found no connection is tried again.
    pub retries: usize,
}

/// TLS towards an upstream.
#[derive(Debug, Clone)]
pub struct UpstreamTls {
    /// The name the certificate must be for. Never empty: Pingora skips verification for an empty name.
    pub sni: String,
    /// Certificates to trust instead of the system's.
    pub ca: Option<Arc<CaType>>,
    /// What we show when the upstream asks who we are.
    pub client: Option<Arc<CertKey>>,
}

impl PartialEq for UpstreamTls {
    fn eq(&self, other: &Self) -> bool {
        let raw = |certificate: &WrappedX509| certificate.borrow_raw_cert().clone();
        let trusted = |tls: &Self| tls.ca.as_ref().map(|ca| ca.iter().map(raw).collect::<Vec<_>>());
        let shown = |tls: &Self| {
            let client = tls.client.as_ref()?;
            let chain: Vec<_> = [client.leaf()].into_iter().chain(client.intermediates()).map(raw).collect();
            Some((chain, client.key().clone()))
        };
        self.sni == other.sni && trusted(self) == trusted(other) && shown(self) == shown(other)
    }
}

impl Eq for UpstreamTls {}

/// A periodic check of each server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The path of an HTTP check; `None` checks that a connection can be made.
    pub path: Option<String>,
    /// Time between two checks.
    pub interval: Duration,
}

/// A running upstream: hands out peers.
pub struct Upstream {
    settings: UpstreamSettings,
    template: HttpPeer,
    choice: Choice,
}

enum Choice {
    /// One server at a fixed address: the template is the peer.
    Fixed,
    /// Several servers, or one whose address may change.
    Balanced(Arc<LoadBalancer<RoundRobin>>),
}

impl Upstream {
    /// An upstream as `settings` describe it.
    ///
    /// # Errors
    /// An error when a server's address cannot be used, or its certificate would be for an empty name.
    pub fn new(settings: UpstreamSettings) -> pingora::Result<Self> {
        if settings.tls.as_ref().is_some_and(|tls| tls.sni.is_empty()) {
            return Error::e_explain(ErrorType::InvalidCert, "a certificate for an empty name is not verified");
        }
        let fixed = match settings.servers.as_slice() {
            [only] if settings.health_check.is_none() => fixed_address(only),
            _ => None,
        };
        if let Some(address) = fixed {
            return Ok(Self { template: peer(&settings, address), settings, choice: Choice::Fixed });
        }
        let discovery = Lookup { servers: settings.servers.clone() };
        let mut balancer = LoadBalancer::from_backends(Backends::new(Box::new(discovery)));
        balancer.update_frequency = Some(LOOKUP_INTERVAL);
        if let Some(check) = &settings.health_check {
            balancer.set_health_check(health_check(check, &settings)?);
            balancer.health_check_frequency = Some(check.interval);
            balancer.parallel_health_check = true;
        }
        // Every use replaces the address.
        let template = peer(&settings, SocketAddr::Inet(InetAddr::from(([0, 0, 0, 0], 0))));
        Ok(Self { settings, template, choice: Choice::Balanced(Arc::new(balancer)) })
    }

    /// What it was made from.
    pub fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// How often an idempotent request may be tried again on another connection.
    pub fn retries(&self) -> usize {
        self.settings.retries
    }

    /// The balancer, which has to run in the background: it looks up names and checks health.
    pub fn balancer(&self) -> Option<Arc<LoadBalancer<RoundRobin>>> {
        match &self.choice {
            Choice::Fixed => None,
            Choice::Balanced(balancer) => Some(Arc::clone(balancer)),
        }
    }

    /// The peer for the next request; `None` while no server is known to be well.
    pub fn peer(&self) -> Option<Box<HttpPeer>> {
        let mut peer = Box::new(self.template.clone());
        if let Choice::Balanced(balancer) = &self.choice {
            peer._address = balancer.select(b"", SELECTION_STEPS)?.addr;
        }
        Some(peer)
    }

    /// As [`Self::peer`], for a request that asks to leave HTTP: on a connection of its own, which nobody uses before or after.
    pub fn peer_for_upgrade(&self) -> Option<Box<HttpPeer>> {
        let mut peer = self.peer()?;
        peer.group_key = rand::random();
        peer.options.idle_timeout = Some(UNUSED_TIMEOUT);
        peer.options.custom_l4 = Some(Arc::new(InTurn));
        Some(peer)
    }
}

/// The address of a server that needs no look-up.
fn fixed_address(server: &str) -> Option<SocketAddr> {
    match server.strip_prefix("unix:") {
        Some(path) => std::os::unix::net::SocketAddr::from_pathname(path).ok().map(SocketAddr::Unix),
        None => server.parse().ok().map(SocketAddr::Inet),
    }
}

/// A peer with every time limit set: Pingora's own default is to wait for ever.
fn peer(settings: &UpstreamSettings, address: SocketAddr) -> HttpPeer {
    let sni = settings.tls.as_ref().map(|tls| tls.sni.clone()).unwrap_or_default();
    let mut peer = HttpPeer::new(InetAddr::from(([0, 0, 0, 0], 0)), settings.tls.is_some(), sni);
    peer._address = address;
    // What comes after it by a reload, perhaps to trust other certificates, does not find its connections in the pool.
    peer.group_key = rand::random();
    let options = &mut peer.options;
    options.connection_timeout = Some(settings.connect_timeout);
    options.total_connection_timeout = Some(settings.connect_timeout);
    options.read_timeout = Some(settings.read_timeout);
    options.write_timeout = Some(settings.write_timeout);
    options.idle_timeout = Some(IDLE_TIMEOUT);
    options.alpn = if settings.http2 { ALPN::H2 } else { ALPN::H1 };
    if let Some(tls) = &settings.tls {
        options.ca = tls.ca.clone();
        peer.client_cert_key = tls.client.clone();
    }
    peer
}

fn health_check(
    check: &HealthCheck,
    settings: &UpstreamSettings,
) -> pingora::Result<Box<dyn PingoraHealthCheck + Send + Sync>> {
    let Some(path) = &check.path else {
        let mut tcp = TcpHealthCheck::new();
        tcp.peer_template.options.connection_timeout = Some(settings.connect_timeout);
        return Ok(tcp);
    };
    let host = settings.tls.as_ref().map_or("portcullis-health", |tls| tls.sni.as_str());
    let mut check = HttpHealthCheck::new(host, settings.tls.is_some());
    check.req.set_raw_path(path.as_bytes())?;
    check.peer_template.options = peer(settings, SocketAddr::Inet(InetAddr::from(([0, 0, 0, 0], 0)))).options;
    check.peer_template.options.read_timeout = Some(settings.connect_timeout);
    check.reuse_connection = true;
    Ok(Box::new(check))
}

/// Finds the addresses of the configured servers again and again, so that a changed name is followed.
struct Lookup {
    servers: Vec<String>,
}

#[async_trait]
impl ServiceDiscovery for Lookup {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let mut backends = BTreeSet::new();
        for server in &self.servers {
            let addresses = match fixed_address(server) {
                Some(address) => vec![address],
                None => tokio::net::lookup_host(server.as_str())
                    .await
                    .map_err(|error| {
                        tracing::warn!(%server, %error, "upstream name not found");
                        Error::because(ErrorType::ConnectNoRoute, "while looking up an upstream", error)
                    })?
                    .map(SocketAddr::Inet)
                    .collect(),
            };
            backends.extend(addresses.into_iter().map(|addr| Backend { addr, weight: 1, ext: Extensions::new() }));
        }
        Ok((backends, HashMap::new()))
    }
}
