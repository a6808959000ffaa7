//! The key sets of all issuers: look-up on the request path, and who has to be asked for new ones.
//!
//! A look-up never waits. It uses the set in force; a key id that is not in it is answered at once, and the background
//! ([`KeySets::run`]) is told to look for it, at most once per cool-down, whatever a flood of invented key ids asks
//! for.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use foldhash::fast::RandomState;
use tokio::sync::Notify;

use super::json::Json;
use super::jwks::KeySet;
use super::refresh::Pace;
use super::settings::{IssuerSettings, Settings};
use super::{Meters, Quoted, TokenError, fault};
use crate::domain::{TokenFault, UnixSeconds};

/// How many unknown key ids are remembered for each issuer.
const MOST_UNKNOWN: usize = 1024;

/// How long an unknown key id is not asked for again. A new key that was published later is found by the regular
/// refresh.
const UNKNOWN_SECONDS: i64 = 300;

/// The key sets of all configured issuers.
#[derive(Debug)]
pub struct KeySets {
    issuers: Vec<IssuerKeys>,
    generation: AtomicU64,
    pace: Pace,
    meters: Meters,
}

/// How one issuer's keys are doing, for `/ready`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct KeyStatus {
    /// The name of the issuer.
    pub issuer: Arc<str>,
    /// How many keys may verify; 0 = never loaded.
    pub keys: usize,
    /// Why the last attempt to load them failed; `None` when it did not, or there was none yet.
    pub error: Option<String>,
}

impl KeySets {
    /// Empty key sets for the issuers of `settings`; [`KeySets::run`] fills them.
    pub fn new(settings: &Settings, meters: Meters) -> Self {
        Self::with_pace(settings, meters, Pace::default())
    }

    /// As [`KeySets::new`], with other intervals.
    pub fn with_pace(settings: &Settings, meters: Meters, pace: Pace) -> Self {
        let issuers = settings.issuers.iter().cloned().map(IssuerKeys::new).collect();
        Self { issuers, generation: AtomicU64::new(0), pace, meters }
    }

    /// Takes over the keys that `previous` has for issuers whose source and algorithms are the same, so that a reload
    /// of the configuration does not begin with nothing.
    pub fn inherit(&self, previous: &Self) {
        for keys in &self.issuers {
            let same = |other: &&IssuerKeys| {
                other.settings.keys == keys.settings.keys && other.settings.algorithms == keys.settings.algorithms
            };
            if let Some(set) = previous.issuers.iter().find(same).and_then(|other| other.set.load_full()) {
                self.install(keys, set);
            }
        }
    }

    /// Whether every issuer has keys.
    pub fn ready(&self) -> bool {
        self.issuers.iter().all(|keys| keys.set.load().is_some())
    }

    /// How every issuer's keys are doing.
    pub fn status(&self) -> Vec<KeyStatus> {
        let status = |keys: &IssuerKeys| KeyStatus {
            issuer: keys.settings.name.clone(),
            keys: keys.set.load().as_ref().map_or(0, |set| set.len()),
            error: lock(&keys.error).clone(),
        };
        self.issuers.iter().map(status).collect()
    }

    /// Grows after every change of any set.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn issuers(&self) -> &[IssuerKeys] {
        &self.issuers
    }

    pub(super) fn pace(&self) -> Pace {
        self.pace
    }

    pub(super) fn meters(&self) -> &Meters {
        &self.meters
    }

    /// The keys of the issuer that calls itself `iss`.
    pub(super) fn of_issuer(&self, iss: Option<&Json<'_>>) -> Result<&IssuerKeys, TokenError> {
        let Some(Json::Text(iss)) = iss else {
            return Err(fault(TokenFault::Issuer, "claim `iss` is missing or not a text"));
        };
        let is_it = |keys: &&IssuerKeys| keys.settings.issuers.iter().any(|known| known == iss);
        self.issuers
            .iter()
            .find(is_it)
            .ok_or_else(|| fault(TokenFault::Issuer, format!("issuer {} is not configured", Quoted(iss))))
    }

    /// Puts `set` in force.
    pub(super) fn install(&self, keys: &IssuerKeys, set: Arc<KeySet>) {
        keys.set.store(Some(set));
        // INVARIANT: counted after the store. Whoever verifies reads the generation first, so a proof by the old set is
        // never filed under the new generation.
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

/// The keys of one issuer.
pub(super) struct IssuerKeys {
    settings: IssuerSettings,
    set: ArcSwapOption<KeySet>,
    unknown: Mutex<HashMap<u64, UnixSeconds>>,
    hasher: RandomState,
    pub(super) wanted: Notify,
    pub(super) error: Mutex<Option<String>>,
}

impl IssuerKeys {
    fn new(settings: IssuerSettings) -> Self {
        Self {
            settings,
            set: ArcSwapOption::empty(),
            unknown: Mutex::default(),
            hasher: RandomState::default(),
            wanted: Notify::new(),
            error: Mutex::default(),
        }
    }

    pub(super) fn settings(&self) -> &IssuerSettings {
        &self.settings
    }

    /// The set in force; `None` while there never was one.
    pub(super) fn current(&self) -> Option<Arc<KeySet>> {
        self.set.load_full()
    }

    /// Asks the background to look for the key called `id`, unless it was asked for it lately.
    pub(super) fn ask_for(&self, id: &str, now: UnixSeconds) {
        let mut unknown = lock(&self.unknown);
        let id = self.hasher.hash_one(id);
        if unknown.get(&id).is_some_and(|asked| (0..UNKNOWN_SECONDS).contains(&now.since(*asked))) {
            return;
        }
        if unknown.len() >= MOST_UNKNOWN {
            unknown.clear();
        }
        unknown.insert(id, now);
        drop(unknown);
        self.wanted.notify_one();
    }
}

impl fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerKeys").field("issuer", &self.settings.name).finish_non_exhaustive()
    }
}

/// What these locks guard is whole between any two statements, so a panic elsewhere does not spoil it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::token::settings::tests::good;

    #[test]
    fn an_unknown_key_is_asked_for_once_and_again_after_a_while() {
        let keys = IssuerKeys::new(good());
        let asked = |id: &str, now: i64| {
            keys.ask_for(id, UnixSeconds(now));
            pin!(keys.wanted.notified()).as_mut().enable()
        };
        assert!(asked("a", 1000));
        assert!(!asked("a", 1000));
        assert!(!asked("a", 1299));
        assert!(asked("b", 1299));
        assert!(asked("a", 1300));
        assert!(asked("a", 900), "the clock was set back");
    }

    #[test]
    fn unknown_keys_are_remembered_up_to_a_bound() {
        let keys = IssuerKeys::new(good());
        for id in 0..100_000 {
            keys.ask_for(&id.to_string(), UnixSeconds(0));
        }
        assert!(lock(&keys.unknown).len() <= MOST_UNKNOWN);
    }
}
