//! Every metric series, in one struct (`docs/` and the dashboards list the same names).
//!
//! Labels come from the configuration (route, upstream, issuer) and from closed lists, never from a request: the number of series is
//! bounded by the configuration. Nothing is process-wide, so a process may hold two.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::facts::{FactsUpdate, Interruption, MinRevision, OrganizationLoad, SourceAnswer, UpdateResult};
use super::load::LoadGauges;
use super::meters::{RouteMeter, TokenCacheMeters};
use super::streams::{RevocationGauges, StreamMeters};
use crate::domain::{Anomalies, Revision, TokenFault};

/// Bounds of the buckets of decisions, in seconds: 250 ns to 10 ms.
const DECISION_BUCKETS: [f64; 14] =
    [250e-9, 500e-9, 1e-6, 2.5e-6, 5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 10e-3];
/// Bounds of the buckets of requests, in seconds: 0.5 ms to 30 s.
const REQUEST_BUCKETS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Why there are no metrics: a name or bucket list of ours that the library refuses.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be registered")]
pub struct MetricsError(#[from] prometheus::Error);

/// Which build this is (`portcullis_build_info`).
#[derive(Debug, Clone, Copy)]
pub struct Build {
    /// The version of the package.
    pub version: &'static str,
    /// The commit it was built from; empty when unknown.
    pub revision: &'static str,
}

/// Every series.
pub struct Metrics {
    registry: Registry,
    on_scrape: Mutex<Vec<OnScrape>>,
    requests: IntCounterVec,
    shadow_denied: IntCounterVec,
    request_duration: HistogramVec,
    upstream_duration: HistogramVec,
    token_rejected: IntCounterVec,
    facts_updates: IntCounterVec,
    facts_anomalies: IntCounterVec,
    organization_loads: IntCounterVec,
    source_requests: IntCounterVec,
    facts_interruptions: IntCounterVec,
    refused_connections: IntCounterVec,
    config_reloads: IntCounterVec,
    pub(super) upgrades: IntCounterVec,
    config_refused: IntGauge,
    min_revisions: IntCounterVec,
    /// `portcullis_decision_duration_seconds`: from the request's view to the verdict, token verification included.
    pub decision_duration: Histogram,
    /// `portcullis_jwks_refresh_total{issuer,result}`.
    pub jwks_refresh: IntCounterVec,
    /// `portcullis_token_cache_total{result}`.
    pub token_cache: TokenCacheMeters,
    /// `portcullis_facts_age_seconds` and its kin.
    pub facts: FactsGauges,
    /// `portcullis_revocations` and its age.
    pub revocations: RevocationGauges,
    /// `portcullis_streams_open` and `portcullis_streams_cut_total`.
    pub streams: StreamMeters,
    /// `portcullis_connections_open` and `portcullis_requests_in_flight`.
    pub load: LoadGauges,
    /// `portcullis_degraded_decisions_total`: served on facts older than five seconds, within the bound.
    pub degraded_decisions: IntCounter,
    /// `portcullis_organizations_evicted_total`: residents that had to make room.
    pub organizations_evicted: IntCounter,
    /// `portcullis_facts_divergence_total`: organizations whose facts here were not those of the store; must stay 0.
    pub facts_divergence: IntCounter,
    /// `portcullis_facts_rollbacks_total`: times that the source had older facts than those in force.
    pub facts_rollbacks: IntCounter,
    /// `portcullis_facts_saves_total{result}`.
    facts_saves: IntCounterVec,
    /// `portcullis_log_lines_dropped_total`.
    pub log_lines_dropped: IntCounter,
    /// `portcullis_panics_total`: must stay 0.
    pub panics: IntCounter,
}

type OnScrape = Box<dyn Fn(&Metrics) + Send + Sync>;

/// Gauges of the facts in force, brought up to date at each scrape.
#[derive(Debug, Clone)]
pub struct FactsGauges {
    /// Seconds since the last proof of freshness; `+Inf` while there never was one.
    pub age: Gauge,
    /// Seconds since the last proof for the organization for which it is longest ago.
    pub oldest: Gauge,
    /// The sequence number of the revision in force; 0 while there is none.
    pub revision: IntGauge,
    /// Organizations in memory.
    pub organizations_resident: IntGauge,
    /// Bytes that the facts in memory take.
    pub bytes: IntGauge,
}

/// Why a connection or a request ended before any of our hooks saw a request (`reason` of `portcullis_refused_connections_total`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedConnection {
    /// Not HTTP, or HTTP that the parser refuses.
    Malformed,
    /// More or longer header fields than are read.
    HeadersTooLarge,
    /// The header did not come in time.
    HeaderTimeout,
    /// Fewer bytes per second than the floor.
    TooSlow,
    /// More connections than are served at once.
    TooMany,
    /// Nothing was asked on it, and another needed the room.
    MadeRoom,
    /// HTTP/2 frames that cost work and bring none.
    Flood,
    /// The TLS handshake failed.
    Tls,
}

