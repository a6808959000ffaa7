//! The wiring: builds every part once, in dependency order, runs them, drains, shuts down. The clock is read here and nowhere else.
//!
//! ```text
//! proxy …     the request path, as many threads as configured
//! streams     exchanges that last, decided again
//! upkeep      keys, facts, signals: on a thread of its own, so that a flood of requests does not starve them
//! status      live, ready, metrics, explain, world
//!
//! stop:       a signal, or Stop::now -> listeners close -> requests in flight finish, at most `shutdown_timeout` -> the end
//! ```

mod feeding;
mod lookouts;
pub mod offline;
mod reload;
pub mod store;
mod upkeep;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::background::{BackgroundService, GenBackgroundService};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;

use self::feeding::Feeding;
use self::lookouts::Lookouts;
use self::reload::Reloader;
use self::upkeep::Upkeep;
use crate::admin::{self, Admin};
use crate::config::{Facts, Origin, Sidecar, Store};
use crate::domain::{Clock, OrganizationId, UnixSeconds};
use crate::gate::{Gate, InForce, Rules, Tokens};
use crate::live::{self, Orders, World};
use crate::proxy::connection::{ConnectionMeters, Entrance, OpenConnections};
use crate::proxy::listen::{BindError, Bound, Doorway, http_proxy};
use crate::proxy::streams::Streams;
use crate::proxy::upstream::UpstreamSettings;
use crate::proxy::{self, Terms};
use crate::source::workos::HostedError;
use crate::telemetry::{Build, DecisionLog, Metrics, MetricsError, RefusedConnection, Sink};
use crate::token::{self, Cached, JwtVerifier, KeySets, Meters};

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where decisions get their time from")]
    fn now(&self) -> UnixSeconds {
        // A clock before 1970 is wrong; no token is valid then.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixSeconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where times to be written down come from")]
    fn unix_millis(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn boot(&self) -> Option<String> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(id.trim().to_owned()).filter(|id| !id.is_empty())
    }

    fn uptime(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
    }
}

/// The longest that the end waits for facts to be written to disk.
const LAST_WRITE: Duration = Duration::from_secs(10);

/// Why a sidecar cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// An address is taken, or not ours.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// An admin or status address is taken, or not ours.
    #[error("cannot listen on `{address}`")]
    BindAdmin {
        /// Where.
        address: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The metrics contradict each other.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The server that facts come from cannot be asked.
    #[error("facts cannot be asked for")]
    Facts(#[from] HostedError),
    /// Pingora refuses an upstream or a listener.
    #[error("{0}")]
    Pingora(#[from] Box<pingora::Error>),
}

/// Which build this is.
fn build() -> Build {
    Build { version: env!("CARGO_PKG_VERSION"), revision: option_env!("PORTCULLIS_REVISION").unwrap_or("") }
}

/// All series of this build, at zero.
///
/// # Errors
/// [`MetricsError`], never in a tested build.
pub fn metrics() -> Result<Metrics, MetricsError> {
    Metrics::new(build())
}

/// Where a sidecar can be reached.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// Where clients connect, in the order of the configuration.
    pub listeners: Vec<SocketAddr>,
    /// Where the status pages are, when they have a listener of their own.
    pub status: Option<SocketAddr>,
    /// Where the admin pages are, when they are on a socket address.
    pub admin: Option<SocketAddr>,
}

/// A sidecar, ready to run: every socket is bound.
pub struct App {
    server: Server,
    addresses: Addresses,
    world: Arc<World>,
    stop: Stop,
    drain: Drain,
}

/// Stops a running sidecar from elsewhere in the process.
#[derive(Debug, Clone)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// Lets requests in flight finish, then ends.
    pub fn now(&self) {
        self.0.send_replace(true);
    }
}

