//! What requests are judged and served by, apart from facts: put in force as one value, so that no request sees half of one configuration
//! and half of another.

use std::any::Any;
use std::sync::Arc;

use http::HeaderName;
use tokio::sync::watch;

use super::{Forward, Gate, Trace};
use crate::rules::{Route, RouteTable};
use crate::telemetry::{Metrics, RouteMeters};
use crate::token::{self, CredentialSource, KeySets, TokenVerifier};

/// Rules, tokens, and what a door needs besides, that belong together.
pub struct InForce {
    pub(super) rules: Rules,
    pub(super) tokens: Tokens,
    /// The gate keeps it for the door, and does not look at it.
    door: Box<dyn Any + Send + Sync>,
}

/// The rules in force.
pub struct Rules {
    pub(super) table: RouteTable,
    pub(super) meters: RouteMeters,
    /// For each rule, the place of its upstream among all.
    upstreams: Box<[usize]>,
    /// Origins whose unsafe requests may carry a cookie credential.
    pub(super) csrf_origins: Box<[Box<str>]>,
}

/// How tokens are found and verified.
pub struct Tokens {
    /// Verifies.
    pub verifier: Box<dyn TokenVerifier>,
    /// The keys that it verifies by, for whoever keeps them fresh.
    pub keys: Arc<KeySets>,
    /// What was configured.
    pub settings: token::Settings,
    /// Where credentials may stand, for whichever issuer.
    pub sources: Vec<CredentialSource>,
}

impl Tokens {
    /// Whether the issuer called `name` has its tokens where this credential stood.
    pub(super) fn may_stand_at(&self, name: &str, source: &CredentialSource) -> bool {
        self.sources.len() == 1 || self.settings.issuer(name).is_some_and(|issuer| issuer.from.contains(source))
    }
}

impl Rules {
    /// Puts `table` in force: `upstreams` are all upstreams' names, in the order in which the door counts them.
    pub fn new(table: RouteTable, upstreams: &[String], csrf_origins: Vec<String>, metrics: &Metrics) -> Self {
        let name = |route: &Route| route.upstream.as_deref().unwrap_or(RouteMeters::NONE).to_owned();
        let meters = RouteMeters::new(
            metrics,
            table.routes().iter().map(|route| (&*route.id, route.upstream.as_deref().unwrap_or(RouteMeters::NONE))),
        );
        // A name that is not there cannot be: the rules were compiled against the same names. It would lead nowhere.
        let index =
            |route: &Route| upstreams.iter().position(|upstream| *upstream == name(route)).unwrap_or(usize::MAX);
        let upstreams = table.routes().iter().map(index).collect();
        Self { table, meters, upstreams, csrf_origins: csrf_origins.into_iter().map(Into::into).collect() }
    }

    /// The rules themselves.
    pub fn table(&self) -> &RouteTable {
        &self.table
    }

    pub(super) fn upstream(&self, route: &Route) -> usize {
        self.upstreams.get(route.index).copied().unwrap_or(usize::MAX)
    }
}

impl InForce {
    /// What judges, without a door.
    pub fn new(rules: Rules, tokens: Tokens) -> Self {
        Self { rules, tokens, door: Box::new(()) }
    }

    /// With what a door serves by: requests find it at [`Trace::door`] and [`Forward::door`] for as long as they last.
    pub fn with_door<D: Any + Send + Sync>(self, door: D) -> Self {
        Self { door: Box::new(door), ..self }
    }

    /// What the door serves by; `None` when no door of this kind put it there.
    pub fn door<D: Any>(&self) -> Option<&D> {
        self.door.downcast_ref()
    }

    /// The headers besides `cookie` that credentials may stand in.
    pub(super) fn credential_headers(&self) -> Box<[HeaderName]> {
        let header = |source: &CredentialSource| match source {
            CredentialSource::Header(name) => Some(name.clone()),
            CredentialSource::Cookie(_) => None,
        };
        self.tokens.sources.iter().filter_map(header).collect()
    }
}

impl Gate {
    /// Replaces what is in force; requests in flight finish with what they began with.
    pub fn replace(&self, in_force: InForce) {
        self.in_force.store(Arc::new(in_force));
        self.replaced.send_replace(());
    }

    /// Forgets every remembered verification: the next one of each token is done anew.
    pub fn forget_verified(&self) {
        self.in_force.load().tokens.verifier.forget();
    }

    /// What is in force now.
    pub fn in_force(&self) -> Arc<InForce> {
        self.in_force.load_full()
    }

    /// Fixes what the request of `trace` is served and judged by, from now to its end.
    pub fn begin(&self, trace: &mut Trace) {
        trace.in_force.get_or_insert_with(|| self.in_force.load_full());
    }

    /// The key sets in force.
    pub fn keys(&self) -> Arc<KeySets> {
        Arc::clone(&self.in_force.load().tokens.keys)
    }

    /// Hears of every [`Self::replace`] from now on.
    pub fn replacements(&self) -> watch::Receiver<()> {
        self.replaced.subscribe()
    }
}

impl Trace {
    /// What the door serves the request by, once it has [begun](Gate::begin).
    pub fn door<D: Any>(&self) -> Option<&D> {
        self.in_force.as_ref()?.door()
    }
}

impl Forward {
    /// What the door serves the request by.
    pub fn door<D: Any>(&self) -> Option<&D> {
        self.in_force.door()
    }
}
