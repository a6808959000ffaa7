//! What is written to a store is in force in every sidecar that follows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use portcullis::app::SystemClock;
use portcullis::domain::{Clock, UnixSeconds};
use portcullis::live::Settings;
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};

use crate::company::{Company, on_every_engine, on_postgres};
use crate::sidecar::{SYNC_KEY, Sidecar, eventually};
use crate::support::Running;

#[test]
fn a_grant_and_its_end_are_in_force_a_moment_later() {
    on_every_engine(async |store| {
        let company = Company::found(store, "Acme").await;
        let sidecar = Sidecar::start(store.address);
        sidecar.is_fresh().await;
        let Company { organization, membership, project } = &company;
        let may = async || sidecar.may(organization, membership, "project:edit", project).await;
        assert_eq!(may().await, Some(false));
        for _ in 0..5 {
            let (assignment, seq) = company.let_in(store).await;
            sidecar.reaches(seq).await;
            assert_eq!(may().await, Some(true));
            let seq = company.shut_out(store, &assignment).await;
            sidecar.reaches(seq).await;
            assert_eq!(may().await, Some(false));
        }
        assert_eq!(sidecar.divergence(), 0);
        sidecar.stop().await;
    });
}

#[test]
fn what_changes_in_the_catalog_is_in_force_for_residents_too() {
    on_every_engine(async |store| {
        let company = Company::found(store, "Acme").await;
        company.let_in(store).await;
        let sidecar = Sidecar::start(store.address);
        sidecar.is_fresh().await;
        let Company { organization, membership, project } = &company;
        assert_eq!(sidecar.may(organization, membership, "project:edit", project).await, Some(true));
        let answer = store
            .put("/authorization/roles/project-editor/permissions", json!({"permissions": ["project:view"]}))
            .await;
        let seq = answer.revision();
        answer.is(200);
        sidecar.reaches(seq).await;
        assert_eq!(sidecar.may(organization, membership, "project:edit", project).await, Some(false));
        assert_eq!(sidecar.may(organization, membership, "project:view", project).await, Some(true));
        sidecar.stop().await;
    });
}

#[test]
fn a_revocation_reaches_sidecars_that_do_not_know_the_organization() {
    on_every_engine(async |store| {
        let company = Company::found(store, "Acme").await;
        let sidecar = Sidecar::start(store.address);
        sidecar.is_fresh().await;
        assert_eq!(sidecar.world.revocations().count(), 0);
        let path = format!("/user_management/organization_memberships/{}/deactivate", company.membership);
        let answer = store.put(&path, json!({})).await;
        let seq = answer.revision();
        answer.is(200);
        sidecar.reaches(seq).await;
        assert_eq!(sidecar.world.revocations().count(), 1);
        sidecar.stop().await;
        // Whoever comes later has it too.
        let later = Sidecar::start(store.address);
        later.is_fresh().await;
        assert_eq!(later.world.revocations().count(), 1);
        later.stop().await;
    });
}

#[test]
fn an_organization_that_comes_to_be_can_be_used_at_once() {
    on_every_engine(async |store| {
        let sidecar = Sidecar::start(store.address);
        sidecar.is_fresh().await;
        assert_eq!(sidecar.may("org_later", "om_1", "project:edit", "x").await, Some(false), "there is none yet");
        let company = Company::found(store, "Acme").await;
        let (_, seq) = company.let_in(store).await;
        sidecar.reaches(seq).await;
        let Company { organization, membership, project } = &company;
        assert_eq!(sidecar.may(organization, membership, "project:edit", project).await, Some(true));
        sidecar.stop().await;
    });
}

#[test]
fn with_everything_in_memory_nothing_is_loaded_on_use() {
    on_every_engine(async |store| {
        let companies =
            [Company::found(store, "A").await, Company::found(store, "B").await, Company::found(store, "C").await];
        let sidecar =
            Sidecar::start_with(store.address, crate::sidecar::SYNC_KEY, true, portcullis::live::Settings::default());
        eventually(async || sidecar.world.organizations().len() == companies.len()).await;
        let (_, seq) = companies[1].let_in(store).await;
        sidecar.reaches(seq).await;
        let Company { organization, membership, project } = &companies[1];
        assert_eq!(sidecar.may(organization, membership, "project:edit", project).await, Some(true));
        sidecar.stop().await;
    });
}

