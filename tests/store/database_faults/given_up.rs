//! Whoever gave up waiting, while the database was at work on it, gets nothing written.

use std::sync::Arc;

use async_trait::async_trait;
use portcullis::store::{ApiKey, ApiKeys, Author, Reply, Scope, StoreError, Transaction, Write};
use serde_json::json;
use tokio::sync::Notify;

use super::{log_equals_rows, revision};
use crate::support::company::id;
use crate::support::{Running, on_every_engine};

/// A write that takes as long as the test wants it to.
#[derive(Default)]
struct Slow {
    begun: Notify,
    go: Notify,
}

/// For the store, which wants to own what it writes.
struct Shared(Arc<Slow>);

#[async_trait]
impl Write for Shared {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        tx.event("test.slow", None, &json!({}))?;
        self.0.begun.notify_one();
        self.0.go.notified().await;
        Ok(Reply::no_content())
    }
}

fn author() -> Author {
    let keys = ApiKeys::new(vec![ApiKey::new("slow", "sk_slow", vec![Scope::Write])]);
    let headers = [(http::header::AUTHORIZATION, http::HeaderValue::from_static("Bearer sk_slow"))];
    keys.admit(&headers.into_iter().collect(), Scope::Write).unwrap()
}

fn begin(store: &Running, slow: &Arc<Slow>) -> tokio::task::JoinHandle<bool> {
    let (store, slow) = (store.store.clone(), Shared(Arc::clone(slow)));
    tokio::spawn(async move { store.write(author(), slow).await.is_ok() })
}

#[test]
fn what_was_given_up_while_it_was_applied_is_not_written() {
    on_every_engine(async |store| {
        let before = revision(store).await;
        let slow = Arc::new(Slow::default());
        let asked = begin(store, &slow);
        slow.begun.notified().await;
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
        slow.go.notify_one();
        let next = store.post("/organizations", json!({"name": "Next"})).await;
        assert_eq!(store.get("/events").await.listed("/event").iter().filter(|event| *event == "test.slow").count(), 0);
        assert_eq!(next.revision(), before + 1, "no number was used up");
        log_equals_rows(store).await;
    });
}

#[test]
fn those_in_the_same_transaction_are_written_nevertheless() {
    on_every_engine(async |store| {
        let before = revision(store).await;
        // Holds the writer up until the others wait together.
        let (first, second) = (Arc::new(Slow::default()), Arc::new(Slow::default()));
        let waited = begin(store, &first);
        first.begun.notified().await;
        let given_up = begin(store, &second);
        let other = store.client();
        let other = tokio::spawn(async move { other.post("/organizations", json!({"name": "Other"})).await });
        // Nothing tells when both are in the queue; if one came late, there would be two transactions, with the same outcome.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        first.go.notify_one();
        assert!(waited.await.unwrap());
        second.begun.notified().await;
        given_up.abort();
        assert!(given_up.await.unwrap_err().is_cancelled());
        second.go.notify_one();
        let other = other.await.unwrap();
        assert_eq!(other.revision(), before + 2, "after the first, and without the one that was given up");
        store.get(&format!("/organizations/{}", id(&other.is(201)))).await.is(200);
        let events = store.get("/events").await.listed("/event");
        assert_eq!(events.iter().filter(|event| *event == "test.slow").count(), 1, "{events:?}");
        log_equals_rows(store).await;
    });
}
