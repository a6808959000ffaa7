//! Sets of permissions as bits.

/// The place of a permission in the catalog; never given to another permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PermissionIndex(pub(in crate::domain) u32);

/// A set of permissions: one bit for each, 64 to a word, no trailing empty words. Absent words mean absent permissions, so a set stays
/// valid when the catalog grows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PermissionSet(Box<[u64]>);

impl PermissionSet {
    /// Whether `permission` is in the set.
    pub fn contains(&self, permission: PermissionIndex) -> bool {
        let (word, bit) = position(permission);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Every permission in the set, in the order of the catalog.
    pub fn iter(&self) -> impl Iterator<Item = PermissionIndex> {
        (0_u32..).zip(&self.0).flat_map(|(place, &word)| {
            (0..u64::BITS)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| PermissionIndex(place * u64::BITS + bit))
        })
    }

    /// How many permissions are in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes on the heap.
    pub(in crate::domain) fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}

impl FromIterator<PermissionIndex> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = PermissionIndex>>(permissions: I) -> Self {
        let mut words = Vec::new();
        for permission in permissions {
            let (word, bit) = position(permission);
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            if let Some(word) = words.get_mut(word) {
                *word |= bit;
            }
        }
        Self(words.into())
    }
}

fn position(permission: PermissionIndex) -> (usize, u64) {
    ((permission.0 / u64::BITS) as usize, 1 << (permission.0 % u64::BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_exactly_what_was_put_in() {
        let members = [0, 63, 64, 700];
        let set: PermissionSet = members.into_iter().map(PermissionIndex).collect();
        assert_eq!(set.iter().map(|permission| permission.0).collect::<Vec<_>>(), members);
        assert_eq!((set.len(), set.is_empty()), (4, false));
        assert!(PermissionSet::from_iter([]).is_empty());
        assert!((0..2_000).all(|place| set.contains(PermissionIndex(place)) == members.contains(&place)));
    }
}
