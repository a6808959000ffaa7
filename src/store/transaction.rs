//! One transaction of the store: the write, its row in the change log, its events, its audit entries. All of it or nothing.

use std::collections::BTreeMap;

use async_trait::async_trait;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use sqlx::AnyConnection;
use ulid::Ulid;

use super::database::{Engine, Statement};
use super::error::StoreError;
use super::time::Millis;
use crate::domain::record::{CatalogKey, OrganizationKey};
use crate::domain::{CatalogRecord, Change, Delta, OrganizationId, OrganizationRecord, Part};

/// Something that is written as one transaction.
///
/// It may be tried again from the start, so it changes nothing but the transaction.
#[async_trait]
pub trait Write: Send + Sync + 'static {
    /// Reads what it needs and writes.
    ///
    /// # Errors
    /// [`StoreError`], and nothing is written.
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError>;
}

/// What a write answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The JSON body.
    pub body: Option<Value>,
}

/// A write in progress.
pub struct Transaction<'c> {
    /// For reading; what is written goes through [`execute`](Self::execute).
    pub(super) connection: &'c mut AnyConnection,
    engine: Engine,
    now: Millis,
    seq: u64,
    ids: &'c mut Ids,
    draft: Draft,
}

/// Makes ids: ULIDs, each greater than the one before.
#[derive(Debug, Default)]
pub(super) struct Ids(u128);

/// What a transaction leaves behind beside its rows.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Whether any row was written.
    pub(super) wrote: bool,
    catalog: Vec<Change<CatalogRecord>>,
    organizations: BTreeMap<OrganizationId, Option<Vec<Change<OrganizationRecord>>>>,
    pub(super) events: Vec<Event>,
    pub(super) audit: Vec<Audit>,
}

/// Something that happened, for `/events`.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) event: &'static str,
    pub(super) organization: Option<OrganizationId>,
    pub(super) data: Value,
}

/// A change of a grant, for `/portcullis/v1/audit`.
#[derive(Debug)]
pub(super) struct Audit {
    pub(super) action: &'static str,
    pub(super) organization: Option<OrganizationId>,
    pub(super) details: Value,
}

impl Reply {
    /// 200 with a body.
    ///
    /// # Errors
    /// Never in practice: bodies always serialize.
    pub fn ok(body: &impl Serialize) -> Result<Self, StoreError> {
        Ok(Self { status: StatusCode::OK, body: Some(serde_json::to_value(body)?) })
    }

    /// 201 with a body.
    ///
    /// # Errors
    /// Never in practice: bodies always serialize.
    pub fn created(body: &impl Serialize) -> Result<Self, StoreError> {
        Ok(Self { status: StatusCode::CREATED, body: Some(serde_json::to_value(body)?) })
    }

    /// 204, without a body.
    pub fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: None }
    }

    /// 200, without a body.
    pub fn empty() -> Self {
        Self { status: StatusCode::OK, body: None }
    }
}

impl Ids {
    /// The prefix and a ULID, whose beginning is the time.
    pub(super) fn next(&mut self, prefix: &str, now: Millis) -> String {
        let time = u64::try_from(now.0).unwrap_or(0);
        self.0 = Ulid::from_parts(time, rand::random()).0.max(self.0.saturating_add(1));
        format!("{prefix}{}", Ulid(self.0))
    }
}

impl<'c> Transaction<'c> {
    pub(super) fn new(connection: &'c mut AnyConnection, engine: Engine, now: Millis, ids: &'c mut Ids) -> Self {
        Self { connection, engine, now, seq: 0, ids, draft: Draft::default() }
    }

    pub(super) fn into_parts(self) -> (&'c mut AnyConnection, Draft) {
        (self.connection, self.draft)
    }

    /// The time of everything that this transaction writes.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// The number it has in the log, if it writes anything.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// Tells it its number.
    pub(super) fn numbered(&mut self, seq: u64) {
        self.seq = seq;
    }

