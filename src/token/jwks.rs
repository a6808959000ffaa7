//! A key set document (RFC 7517) to the keys that may verify.
//!
//! A document that is wrong as a whole is refused as a whole, and the caller keeps what it had. A key that is merely
//! not for us (encryption, symmetric, private, too small) is left out and named, so that one odd key does not lock
//! everybody out.

use std::collections::HashSet;
use std::fmt;

use jsonwebtoken::crypto::JwtVerifier;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

use super::Quoted;
use super::json::{self, Json, Object};
use super::key::VerifyingKey;
use super::settings::{IssuerSettings, SUPPORTED};

/// The most keys a set may have.
pub(super) const MAX_KEYS: usize = 100;

/// The members of a private or symmetric key (RFC 7518 §6.2.2, §6.3.2, §6.4).
const SECRET_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Keys of one issuer that may verify: at least one, no key id twice.
#[derive(PartialEq)]
pub(super) struct KeySet {
    keys: Vec<(Option<String>, VerifyingKey)>,
}

/// A key that was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    key: String,
    reason: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {} {}", self.key, self.reason)
    }
}

/// Why a document is no key set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SetError {
    #[error("the key set is not strict JSON: {0}")]
    Json(String),
    #[error("the key set has no array `keys`")]
    NoKeys,
    #[error("the key set has {0} keys, at most {MAX_KEYS} are allowed")]
    TooMany(usize),
    #[error("the key set has key id {0} twice")]
    Repeated(String),
    #[error("the key set has no key that may verify{}", list(.0))]
    Empty(Vec<Refusal>),
}

fn list(refusals: &[Refusal]) -> String {
    refusals.iter().map(|refusal| format!("; {refusal}")).collect()
}

impl KeySet {
    /// Reads a document. `algorithms` are those of the issuer: they settle what a key without `alg` is for.
    ///
    /// # Errors
    /// [`SetError`] when the document is wrong as a whole or nothing in it may verify.
    pub(super) fn parse(document: &[u8], algorithms: &[Algorithm]) -> Result<(Self, Vec<Refusal>), SetError> {
        let document = json::object(document).map_err(|error| SetError::Json(error.to_string()))?;
        let Some(Json::List(entries)) = document.get("keys") else {
            return Err(SetError::NoKeys);
        };
        if entries.len() > MAX_KEYS {
            return Err(SetError::TooMany(entries.len()));
        }
        let mut ids = HashSet::new();
        let mut keys = Vec::new();
        let mut refusals = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let id = match entry {
                Json::Object(members) => members.get("kid").and_then(Json::as_text),
                _ => None,
            };
            let name = id.map_or_else(|| format!("number {}", at + 1), |id| Quoted(id).to_string());
            if let Some(id) = id
                && !ids.insert(id)
            {
                return Err(SetError::Repeated(name));
            }
            match read(entry, algorithms) {
                Ok(key) => keys.push((id.map(str::to_owned), key)),
                Err(reason) => refusals.push(Refusal { key: name, reason }),
            }
        }
        if keys.is_empty() { Err(SetError::Empty(refusals)) } else { Ok((Self { keys }, refusals)) }
    }

    /// The key called `id`.
    pub(super) fn by_id(&self, id: &str) -> Option<&VerifyingKey> {
        self.keys.iter().find(|(other, _)| other.as_deref() == Some(id)).map(|(_, key)| key)
    }

    /// The key for `algorithm`, when there is exactly one: what a token without a key id can only mean.
    pub(super) fn only(&self, algorithm: Algorithm) -> Option<&VerifyingKey> {
        let mut found = self.keys.iter().map(|(_, key)| key).filter(|key| key.algorithm() == algorithm);
        let only = found.next()?;
        found.next().is_none().then_some(only)
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

fn read(entry: &Json<'_>, algorithms: &[Algorithm]) -> Result<VerifyingKey, &'static str> {
    let Json::Object(members) = entry else {
        return Err("is not an object");
    };
    if members.get("kty").and_then(Json::as_text) == Some("oct") {
        return Err("is symmetric");
    }
    if SECRET_MEMBERS.iter().any(|name| members.member(name).is_some()) {
        return Err("is published with its private part, so it is no secret any more");
    }
    let jwk: Jwk = serde_json::from_value(members.to_map().into()).map_err(|_| "is not a JSON Web Key")?;
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return Err("is not for signatures (`use`)");
    }
    if jwk.common.key_operations.as_ref().is_some_and(|operations| !operations.contains(&KeyOperations::Verify)) {
        return Err("is not for verifying (`key_ops`)");
    }
    let algorithm = algorithm(members, &jwk, algorithms)?;
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| "is not canonical base64url")?;
    VerifyingKey::new(algorithm, &key)
}

/// The one algorithm of a key: what it says itself, if its type can do that; else what its curve, or the issuer's only
/// RSA algorithm, leaves.
fn algorithm(members: &Object<'_>, jwk: &Jwk, of_issuer: &[Algorithm]) -> Result<Algorithm, &'static str> {
    let possible: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => &[Algorithm::ES256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => &[Algorithm::ES384],
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
        _ => return Err("is of a type or curve that is not supported"),
    };
    match members.get("alg") {
        Some(said) => {
            let said = said.as_text().and_then(|text| text.parse::<Algorithm>().ok());
            let known =
                said.filter(|algorithm| SUPPORTED.contains(algorithm)).ok_or("has an `alg` that is not supported")?;
            possible.contains(&known).then_some(known).ok_or("has an `alg` that does not fit its type")
        }
        None => match possible {
            [only] => Ok(*only),
            several => IssuerSettings::only_algorithm(of_issuer, several)
                .ok_or("has no `alg`, and the issuer's `algorithms` leave more than one or none"),
        },
    }
}
