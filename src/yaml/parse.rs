//! Text to [`Node`]: the document itself, whatever it means.

use std::fmt;
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess};
use serde_saphyr::{
    DuplicateKeyPolicy, Location, MergeKeyPolicy, MessageFormatter, Spanned, UserMessageFormatter, alias_limits, budget,
};

use super::variables::{Reference, substitute};
use super::{Content, Key, Node, Place, Problem, Problems, Text};

/// Answers what a reference stands for, or says why it cannot be had.
pub type Variables<'a> = &'a dyn Fn(Reference<'_>) -> Result<String, String>;

/// Parses the one document in `text`; `file` is what places call it.
///
/// With `variables`, `${NAME}` and `${file:PATH}` in string values are replaced by what the function answers, and `$${` stands for `${`.
/// This happens after parsing, so that a value cannot bring structure with it. Keys are taken as they are.
///
/// Aliases are expanded, at most 100,000 nodes of them; merge keys (`<<`), further documents and nesting beyond 64 levels are refused.
///
/// # Errors
/// The syntax error, or every duplicate key and every variable that is missing.
pub fn parse(file: &str, text: &str, variables: Option<Variables<'_>>) -> Result<Node, Problems> {
    let file: Arc<str> = file.into();
    let spanned: Spanned<Raw> = serde_saphyr::from_str_with_options(text, options())
        .map_err(|error| Problems::from(problem_of(&file, &error)))?;
    let mut reader = Reader { file, variables, problems: Problems::default() };
    let node = reader.node(spanned);
    reader.problems.into_result()?;
    Ok(node)
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: budget! {
            max_documents: 1,
            max_nodes: 2_000_000,
            max_events: 5_000_000,
            // What aliases expand to is bounded below; one anchor may well be used by every route.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: alias_limits! { max_total_replayed_events: 100_000 },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        emit_comments: false,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

fn problem_of(file: &Arc<str>, error: &serde_saphyr::Error) -> Problem {
    let message = UserMessageFormatter.format_message(error.without_snippet()).into_owned();
    Problem { place: place_of(file, error.location().unwrap_or(Location::UNKNOWN)), message }
}

/// An unknown location (an empty document has none) becomes the beginning of the file.
fn place_of(file: &Arc<str>, location: Location) -> Place {
    let bounded = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).max(1);
    Place::new(Arc::clone(file), bounded(location.line()), bounded(location.column()))
}

/// Walks the parsed tree once: places are given their file, variables their values, duplicate keys are found.
struct Reader<'a> {
    file: Arc<str>,
    variables: Option<Variables<'a>>,
    problems: Problems,
}

impl Reader<'_> {
    fn node(&mut self, spanned: Spanned<Raw>) -> Node {
        let place = place_of(&self.file, spanned.defined);
        let content = match spanned.value {
            Raw::Null => Content::Null,
            Raw::Bool(value) => Content::Bool(value),
            Raw::Unsigned(value) => Content::Unsigned(value),
            Raw::Signed(value) => Content::Signed(value),
            Raw::Float(value) => Content::Float(value),
            Raw::Text(value) => Content::Text(self.text(&place, value)),
            Raw::Sequence(items) => Content::Sequence(items.into_iter().map(|item| self.node(item)).collect()),
            Raw::Mapping(entries) => Content::Mapping(self.mapping(entries)),
        };
        Node { place, content }
    }

    fn text(&mut self, place: &Place, value: String) -> Text {
        let Some(variables) = self.variables else { return Text { value, substituted: false } };
        match substitute(&value, variables) {
            Ok(None) => Text { value, substituted: false },
            Ok(Some(value)) => Text { value, substituted: true },
            Err(errors) => {
                self.problems.extend(errors.into_iter().map(|error| place.problem(error.to_string())));
                Text { value, substituted: true }
            }
        }
    }

    fn mapping(&mut self, raw: Vec<(Spanned<String>, Spanned<Raw>)>) -> Vec<(Key, Node)> {
        let mut entries: Vec<(Key, Node)> = Vec::with_capacity(raw.len());
        let mut known = std::collections::HashMap::with_capacity(raw.len());
        for (name, value) in raw {
            let place = place_of(&self.file, name.defined);
            let name = name.value;
            if let Some(first) = known.get(&name) {
                self.problems.0.push(place.problem(format!("duplicate key `{name}`, already given at {first}")));
                continue;
            }
            known.insert(name.clone(), place.clone());
            entries.push((Key { name, place }, self.node(value)));
        }
        entries
    }
}

/// What the YAML crate makes of a node, before places and variables.
enum Raw {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    Sequence(Vec<Spanned<Raw>>),
    Mapping(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> de::Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar, a sequence or a mapping with string keys")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Mapping(entries))
    }
}
