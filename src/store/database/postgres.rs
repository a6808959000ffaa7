//! What only PostgreSQL needs to be told.

use crate::store::rows::Column;

/// Every statement sees what was committed before it: the row that is locked first is as new as what is read after it.
pub(super) const BEGIN_WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
pub(super) const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
pub(super) const LOCK_HEAD: &str = "SELECT epoch, seq, chain, oldest FROM head WHERE one = 1 FOR UPDATE";
/// A store that hangs in the middle of a write must not keep the others waiting for ever.
pub(super) const GREETING: [&str; 3] =
    ["SET idle_in_transaction_session_timeout = '10s'", "SET statement_timeout = '60s'", "SET lock_timeout = '5s'"];

/// The elements of the JSON array `$1`.
pub(super) const ARRAY: &str = "json_array_elements($1::json) AS element";

/// What stands at a place of an element that is an array.
pub(super) fn element(place: usize, column: Column) -> String {
    match column {
        Column::Text => format!("element->>{place}"),
        Column::Number => format!("(element->>{place})::BIGINT"),
    }
}

/// The schema with texts that are compared and sorted byte for byte, whatever the database's locale.
pub(super) fn schema(text: &str) -> String {
    let column = |line: &str| match line.split_once("--") {
        Some((code, comment)) => format!("{}--{comment}", code.replace(" TEXT", " TEXT COLLATE \"C\"")),
        None => line.replace(" TEXT", " TEXT COLLATE \"C\""),
    };
    text.lines().map(column).collect::<Vec<_>>().join("\n")
}
