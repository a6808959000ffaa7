//! Counters of the request path, resolved before the first request: recording is a few atomic additions, without a label look-up.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec};

use super::metrics::Metrics;
use super::outcome::Outcome;

/// The meters of every route of one rule table, in its order, and one for requests that no rule covers.
///
/// Built anew when rules are reloaded; a route that keeps its id keeps its counts.
#[derive(Debug)]
pub struct RouteMeters {
    routes: Box<[RouteMeter]>,
    none: RouteMeter,
}

/// The meters of one route.
#[derive(Debug)]
pub struct RouteMeter {
    route: Box<str>,
    requests: IntCounterVec,
    shadow_denied: IntCounterVec,
    slots: Box<[OnceLock<Slot>]>,
    request_duration: Histogram,
    upstream_duration: Histogram,
}

#[derive(Debug)]
struct Slot {
    requests: IntCounter,
    shadow_denied: Option<IntCounter>,
}

impl RouteMeters {
    /// The value of the labels `route` and `upstream` for requests that no rule covers.
    pub const NONE: &'static str = "none";

    /// Meters for `routes`: (id, name of the upstream), in the order of the table.
    pub fn new<'a>(metrics: &Metrics, routes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self {
            routes: routes.into_iter().map(|(id, upstream)| metrics.route(id, upstream)).collect(),
            none: metrics.route(Self::NONE, Self::NONE),
        }
    }

    /// The meter of the route at `index` of the table; that of no route when there is none.
    pub fn at(&self, index: Option<usize>) -> &RouteMeter {
        index.and_then(|index| self.routes.get(index)).unwrap_or(&self.none)
    }
}

impl RouteMeter {
    pub(super) fn new(
        route: &str,
        requests: IntCounterVec,
        shadow_denied: IntCounterVec,
        request_duration: Histogram,
        upstream_duration: Histogram,
    ) -> Self {
        let slots = std::iter::repeat_with(OnceLock::new).take(Outcome::COUNT).collect();
        Self { route: route.into(), requests, shadow_denied, slots, request_duration, upstream_duration }
    }

    /// Counts one request that ended with `outcome`, `duration` after its first byte.
    pub fn record(&self, outcome: Outcome, duration: Duration) {
        self.request_duration.observe(duration.as_secs_f64());
        let Some(slot) = self.slots.get(outcome.ordinal()) else { return };
        let slot = slot.get_or_init(|| self.resolve(outcome));
        slot.requests.inc();
        if let Some(shadow_denied) = &slot.shadow_denied {
            shadow_denied.inc();
        }
    }

    /// Notes how long the upstream took, from the first attempt to connect to its response header.
    pub fn record_upstream(&self, duration: Duration) {
        self.upstream_duration.observe(duration.as_secs_f64());
    }

    fn resolve(&self, outcome: Outcome) -> Slot {
        let shadow_denied = || self.shadow_denied.with_label_values(&[&*self.route, outcome.reason()]);
        Slot {
            requests: self.requests.with_label_values(&[&*self.route, outcome.word(), outcome.reason()]),
            shadow_denied: matches!(outcome, Outcome::Shadowed(_)).then(shadow_denied),
        }
    }
}

/// Answers of the token cache.
#[derive(Debug, Clone)]
pub struct TokenCacheMeters {
    /// The token was there, verified earlier.
    pub hit: IntCounter,
    /// It was not, and was verified now.
    pub miss: IntCounter,
}
