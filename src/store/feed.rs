//! The sync feed: whole catalogs and organizations on request, and a stream of everything that happens, for sidecars.
//!
//! ```text
//! writer -> log -> tail (one for each process: reads the log, keeps the newest rows)
//!                    -> follow (one for each stream: picks what its sidecar asked for)
//! rows -> lookups (as of one moment)
//! ```

mod access;
mod digests;
mod follow;
mod lookups;
mod position;
mod stream;
mod tail;

use axum::Router;
use axum::middleware;
use axum::routing::{get, post};

pub use access::{SyncKey, SyncKeys};
pub(super) use lookups::MOST_LOOKUPS;
pub(super) use tail::Tail;

use super::Store;
use crate::wire::feed::FOLLOW;

/// The paths under `/sync/v1`, and the stream.
pub(super) fn pages(store: &Store) -> Router<Store> {
    let admit = |operation: &'static str| middleware::from_fn_with_state((store.clone(), operation), access::admit);
    Router::new()
        .route("/sync/v1/head", get(lookups::head).route_layer(admit("syncHead")))
        .route("/sync/v1/catalog", get(lookups::catalog).route_layer(admit("syncCatalog")))
        .route("/sync/v1/organizations", get(lookups::organizations).route_layer(admit("syncOrganizations")))
        .route("/sync/v1/organizations:batch", post(lookups::batch).route_layer(admit("syncOrganizationsBatch")))
        .route("/sync/v1/organizations/{id}", get(lookups::organization).route_layer(admit("syncOrganization")))
        .route("/sync/v1/revocations", get(lookups::revocations).route_layer(admit("syncRevocations")))
        .route(FOLLOW, post(stream::follow).route_layer(admit("syncFollow")))
}
