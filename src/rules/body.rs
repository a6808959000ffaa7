//! Values of a JSON body, read in one strict pass (RFC 8259 with the choices of RFC 7493 where readers differ).
//!
//! Refused: duplicate keys anywhere; a key on the way to a value that differs from the one asked for in case only; a byte order mark;
//! unpaired surrogates; text that is not UTF-8; anything after the document; more than 32 levels. A value is a string or an integer in
//! its one canonical spelling: `1.0`, `1e2` and `-0` are none.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use http::{HeaderMap, header};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess};

use super::fold::fold_case;
use super::header::single_header;
use super::template::Pointer;
use crate::domain::{Denial, DenyReason};

/// How deep arrays and objects may be nested.
const MOST_LEVELS: usize = 32;

/// The values that a route reads from one body, in the order of its pointers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyValues {
    values: Box<[Option<Found>]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Text(String),
    /// Null, a boolean, an array, an object or a number that is no canonical integer.
    NoScalar,
}

impl BodyValues {
    pub(super) fn get(&self, index: usize) -> Result<&str, &'static str> {
        match self.values.get(index) {
            Some(Some(Found::Text(text))) if text.is_empty() => Err("empty"),
            Some(Some(Found::Text(text))) => Ok(text),
            Some(Some(Found::NoScalar)) => Err("neither a string nor an integer"),
            Some(None) | None => Err("missing"),
        }
    }
}

/// Whether a body announced by `headers` can be read for values: `application/json` in UTF-8, not encoded, and no upgrade.
///
/// # Errors
/// `unsupported_body`, or `bad_request` for an upgrade or a repeated header.
pub fn readable(headers: &HeaderMap) -> Result<(), Denial> {
    let unsupported = |detail: &str| Denial { reason: DenyReason::UnsupportedBody, detail: Some(detail.into()) };
    if headers.contains_key(header::UPGRADE) {
        let detail = "upgrade on a route that reads the body".into();
        return Err(Denial { reason: DenyReason::BadRequest, detail: Some(detail) });
    }
    let one = |name: &str| {
        single_header(headers, name)
            .map_err(|repeated| Denial { reason: DenyReason::BadRequest, detail: Some(repeated.to_string().into()) })
    };
    if one("content-encoding")?.is_some() {
        return Err(unsupported("body has a content encoding"));
    }
    let value = one("content-type")?.ok_or_else(|| unsupported("body has no content type"))?;
    let mut parts = value.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/json"));
    let utf8 = |parameter: &[u8]| {
        [&b"charset=utf-8"[..], b"charset=\"utf-8\""].iter().any(|utf8| parameter.eq_ignore_ascii_case(utf8))
    };
    if json && parts.all(utf8) { Ok(()) } else { Err(unsupported("body is not `application/json` in UTF-8")) }
}

/// Reads what `pointers` point to in `bytes`.
///
/// # Errors
/// What is wrong with the document, without any of its content.
pub(super) fn read(bytes: &[u8], pointers: &[Pointer]) -> Result<BodyValues, BodyError> {
    let values = RefCell::new(vec![None; pointers.len()]);
    let wanted: Vec<Wanted<'_>> =
        pointers.iter().enumerate().map(|(slot, pointer)| Wanted { slot, tokens: &pointer.tokens }).collect();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let walk = Walk { wanted, values: &values, levels: MOST_LEVELS };
    walk.deserialize(&mut deserializer).and_then(|()| deserializer.end()).map_err(|error| BodyError::of(&error))?;
    Ok(BodyValues { values: values.into_inner().into() })
}

/// Why a body is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("body is not strict JSON at line {line}, column {column}: {problem}")]
pub struct BodyError {
    problem: String,
    line: usize,
    column: usize,
}

impl BodyError {
    fn of(error: &serde_json::Error) -> Self {
        let problem = match error.classify() {
            serde_json::error::Category::Data if error.to_string().starts_with(DUPLICATE) => DUPLICATE,
            serde_json::error::Category::Data if error.to_string().starts_with(CASE) => CASE,
            serde_json::error::Category::Data if error.to_string().starts_with(DEPTH) => DEPTH,
            serde_json::error::Category::Eof => "it ends too early",
            _ => "it is malformed",
        };
        Self { problem: problem.to_owned(), line: error.line(), column: error.column() }
    }
}