impl Metrics {
    /// All series, at zero.
    ///
    /// # Errors
    /// [`MetricsError`]; never with the names in this file, which a test registers.
    pub fn new(build: Build) -> Result<Self, MetricsError> {
        let to = Registrar::of_process(build)?;
        let token_cache = to.counters("portcullis_token_cache_total", "Look-ups of verified tokens.", &["result"])?;
        Ok(Self {
            requests: to.counters(
                "portcullis_requests_total",
                "Requests, by rule and how they ended.",
                &["route", "outcome", "reason"],
            )?,
            shadow_denied: to.counters(
                "portcullis_shadow_denied_total",
                "Requests that passed only because their rule is in shadow mode.",
                &["route", "reason"],
            )?,
            request_duration: to.histograms(
                "portcullis_request_duration_seconds",
                "From the first byte of a request to the last byte of its answer.",
                &REQUEST_BUCKETS,
            )?,
            upstream_duration: to.histograms(
                "portcullis_upstream_duration_seconds",
                "From the attempt to connect to the header of the answer.",
                &REQUEST_BUCKETS,
            )?,
            token_rejected: to.counters(
                "portcullis_token_rejected_total",
                "Tokens that did not verify.",
                &["fault"],
            )?,
            jwks_refresh: to.counters(
                "portcullis_jwks_refresh_total",
                "Refreshes of key sets.",
                &["issuer", "result"],
            )?,
            facts_updates: to.counters("portcullis_facts_updates_total", "Updates of facts.", &["kind", "result"])?,
            facts_anomalies: to.counters(
                "portcullis_facts_anomalies_total",
                "Rows that name something missing and so count for nothing.",
                &["anomaly"],
            )?,
            organization_loads: to.counters(
                "portcullis_organization_loads_total",
                "Organizations loaded on first use.",
                &["result"],
            )?,
            source_requests: to.counters(
                "portcullis_facts_requests_total",
                "Requests to the server that facts are read from.",
                &["result"],
            )?,
            facts_interruptions: to.counters(
                "portcullis_facts_interruptions_total",
                "Interruptions of following the store.",
                &["reason"],
            )?,
            refused_connections: to.counters(
                "portcullis_refused_connections_total",
                "Connections or requests refused before they could be judged.",
                &["reason"],
            )?,
            config_reloads: to.counters(
                "portcullis_config_reloads_total",
                "Reloads of the configuration.",
                &["result"],
            )?,
            upgrades: to.counters(
                "portcullis_upgrades_total",
                "Processes that took the place of another, or should have.",
                &["result"],
            )?,
            config_refused: to.gauge(
                "portcullis_config_refused",
                "Whether the configuration file was refused when it was read last, so that another one is in force.",
            )?,
            decision_duration: to.add(Histogram::with_opts(
                HistogramOpts::new(
                    "portcullis_decision_duration_seconds",
                    "From the view of a request to its verdict.",
                )
                .buckets(DECISION_BUCKETS.to_vec()),
            )?)?,
            token_cache: TokenCacheMeters {
                hit: token_cache.with_label_values(&["hit"]),
                miss: token_cache.with_label_values(&["miss"]),
            },
            facts: FactsGauges {
                age: to.add(Gauge::new(
                    "portcullis_facts_age_seconds",
                    "Since the facts were last proven to be the newest.",
                )?)?,
                oldest: to.add(Gauge::new(
                    "portcullis_facts_oldest_seconds",
                    "Since the facts of any organization in memory were last proven to be the newest, at worst.",
                )?)?,
                revision: to.gauge("portcullis_facts_revision", "Sequence number of the facts in force.")?,
                organizations_resident: to.gauge("portcullis_organizations_resident", "Organizations in memory.")?,
                bytes: to.gauge("portcullis_facts_bytes", "Bytes that the facts in memory take.")?,
            },
            revocations: RevocationGauges::new(&to)?,
            streams: StreamMeters::new(&to)?,
            load: LoadGauges::new(&to)?,
            min_revisions: to.counters(
                "portcullis_min_revision_total",
                "Requests that asked for newer facts than were in force, or for those of another history.",
                &["result"],
            )?,
            degraded_decisions: to.counter(
                "portcullis_degraded_decisions_total",
                "Decisions on facts that are not fresh but within their bound.",
            )?,
            organizations_evicted: to
                .counter("portcullis_organizations_evicted_total", "Organizations that had to make room for others.")?,
            facts_divergence: to.counter(
                "portcullis_facts_divergence_total",
                "Organizations whose facts in memory were not those of the store; must stay 0.",
            )?,
            facts_rollbacks: to.counter(
                "portcullis_facts_rollbacks_total",
                "Times that the source had older facts than those in force, which stayed.",
            )?,
            facts_saves: to.counters("portcullis_facts_saves_total", "Writes of facts to disk.", &["result"])?,
            log_lines_dropped: to
                .counter("portcullis_log_lines_dropped_total", "Log lines dropped because nobody read them in time.")?,
            panics: to.counter("portcullis_panics_total", "Panics; each one is a fault of ours.")?,
            on_scrape: Mutex::default(),
            registry: to.0,
        })
    }

