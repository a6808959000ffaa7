//! F1 to F3: tokens, key sets, claims. Oracle: `serde_json`, which reads the same bytes without our strictness.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use portcullis::domain::UnixSeconds;
use portcullis::token::inspect::inspect;
use portcullis::token::{JwtVerifier, KeySets, KeySource, Meters, SUPPORTED, Settings, TokenVerifier};
use serde_json::Value;

use super::token_support::{Folder, ISS, NOW, Signer, encode, settings, verifier};

fn known() -> &'static JwtVerifier {
    static KNOWN: OnceLock<JwtVerifier> = OnceLock::new();
    KNOWN.get_or_init(|| verifier(|_| {}))
}

/// The compact form: what is taken apart has one spelling and one meaning, and nothing unsigned is anybody.
pub fn f01_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    assert!(known().verify(text, NOW).is_err(), "nobody signed this");
    let Ok(said) = inspect(text) else { return };
    let parts: Vec<&str> = text.split('.').collect();
    assert_eq!(parts.len(), 3);
    for (part, read) in parts.iter().zip([said.header, said.claims]) {
        let decoded = URL_SAFE_NO_PAD.decode(part).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.encode(&decoded), **part, "another spelling of the same");
        assert_eq!(serde_json::from_slice::<Value>(&decoded).unwrap(), Value::Object(read));
    }
}

/// A key set: no more keys than it lists, none that is symmetric or published with its private part, no key id twice.
pub fn f02_key_set(bytes: &[u8]) {
    thread_local! {
        static WAITING: RefCell<(tokio::runtime::Runtime, Folder)> = RefCell::new((
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(), Folder::new(),
        ));
    }
    let status = WAITING.with_borrow(|(runtime, folder)| {
        let path = folder.file("jwks.json", "");
        std::fs::write(&path, bytes).unwrap();
        let settings = Settings { issuers: vec![settings(KeySource::File(path))] };
        let keys = Arc::new(KeySets::new(&settings, Meters::unregistered()));
        runtime.block_on(keys.refresh()).unwrap();
        keys.status().remove(0)
    });
    assert_eq!(status.keys == 0, status.error.is_some(), "{status:?}");
    if status.keys == 0 {
        return;
    }
    let document: Value = serde_json::from_slice(bytes).unwrap();
    let listed = document["keys"].as_array().unwrap();
    let is_public = |key: &&Value| {
        let has = |name: &str| key.get(name).is_some();
        key["kty"] != "oct" && !["d", "p", "q", "dp", "dq", "qi", "oth", "k"].into_iter().any(has)
    };
    assert!(status.keys <= listed.iter().filter(is_public).count() && status.keys <= 100, "{status:?}");
    let mut ids = HashSet::new();
    assert!(listed.iter().filter_map(|key| key["kid"].as_str()).all(|id| ids.insert(id)), "a key id twice");
    assert!(
        listed
            .iter()
            .any(|key| { key["alg"].is_null() || SUPPORTED.iter().any(|known| key["alg"] == format!("{known:?}")) })
    );
}

/// Claims, signed as they are: who is accepted is who they name, and no longer than they say.
pub fn f03_claims(bytes: &[u8]) {
    let signer = Signer::published(Algorithm::EdDSA);
    let signed = format!("{}.{}", encode(signer.header().to_string()), encode(bytes));
    let token = format!("{signed}.{}", signer.signature(&signed, Algorithm::EdDSA));
    let Ok(verified) = known().verify(&token, NOW) else { return };
    let claims: Value = serde_json::from_slice(bytes).unwrap();
    assert_eq!(claims["iss"], ISS);
    assert_eq!(claims["sub"], verified.user.as_str());
    assert_eq!(claims.get("org_id").and_then(Value::as_str), verified.organization.as_ref().map(AsRef::as_ref));
    assert_eq!(
        claims.get("organization_membership_id").and_then(Value::as_str),
        verified.membership.as_ref().map(AsRef::as_ref)
    );
    let (begins, ends) = (claims["iat"].as_f64().unwrap(), claims["exp"].as_f64().unwrap());
    assert!(NOW < verified.ends() && verified.ends() == UnixSeconds(ends.floor() as i64 + 30));
    assert!(begins <= (NOW.0 + 30) as f64 && ends.floor() - begins.floor() <= 24.0 * 3600.0);
    assert!(!claims["sid"].is_null());
    for name in ["nonce", "at_hash", "c_hash"] {
        assert!(claims.get(name).is_none(), "an ID token");
    }
    let listed = claims["permissions"].as_array().cloned().unwrap_or_default();
    assert!(verified.permissions.iter().all(|slug| listed.iter().any(|entry| entry == slug.as_str())));
}
