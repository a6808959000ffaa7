//! YAML with places: a document in which every value knows its file, line and column.
//!
//! Configuration is read in two steps. [`parse`] turns text into a tree of [`Node`]s and finds what is wrong with the document itself:
//! syntax, duplicate keys, missing variables. [`Node::read`] turns a part of the tree into a type; whatever does not fit is reported at
//! the innermost place it concerns. Readers take a document apart with [`Node::entries`] and [`Node::items`] and read each part by
//! itself, so that all problems are reported together. JSON is a subset of YAML and is read the same way.

mod parse;
mod place;
mod read;
mod secret;
mod units;
mod variables;

#[cfg(test)]
mod tests;

use std::fmt;

use serde::de::DeserializeOwned;

pub use parse::{Variables, parse};
pub use place::{Place, Placed, Problem, Problems};
pub use secret::Secret;
pub use units::{Size, Span};
pub use variables::Reference;

/// A part of a document: a scalar, a sequence or a mapping, with the place where it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    place: Place,
    content: Content,
}

/// What is written there.
#[derive(Debug, Clone, PartialEq)]
enum Content {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(Text),
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

/// A string scalar. It may be a secret, so it is not shown.
#[derive(Clone, PartialEq)]
struct Text {
    value: String,
    /// Whether a variable was put in: such a text also serves as a number or a boolean, because it could not be written as one.
    substituted: bool,
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// The key of a mapping's entry.
#[derive(Debug, Clone, PartialEq)]
struct Key {
    name: String,
    place: Place,
}

impl Node {
    /// Where it is written. For the content of an alias: where the anchored value is written.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The value at `key`; `None` when this is no mapping or has no such key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().find_map(|(name, _, node)| (name == key).then_some(node))
    }

    /// Key, place of the key and value of each entry, in the order of the document; nothing when this is no mapping.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Place, &Node)> {
        let entries = if let Content::Mapping(entries) = &self.content { entries.as_slice() } else { &[] };
        entries.iter().map(|(key, node)| (key.name.as_str(), &key.place, node))
    }

    /// The items in order; nothing when this is no sequence.
    pub fn items(&self) -> &[Node] {
        if let Content::Sequence(items) = &self.content { items } else { &[] }
    }

    /// Whether this is a mapping.
    pub fn is_mapping(&self) -> bool {
        matches!(self.content, Content::Mapping(_))
    }

    /// Whether this is a sequence.
    pub fn is_sequence(&self) -> bool {
        matches!(self.content, Content::Sequence(_))
    }

    /// Whether nothing is written here, or `null`.
    pub fn is_null(&self) -> bool {
        matches!(self.content, Content::Null)
    }

    /// The text, when this is a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Content::Text(text) = &self.content { Some(&text.value) } else { None }
    }

    /// A problem with this part.
    pub fn problem(&self, message: impl Into<String>) -> Problem {
        Problem { place: self.place.clone(), message: message.into() }
    }

    /// Reads this part as a `T` and stops at the first thing that does not fit.
    ///
    /// # Errors
    /// The first [`Problem`], with the innermost place it concerns; an unknown key is reported at that key.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        read::read(self)
    }

    /// Reads this part as a `T` and reports everything that does not fit, at most one problem for each key.
    ///
    /// # Errors
    /// All [`Problems`], sorted by place.
    pub fn read_all<T: DeserializeOwned>(&self) -> Result<T, Problems> {
        match self.read_what_fits() {
            (Some(value), problems) => problems.into_result().map(|()| value),
            (None, problems) => Err(problems),
        }
    }

    /// As [`Self::read_all`], with the `T` that the rest makes when the entries with problems are left out, if it makes one: for a
    /// reader that wants to look for further problems.
    pub fn read_what_fits<T: DeserializeOwned>(&self) -> (Option<T>, Problems) {
        read::read_what_fits(self)
    }
}
