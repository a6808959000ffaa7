//! Lists, a page at a time (WorkOS contract, section 3).
//!
//! A cursor is the id of an object, exclusive. Rows are sorted by creation time, then by id.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::error::StoreError;
use crate::wire::api::{List, ListMetadata};

/// What a client asks for of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct PageQuery {
    /// The id of an object: what comes before it in the chosen order.
    #[serde(default)]
    pub before: Option<String>,
    /// The id of an object: what comes after it in the chosen order.
    #[serde(default)]
    pub after: Option<String>,
    /// How many objects at most.
    #[serde(default)]
    pub limit: Limit,
    /// By creation time.
    #[serde(default)]
    pub order: Order,
}

/// How many objects at most: 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Number")]
pub struct Limit(u32);

/// A number as a query string has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Digits(u32),
    Text(String),
}

/// The order of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Oldest first.
    Asc,
    /// Newest first.
    #[default]
    Desc,
    /// Newest first; `before` asks for older ones and `after` for newer ones.
    Normal,
}

/// A place in a list.
enum Cursor {
    Start,
    After(String),
    Before(String),
}

impl Default for Limit {
    fn default() -> Self {
        Self(10)
    }
}

impl JsonSchema for Limit {
    fn schema_name() -> Cow<'static, str> {
        "Limit".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 1, "maximum": 100})
    }
}

impl TryFrom<Number> for Limit {
    type Error = &'static str;

    fn try_from(number: Number) -> Result<Self, Self::Error> {
        let limit = match number {
            Number::Digits(limit) => Some(limit),
            Number::Text(text) => text.parse().ok(),
        };
        let allowed = limit.filter(|limit| (1..=100).contains(limit));
        allowed.map(Self).ok_or("out_of_range: expected a number from 1 to 100")
    }
}

impl Limit {
    pub(super) fn rows(self) -> usize {
        self.0 as usize
    }
}

impl PageQuery {
    fn cursor(&self) -> Result<Cursor, StoreError> {
        let (before, after) = match self.order {
            Order::Normal => (&self.after, &self.before),
            Order::Asc | Order::Desc => (&self.before, &self.after),
        };
        match (before, after) {
            (None, None) => Ok(Cursor::Start),
            (Some(before), None) => Ok(Cursor::Before(before.clone())),
            (None, Some(after)) => Ok(Cursor::After(after.clone())),
            (Some(_), Some(_)) => {
                Err(StoreError::invalid("after", "ambiguous_cursor", "`before` and `after` exclude each other"))
            }
        }
    }

    fn descends(&self) -> bool {
        matches!(self.order, Order::Desc | Order::Normal)
    }

    fn metadata(&self, first: Option<String>, last: Option<String>, earlier: bool, later: bool) -> ListMetadata {
        let (before, after) = (first.filter(|_| earlier), last.filter(|_| later));
        match self.order {
            Order::Normal => ListMetadata { before: after, after: before },
            Order::Asc | Order::Desc => ListMetadata { before, after },
        }
    }
}

fn unknown(cursor: &str) -> StoreError {
    StoreError::invalid("cursor", "unknown_cursor", format!("there is no object `{cursor}` in this list"))
}

/// A list of the database: a `SELECT` without order that has the columns `id` and `created_at`, and the texts of its placeholders.
pub(super) struct Listing {
    select: String,
    texts: Vec<String>,
}

impl Listing {
    /// All rows of `select`, which may have placeholders `$1`…
    pub(super) fn of(select: impl Into<String>) -> Self {
        Self { select: select.into(), texts: Vec::new() }
    }

    /// The text of the next placeholder.
    pub(super) fn bind(mut self, text: impl ToString) -> Self {
        self.texts.push(text.to_string());
        self
    }

    /// One page of it.
    pub(super) async fn page<T>(
        self,
        connection: &mut AnyConnection,
        query: &PageQuery,
        read: impl Fn(&AnyRow) -> Result<T, StoreError>,
    ) -> Result<List<T>, StoreError> {
        let cursor = query.cursor()?;
        let next = self.texts.len() + 1;
        // Away from the cursor: backwards when what is asked for lies before it.
        let (descends, at) = match &cursor {
            Cursor::Start => (query.descends(), None),
            Cursor::After(id) => (query.descends(), Some(id)),
            Cursor::Before(id) => (!query.descends(), Some(id)),
        };
        let (sign, direction) = if descends { ("<", "DESC") } else { (">", "ASC") };
        let place = match at {
            None => None,
            Some(id) => Some(self.place(connection, id).await?),
        };
        let beyond = match place {
            None => String::new(),
            Some(_) => format!(" WHERE (created_at, id) {sign} (${next}, ${})", next + 1),
        };
        let limit = query.limit.rows();
        let text = format!(
            "SELECT * FROM ({}) AS listed{beyond} ORDER BY created_at {direction}, id {direction} LIMIT {}",
            self.select,
            limit + 1
        );
        let mut statement = self.texts.into_iter().fold(sqlx::query(AssertSqlSafe(text)), |all, text| all.bind(text));
        if let Some((created_at, id)) = place {
            statement = statement.bind(created_at).bind(id);
        }
        let mut rows = statement.fetch_all(connection).await?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let (earlier, later) = match cursor {
            Cursor::Start => (false, more),
            Cursor::After(_) => (true, more),
            Cursor::Before(_) => {
                rows.reverse();
                (more, true)
            }
        };
        let id = |row: Option<&AnyRow>| row.map(|row| row.try_get::<String, _>("id")).transpose();
        let list_metadata = query.metadata(id(rows.first())?, id(rows.last())?, earlier, later);
        Ok(List { data: rows.iter().map(read).collect::<Result<_, _>>()?, list_metadata })
    }

    /// Where the object stands in the list.
    async fn place(&self, connection: &mut AnyConnection, id: &str) -> Result<(i64, String), StoreError> {
        let text =
            format!("SELECT created_at, id FROM ({}) AS listed WHERE id = ${}", self.select, self.texts.len() + 1);
        let statement = self.texts.iter().fold(sqlx::query(AssertSqlSafe(text)), |all, text| all.bind(text.clone()));
        let row = statement.bind(id.to_owned()).fetch_optional(connection).await?.ok_or_else(|| unknown(id))?;
        Ok((row.try_get("created_at")?, row.try_get("id")?))
    }
}

/// One page of a list that is in memory, in ascending order. Ids grow with creation time.
pub(super) fn page_of<T>(items: Vec<T>, query: &PageQuery, id: impl Fn(&T) -> String) -> Result<List<T>, StoreError> {
    let cursor = query.cursor()?;
    let mut items = items;
    if query.descends() {
        items.reverse();
    }
    let find = |wanted: &str| items.iter().position(|item| id(item) == wanted).ok_or_else(|| unknown(wanted));
    let limit = query.limit.rows();
    let (from, to) = match &cursor {
        Cursor::Start => (0, limit.min(items.len())),
        Cursor::After(wanted) => {
            let from = find(wanted)? + 1;
            (from, (from + limit).min(items.len()))
        }
        Cursor::Before(wanted) => {
            let to = find(wanted)?;
            (to.saturating_sub(limit), to)
        }
    };
    let (earlier, later) = (from > 0, to < items.len());
    let data: Vec<T> = items.into_iter().skip(from).take(to.saturating_sub(from)).collect();
    let list_metadata = query.metadata(data.first().map(&id), data.last().map(&id), earlier, later);
    Ok(List { data, list_metadata })
}

/// A list that is answered whole.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "object", rename = "list")]
pub struct WholeList<T> {
    /// All there is.
    pub data: Vec<T>,
}
