//! The two engines behind one pool: what differs between SQLite and PostgreSQL, and nothing else, is in the two modules below.
//!
//! Statements are written once, for both: `$1` placeholders, `TEXT` and `BIGINT` columns, row values, `ON CONFLICT`.

mod ids;
mod postgres;
mod sqlite;

use std::borrow::Cow;
use std::sync::Once;
use std::time::Duration;

use super::rows::Column;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe, Connection, SqlSafeStr};
use tokio::time::timeout;

/// The longest that a request waits for a connection.
const CONNECTION_WAIT: Duration = Duration::from_secs(5);
/// Connections that read whole organizations, so that nothing short has to wait behind them.
pub(super) const WHOLE_READERS: u32 = 4;

/// Time to say that a connection is still there.
const PING: Duration = Duration::from_secs(2);

/// A statement that writes.
pub(super) type Statement<'q> = sqlx::query::Query<'q, Any, sqlx::any::AnyArguments>;

/// Which engine, and how it wants to be spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A file on this machine.
    Sqlite,
    /// A server that several stores may share.
    Postgres,
}

/// Connections to the database.
#[derive(Debug, Clone)]
pub(super) struct Database {
    engine: Engine,
    /// For the one writer, which keeps its connection, and for what is done now and then.
    writing: AnyPool,
    reading: AnyPool,
    /// For what takes long: whole organizations.
    whole: AnyPool,
    /// For those who keep a connection of their own.
    options: AnyConnectOptions,
    /// Where SQLite keeps it.
    file: Option<sqlite::File>,
}

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Neither of the two engines.
    #[error("database `{0}` is not `sqlite://PATH` or `postgres://HOST/NAME`")]
    Url(String),
    /// The file cannot be made.
    #[error("database `{path}` cannot be made")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be opened, or speaks another schema.
    #[error("the database cannot be opened")]
    Open(#[source] sqlx::Error),
    /// Its tables cannot be brought up to date.
    #[error("the tables of the database cannot be brought up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
}

impl Engine {
    fn of(url: &str) -> Result<Self, DatabaseError> {
        match url.split_once(':') {
            Some(("sqlite", _)) => Ok(Self::Sqlite),
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres),
            // Without what may be a password.
            _ => Err(DatabaseError::Url(url.split('@').next_back().unwrap_or_default().to_owned())),
        }
    }

    /// The engine at the other end of a connection.
    pub(super) fn behind(connection: &AnyConnection) -> Self {
        match connection.backend_name() {
            "SQLite" => Self::Sqlite,
            _ => Self::Postgres,
        }
    }

    /// What begins a transaction that writes.
    pub(super) fn begin_write(self) -> &'static str {
        match self {
            Self::Sqlite => sqlite::BEGIN_WRITE,
            Self::Postgres => postgres::BEGIN_WRITE,
        }
    }

    /// What begins a transaction that reads everything as of one moment.
    fn begin_snapshot(self) -> &'static str {
        match self {
            Self::Sqlite => sqlite::BEGIN_SNAPSHOT,
            Self::Postgres => postgres::BEGIN_SNAPSHOT,
        }
    }

    /// Reads the end of the log and keeps every other writer out until the transaction ends.
    pub(super) fn lock_head(self) -> &'static str {
        match self {
            Self::Sqlite => sqlite::LOCK_HEAD,
            Self::Postgres => postgres::LOCK_HEAD,
        }
    }

    /// The elements of the JSON array `$place` of texts, as rows with one column.
    pub(super) fn texts_of(self, place: usize) -> String {
        match self {
            Self::Sqlite => format!("SELECT value FROM json_each(${place})"),
            Self::Postgres => format!("SELECT jsonb_array_elements_text(${place}::jsonb) COLLATE \"C\""),
        }
    }

    /// The elements of the JSON array `$1`, each an array with an element for each of `columns`, as rows.
    pub(super) fn elements(self, columns: &[Column]) -> String {
        let values: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(place, &column)| match self {
                Self::Sqlite => sqlite::element(place),
                Self::Postgres => postgres::element(place, column),
            })
            .collect();
        let array = match self {
            Self::Sqlite => sqlite::ARRAY,
            Self::Postgres => postgres::ARRAY,
        };
        format!("SELECT {} FROM {array}", values.join(", "))
    }

    /// What a connection is told before it is used.
    fn greeting(self) -> &'static [&'static str] {
        match self {
            Self::Sqlite => &sqlite::GREETING,
            Self::Postgres => &postgres::GREETING,
        }
    }

    /// The steps to the tables as they are now; `strict`: with foreign keys that refuse to cascade. `NO ACTION` and not `RESTRICT`: one
    /// statement may delete a whole tree.
    fn migrations(self, strict: bool) -> Vec<Migration> {
        let steps = [
            (1, "start", include_str!("migrations/0001_start.sql")),
            (2, "revoked holders", include_str!("migrations/0002_revoked_holders.sql")),
        ];
        let migration = |(version, name, text): (i64, &'static str, &'static str)| {
            let text = Cow::Borrowed(text);
            let text = if strict { Cow::Owned(text.replace("ON DELETE CASCADE", "ON DELETE NO ACTION")) } else { text };
            let text = match self {
                Self::Sqlite => text,
                Self::Postgres => Cow::Owned(postgres::schema(&text)),
            };
            let statements = AssertSqlSafe(text.into_owned()).into_sql_str();
            Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, statements, false)
        };
        steps.into_iter().map(migration).collect()
    }
}

