//! What organizations and users carry for the upstream application: metadata and an external id (WorkOS contract R48, our decision D2).

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::StoreError;
use crate::domain::ExternalId;
use crate::wire;

/// Pairs that an object may carry.
const MOST_PAIRS: usize = 50;
/// Characters that a key may have.
const LONGEST_KEY: usize = 40;
/// Characters that a value may have.
const LONGEST_VALUE: usize = 600;

/// Metadata as a request has it: texts by key. `null` or an empty text takes the key away, which matters in an update only.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Metadata(Map<String, Value>);

impl JsonSchema for Metadata {
    fn schema_name() -> Cow<'static, str> {
        "Metadata".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "maxProperties": MOST_PAIRS,
            "propertyNames": {"maxLength": LONGEST_KEY},
            "additionalProperties": {"type": "string", "maxLength": LONGEST_VALUE},
        })
    }
}

impl Metadata {
    /// `before` with these pairs put over it.
    ///
    /// # Errors
    /// `invalid_metadata`: a pair is out of bounds, or there would be too many.
    pub(super) fn over(&self, before: &Map<String, Value>) -> Result<Map<String, Value>, StoreError> {
        let mut all = before.clone();
        for (key, value) in &self.0 {
            if key.is_empty() || key.chars().count() > LONGEST_KEY {
                return Err(invalid(format!("metadata key `{key}`: expected 1 to {LONGEST_KEY} characters")));
            }
            match value {
                Value::Null => drop(all.remove(key)),
                Value::String(text) if text.is_empty() => drop(all.remove(key)),
                Value::String(text) if text.chars().count() > LONGEST_VALUE || text.contains('\0') => {
                    return Err(invalid(format!("metadata `{key}`: expected at most {LONGEST_VALUE} characters")));
                }
                Value::String(text) => drop(all.insert(key.clone(), Value::String(text.clone()))),
                _ => return Err(invalid(format!("metadata `{key}`: expected a text"))),
            }
        }
        if all.len() > MOST_PAIRS {
            return Err(invalid(format!("metadata has {} keys, at most {MOST_PAIRS} are allowed", all.len())));
        }
        Ok(all)
    }
}

fn invalid(message: String) -> StoreError {
    StoreError::BadRequest { code: "invalid_metadata", message: message.into() }
}

/// Refuses an external id that could be taken for an id of our own.
///
/// # Errors
/// [`StoreError::Unprocessable`]
pub(super) fn refuse_reserved(external_id: &ExternalId) -> Result<(), StoreError> {
    match wire::reserved_start(external_id.as_str()) {
        None => Ok(()),
        Some(start) => {
            let message = format!("external id `{external_id}` begins with `{start}`, as ids of the store do");
            Err(StoreError::invalid("external_id", "reserved_external_id", message))
        }
    }
}
