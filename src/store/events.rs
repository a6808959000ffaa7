//! What happened, in the order it happened (WorkOS contract, section 6).
//!
//! A reader keeps the id of the last event it has dealt with and asks for what comes after it. Events of one transaction follow one
//! another; an event is there as soon as its write is acknowledged.

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::Store;
use super::api::Operation;
use super::database::Engine;
use super::error::StoreError;
use super::extract::Query;
use super::page::Limit;
use super::time::Millis;
use crate::domain::OrganizationId;
use crate::wire::api::Event;

pub(super) fn operations() -> Vec<Operation> {
    vec![Operation::get("/events", "listEvents", list).asks::<EventQuery>().gives::<EventList>(200)]
}

/// Which events.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct EventQuery {
    /// Of these kinds, with commas between them: `group.created,group.deleted`.
    #[serde(default)]
    events: Option<String>,
    /// The id of an event: what comes after it in the chosen order.
    #[serde(default)]
    after: Option<String>,
    /// The id of an event: what comes before it in the chosen order.
    #[serde(default)]
    before: Option<String>,
    /// How many at most.
    #[serde(default)]
    limit: Limit,
    #[serde(default)]
    order: EventOrder,
    /// Not before this time, which ends in `Z`. May stand beside `after`: clients send it with every page.
    #[serde(default, deserialize_with = "time")]
    range_start: Option<Millis>,
    /// Before this time, which ends in `Z`.
    #[serde(default, deserialize_with = "time")]
    range_end: Option<Millis>,
    /// Of this organization.
    #[serde(default)]
    organization_id: Option<OrganizationId>,
}

/// The order of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum EventOrder {
    /// Oldest first.
    #[default]
    Asc,
    /// Newest first.
    Desc,
}

/// A page of events.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "object", rename = "list")]
struct EventList {
    /// The events.
    data: Vec<Event>,
    /// Where it goes on.
    list_metadata: EventMetadata,
}

/// Where a list of events goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
struct EventMetadata {
    /// The id to ask for what comes after; null at the end.
    after: Option<String>,
}

async fn list(
    State(store): State<Store>,
    Query(query): Query<EventQuery>,
) -> Result<axum::Json<EventList>, StoreError> {
    let mut connection = store.read().await?;
    let engine = Engine::behind(&connection);
    Ok(axum::Json(page(&mut connection, engine, &query).await?))
}

async fn page(connection: &mut AnyConnection, engine: Engine, query: &EventQuery) -> Result<EventList, StoreError> {
    let ascends = query.order == EventOrder::Asc;
    let (forward, at) = match (&query.after, &query.before) {
        (Some(_), Some(_)) => {
            return Err(StoreError::invalid("after", "ambiguous_cursor", "`before` and `after` exclude each other"));
        }
        (None, Some(before)) => (false, Some(before)),
        (after, None) => (true, after.as_ref()),
    };
    let upwards = ascends == forward;
    let mut conditions = vec!["created_at >= $1 AND created_at < $2".to_owned()];
    let mut texts = Vec::new();
    let mut place = |text: String| {
        texts.push(text);
        texts.len() + 2
    };
    if let Some(events) = query.events.as_deref().filter(|events| !events.is_empty()) {
        let kinds: Vec<&str> = events.split(',').map(str::trim).collect();
        let listed = engine.texts_of(place(serde_json::to_string(&kinds)?));
        conditions.push(format!("event IN ({listed})"));
    }
    if let Some(organization) = &query.organization_id {
        conditions.push(format!("organization_id = ${}", place(organization.to_string())));
    }
    if let Some(id) = at {
        require(connection, id).await?;
        let sign = if upwards { ">" } else { "<" };
        let cursor = format!("(seq, place) {sign} (SELECT seq, place FROM events WHERE id = ${})", place(id.clone()));
        conditions.push(cursor);
    }
    let direction = if upwards { "ASC" } else { "DESC" };
    let limit = query.limit.rows();
    let text = format!(
        "SELECT id, event, data, created_at FROM events WHERE {} ORDER BY seq {direction}, place {direction} LIMIT {}",
        conditions.join(" AND "),
        limit + 1
    );
    let statement = sqlx::query(AssertSqlSafe(text))
        .bind(query.range_start.map_or(0, |start| start.0))
        .bind(query.range_end.map_or(i64::MAX, |end| end.0));
    let statement = texts.into_iter().fold(statement, |statement, text| statement.bind(text));
    let mut rows = statement.fetch_all(connection).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    if !forward {
        rows.reverse();
    }
    let data: Vec<Event> = rows.iter().map(read).collect::<Result<_, _>>()?;
    // Before a cursor there is always something after: the cursor itself.
    let after = data.last().filter(|_| more || !forward).map(|event| event.id.clone());
    Ok(EventList { data, list_metadata: EventMetadata { after } })
}

/// # Errors
/// There is no such event, or no longer.
async fn require(connection: &mut AnyConnection, id: &str) -> Result<(), StoreError> {
    let found = sqlx::query("SELECT id FROM events WHERE id = $1").bind(id.to_owned()).fetch_optional(connection);
    match found.await? {
        Some(_) => Ok(()),
        None => Err(StoreError::invalid("after", "unknown_cursor", format!("there is no event `{id}`"))),
    }
}

fn read(row: &AnyRow) -> Result<Event, StoreError> {
    Ok(Event {
        id: row.try_get("id")?,
        event: row.try_get("event")?,
        data: serde_json::from_str(&row.try_get::<String, _>("data")?)?,
        created_at: Millis(row.try_get("created_at")?).to_string(),
    })
}

/// A time in UTC, written with `Z`.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Millis>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    if !text.ends_with('Z') {
        return Err(de::Error::custom(format!("invalid time `{text}`: expected one that ends in `Z`")));
    }
    let time = Millis::deserialize(de::value::StrDeserializer::<D::Error>::new(&text));
    time.map(Some).map_err(|_| de::Error::custom(format!("invalid time `{text}`: expected `2026-01-31T00:00:00.000Z`")))
}
