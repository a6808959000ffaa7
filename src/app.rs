//! The wiring: builds every part once, in dependency order, runs them, drains, shuts down. The clock is read here and nowhere else.
//!
//! ```text
//! proxy …     the request path, as many threads as configured
//! streams     exchanges that last, decided again
//! upkeep      keys, facts, signals: on a thread of its own, so that a flood of requests does not starve them
//! status      live, ready, metrics, explain, world
//!
//! stop:       a signal, or Stop::now -> listeners close -> connections get their last answer, requests in flight finish, at most
//!             `shutdown_timeout` -> the end
//! ```

mod descriptors;
mod feeding;
mod lookouts;
pub mod offline;
mod reload;
mod sockets;
mod stopping;
pub mod store;
mod successor;
mod takeover;
mod upkeep;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownWatch};
use pingora::services::background::{BackgroundService, GenBackgroundService};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{oneshot, watch};

use self::descriptors::{Room, TooFew};
use self::feeding::Feeding;
use self::lookouts::Lookouts;
use self::reload::Reloader;
use self::sockets::{Held, Wanted};
use self::stopping::{Drain, Interruption};
use self::successor::Successor;
use self::upkeep::Upkeep;
use crate::admin::Admin;
use crate::config::{Facts, Origin, Sidecar, Store};
use crate::domain::{Clock, OrganizationId, UnixSeconds};
use crate::gate::{Gate, InForce, Rules, Tokens};
use crate::live::{self, Orders, World};
use crate::proxy::accept::Doorway;
use crate::proxy::connection::{Bounds, ConnectionMeters, Entrance, OpenConnections};
use crate::proxy::listen::http_proxy;
use crate::proxy::load::Load;
use crate::proxy::streams::Streams;
use crate::proxy::upstream::UpstreamSettings;
use crate::proxy::{self, Terms};
use crate::socket::pages::Pages;
use crate::socket::{Address, BindError, Socket};
use crate::source::workos::HostedError;
use crate::telemetry::{Build, DecisionLog, Metrics, MetricsError, RefusedConnection, Sink};
use crate::token::{self, Cached, JwtVerifier, KeySets, Meters};

pub use self::stopping::Stop;
pub use self::successor::Failure;
pub use self::takeover::TakeoverError;

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