    /// A new id, greater than those before it: the prefix and a ULID.
    pub fn id(&mut self, prefix: &str) -> String {
        self.ids.next(prefix, self.now)
    }

    /// Which engine the statements are for.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Writes rows, and says how many.
    pub(super) async fn execute(&mut self, statement: Statement<'_>) -> Result<u64, StoreError> {
        let rows = statement.execute(&mut *self.connection).await?.rows_affected();
        self.draft.wrote |= rows > 0;
        Ok(rows)
    }

    /// From here on everything can be [undone](Self::undo).
    pub(super) async fn rehearse(&mut self) -> Result<(), StoreError> {
        self.execute(sqlx::query("SAVEPOINT rehearsal")).await?;
        Ok(())
    }

    /// Undoes what was written since [`rehearse`](Self::rehearse), before which nothing was; what it would have left behind.
    pub(super) async fn undo(&mut self) -> Result<Draft, StoreError> {
        self.execute(sqlx::query("ROLLBACK TO SAVEPOINT rehearsal")).await?;
        self.execute(sqlx::query("RELEASE SAVEPOINT rehearsal")).await?;
        Ok(std::mem::take(&mut self.draft))
    }

    /// Notes in the log that a row of the catalog is there now.
    pub fn put_catalog(&mut self, record: CatalogRecord) {
        self.draft.catalog.push(Change::Put(record));
    }

    /// Notes in the log that a row of the catalog is gone.
    pub fn delete_catalog(&mut self, key: CatalogKey) {
        self.draft.catalog.push(Change::Delete(key));
    }

    /// Notes in the log that a row of an organization is there now.
    pub fn put(&mut self, organization: &OrganizationId, record: OrganizationRecord) {
        self.change(organization, Change::Put(record));
    }

    /// Notes in the log that a row of an organization is gone.
    pub fn delete(&mut self, organization: &OrganizationId, key: OrganizationKey) {
        self.change(organization, Change::Delete(key));
    }

    /// Notes in the log that an organization is gone with everything in it.
    pub fn delete_organization(&mut self, organization: &OrganizationId) {
        self.draft.organizations.insert(organization.clone(), None);
    }

    fn change(&mut self, organization: &OrganizationId, change: Change<OrganizationRecord>) {
        let changes = self.draft.organizations.entry(organization.clone()).or_insert_with(|| Some(Vec::new()));
        if let Some(changes) = changes {
            changes.push(change);
        }
    }

    /// Publishes an event.
    ///
    /// # Errors
    /// Never in practice: bodies always serialize.
    pub fn event(
        &mut self,
        event: &'static str,
        organization: Option<&OrganizationId>,
        data: &impl Serialize,
    ) -> Result<(), StoreError> {
        let data = serde_json::to_value(data)?;
        self.draft.events.push(Event { event, organization: organization.cloned(), data });
        Ok(())
    }

    /// Notes who changed which grant.
    pub fn audit(&mut self, action: &'static str, organization: Option<&OrganizationId>, details: Value) {
        self.draft.audit.push(Audit { action, organization: organization.cloned(), details });
    }
}

impl Draft {
    /// Whether there is anything to number.
    pub(super) fn is_empty(&self) -> bool {
        !self.wrote && self.events.is_empty()
    }

    /// The share of the catalog, then that of each organization.
    pub(super) fn parts(&mut self) -> Vec<Part> {
        let catalog = std::mem::take(&mut self.catalog);
        let organizations = std::mem::take(&mut self.organizations).into_iter().map(|(id, changes)| {
            let delta = match changes {
                Some(changes) => Delta::Changes(changes),
                None => Delta::Reset(Box::default()),
            };
            Part::Organization { id, delta }
        });
        let catalog = (!catalog.is_empty()).then_some(Part::Catalog(Delta::Changes(catalog)));
        catalog.into_iter().chain(organizations).collect()
    }
}
