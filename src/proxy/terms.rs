//! What requests are served by besides rules and tokens: limits, header policy, upstreams. In force together with those, and kept by a
//! request to its end, so that the place of an upstream is looked up among the upstreams that the rule was written for.

use std::sync::Arc;

use super::Settings;
use super::upstream::{Upstream, UpstreamSettings};
use crate::domain::{Denial, DenyReason};
use crate::gate::{Forward, Trace};

/// The terms on which requests are served.
pub struct Terms {
    /// Limits and header policy.
    pub settings: Settings,
    upstreams: Box<[Arc<Upstream>]>,
}

impl Terms {
    /// Terms with `upstreams` in the order in which the rules count them. Those that are just as in `before` stay what they are, with their
    /// connections and with what is known of the health of their servers.
    ///
    /// # Errors
    /// Pingora's error when a server's address cannot be used.
    pub fn new(settings: Settings, upstreams: Vec<UpstreamSettings>, before: Option<&Self>) -> pingora::Result<Self> {
        let known = before.map_or(&[][..], Self::upstreams);
        let upstream = |settings: UpstreamSettings| match known.iter().find(|known| *known.settings() == settings) {
            Some(same) => Ok(Arc::clone(same)),
            None => Upstream::new(settings).map(Arc::new),
        };
        let upstreams = upstreams.into_iter().map(upstream).collect::<pingora::Result<_>>()?;
        Ok(Self { settings, upstreams })
    }

    /// All upstreams.
    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// Those of a request that has begun.
    ///
    /// # Errors
    /// [`DenyReason::Internal`] when there are none: then nothing is served.
    pub(super) fn of(trace: &Trace) -> Result<&Self, Denial> {
        trace.door().ok_or_else(|| Denial::because(DenyReason::Internal, "nothing says how to serve a request"))
    }

    /// The most bytes that the body of a permitted request may have; `None` = any number.
    pub(super) fn most(&self, forward: &Forward) -> Option<u64> {
        Some(forward.max_body().unwrap_or(self.settings.max_body)).filter(|most| *most > 0)
    }

    /// The upstream that a permitted request goes to.
    pub(super) fn upstream_of(forward: &Forward) -> Option<&Upstream> {
        forward.door::<Self>()?.upstreams.get(forward.upstream()).map(Arc::as_ref)
    }
}
