//! Organizations on their way into memory while they change.

use std::sync::Arc;
use std::time::Duration;

use portcullis::live::Settings;
use tokio::task::JoinSet;

use crate::company::{Company, on_every_engine};
use crate::line::{Line, Mode};
use crate::sidecar::{SYNC_KEY, Sidecar};

/// Changes that go on while organizations are loaded and leave again: whatever is in memory in the end is what the store has.
#[test]
fn organizations_that_change_while_they_are_loaded_miss_nothing() {
    on_every_engine(async |store| {
        let mut companies = Vec::new();
        for number in 0..6 {
            companies.push(Company::found(store, &format!("c{number}")).await);
        }
        let line = Line::to(store.address).await;
        line.set(Mode::Slow(Duration::from_millis(3)));
        // Room for about two of them: the others have to leave and come back again and again.
        let settings = Settings { max_memory: 24 * 1024, load_wait: Duration::from_secs(2), ..Settings::default() };
        let sidecar = Arc::new(Sidecar::start_with(line.address, SYNC_KEY, false, settings));
        sidecar.is_fresh().await;
        let mut last = 0;
        let mut readers = JoinSet::new();
        for reader in 0..3 {
            let sidecar = Arc::clone(&sidecar);
            let names: Vec<_> = companies
                .iter()
                .map(|company| (company.organization.clone(), company.membership.clone(), company.project.clone()))
                .collect();
            readers.spawn(async move {
                for turn in 0..200 {
                    let (organization, membership, project) = &names[(turn * 7 + reader) % names.len()];
                    let _ = sidecar.may(organization, membership, "project:edit", project).await;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            });
        }
        for turn in 0..8 {
            for company in &companies {
                let (assignment, seq) = company.let_in(store).await;
                last = seq;
                if turn < 7 {
                    last = company.shut_out(store, &assignment).await;
                }
            }
        }
        readers.join_all().await;
        sidecar.reaches(last).await;
        for company in &companies {
            let Company { organization, membership, project } = company;
            let mut may = None;
            while may.is_none() {
                // There may be no room for a moment.
                may = sidecar.may(organization, membership, "project:edit", project).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(may, Some(true), "{organization}");
        }
        assert_eq!(sidecar.divergence(), 0);
    });
}

#[test]
fn an_organization_that_is_refused_by_nobody_is_read_once() {
    on_every_engine(async |store| {
        let company = Company::found(store, "Acme").await;
        let sidecar = Arc::new(Sidecar::start(store.address));
        sidecar.is_fresh().await;
        let mut asking = JoinSet::new();
        for _ in 0..50 {
            let sidecar = Arc::clone(&sidecar);
            let (organization, membership) = (company.organization.clone(), company.membership.clone());
            asking.spawn(async move { sidecar.may(&organization, &membership, "project:edit", "x").await });
        }
        assert_eq!(asking.join_all().await, vec![Some(false); 50]);
        let text = sidecar.metrics.render();
        assert!(text.contains("portcullis_facts_updates_total{kind=\"organization\",result=\"applied\"} 1"), "{text}");
    });
}
