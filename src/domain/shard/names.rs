//! Names of rows: from text to a dense row number and back.
//!
//! A row has an id, and may have an alias with a small tag: a membership its user, a resource its external id tagged with its type.
//! Id and alias of a row stand side by side in one arena, so that finding a row by either and comparing the other touches one place
//! in memory. Row numbers are given in order of first mention and stay.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::pages::Pages;

/// The names of rows 0, 1, 2, …
#[derive(Debug, Clone)]
pub struct Names {
    arena: Arena,
    /// Where in the arena the names of each row stand.
    places: Pages<u32>,
    ids: Index,
    aliases: Index,
    hasher: RandomState,
}

/// What is known under an alias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    Nothing,
    /// This row.
    Row(u32),
    /// More than one row, so none of them.
    Several,
}

/// The names of one row, as they stand in the arena.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    row: u32,
    tag: u16,
    id: &'a [u8],
    alias: &'a [u8],
}

/// A text does not fit: more than 4 GiB of names.
#[derive(Debug, Clone, Copy)]
pub struct Full;

impl Names {
    /// Room for `rows` rows.
    pub fn with_capacity(rows: usize) -> Self {
        Self {
            arena: Arena::default(),
            places: Pages::new(),
            ids: Index::with_capacity(rows),
            aliases: Index::with_capacity(rows),
            hasher: RandomState::default(),
        }
    }

    /// Number of rows.
    pub fn len(&self) -> u32 {
        self.places.len()
    }

    /// The row with this id.
    pub fn find(&self, id: &str) -> Option<u32> {
        self.find_with_alias(id).map(|(row, _)| row)
    }

    /// The row with this id, and its alias.
    pub fn find_with_alias(&self, id: &str) -> Option<(u32, &[u8])> {
        let place = self.ids.find(self.hash(0, id), |place| self.arena.entry(place).id == id.as_bytes())?;
        let entry = self.arena.entry(place);
        Some((entry.row, entry.alias))
    }

    /// The row that is linked under this alias.
    pub fn find_alias(&self, tag: u16, alias: &str) -> Known {
        let mut rows = self.aliases.candidates(self.hash(tag, alias)).filter_map(|place| {
            let entry = self.arena.entry(place);
            (entry.tag == tag && entry.alias == alias.as_bytes()).then_some(entry.row)
        });
        match (rows.next(), rows.next()) {
            (None, _) => Known::Nothing,
            (Some(row), None) => Known::Row(row),
            (Some(_), Some(_)) => Known::Several,
        }
    }

    pub fn id(&self, row: u32) -> &str {
        text(self.entry(row).id)
    }

    pub fn alias(&self, row: u32) -> &str {
        text(self.entry(row).alias)
    }

    pub fn tag(&self, row: u32) -> u16 {
        self.entry(row).tag
    }

    /// A row of its own without any name, found by nothing.
    pub fn reserve(&mut self) -> Result<u32, Full> {
        let row = self.len();
        self.places.push(self.arena.append(Entry { row, tag: 0, id: &[], alias: &[] })?);
        Ok(row)
    }

    /// The row with this id, a new one if there is none.
    pub fn intern(&mut self, id: &str) -> Result<u32, Full> {
        match self.find(id) {
            Some(row) => Ok(row),
            None => self.append(id, 0, ""),
        }
    }

    /// The row with this id, a new one if there is none, with this alias from now on. The alias is not linked yet.
    pub fn describe(&mut self, id: &str, tag: u16, alias: &str) -> Result<u32, Full> {
        let Some(row) = self.find(id) else { return self.append(id, tag, alias) };
        self.rename(row, id, tag, alias)?;
        Ok(row)
    }

    /// Gives `row` this id and alias. The former alias must not be linked.
    pub fn rename(&mut self, row: u32, id: &str, tag: u16, alias: &str) -> Result<(), Full> {
        let former = self.entry(row);
        if (former.id, former.tag, former.alias) == (id.as_bytes(), tag, alias.as_bytes()) {
            return Ok(());
        }
        if !former.id.is_empty() {
            let hash = hash(&self.hasher, 0, former.id);
            self.ids.remove(hash, self.places.get(row));
        }
        let place = self.arena.append(Entry { row, tag, id: id.as_bytes(), alias: alias.as_bytes() })?;
        self.places.set(row, place);
        self.link_id(place, id);
        Ok(())
    }

