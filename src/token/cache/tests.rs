use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::domain::{TokenFault, UserId};
use crate::token::{Window, fault};

/// Accepts every token that begins with `good` as somebody of that name, and counts how often it was asked.
#[derive(Default)]
struct Gullible {
    asked: AtomicUsize,
    generation: AtomicU64,
    /// Whether the keys change while a token is being verified.
    rotates: bool,
}

impl TokenVerifier for Gullible {
    fn verify(&self, token: &str, _: UnixSeconds) -> Result<Verified<Principal>, TokenError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.rotates {
            self.generation.fetch_add(1, Ordering::SeqCst);
        }
        if !token.starts_with("good") {
            return Err(fault(TokenFault::Signature, "not good"));
        }
        let principal = Principal {
            issuer: "gullible".into(),
            user: UserId::new(token.get(..8).unwrap()).unwrap(),
            session: None,
            organization: None,
            membership: None,
            role: None,
            roles: Box::default(),
            permissions: Box::default(),
            issued_at: None,
            expires_at: UnixSeconds(100),
            impersonated: false,
            claims: serde_json::Map::new(),
        };
        let window = Window { begins: UnixSeconds(0), ends: UnixSeconds(100) };
        Ok(Verified { proven: Arc::new(principal), window })
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }
}

fn cached(inner: Gullible) -> Cached<Gullible> {
    Cached::new(inner, 1 << 20, Meters::unregistered())
}

fn asked(cached: &Cached<Gullible>) -> usize {
    cached.inner.asked.load(Ordering::SeqCst)
}

const NOW: UnixSeconds = UnixSeconds(50);

#[test]
fn a_token_is_verified_once() {
    let cached = cached(Gullible::default());
    for _ in 0..3 {
        assert_eq!(cached.verify("good-ada", NOW).unwrap().user.as_str(), "good-ada");
    }
    assert_eq!(asked(&cached), 1);
    assert_eq!((cached.meters.cache_hits.get(), cached.meters.cache_misses.get()), (2, 1));
}

#[test]
fn failures_are_not_remembered() {
    let cached = cached(Gullible::default());
    for _ in 0..3 {
        assert!(cached.verify("bad", NOW).is_err());
    }
    assert_eq!(asked(&cached), 3);
}

#[test]
fn tokens_with_one_ending_are_told_apart() {
    let cached = cached(Gullible::default());
    let end = "x".repeat(PLACE_BYTES);
    for name in ["good-ada", "good-bob", "good-ada"] {
        assert_eq!(cached.verify(&format!("{name}{end}"), NOW).unwrap().user.as_str(), name);
    }
    cached.verify(&format!("good-ada{end}"), NOW).unwrap();
    assert!(cached.verify(&format!("bad-ada.{end}"), NOW).is_err());
}

#[test]
fn the_time_is_looked_at_on_every_hit() {
    let cached = cached(Gullible::default());
    cached.verify("good-ada", NOW).unwrap();
    cached.verify("good-ada", UnixSeconds(99)).unwrap();
    for (now, expected) in [(100, TokenFault::Expired), (-1, TokenFault::NotYetValid)] {
        let found = cached.verify("good-ada", UnixSeconds(now)).unwrap_err();
        assert!(matches!(found, TokenError::Fault(fault, _) if fault == expected), "{found:?}");
    }
    assert_eq!(asked(&cached), 1, "without verifying again");
}

#[test]
fn new_keys_ask_for_a_new_proof() {
    let cached = cached(Gullible::default());
    cached.verify("good-ada", NOW).unwrap();
    cached.inner.generation.fetch_add(1, Ordering::SeqCst);
    cached.verify("good-ada", NOW).unwrap();
    cached.verify("good-ada", NOW).unwrap();
    assert_eq!(asked(&cached), 2);
}

#[test]
fn a_proof_by_keys_that_changed_meanwhile_is_not_used_again() {
    let cached = cached(Gullible { rotates: true, ..Gullible::default() });
    for _ in 0..3 {
        cached.verify("good-ada", NOW).unwrap();
    }
    assert_eq!(asked(&cached), 3);
}

#[test]
fn the_capacity_is_in_bytes() {
    let cached = Cached::new(Gullible::default(), 100_000, Meters::unregistered());
    for at in 0..1000 {
        cached.verify(&format!("good-ada{}{at:03}", "x".repeat(1000)), NOW).unwrap();
    }
    cached.entries.run_pending_tasks();
    assert!((20..=60).contains(&cached.entries.entry_count()), "{}", cached.entries.entry_count());
    assert!(cached.entries.weighted_size() <= 100_000);
}

/// Knows ten people, each with an own time, of whom every third has no key in the current generation.
#[derive(Default)]
struct Fickle {
    generation: AtomicU64,
}

impl TokenVerifier for Fickle {
    fn verify(&self, token: &str, now: UnixSeconds) -> Result<Verified<Principal>, TokenError> {
        let number: i64 = token.get(5..).unwrap().parse().unwrap();
        if (number + self.generation() as i64) % 3 == 0 {
            return Err(fault(TokenFault::UnknownKey, "no such key"));
        }
        let mut verified = Gullible::default().verify("good-ada", now)?;
        verified.window = Window { begins: UnixSeconds(number), ends: UnixSeconds(number * 10) };
        verified.window.check(now)?;
        Ok(verified)
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }
}

proptest! {
    /// Whatever happens in whatever order, remembering changes no answer (invariant I9).
    #[test]
    fn with_and_without_a_cache_the_answers_are_the_same(
        events in prop::collection::vec((0_i64..10, -5_i64..105, prop::bool::weighted(0.1)), 1..200),
    ) {
        let cached = Cached::new(Fickle::default(), 1 << 20, Meters::unregistered());
        for (number, now, rotates) in events {
            if rotates {
                cached.inner.generation.fetch_add(1, Ordering::SeqCst);
            }
            let (token, now) = (format!("good-{number}"), UnixSeconds(now));
            let remembered = cached.verify(&token, now).map(|verified| verified.window);
            let fresh = cached.inner.verify(&token, now).map(|verified| verified.window);
            prop_assert_eq!(remembered, fresh);
        }
    }
}
