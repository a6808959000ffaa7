//! A sidecar whose every processor has requests to answer: what is written in the store comes into force all the same (fault row 68).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::Connection;
use crate::company::{Company, settings};
use crate::process::{Home, ON_ANY_DISK, Process};
use crate::support::{Running, on_sqlite_with};

/// Longer than anybody is let wait, on a machine that others use too.
const LONGEST: Duration = Duration::from_secs(10);

/// Ends the load, also when the test fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn token(store: &Running, company: &Company) -> String {
    let minted = store.post("/portcullis/v1/tokens", json!({"organization_membership_id": company.membership}));
    minted.await.is(200)["access_token"].as_str().unwrap().to_owned()
}

/// Asks for the project over and over: permitted or denied, never anything else.
fn ask(address: SocketAddr, request: &str, is_over: &AtomicBool, permitted: &AtomicUsize, denied: &AtomicUsize) {
    let mut connection = Connection::open(address);
    while !is_over.load(Ordering::Relaxed) {
        connection.send(request);
        let Some(answer) = connection.answer() else {
            connection = Connection::open(address);
            continue;
        };
        match answer.status {
            403 => denied.fetch_add(1, Ordering::Relaxed),
            // Nobody listens upstream.
            502 => permitted.fetch_add(1, Ordering::Relaxed),
            status => panic!("{status}: {}", answer.json()),
        };
    }
}

/// Gives and takes a role while requests are answered; each time until they are answered by it.
async fn write_and_wait(store: &Running, company: &Company, process: &Process, counts: [&AtomicUsize; 2]) {
    let moved = async |count: &AtomicUsize| {
        let (begun, before) = (Instant::now(), count.load(Ordering::Relaxed));
        while count.load(Ordering::Relaxed) == before {
            assert!(begun.elapsed() < LONGEST, "nobody is answered by what was written");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    for _ in 0..20 {
        let (assignment, _) = company.let_in(store).await;
        moved(counts[0]).await;
        company.shut_out(store, &assignment).await;
        moved(counts[1]).await;
        let age = process.metric("portcullis_facts_age_seconds").await.unwrap();
        assert!(age < LONGEST.as_secs_f64(), "facts are {age} s old");
    }
}

#[test]
fn row_68_what_is_written_comes_into_force_at_full_load() {
    on_sqlite_with(settings, async |store| {
        store.usual_model("multiple").await;
        let company = Company::found(store, "Acme").await;
        let home = Home::of(store).await;
        let process = home.start(ON_ANY_DISK).await;
        let (path, token) = (format!("/by-id/{}", company.project), token(store, &company).await);
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
        let (is_over, permitted, denied) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| ask(home.listen, &request, &is_over, &permitted, &denied));
            }
            let _ending = Ending(&is_over);
            tokio::task::block_in_place(|| {
                let work = write_and_wait(store, &company, &process, [&permitted, &denied]);
                tokio::runtime::Handle::current().block_on(work);
            });
        });
        let answered = permitted.into_inner() + denied.into_inner();
        assert!(answered > 1000, "{answered} requests are no load");
        process.stop();
    });
}
