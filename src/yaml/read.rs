//! [`Node`] to any type: a deserializer that knows where it is.
//!
//! Serde reports an error without a place and stops. The place is added on the way out: the innermost node that an error passes gives it
//! its place. To find every problem, [`read_what_fits`] reads again and again, each time without the entry that the last problem came from.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::place::PLACED;
use super::{Content, Key, Node, Place, Problem, Problems, Text};

/// So many problems of one part are enough for one reading.
const MOST_PROBLEMS: usize = 100;

pub(super) fn read<T: DeserializeOwned>(node: &Node) -> Result<T, Problem> {
    T::deserialize(Reader { node, left_out: &[] }).map_err(|error| error.into_problem(node))
}

pub(super) fn read_what_fits<T: DeserializeOwned>(node: &Node) -> (Option<T>, Problems) {
    let mut problems = Problems::default();
    let mut left_out: Vec<*const Key> = Vec::new();
    let value = loop {
        let error = match T::deserialize(Reader { node, left_out: &left_out }) {
            Ok(value) => break Some(value),
            Err(error) => error,
        };
        let entry = error.entry.filter(|entry| !left_out.contains(entry));
        if !error.echo {
            problems.0.push(error.into_problem(node));
        }
        match entry {
            Some(entry) if left_out.len() < MOST_PROBLEMS => left_out.push(entry),
            _ => break None,
        }
    };
    problems.0.sort();
    problems.0.dedup();
    (value, problems)
}

/// What went wrong on the way, with what was learned about where.
#[derive(Debug)]
struct ReadError {
    message: String,
    place: Option<Place>,
    /// The innermost entry of a mapping that it came from, by identity.
    entry: Option<*const Key>,
    /// The key that was missing, until the mapping is known that misses it.
    missing: Option<&'static str>,
    /// Only a consequence of an entry that was left out; already reported.
    echo: bool,
}

impl ReadError {
    fn new(message: String) -> Self {
        Self { message, place: None, entry: None, missing: None, echo: false }
    }

    fn at(mut self, place: &Place) -> Self {
        self.place.get_or_insert_with(|| place.clone());
        self
    }

    fn of_entry(mut self, key: &Key) -> Self {
        self.entry.get_or_insert(key);
        self
    }

    /// What is wrong with a mapping as a whole is no news when it is so only because entries were left out.
    fn in_node(mut self, node: &Node, left_out: &[*const Key]) -> Self {
        if let (None, Content::Mapping(entries)) = (&self.place, &node.content) {
            let mut names =
                entries.iter().filter(|(key, _)| is_left_out(key, left_out)).map(|(key, _)| key.name.as_str());
            self.echo = match self.missing {
                Some(missing) => names.any(|name| name == missing),
                None => names.next().is_some(),
            };
        }
        self.veiled(node).at(&node.place)
    }

    /// What a variable put in may be a secret that stands where none belongs: it is not repeated.
    fn veiled(mut self, node: &Node) -> Self {
        /// Shorter texts occur in other words; they are left out where they are quoted.
        const TELLING: usize = 6;
        if let Content::Text(Text { value, substituted: true }) = &node.content {
            self.message = self.message.replace(&format!("`{value}`"), "`…`");
            if value.len() >= TELLING {
                self.message = self.message.replace(value.as_str(), "…");
            }
        }
        self
    }

    fn into_problem(self, root: &Node) -> Problem {
        Problem { place: self.place.unwrap_or_else(|| root.place.clone()), message: self.message }
    }
}

fn is_left_out(key: &Key, left_out: &[*const Key]) -> bool {
    left_out.iter().any(|other| std::ptr::eq(*other, key))
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {expected}, found {}", Found(unexpected)))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {expected}, found {}", Found(unexpected)))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {expected}, found {length} items"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown value `{variant}`, expected {}", OneOf(expected)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown key `{field}`, expected {}", OneOf(expected)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { missing: Some(field), ..Self::new(format!("missing key `{field}`")) }
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format!("duplicate key `{field}`"))
    }
}

