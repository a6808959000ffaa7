//! The series of the store. Labels come from closed lists: operation ids and status classes.

use std::fmt;
use std::time::Duration;

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Registry, TextEncoder,
};

use super::metrics::{Build, MetricsError, Registrar};

/// Bounds of the buckets of requests, in seconds: 0.25 ms to 30 s.
const REQUEST_BUCKETS: [f64; 16] =
    [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Bounds of the buckets of writes that share a commit.
const BATCH_BUCKETS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// Every series of a store.
pub struct StoreMetrics {
    registry: Registry,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    batch_size: Histogram,
    commit_duration: Histogram,
    failed_commits: IntCounter,
    log_head: IntGauge,
    organizations_resident: IntGauge,
    /// `portcullis_log_lines_dropped_total`.
    pub log_lines_dropped: IntCounter,
    /// `portcullis_panics_total`: must stay 0.
    pub panics: IntCounter,
}

impl StoreMetrics {
    /// All series at zero.
    ///
    /// # Errors
    /// [`MetricsError`], never in a tested build.
    pub fn new(build: Build) -> Result<Self, MetricsError> {
        let to = Registrar::of_process(build)?;
        Ok(Self {
            requests: to.counters(
                "portcullis_store_requests_total",
                "Requests by operation and class of the status.",
                &["operation", "status"],
            )?,
            request_duration: to.add(HistogramVec::new(
                HistogramOpts::new(
                    "portcullis_store_request_duration_seconds",
                    "From the head of a request to the head of its answer.",
                )
                .buckets(REQUEST_BUCKETS.to_vec()),
                &["operation"],
            )?)?,
            batch_size: to.add(Histogram::with_opts(
                HistogramOpts::new("portcullis_store_commit_writes", "Writes that shared one commit.")
                    .buckets(BATCH_BUCKETS.to_vec()),
            )?)?,
            commit_duration: to.add(Histogram::with_opts(
                HistogramOpts::new(
                    "portcullis_store_commit_duration_seconds",
                    "From the begin of a transaction to its end on the disk.",
                )
                .buckets(REQUEST_BUCKETS.to_vec()),
            )?)?,
            failed_commits: to
                .counter("portcullis_store_failed_commits_total", "Transactions that were given up and rolled back.")?,
            log_head: to.gauge("portcullis_store_log_head", "Sequence number of the newest transaction.")?,
            organizations_resident: to.gauge("portcullis_organizations_resident", "Organizations in memory.")?,
            log_lines_dropped: to
                .counter("portcullis_log_lines_dropped_total", "Log lines dropped because nobody read them in time.")?,
            panics: to.counter("portcullis_panics_total", "Panics; each one is a fault of ours.")?,
            registry: to.0,
        })
    }

    /// Counts an answered request. `operation` is its id in the description of the API, or a word of ours.
    pub fn answered(&self, operation: &'static str, status: u16, duration: Duration) {
        let class = match status {
            ..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500.. => "5xx",
        };
        self.requests.with_label_values(&[operation, class]).inc();
        self.request_duration.with_label_values(&[operation]).observe(duration.as_secs_f64());
    }

    /// Counts a transaction of so many writes that is on the disk.
    pub fn committed(&self, writes: u64, duration: Duration) {
        // At most 128.
        self.batch_size.observe(f64::from(u32::try_from(writes).unwrap_or(u32::MAX)));
        self.commit_duration.observe(duration.as_secs_f64());
    }

    /// Counts a transaction that was rolled back.
    pub fn rolled_back(&self) {
        self.failed_commits.inc();
    }

    /// Shows where the log ends and what is in memory.
    pub fn show(&self, log_head: u64, organizations: u64) {
        self.log_head.set(i64::try_from(log_head).unwrap_or(i64::MAX));
        self.organizations_resident.set(i64::try_from(organizations).unwrap_or(i64::MAX));
    }

    /// Everything, in the Prometheus text format 0.0.4.
    pub fn render(&self) -> String {
        let mut text = Vec::with_capacity(16 * 1024);
        // Fails for an empty family only, and leaves what was encoded before it.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}

impl fmt::Debug for StoreMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreMetrics").finish_non_exhaustive()
    }
}
