//! What clients may send and hold, and how much is done at once.

use std::time::Duration;

use super::{Reader, raw};

/// Limits that are kept below the proxy.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Time to send a request head.
    pub head_timeout: Duration,
    /// Connections open at once.
    pub connections: usize,
    /// Requests in flight at once, over all connections; `None` = as many as connections.
    pub requests: Option<usize>,
    /// Requests on one connection.
    pub requests_per_connection: Option<u32>,
    /// Bytes of memory that the process may take; `None` = whatever the machine has.
    pub memory: Option<u64>,
    /// Time that connections without a request stay open once it is to stop.
    pub lame_duck: Duration,
    /// Time that requests in flight have to finish.
    pub shutdown_timeout: Duration,
}

impl From<&raw::Limits> for Limits {
    fn from(limits: &raw::Limits) -> Self {
        Self {
            head_timeout: limits.head_timeout.0,
            connections: limits.connections,
            requests: limits.requests,
            requests_per_connection: limits.requests_per_connection,
            memory: limits.memory.map(|memory| memory.0),
            lame_duck: limits.lame_duck.0,
            shutdown_timeout: limits.shutdown_timeout.0,
        }
    }
}

impl Reader<'_> {
    pub(super) fn limits(&mut self) -> raw::Limits {
        let limits: raw::Limits = self.part("limits").unwrap_or_default();
        let nothing_passes = [
            ("head", limits.head.0 == 0),
            ("header_fields", limits.header_fields == 0),
            ("target", limits.target.0 == 0),
            ("head_timeout", limits.head_timeout.0.is_zero()),
            ("connections", limits.connections == 0),
            ("requests", limits.requests == Some(0)),
            ("requests_per_connection", limits.requests_per_connection == Some(0)),
            ("memory", limits.memory.is_some_and(|memory| memory.0 == 0)),
        ];
        for (key, _) in nothing_passes.iter().filter(|(_, is_zero)| *is_zero) {
            self.problem_at("limits", format!("`{key}` is 0: nothing could pass"));
        }
        limits
    }
}
