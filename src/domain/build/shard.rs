//! Building a shard from all its rows, and advancing it by some.

use std::collections::HashMap;

use super::draft::Draft;
use super::{BuildError, Built, Keep, bulk};
use crate::domain::catalog::Catalog;
use crate::domain::id::{Id, OrganizationId};
use crate::domain::record::{
    Change, Delta, OrganizationKey, OrganizationRecord, OrganizationRows, Record, last_for_each_row,
};
use crate::domain::shard::{MAX_DEPTH, ROOT, Shard};

impl Shard {
    /// The shard of these rows.
    ///
    /// # Errors
    /// [`BuildError`] when the rows contradict each other or are too many.
    pub fn build(
        catalog: &Catalog,
        organization: &OrganizationId,
        rows: &OrganizationRows,
        keep: Keep,
    ) -> Result<Built<Self>, BuildError> {
        let (mut shard, mut anomalies) = bulk::shard(catalog, organization, rows, keep)?;
        shard.depth = shard.deepest()?;
        shard.built = shard.row_count();
        shard.note_all_missing(catalog, &mut anomalies);
        Ok(Built { value: shard, anomalies })
    }

    /// The next shard: this one after the changes of one transaction. `catalog` is the catalog after the same transaction.
    ///
    /// Anomalies are those of the rows put in.
    ///
    /// # Errors
    /// [`BuildError`] as for [`build`](Self::build), and [`BuildError::OtherCatalog`] when `catalog` did not grow out of the one this shard was
    /// built with. This shard stays as it is.
    pub fn advance(&self, catalog: &Catalog, delta: &Delta<OrganizationRecord>) -> Result<Built<Self>, BuildError> {
        if !catalog.covers(self.generation) {
            return Err(BuildError::OtherCatalog);
        }
        let changes = match delta {
            Delta::Reset(rows) => return Self::build(catalog, &self.organization, rows, self.keep()),
            Delta::Changes(changes) => last_for_each_row(changes),
        };
        if self.is_worn() || changes.iter().any(|change| self.concerns_root(change)) {
            return self.rebuild(catalog, &changes);
        }
        let mut draft = Draft::after(self, catalog);
        for change in &changes {
            draft.retract(change)?;
        }
        for change in &changes {
            if let Change::Put(record) = change {
                draft.put(record)?;
            }
        }
        let (mut shard, mut anomalies) = draft.finish();
        shard.depth = shard.depth_after(self, &changes)?;
        for change in &changes {
            if let Change::Put(record) = change {
                shard.note_missing(catalog, record, &mut anomalies);
            }
        }
        Ok(Built { value: shard, anomalies })
    }

    /// What this shard keeps beyond what decisions need.
    pub fn keep(&self) -> Keep {
        Keep { assignment_ids: self.labels.is_some() }
    }

    /// The next shard, from all its rows.
    fn rebuild(&self, catalog: &Catalog, changes: &[&Change<OrganizationRecord>]) -> Result<Built<Self>, BuildError> {
        let mut rows: HashMap<OrganizationKey, OrganizationRecord> =
            self.records(catalog).map(|record| (record.key(), record)).collect();
        for change in changes {
            match change {
                Change::Put(record) => rows.insert(record.key(), record.clone()),
                Change::Delete(key) => rows.remove(key),
            };
        }
        let next = Self::build(catalog, &self.organization, &rows.into_values().collect(), self.keep())?;
        if self.digest.get().is_some() {
            next.value.digest(catalog);
        }
        Ok(next)
    }

    /// Whether so much was removed or added since this shard was built that building it again pays.
    fn is_worn(&self) -> bool {
        let rows = self.row_count();
        self.deleted > 1024.max(rows / 2) || rows > self.built.saturating_mul(8).saturating_add(4096)
    }

    fn row_count(&self) -> u32 {
        [&self.members, &self.groups, &self.resources].iter().fold(0, |sum, names| names.len().saturating_add(sum))
    }

    fn concerns_root(&self, change: &Change<OrganizationRecord>) -> bool {
        match change {
            Change::Put(OrganizationRecord::Resource(resource)) => {
                resource.resource_type.is_organization() || self.resources.id(ROOT) == resource.id.as_str()
            }
            Change::Delete(OrganizationKey::Resource(id)) => self.resources.id(ROOT) == id.as_str(),
            _ => false,
        }
    }

    /// How far below the root the deepest resource stands.
    fn deepest(&self) -> Result<usize, BuildError> {
        let mut depths = vec![0_u8; self.tree.len() as usize];
        let mut path = Vec::with_capacity(MAX_DEPTH);
        let mut deepest = 0;
        for row in 0..self.tree.len() {
            let mut at = row;
            let above = loop {
                match self.tree.get(at).filter(|node| at != ROOT && node.is_there()) {
                    None => break 0,
                    Some(_) if depths.get(at as usize).is_some_and(|&depth| depth > 0) => {
                        break depths.get(at as usize).copied().unwrap_or_default();
                    }
                    Some(_) if path.len() > MAX_DEPTH => return Err(self.too_deep(row)),
                    Some(node) => {
                        path.push(at);
                        at = node.parent();
                    }
                }
            };
            let mut depth = above;
            while let Some(below) = path.pop() {
                depth = depth.saturating_add(1);
                if let Some(slot) = depths.get_mut(below as usize) {
                    *slot = depth;
                }
            }
            if usize::from(depth) > MAX_DEPTH {
                return Err(self.too_deep(row));
            }
            deepest = deepest.max(depth.into());
        }
        Ok(deepest)
    }

    /// A bound for the depth after `changes` led here from `before`: whatever hangs below a moved resource sinks as far as that did.
    fn depth_after(&self, before: &Self, changes: &[&Change<OrganizationRecord>]) -> Result<usize, BuildError> {
        let mut bound = before.depth;
        for change in changes {
            let Change::Put(OrganizationRecord::Resource(resource)) = change else { continue };
            let Some(row) = self.resources.find(resource.id.as_str()) else { continue };
            let now = self.depth_of(row)?;
            // Nothing hung below one that had no number. Below one that was not there, whose chain is empty, it hung right below the root.
            let then = before.tree.get(row).map(|_| before.chain(row).len());
            let sunk = then.map_or(0, |then| before.depth + now.saturating_sub(then));
            bound = bound.max(now).max(sunk);
        }
        if bound <= MAX_DEPTH { Ok(bound) } else { self.deepest() }
    }

    fn depth_of(&self, row: u32) -> Result<usize, BuildError> {
        let chain = self.chain(row);
        match chain.last().and_then(|&top| self.tree.get(top)) {
            Some(top) if top.parent() != ROOT && self.tree.get(top.parent()).is_some_and(|node| node.is_there()) => {
                Err(self.too_deep(row))
            }
            _ => Ok(chain.len()),
        }
    }

    /// Why the walk from `row` to the root does not end in time.
    fn too_deep(&self, row: u32) -> BuildError {
        let mut at = row;
        for _ in 0..self.tree.len() {
            match self.tree.get(at).filter(|node| at != ROOT && node.is_there()) {
                Some(node) => at = node.parent(),
                None => return BuildError::TooDeep { resource: Id::known(self.resources.id(row)) },
            }
        }
        BuildError::Cycle { resource: Id::known(self.resources.id(at)) }
    }
}
