//! A resource and what it stands below.

use std::ops::Deref;

use super::{MAX_DEPTH, Node, Pages, ROOT};

/// How many resources are compared at a time.
pub const LANES: usize = 8;

/// A resource and what it stands below, nearest first, without the root.
#[derive(Debug, Clone, Copy)]
pub struct Chain {
    /// Filled up with what is no resource.
    rows: [u32; MAX_DEPTH],
    length: usize,
}

impl Chain {
    /// INVARIANT: numbers of resources are below 2^31.
    const NONE: u32 = u32::MAX;

    /// The way from `resource` up to the root, as far as it is there and not longer than it may be.
    #[inline]
    pub fn above(tree: &Pages<Node>, resource: u32) -> Self {
        let mut chain = Self { rows: [Self::NONE; MAX_DEPTH], length: 0 };
        let mut at = resource;
        for row in &mut chain.rows {
            match tree.get(at) {
                Some(node) if at != ROOT && node.is_there() => {
                    *row = at;
                    chain.length += 1;
                    at = node.parent();
                }
                _ => break,
            }
        }
        chain
    }

    /// The resources in blocks, the last one filled up with what is no resource.
    #[inline]
    pub fn blocks(&self) -> impl Iterator<Item = &[u32; LANES]> {
        self.rows.as_chunks().0.iter().take(self.length.div_ceil(LANES))
    }
}

impl Deref for Chain {
    type Target = [u32];

    #[inline]
    fn deref(&self) -> &[u32] {
        self.rows.get(..self.length).unwrap_or_default()
    }
}
