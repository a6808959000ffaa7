//! Reading the configuration again while requests are served: all or nothing.
//!
//! Rules and tokens are replaced together; requests in flight finish with what they started with. Listeners, upstreams and limits are
//! built into the running services: a change there takes a restart. Added, removed or reordered upstreams refuse the reload; what else
//! was changed there is named.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{token_meters, tokens};
use crate::config::{self, BuiltIn, ProcessEnvironment};
use crate::domain::Clock;
use crate::gate::{Gate, Rules};
use crate::telemetry::Metrics;
use crate::token::KeySets;

/// How long after keys could not be fetched at all that is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// Replaces what can be replaced.
pub(super) struct Reloader {
    file: Option<PathBuf>,
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    upstreams: Vec<String>,
    started_with: BuiltIn,
    /// Held from the first look at the file until what it says is in force: what was read first never replaces what was read later.
    reloading: Mutex<()>,
}

impl Reloader {
    pub(super) fn new(
        file: Option<PathBuf>,
        gate: Arc<Gate>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        upstreams: Vec<String>,
        started_with: BuiltIn,
    ) -> Self {
        Self { file, gate, metrics, clock, upstreams, started_with, reloading: Mutex::default() }
    }

    /// Reads the configuration again; what is wrong with it is the error, and then nothing has changed. Otherwise the keys are answered
    /// under which something was changed since the start that takes a restart. Blocks.
    pub(super) fn reload(&self) -> Result<Vec<&'static str>, String> {
        let result = self.try_reload();
        self.metrics.config_reloaded(result.is_ok());
        match &result {
            Ok(_) => tracing::info!("configuration reloaded"),
            Err(problems) => tracing::error!(problems, "configuration not reloaded: the one in force stays"),
        }
        if let Ok(needs_restart) = &result
            && !needs_restart.is_empty()
        {
            tracing::warn!(
                keys = needs_restart.join(", "),
                "what was changed here takes a restart, and is not in force"
            );
        }
        result
    }

    fn try_reload(&self) -> Result<Vec<&'static str>, String> {
        let _alone = self.reloading.lock();
        let Some(file) = &self.file else { return Err("this sidecar has no configuration file".to_owned()) };
        let config = config::load(file, &ProcessEnvironment).map_err(|error| error.to_string())?;
        let upstreams: Vec<String> = config.upstreams.iter().map(|upstream| upstream.name.clone()).collect();
        if upstreams != self.upstreams {
            return Err("`upstreams` were added, removed or reordered: that needs a restart".to_owned());
        }
        let keys = Arc::new(KeySets::new(&config.tokens, token_meters(&self.metrics)));
        keys.can_be_fetched().map_err(|error| format!("keys of `tokens` cannot be fetched: {error}"))?;
        keys.inherit(&self.gate.keys());
        let tokens = tokens(&config.tokens, config.token_cache_bytes, &keys, &self.metrics);
        let rules = Rules::new(config.rules, &upstreams, config.csrf_origins, &self.metrics);
        self.gate.replace(rules, tokens);
        Ok(self.started_with.changed(&config.built_in))
    }

    /// Keeps the keys in force fresh, whichever they are, until `shutdown` turns true.
    pub(super) async fn keep_keys_fresh(&self, shutdown: watch::Receiver<bool>) {
        let mut replaced = self.gate.replacements();
        loop {
            let keys = self.gate.keys();
            tokio::select! {
                result = keys.run(Arc::clone(&self.clock), shutdown.clone()) => match result {
                    Ok(()) => return,
                    Err(error) => tracing::error!(%error, "keys cannot be fetched"),
                },
                _ = replaced.changed() => continue,
            }
            // Others may take their place, or what is missing come back.
            let _ = tokio::time::timeout(TRY_AGAIN, replaced.changed()).await;
        }
    }
}

#[cfg(test)]
mod tests;
