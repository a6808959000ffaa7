//! Door 3: the bundled store. The WorkOS authorization API on SQLite or PostgreSQL, and the facts for every sidecar.
//!
//! ```text
//! request -> door (key, limits) -> one noun per file (endpoints + SQL)
//!                                    | write: writer -> transaction -> rows + log + events + audit -> commit
//!                                    | check: facts (shards built from the rows, advanced from the log) -> domain
//! ```

mod access;
mod api;
mod attributes;
mod database;
mod door;
mod error;
mod extract;
mod facts;
mod feed;
mod fields;
mod idempotency;
mod keys;
mod log;
mod openapi;
mod page;
mod revocations;
mod rows;
mod server;
mod status;
mod template;
mod time;
mod transaction;
mod verify;
mod writer;

mod assignments;
mod audit;
mod checks;
mod effective;
mod events;
mod group_assignments;
mod groups;
mod identity_provider;
mod issuer;
mod memberships;
mod model;
mod organizations;
mod permissions;
mod resources;
mod roles;
mod sessions;
mod users;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Any, Connection};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

pub use database::{DatabaseError, Engine};
pub use error::{ErrorBody, FieldError, StoreError};
pub use facts::View;
pub use feed::{SyncKey, SyncKeys};
pub use issuer::Signing;
pub use keys::{ApiKey, ApiKeys, Author, Scope, sha256};
pub use server::Server;
pub use time::Millis;
pub use transaction::{Reply, Transaction, Write};
pub use verify::Verification;
pub use writer::Committed;

use self::database::Database;
use self::facts::FactsCache;
use self::feed::Tail;
use self::status::Tidy;
use self::transaction::Ids;
use self::writer::{Job, MOST_WAITING, Writer};
use crate::domain::id::Epoch;
use crate::domain::{Clock, OrganizationId, Revision};
use crate::telemetry::StoreMetrics;

/// Bytes that a body may have.
const BODY_LIMIT: usize = 1024 * 1024;

/// So much longer than a request a transaction may take, whose last write came in right before it began.
const AFTER_THE_LAST: Duration = Duration::from_secs(5);

/// How the store is run.
#[derive(Clone)]
pub struct Settings {
    /// `sqlite://PATH` or `postgres://USER@HOST/NAME`
    pub database: String,
    /// Connections that read.
    pub readers: u32,
    /// Bytes of organizations that are kept in memory for checks.
    pub max_memory: u64,
    /// Who may call.
    pub api_keys: ApiKeys,
    /// Which sidecars may read the feed.
    pub sync_keys: SyncKeys,
    /// The longest that a request may take.
    pub request_timeout: Duration,
    /// For so long the log is kept; a sidecar that was away for longer starts over.
    pub log_age: Duration,
    /// So many transactions of it at most.
    pub log_length: u64,
    /// How many levels of resources there may be below the root: 5 unless set, at most 64 (our decision D7).
    pub max_depth: usize,
    /// How many resources of one type an organization may have: 5,000 unless set (WorkOS contract R48).
    pub max_resources_of_type: u32,
    /// For tests: a new database whose foreign keys refuse where they would otherwise cascade, so that a row which was forgotten is noticed.
    #[doc(hidden)]
    pub strict_foreign_keys: bool,
    /// Who signs tokens; `None` = nobody.
    pub issuer: Option<Arc<Signing>>,
    /// What is counted.
    pub metrics: Arc<StoreMetrics>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The database may be named with a password.
        let mut shown = f.debug_struct("Settings");
        shown.field("api_keys", &self.api_keys).field("sync_keys", &self.sync_keys).finish_non_exhaustive()
    }
}

impl Settings {
    /// The usual settings for this database, and no key that anybody could use.
    pub fn of(database: &str, metrics: Arc<StoreMetrics>) -> Self {
        Self {
            database: database.to_owned(),
            readers: 4,
            max_memory: 512 * 1024 * 1024,
            api_keys: ApiKeys::default(),
            sync_keys: SyncKeys::default(),
            log_age: Duration::from_secs(7 * 24 * 60 * 60),
            log_length: 1_000_000,
            request_timeout: Duration::from_secs(30),
            max_depth: 5,
            max_resources_of_type: 5000,
            strict_foreign_keys: false,
            issuer: None,
            metrics,
        }
    }
}

/// A running store. Cheap to clone; every handler has one.
#[derive(Clone)]
pub struct Store(Arc<Parts>);