const DUPLICATE: &str = "an object has a key twice";
const CASE: &str = "a key differs only in case from one that is read";
const DEPTH: &str = "it is nested too deep";

/// A value still to be found below the current one.
#[derive(Clone, Copy)]
struct Wanted<'w> {
    slot: usize,
    /// What is left of the pointer.
    tokens: &'w [Box<str>],
}

/// Walks one value of the document; what is not wanted is checked all the same.
struct Walk<'w> {
    wanted: Vec<Wanted<'w>>,
    values: &'w RefCell<Vec<Option<Found>>>,
    levels: usize,
}

impl<'w> Walk<'w> {
    fn found(&self, found: &Found) {
        let mut values = self.values.borrow_mut();
        for wanted in self.wanted.iter().filter(|wanted| wanted.tokens.is_empty()) {
            if let Some(value) = values.get_mut(wanted.slot) {
                *value = Some(found.clone());
            }
        }
    }

    fn text(&self, text: &str) {
        if self.wanted.iter().any(|wanted| wanted.tokens.is_empty()) {
            self.found(&Found::Text(text.to_owned()));
        }
    }

    /// The walk of the member or item called `name`.
    fn below(&self, name: &str) -> Self {
        let wanted = self.wanted.iter().filter_map(|wanted| match wanted.tokens {
            [first, tokens @ ..] if first.as_ref() == name => Some(Wanted { slot: wanted.slot, tokens }),
            _ => None,
        });
        Self { wanted: wanted.collect(), values: self.values, levels: self.levels.saturating_sub(1) }
    }

