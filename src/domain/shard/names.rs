//! Names of rows: from text to a dense row number and back.
//!
//! A row has an id, and may have an alias with a small tag: a membership its user, a resource its external id tagged with its type.
//! Id and alias of a row stand side by side in one arena, so that finding a row by either and comparing the other touches one place
//! in memory. Row numbers are given in order of first mention and stay.

mod arena;
mod index;

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;

pub use self::arena::Full;
use self::arena::{Arena, Entry};
use self::index::{Index, Slot};
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

/// A row that a mention of an id led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// One that this mention made.
    New(u32),
    /// One that was there.
    Old(u32),
}

impl Names {
    /// Names searched for at a time: so many that the memory is busy with all of them, so few that they fit the nearest cache.
    const BLOCK: usize = 32;

    /// Room for `rows` rows, and for `aliases` of them to be linked.
    pub fn with_capacity(rows: usize, aliases: usize) -> Self {
        Self {
            arena: Arena::default(),
            places: Pages::new(),
            ids: Index::with_capacity(rows),
            aliases: Index::with_capacity(aliases),
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
        let entry = self.search(self.hash(0, id.as_bytes()), id)?;
        Some((entry.row, entry.alias))
    }

    /// For each id its row, `None` where there is none, and for no text. Many at a time are found much quicker than one by one: what they wait for, they
    /// wait for together. Ids that repeat the one before cost next to nothing.
    pub fn find_all<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Vec<Option<u32>> {
        let mut found = Vec::with_capacity(ids.size_hint().0);
        let mut block: Vec<&str> = Vec::with_capacity(Self::BLOCK);
        // For each id since the last full block its place in the block.
        let mut pending: Vec<usize> = Vec::new();
        for id in ids {
            if block.last() != Some(&id) {
                if block.len() == Self::BLOCK {
                    self.find_block(&block, &mut pending, &mut found);
                    block.clear();
                }
                block.push(id);
            }
            pending.push(block.len() - 1);
        }
        self.find_block(&block, &mut pending, &mut found);
        found
    }

    /// Step by step, and in each step all of them: no step of one depends on another.
    fn find_block(&self, block: &[&str], pending: &mut Vec<usize>, found: &mut Vec<Option<u32>>) {
        let mut hashes = [0; Self::BLOCK];
        for (hash, id) in hashes.iter_mut().zip(block) {
            *hash = self.hash(0, id.as_bytes());
        }
        let mut firsts = [Slot::FREE; Self::BLOCK];
        for (first, &hash) in firsts.iter_mut().zip(hashes.iter().take(block.len())) {
            *first = self.ids.candidates(hash).first();
        }
        let mut places = [None; Self::BLOCK];
        for ((place, &hash), first) in places.iter_mut().zip(&hashes).zip(firsts.iter().take(block.len())) {
            *place = self.ids.candidates(hash).likely(*first);
        }
        let mut entries = [Entry::NONE; Self::BLOCK];
        for (entry, place) in entries.iter_mut().zip(places) {
            *entry = place.map_or(Entry::NONE, |place| self.arena.entry(place));
        }
        let mut rows = [None; Self::BLOCK];
        for (((row, entry), &hash), id) in rows.iter_mut().zip(entries).zip(&hashes).zip(block) {
            let likely = (entry.id == id.as_bytes()).then_some(entry.row);
            *row = likely.or_else(|| Some(self.search(hash, id)?.row)).filter(|_| !id.is_empty());
        }
        found.extend(pending.drain(..).map(|place| rows.get(place).copied().flatten()));
    }

    /// The row that is linked under this alias.
    pub fn find_alias(&self, tag: u16, alias: &str) -> Known {
        let mut known = Known::Nothing;
        for place in self.aliases.candidates(self.hash(tag, alias.as_bytes())) {
            let entry = self.arena.entry(place);
            if entry.alias == alias.as_bytes() && entry.tag == tag {
                match known {
                    Known::Nothing => known = Known::Row(entry.row),
                    Known::Row(_) | Known::Several => return Known::Several,
                }
            }
        }
        known
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
        match self.enter(id, 0, "")? {
            Entered::New(row) | Entered::Old(row) => Ok(row),
        }
    }

    /// The row with this id, a new one with this alias if there is none. The alias is not linked yet.
    pub fn enter(&mut self, id: &str, tag: u16, alias: &str) -> Result<Entered, Full> {
        let hash = self.hash(0, id.as_bytes());
        if let Some(entry) = self.search(hash, id) {
            return Ok(Entered::Old(entry.row));
        }
        let row = self.len();
        let place = self.arena.append(Entry { row, tag, id: id.as_bytes(), alias: alias.as_bytes() })?;
        self.places.push(place);
        self.ids.insert(hash, place);
        Ok(Entered::New(row))
    }

    /// The row with this id, a new one if there is none, with this alias from now on. The alias is not linked yet.
    pub fn describe(&mut self, id: &str, tag: u16, alias: &str) -> Result<u32, Full> {
        match self.enter(id, tag, alias)? {
            Entered::New(row) => Ok(row),
            Entered::Old(row) => self.rename(row, id, tag, alias).map(|()| row),
        }
    }

    /// Gives `row` this id and alias. The former alias must not be linked.
    pub fn rename(&mut self, row: u32, id: &str, tag: u16, alias: &str) -> Result<(), Full> {
        let Some(former_place) = self.places.get(row) else { return Ok(()) };
        let former = self.arena.entry(former_place);
        if (former.id, former.tag, former.alias) == (id.as_bytes(), tag, alias.as_bytes()) {
            return Ok(());
        }
        if !former.id.is_empty() {
            self.ids.remove(self.hash(0, former.id), former_place);
        }
        let place = self.arena.append(Entry { row, tag, id: id.as_bytes(), alias: alias.as_bytes() })?;
        self.places.set(row, place);
        self.ids.insert(self.hash(0, id.as_bytes()), place);
        Ok(())
    }

    /// Makes `row` known under its alias.
    pub fn link(&mut self, row: u32) {
        let entry = self.entry(row);
        let hash = self.hash(entry.tag, entry.alias);
        if let Some(place) = self.places.get(row) {
            self.aliases.insert(hash, place);
        }
    }

    /// Makes `row` known under its alias, unless another is; whether it is now.
    #[must_use]
    pub fn link_alone(&mut self, row: u32) -> bool {
        let entry = self.entry(row);
        let hash = self.hash(entry.tag, entry.alias);
        let mut others = self.aliases.candidates(hash).map(|place| self.arena.entry(place));
        if others.any(|other| (other.tag, other.alias) == (entry.tag, entry.alias)) {
            return false;
        }
        if let Some(place) = self.places.get(row) {
            self.aliases.insert(hash, place);
        }
        true
    }

    /// Makes `row` unknown under its alias.
    pub fn unlink(&mut self, row: u32) {
        let entry = self.entry(row);
        let hash = self.hash(entry.tag, entry.alias);
        if let Some(place) = self.places.get(row) {
            self.aliases.remove(hash, place);
        }
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

    #[inline]
    fn search(&self, hash: u64, id: &str) -> Option<Entry<'_>> {
        self.ids.candidates(hash).map(|place| self.arena.entry(place)).find(|entry| entry.id == id.as_bytes())
    }

    #[inline]
    fn hash(&self, tag: u16, text: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(text);
        hasher.write_u16(tag);
        hasher.finish()
    }
}

/// INVARIANT: the arena holds what was text when it came in.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_id_and_by_alias() {
        let mut names = Names::with_capacity(10_000, 10_000);
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
        let mut names = Names::with_capacity(0, 0);
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
        let mut names = Names::with_capacity(0, 0);
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
