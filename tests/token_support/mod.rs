//! Signing keys, tokens and verifiers for the tests of `portcullis::token`.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use portcullis::domain::{Principal, TokenFault, UnixSeconds};
use portcullis::token::{
    Audience, Cached, ClaimNames, Issuer, IssuerSettings, JwtVerifier, KeySets, KeySource, Meters, Organizations,
    RequiredClaim, Settings, TokenError, TokenVerifier, Verified,
};
use serde_json::{Map, Value, json};

/// The time at which the tests take place.
pub const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

/// What the issuer of the tests calls itself.
pub const ISS: &str = "https://issuer.test/user_management/client_1";

/// A private key and its public half.
pub struct Signer {
    pub algorithm: Algorithm,
    pub pem: Vec<u8>,
    pub jwk: Map<String, Value>,
    key: EncodingKey,
}

impl Signer {
    /// A new key.
    pub fn new(algorithm: Algorithm) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let issuer = Issuer::open(ISS, &path, algorithm).unwrap();
        let pem = std::fs::read(&path).unwrap();
        let key = match algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_pem(&pem),
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(&pem),
            _ => EncodingKey::from_rsa_pem(&pem),
        };
        let document: Value = serde_json::from_str(&issuer.jwks().unwrap()).unwrap();
        let jwk = document["keys"][0].as_object().unwrap().clone();
        Self { algorithm, pem, jwk, key: key.unwrap() }
    }

    /// The key of this algorithm that the issuer of the tests publishes; made once, because RSA keys take their time.
    pub fn published(algorithm: Algorithm) -> &'static Self {
        static KEYS: OnceLock<Vec<Signer>> = OnceLock::new();
        let all = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
        let keys = KEYS.get_or_init(|| all.into_iter().map(Signer::new).collect());
        keys.iter().find(|key| key.algorithm == algorithm).unwrap()
    }

    pub fn kid(&self) -> &str {
        self.jwk["kid"].as_str().unwrap()
    }

    /// The header that belongs to the key.
    pub fn header(&self) -> Value {
        json!({"alg": format!("{:?}", self.algorithm), "typ": "JWT", "kid": self.kid()})
    }

    /// The raw signature of `message`, as base64url, by whatever algorithm the key can do.
    pub fn signature(&self, message: &str, algorithm: Algorithm) -> String {
        jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, algorithm).unwrap()
    }

    /// A token with exactly this header and payload.
    pub fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(payload));
        let signature = self.signature(&signed, self.algorithm);
        format!("{signed}.{signature}")
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&self.header().to_string(), &claims.to_string())
    }
}

/// base64url without padding.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The claims of a good token of Ada, valid for 250 more seconds.
pub fn claims() -> Value {
    json!({
        "iss": ISS,
        "sub": "user_ada",
        "sid": "session_1",
        "jti": "01J0000000000000000000000",
        "org_id": "org_acme",
        "organization_membership_id": "om_ada",
        "role": "admin",
        "roles": ["admin", "member"],
        "permissions": ["project:view", "project:edit", "app:create", "project:edit"],
        "iat": NOW.0 - 50,
        "exp": NOW.0 + 250,
    })
}

/// The claims of a good token, with some of them replaced; null takes one away.
pub fn claims_with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

/// Settings of the one issuer of the tests.
pub fn settings(keys: KeySource) -> IssuerSettings {
    IssuerSettings {
        name: "authkit".into(),
        issuers: vec![ISS.into()],
        audience: Audience::None,
        required_claims: vec![RequiredClaim { name: "sid".into(), values: vec![] }],
        organizations: Organizations::Any,
        keys,
        algorithms: vec![Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA],
        from: vec!["header:authorization".parse().unwrap()],
        leeway: Duration::from_secs(30),
        max_lifetime: Some(Duration::from_secs(24 * 3600)),
        claims: ClaimNames::default(),
        keep: vec![],
    }
}

/// A key set document with these keys.
pub fn document<'a>(keys: impl IntoIterator<Item = &'a Map<String, Value>>) -> String {
    json!({"keys": keys.into_iter().collect::<Vec<_>>()}).to_string()
}

/// A folder that goes away with the test, and files in it.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

/// Loaded key sets of issuers that are made from the keys of the tests.
pub fn key_sets(adjust: impl FnOnce(&mut IssuerSettings)) -> Arc<KeySets> {
    let folder = Folder::new();
    let published = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
    let document = document(published.map(|algorithm| &Signer::published(algorithm).jwk));
    let mut settings = settings(KeySource::File(folder.file("jwks.json", &document)));
    adjust(&mut settings);
    let settings = Settings { issuers: vec![settings] };
    assert_eq!(settings.problems(), Vec::<String>::new());
    let keys = Arc::new(KeySets::new(&settings, Meters::unregistered()));
    block_on(keys.refresh()).unwrap();
    assert!(keys.ready(), "{:?}", keys.status());
    keys
}

/// A verifier by the keys of the tests.
pub fn verifier(adjust: impl FnOnce(&mut IssuerSettings)) -> JwtVerifier {
    JwtVerifier::new(key_sets(adjust))
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The fault of a token.
#[track_caller]
pub fn fault_of(result: Result<Verified<Principal>, TokenError>) -> TokenFault {
    match result {
        Err(TokenError::Fault(fault, _)) => fault,
        other => panic!("expected a fault, found {other:?}"),
    }
}

/// Shorthand for the fault of `token` at [`NOW`].
#[track_caller]
pub fn refused(verifier: &impl TokenVerifier, token: &str) -> TokenFault {
    fault_of(verifier.verify(token, NOW))
}

/// The published RSA key.
pub fn rsa() -> &'static Signer {
    Signer::published(Algorithm::RS256)
}

/// Tries every row (token, expected fault, name of the trick) cold and warm: first with `verifier` as it is, then twice with a
/// cache that already holds `good`.
#[track_caller]
pub fn all_refused(verifier: JwtVerifier, good: &str, rows: &[(String, TokenFault, &str)]) {
    for (token, expected, trick) in rows {
        assert_eq!(refused(&verifier, token), *expected, "cold: {trick}");
    }
    let cached = Cached::new(verifier, 1 << 20, Meters::unregistered());
    cached.verify(good, NOW).unwrap();
    for (token, expected, trick) in rows {
        for _ in 0..2 {
            assert_eq!(refused(&cached, token), *expected, "warm: {trick}");
        }
    }
    cached.verify(good, NOW).unwrap();
}

/// Rows as [`all_refused`] takes them.
pub fn rows<const N: usize>(rows: [(String, TokenFault, &str); N]) -> Vec<(String, TokenFault, &str)> {
    rows.into()
}
