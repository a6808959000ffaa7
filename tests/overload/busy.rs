//! Every processor has work: facts, status pages and good tokens have their turn all the same (rows 3 and 68).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::MIB;
use super::process::Process;
use super::support::{COMPANY, alice};

/// Longer than anybody is let wait, on a machine that others use too.
const LONGEST: Duration = Duration::from_secs(10);

/// Runs `work` over and over on as many threads as keep every processor busy, while `meanwhile` looks.
fn under_load(work: impl Fn(usize) + Sync, meanwhile: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    let number = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    work(number.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
        // A failure has to end the load as well.
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(meanwhile));
        is_over.store(true, Ordering::Relaxed);
        if let Err(failure) = looked {
            std::panic::resume_unwind(failure);
        }
    });
}

#[test]
fn facts_stay_fresh_and_pages_are_answered_at_full_load() {
    let process = Process::start("{}");
    let request = format!("GET /projects/42 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n", alice().sign());
    let served = AtomicUsize::new(0);
    let work = |_| {
        let mut connection = process.connect();
        for _ in 0..200 {
            connection.send(&request);
            assert_eq!(connection.answer().unwrap().status, 200);
            served.fetch_add(1, Ordering::Relaxed);
        }
        process.upstream.take();
    };
    under_load(work, || {
        let begun = Instant::now();
        let revision = process.metric("portcullis_facts_revision");
        process.write("facts.yaml", &format!("{COMPANY}\n# changed\n"));
        let mut changed = None;
        while begun.elapsed() < Duration::from_secs(6) || changed.is_none() {
            for page in ["/live", "/ready"] {
                let asked = Instant::now();
                assert_eq!(process.page(page).status, 200);
                assert!(asked.elapsed() < LONGEST, "{page}: {:?}", asked.elapsed());
            }
            let age = process.metric("portcullis_facts_age_seconds");
            assert!(age < LONGEST.as_secs_f64(), "facts are {age} s old");
            if process.metric("portcullis_facts_revision") > revision {
                changed.get_or_insert(begun.elapsed());
            }
            assert!(begun.elapsed() < Duration::from_secs(40), "changed facts are not in force");
        }
    });
    assert!(served.load(Ordering::Relaxed) > 1000, "{served:?}");
}

#[test]
fn good_tokens_are_answered_while_thousands_name_unknown_keys() {
    const FLOOD: usize = 10_000;
    let process = Process::start("{}");
    let before = process.memory();
    let good = alice().sign();
    let claims = good.split('.').nth(1).unwrap();
    let flooded = AtomicUsize::new(0);
    let work = |number: usize| {
        let mut connection = process.connect();
        for part in 0..50 {
            let header = format!(r#"{{"alg":"ES256","kid":"unknown-{number}-{part}"}}"#);
            let header = URL_SAFE_NO_PAD.encode(header);
            connection
                .send(format!("GET /me HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {header}.{claims}.AAAA\r\n\r\n"));
            let answer = connection.answer().unwrap();
            assert_eq!((answer.status, answer.reason().as_str()), (401, "unknown_key"));
            flooded.fetch_add(1, Ordering::Relaxed);
        }
    };
    let loads = || process.metric(r#"portcullis_jwks_refresh_total{issuer="test",result="unchanged"}"#);
    let (loaded, begun) = (loads(), Instant::now());
    under_load(work, || {
        while flooded.load(Ordering::Relaxed) < FLOOD {
            let asked = Instant::now();
            // One that is known, and one that was never seen.
            for token in [&good, &alice().sign()] {
                let answer =
                    process.ask(&format!("GET /me HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"));
                assert_eq!(answer.unwrap().status, 200);
            }
            assert!(asked.elapsed() < LONGEST, "{:?}", asked.elapsed());
            assert!(begun.elapsed() < Duration::from_secs(240), "{flooded:?} of {FLOOD}");
        }
    });
    // The file is looked at every five seconds anyway.
    let most = 5.0 + begun.elapsed().as_secs_f64() / 2.0;
    assert!(loads() - loaded <= most, "key sets were loaded {} times", loads() - loaded);
    let grown = process.memory().saturating_sub(before);
    assert!(grown < 50 * MIB, "{grown} bytes");
}
