//! Whole catalogs and organizations, each as of one moment.

use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, body};
use futures_util::stream;
use serde::Deserialize;
use sqlx::{AssertSqlSafe, Row};

use super::access::Subscriber;
use crate::domain::{Digest, OrganizationId, Revision};
use crate::store::database::WHOLE_READERS;
use crate::store::error::StoreError;
use crate::store::extract::{Body, Path, Query};
use crate::store::log::{self, Head};
use crate::store::{Store, revocations, rows};
use crate::wire::RevocationList;
use crate::wire::feed::{BatchRequest, CatalogAnswer, HeadAnswer, OrganizationAnswer, OrganizationsAnswer};

/// The most organizations of one batch.
const LARGEST_BATCH: usize = 256;
/// The most ids of one page.
const LARGEST_PAGE: u16 = 10_000;
/// The most look-ups of organizations at a time, which leave connections to those who ask the store itself; more wait.
pub(in crate::store) const MOST_LOOKUPS: usize = WHOLE_READERS as usize - 1;

/// Which page of the ids.
#[derive(Debug, Deserialize)]
pub(super) struct PageOfIds {
    /// The ids after this one.
    after: Option<OrganizationId>,
    /// How many, at most 10,000.
    limit: Option<u16>,
}

/// The end of the log.
pub(super) async fn head(State(store): State<Store>) -> Result<Json<HeadAnswer>, StoreError> {
    let mut connection = store.read().await?;
    let Head { epoch, seq, chain, oldest } = log::head(&mut connection).await?.ok_or(StoreError::Busy)?;
    Ok(Json(HeadAnswer { epoch, head: seq, oldest, chain, time: store.now().to_string() }))
}

/// What the environment declares. Its `ETag` is the revision.
pub(super) async fn catalog(State(store): State<Store>, headers: HeaderMap) -> Result<Response, StoreError> {
    let mut snapshot = store.0.database.snapshot().await?;
    let head = log::head(&mut snapshot).await?.ok_or(StoreError::Busy)?;
    let tag = format!("\"{}\"", head.revision());
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let rows = rows::catalog(&mut snapshot).await?;
    snapshot.rollback().await?;
    let answer = CatalogAnswer { epoch: head.epoch, seq: head.seq, chain: head.chain, rows };
    Ok(([(header::ETAG, tag)], Json(answer)).into_response())
}

/// The ids of all organizations that this key may read.
pub(super) async fn organizations(
    State(store): State<Store>,
    subscriber: Subscriber,
    Query(page): Query<PageOfIds>,
) -> Result<Json<OrganizationsAnswer>, StoreError> {
    let limit = page.limit.unwrap_or(LARGEST_PAGE).clamp(1, LARGEST_PAGE);
    let after = page.after.map(|id| id.to_string()).unwrap_or_default();
    // Only those that this key may read: the others do not exist for it, not even as a place to go on from.
    let among = subscriber.organizations().map(serde_json::to_string).transpose()?;
    let condition = match &among {
        Some(_) => format!("AND id IN ({})", store.0.database.engine().texts_of(3)),
        None => String::new(),
    };
    let text = format!("SELECT id FROM organizations WHERE id > $1 {condition} ORDER BY id LIMIT $2");
    let statement = sqlx::query(AssertSqlSafe(text)).bind(after).bind(i64::from(limit));
    let statement = among.into_iter().fold(statement, |statement, among| statement.bind(among));
    let mut connection = store.read().await?;
    let ids: Vec<OrganizationId> = rows::read_all(&mut connection, statement, |row| Ok(row.try_get("id")?)).await?;
    let after = (ids.len() == usize::from(limit)).then(|| ids.last().cloned()).flatten();
    Ok(Json(OrganizationsAnswer { ids, after }))
}

/// One organization. Unknown and not to be seen by this key are the same: 404, with the revision as of which that is so.
pub(super) async fn organization(
    State(store): State<Store>,
    subscriber: Subscriber,
    Path(id): Path<OrganizationId>,
) -> Result<Response, StoreError> {
    let answer = read(&store, &subscriber, id).await?;
    let revision = Revision { epoch: answer.epoch, seq: answer.seq }.to_string();
    let status = if answer.facts.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    Ok((status, [("x-portcullis-revision", revision)], Json(answer)).into_response())
}

/// Several organizations, one JSON object a line, each as of a moment of its own.
pub(super) async fn batch(
    State(store): State<Store>,
    subscriber: Subscriber,
    Body(BatchRequest { ids }): Body<BatchRequest>,
) -> Result<Response, StoreError> {
    if ids.len() > LARGEST_BATCH {
        let message = format!("`ids`: {} organizations, at most {LARGEST_BATCH} are allowed", ids.len());
        return Err(StoreError::invalid("ids", "too_long", message));
    }
    let lines = stream::unfold(ids.into_iter(), move |mut ids| {
        let (store, subscriber) = (store.clone(), subscriber.clone());
        async move {
            let id = ids.next()?;
            // An error breaks the answer off, so that nobody takes half of it for the whole.
            let line = async {
                let answer = read(&store, &subscriber, id).await?;
                let mut line = serde_json::to_vec(&answer)?;
                line.push(b'\n');
                Ok::<_, StoreError>(body::Bytes::from(line))
            };
            Some((line.await, ids))
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], HttpBody::from_stream(lines)).into_response())
}

/// Tokens that are refused before they expire.
pub(super) async fn revocations(State(store): State<Store>) -> Result<Json<RevocationList>, StoreError> {
    let mut snapshot = store.0.database.snapshot().await?;
    let head = log::head(&mut snapshot).await?.ok_or(StoreError::Busy)?;
    let revocations = revocations::between(&mut snapshot, 0, head.seq).await?;
    snapshot.rollback().await?;
    let now = store.now().seconds();
    let in_force = revocations.into_iter().map(|(_, revocation)| revocation);
    let revocations = in_force.filter(|revocation| revocation.expires.0 > now).collect();
    Ok(Json(RevocationList { epoch: head.epoch.to_string(), seq: head.seq, revocations }))
}

async fn read(store: &Store, subscriber: &Subscriber, id: OrganizationId) -> Result<OrganizationAnswer, StoreError> {
    let _turn = store.0.lookups.acquire().await.map_err(|_| StoreError::Busy)?;
    let mut snapshot = store.0.database.long_snapshot().await?;
    let head = log::head(&mut snapshot).await?.ok_or(StoreError::Busy)?;
    let facts = match subscriber.may_read(&id) {
        true => rows::organization(&mut snapshot, &id).await?,
        false => None,
    };
    snapshot.rollback().await?;
    let digest = facts.as_ref().map(|rows| Digest::of_organization(&id, rows).to_string());
    Ok(OrganizationAnswer { id, epoch: head.epoch, seq: head.seq, facts, digest })
}
