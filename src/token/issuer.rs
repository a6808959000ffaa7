//! The development issuer: signs the tokens that AuthKit would issue (WorkOS contract, section 5), with a key of its
//! own.
//!
//! Used by the bundled store, `demo`, `token mint` and the tests. Whoever runs it in production trusts its key file.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::domain::{MembershipId, OrganizationId, PermissionSlug, RoleSlug, SessionId, UnixSeconds, UserId};
use crate::files;

/// Signs tokens, and publishes the key to verify them by.
pub struct Issuer {
    url: String,
    header: Header,
    key: EncodingKey,
    jwks: JwkSet,
}

/// Why there is no issuer, or no token.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The key file cannot be read or created.
    #[error("signing key `{path}` cannot be read or created")]
    File {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// More than its owner, and at most a group that reads it, may use the key file.
    #[error("signing key `{path}` has mode {mode:04o}, expected 0600, or 0640 where a group reads it")]
    Mode {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key is not a private key for the algorithm, in PKCS #8 PEM.
    #[error("the signing key is not a private key for `{algorithm:?}` in PEM")]
    Key {
        /// What it was to sign with.
        algorithm: Algorithm,
        /// What the library said.
        #[source]
        source: jsonwebtoken::errors::Error,
    },
    /// No key could be made.
    #[error("a key for `{0:?}` cannot be made")]
    Generate(Algorithm),
    /// A token could not be signed.
    #[error("the token cannot be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

/// What a new token says.
#[derive(Debug, Clone, Serialize)]
pub struct NewToken {
    /// The person.
    #[serde(rename = "sub")]
    pub user: UserId,
    /// The login session.
    #[serde(rename = "sid", skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The selected organization.
    #[serde(rename = "org_id", skip_serializing_if = "Option::is_none")]
    pub organization: Option<OrganizationId>,
    /// The membership of the person in it.
    #[serde(rename = "organization_membership_id", skip_serializing_if = "Option::is_none")]
    pub membership: Option<MembershipId>,
    /// The organization role of highest priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleSlug>,
    /// All organization roles.
    pub roles: Vec<RoleSlug>,
    /// The permissions of these roles.
    pub permissions: Vec<PermissionSlug>,
    /// When it begins.
    #[serde(rename = "iat")]
    pub issued_at: UnixSeconds,
    /// How long it is valid.
    #[serde(skip)]
    pub lifetime: Duration,
    /// Further claims, such as `client_id` or `act`. They win over those above, as a JWT template does.
    #[serde(skip)]
    pub further: Map<String, Value>,
}

impl NewToken {
    /// A token that says who, for five minutes, and nothing else.
    pub fn of(user: UserId, issued_at: UnixSeconds) -> Self {
        Self {
            user,
            session: None,
            organization: None,
            membership: None,
            role: None,
            roles: Vec::new(),
            permissions: Vec::new(),
            issued_at,
            lifetime: Duration::from_secs(300),
            further: Map::new(),
        }
    }
}

impl Issuer {
    /// An issuer that calls itself `url` (`iss`) and signs with the key in `path`, which is created when it is missing,
    /// readable by its owner only.
    ///
    /// # Errors
    /// [`IssuerError`] when the file cannot be read or created, is open to more than a group that reads it, or holds no key for `algorithm`.
    pub fn open(url: &str, path: &Path, algorithm: Algorithm) -> Result<Self, IssuerError> {
        let failed = |source| IssuerError::File { path: path.to_owned(), source };
        if !fs::exists(path).map_err(failed)? {
            create(path, &generate(algorithm)?).map_err(failed)?;
        }
        files::is_private(&fs::metadata(path).map_err(failed)?)
            .map_err(|mode| IssuerError::Mode { path: path.to_owned(), mode })?;
        Self::from_pem(url, &fs::read(path).map_err(failed)?, algorithm)
    }

    /// An issuer with a new key that is kept nowhere.
    ///
    /// # Errors
    /// [`IssuerError`] when no key can be made for `algorithm`.
    pub fn ephemeral(url: &str, algorithm: Algorithm) -> Result<Self, IssuerError> {
        Self::from_pem(url, &generate(algorithm)?, algorithm)
    }

    /// An issuer with this private key, in PEM.
    ///
    /// # Errors
    /// [`IssuerError::Key`] when that is no key for `algorithm`.
    pub fn from_pem(url: &str, pem: &[u8], algorithm: Algorithm) -> Result<Self, IssuerError> {
        let failed = |source| IssuerError::Key { algorithm, source };
        let key = match algorithm.family() {
            AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(pem),
            AlgorithmFamily::Ec => EncodingKey::from_ec_pem(pem),
            AlgorithmFamily::Ed => EncodingKey::from_ed_pem(pem),
            AlgorithmFamily::Hmac => Err(jsonwebtoken::errors::ErrorKind::InvalidAlgorithm.into()),
        }
        .map_err(failed)?;
        let mut jwk = Jwk::from_encoding_key(&key, algorithm).map_err(failed)?;
        let id = jwk.thumbprint(ThumbprintHash::SHA256).map_err(failed)?;
        jwk.common.key_id = Some(id.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        if let Some(certificate) = super::certificate::certificate(&jwk, &key) {
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &certificate);
            jwk.common.x509_sha256_fingerprint = Some(URL_SAFE_NO_PAD.encode(hash));
            jwk.common.x509_chain = Some(vec![STANDARD.encode(&certificate)]);
        }
        let header = Header { kid: Some(id), ..Header::new(algorithm) };
        Ok(Self { url: url.to_owned(), header, key, jwks: JwkSet { keys: vec![jwk] } })
    }

    /// What it calls itself.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The id of its key: the RFC 7638 thumbprint.
    pub fn key_id(&self) -> &str {
        self.header.kid.as_deref().unwrap_or_default()
    }

    /// The key set document to publish (RFC 7517 §5).
    ///
    /// # Errors
    /// Never in practice: texts always serialize.
    pub fn jwks(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&self.jwks)
    }

    /// The key to verify its tokens by, as an entry of a key set.
    pub fn public_keys(&self) -> &[Jwk] {
        &self.jwks.keys
    }

    /// Signs a token.
    ///
    /// # Errors
    /// [`IssuerError::Sign`] when the library refuses.
    pub fn mint(&self, token: &NewToken) -> Result<String, IssuerError> {
        let lifetime = i64::try_from(token.lifetime.as_secs()).unwrap_or(i64::MAX);
        let claims = Claims {
            issuer: &self.url,
            token,
            expires_at: token.issued_at.plus(lifetime),
            id: unique(token.issued_at),
        };
        let claims = serde_json::to_value(claims).map_err(|error| IssuerError::Sign(error.into()))?;
        let Value::Object(mut claims) = claims else {
            return Err(IssuerError::Sign(jsonwebtoken::errors::ErrorKind::InvalidToken.into()));
        };
        claims.extend(token.further.clone());
        jsonwebtoken::encode(&self.header, &claims, &self.key).map_err(IssuerError::Sign)
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("url", &self.url).field("key_id", &self.header.kid).finish_non_exhaustive()
    }
}

/// The claims of a token as they are signed.
#[derive(Serialize)]
struct Claims<'a> {
    #[serde(rename = "iss")]
    issuer: &'a str,
    #[serde(flatten)]
    token: &'a NewToken,
    #[serde(rename = "exp")]
    expires_at: UnixSeconds,
    #[serde(rename = "jti")]
    id: String,
}

