//! Verified tokens, remembered: a decorator around a [`TokenVerifier`].
//!
//! What is remembered is the proof, never less than the whole token: a hit is a token of which every byte equals one
//! that was verified (bypass cases: the same signature under another payload), by the same settings (one cache belongs
//! to one verifier), under the keys still in force (generation), at a time when it is still valid. Failures are not
//! remembered.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::{Meters, TokenError, TokenVerifier, Verified};
use crate::domain::{Principal, UnixSeconds};

/// How many bytes at the end of a token choose its place in the cache. They belong to the signature, which is as good
/// as random; and since whole tokens are compared, a token made to fall into the place of another is merely verified
/// again.
const PLACE_BYTES: usize = 64;

/// Remembers what `V` has verified.
#[derive(Debug)]
pub struct Cached<V> {
    inner: V,
    entries: Cache<u64, Arc<Entry>, RandomState>,
    places: RandomState,
    meters: Meters,
}

#[derive(Debug)]
struct Entry {
    token: Box<str>,
    generation: u64,
    verified: Verified<Principal>,
}

impl<V: TokenVerifier> Cached<V> {
    /// A cache of at most `capacity` bytes of tokens and principals before `inner`.
    pub fn new(inner: V, capacity: u64, meters: Meters) -> Self {
        let entries = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_, entry: &Arc<Entry>| entry.weight())
            // A new token replaces an old one of the same person, so what was used last is what will be used next;
            // counting how often a token was used would favour the dead.
            .eviction_policy(EvictionPolicy::lru())
            .build_with_hasher(RandomState::default());
        Self { inner, entries, places: RandomState::default(), meters }
    }

    fn place(&self, token: &str) -> u64 {
        let bytes = token.as_bytes();
        self.places.hash_one(bytes.last_chunk::<PLACE_BYTES>().map_or(bytes, |end| end.as_slice()))
    }
}

impl<V: TokenVerifier> TokenVerifier for Cached<V> {
    fn verify(&self, token: &str, now: UnixSeconds) -> Result<Verified<Principal>, TokenError> {
        // INVARIANT: read before the token is verified, so that what was proven by keys just replaced is not filed
        // under their successors.
        let generation = self.inner.generation();
        let place = self.place(token);
        if let Some(entry) = self.entries.get(&place)
            && entry.generation == generation
            && *entry.token == *token
        {
            self.meters.cache_hits.inc();
            entry.verified.window.check(now)?;
            return Ok(entry.verified.clone());
        }
        self.meters.cache_misses.inc();
        let verified = self.inner.verify(token, now)?;
        self.entries.insert(place, Arc::new(Entry { token: token.into(), generation, verified: verified.clone() }));
        Ok(verified)
    }

    fn generation(&self) -> u64 {
        self.inner.generation()
    }

    fn forget(&self) {
        self.entries.invalidate_all();
        self.entries.run_pending_tasks();
        self.inner.forget();
    }
}

impl Entry {
    /// Bytes of memory, roughly: the token, the fixed parts, and every slug and kept claim with its own allocation.
    fn weight(&self) -> u32 {
        const FIXED: usize = 768;
        const SLUG: usize = 64;
        const CLAIM: usize = 256;
        let principal = &*self.verified;
        let slugs = principal.permissions.len() + principal.roles.len();
        let claims: usize = principal.claims.values().map(|value| CLAIM + text_bytes(value)).sum();
        let bytes = FIXED + self.token.len() + SLUG * slugs + claims;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

fn text_bytes(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(|value| 32 + text_bytes(value)).sum(),
        Value::Object(members) => members.iter().map(|(name, value)| 96 + name.len() + text_bytes(value)).sum(),
    }
}

#[cfg(test)]
mod tests;
