//! Who holds which roles on which resources, and who is in which groups.
//!
//! Memberships and groups both are holders. What a decision reads of one lies side by side: its mark, its groups, the resources of its
//! grants, the roles of its grants; so a decision waits for memory twice, once for the head of a page and once for the holder.

use std::mem;
use std::ops::Range;
use std::sync::Arc;

use super::RoleIndex;
use super::row::Row;
use crate::domain::at_once::at_once;

/// Holders to a page.
const PAGE: usize = 64;

/// Two words for each holder and the end of the last.
const HEAD: usize = 2 * PAGE + 1;

/// The mark of a holder takes the upper bits of a word, the number of its groups the lower.
///
/// INVARIANT: a mark is below 16, and nobody is in 2^28 groups, because that many fit nowhere.
const GROUP_BITS: u32 = 28;
const GROUPS: u32 = (1 << GROUP_BITS) - 1;

/// From this number of holders on a second thread pays.
const PARALLEL: usize = 20_000;

/// For each holder a mark, a sorted list of groups and a sorted list of grants, both without repetition; in pages of 64 holders. One
/// that was never written has mark 0 and empty lists.
#[derive(Debug, Clone)]
pub struct Holders {
    pages: Arc<Vec<Page>>,
}

/// A head: for each holder where its words begin, and its mark with the number of its groups; and where the words of the last end. Then the
/// words of each holder: its groups; its grants as [`Row::encode`] writes them.
type Page = Arc<[u32]>;

/// What is known of one holder.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    pub mark: u8,
    pub groups: &'a [u32],
    pub grants: Row<'a>,
}

impl Held<'_> {
    const NOTHING: Self = Self { mark: 0, groups: &[], grants: Row::EMPTY };
}

impl Holders {
    /// Packs the holders with these `marks`, whose `groups` are given as (holder, group) and `grants` as (holder, resource, role), both in
    /// any order. What occurs twice is kept once; what is of a holder without a mark is left out.
    pub fn pack(marks: &[u8], groups: &[(u32, u32)], grants: &[(u32, u32, RoleIndex)]) -> Self {
        let (mut groups, mut grants) = (
            Lists::of(marks.len(), groups.iter().map(|&(holder, group)| (holder, group.into()))),
            Lists::of(marks.len(), grants.iter().map(|&(holder, on, role)| (holder, Row::entry(on, role)))),
        );
        let (mut groups, mut grants) = (groups.cut(), grants.cut());
        let middle = marks.len() / PAGE / 2 * PAGE;
        let (first_marks, last_marks) = marks.split_at(middle);
        let (first_groups, first_grants) = (groups.split_off_front(middle), grants.split_off_front(middle));
        let (mut first, last) = at_once(
            marks.len() >= PARALLEL,
            || packed(first_marks, first_groups, first_grants),
            || packed(last_marks, groups, grants),
        );
        first.extend(last);
        Self { pages: Arc::new(first) }
    }

