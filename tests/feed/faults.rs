//! A line that fails: facts stay what they were and grow older, nothing is lost, and it heals by itself.

use std::time::Duration;

use portcullis::store::{SyncKey, SyncKeys, sha256};
use serde_json::json;

use crate::company::{Company, on_every_engine, settings};
use crate::line::{Line, Mode};
use crate::sidecar::{Sidecar, eventually};
use crate::support::postgres::Cluster;
use crate::support::{Running, skipped};

#[test]
fn facts_grow_older_while_the_line_is_cut_and_catch_up_afterwards() {
    on_every_engine(async |store| {
        let company = Company::found(store, "Acme").await;
        let line = Line::to(store.address).await;
        let sidecar = Sidecar::start(line.address);
        sidecar.is_fresh().await;
        let Company { organization, membership, project } = &company;
        let may = async || sidecar.may(organization, membership, "project:edit", project).await;
        let (assignment, seq) = company.let_in(store).await;
        sidecar.reaches(seq).await;
        assert_eq!(may().await, Some(true));
        line.set(Mode::Cut);
        let seq = company.shut_out(store, &assignment).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(may().await, Some(true), "the last good facts");
        assert!(sidecar.age().unwrap() > Duration::from_secs(2), "{:?}", sidecar.age());
        line.set(Mode::Open);
        sidecar.reaches(seq).await;
        assert_eq!(may().await, Some(false));
        sidecar.is_fresh().await;
        assert_eq!(sidecar.divergence(), 0);
        sidecar.stop().await;
    });
}

#[test]
fn a_line_that_only_stays_silent_proves_nothing() {
    on_every_engine(async |store| {
        let company = Company::found(store, "Acme").await;
        let line = Line::to(store.address).await;
        let sidecar = Sidecar::start(line.address);
        sidecar.is_fresh().await;
        line.set(Mode::Silent);
        eventually(async || sidecar.age().unwrap() > Duration::from_secs(4)).await;
        let (_, seq) = company.let_in(store).await;
        assert!(sidecar.world.revision().unwrap().seq < seq);
        line.set(Mode::Open);
        sidecar.reaches(seq).await;
        sidecar.is_fresh().await;
        sidecar.stop().await;
    });
}

#[test]
fn bytes_that_were_cut_off_or_changed_are_never_applied_by_halves() {
    on_every_engine(async |store| {
        let company = Company::found(store, "Acme").await;
        let Company { organization, membership, project } = &company;
        for mode in [Mode::CutAfter(700), Mode::CutAfter(4000), Mode::Corrupt, Mode::Slow(Duration::from_millis(30))] {
            let line = Line::to(store.address).await;
            let sidecar = Sidecar::start(line.address);
            sidecar.is_fresh().await;
            line.set(mode);
            let mut granted = None;
            for _ in 0..10 {
                let (assignment, _) = company.let_in(store).await;
                granted = Some(company.shut_out(store, &assignment).await);
                // Whatever is in force was so at some time: only somebody who was let in may.
                let _ = sidecar.may(organization, membership, "project:edit", project).await;
            }
            line.set(Mode::Open);
            sidecar.reaches(granted.unwrap()).await;
            // A line that has just come back may need another try, and never gives another answer.
            eventually(async || match sidecar.may(organization, membership, "project:edit", project).await {
                Some(may) => {
                    assert!(!may, "{mode:?}");
                    true
                }
                None => false,
            })
            .await;
            assert_eq!(sidecar.divergence(), 0);
            sidecar.stop().await;
        }
    });
}

#[test]
fn without_a_store_there_are_no_facts() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let sidecar = Sidecar::start(nowhere);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(sidecar.world.revision(), None);
        assert_eq!(sidecar.may("org_1", "om_1", "project:edit", "p").await, None);
        assert_eq!(sidecar.age(), None);
        sidecar.stop().await;
    });
}

