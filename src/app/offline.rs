//! Everything that decides and nothing that listens: for commands that answer questions about a configuration.

use std::sync::Arc;
use std::time::Duration;

use super::{token_meters, tokens, world};
use async_trait::async_trait;

use crate::config::{Facts, Origin, RuleTest, Sidecar};
use crate::domain::Clock;
use crate::domain::record::{CatalogRows, OrganizationRows};
use crate::domain::{Epoch, MembershipId, OrganizationId, PermissionSlug, ResourceRef, Revision};
use crate::gate::{Explanation, Gate, InForce, RequestView, Rules};
use crate::live::InstallError;
use crate::rules::RouteTable;
use crate::source::{Check, FileSource, Organizations, Source, SourceError, Update};
use crate::telemetry::MetricsError;
use crate::token::{KeySets, KeySource, KeyStatus};

/// Why questions cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The facts cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The facts contradict each other.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// Nothing can be fetched over TLS here.
    #[error(transparent)]
    Keys(#[from] crate::token::KeysError),
    /// The metrics contradict each other.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// A gate without a door, and how its keys are doing.
pub struct Offline {
    /// Decides.
    pub gate: Gate,
    /// The state of the keys that were loaded.
    pub keys: Vec<KeyStatus>,
}

/// Which keys to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadKeys {
    /// Those in files.
    Files,
    /// All, also over the network.
    All,
}

/// Builds a gate from `config` as the sidecar would, with facts as they are now.
///
/// # Errors
/// [`OfflineError`] when the facts are not acceptable.
pub async fn gate(config: Sidecar, clock: Arc<dyn Clock>, load: LoadKeys) -> Result<Offline, OfflineError> {
    let metrics = Arc::new(super::metrics()?);
    let (world, _orders, _) = world(&config.facts, &clock, &metrics);
    if let Origin::File(file) = &config.facts.origin
        && let Update::Complete(complete) = FileSource::new(file.clone()).pull(None).await?
        && let Organizations::All(organizations) = complete.organizations
    {
        world.install_all(complete.revision, &complete.catalog, organizations)?;
        world.prove(clock.uptime());
    }
    let mut loaded = config.tokens.clone();
    if load == LoadKeys::Files {
        loaded.issuers.retain(|issuer| matches!(issuer.keys, KeySource::File(_)));
    }
    let keys = Arc::new(KeySets::new(&loaded, token_meters(&metrics)));
    keys.refresh().await?;
    let status = keys.status();
    let rules = Rules::new(config.rules, &super::names(&config.upstreams), config.csrf_origins, &metrics);
    let tokens = tokens(&loaded, config.token_cache_bytes, &keys, &metrics);
    Ok(Offline { gate: Gate::new(InForce::new(rules, tokens), world, clock, metrics), keys: status })
}

/// Where `verify: live` leads in a rule test: the facts of the test are all there is.
struct Confirmed;

#[async_trait]
impl Check for Confirmed {
    async fn check(&self, _: &MembershipId, _: &PermissionSlug, _: &ResourceRef<'_>) -> Result<bool, SourceError> {
        Ok(true)
    }
}

/// What the rules make of one rule test.
///
/// # Errors
/// [`OfflineError`] when the facts of the test contradict each other.
pub async fn run_test(rules: &RouteTable, test: &RuleTest, clock: Arc<dyn Clock>) -> Result<Explanation, OfflineError> {
    let metrics = Arc::new(super::metrics()?);
    let nowhere = Facts { max_staleness: Duration::MAX, max_memory: u64::MAX, ..Facts::NONE };
    let (world, _orders, _) = world(&nowhere, &clock, &metrics);
    let (catalog, organizations) = match &test.facts {
        Some((catalog, organization, rows)) => (catalog.clone(), vec![(organization.clone(), rows.clone())]),
        None => (CatalogRows::default(), Vec::<(OrganizationId, OrganizationRows)>::new()),
    };
    world.install_all(Revision { epoch: Epoch(0), seq: 1 }, &catalog, organizations)?;
    world.prove(clock.uptime());
    let settings = crate::token::Settings { issuers: Vec::new() };
    let keys = Arc::new(KeySets::new(&settings, token_meters(&metrics)));
    let tokens = tokens(&settings, 0, &keys, &metrics);
    let in_force = InForce::new(Rules::new(rules.clone(), &[], Vec::new(), &metrics), tokens);
    let gate = Gate::new(in_force, world, clock, metrics).with_check(Arc::new(Confirmed));
    let request = RequestView {
        method: &test.method,
        target: test.target.as_bytes(),
        is_absolute: false,
        host: &test.host,
        headers: &test.headers,
        is_upgrade: test.headers.contains_key(http::header::UPGRADE),
        body: test.body.as_deref(),
        is_confirmed: false,
    };
    Ok(gate.explain_as(&request, test.caller.as_ref()).await)
}