    /// Makes `row` known under its alias.
    pub fn link(&mut self, row: u32) {
        let (arena, hasher) = (&self.arena, &self.hasher);
        let Some(place) = self.places.get(row) else { return };
        let rehash = |place| {
            let entry = arena.entry(place);
            hash(hasher, entry.tag, entry.alias)
        };
        self.aliases.insert(rehash(place), place, rehash);
    }

    /// Makes `row` unknown under its alias.
    pub fn unlink(&mut self, row: u32) {
        let entry = self.entry(row);
        let hash = hash(&self.hasher, entry.tag, entry.alias);
        let place = self.places.get(row);
        self.aliases.remove(hash, place);
    }

    /// Gives back what was reserved for growth.
    pub fn settle(&mut self) {
        self.places.settle();
        self.arena.settle();
    }

    /// Bytes of memory, and how many of them are the texts themselves.
    pub fn bytes(&self) -> (usize, usize) {
        let arena = self.arena.bytes();
        let headers = self.len() as usize * Entry::HEADER;
        let all = arena + self.places.bytes() + self.ids.bytes() + self.aliases.bytes();
        (all, arena.saturating_sub(headers))
    }

    fn entry(&self, row: u32) -> Entry<'_> {
        self.places.get(row).map_or(Entry::NONE, |place| self.arena.entry(place))
    }

    fn append(&mut self, id: &str, tag: u16, alias: &str) -> Result<u32, Full> {
        let row = self.len();
        let place = self.arena.append(Entry { row, tag, id: id.as_bytes(), alias: alias.as_bytes() })?;
        self.places.push(place);
        self.link_id(place, id);
        Ok(row)
    }

    fn link_id(&mut self, place: u32, id: &str) {
        let (arena, hasher) = (&self.arena, &self.hasher);
        self.ids.insert(hash(hasher, 0, id.as_bytes()), place, |place| hash(hasher, 0, arena.entry(place).id));
    }

    fn hash(&self, tag: u16, text: &str) -> u64 {
        hash(&self.hasher, tag, text.as_bytes())
    }
}

impl Entry<'_> {
    /// row: 4, tag: 2, length of the id: 2, length of the alias: 2.
    const HEADER: usize = 10;
    const NONE: Self = Self { row: u32::MAX, tag: 0, id: &[], alias: &[] };

    fn bytes(&self) -> usize {
        Self::HEADER + self.id.len() + self.alias.len()
    }
}

fn hash(hasher: &RandomState, tag: u16, text: &[u8]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(text);
    hasher.write_u16(tag);
    hasher.finish()
}

/// INVARIANT: the arena holds what was text when it came in.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Entries, one after the other, in pages of 8 KiB that no entry crosses.
#[derive(Debug, Clone, Default)]
struct Arena {
    full: Arc<Vec<Arc<[u8]>>>,
    tail: Arc<Vec<u8>>,
}

impl Arena {
    const PAGE_BITS: u32 = 13;
    const PAGE: usize = 1 << Self::PAGE_BITS;

    fn entry(&self, place: u32) -> Entry<'_> {
        let page = (place >> Self::PAGE_BITS) as usize;
        let page: &[u8] = self.full.get(page).map_or(self.tail.as_slice(), |page| page);
        let read = || {
            let bytes = page.get(place as usize % Self::PAGE..)?;
            let (&[r0, r1, r2, r3, t0, t1, i0, i1, a0, a1], text) = bytes.split_first_chunk::<{ Entry::HEADER }>()?;
            let (id, rest) = text.split_at_checked(u16::from_le_bytes([i0, i1]).into())?;
            let alias = rest.get(..u16::from_le_bytes([a0, a1]).into())?;
            Some(Entry { row: u32::from_le_bytes([r0, r1, r2, r3]), tag: u16::from_le_bytes([t0, t1]), id, alias })
        };
        read().unwrap_or(Entry::NONE)
    }

    /// INVARIANT: identifiers have at most 256 bytes, so an entry fits into a page and a length into 16 bits.
    fn append(&mut self, entry: Entry<'_>) -> Result<u32, Full> {
        if self.tail.len() + entry.bytes() > Self::PAGE {
            Arc::make_mut(&mut self.full).push(self.tail.as_slice().into());
            Arc::make_mut(&mut self.tail).clear();
        }
        let length = |text: &[u8]| u16::try_from(text.len()).map_err(|_| Full);
        let (id, alias) = (length(entry.id)?, length(entry.alias)?);
        let page = u32::try_from(self.full.len()).ok().filter(|page| page >> (u32::BITS - Self::PAGE_BITS) == 0);
        let offset = u32::try_from(self.tail.len()).map_err(|_| Full)?;
        let place = page.ok_or(Full)? << Self::PAGE_BITS | offset;
        let tail = Arc::make_mut(&mut self.tail);
        tail.extend_from_slice(&entry.row.to_le_bytes());
        tail.extend_from_slice(&entry.tag.to_le_bytes());
        tail.extend_from_slice(&id.to_le_bytes());
        tail.extend_from_slice(&alias.to_le_bytes());
        tail.extend_from_slice(entry.id);
        tail.extend_from_slice(entry.alias);
        Ok(place)
    }

    fn settle(&mut self) {
        Arc::make_mut(&mut self.full).shrink_to_fit();
        Arc::make_mut(&mut self.tail).shrink_to_fit();
    }

    fn bytes(&self) -> usize {
        let pages: usize = self.full.iter().map(|page| page.len() + 16 + size_of::<Arc<[u8]>>()).sum();
        pages + self.tail.capacity()
    }
}

