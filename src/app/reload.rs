//! Reading the configuration again while requests are served: all or nothing.
//!
//! Rules and tokens are replaced together; requests in flight finish with what they started with. Listeners, upstreams and limits are
//! built into the running services: a change there takes a restart. Added, removed or
//! reordered upstreams refuse the reload; other changes there are not noticed.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{token_meters, tokens};
use crate::config::{self, ProcessEnvironment};
use crate::domain::Clock;
use crate::gate::{Gate, Rules};
use crate::telemetry::Metrics;
use crate::token::KeySets;

/// Replaces what can be replaced.
pub(super) struct Reloader {
    file: Option<PathBuf>,
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    upstreams: Vec<String>,
    keys: ArcSwap<KeySets>,
    replaced: watch::Sender<()>,
}

impl Reloader {
    pub(super) fn new(
        file: Option<PathBuf>,
        gate: Arc<Gate>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        upstreams: Vec<String>,
        keys: Arc<KeySets>,
    ) -> Self {
        Self { file, gate, metrics, clock, upstreams, keys: ArcSwap::new(keys), replaced: watch::Sender::new(()) }
    }

    /// The key sets in force.
    pub(super) fn keys(&self) -> Arc<KeySets> {
        self.keys.load_full()
    }

    /// Reads the configuration again; what is wrong with it is the error, and then nothing has changed.
    pub(super) fn reload(&self) -> Result<(), String> {
        let result = self.try_reload();
        self.metrics.config_reloaded(result.is_ok());
        match &result {
            Ok(()) => tracing::info!("configuration reloaded"),
            Err(problems) => tracing::error!(problems, "configuration not reloaded: the one in force stays"),
        }
        result
    }

    fn try_reload(&self) -> Result<(), String> {
        let Some(file) = &self.file else { return Err("this sidecar has no configuration file".to_owned()) };
        let config = config::load(file, &ProcessEnvironment).map_err(|error| error.to_string())?;
        let upstreams: Vec<String> = config.upstreams.iter().map(|upstream| upstream.name.clone()).collect();
        if upstreams != self.upstreams {
            return Err("`upstreams` were added, removed or reordered: that needs a restart".to_owned());
        }
        let keys = Arc::new(KeySets::new(&config.tokens, token_meters(&self.metrics)));
        keys.inherit(&self.keys());
        let tokens = tokens(&config.tokens, config.token_cache_bytes, &keys, &self.metrics);
        let rules = Rules::new(config.rules, &upstreams, config.csrf_origins, &self.metrics);
        self.gate.replace(rules, tokens);
        self.keys.store(keys);
        self.replaced.send_replace(());
        Ok(())
    }

    /// Keeps the keys in force fresh, whichever they are, until `shutdown` turns true.
    pub(super) async fn keep_keys_fresh(&self, shutdown: watch::Receiver<bool>) {
        let mut replaced = self.replaced.subscribe();
        loop {
            let keys = self.keys();
            tokio::select! {
                result = keys.run(Arc::clone(&self.clock), shutdown.clone()) => {
                    if let Err(error) = result {
                        tracing::error!(%error, "keys cannot be fetched");
                        std::future::pending::<()>().await;
                    }
                    return;
                }
                _ = replaced.changed() => {}
            }
        }
    }
}
