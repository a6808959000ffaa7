//! Texts that must not be shown: keys, passwords.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::de::{self, Deserialize, Deserializer};

/// A text that must not be shown. It is read as such, so that no shape of a configuration ever holds it as a plain text.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for whoever has to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `shown` is this secret; takes as long for a good guess as for a bad one of the same length.
    pub fn is(&self, shown: &str) -> bool {
        verify_slices_are_equal(self.0.as_bytes(), shown.as_bytes()).is_ok()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        /// What was found is not repeated, whatever it is.
        fn refuse<E: de::Error>() -> E {
            E::custom("a secret is written as a text: put it in quotes")
        }

        impl de::Visitor<'_> for Visitor {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret(text.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
                Err(refuse())
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
                Err(refuse())
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
                Err(refuse())
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
                Err(refuse())
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

impl schemars::JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A text that is never shown. `${NAME}` takes it from the environment, `${file:PATH}` from a file.",
            "examples": ["${PORTCULLIS_KEY}", "${file:/run/secrets/key}"]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::parse;

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert!(secret.is("hunter2") && !secret.is("hunter") && !secret.is(""));
    }

    #[test]
    fn nor_does_what_is_no_secret() {
        for text in ["a: 4711", "a: -4711", "a: 4711.0", "a: true", "a: [4711]", "a: {b: 4711}", "a: "] {
            let node = parse("f.yaml", text, None).unwrap();
            let said = node.get("a").unwrap().read::<Secret>().unwrap_err().to_string();
            assert!(said.contains("text") && !said.contains("4711") && !said.contains("true"), "{said}");
        }
        let node = parse("f.yaml", "a: '4711'", None).unwrap();
        assert_eq!(node.get("a").unwrap().read::<Secret>(), Ok(Secret::new("4711".to_owned())));
        assert!(!format!("{node:?}").contains("4711"), "{node:?}");
    }
}
