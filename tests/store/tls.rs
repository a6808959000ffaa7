//! The API over TLS, as the configuration sets it up: both versions of HTTP, and clients that have to show who they are.

use std::path::Path;
use std::sync::Arc;

use portcullis::config::Environment;
use portcullis::config::store;
use serde_json::json;

use crate::support::tls::{Connecting, ask, section};
use crate::support::{Running, settings};

struct NoVariables;

impl Environment for NoVariables {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

/// What `tls:` means, read as `portcullis store` reads it.
fn configured(asks_for_certificates: bool) -> Arc<rustls::ServerConfig> {
    let text =
        format!("version: 1\ndatabase: sqlite://./store.db\napi_keys: [sk_a]\n{}", section(asks_for_certificates));
    let config = store::parse("store.yaml", &text, Path::new("."), &NoVariables);
    config.unwrap_or_else(|problems| panic!("{problems}")).tls.unwrap()
}

async fn started(asks_for_certificates: bool) -> (Running, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&format!("sqlite://{}", folder.path().join("store.db").display()));
    (Running::start_over(settings, Some(configured(asks_for_certificates))).await, folder)
}

const FRIEND: Connecting<'static> = Connecting { offers: &[], trusts: true, shows: false };

#[tokio::test]
async fn the_api_is_served_over_tls_in_both_versions_of_http() {
    let (store, _folder) = started(false).await;
    for (name, offers, agreed) in [
        ("neither", &[][..], None),
        ("one", &["http/1.1"], Some("http/1.1")),
        ("two", &["h2"], Some("h2")),
        ("both", &["http/1.1", "h2"], Some("h2")),
    ] {
        let connecting = Connecting { offers, ..FRIEND };
        let body = Some(json!({"name": name}));
        let (found, status, created) = ask(store.address, connecting, "POST", "/organizations", body).await.unwrap();
        assert_eq!((found.as_deref(), status), (agreed, 201), "{created}");
        let (_, status, listed) = ask(store.address, connecting, "GET", "/organizations?limit=1", None).await.unwrap();
        assert_eq!((status, &listed["data"][0]["name"]), (200, &json!(name)));
    }
    let (_, status, _) = ask(store.address, FRIEND, "GET", "/nothing", None).await.unwrap();
    assert_eq!(status, 404);
    store.stop().await;
}

#[tokio::test]
async fn who_does_not_trust_the_authority_or_speaks_plainly_gets_no_answer() {
    let (store, _folder) = started(false).await;
    let stranger = Connecting { trusts: false, ..FRIEND };
    let refused = ask(store.address, stranger, "GET", "/live", None).await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    assert_eq!(store.try_send("GET", "/live", None).await, None, "plain HTTP is not answered");
    store.stop().await;
}

#[tokio::test]
async fn clients_show_a_certificate_where_they_are_asked_for_one() {
    let (store, _folder) = started(true).await;
    for offers in [&["http/1.1"][..], &["h2"]] {
        let known = Connecting { offers, shows: true, ..FRIEND };
        assert_eq!(ask(store.address, known, "GET", "/organizations", None).await.unwrap().1, 200);
        let unknown = Connecting { offers, ..FRIEND };
        assert!(ask(store.address, unknown, "GET", "/organizations", None).await.is_err());
    }
    store.stop().await;
}