#[test]
fn writes_of_another_process_on_the_same_database_arrive_as_well() {
    on_every_engine(async |store| {
        let other = Running::start_with(crate::company::settings(&store.database)).await;
        let company = Company::found(store, "Acme").await;
        let sidecar = Sidecar::start(other.address);
        sidecar.is_fresh().await;
        let Company { organization, membership, project } = &company;
        assert_eq!(sidecar.may(organization, membership, "project:edit", project).await, Some(false));
        let (_, seq) = company.let_in(store).await;
        sidecar.reaches(seq).await;
        assert_eq!(sidecar.may(organization, membership, "project:edit", project).await, Some(true));
        sidecar.stop().await;
        other.stop().await;
    });
}

#[test]
fn facts_stay_fresh_while_nothing_happens() {
    on_every_engine(async |store| {
        let sidecar = Sidecar::start(store.address);
        sidecar.is_fresh().await;
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(sidecar.age().unwrap() < Duration::from_secs(3), "{:?}", sidecar.age());
        }
        sidecar.stop().await;
    });
}

#[test]
fn many_who_write_at_once_end_no_stream() {
    on_every_engine(async |store| {
        let company = Company::found(store, "Acme").await;
        let sidecar = Sidecar::start(store.address);
        sidecar.is_fresh().await;
        let (organization, client) = (&company.organization, &store.client());
        // Rows come to be while the log is looked at. A stream that took them for its own would be ahead of what it was told of the log.
        let groups = (0..400).map(async |number| {
            let name = json!({"name": format!("group {number}")});
            client.post(&format!("/organizations/{organization}/groups"), name).await.is(201);
        });
        let written = futures_util::stream::iter(groups).buffer_unordered(8).collect::<Vec<()>>();
        let proven = async {
            loop {
                // As often as a sidecar that waits for organizations asks, and more often.
                sidecar.world.load(&"org_nobody".parse().unwrap()).await.unwrap();
                sidecar.world.forget(&"org_nobody".parse().unwrap());
            }
        };
        tokio::select! { _ = written => {}, () = proven => {} }
        let answer = client.post("/organizations", json!({"name": "the last"})).await;
        sidecar.reaches(answer.revision()).await;
        let text = sidecar.metrics.render();
        assert!(text.contains("portcullis_facts_rollbacks_total 0\n"), "{text}");
        assert!(text.contains("kind=\"complete\",result=\"applied\"} 1\n"), "begun anew: {text}");
        sidecar.stop().await;
    });
}

/// Within ten seconds the store wants to say what the organization amounts to, and cannot read it.
#[test]
fn a_digest_that_takes_long_holds_up_nothing() {
    on_postgres(async |store| {
        let company = Company::found(store, "Acme").await;
        let sidecar = Sidecar::start(store.address);
        sidecar.is_fresh().await;
        let Company { organization, membership, project } = &company;
        assert_eq!(sidecar.may(organization, membership, "project:edit", project).await, Some(false));
        let mut other = PgConnection::connect(&store.database).await.unwrap();
        other.execute("BEGIN").await.unwrap();
        other.execute("LOCK TABLE assignments IN ACCESS EXCLUSIVE MODE").await.unwrap();
        for number in 0..70 {
            let answer = store.post("/organizations", json!({"name": format!("other {number}")})).await;
            sidecar.reaches(answer.revision()).await;
            assert!(sidecar.age().unwrap() < Duration::from_secs(4), "after {number} of 70");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        other.execute("ROLLBACK").await.unwrap();
        sidecar.stop().await;
    });
}

/// Panics once, when it is told to.
#[derive(Default)]
struct Fragile(AtomicBool);

impl Clock for Fragile {
    fn now(&self) -> UnixSeconds {
        SystemClock.now()
    }

    fn uptime(&self) -> Duration {
        assert!(!self.0.swap(false, Ordering::SeqCst), "for a test");
        SystemClock.uptime()
    }
}

#[test]
fn a_follower_that_panics_starts_over() {
    on_every_engine(async |store| {
        let company = Company::found(store, "Acme").await;
        let clock = Arc::new(Fragile::default());
        let sidecar = Sidecar::start_as(store.address, SYNC_KEY, false, Settings::default(), clock.clone(), None);
        sidecar.is_fresh().await;
        // Nobody else asks it for the time: nothing is loaded or decided meanwhile.
        clock.0.store(true, Ordering::SeqCst);
        eventually(async || !clock.0.load(Ordering::SeqCst)).await;
        let (_, seq) = company.let_in(store).await;
        sidecar.reaches(seq).await;
        sidecar.is_fresh().await;
        let Company { organization, membership, project } = &company;
        assert_eq!(sidecar.may(organization, membership, "project:edit", project).await, Some(true));
        sidecar.stop().await;
    });
}
