//! What organizations and users carry for the upstream application: metadata and an external id (WorkOS contract R48, our decision D2).

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::StoreError;
use crate::domain::ExternalId;

/// Pairs that an object may carry.
const MOST_PAIRS: usize = 50;
/// Characters that a key may have.
const LONGEST_KEY: usize = 40;
/// Characters that a value may have.
const LONGEST_VALUE: usize = 600;

/// How ids of our own begin.
const OUR_PREFIXES: [&str; 19] = [
    "org_",
    "om_",
    "group_",
    "user_",
    "authz_resource_",
    "role_",
    "gra_",
    "perm_",
    "event_",
    "audit_",
    "session_",
    "client_",
    "req_",
    "key_",
    "sk_",
    "we_",
    "whsec_",
    "invitation_",
    "role_assignment_",
];

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
pub(super) fn refuse_our_prefixes(external_id: &ExternalId) -> Result<(), StoreError> {
    match OUR_PREFIXES.iter().find(|prefix| external_id.as_str().starts_with(**prefix)) {
        None => Ok(()),
        Some(prefix) => Err(StoreError::invalid(
            "external_id",
            "reserved_prefix",
            format!("external id `{external_id}` begins with `{prefix}`, which is kept for ids of the store"),
        )),
    }
}
