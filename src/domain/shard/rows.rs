//! Sorted lists, one for each row, packed page by page: who is in which groups, who holds which roles on which resources.

use std::ops::Range;
use std::sync::Arc;

const PAGE: usize = 64;

/// Lists up to this length are scanned before they are halved: that is quicker, and most hold nothing that is looked for.
const SCANNED: usize = 64;

/// For each row a sorted list of (key, tag) without repetition, in pages of 64 rows; a row that was never written is empty.
#[derive(Debug, Clone)]
pub struct Rows<T> {
    pages: Arc<Vec<Arc<Page<T>>>>,
}

/// The lists of 64 rows, one after the other. Keys and tags lie apart because most searches look at keys only.
#[derive(Debug, Clone)]
struct Page<T> {
    keys: Box<[u32]>,
    tags: Box<[T]>,
    /// Where each list ends; it begins where the one before ends.
    ends: [u32; PAGE],
}

/// One list, borrowed: `keys` and `tags` have the same length, and the pairs are sorted.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a, T> {
    pub keys: &'a [u32],
    pub tags: &'a [T],
}

impl<T: Copy + Ord> Rows<T> {
    pub fn new() -> Self {
        Self { pages: Arc::default() }
    }

    /// Packs `entries` of (row, key, tag), in any order, for rows below `rows`; what occurs twice is kept once.
    pub fn pack(rows: u32, entries: &[(u32, u32, T)]) -> Self {
        let rows = rows as usize;
        let mut starts = vec![0_u32; rows + 1];
        for &(row, ..) in entries {
            if let Some(count) = starts.get_mut(row as usize + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let Some(&(.., filler)) = entries.first() else { return Self::new() };
        let mut sorted = vec![(0_u32, filler); sum as usize];
        let mut next = starts.clone();
        for &(row, key, tag) in entries {
            let Some(place) = next.get_mut(row as usize) else { continue };
            if let Some(slot) = sorted.get_mut(*place as usize) {
                *slot = (key, tag);
            }
            *place += 1;
        }
        let mut pages = Vec::with_capacity(rows.div_ceil(PAGE));
        let (mut keys, mut tags) = (Vec::new(), Vec::new());
        for first in (0..rows).step_by(PAGE) {
            let mut ends = [0; PAGE];
            keys.clear();
            tags.clear();
            for (row, end) in (first..).zip(&mut ends) {
                let bounds = (starts.get(row).copied(), starts.get(row + 1).copied());
                if let (Some(start), Some(stop)) = bounds
                    && let Some(list) = sorted.get_mut(start as usize..stop as usize)
                {
                    list.sort_unstable();
                    let mut last = None;
                    for &entry in list.iter() {
                        if last.replace(entry) != Some(entry) {
                            keys.push(entry.0);
                            tags.push(entry.1);
                        }
                    }
                }
                *end = bounded(keys.len());
            }
            pages.push(Arc::new(Page { keys: keys.as_slice().into(), tags: tags.as_slice().into(), ends }));
        }
        Self { pages: Arc::new(pages) }
    }

    /// The list of `row`.
    pub fn row(&self, row: u32) -> Row<'_, T> {
        const EMPTY: &[u32] = &[];
        let (page, at) = split(row);
        let Some(page) = self.pages.get(page) else { return Row { keys: EMPTY, tags: &[] } };
        let range = page.range(at);
        match (page.keys.get(range.clone()), page.tags.get(range)) {
            (Some(keys), Some(tags)) => Row { keys, tags },
            _ => Row { keys: EMPTY, tags: &[] },
        }
    }

    /// Where an entry stands: its page and its place in the page.
    pub fn position(&self, row: u32, key: u32, tag: T) -> Option<(usize, usize)> {
        let place = self.row(row).search(key, tag).ok()?;
        let (page, at) = split(row);
        Some((page, self.pages.get(page)?.range(at).start + place))
    }

    /// Number of entries of one page.
    pub fn page_len(&self, page: usize) -> usize {
        self.pages.get(page).map_or(0, |page| page.keys.len())
    }

    /// Adds an entry; false when it was there.
    pub fn insert(&mut self, row: u32, key: u32, tag: T) -> bool {
        let Err(place) = self.row(row).search(key, tag) else { return false };
        let (page, at) = split(row);
        let pages = Arc::make_mut(&mut self.pages);
        while pages.len() <= page {
            pages.push(Arc::new(Page { keys: Box::default(), tags: Box::default(), ends: [0; PAGE] }));
        }
        if let Some(page) = pages.get_mut(page) {
            let start = page.range(at).start + place;
            *page = Arc::new(page.edited(at, start..start, Some((key, tag))));
        }
        true
    }

    /// Takes an entry out; false when it was not there.
    pub fn remove(&mut self, row: u32, key: u32, tag: T) -> bool {
        let Ok(place) = self.row(row).search(key, tag) else { return false };
        let (page, at) = split(row);
        if let Some(page) = Arc::make_mut(&mut self.pages).get_mut(page) {
            let start = page.range(at).start + place;
            *page = Arc::new(page.edited(at, start..start + 1, None));
        }
        true
    }

    /// Number of entries of all rows.
    pub fn entries(&self) -> usize {
        self.pages.iter().map(|page| page.keys.len()).sum()
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let entries = self.entries() * (size_of::<u32>() + size_of::<T>());
        let pages = self.pages.len() * (16 + size_of::<Page<T>>());
        self.pages.capacity() * size_of::<Arc<Page<T>>>() + pages + entries
    }
}

impl<T: Copy> Page<T> {
    fn range(&self, at: usize) -> Range<usize> {
        let end = |at: usize| self.ends.get(at).map_or(0, |&end| end as usize);
        at.checked_sub(1).map_or(0, end)..end(at)
    }

