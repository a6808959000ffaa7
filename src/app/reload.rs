//! Reading the configuration again while requests are served: all or nothing.
//!
//! Rules, tokens, upstreams, header policy and limits on requests are replaced together; requests in flight finish with what they started
//! with. What is built into the running services takes a restart, and is named where it was changed.
//!
//! ```text
//! a signal, POST /reload, or files that changed and stood still for a second
//!   -> read the file and what it names -> did they change meanwhile? again -> anything wrong? what is in force stays
//!   -> look up new upstreams -> in force
//! ```

use std::error::Error as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{names, token_meters, tokens};
use crate::config::{self, BuiltIn, ProcessEnvironment, Reload, Sidecar};
use crate::domain::Clock;
use crate::files::Noted;
use crate::gate::{Gate, InForce, Rules};
use crate::proxy::Terms;
use crate::proxy::tls::Certificate;
use crate::telemetry::Metrics;
use crate::token::KeySets;

/// How long after keys could not be fetched at all that is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// How often files are read that change while they are read.
const READINGS: usize = 3;
/// The longest that a reload waits for the servers of new upstreams to be found.
const LOOKUP: Duration = Duration::from_secs(2);
/// How much of what is wrong is told where probes see it.
const TOLD: usize = 1000;

/// What a process was started with, of what a reload looks at.
pub(super) struct Beginning {
    noted: Noted,
    mode: Reload,
    built_in: BuiltIn,
    certificates: Vec<(String, Arc<Certificate>)>,
}

/// Replaces what can be replaced.
pub(super) struct Reloader {
    file: Option<PathBuf>,
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    started_with: BuiltIn,
    /// What the listeners show, by their addresses.
    certificates: Vec<(String, Arc<Certificate>)>,
    /// Held from the first look at the file until what it says is in force: what was read first never replaces what was read later.
    reloading: Mutex<()>,
    state: Mutex<State>,
}

/// What the last reading left.
struct State {
    /// The files that were read, as they were.
    noted: Noted,
    /// As they were at the last look, when that was not how they were read.
    changing: Option<Noted>,
    mode: Reload,
    refused: Option<Refused>,
    needs_restart: Vec<&'static str>,
}

/// That what is in the file is not in force.
struct Refused {
    problems: String,
    /// Seconds since 1970.
    since: i64,
}

impl Beginning {
    pub(super) fn of(config: &Sidecar) -> Self {
        let certificates = certificates(config);
        Self { noted: config.noted.clone(), mode: config.reload, built_in: config.built_in.clone(), certificates }
    }
}

fn certificates(config: &Sidecar) -> Vec<(String, Arc<Certificate>)> {
    let of = |listener: &crate::proxy::listen::Listener| {
        Some((listener.address.clone(), Arc::clone(&listener.tls.as_ref()?.certificate)))
    };
    config.listeners.iter().filter_map(of).collect()
}

impl Reloader {
    /// A reloader of what stands in `file`; without one nothing can be reloaded.
    pub(super) fn new(
        file: Option<PathBuf>,
        gate: Arc<Gate>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        beginning: Beginning,
    ) -> Self {
        let Beginning { noted, mode, built_in, certificates } = beginning;
        let state = State { noted, changing: None, mode, refused: None, needs_restart: Vec::new() };
        let (reloading, state) = (Mutex::default(), Mutex::new(state));
        Self { file, gate, metrics, clock, started_with: built_in, certificates, reloading, state }
    }