impl App {
    /// Builds everything that `config` asks for. `file` is read again on reload; `None` = nothing to reload.
    ///
    /// # Errors
    /// [`AppError`]; nothing was started.
    pub fn build(
        config: Sidecar,
        file: Option<PathBuf>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        sink: Sink,
    ) -> Result<Self, AppError> {
        // Before Pingora installs its own choice.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let reload = reload::Beginning::of(&config);
        let bound = config.listeners.into_iter().map(|listener| listener.bind()).collect::<Result<Vec<_>, _>>()?;
        let (world, orders, released) = world(&config.facts, &clock, &metrics);
        let keys = Arc::new(KeySets::new(&config.tokens, token_meters(&metrics)));
        let tokens = tokens(&config.tokens, config.token_cache_bytes, &keys, &metrics);
        let rules = Rules::new(config.rules, &names(&config.upstreams), config.csrf_origins, &metrics);
        let terms = Terms::new(config.proxy, config.upstreams, None)?;
        let in_force = InForce::new(rules, tokens).with_door(terms);
        let mut gate = Gate::new(in_force, Arc::clone(&world), Arc::clone(&clock), Arc::clone(&metrics));
        let feeding = Feeding::of(&config.facts, &clock, &metrics)?;
        if let Some(check) = feeding.as_ref().and_then(Feeding::check) {
            gate = gate.with_check(check);
        }
        let gate = Arc::new(gate);
        let reloader = Reloader::new(file, Arc::clone(&gate), Arc::clone(&metrics), Arc::clone(&clock), reload);
        let reloader = Arc::new(reloader);

        let log = Arc::new(DecisionLog::new(&config.log, sink));
        let open = OpenConnections::new(config.limits.connections);
        let stop = Stop(watch::Sender::new(false));
        let threads = config.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let mut server = Server::new_with_opt_and_conf(None, server_conf(threads));
        let conf = Arc::clone(&server.configuration);
        server.bootstrap();

        let lookouts = Arc::new(Lookouts::new(Arc::clone(&gate)));
        server.add_service(GenBackgroundService::new("upstreams".to_owned(), lookouts));
        let mut addresses =
            Addresses { listeners: bound.iter().map(Bound::address).collect(), status: None, admin: None };
        let between_questions = config.facts.shortest_life();
        let streams = Streams::new(
            Arc::clone(&gate),
            Arc::clone(&clock),
            Arc::clone(&metrics),
            Arc::clone(&log),
            between_questions,
        );
        server.add_service(GenBackgroundService::new("streams".to_owned(), Arc::clone(&streams)));
        let sidecar = proxy::Sidecar::new(Arc::clone(&gate), Arc::clone(&metrics), log);
        let meters = ConnectionMeters {
            refused: metrics.refused_connections(RefusedConnection::TooMany),
            head_timeouts: metrics.refused_connections(RefusedConnection::HeaderTimeout),
            malformed: metrics.refused_connections(RefusedConnection::Malformed),
        };
        let (h2c, plain): (Vec<_>, Vec<_>) = bound.into_iter().partition(Bound::h2c);
        for (name, listeners, is_h2c) in [("proxy", plain, false), ("proxy h2c", h2c, true)] {
            if listeners.is_empty() {
                continue;
            }
            let proxy = http_proxy(&conf, sidecar.clone(), is_h2c, config.limits.requests_per_connection);
            let entrance = Entrance::new(
                proxy,
                Arc::clone(&streams),
                Arc::clone(&open),
                config.limits.head_timeout,
                meters.clone(),
            );
            server.add_service(Doorway::new(name, entrance, listeners, threads, stop.0.subscribe())?);
        }

        let needs_facts = config.facts.exist();
        let facts = feeding.map(|feeding| feeding.begin(&world, &clock, &metrics, orders, released));
        let end = watch::Sender::new(false);
        let facts = facts.map(|facts| (facts, end.subscribe()));
        let upkeep = Upkeep::new(facts, Arc::clone(&reloader));
        server.add_service(GenBackgroundService::new("upkeep".to_owned(), Arc::new(upkeep)));

        let pages = Arc::new(Admin {
            gate,
            world: Arc::clone(&world),
            metrics: Arc::clone(&metrics),
            needs_facts,
            reload: {
                let reloader = Arc::clone(&reloader);
                Box::new(move || reloader.reload())
            },
            configuration: Box::new(move || reloader.standing()),
            token: config.admin.as_ref().and_then(|admin| admin.token.clone()),
        });
        let mut listeners = Vec::new();
        if let Some(address) = config.status {
            let listener = pages.listen_for_status(address);
            let listener = listener.map_err(|source| AppError::BindAdmin { address: address.to_string(), source })?;
            addresses.status = listener.address();
            listeners.push(listener);
        }
        if let Some(settings) = &config.admin {
            let address = &settings.address;
            let listener = pages.listen_for_admin(address, config.status.is_none());
            let listener = listener.map_err(|source| AppError::BindAdmin { address: address.to_string(), source })?;
            addresses.admin = listener.address();
            listeners.push(listener);
        }
        let status = Status { listeners: Mutex::new(listeners) };
        server.add_service(GenBackgroundService::new("status".to_owned(), Arc::new(status)));
        metrics.on_scrape({
            let world = Arc::clone(&world);
            move |_| world.show(clock.uptime())
        });

        let drain = Drain { stop: stop.clone(), open, timeout: config.limits.shutdown_timeout, end };
        Ok(Self { server, addresses, world, stop, drain })
    }

    /// Where this sidecar can be reached, with the ports that were taken.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The facts and revocations in force, for whoever runs a sidecar inside another process.
    pub fn world(&self) -> Arc<World> {
        Arc::clone(&self.world)
    }