    /// This page with one entry of row `at` put in or taken out; `gap` is the place of either in the page.
    fn edited(&self, at: usize, gap: Range<usize>, entry: Option<(u32, T)>) -> Self {
        let (before, after) = (gap.start, gap.end);
        let mut ends = self.ends;
        for end in ends.iter_mut().skip(at) {
            *end = if entry.is_some() { *end + 1 } else { end.saturating_sub(1) };
        }
        Self {
            keys: spliced(&self.keys, before, after, entry.map(|(key, _)| key)),
            tags: spliced(&self.tags, before, after, entry.map(|(_, tag)| tag)),
            ends,
        }
    }
}

impl<'a, T: Copy + Ord> Row<'a, T> {
    pub fn iter(self) -> impl Iterator<Item = (u32, T)> + 'a {
        self.keys.iter().copied().zip(self.tags.iter().copied())
    }

    /// The first entry with one of `keys`, in their order, whose tag is wanted.
    pub fn find(self, keys: &[u32], wanted: impl Fn(T) -> bool) -> Option<(u32, T)> {
        for &key in keys {
            if self.may_contain(key)
                && let Some(&tag) = self.tags_of(key).iter().find(|&&tag| wanted(tag))
            {
                return Some((key, tag));
            }
        }
        None
    }

    /// Looks at every key of a short list, without a branch between them; lets a long one pass.
    fn may_contain(self, key: u32) -> bool {
        self.keys.len() > SCANNED || self.keys.iter().fold(false, |found, &other| found | (other == key))
    }

    /// The tags of the entries with this key.
    pub fn tags_of(self, key: u32) -> &'a [T] {
        let start = self.keys.partition_point(|&other| other < key);
        let length = self.keys.get(start..).unwrap_or_default().iter().take_while(|&&other| other == key).count();
        self.tags.get(start..start + length).unwrap_or_default()
    }

    fn search(self, key: u32, tag: T) -> Result<usize, usize> {
        let start = self.keys.partition_point(|&other| other < key);
        match self.tags_of(key).binary_search(&tag) {
            Ok(place) => Ok(start + place),
            Err(place) => Err(start + place),
        }
    }
}

fn split(row: u32) -> (usize, usize) {
    (row as usize / PAGE, row as usize % PAGE)
}

fn spliced<T: Copy>(list: &[T], before: usize, after: usize, entry: Option<T>) -> Box<[T]> {
    let mut spliced = Vec::with_capacity((list.len() + usize::from(entry.is_some())).saturating_sub(after - before));
    spliced.extend_from_slice(list.get(..before).unwrap_or(list));
    spliced.extend(entry);
    spliced.extend_from_slice(list.get(after..).unwrap_or_default());
    spliced.into()
}

/// INVARIANT: a page holds fewer than 2^32 entries, because a shard does.
fn bounded(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn lists(rows: &Rows<u16>, count: u32) -> Vec<(u32, u32, u16)> {
        (0..count).flat_map(|row| rows.row(row).iter().map(move |(key, tag)| (row, key, tag))).collect()
    }

    proptest! {
        #[test]
        fn packed_and_edited_rows_hold_what_a_sorted_set_holds(
            packed in prop::collection::vec((0..200_u32, 0..6_u32, 0..3_u16), 0..300),
            edits in prop::collection::vec((any::<bool>(), 0..300_u32, 0..6_u32, 0..3_u16), 0..60),
        ) {
            let mut expected: BTreeSet<_> = packed.iter().copied().collect();
            let mut rows = Rows::pack(200, &packed);
            let before = rows.clone();
            for (add, row, key, tag) in edits {
                let changed = if add { rows.insert(row, key, tag) } else { rows.remove(row, key, tag) };
                prop_assert_eq!(changed, if add { expected.insert((row, key, tag)) } else { expected.remove(&(row, key, tag)) });
            }
            prop_assert_eq!(lists(&rows, 300), expected.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(lists(&before, 300), packed.into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>());
        }
    }
}
