//! The feed over TLS: who shows a certificate that is trusted is followed, and nobody else.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portcullis::app::SystemClock;
use portcullis::config::{Environment, store};
use portcullis::live::Settings;
use portcullis::source::FeedSettings;
use serde_json::json;

use crate::company::settings;
use crate::sidecar::{SYNC_KEY, Sidecar};
use crate::support::Running;
use crate::support::tls::{file, section};

struct NoVariables;

impl Environment for NoVariables {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

/// Follows the store at this port over TLS, and trusts the authority of this file.
fn follower(store: &Running, authority: &str) -> Sidecar {
    let url = format!("https://{}", store.address).parse().unwrap();
    let source = FeedSettings { url, key: SYNC_KEY.to_owned(), ca: Some(std::fs::read(file(authority)).unwrap()) };
    Sidecar::start_from(&source, false, Settings::default(), Arc::new(SystemClock), None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_followed_over_tls_if_its_certificate_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("version: 1\ndatabase: sqlite://./store.db\napi_keys: [sk_a]\n{}", section(false));
    let configured = store::parse("store.yaml", &text, Path::new("."), &NoVariables);
    let tls = configured.unwrap_or_else(|problems| panic!("{problems}")).tls.unwrap();
    let settings = settings(&format!("sqlite://{}", folder.path().join("store.db").display()));
    let store = Running::start_over(settings, Some(tls)).await;
    // A certificate, but not the one that the store's is from.
    let stranger = follower(&store, "client.pem");
    let sidecar = follower(&store, "ca.pem");
    sidecar.is_fresh().await;
    let before = sidecar.world.revision().unwrap().seq;
    let body = json!({"name": "Acme"});
    let (status, organization) = store.store.ask(http::Method::POST, "/organizations", Some(&body)).await.unwrap();
    assert_eq!(status, 201);
    sidecar.reaches(before + 1).await;
    let organization = organization["id"].as_str().unwrap();
    assert_eq!(sidecar.may(organization, "om_nobody", "project:view", "authz_resource_none").await, Some(false));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stranger.world.revision(), None);
    stranger.stop().await;
    sidecar.stop().await;
    store.stop().await;
}
