use std::sync::atomic::AtomicI64;

use super::*;

/// Moved by hand.
struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(self.0.load(Ordering::Relaxed))
    }
    fn uptime(&self) -> Duration {
        Duration::ZERO
    }
}

fn nothing_revoked() -> (Revocations, Arc<HandClock>, watch::Receiver<()>) {
    let clock = Arc::new(HandClock(AtomicI64::new(100)));
    let changed = watch::Sender::new(());
    let heard = changed.subscribe();
    (Revocations::new(clock.clone(), changed), clock, heard)
}

fn entry(kind: RevocationKind, id: &str, not_before: i64, expires: i64) -> Revocation {
    Revocation { kind, id: id.into(), not_before: UnixSeconds(not_before), expires: UnixSeconds(expires), holder: None }
}

/// Ada of Acme, with a token issued at this second.
fn ada(issued_at: Option<i64>) -> Principal {
    Principal {
        issuer: "test".into(),
        user: "user_ada".parse().unwrap(),
        session: Some("session_1".parse().unwrap()),
        organization: Some("org_acme".parse().unwrap()),
        membership: Some("om_ada".parse().unwrap()),
        role: None,
        roles: Box::default(),
        permissions: Box::default(),
        issued_at: issued_at.map(UnixSeconds),
        expires_at: UnixSeconds(i64::MAX),
        impersonated: false,
        claims: serde_json::Map::new(),
    }
}

const NOW: UnixSeconds = UnixSeconds(100);

#[test]
fn each_kind_refuses_the_tokens_that_name_it_and_were_issued_until_then() {
    use RevocationKind::{Membership, Organization, Session, User};
    for (kind, id) in [(Session, "session_1"), (Membership, "om_ada"), (User, "user_ada"), (Organization, "org_acme")] {
        let (revocations, ..) = nothing_revoked();
        assert_eq!(revocations.find(&ada(Some(1)), NOW), None);
        revocations.add([entry(kind, id, 50, 200)]);
        for (issued_at, expected) in
            [(Some(49), Some(kind)), (Some(50), Some(kind)), (Some(51), None), (None, Some(kind))]
        {
            assert_eq!(revocations.find(&ada(issued_at), NOW), expected, "{kind:?} {issued_at:?}");
        }
        // The same id of another kind is somebody else.
        for other in RevocationKind::ALL.into_iter().filter(|other| *other != kind) {
            let (revocations, ..) = nothing_revoked();
            revocations.add([entry(other, id, 50, 200)]);
            assert_eq!(revocations.find(&ada(Some(1)), NOW), None, "{other:?} {id}");
        }
    }
}

#[test]
fn what_has_expired_is_forgotten() {
    let (revocations, clock, _) = nothing_revoked();
    revocations
        .add([entry(RevocationKind::User, "user_ada", 50, 100), entry(RevocationKind::User, "user_ada", 40, 101)]);
    assert_eq!(revocations.count(), 1);
    assert!(revocations.find(&ada(Some(40)), NOW).is_some());
    assert_eq!(revocations.find(&ada(Some(41)), NOW), None);
    assert_eq!(revocations.find(&ada(Some(40)), UnixSeconds(101)), None);
    clock.0.store(101, Ordering::Relaxed);
    revocations.replace([entry(RevocationKind::User, "user_ada", 50, 101)]);
    assert_eq!(revocations.count(), 0);
}

#[test]
fn adding_never_weakens_and_replacing_does() {
    let (revocations, _, heard) = nothing_revoked();
    revocations.add([entry(RevocationKind::Session, "session_1", 50, 200)]);
    revocations.add([entry(RevocationKind::Session, "session_1", 20, 300)]);
    assert!(revocations.find(&ada(Some(50)), UnixSeconds(250)).is_some());
    assert!(heard.has_changed().unwrap());
    revocations.replace([]);
    assert_eq!(revocations.find(&ada(Some(1)), NOW), None);
}

