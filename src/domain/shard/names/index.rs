//! Hash tables of places in the arena.
//!
//! Each slot holds half of the hash of what stands at the place: nothing but the text that is looked for is read on the way, a table grows
//! without reading any text, and a look-up usually touches one cache line of the table. A table is copied when it changes while it is
//! shared, so there are many small ones.

use std::sync::Arc;

/// Tables of places, told apart by the upper half of a hash.
#[derive(Debug, Clone)]
pub struct Index {
    tables: Arc<Vec<Arc<Table>>>,
}

/// Open addressing with linear probing; at most three of four slots are taken.
#[derive(Debug, Clone, Default)]
struct Table {
    slots: Box<[Slot]>,
    taken: usize,
}

/// One place, and the lower half of the hash of what stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    stamp: u32,
    place: u32,
}

/// The places that a search comes by.
#[derive(Debug, Clone)]
pub struct Candidates<'a> {
    slots: &'a [Slot],
    stamp: u32,
    at: usize,
}

impl Index {
    /// A table of this many places is copied in less than a microsecond.
    const TABLE: usize = 640;

    /// Room for `places` places.
    pub fn with_capacity(places: usize) -> Self {
        let tables = places.div_ceil(Self::TABLE).max(1);
        // Even the fullest of many tables stays below the limit then.
        let slots = places.div_ceil(tables) * 8 / 5;
        Self { tables: Arc::new((0..tables).map(|_| Arc::new(Table::with_slots(slots))).collect()) }
    }

    /// Every place under `hash`, and with hardly any chance some others.
    #[inline]
    pub fn candidates(&self, hash: u64) -> Candidates<'_> {
        let slots = self.table(hash).map_or(&[][..], |table| &table.slots);
        Candidates { slots, stamp: stamp(hash), at: scaled(stamp(hash), slots.len()) }
    }

    /// Adds a place.
    pub fn insert(&mut self, hash: u64, place: u32) {
        let at = self.table_at(hash);
        if let Some(table) = Arc::make_mut(&mut self.tables).get_mut(at) {
            Arc::make_mut(table).insert(Slot { stamp: stamp(hash), place });
        }
    }

    /// Takes a place out.
    pub fn remove(&mut self, hash: u64, place: u32) {
        let at = self.table_at(hash);
        if let Some(table) = Arc::make_mut(&mut self.tables).get_mut(at) {
            Arc::make_mut(table).remove(Slot { stamp: stamp(hash), place });
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let table = |table: &Arc<Table>| 16 + size_of::<Table>() + size_of_val(&*table.slots);
        self.tables.iter().map(table).sum::<usize>() + self.tables.capacity() * size_of::<Arc<Table>>()
    }

    #[inline]
    fn table(&self, hash: u64) -> Option<&Table> {
        self.tables.get(self.table_at(hash)).map(|table| &**table)
    }

    #[inline]
    fn table_at(&self, hash: u64) -> usize {
        scaled((hash >> 32) as u32, self.tables.len())
    }
}

impl Table {
    fn with_slots(slots: usize) -> Self {
        Self { slots: vec![Slot::FREE; slots].into(), taken: 0 }
    }

    #[inline]
    fn home(&self, stamp: u32) -> usize {
        scaled(stamp, self.slots.len())
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 < self.slots.len() { at + 1 } else { 0 }
    }

    fn insert(&mut self, slot: Slot) {
        if (self.taken + 1) * 4 > self.slots.len() * 3 {
            let larger = Self::with_slots((self.slots.len() * 3 / 2).max(8));
            let former = std::mem::replace(self, larger);
            former.slots.iter().filter(|slot| !slot.is_free()).for_each(|&slot| self.insert(slot));
        }
        let mut at = self.home(slot.stamp);
        while self.slots.get(at).is_some_and(|slot| !slot.is_free()) {
            at = self.after(at);
        }
        self.set(at, slot);
        self.taken += 1;
    }

    fn remove(&mut self, slot: Slot) {
        let mut at = self.home(slot.stamp);
        while let Some(other) = self.slots.get(at).filter(|slot| !slot.is_free()) {
            if *other == slot {
                self.taken -= 1;
                return self.close(at);
            }
            at = self.after(at);
        }
    }

    /// Frees the slot at `at`; what was pushed past it moves nearer to its home, so that no search ends too early.
    fn close(&mut self, mut at: usize) {
        let mut next = self.after(at);
        while let Some(&slot) = self.slots.get(next).filter(|slot| !slot.is_free()) {
            let length = self.slots.len();
            let distance = |from: usize| (next + length - from) % length;
            if distance(self.home(slot.stamp)) >= distance(at) {
                self.set(at, slot);
                at = next;
            }
            next = self.after(next);
        }
        self.set(at, Slot::FREE);
    }

    fn set(&mut self, at: usize, slot: Slot) {
        if let Some(place) = self.slots.get_mut(at) {
            *place = slot;
        }
    }
}

impl Candidates<'_> {
    /// The slot that the search begins with.
    #[inline]
    pub fn first(&self) -> Slot {
        self.slots.get(self.at).copied().unwrap_or(Slot::FREE)
    }

    /// The place that the search finds first, given the slot it begins with.
    #[inline]
    pub fn likely(&mut self, first: Slot) -> Option<u32> {
        if first.stamp == self.stamp && !first.is_free() { Some(first.place) } else { self.next() }
    }
}

impl Iterator for Candidates<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        // INVARIANT: a quarter of the slots is free, so this ends.
        loop {
            let slot = *self.slots.get(self.at).filter(|slot| !slot.is_free())?;
            self.at = if self.at + 1 < self.slots.len() { self.at + 1 } else { 0 };
            if slot.stamp == self.stamp {
                return Some(slot.place);
            }
        }
    }
}

impl Slot {
    /// INVARIANT: nothing begins at the very end of the arena, so no place is `u32::MAX`.
    pub const FREE: Self = Self { stamp: 0, place: u32::MAX };

    #[inline]
    fn is_free(self) -> bool {
        self.place == Self::FREE.place
    }
}

#[inline]
fn stamp(hash: u64) -> u32 {
    hash as u32
}

/// `part` of 2^32, as the same part of `length`.
#[inline]
fn scaled(part: u32, length: usize) -> usize {
    ((u64::from(part) * length as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few hashes, so that many places collide and are pushed past each other and around the end.
        #[test]
        fn an_index_holds_what_was_put_in_and_not_taken_out(
            edits in prop::collection::vec((any::<bool>(), 0..12_u64, 0..6_u32), 0..200),
        ) {
            let mut index = Index::with_capacity(0);
            let mut expected = BTreeSet::new();
            for (add, hash, place) in edits {
                // INVARIANT of arenas: a place has one hash.
                let (hash, place) = (hash * 0x1555_5555, place * 12 + hash as u32);
                if !add {
                    index.remove(hash, place);
                    expected.remove(&(hash, place));
                } else if expected.insert((hash, place)) {
                    index.insert(hash, place);
                }
            }
            for hash in (0..12).map(|hash| hash * 0x1555_5555) {
                let found: BTreeSet<_> = index.candidates(hash).map(|place| (hash, place)).collect();
                let wanted: BTreeSet<_> = expected.iter().copied().filter(|&(other, _)| other == hash).collect();
                prop_assert_eq!(found, wanted);
            }
        }
    }
}
