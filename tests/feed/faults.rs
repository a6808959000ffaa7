//! A line that fails: facts stay what they were and grow older, nothing is lost, and it heals by itself.

use std::time::Duration;

use crate::company::{Company, on_every_engine};
use crate::line::{Line, Mode};
use crate::sidecar::{Sidecar, eventually};

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
