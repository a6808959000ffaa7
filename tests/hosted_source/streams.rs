//! What lasts on a route where the server has the last word: it is asked again when something changed, and seldom.

use std::io::Write;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use portcullis::domain::Clock;
use portcullis::wire::{Revocation, RevocationKind};
use serde_json::json;

use crate::site::{ROUTES, person, unassign, with_store};
use crate::support::client::Connection;
use crate::support::upstream::RecordingUpstream;
use crate::support::{Ask, Builder, System, token};

/// A sidecar before an upstream that answers with an event every 20 ms, for as long as it is listened to.
fn with_events(facts: &str) -> Builder {
    let upstream = RecordingUpstream::answering(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let (_never, wait) = channel::<()>();
        while stream.write_all(b"9\r\ndata: x\n\n\r\n").is_ok() {
            let _ = wait.recv_timeout(Duration::from_millis(20));
        }
        false
    });
    System::with(ROUTES).facts(facts).upstream(upstream)
}

/// Opens a stream of events, and waits until it counts among those that last.
fn listen(system: &System, ask: &Ask<'_>) -> Connection {
    let before = system.metric("portcullis_streams_open");
    let mut connection = system.connect();
    connection.send(ask.bytes());
    let mut seen = String::new();
    while !seen.contains("data: x") {
        let some = connection.read_some();
        assert!(!some.is_empty(), "closed after {seen}");
        seen.push_str(&String::from_utf8_lossy(&some));
    }
    system.until("it lasts", |system| system.metric("portcullis_streams_open") > before);
    system.upstream.take();
    connection
}

/// Reads until it is cut; how long that took.
fn gets_cut(mut connection: Connection) -> Duration {
    let begun = Instant::now();
    while !connection.read_some().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it goes on");
    }
    begun.elapsed()
}

/// Reads for so long, and it goes on.
fn goes_on(connection: &mut Connection, time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        assert!(!connection.read_some().is_empty(), "it was cut");
    }
}

#[test]
fn the_server_is_asked_about_a_stream_when_something_changed_and_once_in_the_time_to_live() {
    with_store("multiple", async |store, between| {
        let acme = store.organization("Acme").await;
        let (ada, bob) = (person(store, &acme, "ada", true).await, person(store, &acme, "bob", true).await);
        let project = store.resource(&acme, "project", "42", None).await;
        let viewer = store.assign(&ada.membership, "project-viewer", &project).await;
        let facts = crate::site::facts(between, ", events: 100ms").replace("min: 1s, max: 1500ms", "min: 3s, max: 3s");
        let system = with_events(&facts).start();
        let mut open = listen(&system, &system.get("/careful/42").with(&ada.token));
        let begun = Instant::now();
        let rounds = |begun: Instant| usize::try_from(begun.elapsed().as_millis() / 3000).unwrap();
        // What is read again and is the same asks for nothing, but for what may have happened before it was watched.
        between.take();
        goes_on(&mut open, Duration::from_secs(7));
        assert!(between.count("/organizations/") > 1, "the organization was read again");
        assert!(between.count("/check") <= 1, "{}", between.count("/check"));
        // What changes all the time, as seldom.
        between.take();
        let changing = Instant::now();
        let path = format!("/user_management/organization_memberships/{}", bob.membership);
        let (mut role, mut other) = ("admin", "member");
        while changing.elapsed() < Duration::from_secs(7) {
            store.put(&path, json!({"role_slugs": [role]})).await.is(200);
            std::mem::swap(&mut role, &mut other);
            goes_on(&mut open, Duration::from_millis(500));
        }
        let asked = between.count("/check");
        assert!((1..=rounds(changing) + 1).contains(&asked), "{asked}");
        assert!(begun.elapsed() > Duration::from_secs(13));
        // What the facts deny is cut without a word from the server.
        unassign(store, &ada.membership, &viewer).await;
        gets_cut(open);
    });
}

#[test]
fn a_server_that_takes_its_time_over_one_stream_delays_the_end_of_no_other() {
    with_store("multiple", async |store, between| {
        let acme = store.organization("Acme").await;
        let ada = person(store, &acme, "ada", true).await;
        let project = store.resource(&acme, "project", "42", None).await;
        store.assign(&ada.membership, "project-viewer", &project).await;
        let facts = crate::site::facts(between, ", check_within: 30s").replace("max: 1500ms", "max: 200s");
        let system = with_events(&facts).start();
        let mut careful = listen(&system, &system.get("/careful/42").with(&ada.token));
        let other = listen(&system, &system.get("/me").with(&token().claim("sid", "session_other").sign()));
        between.is_late(Duration::from_secs(15));
        between.take();
        let revoke = |session: &str| {
            let now = system.clock.now();
            let (kind, id, expires) = (RevocationKind::Session, session.into(), now.plus(3600));
            system.world.revocations().add([Revocation { kind, id, not_before: now, expires, holder: None }]);
        };
        revoke("session_of_nobody");
        system.until("the server is asked", |_| between.count("/check") > 0);
        goes_on(&mut careful, Duration::from_millis(600));
        revoke("session_other");
        let took = gets_cut(other);
        assert!(took < Duration::from_secs(3), "{took:?}");
        goes_on(&mut careful, Duration::from_millis(300));
        between.is_honest();
    });
}
