//! The decision log: one line for each denial and for a sample of what was allowed, with everything needed to ask "why" later.
//!
//! An [`Entry`] has no field for a token, and none is ever made out of one.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::line::{Format, Line};
use super::outcome::Outcome;
use super::sink::Sink;
use crate::domain::Revision;

/// What is logged (`log:`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// How decision lines look.
    pub format: Format,
    /// Every how manieth request is logged even if it is simply allowed: 1 = all, 100 = every hundredth, 0 = none. Denials always are.
    pub sample_allows: u64,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: Format::Json, sample_allows: 100 }
    }
}

/// One request and how it ended. What the configuration or the client did not give is `None` and left out.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// When it ended: milliseconds since 1970, UTC.
    pub unix_millis: u64,
    /// `x-request-id`.
    pub request_id: &'a str,
    /// Who connected, before any proxy in between is believed.
    pub client: Option<SocketAddr>,
    /// The id of the rule.
    pub route: Option<&'a str>,
    /// How it ended.
    pub outcome: Outcome,
    /// What exactly was wrong, in our words; never a secret.
    pub detail: Option<&'a str>,
    /// The status that the client got.
    pub status: u16,
    /// The method.
    pub method: &'a str,
    /// The host, as the client wrote it.
    pub host: Option<&'a str>,
    /// The canonical path, without the query string; the raw one, escaped, where there is no canonical one.
    pub path: &'a str,
    /// The verified user.
    pub user: Option<&'a str>,
    /// The verified organization.
    pub organization: Option<&'a str>,
    /// The membership that was judged.
    pub membership: Option<&'a str>,
    /// The resource that the rule named.
    pub resource: Option<&'a str>,
    /// The facts it was decided on.
    pub revision: Option<Revision>,
    /// How old those facts were.
    pub facts_age: Option<Duration>,
    /// From the first byte read to the last byte written.
    pub duration: Duration,
    /// What the upstream answered.
    pub upstream_status: Option<u16>,
}

/// The decision log. Shared by all requests.
#[derive(Debug)]
pub struct DecisionLog {
    sink: Sink,
    format: Format,
    every: Option<NonZeroU64>,
    arrived: AtomicU64,
}

impl DecisionLog {
    /// A log that writes to `sink`.
    pub fn new(settings: &LogSettings, sink: Sink) -> Self {
        Self {
            sink,
            format: settings.format,
            every: NonZeroU64::new(settings.sample_allows),
            arrived: AtomicU64::new(0),
        }
    }

    /// Whether the request that arrives now is in the sample. Ask once for each request, before its outcome is known: then what only a
    /// line needs has to be put together for sampled requests only.
    pub fn sample(&self) -> bool {
        self.every.is_some_and(|every| self.arrived.fetch_add(1, Ordering::Relaxed) % every == 0)
    }

    /// Writes the line that `entry` describes, when the request is in the sample or was not simply allowed; otherwise `entry` is not
    /// even asked for.
    pub fn record<'a>(&self, outcome: Outcome, is_sampled: bool, entry: impl FnOnce() -> Entry<'a>) {
        let is_written = match outcome {
            Outcome::Allowed(_) => is_sampled,
            Outcome::Denied(_) | Outcome::Shadowed(_) | Outcome::Failed(_) | Outcome::Cut(_) => true,
        };
        if is_written {
            self.sink.write(entry().line(self.format));
        }
    }
}

impl Entry<'_> {
    fn line(&self, format: Format) -> Vec<u8> {
        let mut line = Line::new(format);
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(self.unix_millis.min(LAST_MILLISECOND));
        line.word("time", humantime::format_rfc3339_millis(time));
        line.word("outcome", self.outcome.word());
        line.word("reason", self.outcome.reason());
        if let Some(fault) = self.outcome.fault() {
            line.word("fault", fault.code());
        }
        line.number("status", self.status);
        let request =
            [("route", self.route), ("method", Some(self.method)), ("host", self.host), ("path", Some(self.path))];
        let caller = [("user", self.user), ("organization", self.organization), ("membership", self.membership)];
        for (name, value) in request.into_iter().chain(caller) {
            if let Some(value) = value {
                line.value(name, value);
            }
        }
        if let Some(resource) = self.resource {
            line.value("resource", resource);
        }
        if let Some(detail) = self.detail {
            line.value("detail", detail);
        }
        if let Some(revision) = self.revision {
            line.word("revision", revision);
        }
        if let Some(age) = self.facts_age {
            line.number("facts_age_ms", age.as_millis());
        }
        line.number("duration_us", self.duration.as_micros());
        if let Some(status) = self.upstream_status {
            line.number("upstream_status", status);
        }
        line.value("request_id", self.request_id);
        if let Some(client) = self.client {
            line.word("client", client);
        }
        line.finish()
    }
}

/// The end of the year 9999, after which RFC 3339 has no dates.
const LAST_MILLISECOND: u64 = 253_402_300_799_999;

#[cfg(test)]
mod tests;
