//! The catalog: what an environment declares.
//!
//! Permissions, environment roles and resource types get a place when they are first named, and keep it: places are appended, never
//! moved, never reused. Shards refer to places. Two catalogs that grew differently disagree about places, so a shard remembers the
//! [`Generation`] it was built with, and [`Catalog::covers`] tells whether a catalog is that one or a later one of the same history.

mod permissions;

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

pub use self::permissions::{PermissionIndex, PermissionSet};
use super::digest::Digest;
use super::id::{PermissionSlug, ResourceTypeSlug, RoleId};
use super::record::{CatalogRows, EnvironmentRole, EnvironmentSettings, Permission, ResourceType, RoleMode};

/// Permissions, environment roles, resource types and settings of one environment. Immutable; built and advanced in
/// [`build`](super::build).
#[derive(Debug, Clone)]
pub struct Catalog {
    pub(super) permissions: Places<PermissionSlug, Permission>,
    pub(super) roles: Places<RoleId, Role>,
    pub(super) types: Places<ResourceTypeSlug, ResourceType>,
    pub(super) settings: Option<EnvironmentSettings>,
    /// The place of the environment's default role.
    pub(super) default_role: Option<u16>,
    /// For each place ever given, in the order of giving, a hash of it and all before it.
    pub(super) history: Vec<u64>,
    pub(super) digest: Digest,
}

/// How far a catalog has grown: what the places in a shard refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation {
    places: u32,
    history: u64,
}

/// An environment role, ready to be asked.
#[derive(Debug, Clone)]
pub(super) struct Role {
    pub(super) record: EnvironmentRole,
    pub(super) permissions: PermissionSet,
}

/// Things with names, each at a place of its own. A place may be empty: named, but not declared, or not any more.
#[derive(Debug, Clone)]
pub(super) struct Places<K, V> {
    by_name: HashMap<K, u32, RandomState>,
    rows: Vec<(K, Option<V>)>,
}

impl Catalog {
    /// The place of a declared permission.
    pub fn permission(&self, slug: &PermissionSlug) -> Option<PermissionIndex> {
        let place = self.permissions.find(slug.as_str())?;
        self.permissions.get(place)?;
        Some(PermissionIndex(place))
    }

    /// The permission at `index`, if it is declared.
    pub fn permission_at(&self, index: PermissionIndex) -> Option<&Permission> {
        self.permissions.get(index.0)
    }

    /// Every declared permission.
    pub fn permissions(&self) -> impl Iterator<Item = (PermissionIndex, &Permission)> {
        (0..).map(PermissionIndex).zip(self.permissions.iter()).filter_map(|(index, row)| Some((index, row?)))
    }

    /// An environment role.
    pub fn role(&self, id: &RoleId) -> Option<&EnvironmentRole> {
        Some(&self.roles.get(self.roles.find(id.as_str())?)?.record)
    }

    /// Every environment role, in no particular order.
    pub fn roles(&self) -> impl Iterator<Item = &EnvironmentRole> {
        self.roles.iter().flatten().map(|role| &role.record)
    }

    /// A resource type; `organization` is not among them.
    pub fn resource_type(&self, slug: &ResourceTypeSlug) -> Option<&ResourceType> {
        self.types.get(self.types.find(slug.as_str())?)
    }

    /// Every resource type but `organization`.
    pub fn resource_types(&self) -> impl Iterator<Item = &ResourceType> {
        self.types.iter().flatten()
    }

    /// How many roles are named but not declared, or not any more.
    pub(super) fn undeclared_roles(&self) -> usize {
        self.roles.iter().filter(Option::is_none).count()
    }

    /// One organization role for each membership, or several.
    pub fn role_mode(&self) -> RoleMode {
        self.settings.as_ref().map(|settings| settings.role_mode).unwrap_or_default()
    }

    /// The settings, where the row is there.
    pub fn settings(&self) -> Option<&EnvironmentSettings> {
        self.settings.as_ref()
    }

    /// How far this catalog has grown.
    pub fn generation(&self) -> Generation {
        Generation {
            places: u32::try_from(self.history.len()).unwrap_or(u32::MAX),
            history: self.history.last().copied().unwrap_or_default(),
        }
    }

    /// Whether places mean here what they meant at `generation`: this catalog is that one, or one that grew out of it.
    pub fn covers(&self, generation: Generation) -> bool {
        let then = match generation.places.checked_sub(1) {
            None => Some(0),
            Some(last) => self.history.get(last as usize).copied(),
        };
        then == Some(generation.history)
    }

    /// The digest of all rows.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// All rows, kind by kind in the order of their places.
    pub fn rows(&self) -> CatalogRows {
        CatalogRows {
            permissions: self.permissions.iter().flatten().cloned().collect(),
            resource_types: self.types.iter().flatten().cloned().collect(),
            roles: self.roles().cloned().collect(),
            settings: self.settings.clone(),
        }
    }

    /// Bytes of memory, roughly.
    pub fn bytes(&self) -> usize {
        let sets: usize = self.roles.iter().flatten().map(|role| role.permissions.bytes()).sum();
        size_of::<Self>() + self.permissions.bytes() + self.roles.bytes() + self.types.bytes() + sets
    }
}

impl<K, V> Places<K, V>
where
    K: Clone + Eq + Hash + Borrow<str>,
{
    pub(super) fn new() -> Self {
        Self { by_name: HashMap::default(), rows: Vec::new() }
    }

    /// The place of `name`, if it was ever named.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// What is declared at `place`.
    pub(super) fn get(&self, place: u32) -> Option<&V> {
        self.rows.get(place as usize)?.1.as_ref()
    }

    /// The name at `place`, declared or not.
    pub(super) fn name(&self, place: u32) -> Option<&K> {
        Some(&self.rows.get(place as usize)?.0)
    }

    /// Appends `name`, which has no place yet.
    pub(super) fn append(&mut self, name: &K) -> u32 {
        let place = self.len();
        self.by_name.insert(name.clone(), place);
        self.rows.push((name.clone(), None));
        place
    }

    /// Declares what is at `place`, or undeclares it; the former content comes back.
    pub(super) fn replace(&mut self, place: u32, content: Option<V>) -> Option<V> {
        std::mem::replace(&mut self.rows.get_mut(place as usize)?.1, content)
    }

    /// Number of places.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.rows.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Option<&V>> {
        self.rows.iter().map(|(_, content)| content.as_ref())
    }

    fn bytes(&self) -> usize {
        self.rows.capacity() * size_of::<(K, Option<V>)>() + self.by_name.capacity() * (size_of::<(K, u32)>() + 1)
    }
}
