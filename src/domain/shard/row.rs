//! The grants of one holder: a sorted list of (resource, role) in a few words, and how it is searched.

use super::RoleIndex;
use super::chain::{Chain, LANES};

/// Lists up to this length are looked at as a whole before they are halved: that is quicker, and most hold nothing that is looked for.
const SCANNED: usize = 64;

/// Sorted grants without repetition, borrowed: all resources, then all roles, two to a word.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    keys: &'a [u32],
    roles: &'a [u32],
}

impl<'a> Row<'a> {
    pub const EMPTY: Self = Self { keys: &[], roles: &[] };

    /// A grant as one number, in the order of grants.
    pub fn entry(on: u32, role: RoleIndex) -> u64 {
        u64::from(on) << 16 | u64::from(role.bits())
    }

    /// Appends sorted `entries` to `words`.
    pub fn encode(entries: &[u64], words: &mut Vec<u32>) {
        words.extend(entries.iter().map(|entry| (entry >> 16) as u32));
        let role = |entry: &u64| u32::from(*entry as u16);
        words.extend(entries.chunks(2).map(|pair| pair.iter().rev().fold(0, |word, entry| word << 16 | role(entry))));
    }

    /// Reads what [`encode`](Self::encode) wrote.
    #[inline]
    pub fn decode(words: &'a [u32]) -> Self {
        let (keys, roles) = words.split_at_checked(words.len() * 2 / 3).unwrap_or_default();
        Self { keys, roles }
    }

    /// Number of grants.
    pub fn len(self) -> usize {
        self.keys.len()
    }

    pub fn iter(self) -> impl Iterator<Item = (u32, RoleIndex)> + 'a {
        (0..).zip(self.keys).map(move |(place, &key)| (key, self.role(place)))
    }

    /// The first grant on one of `chain`, in the order of that, whose role is wanted.
    #[inline]
    pub fn find(self, chain: &Chain, wanted: impl Fn(RoleIndex) -> bool) -> Option<(u32, RoleIndex)> {
        if self.keys.len() <= SCANNED && !self.meets(chain) {
            return None;
        }
        chain.iter().find_map(|&on| Some((on, self.roles_on(on).find(|&role| wanted(role))?)))
    }

    /// The roles held on this resource.
    #[inline]
    pub fn roles_on(self, on: u32) -> impl Iterator<Item = RoleIndex> + 'a {
        let start = self.keys.partition_point(|&other| other < on);
        let same = self.keys.get(start..).unwrap_or_default().iter().take_while(move |&&other| other == on);
        (start..).zip(same).map(move |(place, _)| self.role(place))
    }

    /// The place of a grant, or the place it belongs at.
    pub fn search(self, on: u32, role: RoleIndex) -> Result<usize, usize> {
        let mut place = self.keys.partition_point(|&other| other < on);
        for other in self.roles_on(on) {
            if other >= role {
                return if other == role { Ok(place) } else { Err(place) };
            }
            place += 1;
        }
        Err(place)
    }

    #[inline]
    fn role(self, place: usize) -> RoleIndex {
        let word = self.roles.get(place / 2).copied().unwrap_or_default();
        RoleIndex::of_bits((word >> (16 * (place % 2))) as u16)
    }

    /// Whether any grant is on one of `chain`: every one compared with every one, many at a time and without a branch between them.
    #[inline]
    fn meets(self, chain: &Chain) -> bool {
        let (blocks, rest) = self.keys.as_chunks();
        let mut met = 0;
        for above in chain.blocks() {
            for block in blocks {
                met |= common(block, above);
            }
            if let Some(&first) = rest.first() {
                let mut block = [first; LANES];
                match self.keys.last_chunk() {
                    Some(last) => block = *last,
                    None => block.iter_mut().zip(rest).for_each(|(lane, &key)| *lane = key),
                }
                met |= common(&block, above);
            }
        }
        met != 0
    }
}

/// Not 0 when the two have anything in common.
#[inline]
fn common(some: &[u32; LANES], others: &[u32; LANES]) -> u32 {
    let mut met = [0; LANES];
    for other in others {
        for (lane, one) in met.iter_mut().zip(some) {
            *lane |= u32::from(one == other);
        }
    }
    met.iter().fold(0, |any, lane| any | lane)
}