/// Hash tables of places in the arena; each is copied when it changes while it is shared, so there are many small ones.
#[derive(Debug, Clone)]
struct Index {
    tables: Arc<Vec<Arc<HashTable<u32>>>>,
}

impl Index {
    /// A table of this many places is copied in about a microsecond.
    const TABLE: usize = 1536;

    fn with_capacity(places: usize) -> Self {
        let tables = places.div_ceil(Self::TABLE).next_power_of_two();
        Self { tables: Arc::new(vec![Arc::default(); tables]) }
    }

    fn table(&self, hash: u64) -> usize {
        // The table takes its bits from both ends of the hash; these are from the middle.
        (hash >> 32) as usize & (self.tables.len() - 1)
    }

    fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.tables.get(self.table(hash))?.find(hash, |&place| is(place)).copied()
    }

    fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> {
        self.tables.get(self.table(hash)).into_iter().flat_map(move |table| table.iter_hash(hash)).copied()
    }

    fn insert(&mut self, hash: u64, place: u32, rehash: impl Fn(u32) -> u64) {
        let table = self.table(hash);
        if let Some(table) = Arc::make_mut(&mut self.tables).get_mut(table) {
            Arc::make_mut(table).insert_unique(hash, place, |&place| rehash(place));
        }
    }

    fn remove(&mut self, hash: u64, place: Option<u32>) {
        let table = self.table(hash);
        let Some(table) = Arc::make_mut(&mut self.tables).get_mut(table) else { return };
        if let Ok(entry) = Arc::make_mut(table).find_entry(hash, |&other| Some(other) == place) {
            entry.remove();
        }
    }

    fn bytes(&self) -> usize {
        let tables: usize =
            self.tables.iter().map(|table| table.allocation_size() + 16 + size_of::<HashTable<u32>>()).sum();
        tables + self.tables.capacity() * size_of::<Arc<HashTable<u32>>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_id_and_by_alias() {
        let mut names = Names::with_capacity(10_000);
        for row in 0..10_000_u32 {
            assert_eq!(names.describe(&format!("om_{row}"), 7, &format!("user_{row}")).ok(), Some(row));
            names.link(row);
        }
        names.settle();
        for row in 0..10_000 {
            assert_eq!(names.find(&format!("om_{row}")), Some(row));
            assert_eq!(names.find_alias(7, &format!("user_{row}")), Known::Row(row));
            assert_eq!((names.id(row), names.tag(row)), (format!("om_{row}").as_str(), 7));
        }
        assert_eq!(names.find("om_10000"), None);
        assert_eq!(names.find_alias(8, "user_1"), Known::Nothing);
    }

    #[test]
    fn an_alias_that_two_rows_have_names_neither() {
        let mut names = Names::with_capacity(0);
        for id in ["om_1", "om_2"] {
            let row = names.describe(id, 0, "user").unwrap_or_default();
            names.link(row);
        }
        assert_eq!(names.find_alias(0, "user"), Known::Several);
        names.unlink(0);
        assert_eq!(names.find_alias(0, "user"), Known::Row(1));
    }

    #[test]
    fn a_renamed_row_is_not_found_under_its_former_names_and_copies_keep_theirs() {
        let mut names = Names::with_capacity(0);
        let row = names.intern("r").unwrap_or_default();
        let before = names.clone();
        names.rename(row, "r", 3, "external").unwrap_or_default();
        names.link(row);
        assert_eq!((names.find("r"), names.find_alias(3, "external")), (Some(row), Known::Row(row)));
        assert_eq!(
            (before.find("r"), before.find_alias(3, "external"), before.alias(row)),
            (Some(row), Known::Nothing, "")
        );
    }
}
