//! The files of the keys that sign: changed one for the other without a token that is refused, and one for all who share a database.

use serde_json::{Value, json};

use crate::support::postgres;
use crate::support::process::{Process, configure, run};
use crate::support::skipped;

fn issuer(signing: &str, next: Option<&str>) -> String {
    let next = next.map(|file| format!(", next_signing_key: {file}")).unwrap_or_default();
    format!("issuer: {{url: http://store.test, client_id: client_dev, signing_key: {signing}{next}}}")
}

async fn key_set(store: &Process) -> jsonwebtoken::jwk::JwkSet {
    serde_json::from_value(store.get("/sso/jwks/client_dev").await.is(200)).unwrap()
}

/// Which key of the set verifies a token.
fn verifies(set: &jsonwebtoken::jwk::JwkSet, token: &str) -> bool {
    let Some(key) = set.find(jsonwebtoken::decode_header(token).unwrap().kid.as_deref().unwrap()) else { return false };
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    validation.set_issuer(&["http://store.test"]);
    jsonwebtoken::decode::<Value>(token, &jsonwebtoken::DecodingKey::from_jwk(key).unwrap(), &validation).is_ok()
}

async fn mint(store: &Process, membership: &str) -> String {
    let minted = store.post("/portcullis/v1/tokens", json!({"organization_membership_id": membership})).await.is(200);
    minted["access_token"].as_str().unwrap().to_owned()
}

/// The steps of `docs/operations.md`. A verifier may have the key set from before a step for a minute, or the one from after it at once:
/// every token that is still valid is verified by both.
#[tokio::test]
async fn a_signing_key_is_replaced_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let steps = [
        issuer("old.pem", None),
        // Published before it signs.
        issuer("old.pem", Some("new.pem")),
        // Signs, and the old one is published until the last token of it has ended.
        issuer("new.pem", Some("old.pem")),
        issuer("new.pem", None),
    ];
    let mut seen = Vec::new();
    let mut membership = None;
    for step in &steps {
        let store = Process::start_in(folder.path(), step).await;
        if membership.is_none() {
            membership = Some(store.member(&store.organization("Acme").await, "ada").await);
        }
        let token = mint(&store, membership.as_deref().unwrap()).await;
        seen.push((key_set(&store).await, token));
        store.stop();
    }
    assert_eq!(seen.iter().map(|(set, _)| set.keys.len()).collect::<Vec<_>>(), [1, 2, 2, 1]);
    for pair in seen.windows(2) {
        let [(before, earlier), (after, later)] = pair else { unreachable!() };
        assert!(verifies(before, earlier) && verifies(after, later));
        // After the last step the tokens of the old key have ended: `token_lifetime` was waited for.
        assert!(verifies(after, earlier), "a token from before a step is refused after it");
        assert!(verifies(before, later), "a token from after a step is refused by those who have not seen it yet");
    }
    assert!(!verifies(&seen[3].0, &seen[1].1), "in the end the old key is gone");
}

/// A key that is made by each process is another one in each; so on a database that may be shared, none is made.
#[tokio::test]
async fn on_postgresql_a_missing_key_is_not_made() {
    let Some(database) = postgres::database() else {
        return skipped("PostgreSQL is not installed");
    };
    let folder = tempfile::tempdir().unwrap();
    let further = format!("database: {database}\n{}", issuer("keys/issuer.pem", None));
    configure(folder.path(), &further);
    let refused = run(folder.path(), &["store", "--config", "store.yaml"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("keys/issuer.pem") && said.contains("every store"), "{said}");
    assert!(!folder.path().join("keys").exists());
    // As the message says.
    let made = run(folder.path(), &["token", "keys", "--config", "store.yaml"]);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let set: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(set["keys"].as_array().map(Vec::len), Some(1));
    let other = tempfile::tempdir().unwrap();
    std::fs::create_dir(other.path().join("keys")).unwrap();
    std::fs::copy(folder.path().join("keys/issuer.pem"), other.path().join("keys/issuer.pem")).unwrap();
    let (one, two) =
        (Process::start_in(folder.path(), &further).await, Process::start_in(other.path(), &further).await);
    let ada = one.member(&one.organization("Acme").await, "ada").await;
    let token = mint(&two, &ada).await;
    assert!(verifies(&key_set(&one).await, &token), "two stores on one database are one issuer");
}
