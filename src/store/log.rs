//! The change log: one row for each transaction, numbered without gaps in the order of commits, each chained to the one before.
//!
//! Whoever applies the rows one by one to nothing has what is in the tables.

use aws_lc_rs::digest::{Context, SHA256};
use sqlx::{AnyConnection, Row};

use super::database::{Database, Engine};
use super::error::StoreError;
use super::time::Millis;
use crate::domain::id::Epoch;
use crate::domain::{Part, Revision};

/// Rows that are read at a time.
const PAGE: i64 = 500;

/// The end of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) epoch: Epoch,
    pub(super) seq: u64,
    /// SHA-256 over all rows so far, in hexadecimal.
    pub(super) chain: String,
    /// The number of the first row that is still there.
    pub(super) oldest: u64,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogRow {
    pub(super) seq: u64,
    pub(super) time: Millis,
    /// As JSON.
    pub(super) parts: String,
    pub(super) chain: String,
}

impl Head {
    pub(super) fn revision(&self) -> Revision {
        Revision { epoch: self.epoch, seq: self.seq }
    }

    /// The head of an empty log.
    pub(super) fn first(epoch: Epoch) -> Self {
        Self { epoch, seq: 0, chain: hexadecimal(Context::new(&SHA256).finish().as_ref()), oldest: 1 }
    }

    /// Whether the log that ends at `later` may be the one that ended here, and still has what came after, as far as ends of logs tell.
    pub(super) fn may_lead_to(&self, later: &Self) -> bool {
        let is_same = self.seq < later.seq || self.seq == later.seq && self.chain == later.chain;
        is_same && self.epoch == later.epoch && self.seq + 1 >= later.oldest
    }

    /// Moves on to `row`; `false`, and nothing has changed, when that is not what came right after.
    pub(super) fn moves_on_to(&mut self, row: &LogRow) -> bool {
        let follows = row.follows(self);
        if follows {
            (self.seq, self.chain) = (row.seq, row.chain.clone());
        }
        follows
    }

    /// The row that comes next, and with it the new end.
    pub(super) fn append(&mut self, time: Millis, parts: &[Part]) -> Result<LogRow, StoreError> {
        let parts = serde_json::to_string(parts)?;
        self.seq += 1;
        self.chain = chain(&self.chain, self.seq, time, &parts);
        Ok(LogRow { seq: self.seq, time, parts, chain: self.chain.clone() })
    }
}

impl LogRow {
    /// What the transaction changed.
    pub(super) fn parts(&self) -> Result<Vec<Part>, StoreError> {
        Ok(serde_json::from_str(&self.parts)?)
    }

    /// Whether it is what comes right after `before`, unchanged since it was written.
    pub(super) fn follows(&self, before: &Head) -> bool {
        self.seq == before.seq + 1 && self.chain == chain(&before.chain, self.seq, self.time, &self.parts)
    }
}