    /// The meter of one route that forwards to the upstream named `upstream`. The same names give the same counts.
    pub fn route(&self, route: &str, upstream: &str) -> RouteMeter {
        RouteMeter::new(
            route,
            self.requests.clone(),
            self.shadow_denied.clone(),
            self.request_duration.with_label_values(&[upstream]),
            self.upstream_duration.with_label_values(&[upstream]),
        )
    }

    /// Counts a token that did not verify. The request that carried it is counted by its [`RouteMeter`].
    pub fn token_rejected(&self, fault: TokenFault) {
        self.token_rejected.with_label_values(&[fault.code()]).inc();
    }

    /// Counts a write of facts to disk.
    pub fn facts_saved(&self, done: bool) {
        self.facts_saves.with_label_values(&[if done { "done" } else { "failed" }]).inc();
    }

    /// Counts an update of facts.
    pub fn facts_updated(&self, kind: FactsUpdate, result: UpdateResult) {
        self.facts_updates.with_label_values(&[kind.code(), result.code()]).inc();
    }

    /// Counts what was odd about rows that came into force.
    pub fn facts_odd(&self, anomalies: &Anomalies) {
        for (anomaly, count) in anomalies.counts() {
            self.facts_anomalies.with_label_values(&[anomaly.code()]).inc_by(count);
        }
    }

    /// Counts the load of one organization.
    pub fn organization_loaded(&self, result: OrganizationLoad) {
        self.organization_loads.with_label_values(&[result.code()]).inc();
    }

