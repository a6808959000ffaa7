//! What no store ever says, or should: a sidecar starts over, reads anew, or passes over it, and is never led astray.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use portcullis::live::Settings;
use serde_json::json;

use crate::script::{Script, changed, let_in, shut_out};
use crate::sidecar::{SYNC_KEY, Sidecar, eventually};

/// Runs a test on a scripted store, and a sidecar that follows it and has the organization in memory.
pub fn on_stage(test: impl AsyncFn(&Script, &Sidecar)) {
    off_stage(async |script, sidecar| {
        assert_eq!(may(sidecar).await, Some(true));
        assert_eq!(script.counts(), (1, 1, 1));
        test(script, sidecar).await;
    });
}

/// The same, with nothing in memory.
pub fn off_stage(test: impl AsyncFn(&Script, &Sidecar)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let script = Script::start().await;
        let sidecar = Sidecar::start(script.address);
        sidecar.is_fresh().await;
        eventually(async || script.scene().nonces > 0).await;
        test(&script, &sidecar).await;
        sidecar.stop().await;
    });
}

async fn may(sidecar: &Sidecar) -> Option<bool> {
    sidecar.may("org_1", "om_1", "a:b", "root_1").await
}

/// Waits until everything that was said before has been taken in.
async fn is_heard(script: &Script, sidecar: &Sidecar) {
    let before = script.scene().nonces;
    eventually(async || script.scene().nonces > before + 1).await;
    sidecar.is_fresh().await;
}

/// The catalog was read again, and with it the organization.
async fn starts_over(script: &Script, sidecar: &Sidecar) {
    eventually(async || matches!(script.counts(), (2, _, 2))).await;
    assert_eq!(may(sidecar).await, Some(false));
    assert_eq!(script.scene().reads, 2);
}

/// More roles than an index can tell apart, counted from the beginning of the process: read anew, there are fewer.
#[test]
fn a_change_that_cannot_be_taken_in_is_not_asked_for_again() {
    on_stage(async |script, sidecar| {
        let role = |at: usize| {
            let (id, slug) = (format!("role_{at}"), format!("r{at}"));
            json!({"id": id, "slug": slug, "resource_type": "organization", "priority": at, "permissions": []})
        };
        script.scene().seq = 14;
        script.scene().organizations = vec![(1, 14, false)];
        // Not all at once, which takes long enough to be taken for silence.
        for seq in 6..=14 {
            let first = usize::try_from(seq - 6).unwrap() * 4_000;
            let changes: Vec<_> = (first..first + 4_000).map(|at| json!({"put": {"role": role(at)}})).collect();
            script.frame(1, seq - 1, seq, &[(seq, json!({"catalog": {"changes": changes}}))]);
        }
        eventually(async || script.counts().0 == 2).await;
        eventually(async || may(sidecar).await == Some(false)).await;
        is_heard(script, sidecar).await;
        assert_eq!(script.counts().0, 2, "and goes on from there");
    });
}

/// A long catch-up: echoes come behind everything.
#[test]
fn a_stream_that_moves_on_is_not_silent_and_one_that_says_the_same_is() {
    on_stage(async |script, sidecar| {
        script.scene().echo_beyond = None;
        for seq in 6..=14 {
            script.scene().seq = seq;
            script.frame(1, seq - 1, seq, &[]);
            tokio::time::sleep(Duration::from_millis(900)).await;
        }
        sidecar.reaches(14).await;
        assert_eq!(script.counts().2, 1, "it went on for 8 s");
        assert!(sidecar.age().unwrap() > Duration::from_secs(6), "and proved nothing");
        for _ in 0..10 {
            script.frame(1, 13, 14, &[]);
            tokio::time::sleep(Duration::from_millis(900)).await;
        }
        assert!(script.counts().2 > 1, "that was nothing new");
    });
}

#[test]
fn organizations_that_cannot_be_listed_are_listed_later() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let script = Script::start().await;
        script.scene().unlisted = 1;
        let sidecar = Sidecar::start_with(script.address, SYNC_KEY, true, Settings::default());
        eventually(async || sidecar.world.is_resident(&"org_1".parse().unwrap())).await;
        assert_eq!(script.counts(), (1, 1, 1));
        assert_eq!(script.scene().lists, 2);
        sidecar.stop().await;
    });
}

