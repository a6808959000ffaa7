//! Who may do what: API keys with scopes, compared in constant time.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::error::StoreError;
use super::idempotency::Repeatable;

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Nothing is asked for: no key is needed.
    Open,
    /// Reading, checks included.
    Read,
    /// Writing.
    Write,
    /// Making tokens.
    Mint,
}

/// A key: the name it is known by, a hash of it, and what it may be used for.
#[derive(Clone)]
pub struct ApiKey {
    name: Arc<str>,
    sha256: [u8; 32],
    scopes: Vec<Scope>,
}

/// All keys there are.
#[derive(Debug, Clone, Default)]
pub struct ApiKeys(Vec<ApiKey>);

/// Who sent a request: the only way to [write](super::Store::write). Made by the door from a key that was accepted.
#[derive(Debug, Clone)]
pub struct Author {
    /// The name of the key.
    pub(super) name: Arc<str>,
    /// Set when the request may come again.
    pub(super) repeatable: Option<Repeatable>,
}

impl ApiKey {
    /// The key whose text is `text`.
    pub fn new(name: &str, text: &str, scopes: Vec<Scope>) -> Self {
        Self::hashed(name, sha256(text), scopes)
    }

    /// The key whose text has this SHA-256.
    pub fn hashed(name: &str, sha256: [u8; 32], scopes: Vec<Scope>) -> Self {
        Self { name: name.into(), sha256, scopes }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("name", &self.name).field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

impl ApiKeys {
    /// These keys and no others.
    pub fn new(keys: Vec<ApiKey>) -> Self {
        Self(keys)
    }

    /// Who sends `headers`, if that key may be used for `scope`.
    ///
    /// # Errors
    /// [`StoreError::Unauthorized`] without a known key, [`StoreError::Forbidden`] without the scope.
    pub fn admit(&self, headers: &HeaderMap, scope: Scope) -> Result<Author, StoreError> {
        if scope == Scope::Open {
            return Ok(Author { name: "nobody".into(), repeatable: None });
        }
        let shown = bearer(headers)?;
        let key = find(self.0.iter().map(|key| (&key.sha256, key)), &shown).ok_or(StoreError::Unauthorized)?;
        if !key.scopes.contains(&scope) {
            return Err(StoreError::Forbidden(
                format!("this key may not be used for that: it lacks the scope {scope}").into(),
            ));
        }
        Ok(Author { name: Arc::clone(&key.name), repeatable: None })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Mint => "mint",
        })
    }
}

impl Author {
    /// The store itself, for what it does on its own account.
    pub(super) fn store() -> Self {
        Self { name: "portcullis".into(), repeatable: None }
    }
}

impl<S: Sync> FromRequestParts<S> for Author {
    type Rejection = StoreError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StoreError> {
        // Put there by the door, for every endpoint.
        parts.extensions.get::<Self>().cloned().ok_or(StoreError::Unauthorized)
    }
}

/// The SHA-256 of the one bearer key that is shown.
pub(super) fn bearer(headers: &HeaderMap) -> Result<[u8; 32], StoreError> {
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (shown.next(), shown.next()) else { return Err(StoreError::Unauthorized) };
    let text = value.to_str().ok().and_then(|value| value.split_once(' '));
    match text.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) {
        Some((_, text)) => Ok(sha256(text.trim())),
        None => Err(StoreError::Unauthorized),
    }
}

/// What belongs to the shown key. Every key is looked at, whichever fits.
pub(super) fn find<'k, T>(keys: impl Iterator<Item = (&'k [u8; 32], T)>, shown: &[u8; 32]) -> Option<T> {
    keys.filter(|(sha256, _)| verify_slices_are_equal(*sha256, shown).is_ok())
        .fold(None, |found, (_, key)| found.or(Some(key)))
}

/// The SHA-256 of a key's text.
pub fn sha256(text: &str) -> [u8; 32] {
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    sha256
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(authorization: &str, scope: Scope) -> Result<String, String> {
        let keys = ApiKeys::new(vec![
            ApiKey::new("reader", "sk_read", vec![Scope::Read]),
            ApiKey::new("owner", "sk_all", vec![Scope::Read, Scope::Write]),
        ]);
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        let author = keys.admit(&headers, scope);
        author.map(|author| author.name.to_string()).map_err(|error| error.code().to_owned())
    }

    #[test]
    fn a_key_is_good_for_its_scopes() {
        assert_eq!(admit("Bearer sk_read", Scope::Read), Ok("reader".to_owned()));
        assert_eq!(admit("bearer sk_all", Scope::Write), Ok("owner".to_owned()));
        assert_eq!(admit("Bearer sk_read", Scope::Write), Err("forbidden".to_owned()));
        assert_eq!(admit("Bearer sk_other", Scope::Read), Err("unauthorized".to_owned()));
        assert_eq!(admit("Basic sk_read", Scope::Read), Err("unauthorized".to_owned()));
        assert_eq!(admit("sk_read", Scope::Read), Err("unauthorized".to_owned()));
        assert_eq!(admit("", Scope::Open), Ok("nobody".to_owned()));
    }
}