    /// A handle to stop it from elsewhere.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Runs until it is told to stop. Blocks the thread: Pingora builds its own runtimes.
    pub fn run(self) {
        self.server.run(RunArgs { shutdown_signal: Box::new(self.drain) });
    }
}

/// The world, what is ordered by requests, and what had to leave.
fn world(
    facts: &Facts,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> (Arc<World>, Orders, UnboundedReceiver<OrganizationId>) {
    let mut settings = live::Settings { max_memory: facts.max_memory, ..live::Settings::default() };
    if matches!(facts.origin, Origin::Workos(_)) {
        settings.load_wait = feeding::LOAD_WAIT;
    }
    if let Origin::Store(Store { everything: true, .. }) = facts.origin {
        // All of them are wanted, whatever they weigh.
        settings.max_memory = u64::MAX;
    }
    let (release, released) = unbounded_channel();
    // An error means that nobody follows them.
    let on_release = Box::new(move |organization: &OrganizationId| _ = release.send(organization.clone()));
    let (world, orders) = World::new(settings, Arc::clone(clock), Arc::clone(metrics), on_release);
    (Arc::new(world), orders, released)
}

fn token_meters(metrics: &Metrics) -> Meters {
    Meters {
        cache_hits: metrics.token_cache.hit.clone(),
        cache_misses: metrics.token_cache.miss.clone(),
        refreshed: metrics.jwks_refresh.clone(),
    }
}

/// The names of upstreams, in the order in which the rules count them.
fn names(upstreams: &[UpstreamSettings]) -> Vec<String> {
    upstreams.iter().map(|upstream| upstream.name.clone()).collect()
}

fn tokens(settings: &token::Settings, cache_bytes: u64, keys: &Arc<KeySets>, metrics: &Metrics) -> Tokens {
    let verifier = Cached::new(JwtVerifier::new(Arc::clone(keys)), cache_bytes, token_meters(metrics));
    Tokens {
        verifier: Box::new(verifier),
        keys: Arc::clone(keys),
        settings: settings.clone(),
        sources: settings.sources(),
    }
}

fn server_conf(threads: usize) -> ServerConf {
    ServerConf {
        threads,
        // Our own drain has waited already.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    }
}

/// The status and admin listeners.
#[derive(Default)]
struct Status {
    listeners: Mutex<Vec<admin::Listener>>,
}

#[async_trait]
impl BackgroundService for Status {
    async fn start(&self, shutdown: ShutdownWatch) {
        let listeners = std::mem::take(&mut *self.listeners.lock());
        let served = listeners.into_iter().map(|listener| listener.serve(shutdown.clone()));
        for result in futures_util::future::join_all(served).await {
            if let Err(error) = result {
                tracing::error!(%error, "status listener failed");
            }
        }
    }
}

/// What Pingora waits for: a reason to stop, and then the end of the last request, and of what keeps the facts.
struct Drain {
    stop: Stop,
    open: Arc<OpenConnections>,
    timeout: Duration,
    end: watch::Sender<bool>,
}

#[async_trait]
impl ShutdownSignalWatch for Drain {
    async fn recv(&self) -> ShutdownSignal {
        self.told_to_stop().await;
        self.stop.now();
        tracing::info!(connections = self.open.count(), "stopping: requests in flight may finish");
        tokio::select! {
            () = self.open.all_closed() => {}
            () = tokio::time::sleep(self.timeout) => {
                tracing::warn!(connections = self.open.count(), "stopping with connections open");
            }
            () = interrupted() => tracing::warn!("stopping at once"),
        }
        // Whatever decides on them is over. Whoever keeps them holds a receiver until they are on disk.
        self.end.send_replace(true);
        tokio::select! {
            () = self.end.closed() => {}
            () = tokio::time::sleep(LAST_WRITE) => tracing::warn!("stopping before the facts are on disk"),
            () = interrupted() => tracing::warn!("stopping at once"),
        }
        ShutdownSignal::FastShutdown
    }
}

impl Drain {
    async fn told_to_stop(&self) {
        let mut stop = self.stop.0.subscribe();
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            () = interrupted() => {}
        }
    }
}

/// SIGTERM or Ctrl-C; never, where signals cannot be had.
async fn interrupted() {
    Interruption::expected().await;
}

/// SIGTERM and Ctrl-C, heard from the moment this is made.
struct Interruption(Option<(Signal, Signal)>);

impl Interruption {
    fn expected() -> Self {
        Self(
            signal(SignalKind::terminate())
                .and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)))
                .ok(),
        )
    }
}

impl Future for Interruption {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some((terminate, interrupt)) = &mut self.0 else { return Poll::Pending };
        match (terminate.poll_recv(context), interrupt.poll_recv(context)) {
            (Poll::Pending, Poll::Pending) => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }
}
