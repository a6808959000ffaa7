//! Whether the log says the same as the tables: whoever replays it from its beginning must have what the tables have, row for row.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;

use sqlx::{AnyConnection, Row};

use super::error::StoreError;
use super::rows::read_all;
use super::{Store, log, rows};
use crate::domain::record::OrganizationKey;
use crate::domain::{
    CatalogRecord, CatalogRows, Change, Delta, OrganizationId, OrganizationRecord, OrganizationRows, Part, Record,
    Revision,
};

/// What comparing the log with the tables found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// As of here; `None` in a database that was never written.
    pub revision: Option<Revision>,
    /// Rows that the log has forgotten since. With any, it does not lead from nothing to what the tables have.
    pub forgotten: u64,
    /// How many organizations were compared.
    pub organizations: usize,
    /// Every difference, in words; none when all is well.
    pub differences: Vec<String>,
}

/// What the log says is there.
#[derive(Default)]
struct Replay {
    catalog: HashMap<<CatalogRecord as Record>::Key, CatalogRecord>,
    organizations: HashMap<OrganizationId, HashMap<OrganizationKey, OrganizationRecord>>,
}

impl Store {
    /// Replays the log from its beginning, and compares the outcome and the chain of hashes with what is in the tables, all as of one
    /// moment. Takes as much memory as there are facts.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read. What is in it and contradicts itself is no error but a difference.
    pub async fn compare_log_with_rows(&self) -> Result<Verification, StoreError> {
        let mut snapshot = self.0.database.snapshot().await?;
        let connection: &mut AnyConnection = &mut snapshot;
        let mut differences = Vec::new();
        let Some(head) = log::head(connection).await? else {
            return Ok(Verification { revision: None, forgotten: 0, organizations: 0, differences });
        };
        let mut replay = Replay::default();
        let mut at = log::Head::first(head.epoch);
        while at.seq < head.seq {
            let page = log::after(connection, at.seq, head.seq).await?;
            if page.is_empty() {
                differences.push(format!("the log ends at {}, and not at {}", at.seq, head.seq));
                break;
            }
            for row in page {
                let expected = log::Head { seq: row.seq.saturating_sub(1), ..at.clone() };
                if expected.seq != at.seq {
                    differences.push(format!("the log has no rows {} to {}", at.seq + 1, expected.seq));
                }
                let parts = row.parts()?;
                if !row.follows(&expected) {
                    differences.push(format!("row {} of the log is not the one that was written", row.seq));
                }
                at = log::Head { seq: row.seq, chain: row.chain, ..head.clone() };
                parts.into_iter().for_each(|part| replay.apply(part));
            }
        }
        if at.chain != head.chain {
            differences.push("the log ends with another hash than it was closed with".to_owned());
        }
        let tables = rows::catalog(connection).await?;
        differences.extend(compare("the catalog", replay.catalog, catalog_rows(tables)));
        let organizations = sqlx::query("SELECT id FROM organizations ORDER BY id");
        let organizations: BTreeSet<OrganizationId> =
            read_all(connection, organizations, |row| Ok(row.try_get("id")?)).await?.into_iter().collect();
        for id in &organizations {
            let tables = rows::organization(connection, id).await?.unwrap_or_default();
            let replayed = replay.organizations.remove(id).unwrap_or_default();
            differences.extend(compare(&format!("organization `{id}`"), replayed, organization_rows(tables)));
        }
        for (id, replayed) in replay.organizations {
            differences.extend(compare(&format!("organization `{id}`"), replayed, HashMap::new()));
        }
        snapshot.rollback().await?;
        differences.sort_unstable();
        let (forgotten, organizations) = (head.oldest - 1, organizations.len());
        Ok(Verification { revision: Some(head.revision()), forgotten, organizations, differences })
    }
}

impl Replay {
    fn apply(&mut self, part: Part) {
        match part {
            Part::Catalog(Delta::Changes(changes)) => put(&mut self.catalog, changes),
            Part::Catalog(Delta::Reset(rows)) => self.catalog = catalog_rows(*rows),
            Part::Organization { id, delta: Delta::Changes(changes) } => {
                put(self.organizations.entry(id).or_default(), changes);
            }
            Part::Organization { id, delta: Delta::Reset(rows) } => {
                self.organizations.insert(id, organization_rows(*rows));
            }
        }
    }
}

fn put<R: Record>(rows: &mut HashMap<R::Key, R>, changes: Vec<Change<R>>) {
    for change in changes {
        match change {
            Change::Put(record) => {
                rows.insert(record.key(), record);
            }
            Change::Delete(key) => {
                rows.remove(&key);
            }
        }
    }
}

fn catalog_rows(rows: CatalogRows) -> HashMap<<CatalogRecord as Record>::Key, CatalogRecord> {
    rows.into_records().map(|record| (record.key(), record)).collect()
}

fn organization_rows(rows: OrganizationRows) -> HashMap<OrganizationKey, OrganizationRecord> {
    rows.into_records().map(|record| (record.key(), record)).collect()
}

/// Every row that is not the same on both sides.
fn compare<R: Record + Plain>(
    place: &str,
    mut replayed: HashMap<R::Key, R>,
    tables: HashMap<R::Key, R>,
) -> Vec<String> {
    let mut differences = Vec::new();
    for (key, row) in tables {
        let logged = replayed.remove(&key).and_then(Plain::plain);
        let row = row.plain();
        if logged != row {
            differences.push(format!("{place}: the log has {}, the tables have {}", words(&logged), words(&row)));
        }
    }
    for row in replayed.into_values().filter_map(Plain::plain) {
        differences.push(format!("{place}: the log has {}, the tables have nothing", words(&Some(row))));
    }
    differences
}

fn words(row: &Option<impl Debug>) -> String {
    row.as_ref().map_or_else(|| "nothing".to_owned(), |row| format!("{row:?}"))
}

/// A row in the one form that says what it says.
trait Plain: Sized {
    /// `None` for a row that says nothing.
    fn plain(self) -> Option<Self>;
}

impl Plain for CatalogRecord {
    fn plain(mut self) -> Option<Self> {
        match &mut self {
            Self::Role(role) => role.permissions.sort_unstable(),
            Self::ResourceType(kind) => kind.parents.sort_unstable(),
            Self::Permission(_) | Self::Settings(_) => {}
        }
        Some(self)
    }
}

impl Plain for OrganizationRecord {
    fn plain(mut self) -> Option<Self> {
        match &mut self {
            Self::Role(role) => role.permissions.sort_unstable(),
            Self::Settings(settings) if *settings == Default::default() => return None,
            _ => {}
        }
        Some(self)
    }
}
