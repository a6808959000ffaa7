//! The one writer of this process: takes what waits, writes it as one database transaction, and acknowledges it when it is on the disk.
//!
//! Every write keeps its own number in the log; they share the trip to the disk (group commit). A write that fails after it has changed
//! something takes the transaction with it, and the others are tried again one by one. When the database cannot be used, all that wait are
//! told so at once. A commit that failed is never tried again: the database may have kept it. A
//! transaction that takes longer than anybody waits is given up, and its connection with it.
//!
//! ```text
//! write ─┐
//! write ─┼─> queue ─> begin · lock head · apply, apply, apply · log, events, audit · head · commit ─> answers
//! write ─┘
//! ```

use std::io::ErrorKind;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use futures_util::FutureExt;
use serde_json::Value;
use sqlx::{AnyConnection, Connection};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::database::{Database, is_there};
use super::error::StoreError;
use super::feed::Tail;
use super::idempotency;
use super::keys::Author;
use super::log::{self, Head, LogRow};
use super::rows::Column::{Number, Text};
use super::rows::insert_all;
use super::time::Millis;
use super::transaction::{Audit, Draft, Event, Ids, Reply, Transaction, Write};
use crate::domain::id::Epoch;
use crate::domain::{Clock, OrganizationId, Revision};
use crate::telemetry::StoreMetrics;

/// Writes that share one trip to the disk at most.
const MOST_AT_ONCE: usize = 128;
/// Writes that wait at most; more are refused.
pub(super) const MOST_WAITING: usize = 4096;
/// How often a write that another process was in the way of is tried before it is given up.
const TRIES: u32 = 3;
/// A connection that rested for longer is asked whether it is still there before it is used.
const REST: Duration = Duration::from_secs(1);
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// A write that was acknowledged.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    /// What it answers.
    pub reply: Reply,
    /// The log includes it from here on.
    pub revision: Revision,
}

/// A write that waits.
pub(super) struct Job {
    pub(super) write: Arc<dyn Write>,
    pub(super) author: Author,
    pub(super) answer: oneshot::Sender<Result<Committed, StoreError>>,
}

/// The writer and what it needs.
pub(super) struct Writer {
    pub(super) database: Database,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) ids: Ids,
    pub(super) metrics: Arc<StoreMetrics>,
    pub(super) tail: Arc<Tail>,
    /// The longest that a transaction may take: after it nobody waits any more, and a database that is silent is never heard of again.
    pub(super) patience: Duration,
    /// The connection of the last transaction, and when that ended.
    pub(super) kept: Option<(AnyConnection, Duration)>,
}

/// Why a transaction came to nothing.
enum Failure {
    /// It could not begin, or not be committed: no write is to blame, and trying again would not help or could write twice.
    Database(StoreError),
    /// In the middle, and perhaps because of one of the writes. Nothing was written.
    Write(StoreError),
    /// Somebody whose write is in it has left before the commit. Nothing was written.
    GivenUp,
}

/// What goes into the database beside the rows of the writes.
#[derive(Default)]
struct Ledger {
    log: Vec<LogRow>,
    events: Vec<(u64, i64, Event)>,
    audit: Vec<(Revision, i64, Arc<str>, Audit)>,
}

impl Writer {
    /// Writes until nobody is left who could ask.
    pub(super) async fn run(mut self) {
        let mut batch = Vec::with_capacity(MOST_AT_ONCE);
        while self.jobs.recv_many(&mut batch, MOST_AT_ONCE).await > 0 {
            // Whoever gave up waiting gets nothing written.
            batch.retain(|job| !job.answer.is_closed());
            // A panic is a fault of ours; whoever it hits is told that the store is overloaded, and the others have their turn.
            if AssertUnwindSafe(self.write(&mut batch)).catch_unwind().await.is_err() {
                tracing::error!("a write panicked; nothing of it was written");
                batch.clear();
            }
        }
    }

    async fn write(&mut self, batch: &mut Vec<Job>) {
        let mut jobs = std::mem::take(batch);
        let attempted = loop {
            match self.attempt(&jobs).await {
                Err(Failure::GivenUp) => jobs.retain(|job| !job.answer.is_closed()),
                attempted => break attempted,
            }
        };
        match attempted {
            Ok(results) => answer(jobs, results),
            Err(Failure::Database(error)) => refuse(jobs, &error),
            Err(Failure::Write(error)) if jobs.len() == 1 && !error.is_database() => answer(jobs, vec![Err(error)]),
            Err(Failure::Write(_) | Failure::GivenUp) => self.apart(jobs).await,
        }
    }