/// Requests order what they do not see; by the time that they do, it may have come.
#[test]
fn what_is_in_memory_is_followed_although_it_is_ordered_again_and_cannot_be_read() {
    on_stage(async |script, sidecar| {
        script.scene().refusal = Some(StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(sidecar.world.load(&"org_1".parse().unwrap()).await, Ok(()));
        is_heard(script, sidecar).await;
        let scene = script.scene();
        assert_eq!((scene.reads, scene.left), (1, 0));
        drop(scene);
    });
}

#[test]
fn what_is_said_twice_counts_once() {
    on_stage(async |script, sidecar| {
        script.frame(1, 5, 6, &[(6, shut_out())]);
        script.frame(1, 6, 7, &[(7, let_in())]);
        script.frame(1, 7, 8, &[(8, shut_out())]);
        // The second once more, and then a run that begins earlier and goes on.
        script.frame(1, 6, 7, &[(7, let_in())]);
        script.frame(1, 6, 9, &[(7, let_in()), (9, changed(&json!({"delete": "settings"})))]);
        script.scene().seq = 9;
        sidecar.reaches(9).await;
        is_heard(script, sidecar).await;
        assert_eq!(may(sidecar).await, Some(false));
        assert_eq!(script.counts(), (1, 1, 1), "nothing was interrupted");
    });
}

#[test]
fn a_gap_is_not_jumped() {
    on_stage(async |script, sidecar| {
        script.scene().seq = 9;
        script.scene().organizations = vec![(1, 9, false)];
        script.frame(1, 8, 9, &[(9, let_in())]);
        starts_over(script, sidecar).await;
    });
}

#[test]
fn frames_in_the_wrong_order_are_a_gap() {
    on_stage(async |script, sidecar| {
        script.scene().seq = 7;
        script.scene().organizations = vec![(1, 7, false)];
        script.frame(1, 6, 7, &[(7, shut_out())]);
        script.frame(1, 5, 6, &[(6, let_in())]);
        starts_over(script, sidecar).await;
    });
}

#[test]
fn another_history_is_not_mixed_in() {
    on_stage(async |script, sidecar| {
        script.scene().epoch = 2;
        script.scene().organizations = vec![(2, 5, false)];
        script.frame(2, 5, 6, &[(6, let_in())]);
        starts_over(script, sidecar).await;
        assert_eq!(sidecar.world.revision().unwrap().epoch.0, 2);
    });
}

#[test]
fn a_stream_that_ends_in_the_middle_is_begun_anew() {
    on_stage(async |script, sidecar| {
        script.scene().organizations = vec![(1, 5, false)];
        script.say(&json!({"resync": {"reason": "too_old"}}));
        starts_over(script, sidecar).await;
    });
}

#[test]
fn an_organization_is_read_anew_after_a_word_that_is_not_known() {
    on_stage(async |script, sidecar| {
        script.scene().organizations = vec![(1, 6, false)];
        script.scene().seq = 6;
        script.frame(1, 5, 6, &[(6, changed(&json!({"paint": {"member": "om_1"}})))]);
        sidecar.reaches(6).await;
        eventually(async || may(sidecar).await == Some(false)).await;
        assert_eq!(script.counts(), (1, 2, 1));
    });
}

#[test]
fn everything_is_read_anew_after_a_word_on_the_catalog_that_is_not_known() {
    on_stage(async |script, sidecar| {
        script.scene().organizations = vec![(1, 6, false)];
        script.scene().seq = 6;
        script.frame(1, 5, 6, &[(6, json!({"catalog": {"changes": [{"paint": "role_r"}]}}))]);
        starts_over(script, sidecar).await;
    });
}

#[test]
fn an_echo_of_more_than_was_sent_proves_nothing() {
    on_stage(async |script, sidecar| {
        script.scene().echo_beyond = Some(1);
        grows_older(script, sidecar).await;
        script.scene().echo_beyond = Some(0);
        sidecar.is_fresh().await;
    });
}

#[test]
fn an_echo_of_what_was_not_asked_proves_nothing() {
    on_stage(async |script, sidecar| {
        script.scene().nonce_beyond = 1000;
        grows_older(script, sidecar).await;
        script.scene().nonce_beyond = 0;
        sidecar.is_fresh().await;
    });
}

/// Nonces come and go, and nothing is proven.
async fn grows_older(script: &Script, sidecar: &Sidecar) {
    let before = script.scene().nonces;
    eventually(async || script.scene().nonces >= before + 4).await;
    assert!(sidecar.age().unwrap() > Duration::from_secs(2), "{:?}", sidecar.age());
}

#[test]
fn facts_that_went_astray_are_counted_and_read_anew() {
    on_stage(async |script, sidecar| {
        script.scene().organizations = vec![(1, 5, false)];
        let ours = sidecar.world.digest(&"org_1".parse().unwrap()).unwrap().to_string();
        let digest = |digest: &str| json!({"digest": {"organization": "org_1", "seq": 5, "digest": digest}});
        script.say(&digest(&ours));
        is_heard(script, sidecar).await;
        assert_eq!((sidecar.divergence(), may(sidecar).await), (0, Some(true)));
        script.say(&digest(&"0".repeat(32)));
        eventually(async || may(sidecar).await == Some(false)).await;
        assert_eq!((sidecar.divergence(), script.scene().reads), (1, 2));
    });
}

#[test]
fn an_organization_of_another_history_is_not_let_in() {
    off_stage(async |script, sidecar| {
        script.scene().organizations = vec![(2, 5, true), (1, 5, false)];
        assert_eq!(may(sidecar).await, None);
        assert_eq!(may(sidecar).await, Some(false));
    });
}

#[test]
fn an_organization_that_was_read_before_its_changes_are_heard_of_is_read_again() {
    off_stage(async |script, sidecar| {
        script.frame(1, 5, 8, &[]);
        sidecar.reaches(8).await;
        // What happened at 7 was said to nobody.
        script.scene().seq = 8;
        script.scene().organizations = vec![(1, 6, true), (1, 8, false)];
        assert_eq!(may(sidecar).await, Some(false));
        assert_eq!(script.scene().reads, 2);
    });
}

#[test]
fn a_stream_that_floods_drowns_nothing_else() {
    on_stage(async |script, sidecar| {
        let (before, begin, mut last) = (script.scene().nonces, Instant::now(), 5);
        // For three seconds, and on a slow machine for as long as two more nonces take.
        let asked = || script.scene().nonces - before;
        while begin.elapsed() < Duration::from_secs(3) || asked() < 2 && begin.elapsed() < Duration::from_secs(30) {
            // There is always something to be taken in, and never more than a moment's worth.
            if sidecar.world.revision().unwrap().seq + 1000 < last {
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
            for _ in 0..100 {
                let part = if last % 2 == 0 { let_in() } else { shut_out() };
                script.frame(1, last, last + 1, &[(last + 1, part)]);
                last += 1;
            }
            script.scene().seq = last;
        }
        assert!(asked() > 1, "it goes on asking");
        sidecar.reaches(last).await;
        sidecar.is_fresh().await;
        assert_eq!(may(sidecar).await, Some(last % 2 == 1));
        assert_eq!(script.counts(), (1, 1, 1));
    });
}