impl Database {
    /// Opens the database, which is created when it is missing (SQLite), and brings its tables up to date.
    pub(super) async fn open(url: &str, readers: u32, strict: bool) -> Result<Self, DatabaseError> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let engine = Engine::of(url)?;
        let (url, file) = match engine {
            Engine::Sqlite => {
                let (url, file) = sqlite::prepare(url)?;
                (url, Some(file))
            }
            Engine::Postgres => (url.to_owned(), None),
        };
        let options: AnyConnectOptions = url.parse().map_err(DatabaseError::Open)?;
        if engine == Engine::Sqlite {
            // A pool would try for a while, and not say what is wrong with the file.
            let mut first = AnyConnection::connect_with(&options).await.map_err(DatabaseError::Open)?;
            greet(&mut first, engine).await.map_err(DatabaseError::Open)?;
            first.close().await.map_err(DatabaseError::Open)?;
        }
        let pool = |connections| {
            AnyPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(CONNECTION_WAIT)
                .after_connect(move |connection, _| Box::pin(greet(connection, engine)))
                .after_release(move |connection, _| Box::pin(can_be_kept(connection, engine)))
        };
        let writing = pool(1).connect_with(options.clone()).await.map_err(DatabaseError::Open)?;
        let migrator = Migrator { migrations: Cow::Owned(engine.migrations(strict)), ..Migrator::DEFAULT };
        migrator.run(&writing).await.map_err(DatabaseError::Migrate)?;
        let reading = pool(readers).connect_lazy_with(options.clone());
        let whole = pool(WHOLE_READERS).connect_lazy_with(options.clone());
        Ok(Self { engine, writing, reading, whole, options, file })
    }

    /// Which engine it is.
    pub(super) fn engine(&self) -> Engine {
        self.engine
    }

    /// A connection to read with, each statement by itself.
    pub(super) async fn read(&self) -> Result<PoolConnection<Any>, sqlx::Error> {
        self.require_in_place()?;
        self.reading.acquire().await
    }

    /// A transaction in which everything is read as of one moment.
    pub(super) async fn snapshot(&self) -> Result<sqlx::Transaction<'static, Any>, sqlx::Error> {
        self.require_in_place()?;
        self.reading.begin_with(self.engine.begin_snapshot()).await
    }

    /// The same for what takes long.
    pub(super) async fn long_snapshot(&self) -> Result<sqlx::Transaction<'static, Any>, sqlx::Error> {
        self.require_in_place()?;
        self.whole.begin_with(self.engine.begin_snapshot()).await
    }

    /// A connection of one's own: the pool would ask the database before and after each use whether it is still there.
    pub(super) async fn connect(&self) -> Result<AnyConnection, sqlx::Error> {
        self.require_in_place()?;
        let connected = async {
            let mut connection = AnyConnection::connect_with(&self.options).await?;
            greet(&mut connection, self.engine).await?;
            Ok(connection)
        };
        timeout(CONNECTION_WAIT, connected).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// A connection to write with.
    ///
    /// # Errors
    /// The database cannot be written to now.
    pub(super) async fn writer(&self) -> Result<PoolConnection<Any>, sqlx::Error> {
        self.require_in_place()?;
        self.writing.acquire().await
    }

    /// # Errors
    /// What was opened is no longer what others would open.
    pub(super) fn require_in_place(&self) -> Result<(), sqlx::Error> {
        match &self.file {
            Some(file) => Ok(file.require_in_place()?),
            None => Ok(()),
        }
    }

    /// Lets go of everything.
    pub(super) async fn close(&self) {
        for pool in [&self.reading, &self.whole, &self.writing] {
            // One that is still waiting for a database that is silent would be waited for.
            let _ = timeout(CONNECTION_WAIT, pool.close()).await;
        }
    }
}

/// Asks whether the database still answers on this connection; an error means that it does not.
pub(super) async fn is_there(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let answered = tokio::time::timeout(PING, connection.ping()).await;
    answered.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
}

/// Whether a connection that was used can be used again. The pool would wait without end for one whose question was never answered, and
/// have one less for as long.
async fn can_be_kept(connection: &mut AnyConnection, engine: Engine) -> Result<bool, sqlx::Error> {
    if engine == Engine::Postgres {
        is_there(connection).await?;
    }
    Ok(true)
}

async fn greet(connection: &mut AnyConnection, engine: Engine) -> Result<(), sqlx::Error> {
    for statement in engine.greeting() {
        sqlx::query(*statement).execute(&mut *connection).await?;
    }
    Ok(())
}