/// What was found, in the words of YAML.
struct Found<'a>(Unexpected<'a>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Str(text) => write!(f, "the text `{text}`"),
            Unexpected::Bool(value) => write!(f, "`{value}`"),
            Unexpected::Unsigned(value) => write!(f, "the number `{value}`"),
            Unexpected::Signed(value) => write!(f, "the number `{value}`"),
            Unexpected::Float(value) => write!(f, "the number `{value}`"),
            Unexpected::Unit | Unexpected::Option => f.write_str("nothing"),
            Unexpected::Seq => f.write_str("a list"),
            Unexpected::Map => f.write_str("a mapping"),
            other => other.fmt(f),
        }
    }
}

struct OneOf(&'static [&'static str]);

impl fmt::Display for OneOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("none"),
            [only] => write!(f, "`{only}`"),
            all => {
                f.write_str("one of ")?;
                for (index, name) in all.iter().enumerate() {
                    write!(f, "{}`{name}`", if index > 0 { ", " } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

/// The deserializer over a node.
#[derive(Clone, Copy)]
struct Reader<'de, 'l> {
    node: &'de Node,
    left_out: &'l [*const Key],
}

impl<'de> Reader<'de, '_> {
    fn visit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.content {
            Content::Null => visitor.visit_unit(),
            Content::Bool(value) => visitor.visit_bool(*value),
            Content::Unsigned(value) => visitor.visit_u64(*value),
            Content::Signed(value) => visitor.visit_i64(*value),
            Content::Float(value) => visitor.visit_f64(*value),
            Content::Text(text) => visitor.visit_borrowed_str(&text.value),
            Content::Sequence(items) => visitor.visit_seq(Items { items: items.iter(), left_out: self.left_out }),
            Content::Mapping(entries) => {
                visitor.visit_map(Entries { entries: entries.iter(), value: None, left_out: self.left_out })
            }
        }
        .map_err(|error: ReadError| error.in_node(self.node, self.left_out))
    }

    fn unexpected(self) -> Unexpected<'de> {
        match &self.node.content {
            Content::Null => Unexpected::Unit,
            Content::Bool(value) => Unexpected::Bool(*value),
            Content::Unsigned(value) => Unexpected::Unsigned(*value),
            Content::Signed(value) => Unexpected::Signed(*value),
            Content::Float(value) => Unexpected::Float(*value),
            Content::Text(text) => Unexpected::Str(&text.value),
            Content::Sequence(_) => Unexpected::Seq,
            Content::Mapping(_) => Unexpected::Map,
        }
    }

    /// The text that a variable put here, for a number or a boolean.
    fn substituted(self) -> Option<&'de str> {
        match &self.node.content {
            Content::Text(Text { value, substituted: true }) => Some(value),
            _ => None,
        }
    }

    fn visit_number<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let Some(text) = self.substituted() else { return self.visit(visitor) };
        if let Ok(value) = text.parse::<u64>() {
            visitor.visit_u64(value)
        } else if let Ok(value) = text.parse::<i64>() {
            visitor.visit_i64(value)
        } else if let Ok(value) = text.parse::<f64>() {
            visitor.visit_f64(value)
        } else {
            return self.visit(visitor);
        }
        .map_err(|error: ReadError| error.in_node(self.node, self.left_out))
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            self.visit_number(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'de, '_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.visit(visitor)
    }

    numbers! {
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_f32 deserialize_f64
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.substituted().and_then(|text| text.parse().ok()) {
            Some(value) => {
                visitor.visit_bool(value).map_err(|error: ReadError| error.in_node(self.node, self.left_out))
            }
            None => self.visit(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let result = if name == PLACED {
            visitor.visit_seq(PlacedParts { reader: self, next: 0 })
        } else {
            visitor.visit_newtype_struct(self)
        };
        result.map_err(|error| error.in_node(self.node, self.left_out))
    }

    /// Serde would also take a list, value by value; nobody means that.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if self.node.is_mapping() {
            return self.visit(visitor);
        }
        let error = ReadError::new(format!("expected a mapping, found {}", Found(self.unexpected())));
        Err(error.veiled(self.node).at(&self.node.place))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.node.content {
            Content::Text(text) => visitor.visit_enum(text.value.as_str().into_deserializer()),
            Content::Mapping(entries) => match entries.as_slice() {
                [(key, value)] => {
                    visitor.visit_enum(Variant { key, value: Self { node: value, left_out: self.left_out } })
                }
                _ => Err(ReadError::new(format!("expected a mapping with one key, found {} keys", entries.len()))),
            },
            _ => return self.visit(visitor),
        }
        .map_err(|error: ReadError| error.veiled(self.node).at(&self.node.place))
    }

    serde::forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, ReadError> for Reader<'de, '_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

