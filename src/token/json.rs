//! JSON, read strictly and once, borrowing from its text (RFC 8259; RFC 7519 §4: member names must be unique).
//!
//! Two readers of one document must never see two things in it. So a repeated member is an error at every level, names
//! are compared after unescaping, and nothing may follow the document. Nesting is bounded, because readers recurse.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// The deepest nesting that is read; the outermost object is level one.
pub(super) const MAX_DEPTH: usize = 32;

/// Objects with up to this many members are searched for repetitions pair by pair, larger ones by sorting.
const FEW: usize = 16;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(Object<'a>),
}

/// A JSON object: members in their order, no name twice.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

/// Reads `text` as one JSON object.
///
/// # Errors
/// Where and why it is not one.
pub(super) fn object(text: &[u8]) -> Result<Object<'_>, serde_json::Error> {
    let text = std::str::from_utf8(text).map_err(|_| de::Error::custom("not UTF-8"))?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Nested { depth: 0 }.deserialize(&mut reader)?;
    reader.end()?;
    match value {
        Json::Object(object) => Ok(object),
        _ => Err(de::Error::custom("not an object")),
    }
}

impl<'a> Object<'a> {
    /// The value of `name`; a null counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&Json<'a>> {
        self.member(name).filter(|value| !matches!(value, Json::Null))
    }

    /// The value of `name`, null or not.
    pub(super) fn member(&self, name: &str) -> Option<&Json<'a>> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// This object, detached from its text.
    pub(super) fn to_map(&self) -> serde_json::Map<String, serde_json::Value> {
        self.0.iter().map(|(name, value)| (name.to_string(), value.to_value())).collect()
    }

    fn repeated(&self) -> Option<&str> {
        let members = self.0.as_slice();
        if members.len() <= FEW {
            let twice = |(at, (name, _)): (usize, &(Cow<'a, str>, Json<'a>))| {
                members.iter().take(at).any(|(other, _)| other == name)
            };
            let (name, _) = members.iter().enumerate().find(|&member| twice(member)).map(|(_, member)| member)?;
            return Some(name);
        }
        let mut names: Vec<&str> = members.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        names.windows(2).find_map(|pair| match pair {
            [one, other] if one == other => Some(*one),
            _ => None,
        })
    }
}

impl Json<'_> {
    /// The text, when it is one.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether this is the scalar `expected`: the same text, number or boolean.
    pub(super) fn is_scalar(&self, expected: &serde_json::Value) -> bool {
        match (self, expected) {
            (Self::Bool(found), serde_json::Value::Bool(expected)) => found == expected,
            (Self::Number(found), serde_json::Value::Number(expected)) => found == expected,
            (Self::Text(found), serde_json::Value::String(expected)) => found == expected,
            _ => false,
        }
    }

    /// This value, detached from its text.
    pub(super) fn to_value(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Number(number) => number.clone().into(),
            Self::Text(text) => text.to_string().into(),
            Self::List(values) => values.iter().map(Json::to_value).collect(),
            Self::Object(object) => object.to_map().into(),
        }
    }
}

/// Reads one value that stands `depth` levels deep.
#[derive(Clone, Copy)]
struct Nested {
    depth: usize,
}

impl Nested {
    fn inside<E: de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom("nested too deep"));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Json<'de>, E> {
        Number::from_f64(value).map(Json::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json<'de>, A::Error> {
        let inside = self.inside()?;
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(inside)? {
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json<'de>, A::Error> {
        let inside = self.inside()?;
        let mut members = Vec::with_capacity(if self.depth == 0 { FEW } else { 0 });
        while let Some(Name(name)) = access.next_key()? {
            members.push((name, access.next_value_seed(inside)?));
        }
        let object = Object(members);
        match object.repeated() {
            Some(name) => Err(de::Error::custom(format_args!("member {} is there twice", super::Quoted(name)))),
            None => Ok(Json::Object(object)),
        }
    }
}

/// A member name; borrowed when it has no escapes, which `Cow` alone would not do.
struct Name<'a>(Cow<'a, str>);

impl<'de> de::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }

            fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(value)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(value.to_owned())))
            }
        }
        deserializer.deserialize_str(Names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        let many: String = (0..40).map(|at| format!("\"m{at}\":0,")).collect();
        let repeated_late = format!("{{{many}\"m7\":1}}");
        for bad in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[{"a":1,"a":1}]}"#,
            &repeated_late,
            r#"{"a":1}{"a":2}"#,
            r#"{"a":1} x"#,
            r#"{"a":1,}"#,
            "\u{feff}{}",
            r#"{"a":"\ud800"}"#,
            r#"{"a":1e400}"#,
            r#"{"a":01}"#,
            r#"{"a":NaN}"#,
            r#"{'a':1}"#,
            "[]",
            "",
            "null",
        ] {
            assert!(object(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_err());
        assert!(object(format!("{{{many}\"last\":1}}").as_bytes()).is_ok());
    }

    #[test]
    fn nesting_ends_at_its_bound() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert!(object(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(object(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(object(nested(10_000).as_bytes()).is_err());
    }

    #[test]
    fn values_come_out_as_they_went_in() {
        let text = r#"{"n":null,"b":true,"i":-1,"u":18446744073709551615,"f":1.5,"t":"a\"b","l":[1,"x"],"o":{"k":{}}}"#;
        let expected: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap();
        assert_eq!(object(text.as_bytes()).unwrap().to_map(), expected);
    }
}