    /// Counts a request for facts newer than those in force.
    pub fn min_revision(&self, result: MinRevision) {
        self.min_revisions.with_label_values(&[result.code()]).inc();
    }

    /// Counts a request to the server that facts are read from.
    pub fn source_answered(&self, result: SourceAnswer) {
        self.source_requests.with_label_values(&[result.code()]).inc();
    }

    /// Counts an interruption of following the store.
    pub fn facts_interrupted(&self, reason: Interruption) {
        self.facts_interruptions.with_label_values(&[reason.code()]).inc();
    }

    /// The counter of connections or requests that were refused for `reason` before they could be judged.
    pub fn refused_connections(&self, reason: RefusedConnection) -> IntCounter {
        let reason = match reason {
            RefusedConnection::Malformed => "malformed",
            RefusedConnection::HeadersTooLarge => "headers_too_large",
            RefusedConnection::HeaderTimeout => "header_timeout",
            RefusedConnection::TooSlow => "too_slow",
            RefusedConnection::TooMany => "too_many",
            RefusedConnection::MadeRoom => "made_room",
            RefusedConnection::Flood => "flood",
            RefusedConnection::Tls => "tls",
        };
        self.refused_connections.with_label_values(&[reason])
    }

    /// Counts a reload of the configuration; a refused one changed nothing.
    pub fn config_reloaded(&self, accepted: bool) {
        self.config_reloads.with_label_values(&[if accepted { "ok" } else { "refused" }]).inc();
        self.config_refused.set(i64::from(!accepted));
    }

    /// Has `refresh` run before each scrape, for what is measured by looking rather than by counting.
    pub fn on_scrape(&self, refresh: impl Fn(&Self) + Send + Sync + 'static) {
        self.on_scrape.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(refresh));
    }

    /// Everything, in the Prometheus text format 0.0.4.
    pub fn render(&self) -> String {
        for refresh in self.on_scrape.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            refresh(self);
        }
        let mut text = Vec::with_capacity(16 * 1024);
        // Fails for an empty family only, and leaves what was encoded before it.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}

impl FactsGauges {
    /// Shows the facts in force.
    pub fn show(&self, age: Option<Duration>, revision: Option<Revision>, organizations: usize, bytes: usize) {
        self.age.set(seconds(age));
        self.revision.set(revision.map_or(0, |revision| i64::try_from(revision.seq).unwrap_or(i64::MAX)));
        self.organizations_resident.set(i64::try_from(organizations).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Shows the age of the oldest facts in memory.
    pub fn show_oldest(&self, age: Option<Duration>) {
        self.oldest.set(seconds(age));
    }
}

fn seconds(age: Option<Duration>) -> f64 {
    age.map_or(f64::INFINITY, |age| age.as_secs_f64())
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Makes series and enters them into the registry in one step, so that none is forgotten.
pub(super) struct Registrar(pub(super) Registry);

impl Registrar {
    /// A registry that knows about the process and its build.
    pub(super) fn of_process(build: Build) -> Result<Self, MetricsError> {
        let to = Self(Registry::new());
        let info = to.add(IntGaugeVec::new(
            Opts::new("portcullis_build_info", "Which build this is; always 1."),
            &["version", "revision"],
        )?)?;
        info.with_label_values(&[build.version, build.revision]).set(1);
        to.0.register(Box::new(ProcessCollector::for_self()))?;
        Ok(to)
    }

    pub(super) fn add<C: Collector + Clone + 'static>(&self, series: C) -> Result<C, MetricsError> {
        self.0.register(Box::new(series.clone()))?;
        Ok(series)
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        self.add(IntCounter::new(name, help)?)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.add(IntGauge::new(name, help)?)
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, MetricsError> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn histograms(&self, name: &str, help: &str, buckets: &[f64]) -> Result<HistogramVec, MetricsError> {
        self.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), &["upstream"])?)
    }
}

#[cfg(test)]
mod tests;
