//! `Bearer …` to [`Verified<Principal>`]: the one place where a token becomes somebody.
//!
//! ```text
//! headers -> credential::find -> Cached (same bytes seen before?) -> JwtVerifier -> KeySets (which key?)
//!                                                                        |
//!                            header -> issuer -> algorithm -> key -> signature -> claims -> Verified<Principal>
//! ```
//!
//! What holds here, whatever a token says:
//! - the issuer's configuration and the key fix the algorithm, never the token (RFC 8725 §3.1);
//! - no request leaves the process because of what a token contains: `jku`, `x5u`, `jwk` and `x5c` are not read;
//! - JSON is read once and strictly: a repeated member, trailing bytes or deep nesting refuse the token;
//! - time is an argument, and a proof that was kept is weighed against it again on every use.
//!
//! The gate calls [`TokenVerifier::verify`]; `app` runs [`KeySets::run`]; the store and the command line mint with
//! [`Issuer`].

pub mod cache;
mod certificate;
mod claims;
pub mod credential;
mod fetch;
pub mod inspect;
pub mod issuer;
mod json;
mod jwks;
pub mod jwt;
mod key;
pub mod keys;
mod refresh;
pub mod settings;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, Opts};

use crate::domain::{Principal, TokenFault, UnixSeconds};

pub use cache::Cached;
pub use credential::{Ambiguous, Credential, CredentialSource, Place};
pub use fetch::KeysError;
pub use issuer::{Issuer, IssuerError, NewToken};
pub use jsonwebtoken::Algorithm;
pub use jwt::{JwtVerifier, MAX_TOKEN_BYTES};
pub use keys::{KeySets, KeyStatus};
pub use refresh::Pace;
pub use settings::{
    Audience, ClaimNames, IssuerSettings, JwksUrl, KeySource, Organizations, RequiredClaim, SUPPORTED, Settings,
};

/// Turns a token into a proven principal.
pub trait TokenVerifier: Send + Sync {
    /// Verifies `token` at the time `now`.
    ///
    /// # Errors
    /// [`TokenError`]: what is wrong with the token, or that there are no keys to judge it by.
    fn verify(&self, token: &str, now: UnixSeconds) -> Result<Verified<Principal>, TokenError>;

    /// Grows whenever a key was added, changed or taken away. What was proven under an older generation has to be
    /// proven again; a caller that keeps proofs reads this *before* it verifies.
    fn generation(&self) -> u64;

    /// Gives back the memory of what was verified, where that was kept.
    fn forget(&self) {}
}

impl<V: TokenVerifier + ?Sized> TokenVerifier for Arc<V> {
    fn verify(&self, token: &str, now: UnixSeconds) -> Result<Verified<Principal>, TokenError> {
        (**self).verify(token, now)
    }

    fn generation(&self) -> u64 {
        (**self).generation()
    }

    fn forget(&self) {
        (**self).forget();
    }
}

/// The proof that a `T` passed verification, and for how long that holds. Only this module builds one; cheap to clone.
#[derive(Debug)]
pub struct Verified<T> {
    proven: Arc<T>,
    window: Window,
}

impl<T> Verified<T> {
    /// The first second at which the proof no longer holds (`exp`, leeway included): the time to cut what outlives a
    /// request.
    pub fn ends(&self) -> UnixSeconds {
        self.window.ends
    }
}

impl<T> Clone for Verified<T> {
    fn clone(&self) -> Self {
        Self { proven: Arc::clone(&self.proven), window: self.window }
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.proven
    }
}

/// When a token may be used, leeway included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    /// The first second (`nbf` and `iat`, RFC 7519 §4.1.5 and §4.1.6).
    begins: UnixSeconds,
    /// The first second after it (RFC 7519 §4.1.4: the current time must be *before* `exp`).
    ends: UnixSeconds,
}

impl Window {
    fn check(self, now: UnixSeconds) -> Result<(), TokenError> {
        if now >= self.ends {
            return Err(fault(TokenFault::Expired, format!("the token ended {} s ago", now.since(self.ends))));
        }
        if now < self.begins {
            let ahead = self.begins.since(now);
            return Err(fault(TokenFault::NotYetValid, format!("the token begins in {ahead} s")));
        }
        Ok(())
    }
}

/// Why a token proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token's own fault; answered with 401 `bad_token`. The text is for the log: it quotes header parameters and
    /// single claims, never the token.
    #[error("{1}")]
    Fault(TokenFault, Box<str>),
    /// There never were keys for the issuer that the token names; answered with 503 `keys_unavailable`.
    #[error("there are no keys of issuer `{issuer}` yet")]
    KeysUnavailable {
        /// The `name` of the issuer in the configuration.
        issuer: Arc<str>,
    },
}

fn fault(fault: TokenFault, detail: impl Into<Box<str>>) -> TokenError {
    TokenError::Fault(fault, detail.into())
}

/// Text from a token, made fit for a message: control characters escaped, at most 64 characters.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 64;
        f.write_str("`")?;
        for character in self.0.chars().take(MOST) {
            write!(f, "{}", character.escape_debug())?;
        }
        f.write_str(if self.0.chars().nth(MOST).is_some() { "…`" } else { "`" })
    }
}

/// The series this module counts in; registered by whoever owns the registry.
#[derive(Debug, Clone)]
pub struct Meters {
    /// Tokens answered from memory (`portcullis_token_cache_total{result="hit"}`).
    pub cache_hits: IntCounter,
    /// Tokens verified afresh (`portcullis_token_cache_total{result="miss"}`).
    pub cache_misses: IntCounter,
    /// Attempts to load a key set, by `issuer` (its name) and `result` (`changed`, `unchanged`, `failed`).
    pub refreshed: IntCounterVec,
}

impl Meters {
    /// Meters that nobody scrapes: for tests and one-off commands.
    #[expect(clippy::expect_used, reason = "names and labels are constants that `prometheus` accepts")]
    pub fn unregistered() -> Self {
        let counter = |name| IntCounter::new(name, name).expect("a valid name");
        let refreshed = Opts::new("jwks_refresh_total", "attempts to load a key set");
        Self {
            cache_hits: counter("token_cache_hits"),
            cache_misses: counter("token_cache_misses"),
            refreshed: IntCounterVec::new(refreshed, &["issuer", "result"]).expect("valid names"),
        }
    }
}
