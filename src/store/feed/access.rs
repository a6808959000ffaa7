//! Who may read the feed: sync keys, each for all organizations or for some.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use tonic::Status;

use crate::domain::OrganizationId;
use crate::store::error::StoreError;
use crate::store::keys::{Author, bearer, find};
use crate::store::{Store, access};

/// A key of sidecars: the name it is known by, a hash of it, and whose facts it may read.
#[derive(Clone)]
pub struct SyncKey {
    name: Arc<str>,
    sha256: [u8; 32],
    organizations: Option<Arc<BTreeSet<OrganizationId>>>,
}

/// All sync keys there are.
#[derive(Debug, Clone, Default)]
pub struct SyncKeys(Vec<SyncKey>);

/// A sidecar that showed its key.
#[derive(Debug, Clone)]
pub(super) struct Subscriber {
    /// What its key is called.
    pub(super) name: Arc<str>,
    /// Whose facts it may read; `None` = all.
    organizations: Option<Arc<BTreeSet<OrganizationId>>>,
}

impl SyncKey {
    /// The key with this SHA-256, for these organizations; `None` = all.
    pub fn hashed(name: &str, sha256: [u8; 32], organizations: Option<BTreeSet<OrganizationId>>) -> Self {
        Self { name: name.into(), sha256, organizations: organizations.map(Arc::new) }
    }

    /// What it is known by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whose facts it may read; `None` = all.
    pub fn organizations(&self) -> Option<&BTreeSet<OrganizationId>> {
        self.organizations.as_deref()
    }
}

impl fmt::Debug for SyncKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncKey").field("name", &self.name).finish_non_exhaustive()
    }
}

impl SyncKeys {
    /// These keys and no others.
    pub fn new(keys: Vec<SyncKey>) -> Self {
        Self(keys)
    }

    /// All of them.
    pub fn all(&self) -> &[SyncKey] {
        &self.0
    }
}

impl Subscriber {
    /// Whose facts it may read; `None` = all.
    pub(super) fn organizations(&self) -> Option<&BTreeSet<OrganizationId>> {
        self.organizations.as_deref()
    }

    /// Whether it may read the facts of `organization`.
    pub(super) fn may_read(&self, organization: &OrganizationId) -> bool {
        self.organizations.as_ref().is_none_or(|allowed| allowed.contains(organization))
    }
}

/// Lets a request in that shows a sync key; the handler learns whose.
pub(super) async fn admit(
    State((store, operation)): State<(Store, &'static str)>,
    mut request: Request,
    next: Next,
) -> Result<Response, StoreError> {
    access::operation(&request, operation);
    let keys = &store.0.settings.sync_keys.0;
    let shown = bearer(request.headers());
    let key =
        shown.and_then(|shown| find(keys.iter().map(|key| (&key.sha256, key)), &shown).ok_or(StoreError::Unauthorized));
    let key = match key {
        Ok(key) => key,
        // Who speaks gRPC does not look at the status of HTTP.
        Err(error) if is_grpc(&request) => return Ok(Status::unauthenticated(error.to_string()).into_http()),
        Err(error) => return Err(error),
    };
    access::author(&request, &Author { name: Arc::clone(&key.name), repeatable: None });
    let subscriber = Subscriber { name: Arc::clone(&key.name), organizations: key.organizations.clone() };
    request.extensions_mut().insert(subscriber);
    Ok(next.run(request).await)
}

fn is_grpc(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

impl<S: Sync> FromRequestParts<S> for Subscriber {
    type Rejection = StoreError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StoreError> {
        // Put there by `admit`, for every path.
        parts.extensions.get::<Self>().cloned().ok_or(StoreError::Unauthorized)
    }
}
