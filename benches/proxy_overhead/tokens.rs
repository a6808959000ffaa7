//! An issuer: one RSA key, its key set, and session tokens as an identity provider would sign them.

use std::time::SystemTime;

use anyhow::{Context, Result};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::prelude::{BASE64_STANDARD, Engine};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

/// The issuer that the configuration of the measured sidecar trusts.
pub const ISSUER: &str = "https://issuer.example/user_management/client_01HBENCHMARK";
/// The organization that every token is for.
pub const ORGANIZATION: &str = "org_01HBENCHMARKBENCHMARKBENCHM";
/// The organization-wide permissions in every token.
pub const PERMISSIONS: [&str; 10] = [
    "project:view",
    "project:create",
    "workspace:view",
    "workspace:create",
    "report:view",
    "report:export",
    "member:view",
    "member:invite",
    "billing:view",
    "audit:view",
];
const KEY_ID: &str = "benchmark-2048";

/// Signs tokens.
pub struct Issuer {
    key: EncodingKey,
    now: u64,
}

impl Issuer {
    /// An issuer with a new RSA-2048 key.
    pub fn new() -> Result<Self> {
        let pair = KeyPair::generate(KeySize::Rsa2048).context("no RSA key could be made")?;
        let pkcs8 = pair.as_der().context("the RSA key cannot be written")?;
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            BASE64_STANDARD.encode(pkcs8.as_ref())
        );
        #[expect(clippy::disallowed_methods, reason = "tokens are judged by the clock of the sidecar under test")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        Ok(Self { key: EncodingKey::from_rsa_pem(pem.as_bytes())?, now })
    }

    /// The key set as a JSON document.
    pub fn key_set(&self) -> Result<String> {
        let mut key = Jwk::from_encoding_key(&self.key, Algorithm::RS256)?;
        key.common.key_id = Some(KEY_ID.to_owned());
        Ok(serde_json::to_string(&JwkSet { keys: vec![key] })?)
    }

    /// The token of the member with this number, valid for an hour; tokens with different serial numbers differ.
    pub fn token(&self, member: usize, serial: usize) -> Result<String> {
        let header = Header { kid: Some(KEY_ID.to_owned()), ..Header::new(Algorithm::RS256) };
        let claims = json!({
            "iss": ISSUER,
            "sub": user(member),
            "sid": format!("session_{serial:026}"),
            "jti": format!("{serial:026}"),
            "org_id": ORGANIZATION,
            "organization_membership_id": membership(member),
            "role": "member",
            "roles": ["member"],
            "permissions": PERMISSIONS,
            "iat": self.now,
            "exp": self.now + 3600,
        });
        Ok(encode(&header, &claims, &self.key)?)
    }

    /// So many different tokens of as many members as `members`, signed on all cores.
    pub fn tokens(&self, count: usize, members: usize) -> Result<Vec<String>> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            let sign = |worker: usize| {
                move || (worker..count).step_by(workers).map(|serial| self.token(serial % members, serial)).collect()
            };
            let signing: Vec<_> = (0..workers).map(|worker| scope.spawn(sign(worker))).collect();
            let mut tokens = Vec::with_capacity(count);
            for worker in signing {
                let signed: Result<Vec<String>> = worker.join().expect("signing does not panic");
                tokens.extend(signed?);
            }
            Ok(tokens)
        })
    }
}

/// The id of the user with this number.
pub fn user(number: usize) -> String {
    format!("user_{number:026}")
}

/// The id of the membership of the user with this number.
pub fn membership(number: usize) -> String {
    format!("om_{number:026}")
}