/// A ULID: 48 bits of milliseconds and 80 random ones, in Crockford's base 32.
fn unique(now: UnixSeconds) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let milliseconds = u128::from(now.0.unsigned_abs()) * 1000;
    let number = milliseconds << 80 | rand::random::<u128>() >> 48;
    let digit = |place: u32| DIGITS.get((number >> (5 * place)) as usize & 31).copied().map_or('0', char::from);
    (0..26).rev().map(digit).collect()
}

/// A new private key, in PKCS #8 PEM.
fn generate(algorithm: Algorithm) -> Result<Vec<u8>, IssuerError> {
    let random = SystemRandom::new();
    let rsa = || KeyPair::generate(KeySize::Rsa2048).and_then(|pair| AsDer::<Pkcs8V1Der<'_>>::as_der(&pair));
    let der: Result<Vec<u8>, Unspecified> = match algorithm {
        Algorithm::ES256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .map(|document| document.as_ref().to_vec()),
        Algorithm::ES384 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random)
            .map(|document| document.as_ref().to_vec()),
        Algorithm::EdDSA => Ed25519KeyPair::generate_pkcs8v1(&random).map(|document| document.as_ref().to_vec()),
        other if other.family() == AlgorithmFamily::Rsa => rsa().map(|document| document.as_ref().to_vec()),
        _ => Err(Unspecified),
    };
    let text = STANDARD.encode(der.map_err(|_| IssuerError::Generate(algorithm))?);
    let mut pem = b"-----BEGIN PRIVATE KEY-----\n".to_vec();
    for line in text.as_bytes().chunks(64) {
        pem.extend_from_slice(line);
        pem.push(b'\n');
    }
    pem.extend_from_slice(b"-----END PRIVATE KEY-----\n");
    Ok(pem)
}

/// Writes a file that appears whole or not at all. When somebody else creates it at the same time, theirs stays.
fn create(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{:016x}", rand::random::<u64>()));
    let draft = PathBuf::from(name);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    };
    let written = write();
    // Best effort: what matters is whether the key itself is there.
    let _ = fs::remove_file(&draft);
    written
}

#[cfg(test)]
mod tests;