    fn confuses(&self, name: &str) -> bool {
        let mut firsts = self.wanted.iter().filter_map(|wanted| wanted.tokens.first());
        firsts.any(|first| first.as_ref() != name && fold_case(first) == fold_case(name))
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> de::Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.found(&Found::NoScalar);
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.found(&Found::NoScalar);
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.found(&Found::NoScalar);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.text(&value.to_string());
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.text(&value.to_string());
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.text(value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if self.levels == 0 {
            return Err(de::Error::custom(DEPTH));
        }
        self.found(&Found::NoScalar);
        let mut index = 0_usize;
        while items.next_element_seed(self.below(&index.to_string()))?.is_some() {
            index += 1;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        if self.levels == 0 {
            return Err(de::Error::custom(DEPTH));
        }
        self.found(&Found::NoScalar);
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if self.confuses(&name) {
                return Err(de::Error::custom(CASE));
            }
            members.next_value_seed(self.below(&name))?;
            if !names.insert(name) {
                return Err(de::Error::custom(DUPLICATE));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn pointer(text: &str) -> Pointer {
        Pointer { tokens: text.split('/').map(Into::into).collect() }
    }

    fn value(body: &str, path: &str) -> Result<String, String> {
        let values = read(body.as_bytes(), &[pointer(path)]).map_err(|error| error.problem)?;
        values.get(0).map(str::to_owned).map_err(str::to_owned)
    }

    #[test]
    fn strings_and_canonical_integers_are_values() {
        for (body, path, expected) in [
            (r#"{"a": {"b": "x"}}"#, "a/b", "x"),
            (r#"{"a": [1, {"b": "\u00e9\ud83d\ude00"}]}"#, "a/1/b", "é😀"),
            (r#" {"a": 0, "b": {"a": 1}} "#, "a", "0"),
            (r#"{"a": -12}"#, "a", "-12"),
            (r#"{"a": 18446744073709551615}"#, "a", "18446744073709551615"),
            (r#"{"\u0061": "x"}"#, "a", "x"),
            (r#"["x"]"#, "0", "x"),
        ] {
            assert_eq!(value(body, path).as_deref(), Ok(expected), "{body}");
        }
    }

    #[test]
    fn what_is_no_single_scalar_is_refused() {
        let scalar = "neither a string nor an integer";
        for (body, problem) in [
            (r#"{}"#, "missing"),
            (r#"{"b": 1}"#, "missing"),
            (r#"[]"#, "missing"),
            (r#""a""#, "missing"),
            (r#"{"a": ""}"#, "empty"),
            (r#"{"a": null}"#, scalar),
            (r#"{"a": true}"#, scalar),
            (r#"{"a": ["x"]}"#, scalar),
            (r#"{"a": {"a": "x"}}"#, scalar),
            (r#"{"a": 1.0}"#, scalar),
            (r#"{"a": 1e2}"#, scalar),
            (r#"{"a": -0}"#, scalar),
            (r#"{"a": 18446744073709551616}"#, scalar),
        ] {
            assert_eq!(value(body, "a").unwrap_err(), problem, "{body}");
        }
    }

    #[test]
    fn whatever_two_readers_could_read_differently_is_refused() {
        let malformed = "it is malformed";
        let deep = format!(r#"{{"a": "x", "b": {}1{}}}"#, "[".repeat(32), "]".repeat(32));
        for (body, problem) in [
            (r#"{"a": "x", "a": "y"}"#, DUPLICATE),
            (r#"{"a": "x", "b": [{"c": 1, "c": 1}]}"#, DUPLICATE),
            (r#"{"a": "x", "\u0061": "y"}"#, DUPLICATE),
            (r#"{"a": "x", "A": "y"}"#, CASE),
            (r#"{"A": "y"}"#, CASE),
            ("\u{feff}{\"a\": \"x\"}", malformed),
            (r#"{"a": "\ud800"}"#, malformed),
            (r#"{"a": "x", "\udc00": 1}"#, malformed),
            (r#"{"a": "x"} {}"#, malformed),
            (r#"{"a": "x"}}"#, malformed),
            (r#"{"a": "x",}"#, malformed),
            (r#"{"a": "x", /* */ "b": 1}"#, malformed),
            (r#"{'a': "x"}"#, malformed),
            (r#"{a: "x"}"#, malformed),
            (r#"{"a": 01}"#, malformed),
            (r#"{"a": NaN}"#, malformed),
            ("{\"a\": \"\n\"}", malformed),
            ("", "it ends too early"),
            (r#"{"a": "x""#, "it ends too early"),
            (deep.as_str(), DEPTH),
        ] {
            assert_eq!(value(body, "a").unwrap_err(), problem, "{body}");
        }
        assert!(read(b"{\"a\": \"\xff\"}", &[pointer("a")]).is_err());
    }

    #[test]
    fn case_confusion_is_looked_for_on_the_way_only() {
        assert_eq!(value(r#"{"k": {"b": "x"}, "z": {"K": 1}}"#, "k/b").as_deref(), Ok("x"));
        assert_eq!(value("{\"k\": {\"b\": \"x\"}, \"\u{212a}\": 1}", "k/b").unwrap_err(), CASE);
        assert_eq!(value(r#"{"k": {"b": "x", "B": 1}}"#, "k/b").unwrap_err(), CASE);
    }

    #[test]
    fn levels_are_counted_up_to_the_bound() {
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert!(read(nested(32).as_bytes(), &[]).is_ok());
        assert!(read(nested(33).as_bytes(), &[]).is_err());
        assert!(read(nested(100_000).as_bytes(), &[]).is_err());
    }

    #[test]
    fn only_plain_json_in_utf8_is_read() {
        let reason = |list: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in list {
                headers.append(*name, HeaderValue::from_static(value));
            }
            readable(&headers).map_err(|denial| denial.reason)
        };
        let unsupported = Err(DenyReason::UnsupportedBody);
        for (list, expected) in [
            (&[("content-type", "application/json")][..], Ok(())),
            (&[("content-type", "Application/JSON; Charset=UTF-8")], Ok(())),
            (&[("content-type", "application/json; charset=\"utf-8\"")], Ok(())),
            (&[("content-type", "application/json; charset=utf-16")], unsupported),
            (&[("content-type", "application/jsonx")], unsupported),
            (&[("content-type", "text/json")], unsupported),
            (&[], unsupported),
            (&[("content-type", "application/json"), ("content-encoding", "gzip")], unsupported),
            (&[("content-type", "application/json"), ("content_encoding", "gzip")], unsupported),
            (&[("content-type", "application/json"), ("content_type", "text/plain")], Err(DenyReason::BadRequest)),
            (&[("content-type", "application/json"), ("upgrade", "websocket")], Err(DenyReason::BadRequest)),
        ] {
            assert_eq!(reason(list), expected, "{list:?}");
        }
    }
}