struct Parts {
    settings: Settings,
    database: Database,
    clock: Arc<dyn Clock>,
    jobs: mpsc::Sender<Job>,
    facts: FactsCache,
    tail: Arc<Tail>,
    /// Turns true when streams have to end.
    stopping: watch::Sender<bool>,
    /// Turns of those who read whole organizations.
    lookups: Semaphore,
    /// The turn of the stream that reads an organization for its digest.
    digesting: Semaphore,
}

impl Store {
    /// Opens the database and starts its writer, which ends with the last clone of the store.
    ///
    /// # Errors
    /// [`DatabaseError`]
    pub async fn open(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, DatabaseError> {
        let database = Database::open(&settings.database, settings.readers, settings.strict_foreign_keys).await?;
        let (jobs, waiting) = mpsc::channel(MOST_WAITING);
        let tail = Arc::new(Tail::default());
        let writer = Writer {
            database: database.clone(),
            clock: Arc::clone(&clock),
            jobs: waiting,
            ids: Ids::default(),
            metrics: Arc::clone(&settings.metrics),
            tail: Arc::clone(&tail),
            patience: settings.request_timeout.saturating_add(AFTER_THE_LAST),
            kept: None,
        };
        // Ends when the store is dropped, and with it the sender.
        #[expect(clippy::disallowed_methods, reason = "owned by the channel: it ends when the last sender is dropped")]
        tokio::spawn(writer.run());
        let facts = FactsCache::new(database.clone(), settings.max_memory);
        let (stopping, lookups) = (watch::Sender::new(false), Semaphore::new(feed::MOST_LOOKUPS));
        let digesting = Semaphore::new(1);
        let store =
            Self(Arc::new(Parts { settings, database, clock, jobs, facts, tail, stopping, lookups, digesting }));
        store.write(Author::store(), model::Seed).await.map_err(|error| match error {
            StoreError::Database(error) => DatabaseError::Open(error),
            other => DatabaseError::Open(sqlx::Error::Protocol(other.to_string())),
        })?;
        Ok(store)
    }

    /// Writes, and waits until it is on the disk.
    ///
    /// # Errors
    /// [`StoreError`], and nothing was written.
    pub async fn write(&self, author: Author, write: impl Write) -> Result<Committed, StoreError> {
        let (answer, committed) = oneshot::channel();
        let job = Job { write: Arc::new(write), author, answer };
        self.0.jobs.try_send(job).map_err(|_| StoreError::Busy)?;
        committed.await.map_err(|_| StoreError::Busy)?
    }

    /// A connection to read with.
    async fn read(&self) -> Result<PoolConnection<Any>, StoreError> {
        Ok(self.0.database.read().await?)
    }

    /// The facts of one organization, with everything that was committed before the call.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such organization.
    pub async fn view(&self, organization: &OrganizationId) -> Result<View, StoreError> {
        let view = self.0.facts.view(organization).await?;
        view.ok_or_else(|| StoreError::not_found("organization", organization))
    }

    /// The time.
    fn now(&self) -> Millis {
        Millis(i64::try_from(self.0.clock.unix_millis()).unwrap_or(i64::MAX))
    }

    /// Asks the API from inside, with every right, without a listener: for commands on this machine.
    ///
    /// # Errors
    /// [`StoreError`] when there is no answer; an answer that refuses is an answer.
    pub async fn ask(
        &self,
        method: http::Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<(http::StatusCode, serde_json::Value), StoreError> {
        door::ask(self, method, path, body).await
    }

    /// Begins a new epoch: whoever follows the log starts over. To be done after a database was restored from a backup.
    ///
    /// # Errors
    /// [`StoreError`], and the epoch is the old one.
    pub async fn new_epoch(&self) -> Result<Revision, StoreError> {
        let mut connection = self.0.database.writer().await?;
        connection.close_on_drop();
        let mut transaction = connection.begin_with(self.0.database.engine().begin_write()).await?;
        let head = log::lock(&mut transaction, self.0.database.engine()).await?;
        let mut head = head.ok_or_else(|| StoreError::not_found("log", "of this database"))?;
        head.epoch = Epoch(rand::random());
        log::set_head(&mut transaction, &head).await?;
        transaction.commit().await?;
        Ok(head.revision())
    }

    /// Forgets what is too old to matter, in rounds, so that nobody waits long for them.
    ///
    /// # Errors
    /// [`StoreError`], and some of it is still there.
    pub async fn tidy(&self) -> Result<(), StoreError> {
        let Settings { log_age, log_length, .. } = self.0.settings;
        loop {
            let round = self.write(Author::store(), Tidy { log_age, log_length }).await?;
            if round.reply.body == Some(0.into()) {
                return Ok(());
            }
        }
    }

    /// Lets go of the database.
    pub async fn close(&self) {
        self.0.database.close().await;
    }
}
