//! Another process holds the lock.

use std::time::Duration;

use portcullis::store::Settings;
use serde_json::json;
use sqlx::{Connection, Executor};

use super::{World, log_equals_rows, recovers, refuses_every_write, revision};
use crate::support::{Running, on_every_engine, on_sqlite, settings};

/// Somebody else on the database of a store.
enum Other {
    Sqlite(sqlx::SqliteConnection),
    Postgres(sqlx::PgConnection),
}

impl Other {
    async fn holding_the_lock(database: &str) -> Self {
        if database.starts_with("sqlite") {
            let mut connection = sqlx::SqliteConnection::connect(database).await.unwrap();
            connection.execute("BEGIN IMMEDIATE").await.unwrap();
            return Self::Sqlite(connection);
        }
        let mut connection = sqlx::PgConnection::connect(database).await.unwrap();
        connection.execute("BEGIN").await.unwrap();
        connection.execute("SELECT * FROM head FOR UPDATE").await.unwrap();
        Self::Postgres(connection)
    }

    async fn let_go(self) {
        match self {
            Self::Sqlite(mut connection) => drop(connection.execute("ROLLBACK").await.unwrap()),
            Self::Postgres(mut connection) => drop(connection.execute("ROLLBACK").await.unwrap()),
        }
    }
}

#[test]
fn writes_are_refused_while_another_process_holds_the_lock() {
    on_every_engine(async |store| {
        let world = World::new(store).await;
        let revision = revision(store).await;
        let before = world.seen(store).await;
        let other = Other::holding_the_lock(&store.database).await;
        refuses_every_write(store, &world).await;
        // Whoever reads notices nothing.
        assert_eq!(world.seen(store).await, before);
        assert!(!store.may(&world.member, "project:edit", &world.project).await);
        other.let_go().await;
        recovers(store, &world, &before, revision).await;
        log_equals_rows(store).await;
    });
}

#[test]
fn what_was_answered_with_a_timeout_is_not_written_later() {
    on_sqlite(async |store| {
        let impatient = Settings { request_timeout: Duration::from_secs(1), ..settings(&store.database) };
        let impatient = Running::start_with(impatient).await;
        let other = Other::holding_the_lock(&store.database).await;
        for name in ["One", "Two"] {
            impatient.post("/organizations", json!({"name": name})).await.is_error(503, "timeout");
        }
        other.let_go().await;
        // Waits for its turn behind the others, if they are still waiting.
        assert_eq!(store.get("/organizations").await.listed("/name"), [""; 0]);
        impatient.organization("Three").await;
        assert_eq!(store.get("/organizations").await.listed("/name"), ["Three"]);
        impatient.stop().await;
    });
}
