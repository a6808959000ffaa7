//! That the word in every secret of the tests is found wherever it turns up: a search that finds nothing proves nothing by itself.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use support::canary::CANARY;
use support::upstream::RecordingUpstream;
use support::{System, alice};

const ROUTES: &str = r#"
- {id: open, match: {path: "/open/{any}"}, public: true}
- {id: me, match: {path: /me}, authenticated: true}
"#;

/// What `leak` fails with.
fn told(leak: impl FnOnce()) -> String {
    let failed = catch_unwind(AssertUnwindSafe(leak)).err();
    failed.and_then(|failed| failed.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// One test, because what the process has logged is searched by whichever test ends next.
#[test]
fn a_secret_that_is_told_is_found() {
    // Nothing told, nothing found.
    assert_eq!(told(|| _ = System::with(ROUTES).start().get("/me").with(&alice().sign()).passes()), "");

    // An answer that repeats the credential.
    let echo = RecordingUpstream::answering(|received, stream| {
        let shown = received.value("authorization").unwrap_or_default();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", shown.len());
        stream.write_all(head.as_bytes()).is_ok() && stream.write_all(shown.as_bytes()).is_ok()
    });
    let echoing = System::with(ROUTES).upstream(echo).start();
    for further in ["", "x", "xx"] {
        // Wherever it begins inside the token.
        let token = alice().claim("before", further).sign();
        let said = told(|| _ = echoing.get("/me").with(&token).send());
        assert!(said.starts_with("a secret stands in an answer"), "{said}");
        echoing.upstream.take();
    }
    drop(echoing);

    // A path in the decision log.
    let said = told(|| _ = System::with(ROUTES).start().get(&format!("/open/{CANARY}")).passes());
    assert!(said.starts_with("a secret stands in the decision log"), "{said}");

    // The debug output of a configuration.
    let said = told(|| _ = System::with(ROUTES).and(&format!("header_prefix: x-{CANARY}")).start());
    assert!(said.starts_with("a secret stands in the debug output of a configuration"), "{said}");

    // A line of the log.
    let said = told(|| {
        let _system = System::with(ROUTES).start();
        tracing::debug!(target: "portcullis", key = CANARY, "a key");
    });
    assert!(said.starts_with("a secret stands in the log"), "{said}");
}
