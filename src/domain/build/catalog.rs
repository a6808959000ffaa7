//! Building and advancing the catalog.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::Hash;

use super::{Anomalies, Anomaly, BuildError, Built};
use crate::domain::catalog::{Catalog, PermissionIndex, PermissionSet, Places, Role};
use crate::domain::digest::Digest;
use crate::domain::record::{
    CatalogKey, CatalogRecord, CatalogRows, Change, Delta, EnvironmentRole, last_for_each_row,
};
use crate::domain::shard::RoleIndex;

impl Catalog {
    /// A catalog without any declaration.
    pub fn empty() -> Self {
        Self {
            permissions: Places::new(),
            roles: Places::new(),
            types: Places::new(),
            settings: None,
            default_role: None,
            history: Vec::new(),
            digest: Digest::default(),
        }
    }

    /// The catalog of these rows. It starts a history of its own: shards built with another catalog do not fit it. To replace the rows of a
    /// catalog that shards were built with, [`advance`](Self::advance) it by a [`Delta::Reset`].
    ///
    /// # Errors
    /// [`BuildError::TooManyRoles`].
    pub fn build(rows: &CatalogRows) -> Result<Built<Self>, BuildError> {
        Self::empty().advance(&Delta::Reset(Box::new(rows.clone())))
    }

    /// The next catalog. Every shard that fits this one fits the next one.
    ///
    /// # Errors
    /// [`BuildError::TooManyRoles`], counting removed ones.
    pub fn advance(&self, delta: &Delta<CatalogRecord>) -> Result<Built<Self>, BuildError> {
        let mut next = self.clone();
        match delta {
            Delta::Changes(changes) => next.apply(changes)?,
            Delta::Reset(rows) => next.apply(&self.replaced_by(rows))?,
        }
        let anomalies = next.anomalies();
        Ok(Built { value: next, anomalies })
    }

    /// The changes that lead from the rows of this catalog to `rows`.
    fn replaced_by(&self, rows: &CatalogRows) -> Vec<Change<CatalogRecord>> {
        let puts: Vec<_> = rows.clone().into_records().map(Change::Put).collect();
        let kept: HashSet<CatalogKey> = puts.iter().map(Change::key).collect();
        let gone = self.rows().into_records().map(|record| Change::Put(record).key()).filter(|key| !kept.contains(key));
        gone.map(Change::Delete).chain(puts.iter().cloned()).collect()
    }

    fn apply(&mut self, changes: &[Change<CatalogRecord>]) -> Result<(), BuildError> {
        for change in last_for_each_row(changes) {
            let former = match change {
                Change::Put(record) => {
                    self.digest = self.digest.plus(Digest::of_catalog_row(record));
                    self.put(record.clone())?
                }
                Change::Delete(key) => self.delete(key),
            };
            if let Some(former) = former {
                self.digest = self.digest.minus(Digest::of_catalog_row(&former));
            }
        }
        Ok(())
    }

    fn put(&mut self, record: CatalogRecord) -> Result<Option<CatalogRecord>, BuildError> {
        Ok(match record {
            CatalogRecord::Permission(permission) => {
                let place = named(&mut self.permissions, &mut self.history, 1, &permission.slug);
                self.permissions.replace(place, Some(permission)).map(CatalogRecord::Permission)
            }
            CatalogRecord::ResourceType(kind) => {
                let place = self.types.find(kind.slug.as_str()).unwrap_or_else(|| self.types.append(&kind.slug));
                self.types.replace(place, Some(kind)).map(CatalogRecord::ResourceType)
            }
            CatalogRecord::Role(record) => {
                let place = self.role_place(&record.id)?;
                let role = self.role_of(record);
                self.roles.replace(place, Some(role)).map(|role| CatalogRecord::Role(role.record))
            }
            CatalogRecord::Settings(settings) => {
                let default = settings.default_role.as_ref().map(|id| self.role_place(id)).transpose()?;
                self.default_role = default.and_then(|place| u16::try_from(place).ok());
                self.settings.replace(settings).map(CatalogRecord::Settings)
            }
        })
    }

    fn delete(&mut self, key: &CatalogKey) -> Option<CatalogRecord> {
        match key {
            CatalogKey::Permission(slug) => {
                let place = self.permissions.find(slug.as_str())?;
                self.permissions.replace(place, None).map(CatalogRecord::Permission)
            }
            CatalogKey::ResourceType(slug) => {
                let place = self.types.find(slug.as_str())?;
                self.types.replace(place, None).map(CatalogRecord::ResourceType)
            }
            CatalogKey::Role(id) => {
                let place = self.roles.find(id.as_str())?;
                self.roles.replace(place, None).map(|role| CatalogRecord::Role(role.record))
            }
            CatalogKey::Settings => {
                self.default_role = None;
                self.settings.take().map(CatalogRecord::Settings)
            }
        }
    }

    fn role_of(&mut self, record: EnvironmentRole) -> Role {
        let place = |slug| PermissionIndex(named(&mut self.permissions, &mut self.history, 1, slug));
        let permissions: PermissionSet = record.permissions.iter().map(place).collect();
        Role { record, permissions }
    }

    fn role_place(&mut self, id: &crate::domain::id::RoleId) -> Result<u32, BuildError> {
        let place = named(&mut self.roles, &mut self.history, 2, id);
        RoleIndex::environment(place).map(|_| place).ok_or(BuildError::TooManyRoles)
    }

    fn anomalies(&self) -> Anomalies {
        let mut anomalies = Anomalies::default();
        for role in self.roles.iter().flatten() {
            for permission in role.permissions.iter().filter(|&index| self.permission_at(index).is_none()) {
                if let Some(slug) = self.permissions.name(permission.0) {
                    anomalies.note(Anomaly::MissingPermission, format_args!("`{slug}` of role `{}`", role.record.slug));
                }
            }
        }
        for kind in self.resource_types() {
            for parent in
                kind.parents.iter().filter(|slug| !slug.is_organization() && self.resource_type(slug).is_none())
            {
                anomalies.note(Anomaly::MissingType, format_args!("`{parent}` above type `{}`", kind.slug));
            }
        }
        if let Some(id) = self.settings().and_then(|settings| settings.default_role.as_ref())
            && self.role(id).is_none()
        {
            anomalies.note(Anomaly::MissingRole, format_args!("default role `{id}`"));
        }
        anomalies
    }
}

/// The place of `name`; when it gets one now, the history tells.
fn named<K, V>(places: &mut Places<K, V>, history: &mut Vec<u64>, kind: u8, name: &K) -> u32
where
    K: Clone + Eq + Hash + Borrow<str>,
{
    places.find(name.borrow()).unwrap_or_else(|| {
        history.push(Digest::link(history.last().copied().unwrap_or_default(), kind, name.borrow()));
        places.append(name)
    })
}
