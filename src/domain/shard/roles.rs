//! The roles of one organization: its own, and how it ranks all of them.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::domain::catalog::{Catalog, PermissionIndex, PermissionSet, Role};
use crate::domain::id::{PermissionSlug, ResourceTypeSlug, RoleId, RoleSlug};
use crate::domain::record::{CustomRole, OrganizationSettings};

/// A role as assignments refer to it: the place of an environment role in the catalog, or of a custom role in its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleIndex(u16);

impl RoleIndex {
    /// Custom roles have the highest bit set.
    const CUSTOM: u16 = 1 << 15;

    /// The environment role at `place` of the catalog.
    pub(in crate::domain) fn environment(place: u32) -> Option<Self> {
        u16::try_from(place).ok().filter(|place| place & Self::CUSTOM == 0).map(Self)
    }

    fn custom(place: usize) -> Option<Self> {
        u16::try_from(place).ok().filter(|place| place & Self::CUSTOM == 0).map(|place| Self(place | Self::CUSTOM))
    }

    fn place(self) -> usize {
        (self.0 & !Self::CUSTOM).into()
    }

    pub(super) fn bits(self) -> u16 {
        self.0
    }

    pub(super) fn of_bits(bits: u16) -> Self {
        Self(bits)
    }
}

/// Roles that are not environment roles, as far as this shard knows, by place; and the organization's settings.
#[derive(Debug, Clone, Default)]
pub struct Roles {
    by_id: HashMap<RoleId, RoleIndex, RandomState>,
    rows: Vec<Custom>,
    settings: Option<Settings>,
}

/// A place for a role that some row named. It may turn out to be an environment role that the catalog did not have yet.
#[derive(Debug, Clone)]
struct Custom {
    id: RoleId,
    definition: Option<Definition>,
}

#[derive(Debug, Clone)]
struct Definition {
    record: CustomRole,
    permissions: PermissionSet,
    /// Permissions that had no place in the catalog when the role was defined.
    unplaced: Box<[PermissionSlug]>,
}

#[derive(Debug, Clone)]
struct Settings {
    record: OrganizationSettings,
    default_role: Option<RoleIndex>,
    /// Place of each role in the organization's own order, sorted by role.
    ranks: Box<[(RoleIndex, u32)]>,
}

/// A role that exists.
#[derive(Debug, Clone, Copy)]
pub struct RoleView<'a>(View<'a>);

#[derive(Debug, Clone, Copy)]
enum View<'a> {
    Environment(&'a Role),
    Custom(&'a Definition),
}

/// A declared permission that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub index: PermissionIndex,
    pub slug: &'a PermissionSlug,
}

/// Why a role cannot have a place in a shard.
#[derive(Debug, Clone, Copy)]
pub enum RoleFault {
    /// A shard refers to at most 32,768 roles of its own.
    TooMany,
    /// A custom role with the id of an environment role.
    IdTaken,
}

impl Roles {
    /// The role with this id, if any row or the catalog ever named it.
    pub fn find(&self, catalog: &Catalog, id: &RoleId) -> Option<RoleIndex> {
        match self.by_id.get(id) {
            Some(&index) => Some(index),
            None => catalog.roles.find(id.as_str()).and_then(RoleIndex::environment),
        }
    }

    fn append(&mut self, id: &RoleId) -> Result<RoleIndex, RoleFault> {
        let index = RoleIndex::custom(self.rows.len()).ok_or(RoleFault::TooMany)?;
        self.by_id.insert(id.clone(), index);
        self.rows.push(Custom { id: id.clone(), definition: None });
        Ok(index)
    }

    /// The role with this id, with a place of its own if nothing named it before.
    pub fn intern(&mut self, catalog: &Catalog, id: &RoleId) -> Result<RoleIndex, RoleFault> {
        match self.find(catalog, id) {
            Some(index) => Ok(index),
            None => self.append(id),
        }
    }

    /// The content of a role, if it exists.
    pub fn view<'a>(&'a self, catalog: &'a Catalog, index: RoleIndex) -> Option<RoleView<'a>> {
        let environment = |place| catalog.roles.get(place).map(|role| RoleView(View::Environment(role)));
        if index.0 & RoleIndex::CUSTOM == 0 {
            return environment(index.0.into());
        }
        let row = self.rows.get(index.place())?;
        match &row.definition {
            Some(definition) => Some(RoleView(View::Custom(definition))),
            None => environment(catalog.roles.find(row.id.as_str())?),
        }
    }

    /// The id of a role, whether it exists or not.
    pub fn id<'a>(&'a self, catalog: &'a Catalog, index: RoleIndex) -> Option<&'a RoleId> {
        if index.0 & RoleIndex::CUSTOM == 0 {
            return catalog.roles.name(index.0.into());
        }
        Some(&self.rows.get(index.place())?.id)
    }

