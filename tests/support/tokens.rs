//! Tokens that read like the case: `token().user("user_alice").organization("org_acme").expired_by(1).sign()`.

use std::sync::OnceLock;
use std::time::Duration;

use portcullis::app::SystemClock;
use portcullis::domain::{Clock, UserId};
use portcullis::token::{Algorithm, Issuer, NewToken};
use serde_json::{Value, json};

use super::canary::{CANARY, CLAIM};

/// What the issuer of the tests calls itself.
pub const ISSUER: &str = "https://issuer.test";

/// The issuer of the tests, with one key for each of three algorithms.
pub fn issuer(algorithm: Algorithm) -> &'static Issuer {
    static ISSUERS: OnceLock<[(Algorithm, Issuer); 3]> = OnceLock::new();
    let make = |algorithm| (algorithm, Issuer::ephemeral(ISSUER, algorithm).unwrap());
    let issuers = ISSUERS.get_or_init(|| [Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA].map(make));
    &issuers.iter().find(|(known, _)| *known == algorithm).unwrap().1
}

/// The key set of the issuer of the tests.
pub fn key_set() -> String {
    key_set_of([Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA].map(issuer))
}

/// One key set with the keys of all these.
pub fn key_set_of<'i>(issuers: impl IntoIterator<Item = &'i Issuer>) -> String {
    let keys = issuers.into_iter().flat_map(|issuer| {
        let set: Value = serde_json::from_str(&issuer.jwks().unwrap()).unwrap();
        set["keys"].as_array().unwrap().clone()
    });
    json!({"keys": keys.collect::<Vec<_>>()}).to_string()
}

/// A token under construction.
#[derive(Clone)]
pub struct TokenCase {
    token: NewToken,
    algorithm: Algorithm,
}

/// A token of somebody with a session and nothing else.
pub fn token() -> TokenCase {
    let mut token = NewToken::of(UserId::new("user_somebody").unwrap(), SystemClock.now());
    token.session = Some("session_1".parse().unwrap());
    TokenCase { token, algorithm: Algorithm::ES256 }
}

/// A token of Alice, a member of Acme without organization-wide permissions.
pub fn alice() -> TokenCase {
    token().user("user_alice").membership("om_alice").organization("org_acme")
}

impl TokenCase {
    pub fn user(mut self, user: &str) -> Self {
        self.token.user = user.parse().unwrap();
        self
    }

    pub fn membership(mut self, membership: &str) -> Self {
        self.token.membership = Some(membership.parse().unwrap());
        self
    }

    pub fn organization(mut self, organization: &str) -> Self {
        self.token.organization = Some(organization.parse().unwrap());
        self
    }

    pub fn role(mut self, role: &str) -> Self {
        self.token.role = Some(role.parse().unwrap());
        self.token.roles = vec![role.parse().unwrap()];
        self
    }

    pub fn roles<const N: usize>(mut self, roles: [&str; N]) -> Self {
        self.token.roles = roles.map(|role| role.parse().unwrap()).to_vec();
        self
    }

    pub fn permissions<const N: usize>(mut self, permissions: [&str; N]) -> Self {
        self.token.permissions = permissions.map(|slug| slug.parse().unwrap()).to_vec();
        self
    }

    /// It ended so many seconds ago.
    pub fn expired_by(mut self, seconds: i64) -> Self {
        let lifetime = i64::try_from(self.token.lifetime.as_secs()).unwrap();
        self.token.issued_at = SystemClock.now().plus(-lifetime - seconds);
        self
    }

    pub fn lifetime(mut self, seconds: u64) -> Self {
        self.token.lifetime = Duration::from_secs(seconds);
        self
    }

    /// With a further claim, or another value of one; null takes its meaning away.
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.token.further.insert(name.to_owned(), value.into());
        self
    }

    pub fn signed_with(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    pub fn sign(&self) -> String {
        self.sign_by(issuer(self.algorithm))
    }

    pub fn sign_by(&self, issuer: &Issuer) -> String {
        let mut token = self.token.clone();
        token.further.insert(CLAIM.to_owned(), CANARY.into());
        issuer.mint(&token).unwrap()
    }
}
