//! What is being done: open connections and requests in flight.

use prometheus::IntGauge;

use super::metrics::{MetricsError, Registrar};

/// Gauges of work, brought up to date at each scrape.
#[derive(Debug, Clone)]
pub struct LoadGauges {
    connections: IntGauge,
    requests: IntGauge,
}

impl LoadGauges {
    pub(super) fn new(to: &Registrar) -> Result<Self, MetricsError> {
        Ok(Self {
            connections: to.gauge("portcullis_connections_open", "Connections of clients.")?,
            requests: to
                .gauge("portcullis_requests_in_flight", "Requests that were begun and not answered in full.")?,
        })
    }

    /// Shows what is being done.
    pub fn show(&self, connections: usize, requests: usize) {
        self.connections.set(i64::try_from(connections).unwrap_or(i64::MAX));
        self.requests.set(i64::try_from(requests).unwrap_or(i64::MAX));
    }
}