/// `H(previous chain, row)`.
fn chain(previous: &str, seq: u64, time: Millis, parts: &str) -> String {
    let mut context = Context::new(&SHA256);
    context.update(previous.as_bytes());
    context.update(&seq.to_be_bytes());
    context.update(&time.0.to_be_bytes());
    context.update(parts.as_bytes());
    hexadecimal(context.finish().as_ref())
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Reads the end of the log again and again, on a connection of its own.
#[derive(Default)]
pub(super) struct Lookout(Option<AnyConnection>);

impl Lookout {
    /// The end of the log, and the connection it was read on, to be [kept](Self::keep) by whoever did not fail with it.
    ///
    /// # Errors
    /// [`StoreError`]
    pub(super) async fn head(&mut self, database: &Database) -> Result<(Option<Head>, AnyConnection), StoreError> {
        if let Some(mut kept) = self.0.take() {
            database.require_in_place()?;
            // An error may only mean that the database was started anew since.
            if let Ok(found) = head(&mut kept).await {
                return Ok((found, kept));
            }
        }
        let mut fresh = database.connect().await?;
        Ok((head(&mut fresh).await?, fresh))
    }

    /// Keeps the connection for the next time.
    pub(super) fn keep(&mut self, connection: AnyConnection) {
        self.0 = Some(connection);
    }
}

/// The end of the log; `None` in a database that was never written.
pub(super) async fn head(connection: &mut AnyConnection) -> Result<Option<Head>, StoreError> {
    read_head("SELECT epoch, seq, chain, oldest FROM head WHERE one = 1", connection).await
}

/// The end of the log, which nobody else moves until the transaction ends.
pub(super) async fn lock(connection: &mut AnyConnection, engine: Engine) -> Result<Option<Head>, StoreError> {
    read_head(engine.lock_head(), connection).await
}

async fn read_head(statement: &'static str, connection: &mut AnyConnection) -> Result<Option<Head>, StoreError> {
    let Some(row) = sqlx::query(statement).fetch_optional(connection).await? else { return Ok(None) };
    let epoch: String = row.try_get("epoch")?;
    let epoch: Epoch = epoch.parse()?;
    let (seq, oldest) = (number(row.try_get("seq")?), number(row.try_get("oldest")?));
    Ok(Some(Head { epoch, seq, chain: row.try_get("chain")?, oldest }))
}

/// Sets the end of the log.
pub(super) async fn set_head(connection: &mut AnyConnection, head: &Head) -> Result<(), StoreError> {
    let statement = "INSERT INTO head (one, epoch, seq, chain, oldest) VALUES (1, $1, $2, $3, 1) \
                     ON CONFLICT (one) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq, chain = excluded.chain";
    let seq = i64::try_from(head.seq).unwrap_or(i64::MAX);
    sqlx::query(statement).bind(head.epoch.to_string()).bind(seq).bind(head.chain.clone()).execute(connection).await?;
    Ok(())
}

/// Forgets rows that are older than `before`, and all but the last `most`, up to `at_once` of them; the last row of all stays. How many it
/// forgot.
pub(super) async fn forget(
    connection: &mut AnyConnection,
    before: Millis,
    most: u64,
    at_once: u64,
) -> Result<u64, StoreError> {
    let Some(head) = head(connection).await? else { return Ok(0) };
    let bound = |seq: u64| i64::try_from(seq).unwrap_or(i64::MAX);
    let end = (head.oldest + at_once).min(head.seq);
    let statement = "SELECT COALESCE(MIN(seq), $3) AS seq FROM changes WHERE seq >= $1 AND seq < $3 AND time >= $2";
    let statement = sqlx::query(statement).bind(bound(head.oldest)).bind(before.0).bind(bound(end));
    let young = number(statement.fetch_one(&mut *connection).await?.try_get("seq")?);
    let first = young.max((head.seq.saturating_sub(most) + 1).min(end));
    if first <= head.oldest {
        return Ok(0);
    }
    sqlx::query("DELETE FROM changes WHERE seq < $1").bind(bound(first)).execute(&mut *connection).await?;
    let statement = sqlx::query("UPDATE head SET oldest = $1 WHERE one = 1");
    statement.bind(bound(first)).execute(&mut *connection).await?;
    Ok(first - head.oldest)
}

/// The next rows after `seq`, up to `upto`, in order; a bounded number of them. What was written after the end of the log was read is none
/// of the reader's business yet: it would be ahead of what it knows to be the end.
pub(super) async fn after(connection: &mut AnyConnection, seq: u64, upto: u64) -> Result<Vec<LogRow>, StoreError> {
    let statement = "SELECT seq, time, parts, chain FROM changes WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3";
    let bound = |seq: u64| i64::try_from(seq).unwrap_or(i64::MAX);
    let rows = sqlx::query(statement).bind(bound(seq)).bind(bound(upto)).bind(PAGE).fetch_all(connection).await?;
    let read = |row: sqlx::any::AnyRow| {
        Ok(LogRow {
            seq: number(row.try_get("seq")?),
            time: Millis(row.try_get("time")?),
            parts: row.try_get("parts")?,
            chain: row.try_get("chain")?,
        })
    };
    rows.into_iter().map(read).collect()
}