    /// Defines a custom role, or takes its definition away.
    pub fn define(&mut self, catalog: &Catalog, id: &RoleId, record: Option<CustomRole>) -> Result<(), RoleFault> {
        let index = match self.by_id.get(id) {
            Some(&index) => index,
            None if record.is_none() => return Ok(()),
            None if catalog.roles.find(id.as_str()).is_some() => return Err(RoleFault::IdTaken),
            None => self.append(id)?,
        };
        let definition = record.map(|record| {
            let place = |slug: &PermissionSlug| catalog.permissions.find(slug.as_str()).map(PermissionIndex);
            let permissions = record.permissions.iter().filter_map(place).collect();
            let unplaced = record.permissions.iter().filter(|slug| place(slug).is_none()).cloned().collect();
            Definition { record, permissions, unplaced }
        });
        if let Some(row) = self.rows.get_mut(index.place()) {
            row.definition = definition;
        }
        Ok(())
    }

    /// The record of the custom role with this id, if it is defined.
    pub fn record(&self, id: &RoleId) -> Option<&CustomRole> {
        let row = self.rows.get(self.by_id.get(id)?.place())?;
        row.definition.as_ref().map(|definition| &definition.record)
    }

    /// Every custom role.
    pub fn records(&self) -> impl Iterator<Item = &CustomRole> {
        self.rows.iter().filter_map(|row| row.definition.as_ref()).map(|definition| &definition.record)
    }

    /// Every custom role, by index.
    pub fn indices(&self) -> impl Iterator<Item = RoleIndex> {
        (0..self.rows.len()).filter_map(RoleIndex::custom)
    }

    pub fn settings(&self) -> Option<&OrganizationSettings> {
        self.settings.as_ref().map(|settings| &settings.record)
    }

    pub fn configure(&mut self, catalog: &Catalog, record: Option<OrganizationSettings>) -> Result<(), RoleFault> {
        let Some(record) = record else {
            self.settings = None;
            return Ok(());
        };
        let default_role = record.default_role.as_ref().map(|id| self.intern(catalog, id)).transpose()?;
        let mut ranks = Vec::with_capacity(record.priorities.len());
        for (id, rank) in record.priorities.iter().zip(0..) {
            ranks.push((self.intern(catalog, id)?, rank));
        }
        ranks.sort_unstable();
        ranks.dedup_by_key(|(role, _)| *role);
        self.settings = Some(Settings { record, default_role, ranks: ranks.into() });
        Ok(())
    }

    /// The role that stands in for a missing direct organization role: the organization's own choice, else the environment's.
    pub fn default_role(&self, catalog: &Catalog) -> Option<RoleIndex> {
        match self.settings.as_ref().and_then(|settings| settings.default_role) {
            Some(own) => Some(own),
            None => catalog.default_role.map(u32::from).and_then(RoleIndex::environment),
        }
    }

    /// How a role ranks; less is higher. The organization's own order comes first, then the environment's, then the id.
    pub fn rank<'a>(&'a self, catalog: &'a Catalog, index: RoleIndex) -> (u32, u32, &'a str) {
        let ranks = self.settings.as_ref().map(|settings| &*settings.ranks).unwrap_or_default();
        let place = ranks.binary_search_by_key(&index, |(role, _)| *role).ok().and_then(|place| ranks.get(place));
        let own = place.map_or(u32::MAX, |(_, rank)| *rank);
        let environment = match self.view(catalog, index) {
            Some(RoleView(View::Environment(role))) => role.record.priority,
            _ => u32::MAX,
        };
        (own, environment, self.id(catalog, index).map_or("", AsRef::as_ref))
    }

    /// Bytes of memory, roughly.
    pub fn bytes(&self) -> usize {
        let sets = self.rows.iter().flat_map(|row| &row.definition);
        let sets: usize = sets.map(|role| role.permissions.bytes() + role.record.permissions.len() * 24).sum();
        self.rows.capacity() * (size_of::<Custom>() + 64) + self.by_id.capacity() * 24 + sets
    }
}

impl<'a> RoleView<'a> {
    /// Whether the role permits what is asked for.
    pub fn permits(self, asked: Asked<'_>) -> bool {
        match self.0 {
            View::Environment(role) => role.permissions.contains(asked.index),
            View::Custom(role) => {
                role.permissions.contains(asked.index)
                    || (!role.unplaced.is_empty() && role.unplaced.contains(asked.slug))
            }
        }
    }

    pub fn slug(self) -> &'a RoleSlug {
        match self.0 {
            View::Environment(role) => &role.record.slug,
            View::Custom(role) => &role.record.slug,
        }
    }

    pub fn id(self) -> &'a RoleId {
        match self.0 {
            View::Environment(role) => &role.record.id,
            View::Custom(role) => &role.record.id,
        }
    }

    pub fn resource_type(self) -> &'a ResourceTypeSlug {
        match self.0 {
            View::Environment(role) => &role.record.resource_type,
            View::Custom(role) => &role.record.resource_type,
        }
    }

    /// Number of permissions.
    pub fn breadth(self) -> usize {
        match self.0 {
            View::Environment(role) => role.permissions.len(),
            View::Custom(role) => role.record.permissions.len(),
        }
    }
}
