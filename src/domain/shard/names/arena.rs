//! Names as they lie in memory: one after the other, in pages that are never changed once they are full.

use std::sync::Arc;

/// The names of one row, as they stand in the arena.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    pub row: u32,
    pub tag: u16,
    pub id: &'a [u8],
    pub alias: &'a [u8],
}

/// A text does not fit: more than 4 GiB of names.
#[derive(Debug, Clone, Copy)]
pub struct Full;

impl Entry<'_> {
    /// row: 4, tag: 2, length of the id: 2, length of the alias: 2.
    pub const HEADER: usize = 10;
    pub const NONE: Self = Self { row: u32::MAX, tag: 0, id: &[], alias: &[] };

    fn bytes(&self) -> usize {
        Self::HEADER + self.id.len() + self.alias.len()
    }
}

/// Entries, one after the other, in pages of 8 KiB that no entry crosses.
#[derive(Debug, Clone, Default)]
pub struct Arena {
    full: Arc<Vec<Arc<[u8]>>>,
    tail: Arc<Vec<u8>>,
}

impl Arena {
    const PAGE_BITS: u32 = 13;
    const PAGE: usize = 1 << Self::PAGE_BITS;

    #[inline]
    pub fn entry(&self, place: u32) -> Entry<'_> {
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
    pub fn append(&mut self, entry: Entry<'_>) -> Result<u32, Full> {
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

    pub fn settle(&mut self) {
        Arc::make_mut(&mut self.full).shrink_to_fit();
        Arc::make_mut(&mut self.tail).shrink_to_fit();
    }

    pub fn bytes(&self) -> usize {
        let pages: usize = self.full.iter().map(|page| page.len() + 16 + size_of::<Arc<[u8]>>()).sum();
        pages + self.tail.capacity()
    }
}
