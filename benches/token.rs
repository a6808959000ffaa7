//! What does it cost to know who is asking? A token seen for the first time, and one seen before, beside the library that most
//! services use (`jsonwebtoken::decode` with a key prepared once) on the same tokens.
//!
//! Tokens look like those of AuthKit: ten permissions, about 900 bytes. `raw` is the signature check alone.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench that fails should stop where it fails")]
#![allow(missing_docs, reason = "criterion generates the entry point")]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{Criterion, criterion_group, criterion_main};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation};
use portcullis::domain::{MembershipId, OrganizationId, PermissionSlug, RoleSlug, SessionId, UnixSeconds, UserId};
use portcullis::token::{
    Algorithm, Audience, Cached, ClaimNames, Issuer, IssuerSettings, JwtVerifier, KeySets, KeySource, Meters, NewToken,
    Organizations, RequiredClaim, Settings, TokenVerifier,
};

const NOW: UnixSeconds = UnixSeconds(4_000_000_000);
const ISS: &str = "https://api.workos.com/user_management/client_01J0000000000000000000000";
const ALGORITHMS: [Algorithm; 4] = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];

/// An issuer, and a verifier that has its keys.
fn world(algorithm: Algorithm) -> (Issuer, Arc<JwtVerifier>) {
    let issuer = Issuer::ephemeral(ISS, algorithm).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, issuer.jwks().unwrap()).unwrap();
    let settings = Settings {
        issuers: vec![IssuerSettings {
            name: "authkit".into(),
            issuers: vec![ISS.into()],
            audience: Audience::None,
            required_claims: vec![RequiredClaim { name: "sid".into(), values: vec![] }],
            organizations: Organizations::Any,
            keys: KeySource::File(path),
            algorithms: vec![algorithm],
            from: vec!["header:authorization".parse().unwrap()],
            leeway: Duration::from_secs(30),
            max_lifetime: Some(Duration::from_secs(86_400)),
            claims: ClaimNames::default(),
            keep: vec![],
        }],
    };
    let keys = Arc::new(KeySets::new(&settings, Meters::unregistered()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(keys.refresh()).unwrap();
    assert!(keys.ready());
    (issuer, Arc::new(JwtVerifier::new(keys)))
}

fn token(issuer: &Issuer, number: usize) -> String {
    let permissions = ["project", "app"]
        .iter()
        .flat_map(|what| ["view", "edit", "create", "delete", "share"].map(|act| format!("{what}:{act}")));
    let token = NewToken {
        session: Some(SessionId::new(&format!("session_01J00000000000000{number:09}")).unwrap()),
        organization: Some(OrganizationId::new("org_01J0000000000000000000000").unwrap()),
        membership: Some(MembershipId::new(&format!("om_01J0000000000000{number:09}")).unwrap()),
        role: Some(RoleSlug::new("admin").unwrap()),
        roles: vec![RoleSlug::new("admin").unwrap()],
        permissions: permissions.map(|slug| PermissionSlug::new(&slug).unwrap()).collect(),
        further: serde_json::Map::from_iter([
            ("client_id".to_owned(), "client_01J0000000000000000000000".into()),
            ("feature_flags".to_owned(), vec!["new-editor", "bulk-export", "audit-trail", "beta"].into()),
        ]),
        ..NewToken::of(UserId::new(&format!("user_01J00000000000000{number:09}")).unwrap(), NOW)
    };
    issuer.mint(&token).unwrap()
}

/// The claims that a service would ask `jsonwebtoken` for.
#[derive(serde::Deserialize)]
#[allow(dead_code, reason = "decoded to be paid for")]
struct Claims {
    sub: String,
    sid: String,
    org_id: String,
    organization_membership_id: String,
    role: String,
    roles: Vec<String>,
    permissions: Vec<String>,
    exp: i64,
    iat: i64,
}

fn fresh(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fresh");
    for algorithm in ALGORITHMS {
        let (issuer, verifier) = world(algorithm);
        let token = token(&issuer, 1);
        let jwks: JwkSet = serde_json::from_str(&issuer.jwks().unwrap()).unwrap();
        let key = DecodingKey::from_jwk(&jwks.keys[0]).unwrap();
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&[ISS]);
        group.bench_function(format!("portcullis/{algorithm:?}"), |bencher| {
            bencher.iter(|| verifier.verify(black_box(&token), NOW).unwrap());
        });
        group.bench_function(format!("jsonwebtoken/{algorithm:?}"), |bencher| {
            bencher.iter(|| jsonwebtoken::decode::<Claims>(black_box(&token), &key, &validation).unwrap());
        });
    }
    let (issuer, _) = world(Algorithm::RS256);
    let token = token(&issuer, 1);
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let jwks: serde_json::Value = serde_json::from_str(&issuer.jwks().unwrap()).unwrap();
    let component = |name: &str| URL_SAFE_NO_PAD.decode(jwks["keys"][0][name].as_str().unwrap()).unwrap();
    let (n, e) = (component("n"), component("e"));
    let key = RsaPublicKeyComponents { n: &n, e: &e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).unwrap();
    group.bench_function("raw/RS256", |bencher| {
        bencher.iter(|| key.verify_sig(black_box(message.as_bytes()), &signature).unwrap());
    });
    group.finish();
}