/// Why a sidecar cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// An address is taken, or not ours.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// It should take the place of another process, and does not know where they meet.
    #[error("`--upgrade` needs `upgrade: {{socket: PATH}}` in the configuration")]
    NowhereToMeet,
    /// Nobody could be served.
    #[error(transparent)]
    Descriptors(#[from] TooFew),
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

impl Addresses {
    /// `all` of them: first those of the listeners, then the ones with the numbers of status and admin.
    fn of(all: &[Address], (status, admin): (Option<usize>, Option<usize>)) -> Self {
        let tcp = |address: &Address| match address {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        };
        let at = |number: Option<usize>| all.get(number?).and_then(tcp);
        let listeners = all.iter().take(status.or(admin).unwrap_or(all.len()));
        Self { listeners: listeners.filter_map(tcp).collect(), status: at(status), admin: at(admin) }
    }
}

/// A sidecar, ready to run: every socket is bound, or will be handed over.
pub struct App {
    server: Server,
    addresses: Addresses,
    world: Arc<World>,
    stop: Stop,
    drain: Drain,
    failure: Failure,
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
        Self::assemble(config, file, clock, metrics, sink, false)
    }

    /// The same for one that gets its sockets from the process whose place it takes, once it is ready.
    ///
    /// # Errors
    /// [`AppError`]; nothing was started.
    pub fn build_successor(
        config: Sidecar,
        file: Option<PathBuf>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        sink: Sink,
    ) -> Result<Self, AppError> {
        Self::assemble(config, file, clock, metrics, sink, true)
    }

    fn assemble(
        config: Sidecar,
        file: Option<PathBuf>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        sink: Sink,
        is_successor: bool,
    ) -> Result<Self, AppError> {
        // Before Pingora installs its own choice.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let reload = reload::Beginning::of(&config);
        let mut wanted = Wanted::default();
        let mut listeners = Vec::new();
        for listener in config.listeners {
            listeners.push((wanted.note(listener.resolve()?), listener));
        }
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
        let (limits, descriptors) = (config.limits, descriptors::raise());
        let requests = limits.requests.unwrap_or(limits.connections);
        let room = Room::within(descriptors, Room { connections: limits.connections, requests })?;
        let open = OpenConnections::new(room.connections);
        let load = Load::new(room.requests, limits.memory, Arc::clone(&open), Arc::clone(&gate));
        let stop = Stop::new();
        let [end, stopping] = [(); 2].map(|()| watch::Sender::new(false));
        let threads = config.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let mut server = Server::new_with_opt_and_conf(None, server_conf(threads, descriptors::kept(descriptors)));
        let conf = Arc::clone(&server.configuration);
        server.bootstrap();

        let lookouts = Arc::new(Lookouts::new(Arc::clone(&gate)));
        server.add_service(GenBackgroundService::new("upstreams".to_owned(), lookouts));
        let between_questions = config.facts.shortest_life();
        let streams = Streams::new(
            Arc::clone(&gate),
            Arc::clone(&clock),
            Arc::clone(&metrics),
            Arc::clone(&log),
            between_questions,
        );
        server.add_service(GenBackgroundService::new("streams".to_owned(), Arc::clone(&streams)));
        server.add_service(GenBackgroundService::new("load".to_owned(), Arc::clone(&load)));
        let head_bytes = {
            let gate = Arc::clone(&gate);
            move || gate.in_force().door().map_or(0, |terms: &Terms| terms.settings.head.head_bytes)
        };
        let bounds = Bounds { head_timeout: limits.head_timeout, head_bytes: Arc::new(head_bytes) };
        let sidecar = proxy::Sidecar::new(Arc::clone(&gate), Arc::clone(&metrics), log, Arc::clone(&load));
        let meters = ConnectionMeters {
            refused: metrics.refused_connections(RefusedConnection::TooMany),
            head_timeouts: metrics.refused_connections(RefusedConnection::HeaderTimeout),
            heads_too_large: metrics.refused_connections(RefusedConnection::HeadersTooLarge),
            floods: metrics.refused_connections(RefusedConnection::Flood),
            made_room: metrics.refused_connections(RefusedConnection::MadeRoom),
            malformed: metrics.refused_connections(RefusedConnection::Malformed),
            tls: metrics.refused_connections(RefusedConnection::Tls),
        };
        let (h2c, plain): (Vec<_>, Vec<_>) = listeners.into_iter().partition(|(_, listener)| listener.h2c);
        for (name, listeners, is_h2c) in [("proxy", plain, false), ("proxy h2c", h2c, true)] {
            if listeners.is_empty() {
                continue;
            }
            let proxy = http_proxy(&conf, sidecar.clone(), is_h2c, limits.requests_per_connection);
            let entrance =
                Entrance::new(proxy, Arc::clone(&streams), Arc::clone(&open), bounds.clone(), meters.clone());
            let (numbers, listeners): (Vec<_>, Vec<_>) = listeners.into_iter().unzip();
            let sockets = wanted.seat(numbers);
            server.add_service(Doorway::new(name, entrance, listeners, sockets, threads, stop.subscribe())?);
        }

        let needs_facts = config.facts.exist();
        let facts = feeding.map(|feeding| feeding.begin(&world, &clock, &metrics, orders, released));
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
            stopping: stopping.subscribe(),
        });
        let status = config.status.map(|address| (wanted.note(Address::Tcp(address)), pages.status_pages()));
        let admin =
            config.admin.map(|settings| (wanted.note(settings.address), pages.admin_pages(config.status.is_none())));
        let numbers = (status.as_ref().map(|(number, _)| *number), admin.as_ref().map(|(number, _)| *number));
        let (seats, served_pages) = status.into_iter().chain(admin).unzip();
        let handed_over = watch::Sender::new(false);
        let served = Served { pages: served_pages, sockets: wanted.seat(seats), handed_over: handed_over.subscribe() };
        let status = Status(Mutex::new(Some(served)));
        server.add_service(GenBackgroundService::new("status".to_owned(), Arc::new(status)));
        metrics.on_scrape({
            let (world, open) = (Arc::clone(&world), Arc::clone(&open));
            move |metrics| {
                world.show(clock.uptime());
                metrics.load.show(open.count(), load.in_flight());
            }
        });

        let (held, failure) = (Arc::new(Held::default()), Failure::default());
        let addresses = if is_successor {
            let upgrade = config.upgrade.clone().ok_or(AppError::NowhereToMeet)?;
            let addresses = Addresses::of(wanted.addresses(), numbers);
            let successor = Successor {
                upgrade,
                pages,
                wanted: Mutex::new(Some(wanted)),
                held: Arc::clone(&held),
                metrics: Arc::clone(&metrics),
                stop: stop.clone(),
                failure: failure.clone(),
            };
            server.add_service(GenBackgroundService::new("successor".to_owned(), Arc::new(successor)));
            addresses
        } else {
            Addresses::of(&wanted.bring(Vec::new(), &held)?, numbers)
        };
        let drain = Drain {
            stop: stop.clone(),
            upgrade: config.upgrade,
            held,
            handed_over,
            stopping,
            metrics,
            open,
            lame_duck: limits.lame_duck,
            timeout: limits.shutdown_timeout,
            end,
        };
        Ok(Self { server, addresses, world, stop, drain, failure })
    }

    /// Where this sidecar can be reached, with the ports that were taken; of a successor, where it is going to be.
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

    /// Why it ends without having served, known when [`Self::run`] is over.
    pub fn failure(&self) -> Failure {
        self.failure.clone()
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

fn server_conf(threads: usize, kept: usize) -> ServerConf {
    ServerConf {
        threads,
        // Our own drain has waited already.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        upstream_keepalive_pool_size: kept,
        ..ServerConf::default()
    }
}

/// The status and admin listeners.
struct Status(Mutex<Option<Served>>);

/// What is served, and the sockets it is served on, in the same order.
struct Served {
    pages: Vec<Pages>,
    sockets: oneshot::Receiver<Vec<Socket>>,
    /// Until then: also while connections end, so that whoever wants to know how that goes is answered.
    handed_over: watch::Receiver<bool>,
}

#[async_trait]
impl BackgroundService for Status {
    async fn start(&self, _: ShutdownWatch) {
        let Some(Served { pages, sockets, handed_over }) = self.0.lock().take() else { return };
        let Ok(sockets) = sockets.await else { return };
        let served = pages.into_iter().zip(sockets).map(|(pages, socket)| {
            let mut handed_over = handed_over.clone();
            pages.serve(socket, async move { _ = handed_over.wait_for(|handed_over| *handed_over).await })
        });
        for result in futures_util::future::join_all(served).await {
            if let Err(error) = result {
                tracing::error!(%error, "status listener failed");
            }
        }
    }
}