#[test]
fn nothing_is_lost_when_recent_entries_are_folded_into_the_rest() {
    let (revocations, clock, _) = nothing_revoked();
    revocations.add([entry(RevocationKind::User, "user_ada", 60, 5000)]);
    revocations.add([entry(RevocationKind::User, "user_gone", 60, 101)]);
    clock.0.store(101, Ordering::Relaxed);
    for round in 0..4 {
        revocations
            .add((0..700).map(|number| entry(RevocationKind::Session, &format!("session_{round}_{number}"), 50, 5000)));
    }
    assert_eq!(revocations.count(), 4 * 700 + 1);
    assert_eq!(revocations.find(&ada(Some(60)), NOW), Some(RevocationKind::User));
    // In the large list now; a later word of it stands in the small one.
    revocations.add([entry(RevocationKind::User, "user_ada", 10, 5000)]);
    assert!(revocations.find(&ada(Some(60)), NOW).is_some());
    assert_eq!(revocations.find(&ada(Some(61)), NOW), None);
}

#[test]
fn only_a_complete_list_has_an_age() {
    let age = |revocations: &Revocations| revocations.freshness(Duration::from_secs(10)).age;
    let (revocations, ..) = nothing_revoked();
    revocations.prove(Duration::from_secs(1));
    revocations.add([entry(RevocationKind::User, "user_ada", 50, 200)]);
    assert_eq!(age(&revocations), None);
    revocations.replace([]);
    assert_eq!(age(&revocations), Some(Duration::from_secs(9)));
    revocations.world_proven(Moment::at(Duration::from_secs(4)));
    assert_eq!(age(&revocations), Some(Duration::from_secs(9)), "another source proves nothing here");
    revocations.follow_world();
    revocations.world_proven(Moment::at(Duration::from_secs(4)));
    assert_eq!(age(&revocations), Some(Duration::from_secs(6)));
}

#[test]
fn a_membership_that_a_token_does_not_name_is_found_by_whose_it_was() {
    let of = |user: &str, organization: &str, not_before, expires| Revocation {
        holder: Some(Holder { user: user.into(), organization: organization.into() }),
        ..entry(RevocationKind::Membership, &format!("om_of_{user}"), not_before, expires)
    };
    let unnamed = |issued_at| Principal { membership: None, ..ada(issued_at) };
    let (revocations, clock, _) = nothing_revoked();
    revocations.add([of("user_bob", "org_acme", 50, 200), of("user_ada", "org_bolt", 50, 200)]);
    revocations.add([entry(RevocationKind::Membership, "om_of_user_ada", 50, 200)]);
    assert_eq!(revocations.find(&unnamed(Some(1)), NOW), None, "of others, elsewhere, or nobody's");
    revocations.add([of("user_ada", "org_acme", 50, 200)]);
    // As it is, written down and read back, and folded.
    let list = revocations.entries();
    for round in ["added", "replaced", "folded"] {
        assert_eq!(revocations.find(&unnamed(Some(50)), NOW), Some(RevocationKind::Membership), "{round}");
        assert_eq!(revocations.find(&unnamed(Some(51)), NOW), None, "{round}: who came back");
        assert_eq!(revocations.find(&ada(Some(50)), NOW), None, "{round}: a token that names another one");
        let nowhere = Principal { organization: None, ..unnamed(Some(50)) };
        assert_eq!(revocations.find(&nowhere, NOW), None, "{round}");
        match round {
            "added" => revocations.replace(list.clone()),
            _ => {
                revocations.add((0..=MOST_RECENT).map(|at| entry(RevocationKind::User, &format!("user_{at}"), 1, 500)))
            }
        }
    }
    // The same membership once more: whatever either refuses is refused.
    revocations.add([entry(RevocationKind::Membership, "om_of_user_ada", 60, 300)]);
    revocations.add([of("user_ada", "org_acme", 40, 150)]);
    assert_eq!(revocations.find(&unnamed(Some(60)), UnixSeconds(299)), Some(RevocationKind::Membership));
    assert_eq!(revocations.find(&unnamed(Some(60)), UnixSeconds(300)), None);
    clock.0.store(350, Ordering::Relaxed);
    revocations.add((0..=MOST_RECENT).map(|at| entry(RevocationKind::Session, &format!("session_{at}_"), 1, 500)));
    assert_eq!(revocations.lists.load().settled.holders.len(), 0, "forgotten");
}