fn seen_before(criterion: &mut Criterion) {
    let (issuer, verifier) = world(Algorithm::ES256);
    // ES256, because ten thousand RSA signatures take long to make; what a hit costs depends on the length alone.
    let tokens: Vec<String> = (0..10_000).map(|number| token(&issuer, number)).collect();
    let mut group = criterion.benchmark_group(format!("seen_before/{}_bytes", tokens[0].len()));
    for count in [16, 10_000] {
        // The floor: a map that neither bounds, nor shares, nor expires anything.
        let map: HashMap<&str, Arc<str>, foldhash::fast::RandomState> =
            tokens[..count].iter().map(|token| (token.as_str(), token.as_str().into())).collect();
        let copies = tokens.clone();
        let mut at = 0;
        group.bench_function(format!("map_of_{count}"), |bencher| {
            bencher.iter(|| {
                at = (at + 7919) % count;
                Arc::clone(&map[black_box(copies[at].as_str())])
            });
        });
        let cached = Cached::new(Arc::clone(&verifier), 64 << 20, Meters::unregistered());
        for token in &tokens[..count] {
            cached.verify(token, NOW).unwrap();
        }
        let mut at = 0;
        group.bench_function(format!("portcullis_of_{count}"), |bencher| {
            bencher.iter(|| {
                // A stride that is prime to both counts visits all tokens in an order that is hard to foresee.
                at = (at + 7919) % count;
                cached.verify(black_box(&tokens[at]), NOW).unwrap()
            });
        });
    }
    group.finish();
}

/// What hostile input costs: none of it may take longer than an honest token.
fn refused(criterion: &mut Criterion) {
    let (issuer, verifier) = world(Algorithm::RS256);
    let good = token(&issuer, 1);
    let parts: Vec<&str> = good.split('.').collect();
    let with_payload = |payload: String| format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(payload), parts[2]);
    let members: String = (0..1100).map(|at| format!("\"m{at}\":0,")).collect();
    let rows = [
        ("one_megabyte", "a".repeat(1 << 20)),
        ("dots", ".".repeat(10_000)),
        ("deep", with_payload(format!("{{\"x\":{}", "[".repeat(11_000)))),
        ("many_members", with_payload(format!("{{{members}\"iss\":\"{ISS}\"}}"))),
        ("many_numbers", with_payload(format!("{{\"x\":[{}0],\"iss\":\"{ISS}\"}}", "0,".repeat(5_500)))),
        ("wrong_signature", format!("{}.{}.{}", parts[0], parts[1], "A".repeat(342))),
    ];
    let mut group = criterion.benchmark_group("refused");
    for (name, token) in rows {
        group.bench_function(name, |bencher| bencher.iter(|| verifier.verify(black_box(&token), NOW).unwrap_err()));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(40).measurement_time(Duration::from_secs(3));
    targets = fresh, seen_before, refused
}
criterion_main!(benches);
