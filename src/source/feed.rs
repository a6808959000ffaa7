//! The client of the bundled store's sync feed: look-ups, and the stream.
//!
//! Two connections, so that a large organization on one does not hold up what happens on the other.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Status, Streaming};
use tower::ServiceExt;

use crate::domain::OrganizationId;
use crate::wire::RevocationList;
use crate::wire::feed::{CatalogAnswer, Down, FOLLOW, JsonCodec, OrganizationAnswer, OrganizationsAnswer, Up};

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for a look-up, its answer included.
const LOOKUP: Duration = Duration::from_secs(30);
/// A quiet connection is asked so often whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// The largest answer, in bytes.
const LARGEST_ANSWER: usize = 1024 * 1024 * 1024;
/// The largest message of the stream, in bytes.
const LARGEST_MESSAGE: usize = 256 * 1024 * 1024;
/// What is escaped in a path segment: whatever RFC 3986 does not call unreserved.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where the store is, and how to be let in.
#[derive(Clone)]
pub struct FeedSettings {
    /// `http://127.0.0.1:9902`
    pub url: Uri,
    /// The sync key.
    pub key: String,
    /// PEM certificates to trust instead of the system's.
    pub ca: Option<Vec<u8>>,
}

/// Talks to the store. Must be made inside the runtime that uses it.
#[derive(Clone)]
pub struct FeedClient {
    lookups: Channel,
    stream: Channel,
    authorization: MetadataValue<Ascii>,
    url: Uri,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The URL or the key cannot be used.
    #[error("the store at `{url}` cannot be addressed")]
    Settings {
        /// Where.
        url: Uri,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It cannot be reached, or the connection broke.
    #[error("the store at `{url}` does not answer")]
    Unreachable {
        /// Where.
        url: Uri,
        /// What happened.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It answered with something else than what was asked for.
    #[error("the store at `{url}` answered {status} to {path}")]
    Refused {
        /// Where.
        url: Uri,
        /// What was asked for.
        path: String,
        /// With what.
        status: StatusCode,
    },
    /// It ended the stream.
    #[error("the store at `{url}` ended the stream")]
    Ended {
        /// Where.
        url: Uri,
        /// Why.
        #[source]
        source: Box<Status>,
    },
    /// It took too long.
    #[error("the store at `{url}` did not answer within {LOOKUP:?}")]
    TimedOut {
        /// Where.
        url: Uri,
    },
    /// The answer is not one.
    #[error("the store at `{url}` gave an answer to {path} that cannot be read")]
    Unreadable {
        /// Where.
        url: Uri,
        /// What was asked for.
        path: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

impl FeedError {
    /// Whether a message of the stream was larger than any is read: it would be so again.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::Ended { source, .. } if source.code() == tonic::Code::OutOfRange)
    }
}

impl FeedClient {
    /// A client; connects when it is first used.
    ///
    /// # Errors
    /// [`FeedError::Settings`]
    pub fn new(settings: &FeedSettings) -> Result<Self, FeedError> {
        let refused = |source| FeedError::Settings { url: settings.url.clone(), source };
        let mut endpoint = Endpoint::from(settings.url.clone())
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(4 * 1024 * 1024)
            .initial_connection_window_size(8 * 1024 * 1024);
        if settings.url.scheme_str() == Some("https") {
            let tls = match &settings.ca {
                Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
                None => ClientTlsConfig::new().with_native_roots(),
            };
            endpoint = endpoint.tls_config(tls).map_err(|error| refused(error.into()))?;
        }
        let authorization = format!("Bearer {}", settings.key).parse();
        let mut authorization: MetadataValue<Ascii> =
            authorization.map_err(|_| refused("the key has characters that a header cannot have".into()))?;
        authorization.set_sensitive(true);
        let (lookups, stream) = (endpoint.connect_lazy(), endpoint.connect_lazy());
        Ok(Self { lookups, stream, authorization, url: settings.url.clone() })
    }

    /// What the environment declares.
    ///
    /// # Errors
    /// [`FeedError`]
    pub async fn catalog(&self) -> Result<CatalogAnswer, FeedError> {
        self.get("/sync/v1/catalog", &[StatusCode::OK]).await
    }

    /// The facts of one organization.
    ///
    /// # Errors
    /// [`FeedError`]
    pub async fn organization(&self, id: &OrganizationId) -> Result<OrganizationAnswer, FeedError> {
        let id = utf8_percent_encode(id.as_str(), SEGMENT);
        self.get(&format!("/sync/v1/organizations/{id}"), &[StatusCode::OK, StatusCode::NOT_FOUND]).await
    }

    /// A page of the organizations' ids.
    ///
    /// # Errors
    /// [`FeedError`]
    pub async fn organizations(&self, after: Option<&OrganizationId>) -> Result<OrganizationsAnswer, FeedError> {
        let after = after.map(|id| format!("?after={}", utf8_percent_encode(id.as_str(), SEGMENT))).unwrap_or_default();
        self.get(&format!("/sync/v1/organizations{after}"), &[StatusCode::OK]).await
    }

    /// All revocations in force.
    ///
    /// # Errors
    /// [`FeedError`]
    pub async fn revocations(&self) -> Result<RevocationList, FeedError> {
        self.get("/sync/v1/revocations", &[StatusCode::OK]).await
    }

    /// Begins the stream. `messages` go up as they come, `resume` before all of them.
    ///
    /// # Errors
    /// [`FeedError`]
    pub async fn follow(&self, messages: mpsc::Receiver<Up>) -> Result<Streaming<Down>, FeedError> {
        let mut grpc = Grpc::new(self.stream.clone()).max_decoding_message_size(LARGEST_MESSAGE);
        let unreachable =
            |source: Box<dyn std::error::Error + Send + Sync>| FeedError::Unreachable { url: self.url.clone(), source };
        timeout(CONNECT, grpc.ready())
            .await
            .map_err(|error| unreachable(error.into()))?
            .map_err(|error| unreachable(error.into()))?;
        let mut request = tonic::Request::new(ReceiverStream::new(messages));
        request.metadata_mut().insert("authorization", self.authorization.clone());
        let answered = grpc.streaming(request, PathAndQuery::from_static(FOLLOW), JsonCodec::<Up, Down>::default());
        let answer = timeout(CONNECT, answered).await.map_err(|error| unreachable(error.into()))?;
        Ok(answer.map_err(|status| self.ended(status))?.into_inner())
    }

    /// The error of a stream that was ended with this status.
    pub fn ended(&self, status: Status) -> FeedError {
        FeedError::Ended { url: self.url.clone(), source: Box::new(status) }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, expected: &[StatusCode]) -> Result<T, FeedError> {
        let answered = timeout(LOOKUP, self.fetch(path)).await;
        let (status, body) = answered.map_err(|_| FeedError::TimedOut { url: self.url.clone() })??;
        let path = || path.split('?').next().unwrap_or_default().to_owned();
        if !expected.contains(&status) {
            return Err(FeedError::Refused { url: self.url.clone(), path: path(), status });
        }
        serde_json::from_slice(&body).map_err(|source| FeedError::Unreadable {
            url: self.url.clone(),
            path: path(),
            source,
        })
    }

    async fn fetch(&self, path: &str) -> Result<(StatusCode, Bytes), FeedError> {
        let unreachable =
            |source: Box<dyn std::error::Error + Send + Sync>| FeedError::Unreachable { url: self.url.clone(), source };
        let request = Request::builder()
            .method(Method::GET)
            .uri(path)
            .header(header::AUTHORIZATION, self.authorization.as_encoded_bytes())
            .body(Body::empty())
            .map_err(|error| unreachable(error.into()))?;
        let answer = self.lookups.clone().oneshot(request).await.map_err(|error| unreachable(error.into()))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await.map_err(unreachable)?;
        Ok((status, body.to_bytes()))
    }
}

impl fmt::Debug for FeedSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeedSettings").field("url", &self.url).finish_non_exhaustive()
    }
}

impl fmt::Debug for FeedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeedClient").field("url", &self.url).finish_non_exhaustive()
    }
}
