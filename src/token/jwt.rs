//! A JSON Web Token, checked in a fixed order (RFC 7515 §5.2, RFC 7519 §7.2, RFC 8725).
//!
//! ```text
//! size -> three parts -> header -> payload (strict JSON) -> issuer -> algorithm -> key -> signature -> claims
//! ```
//! The payload is read before the signature is checked because `iss` selects the keys; nothing of it is used for
//! anything else until the signature holds.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::crypto::JwtVerifier as _;
use jsonwebtoken::signature::Verifier as _;

use super::json::{self, Json};
use super::keys::KeySets;
use super::settings::SUPPORTED;
use super::{Quoted, TokenError, TokenVerifier, Verified, claims, fault};
use crate::domain::{Principal, TokenFault, UnixSeconds};

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// What stands for the key id of tokens that have none when new keys are asked for.
const UNNAMED: &str = "";

/// Verifies tokens against the key sets of their issuers.
#[derive(Debug)]
pub struct JwtVerifier {
    keys: Arc<KeySets>,
}

impl JwtVerifier {
    /// A verifier by these keys and the settings they were made for.
    pub fn new(keys: Arc<KeySets>) -> Self {
        Self { keys }
    }
}

impl TokenVerifier for JwtVerifier {
    fn verify(&self, token: &str, now: UnixSeconds) -> Result<Verified<Principal>, TokenError> {
        let parts = Parts::split(token)?;
        let mut text = Vec::with_capacity(token.len());
        decode("header", parts.header, &mut text)?;
        let middle = text.len();
        decode("payload", parts.payload, &mut text)?;
        let (header, payload) = text.split_at(middle);
        let header = Header::read(header)?;
        let claims = json::object(payload).map_err(|error| malformed(format!("payload: {error}")))?;

        let keys = self.keys.of_issuer(claims.get("iss"))?;
        let issuer = keys.settings();
        if !issuer.algorithms.contains(&header.algorithm) {
            let (found, expected) = (header.algorithm, &issuer.algorithms);
            return Err(fault(TokenFault::Algorithm, format!("`alg` is `{found:?}`, expected one of {expected:?}")));
        }
        let set = keys.current().ok_or_else(|| TokenError::KeysUnavailable { issuer: issuer.name.clone() })?;
        let key = match header.key_id.as_deref() {
            Some(id) => set.by_id(id).ok_or_else(|| {
                keys.ask_for(id, now);
                fault(TokenFault::UnknownKey, format!("issuer `{}` has no key {}", issuer.name, Quoted(id)))
            })?,
            None => set.only(header.algorithm).ok_or_else(|| {
                keys.ask_for(UNNAMED, now);
                fault(TokenFault::UnknownKey, "the token names no key, and the key set leaves more than one or none")
            })?,
        };
        if key.algorithm() != header.algorithm {
            let (found, expected) = (header.algorithm, key.algorithm());
            return Err(fault(
                TokenFault::Algorithm,
                format!("`alg` is `{found:?}`, but the key is for `{expected:?}`"),
            ));
        }
        let mut signature = Vec::with_capacity(parts.signature.len());
        decode("signature", parts.signature, &mut signature)?;
        key.verify(parts.signed.as_bytes(), &signature).map_err(|_| {
            if header.key_id.is_none() {
                // The issuer may have replaced its only key: without a key id, nothing else would tell.
                keys.ask_for(UNNAMED, now);
            }
            fault(TokenFault::Signature, "the signature does not verify")
        })?;

        let (principal, window) = claims::judge(&claims, issuer, now)?;
        Ok(Verified { proven: Arc::new(principal), window })
    }

    fn generation(&self) -> u64 {
        self.keys.generation()
    }
}

/// The three parts of a compact serialization (RFC 7515 §7.1).
pub(super) struct Parts<'a> {
    pub(super) header: &'a str,
    pub(super) payload: &'a str,
    signature: &'a str,
    /// `header.payload`: what was signed.
    signed: &'a str,
}

impl<'a> Parts<'a> {
    pub(super) fn split(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            let found = token.len();
            return Err(malformed(format!("the token has {found} bytes, at most {MAX_TOKEN_BYTES} are read")));
        }
        let split = || {
            let (signed, signature) = token.rsplit_once('.')?;
            let (header, payload) = signed.split_once('.')?;
            (!payload.contains('.')).then_some(Self { header, payload, signature, signed })
        };
        split().ok_or_else(|| malformed("the token has not exactly three parts"))
    }
}

/// Appends what `part` encodes to `into`. Only the canonical, unpadded form is accepted (RFC 7515 §2), so that a token
/// has one spelling.
pub(super) fn decode(name: &str, part: &str, into: &mut Vec<u8>) -> Result<(), TokenError> {
    URL_SAFE_NO_PAD.decode_vec(part, into).map_err(|_| malformed(format!("the {name} is not canonical base64url")))
}

fn malformed(detail: impl Into<Box<str>>) -> TokenError {
    fault(TokenFault::Malformed, detail)
}

/// What of a header is used. Everything else in it is ignored, in particular every way to bring along a key.
struct Header<'a> {
    algorithm: Algorithm,
    key_id: Option<Cow<'a, str>>,
}

impl<'a> Header<'a> {
    fn read(text: &'a [u8]) -> Result<Self, TokenError> {
        let header = json::object(text).map_err(|error| malformed(format!("header: {error}")))?;
        for refused in ["crit", "zip"] {
            if header.member(refused).is_some() {
                return Err(malformed(format!("header parameter `{refused}` is not supported")));
            }
        }
        if header.member("b64").is_some_and(|value| *value != Json::Bool(true)) {
            return Err(malformed("header parameter `b64` is not supported"));
        }
        let key_id = match header.member("kid") {
            None => None,
            Some(Json::Text(id)) => Some(id.clone()),
            Some(_) => return Err(malformed("header parameter `kid` is not a text")),
        };
        match header.get("typ") {
            None => {}
            Some(Json::Text(kind)) if is_access_token(kind) => {}
            Some(Json::Text(kind)) => {
                let detail = format!("`typ` is {}, expected `JWT` or `at+jwt`", Quoted(kind));
                return Err(fault(TokenFault::WrongKind, detail));
            }
            Some(_) => return Err(malformed("header parameter `typ` is not a text")),
        }
        let Some(Json::Text(algorithm)) = header.get("alg") else {
            return Err(malformed("header parameter `alg` is missing or not a text"));
        };
        match algorithm.parse() {
            Ok(known) if SUPPORTED.contains(&known) => Ok(Self { algorithm: known, key_id }),
            _ => Err(fault(TokenFault::Algorithm, format!("`alg` is {}, which is not supported", Quoted(algorithm)))),
        }
    }
}

/// RFC 7519 §5.1 and RFC 9068 §2.1. Media types ignore case and may drop `application/`.
fn is_access_token(kind: &str) -> bool {
    ["JWT", "at+jwt", "application/at+jwt"].iter().any(|known| kind.eq_ignore_ascii_case(known))
}