    /// Reads the configuration again; what is wrong with it is the error, and then nothing has changed. Otherwise the keys are answered
    /// under which something was changed since the start that takes a restart. Blocks.
    pub(super) fn reload(&self) -> Result<Vec<&'static str>, String> {
        let _alone = self.reloading.lock();
        self.reload_alone()
    }

    /// Reloads when files of the configuration have changed, and stayed as they are since the look before. Blocks.
    pub(super) fn look(&self) {
        let Some(file) = &self.file else { return };
        // A reload that is under way will have seen them.
        let Some(_alone) = self.reloading.try_lock() else { return };
        let noted = {
            let state = self.state.lock();
            if state.mode != Reload::Watch {
                return;
            }
            state.noted.clone()
        };
        // A disk that does not answer holds up nobody who asks for the state.
        let now = noted.now();
        // What is no file would have to be waited for.
        let is_pipe = std::fs::metadata(file).is_ok_and(|found| !found.is_file());
        let changing = Some(now).filter(|now| *now != noted && !is_pipe);
        let stood_still = {
            let mut state = self.state.lock();
            let stood_still = changing.is_some() && changing == state.changing;
            state.changing = changing;
            stood_still
        };
        if !stood_still {
            return;
        }
        tracing::info!("files of the configuration have changed");
        // What is wrong is in the log.
        let _ = self.reload_alone();
    }

    /// What there is to say of the configuration: that what is in the file is not in force, or not all of it.
    pub(super) fn standing(&self) -> Option<Value> {
        let state = self.state.lock();
        match &state.refused {
            Some(refused) => Some(json!({"refused": refused.problems, "since": refused.since})),
            None if state.needs_restart.is_empty() => None,
            None => Some(json!({"needs_restart": state.needs_restart})),
        }
    }

    fn reload_alone(&self) -> Result<Vec<&'static str>, String> {
        let mut noted = Noted::default();
        let result = self.try_reload(&mut noted);
        self.settle(noted, &result);
        // Last, so that whoever waits for the count finds everything else as it says.
        self.metrics.config_reloaded(result.is_ok());
        result.map(|(_, needs_restart)| needs_restart)
    }

    /// Notes how a reading ended, and tells it.
    fn settle(&self, noted: Noted, result: &Result<(Reload, Vec<&'static str>), String>) {
        let mut state = self.state.lock();
        (state.noted, state.changing) = (noted, None);
        match result {
            Ok((mode, needs_restart)) => {
                tracing::info!("configuration reloaded");
                if !needs_restart.is_empty() {
                    let keys = needs_restart.join(", ");
                    tracing::warn!(keys, "what was changed here takes a restart, and is not in force");
                }
                (state.mode, state.refused, state.needs_restart) = (*mode, None, needs_restart.clone());
            }
            Err(problems) => {
                tracing::error!(problems, "configuration not reloaded: the one in force stays");
                let since = state.refused.as_ref().map_or(self.clock.now().0, |refused| refused.since);
                let problems = problems.chars().take(TOLD).collect();
                state.refused = Some(Refused { problems, since });
            }
        }
    }

    fn try_reload(&self, noted: &mut Noted) -> Result<(Reload, Vec<&'static str>), String> {
        let config = self.read(noted)?;
        let keys = Arc::new(KeySets::new(&config.tokens, token_meters(&self.metrics)));
        keys.can_be_fetched().map_err(|error| format!("keys of `tokens` cannot be fetched: {error}"))?;
        let before = self.gate.in_force();
        let before = before.door::<Terms>();
        let needs_restart = self.started_with.changed(&config.built_in);
        let certificates = certificates(&config);
        let upstreams = names(&config.upstreams);
        let terms = Terms::new(config.proxy, config.upstreams, before);
        let terms = terms.map_err(|error| format!("an upstream cannot be used: {error}"))?;
        find_servers(&terms, before);
        keys.inherit(&self.gate.keys());
        let tokens = tokens(&config.tokens, config.token_cache_bytes, &keys, &self.metrics);
        let rules = Rules::new(config.rules, &upstreams, config.csrf_origins, &self.metrics);
        self.gate.replace(InForce::new(rules, tokens).with_door(terms));
        for (address, shown) in &self.certificates {
            if let Some((_, new)) = certificates.iter().find(|(other, _)| other == address) {
                shown.follow(new);
            }
        }
        Ok((config.reload, needs_restart))
    }

    /// Reads the file and what it names, all of it as it is at one time.
    fn read(&self, noted: &mut Noted) -> Result<Sidecar, String> {
        let Some(file) = &self.file else { return Err("this sidecar has no configuration file".to_owned()) };
        for _ in 0..READINGS {
            *noted = Noted::default();
            let read = config::load_noting(file, &ProcessEnvironment, noted);
            if noted.now() == *noted {
                return read.map_err(|error| match error.source() {
                    Some(why) => format!("{error}: {why}"),
                    None => error.to_string(),
                });
            }
        }
        Err("files of the configuration change while they are read".to_owned())
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

/// Looks up the servers of upstreams that were not there `before`, so that the first request finds them. Names that are not found are
/// looked up again and again later, as after a start.
fn find_servers(terms: &Terms, before: Option<&Terms>) {
    let known = before.map_or(&[][..], Terms::upstreams);
    let is_new = |upstream: &&Arc<_>| !known.iter().any(|known| Arc::ptr_eq(known, upstream));
    let balancers: Vec<_> = terms.upstreams().iter().filter(is_new).filter_map(|new| new.balancer()).collect();
    if balancers.is_empty() {
        return;
    }
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let looked_up = futures_util::future::join_all(balancers.iter().map(|balancer| balancer.update()));
    // What is not found is in the log.
    let _ = runtime.block_on(async { tokio::time::timeout(LOOKUP, looked_up).await });
    runtime.shutdown_background();
}

#[cfg(test)]
mod tests;
