//! What may stand in the fields of a request: bounded texts, parsed at the edge.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

/// Text of 1 to `MAX` characters without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Text<const MAX: usize>(String);

/// Text of at most `MAX` characters without control characters other than line breaks and tabs; may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct FreeText<const MAX: usize>(String);

/// The name of a role, a permission, a resource (WorkOS contract R48).
pub type Name = Text<48>;
/// The description of anything.
pub type Description = FreeText<150>;

/// A key that may be absent, `null`, or there: `Some(None)` is an explicit `null`.
pub type Patch<T> = Option<Option<T>>;

impl<const MAX: usize> Text<MAX> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> FreeText<MAX> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.chars().count() {
            0 => Err(de::Error::custom("empty")),
            count if count > MAX => Err(de::Error::custom(format!("too_long: at most {MAX} characters"))),
            _ if text.chars().any(char::is_control) => Err(de::Error::custom("control_character")),
            _ => Ok(Self(text)),
        }
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for FreeText<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let odd = |character: char| character.is_control() && !matches!(character, '\n' | '\r' | '\t');
        if text.chars().count() > MAX {
            return Err(de::Error::custom(format!("too_long: at most {MAX} characters")));
        }
        if text.chars().any(odd) {
            return Err(de::Error::custom("control_character"));
        }
        Ok(Self(text))
    }
}

impl<const MAX: usize> JsonSchema for Text<MAX> {
    fn schema_name() -> Cow<'static, str> {
        format!("Text{MAX}").into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1, "maxLength": MAX, "pattern": "^[^\\x00-\\x1f\\x7f-\\x9f]*$"})
    }
}

impl<const MAX: usize> JsonSchema for FreeText<MAX> {
    fn schema_name() -> Cow<'static, str> {
        format!("FreeText{MAX}").into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": MAX,
            "pattern": "^[^\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f]*$",
        })
    }
}

/// Reads a key that is there: `null` becomes `Some(None)`. For `#[serde(default, deserialize_with = "patch")]`.
pub fn patch<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Patch<T>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
