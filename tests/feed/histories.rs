//! Histories that end, split or go back: a sidecar starts over, or keeps what it has, and never follows two histories at once.

use std::path::Path;
use std::time::Duration;

use portcullis::store::{SyncKey, SyncKeys, sha256};
use sqlx::{AssertSqlSafe, Connection, Row};

use crate::company::{Company, on_every_engine, settings};
use crate::line::{Line, Mode};
use crate::sidecar::{SYNC_KEY, Sidecar, eventually};
use crate::support::{Running, on_sqlite_with};

#[test]
fn a_new_epoch_makes_every_sidecar_start_over() {
    on_every_engine(async |store| {
        let company = Company::found(store, "Acme").await;
        company.let_in(store).await;
        let sidecar = Sidecar::start(store.address);
        sidecar.is_fresh().await;
        let Company { organization, membership, project } = &company;
        assert_eq!(sidecar.may(organization, membership, "project:edit", project).await, Some(true));
        let before = sidecar.world.revision().unwrap().epoch;
        store.store.new_epoch().await.unwrap();
        sidecar.until(|revision| revision.is_some_and(|revision| revision.epoch != before)).await;
        assert_eq!(sidecar.may(organization, membership, "project:edit", project).await, Some(true));
        sidecar.is_fresh().await;
        sidecar.stop().await;
    });
}

/// Copies the files of a database that nobody writes to now; where the copy is.
fn backup(database: &str, folder: &Path) -> String {
    let path = database.strip_prefix("sqlite://").unwrap();
    for suffix in ["", "-wal"] {
        std::fs::copy(format!("{path}{suffix}"), folder.join(format!("backup.db{suffix}"))).unwrap();
    }
    format!("sqlite://{}", folder.join("backup.db").display())
}

#[test]
fn a_store_that_was_restored_is_not_followed_backwards() {
    on_sqlite_with(settings, async |store| {
        store.usual_model("multiple").await;
        let company = Company::found(store, "Acme").await;
        let Company { organization, membership, project } = &company;
        let (assignment, _) = company.let_in(store).await;
        let line = Line::to(store.address).await;
        let sidecar = Sidecar::start(line.address);
        sidecar.is_fresh().await;
        let may = async || sidecar.may(organization, membership, "project:edit", project).await;
        assert_eq!(may().await, Some(true));
        let folder = tempfile::tempdir().unwrap();
        let copy = backup(&store.database, folder.path());
        let seq = company.shut_out(store, &assignment).await;
        sidecar.reaches(seq).await;
        assert_eq!(may().await, Some(false));
        // The copy has the grant still, and nobody ran `new-epoch`.
        let restored = Running::start_with(settings(&copy)).await;
        line.lead_to(restored.address);
        line.break_off().await;
        eventually(async || sidecar.metrics.facts_rollbacks.get() > 0).await;
        assert_eq!(may().await, Some(false), "what was taken away does not come back");
        eventually(async || sidecar.age().unwrap() > Duration::from_secs(3)).await;
        assert_eq!(may().await, Some(false));
        // Now somebody says that this is how it is meant to be.
        restored.store.new_epoch().await.unwrap();
        sidecar.until(|revision| revision.is_some_and(|revision| revision.seq < seq)).await;
        assert_eq!(may().await, Some(true));
        sidecar.is_fresh().await;
        sidecar.stop().await;
        restored.stop().await;
    });
}

/// The same number, and another content: only the chain tells.
#[test]
fn a_history_that_split_is_told_by_its_chain() {
    on_sqlite_with(settings, async |store| {
        store.usual_model("multiple").await;
        let company = Company::found(store, "Acme").await;
        let Company { organization, membership, project } = &company;
        let line = Line::to(store.address).await;
        let sidecar = Sidecar::start(line.address);
        sidecar.is_fresh().await;
        let may = async || sidecar.may(organization, membership, "project:edit", project).await;
        let folder = tempfile::tempdir().unwrap();
        let copy = backup(&store.database, folder.path());
        let (_, seq) = company.let_in(store).await;
        sidecar.reaches(seq).await;
        assert_eq!(may().await, Some(true));
        // A replica was promoted that had not seen the last write, and numbered others in its place.
        let promoted = Running::start_with(settings(&copy)).await;
        let mut other = 0;
        while other < seq + 3 {
            let name = format!("other {other}");
            other = promoted.post("/organizations", serde_json::json!({"name": name})).await.revision();
        }
        line.lead_to(promoted.address);
        line.break_off().await;
        sidecar.reaches(other).await;
        assert_eq!(may().await, Some(false), "the grant is not part of this history");
        sidecar.is_fresh().await;
        sidecar.stop().await;
        promoted.stop().await;
    });
}

