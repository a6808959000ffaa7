use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::domain::UnixSeconds;
use crate::live::Settings;
use crate::rules::{Context, RouteTable, compile};
use crate::telemetry::{Build, Metrics};
use crate::wire::{Revocation, RevocationKind};
use crate::yaml;

/// Moved by hand; uptime and time of day are the same number of seconds.
#[derive(Default)]
struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(i64::try_from(self.0.load(Ordering::Relaxed)).unwrap())
    }
    fn uptime(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

fn rules() -> RouteTable {
    let text = "[{id: ignore, match: {path: /i}, authenticated: true, revocations: ignore},
                 {id: best, match: {path: /b}, authenticated: true},
                 {id: require, match: {path: /r}, authenticated: true, revocations: require, max_staleness: 60s},
                 {id: serve, match: {path: /s}, authenticated: true, revocations: require, max_staleness: 60s, on_stale: serve}]";
    let node = yaml::parse("rules", text, None).unwrap();
    let context = Context {
        upstreams: &[],
        issuers: &[],
        facts: true,
        max_staleness: Duration::from_secs(300),
        methods: &[],
        own_headers: &[],
    };
    compile(node.items(), None, &context).unwrap()
}

fn principal() -> Principal {
    Principal {
        issuer: "test".into(),
        user: "user_ada".parse().unwrap(),
        session: Some("session_1".parse().unwrap()),
        organization: None,
        membership: None,
        role: None,
        roles: Box::default(),
        permissions: Box::default(),
        issued_at: Some(UnixSeconds(5)),
        expires_at: UnixSeconds(i64::MAX),
        impersonated: false,
        claims: serde_json::Map::new(),
    }
}

/// What each route says: ignore, best effort, require, and require where stale facts are served.
fn answers(world: &World, clock: &HandClock) -> [Result<(), DenyReason>; 4] {
    let rules = rules();
    ["ignore", "best", "require", "serve"].map(|id| {
        let route = rules.route(id).unwrap();
        check(world, clock, route, &principal(), &mut Trace::default()).map_err(|denial| denial.reason)
    })
}

#[test]
fn each_route_gets_what_it_asks_of_the_list() {
    let clock = Arc::new(HandClock::default());
    let metrics = Arc::new(Metrics::new(Build { version: "", revision: "" }).unwrap());
    let (world, _orders) = World::new(Settings::default(), clock.clone(), metrics, Box::new(|_| {}));
    let stale = Err(DenyReason::FactsStale);
    let revoked = Err(DenyReason::Revoked);
    clock.0.store(10, Ordering::Relaxed);
    assert_eq!(answers(&world, &clock), [Ok(()), Ok(()), stale, stale], "before the first list");
    world.revocations().prove(Duration::from_secs(10));
    assert_eq!(answers(&world, &clock), [Ok(()), Ok(()), stale, stale], "a proof of no list proves nothing");
    world.revocations().replace([]);
    assert_eq!(answers(&world, &clock), [Ok(()); 4]);
    clock.0.store(70, Ordering::Relaxed);
    assert_eq!(answers(&world, &clock), [Ok(()); 4], "exactly as old as the route allows");
    clock.0.store(71, Ordering::Relaxed);
    assert_eq!(answers(&world, &clock), [Ok(()), Ok(()), stale, stale]);
    world.prove(Duration::from_secs(71));
    assert_eq!(answers(&world, &clock), [Ok(()), Ok(()), stale, stale], "the facts are another matter");
    world.revocations().follow_world();
    world.prove(Duration::from_secs(71));
    assert_eq!(answers(&world, &clock), [Ok(()); 4]);
    let entry = Revocation {
        kind: RevocationKind::Session,
        id: "session_1".into(),
        not_before: UnixSeconds(5),
        expires: UnixSeconds(500),
        holder: None,
    };
    world.revocations().add([entry]);
    assert_eq!(answers(&world, &clock), [Ok(()), revoked, revoked, revoked]);
    clock.0.store(200, Ordering::Relaxed);
    assert_eq!(
        answers(&world, &clock),
        [Ok(()), revoked, revoked, revoked],
        "what is known is refused, however old the list"
    );
}

#[test]
fn a_permit_by_a_required_list_holds_until_that_is_too_old() {
    let clock = Arc::new(HandClock::default());
    let metrics = Arc::new(Metrics::new(Build { version: "", revision: "" }).unwrap());
    let (world, _orders) = World::new(Settings::default(), clock.clone(), metrics, Box::new(|_| {}));
    world.revocations().replace([]);
    world.revocations().prove(Duration::from_secs(10));
    clock.0.store(30, Ordering::Relaxed);
    let (rules, mut trace) = (rules(), Trace::default());
    check(&world, &*clock, rules.route("require").unwrap(), &principal(), &mut trace).unwrap();
    assert_eq!(trace.holds_until(), Some(Duration::from_secs(70)));
}