    /// What is known of `holder`.
    #[inline]
    pub fn get(&self, holder: u32) -> Held<'_> {
        let (page, at) = split(holder);
        self.pages.get(page).map_or(Held::NOTHING, |page| held(page, at))
    }

    /// The mark of `holder`.
    #[inline]
    pub fn mark(&self, holder: u32) -> u8 {
        self.get(holder).mark
    }

    pub fn set_mark(&mut self, holder: u32, mark: u8) {
        self.edit(holder, |content| content.mark = mark);
    }

    /// Adds a group; false when it was there.
    pub fn add_group(&mut self, holder: u32, group: u32) -> bool {
        let Err(place) = self.get(holder).groups.binary_search(&group) else { return false };
        self.edit(holder, |content| content.groups.insert(place, group.into()));
        true
    }

    /// Takes a group out; false when it was not there.
    pub fn remove_group(&mut self, holder: u32, group: u32) -> bool {
        let Ok(place) = self.get(holder).groups.binary_search(&group) else { return false };
        self.edit(holder, |content| {
            content.groups.remove(place);
        });
        true
    }

    /// Adds a grant; false when it was there.
    pub fn add_grant(&mut self, holder: u32, on: u32, role: RoleIndex) -> bool {
        let Err(place) = self.get(holder).grants.search(on, role) else { return false };
        self.edit(holder, |content| content.grants.insert(place, Row::entry(on, role)));
        true
    }

    /// Takes a grant out; false when it was not there.
    pub fn remove_grant(&mut self, holder: u32, on: u32, role: RoleIndex) -> bool {
        let Ok(place) = self.get(holder).grants.search(on, role) else { return false };
        self.edit(holder, |content| {
            content.grants.remove(place);
        });
        true
    }

    /// Where a grant stands: its page, and its place among all grants of the page.
    pub fn position(&self, holder: u32, on: u32, role: RoleIndex) -> Option<(usize, usize)> {
        let place = self.get(holder).grants.search(on, role).ok()?;
        let (page, at) = split(holder);
        let page_words = self.pages.get(page)?;
        let before: usize = (0..at).map(|at| held(page_words, at).grants.len()).sum();
        Some((page, before + place))
    }

    /// Number of grants of one page.
    pub fn page_len(&self, page: usize) -> usize {
        self.pages.get(page).map_or(0, grants_of)
    }

    /// Number of grants of all holders.
    pub fn grants(&self) -> usize {
        self.pages.iter().map(grants_of).sum()
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let page = |page: &Page| 16 + size_of::<Page>() + size_of_val(&**page);
        self.pages.iter().map(page).sum::<usize>() + (self.pages.capacity() - self.pages.len()) * size_of::<Page>()
    }

    /// Replaces the page of `holder` by one with what `change` makes of the holder.
    fn edit(&mut self, holder: u32, change: impl FnOnce(&mut Content)) {
        let (page, at) = split(holder);
        let pages = Arc::make_mut(&mut self.pages);
        while pages.len() <= page {
            pages.push(Writer::new().page());
        }
        let Some(page) = pages.get_mut(page) else { return };
        let held = held(page, at);
        let mut content = Content {
            mark: held.mark,
            groups: held.groups.iter().copied().map(u64::from).collect(),
            grants: held.grants.iter().map(|(on, role)| Row::entry(on, role)).collect(),
        };
        change(&mut content);
        let mut writer = Writer::new();
        writer.copy(page, 0..at);
        writer.write(content.mark, &content.groups, &content.grants);
        writer.copy(page, at + 1..PAGE);
        *page = writer.page();
    }
}

/// A holder while it changes.
struct Content {
    mark: u8,
    groups: Vec<u64>,
    grants: Vec<u64>,
}

/// A page in the making.
struct Writer {
    words: Vec<u32>,
    /// The place of the next holder.
    at: usize,
}

impl Writer {
    fn new() -> Self {
        Self { words: vec![0; HEAD], at: 0 }
    }

    /// Appends a holder with these sorted lists.
    fn write(&mut self, mark: u8, groups: &[u64], grants: &[u64]) {
        self.begin(u32::from(mark) << GROUP_BITS | bounded(groups.len()));
        self.words.extend(groups.iter().map(|&group| group as u32));
        Row::encode(grants, &mut self.words);
    }

    /// Appends the holders at `range` of another page.
    fn copy(&mut self, page: &[u32], range: Range<usize>) {
        for at in range {
            self.begin(page.get(2 * at + 1).copied().unwrap_or_default());
            self.words.extend_from_slice(words(page, at));
        }
    }

    /// The finished page; the next one begins.
    fn page(&mut self) -> Page {
        while self.at < PAGE {
            self.begin(0);
        }
        let end = bounded(self.words.len());
        if let Some(last) = self.words.get_mut(HEAD - 1) {
            *last = end;
        }
        let page = self.words.as_slice().into();
        self.words.truncate(HEAD);
        self.at = 0;
        page
    }

    fn begin(&mut self, meta: u32) {
        let begin = bounded(self.words.len());
        if let Some(head) = self.words.get_mut(2 * self.at..2 * self.at + 2) {
            head.copy_from_slice(&[begin, meta]);
        }
        self.at += 1;
    }
}

/// For each holder an unsorted list, one after the other.
struct Lists {
    ends: Vec<u32>,
    entries: Vec<u64>,
}

/// Lists that are taken one by one.
struct Cut<'a> {
    begin: u32,
    ends: &'a [u32],
    entries: &'a mut [u64],
}

impl Lists {
    /// Sorts entries by holder, by counting them.
    fn of(holders: usize, entries: impl Iterator<Item = (u32, u64)> + Clone) -> Self {
        let mut places = vec![0_u32; holders + 1];
        for (holder, _) in entries.clone() {
            if let Some(count) = places.get_mut(holder as usize + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for place in &mut places {
            sum += *place;
            *place = sum;
        }
        let mut sorted = vec![0; sum as usize];
        for (holder, entry) in entries {
            let Some(place) = places.get_mut(holder as usize).filter(|_| (holder as usize) < holders) else { continue };
            if let Some(slot) = sorted.get_mut(*place as usize) {
                *slot = entry;
            }
            *place += 1;
        }
        // Every place moved from the begin of its list to the end.
        places.truncate(holders);
        Self { ends: places, entries: sorted }
    }

    fn cut(&mut self) -> Cut<'_> {
        Cut { begin: 0, ends: &self.ends, entries: &mut self.entries }
    }
}

impl<'a> Cut<'a> {
    /// The next list, sorted, without repetition.
    fn next(&mut self) -> &'a [u64] {
        let list = self.split_off_front(1).entries;
        list.sort_unstable();
        let mut kept = 0;
        for place in 0..list.len() {
            let entry = list.get(place).copied();
            if kept == 0 || list.get(kept - 1).copied() != entry {
                list.swap(kept, place);
                kept += 1;
            }
        }
        list.get(..kept).unwrap_or_default()
    }