/// Fault row 73: the store answers, and cannot know whether what it has is the newest.
#[test]
fn a_store_that_is_cut_off_from_its_database_proves_nothing() {
    let Some(cluster) = Cluster::start() else {
        return skipped("PostgreSQL is not installed");
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Running::start_with(settings(&cluster.database())).await;
        store.usual_model("multiple").await;
        let company = Company::found(&store, "Acme").await;
        let sidecar = Sidecar::start(store.address);
        sidecar.is_fresh().await;
        cluster.halt();
        eventually(async || sidecar.age().unwrap() > Duration::from_secs(7)).await;
        cluster.run_again();
        sidecar.is_fresh().await;
        let answer = loop {
            // The store finds its database again by itself.
            let (_, name) = (tokio::time::sleep(Duration::from_millis(100)).await, json!({"name": "Later"}));
            let answer = store.post("/organizations", name).await;
            if answer.status == 201 {
                break answer;
            }
        };
        sidecar.reaches(answer.revision()).await;
        let Company { organization, membership, project } = &company;
        assert_eq!(sidecar.may(organization, membership, "project:edit", project).await, Some(false));
        sidecar.stop().await;
        store.stop().await;
    });
    cluster.halt();
}

/// The line holds everything up for a while: what proves freshness says when it was asked for, not when it came.
#[test]
fn what_comes_late_is_as_old_as_it_is() {
    on_every_engine(async |store| {
        let company = Company::found(store, "Acme").await;
        let line = Line::to(store.address).await;
        let sidecar = Sidecar::start(line.address);
        sidecar.is_fresh().await;
        let delay = Duration::from_millis(1200);
        line.set(Mode::Slow(delay));
        tokio::time::sleep(delay).await;
        let mut last = 0;
        for _ in 0..10 {
            let (assignment, _) = company.let_in(store).await;
            last = company.shut_out(store, &assignment).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(sidecar.age().unwrap() >= delay, "{:?}", sidecar.age());
        }
        line.set(Mode::Open);
        sidecar.reaches(last).await;
        eventually(async || sidecar.age().unwrap() < delay).await;
        sidecar.stop().await;
    });
}

/// One of two sidecars takes nothing off its line any more: the other hears of everything at once, and so does the first when it comes back.
#[test]
fn who_stops_reading_holds_up_nobody_else() {
    on_every_engine(async |store| {
        let company = Company::found(store, "Acme").await;
        let Company { organization, membership, project } = &company;
        let line = Line::to(store.address).await;
        let (stuck, other) = (Sidecar::start(line.address), Sidecar::start(store.address));
        for sidecar in [&stuck, &other] {
            sidecar.is_fresh().await;
            assert_eq!(sidecar.may(organization, membership, "project:edit", project).await, Some(false));
        }
        line.set(Mode::Silent);
        let mut last = 0;
        for _ in 0..100 {
            let (assignment, seq) = company.let_in(store).await;
            other.reaches(seq).await;
            last = company.shut_out(store, &assignment).await;
        }
        other.reaches(last).await;
        assert!(other.age().unwrap() < Duration::from_secs(5), "{:?}", other.age());
        assert!(stuck.world.revision().unwrap().seq < last);
        line.set(Mode::Open);
        stuck.reaches(last).await;
        assert_eq!(stuck.may(organization, membership, "project:edit", project).await, Some(false));
        assert_eq!((stuck.divergence(), other.divergence()), (0, 0));
        assert_eq!(other.interruptions("silent"), 0);
        stuck.stop().await;
        other.stop().await;
    });
}

#[test]
fn a_sync_key_that_was_taken_away_does_not_empty_the_world() {
    on_every_engine(async |store| {
        let company = Company::found(store, "Acme").await;
        let Company { organization, membership, project } = &company;
        let line = Line::to(store.address).await;
        let sidecar = Sidecar::start(line.address);
        sidecar.is_fresh().await;
        let may = async || sidecar.may(organization, membership, "project:edit", project).await;
        let (_, seq) = company.let_in(store).await;
        sidecar.reaches(seq).await;
        assert_eq!(may().await, Some(true));
        let mut others = settings(&store.database);
        others.sync_keys = SyncKeys::new(vec![SyncKey::hashed("another", sha256("sync_another"), None)]);
        let without = Running::start_with(others).await;
        line.lead_to(without.address);
        line.break_off().await;
        eventually(async || sidecar.interruptions("unauthorized") > 1).await;
        assert_eq!(may().await, Some(true), "the last good facts");
        let newcomer = Sidecar::start(without.address);
        eventually(async || newcomer.interruptions("unauthorized") > 1).await;
        assert_eq!(newcomer.world.revision(), None);
        line.lead_to(store.address);
        line.break_off().await;
        sidecar.is_fresh().await;
        newcomer.stop().await;
        sidecar.stop().await;
        without.stop().await;
    });
}