struct Items<'de, 'l> {
    items: std::slice::Iter<'de, Node>,
    left_out: &'l [*const Key],
}

impl<'de> SeqAccess<'de> for Items<'de, '_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let Some(node) = self.items.next() else { return Ok(None) };
        let item = seed.deserialize(Reader { node, left_out: self.left_out });
        item.map(Some).map_err(|error| error.in_node(node, self.left_out))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'de, 'l> {
    entries: std::slice::Iter<'de, (Key, Node)>,
    value: Option<&'de (Key, Node)>,
    left_out: &'l [*const Key],
}

impl<'de> MapAccess<'de> for Entries<'de, '_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        let left_out = self.left_out;
        let Some(entry) = self.entries.find(|(key, _)| !is_left_out(key, left_out)) else { return Ok(None) };
        self.value = Some(entry);
        let key = &entry.0;
        let name: StrDeserializer<'_, ReadError> = key.name.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|error| error.at(&key.place).of_entry(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let Some((key, node)) = self.value.take() else {
            return Err(ReadError::new("a value was asked for before its key".to_owned()));
        };
        let value = seed.deserialize(Reader { node, left_out: self.left_out });
        // A type may find fault with a text only after the text was read; such an error has not passed the node yet.
        value.map_err(|error| error.in_node(node, self.left_out).of_entry(key))
    }
}

/// An enum written as a mapping with one key: `{variant: content}`.
struct Variant<'de, 'l> {
    key: &'de Key,
    value: Reader<'de, 'l>,
}

impl<'de, 'l> EnumAccess<'de> for Variant<'de, 'l> {
    type Error = ReadError;
    type Variant = VariantContent<'de, 'l>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self::Variant), ReadError> {
        let name: StrDeserializer<'_, ReadError> = self.key.name.as_str().into_deserializer();
        let variant = seed.deserialize(name).map_err(|error| error.at(&self.key.place))?;
        Ok((variant, VariantContent(self.value)))
    }
}

struct VariantContent<'de, 'l>(Reader<'de, 'l>);

impl<'de> VariantAccess<'de> for VariantContent<'de, '_> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        serde::Deserialize::deserialize(self.0)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ReadError> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, ReadError> {
        self.0.visit(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.0.deserialize_struct("", fields, visitor)
    }
}

/// What a [`super::Placed`] is made of: file, line, column, value.
struct PlacedParts<'de, 'l> {
    reader: Reader<'de, 'l>,
    next: u8,
}

impl<'de> SeqAccess<'de> for PlacedParts<'de, '_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let place = &self.reader.node.place;
        self.next += 1;
        match self.next {
            1 => seed.deserialize(place.file().into_deserializer()),
            2 => seed.deserialize(place.line().into_deserializer()),
            3 => seed.deserialize(place.column().into_deserializer()),
            4 => seed.deserialize(self.reader),
            _ => return Ok(None),
        }
        .map(Some)
    }
}