#[test]
fn a_sidecar_that_was_away_for_longer_than_the_log_starts_over() {
    on_every_engine(async |store| {
        let company = Company::found(store, "Acme").await;
        let line = Line::to(store.address).await;
        let sidecar = Sidecar::start(line.address);
        sidecar.is_fresh().await;
        let Company { organization, membership, project } = &company;
        assert_eq!(sidecar.may(organization, membership, "project:edit", project).await, Some(false));
        line.set(Mode::Cut);
        let mut last = 0;
        for _ in 0..20 {
            let (assignment, _) = company.let_in(store).await;
            last = company.shut_out(store, &assignment).await;
        }
        let (_, granted) = company.let_in(store).await;
        assert!(granted > last);
        store.store.tidy().await.unwrap();
        line.set(Mode::Open);
        sidecar.reaches(granted).await;
        assert_eq!(sidecar.may(organization, membership, "project:edit", project).await, Some(true));
        sidecar.stop().await;
    });
}

/// Puts what is in the database `copy` in the place of what is in `database`, while a store runs on it.
async fn replace(database: &str, copy: &str) {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(database).await.unwrap();
    let path = copy.strip_prefix("sqlite://").unwrap();
    sqlx::query("PRAGMA foreign_keys = OFF").execute(&mut connection).await.unwrap();
    sqlx::query(AssertSqlSafe(format!("ATTACH '{path}' AS copy"))).execute(&mut connection).await.unwrap();
    let tables = "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let tables = sqlx::query(tables).fetch_all(&mut connection).await.unwrap();
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
    for table in tables {
        let table: String = table.get(0);
        let text = format!("DELETE FROM main.{table}; INSERT INTO main.{table} SELECT * FROM copy.{table}");
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

/// As after a failover to a replica that had not seen the last write and has numbered others since: the store goes on running, its streams
/// stay open, and the numbers go on. Only the chain tells.
#[test]
fn a_history_that_split_under_a_running_store_is_noticed() {
    on_sqlite_with(settings, async |store| {
        store.usual_model("multiple").await;
        let company = Company::found(store, "Acme").await;
        let Company { organization, membership, project } = &company;
        let sidecar = Sidecar::start(store.address);
        sidecar.is_fresh().await;
        let may = async || sidecar.may(organization, membership, "project:edit", project).await;
        assert_eq!(may().await, Some(false));
        let folder = tempfile::tempdir().unwrap();
        let copy = backup(&store.database, folder.path());
        let (_, seq) = company.let_in(store).await;
        sidecar.reaches(seq).await;
        assert_eq!(may().await, Some(true));
        assert!(store.may(membership, "project:edit", project).await);
        let promoted = Running::start_with(settings(&copy)).await;
        let mut other = 0;
        while other < seq + 3 {
            let name = format!("other {other}");
            other = promoted.post("/organizations", serde_json::json!({"name": name})).await.revision();
        }
        promoted.stop().await;
        replace(&store.database, &copy).await;
        assert!(!store.may(membership, "project:edit", project).await, "a check is answered from the history there is");
        sidecar.reaches(other).await;
        assert_eq!(may().await, Some(false), "the grant is not part of this history");
        sidecar.is_fresh().await;
        sidecar.stop().await;
    });
}

/// What a key may no longer read is gone from the sidecar as well, although the stream goes on where it stood.
#[test]
fn a_key_that_was_narrowed_takes_its_organizations_along() {
    on_every_engine(async |store| {
        let (kept, lost) = (Company::found(store, "Kept").await, Company::found(store, "Lost").await);
        let line = Line::to(store.address).await;
        for everything in [false, true] {
            line.lead_to(store.address);
            let sidecar = Sidecar::start_with(line.address, SYNC_KEY, everything, Default::default());
            sidecar.is_fresh().await;
            let may = async |company: &Company| {
                sidecar.may(&company.organization, &company.membership, "project:edit", &company.project).await
            };
            let grants = [kept.let_in(store).await, lost.let_in(store).await];
            sidecar.reaches(grants[1].1).await;
            assert_eq!((may(&kept).await, may(&lost).await), (Some(true), Some(true)));
            let mut settings = settings(&store.database);
            let only = [kept.organization.parse().unwrap()].into();
            settings.sync_keys = SyncKeys::new(vec![SyncKey::hashed("narrow", sha256(SYNC_KEY), Some(only))]);
            let narrowed = Running::start_with(settings).await;
            line.lead_to(narrowed.address);
            line.break_off().await;
            eventually(async || may(&lost).await == Some(false)).await;
            assert_eq!(may(&kept).await, Some(true));
            assert_eq!(sidecar.divergence(), 0);
            sidecar.stop().await;
            narrowed.stop().await;
            kept.shut_out(store, &grants[0].0).await;
            lost.shut_out(store, &grants[1].0).await;
        }
    });
}