    /// The first `holders` lists; the rest stays.
    fn split_off_front(&mut self, holders: usize) -> Self {
        let (ends, rest) = self.ends.split_at_checked(holders).unwrap_or((self.ends, &[]));
        let end = ends.last().copied().unwrap_or(self.begin);
        let entries = mem::take(&mut self.entries);
        let (entries, left) = entries.split_at_mut(entries.len().min((end - self.begin) as usize));
        let front = Self { begin: self.begin, ends, entries };
        (self.begin, self.ends, self.entries) = (end, rest, left);
        front
    }
}

/// The pages of holders with these `marks`.
fn packed(marks: &[u8], mut groups: Cut<'_>, mut grants: Cut<'_>) -> Vec<Page> {
    let mut writer = Writer::new();
    let page = |marks: &[u8]| {
        for &mark in marks {
            writer.write(mark, groups.next(), grants.next());
        }
        writer.page()
    };
    marks.chunks(PAGE).map(page).collect()
}

#[inline]
fn split(holder: u32) -> (usize, usize) {
    (holder as usize / PAGE, holder as usize % PAGE)
}

#[inline]
fn held(page: &[u32], at: usize) -> Held<'_> {
    let Some(&[begin, meta, end]) = page.get(2 * at..).and_then(|head| head.first_chunk()) else {
        return Held::NOTHING;
    };
    let words = page.get(begin as usize..end as usize).unwrap_or_default();
    let (groups, grants) = words.split_at_checked((meta & GROUPS) as usize).unwrap_or_default();
    Held { mark: (meta >> GROUP_BITS) as u8, groups, grants: Row::decode(grants) }
}

fn words(page: &[u32], at: usize) -> &[u32] {
    let Some(&[begin, _, end]) = page.get(2 * at..).and_then(|head| head.first_chunk()) else { return &[] };
    page.get(begin as usize..end as usize).unwrap_or_default()
}

fn grants_of(page: &Page) -> usize {
    (0..PAGE).map(|at| held(page, at).grants.len()).sum()
}

/// INVARIANT: a page holds fewer than 2^32 words, because a shard does.
fn bounded(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    type Content = (BTreeSet<(u32, u32)>, BTreeSet<(u32, u32, RoleIndex)>);

    fn content(holders: &Holders, count: u32) -> Content {
        let groups = |holder| holders.get(holder).groups.iter().map(move |&group| (holder, group));
        let grants = |holder| holders.get(holder).grants.iter().map(move |(on, role)| (holder, on, role));
        ((0..count).flat_map(groups).collect(), (0..count).flat_map(grants).collect())
    }

    fn role() -> impl Strategy<Value = RoleIndex> {
        (0..3_u32).prop_map(|place| RoleIndex::environment(place).unwrap())
    }

    proptest! {
        #[test]
        fn packed_and_edited_holders_hold_what_sorted_sets_hold(
            groups in prop::collection::vec((0..200_u32, 0..6_u32), 0..300),
            grants in prop::collection::vec((0..200_u32, 0..6_u32, role()), 0..300),
            edits in prop::collection::vec((0..4, 0..300_u32, 0..6_u32, role()), 0..60),
        ) {
            let mut holders = Holders::pack(&[1; 200], &groups, &grants);
            let before = holders.clone();
            let packed: Content = (groups.into_iter().collect(), grants.into_iter().collect());
            let mut expected = packed.clone();
            for (edit, holder, key, role) in edits {
                let (changed, change) = match edit {
                    0 => (holders.add_group(holder, key), expected.0.insert((holder, key))),
                    1 => (holders.remove_group(holder, key), expected.0.remove(&(holder, key))),
                    2 => (holders.add_grant(holder, key, role), expected.1.insert((holder, key, role))),
                    _ => (holders.remove_grant(holder, key, role), expected.1.remove(&(holder, key, role))),
                };
                prop_assert_eq!(changed, change);
                holders.set_mark(holder, 2);
                prop_assert_eq!(holders.mark(holder), 2);
            }
            prop_assert_eq!(holders.grants(), expected.1.len());
            prop_assert_eq!(content(&holders, 300), expected);
            prop_assert_eq!(content(&before, 300), packed);
        }
    }
}