    /// One of them spoilt it for all: each by itself.
    async fn apart(&mut self, jobs: Vec<Job>) {
        let mut jobs = jobs.into_iter();
        while let Some(job) = jobs.next() {
            let result = match self.persist(&job).await {
                Ok(committed) => Ok(committed),
                Err(Failure::Write(error)) => Err(error),
                Err(Failure::GivenUp) => continue,
                Err(Failure::Database(error)) => return refuse(std::iter::once(job).chain(jobs), &error),
            };
            // An error means that the one who asked has gone.
            let _ = job.answer.send(result);
        }
    }

    /// One write, tried again while others are in its way.
    async fn persist(&mut self, job: &Job) -> Result<Committed, Failure> {
        let mut tries = 1;
        loop {
            match self.attempt(std::slice::from_ref(job)).await {
                Ok(mut results) => {
                    return results.pop().unwrap_or(Err(StoreError::Busy)).map_err(Failure::Write);
                }
                Err(Failure::Write(error)) if is_passing(&error) && tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(BETWEEN_TRIES).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// All of `jobs` in one transaction.
    ///
    /// # Errors
    /// What went wrong, and nothing was written, unless it was the commit.
    async fn attempt(&mut self, jobs: &[Job]) -> Result<Vec<Result<Committed, StoreError>>, Failure> {
        let results = self.connect_and_transact(jobs).await;
        if results.is_err() {
            self.metrics.rolled_back();
        }
        results
    }

    async fn connect_and_transact(&mut self, jobs: &[Job]) -> Result<Vec<Result<Committed, StoreError>>, Failure> {
        let mut connection = self.connection().await.map_err(Failure::database)?;
        let patience = self.patience;
        let results = timeout(patience, self.transact(&mut connection, jobs)).await;
        let results = results.unwrap_or_else(|_| Err(Failure::database(sqlx::Error::Io(ErrorKind::TimedOut.into()))));
        // Not after a failure: SQLite may have ended the transaction by itself, and PostgreSQL may have said when it began that nothing may be
        // written.
        if !matches!(&results, Err(Failure::Database(_) | Failure::Write(StoreError::Database(_)))) {
            self.kept = Some((connection, self.clock.uptime()));
        }
        results
    }

    /// The connection that writes. It is kept, because the pool would ask the database before and after each transaction whether it is still
    /// there; so it is asked only after a rest.
    async fn connection(&mut self) -> Result<AnyConnection, sqlx::Error> {
        self.database.require_in_place()?;
        if let Some((mut kept, since)) = self.kept.take()
            && (self.clock.uptime().saturating_sub(since) < REST || is_there(&mut kept).await.is_ok())
        {
            return Ok(kept);
        }
        Ok(self.database.writer().await?.detach())
    }

    async fn transact(
        &mut self,
        connection: &mut AnyConnection,
        jobs: &[Job],
    ) -> Result<Vec<Result<Committed, StoreError>>, Failure> {
        let (engine, began) = (self.database.engine(), self.clock.uptime());
        let mut transaction = connection.begin_with(engine.begin_write()).await.map_err(Failure::database)?;
        let connection: &mut AnyConnection = &mut transaction;
        let mut head = match log::lock(connection, engine).await.map_err(Failure::Database)? {
            Some(head) => head,
            None => Head::first(Epoch(rand::random())),
        };
        let before = head.seq;
        let now = Millis(i64::try_from(self.clock.unix_millis()).unwrap_or(i64::MAX));
        let mut ledger = Ledger::default();
        let mut results = Vec::with_capacity(jobs.len());
        for job in jobs {
            // Whoever gave up while the database was waited for gets nothing written either.
            if job.answer.is_closed() {
                results.push(Err(StoreError::TimedOut));
                continue;
            }
            let tx = Transaction::new(connection, engine, now, &mut self.ids);
            results.push(one(tx, job, &mut head, &mut ledger).await.map_err(Failure::Write)?);
        }
        ledger.write(connection, now, &mut self.ids).await.map_err(Failure::Write)?;
        if head.seq > before {
            log::set_head(connection, &head).await.map_err(Failure::Write)?;
        }
        // Whoever gave up meanwhile gets nothing written: the others are tried again without it. Only the commit itself cannot be taken back.
        if jobs.iter().zip(&results).any(|(job, result)| result.is_ok() && job.answer.is_closed()) {
            return Err(Failure::GivenUp);
        }
        transaction.commit().await.map_err(Failure::database)?;
        if head.seq > before {
            self.metrics.committed(head.seq - before, self.clock.uptime().saturating_sub(began));
            self.tail.committed();
        }
        Ok(results)
    }
}

impl Failure {
    fn database(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// Applies one write and numbers it. `Ok(Err(_))`: it is refused and has changed nothing.
async fn one(
    mut tx: Transaction<'_>,
    job: &Job,
    head: &mut Head,
    ledger: &mut Ledger,
) -> Result<Result<Committed, StoreError>, StoreError> {
    tx.numbered(head.seq + 1);
    let now = tx.now();
    if let Some(repeated) = &job.author.repeatable {
        match idempotency::recall(tx.connection, &job.author.name, repeated, head.epoch, now).await {
            Ok(Some(committed)) => return Ok(Ok(committed)),
            Ok(None) => {}
            Err(error) if error.is_database() => return Err(error),
            Err(refused) => return Ok(Err(refused)),
        }
    }
    let outcome = job.write.apply(&mut tx).await;
    let (connection, draft) = tx.into_parts();
    let reply = match outcome {
        Ok(reply) => reply,
        Err(error) if draft.wrote || error.is_database() => return Err(error),
        Err(refused) => return Ok(Err(refused)),
    };
    ledger.note(draft, now, &job.author.name, head)?;
    let committed = Committed { reply, revision: head.revision() };
    if let Some(repeated) = &job.author.repeatable {
        idempotency::remember(connection, &job.author.name, repeated, &committed, now).await?;
    }
    Ok(Ok(committed))
}

impl Ledger {
    /// Gives the transaction its number, unless it changed nothing.
    fn note(&mut self, mut draft: Draft, now: Millis, author: &Arc<str>, head: &mut Head) -> Result<(), StoreError> {
        if draft.is_empty() {
            return Ok(());
        }
        self.log.push(head.append(now, &draft.parts())?);
        self.events.extend(draft.events.into_iter().zip(0..).map(|(event, place)| (head.seq, place, event)));
        let audit = draft.audit.into_iter().zip(0..);
        self.audit.extend(audit.map(|(entry, place)| (head.revision(), place, Arc::clone(author), entry)));
        Ok(())
    }

    async fn write(self, connection: &mut AnyConnection, now: Millis, ids: &mut Ids) -> Result<(), StoreError> {
        let log =
            self.log.into_iter().map(|row| [row.seq.into(), row.time.0.into(), row.parts.into(), row.chain.into()]);
        let columns = "changes (seq, time, parts, chain)";
        insert_all(connection, columns, [Number, Number, Text, Text], &log.collect::<Vec<_>>()).await?;
        let events = self.events.into_iter().map(|(seq, place, Event { event, organization, data })| {
            let (id, data) = (ids.next("event_", now), data.to_string());
            [id.into(), seq.into(), place.into(), event.into(), text(organization), data.into(), now.0.into()]
        });
        let columns = "events (id, seq, place, event, organization_id, data, created_at)";
        let kinds = [Text, Number, Number, Text, Text, Text, Number];
        insert_all(connection, columns, kinds, &events.collect::<Vec<_>>()).await?;
        let audit = self.audit.into_iter().map(|(at, place, author, Audit { action, organization, details })| {
            let (id, epoch, author) = (ids.next("audit_", now), at.epoch.to_string(), author.to_string());
            let (organization, details, time) = (text(organization), details.to_string(), now.0.into());
            let (id, epoch, seq, action) = (id.into(), epoch.into(), at.seq.into(), action.into());
            [id, epoch, seq, place.into(), author.into(), action, organization, details.into(), time]
        });
        let columns = "audit (id, epoch, seq, place, key_name, action, organization_id, details, created_at)";
        let kinds = [Text, Text, Number, Number, Text, Text, Text, Text, Number];
        insert_all(connection, columns, kinds, &audit.collect::<Vec<_>>()).await
    }
}

fn text(organization: Option<OrganizationId>) -> Value {
    organization.map_or(Value::Null, |organization| organization.as_str().into())
}

fn answer(jobs: Vec<Job>, results: Vec<Result<Committed, StoreError>>) {
    for (job, result) in jobs.into_iter().zip(results) {
        // An error means that the one who asked has gone.
        let _ = job.answer.send(result);
    }
}

/// Tells everybody that the database cannot be used.
fn refuse(jobs: impl IntoIterator<Item = Job>, error: &StoreError) {
    for job in jobs {
        // An error means that the one who asked has gone.
        let _ = job.answer.send(Err(error.for_another()));
    }
}

/// Whether trying again soon makes sense: another process was in the way.
fn is_passing(error: &StoreError) -> bool {
    match error {
        StoreError::Database(sqlx::Error::Database(error)) => {
            // SQLite: busy, locked. PostgreSQL: serialization failure, deadlock, lock not available.
            error.code().is_some_and(|code| matches!(code.as_ref(), "5" | "6" | "517" | "40001" | "40P01" | "55P03"))
        }
        _ => false,
    }
}

impl axum::response::IntoResponse for Committed {
    fn into_response(self) -> axum::response::Response {
        let mut response = match self.reply.body {
            Some(body) => (self.reply.status, axum::Json(body)).into_response(),
            None if self.reply.status == StatusCode::OK => StatusCode::OK.into_response(),
            None => self.reply.status.into_response(),
        };
        if let Ok(revision) = self.revision.to_string().parse() {
            response.headers_mut().insert("x-portcullis-revision", revision);
        }
        response
    }
}
