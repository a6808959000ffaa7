//! What outlives its decision: the series of long-lived exchanges, and of the revocations that end them.

use std::time::Duration;

use prometheus::{Gauge, IntCounterVec, IntGauge};

use super::metrics::{MetricsError, Registrar};
use super::outcome::Cut;

/// Gauges of the list of revocations, brought up to date at each scrape.
#[derive(Debug, Clone)]
pub struct RevocationGauges {
    age: Gauge,
    entries: IntGauge,
}

/// Series of exchanges that last.
#[derive(Debug, Clone)]
pub struct StreamMeters {
    /// `portcullis_streams_open`: exchanges that have lasted so long that they are decided again.
    pub open: IntGauge,
    cut: IntCounterVec,
}

impl RevocationGauges {
    pub(super) fn new(to: &Registrar) -> Result<Self, MetricsError> {
        Ok(Self {
            age: to.add(Gauge::new(
                "portcullis_revocations_age_seconds",
                "Since the list of revocations was last proven to be complete.",
            )?)?,
            entries: to.gauge("portcullis_revocations", "Revocations in force.")?,
        })
    }

    /// Shows the list in force.
    pub fn show(&self, age: Option<Duration>, entries: usize) {
        self.age.set(age.map_or(f64::INFINITY, |age| age.as_secs_f64()));
        self.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }
}

impl StreamMeters {
    pub(super) fn new(to: &Registrar) -> Result<Self, MetricsError> {
        Ok(Self {
            open: to.gauge("portcullis_streams_open", "Long-lived exchanges that are decided again as they go on.")?,
            cut: to.counters(
                "portcullis_streams_cut_total",
                "Long-lived exchanges that were ended because they are not permitted any more.",
                &["reason"],
            )?,
        })
    }

    /// Counts one that was ended.
    pub fn cut(&self, why: Cut) {
        self.cut.with_label_values(&[why.reason()]).inc();
    }
}
