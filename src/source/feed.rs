//! The client of the bundled store's sync feed: look-ups, and the stream.
//!
//! Two connections, so that a large organization on one does not hold up what happens on the other.

use std::fmt;
use std::time::Duration;

use bytes::BytesMut;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri, header};
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
use tonic::{Code, Status, Streaming};
use tower::ServiceExt;

use super::room::{Place, Room};
use crate::domain::OrganizationId;
use crate::wire::RevocationList;
use crate::wire::feed::{CatalogAnswer, Down, FOLLOW, JsonCodec, OrganizationAnswer, OrganizationsAnswer, Up};

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Time until a look-up is answered. The store reads all of an organization before it says anything, ten seconds for each million
/// assignments.
const LOOKUP: Duration = Duration::from_secs(120);
/// The longest pause in an answer.
const PAUSE: Duration = Duration::from_secs(30);
/// A quiet connection is asked so often whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// The largest answer, in bytes.
const LARGEST_ANSWER: usize = 1024 * 1024 * 1024;
/// The largest message of the stream, in bytes.
const LARGEST_MESSAGE: usize = 256 * 1024 * 1024;
/// What of an answer is on its way before it is read, and of all answers together: those that wait for room hold up no other.
const WINDOW: u32 = 1024 * 1024;
const WINDOWS: u32 = 48 * WINDOW;
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
    /// It took too long: `LOOKUP` to the beginning of an answer, or `PAUSE` within it.
    #[error("the store at `{url}` does not answer in time")]
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
    /// Whether the store does not take the sync key, or not for this.
    pub fn is_unauthorized(&self) -> bool {
        match self {
            Self::Refused { status, .. } => matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN),
            Self::Ended { source, .. } => matches!(source.code(), Code::Unauthenticated | Code::PermissionDenied),
            _ => false,
        }
    }

    /// Whether a message of the stream was larger than any is read: it would be so again.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::Ended { source, .. } if source.code() == Code::OutOfRange)
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
            .keep_alive_while_idle(true);
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
        let windows = |endpoint: &Endpoint, one: u32, all: u32| {
            endpoint.clone().initial_stream_window_size(one).initial_connection_window_size(all).connect_lazy()
        };
        let lookups = windows(&endpoint, WINDOW, WINDOWS);
        let stream = windows(&endpoint, 4 * WINDOW, 8 * WINDOW);
        Ok(Self { lookups, stream, authorization, url: settings.url.clone() })
    }

    /// What the environment declares.
    ///
    /// # Errors
    /// [`FeedError`]
    pub async fn catalog(&self) -> Result<CatalogAnswer, FeedError> {
        self.get("/sync/v1/catalog").await
    }

    /// The facts of one organization, read when there is room for them; the place is to be kept until they are made use of.
    ///
    /// # Errors
    /// [`FeedError`]
    pub async fn organization(
        &self,
        id: &OrganizationId,
        room: &Room,
    ) -> Result<(OrganizationAnswer, Place), FeedError> {
        let path = format!("/sync/v1/organizations/{}", utf8_percent_encode(id.as_str(), SEGMENT));
        let answer = self.ask(&path, &[StatusCode::OK, StatusCode::NOT_FOUND]).await?;
        let length = answer.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        // What does not say how long it is may be as long as can be.
        let place = room.take(length.unwrap_or(LARGEST_ANSWER as u64)).await;
        Ok((self.read(&path, answer).await?, place))
    }

    /// A page of the organizations' ids.
    ///
    /// # Errors
    /// [`FeedError`]
    pub async fn organizations(&self, after: Option<&OrganizationId>) -> Result<OrganizationsAnswer, FeedError> {
        let after = after.map(|id| format!("?after={}", utf8_percent_encode(id.as_str(), SEGMENT))).unwrap_or_default();
        self.get(&format!("/sync/v1/organizations{after}")).await
    }

    /// All revocations in force.
    ///
    /// # Errors
    /// [`FeedError`]
    pub async fn revocations(&self) -> Result<RevocationList, FeedError> {
        self.get("/sync/v1/revocations").await
    }

    /// Begins the stream. `messages` go up as they come, `resume` before all of them.
    ///
    /// # Errors
    /// [`FeedError`]
    pub async fn follow(&self, messages: mpsc::Receiver<Up>) -> Result<Streaming<Down>, FeedError> {
        let mut grpc = Grpc::new(self.stream.clone()).max_decoding_message_size(LARGEST_MESSAGE);
        let ready = timeout(CONNECT, grpc.ready()).await.map_err(|error| self.unreachable(error))?;
        ready.map_err(|error| self.unreachable(error))?;
        let mut request = tonic::Request::new(ReceiverStream::new(messages));
        request.metadata_mut().insert("authorization", self.authorization.clone());
        let answered = grpc.streaming(request, PathAndQuery::from_static(FOLLOW), JsonCodec::<Up, Down>::default());
        let answer = timeout(CONNECT, answered).await.map_err(|error| self.unreachable(error))?;
        Ok(answer.map_err(|status| self.ended(status))?.into_inner())
    }

    /// The error of a stream that was ended with this status.
    pub fn ended(&self, status: Status) -> FeedError {
        FeedError::Ended { url: self.url.clone(), source: Box::new(status) }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, FeedError> {
        let answer = self.ask(path, &[StatusCode::OK]).await?;
        self.read(path, answer).await
    }

    /// Asks; the answer, with one of these statuses, is yet to be read.
    async fn ask(&self, path: &str, expected: &[StatusCode]) -> Result<Response<Body>, FeedError> {
        let request = Request::builder()
            .method(Method::GET)
            .uri(path)
            .header(header::AUTHORIZATION, self.authorization.as_encoded_bytes())
            .body(Body::empty())
            .map_err(|error| self.unreachable(error))?;
        let answered = timeout(LOOKUP, self.lookups.clone().oneshot(request)).await;
        let answer = answered.map_err(|_| self.timed_out())?.map_err(|error| self.unreachable(error))?;
        let status = answer.status();
        if expected.contains(&status) {
            return Ok(answer);
        }
        Err(FeedError::Refused { url: self.url.clone(), path: without_query(path), status })
    }

    async fn read<T: DeserializeOwned>(&self, path: &str, answer: Response<Body>) -> Result<T, FeedError> {
        let mut body = Limited::new(answer.into_body(), LARGEST_ANSWER);
        let mut read = BytesMut::new();
        while let Some(frame) = timeout(PAUSE, body.frame()).await.map_err(|_| self.timed_out())? {
            if let Ok(data) = frame.map_err(|error| self.unreachable(error))?.into_data() {
                read.extend_from_slice(&data);
            }
        }
        let unreadable = |source| FeedError::Unreadable { url: self.url.clone(), path: without_query(path), source };
        serde_json::from_slice(&read).map_err(unreadable)
    }

    fn timed_out(&self) -> FeedError {
        FeedError::TimedOut { url: self.url.clone() }
    }

    fn unreachable(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> FeedError {
        FeedError::Unreachable { url: self.url.clone(), source: error.into() }
    }
}

/// The cursors of lists are nobody's business.
fn without_query(path: &str) -> String {
    path.split('?').next().unwrap_or_default().to_owned()
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
