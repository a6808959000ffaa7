//! Following a document's keys beside the values that were read from it, to say where a problem is.

use crate::yaml::{Node, Place, Problem};

/// A part of the document that a value was read from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot<'n>(pub(super) &'n Node);

impl<'n> Spot<'n> {
    /// The part at `key`; this part itself when the key was left out.
    pub(super) fn key(self, key: &str) -> Self {
        Self(self.0.get(key).unwrap_or(self.0))
    }

    /// The item at `index`; this part itself when there is none.
    pub(super) fn item(self, index: usize) -> Self {
        Self(self.0.items().get(index).unwrap_or(self.0))
    }

    pub(super) fn place(self) -> &'n Place {
        self.0.place()
    }

    pub(super) fn problem(self, message: impl Into<String>) -> Problem {
        self.0.problem(message)
    }
}
