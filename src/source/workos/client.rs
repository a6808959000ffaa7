//! One question to the server and its answer: bounded in size and time, within the budget, asked again when that may help. Redirects are
//! not followed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rand::Rng;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::budget::Budget;
use super::{HostedError, Settings};
use crate::domain::Clock;
use crate::telemetry::{Metrics, SourceAnswer};

/// The largest answer, in bytes.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// How long one question may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often a question is asked before its error counts.
const ATTEMPTS: u32 = 4;
/// The waits between attempts are random, up to this times 2^n and never beyond [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The longest pause that a server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Questions on their way at the same time; checks are not counted.
const LANES: usize = 16;

type Http = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Asks the server.
pub(super) struct Client {
    /// For reading, and for checks: these come from other threads, and must not wait behind a crawl.
    reading: Http,
    checking: Http,
    url: String,
    authorization: HeaderValue,
    budget: Budget,
    lanes: Semaphore,
    is_answering: AtomicBool,
    metrics: Arc<Metrics>,
}

/// Why there is no answer, or none to go by; the end of a sentence that begins with the server.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("did not answer completely within {0:?}")]
    Deadline(Duration),
    #[error("cannot be reached")]
    Unreachable(#[source] legacy::Error),
    #[error("answered {status}{} to `{path}`", code.as_ref().map(|code| format!(" `{code}`")).unwrap_or_default())]
    Status { status: StatusCode, code: Option<Box<str>>, path: Box<str>, pause: Option<Duration> },
    #[error("gave an answer to `{path}` that broke off, or has more than {MOST_BYTES} bytes")]
    Body {
        path: Box<str>,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("gave an answer to `{path}` that cannot be read")]
    Shape {
        path: Box<str>,
        #[source]
        source: serde_json::Error,
    },
    #[error("cannot be asked for `{0}`")]
    Question(Box<str>),
    /// What it said contradicts itself.
    #[error("gave an answer to `{path}` that cannot be: {what}")]
    Implausible { path: Box<str>, what: String },
    /// What was read at one moment does not go with what was read at another.
    #[error("changed while it was read: {0}")]
    Changed(String),
}

/// The part of an error's body that is looked at.
#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    code: Option<String>,
}

impl AskError {
    pub(super) fn implausible(path: &str, what: impl Into<String>) -> Self {
        Self::Implausible { path: path.into(), what: what.into() }
    }

    pub(super) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.status() == Some(StatusCode::NOT_FOUND)
    }

    /// Whether the same question may be answered a little later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Deadline(_) | Self::Unreachable(_) | Self::Body { .. } => true,
            Self::Status { status, .. } => {
                matches!(
                    *status,
                    StatusCode::TOO_MANY_REQUESTS
                        | StatusCode::BAD_GATEWAY
                        | StatusCode::SERVICE_UNAVAILABLE
                        | StatusCode::GATEWAY_TIMEOUT
                )
            }
            Self::Shape { .. } | Self::Question(_) | Self::Implausible { .. } | Self::Changed(_) => false,
        }
    }
}

impl Client {
    pub(super) fn new(settings: &Settings, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Result<Self, HostedError> {
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {}", settings.key.0)).map_err(|_| HostedError::Key)?;
        authorization.set_sensitive(true);
        Ok(Self {
            reading: http(settings.url.is_secure())?,
            checking: http(settings.url.is_secure())?,
            url: settings.url.as_str().to_owned(),
            authorization,
            budget: Budget::new(settings.requests_per_second, clock),
            lanes: Semaphore::new(LANES),
            is_answering: AtomicBool::new(false),
            metrics,
        })
    }

    /// Where the server is.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Whether the last question was answered.
    pub(super) fn is_answering(&self) -> bool {
        self.is_answering.load(Ordering::Relaxed)
    }

    /// What is at `path`.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        let mut attempt = 0;
        let body = loop {
            let lane = self.lanes.acquire().await;
            self.budget.take().await;
            let error = match timeout(DEADLINE, self.ask(&self.reading, Method::GET, path, Bytes::new())).await {
                Ok(Ok(body)) => break body,
                Ok(Err(error)) => error,
                Err(_) => AskError::Deadline(DEADLINE),
            };
            drop(lane);
            attempt += 1;
            let wait = self.heed(&error, attempt);
            if attempt == ATTEMPTS || !error.may_pass() {
                return Err(error);
            }
            sleep(wait).await;
        };
        serde_json::from_slice(&body).map_err(|source| AskError::Shape { path: path.into(), source })
    }

    /// What the server says to `body`. Asked once: whoever needs this answer cannot wait.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<T, AskError> {
        let asked = timeout(within, async {
            self.budget.take().await;
            self.ask(&self.checking, Method::POST, path, body.into()).await
        });
        let answer = asked.await.unwrap_or(Err(AskError::Deadline(within)));
        let answer = answer.inspect_err(|error| _ = self.heed(error, 1))?;
        serde_json::from_slice(&answer).map_err(|source| AskError::Shape { path: path.into(), source })
    }

    /// Lets everybody wait when the server wants that; answers how long this question should wait beyond it, with full jitter.
    fn heed(&self, error: &AskError, attempt: u32) -> Duration {
        let most = FIRST_WAIT.saturating_mul(1 << attempt.min(16)).min(LONGEST_WAIT);
        let wait = rand::rng().random_range(Duration::ZERO..=most);
        if let AskError::Status { status, pause, .. } = error {
            let pause = pause.or((*status == StatusCode::TOO_MANY_REQUESTS).then_some(wait));
            pause.into_iter().for_each(|pause| self.budget.pause(pause.min(LONGEST_PAUSE)));
        }
        wait
    }

    async fn ask(&self, http: &Http, method: Method, path: &str, body: Bytes) -> Result<Bytes, AskError> {
        let answer = self.ask_uncounted(http, method, path, body).await;
        let (is_answer, counted) = match &answer {
            Ok(_) => (true, SourceAnswer::Answered),
            Err(AskError::Status { status: StatusCode::TOO_MANY_REQUESTS, .. }) => (false, SourceAnswer::Limited),
            Err(AskError::Status { status, .. }) if status.is_server_error() => (false, SourceAnswer::Failed),
            Err(AskError::Status { .. }) => (true, SourceAnswer::Refused),
            Err(_) => (false, SourceAnswer::Failed),
        };
        self.is_answering.store(is_answer, Ordering::Relaxed);
        self.metrics.source_answered(counted);
        answer
    }

    async fn ask_uncounted(&self, http: &Http, method: Method, path: &str, body: Bytes) -> Result<Bytes, AskError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header(header::AUTHORIZATION, &self.authorization)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("portcullis/", env!("CARGO_PKG_VERSION")));
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::from(body)).map_err(|_| AskError::Question(path.into()))?;
        let (head, body) = http.request(request).await.map_err(AskError::Unreachable)?.into_parts();
        let body = Limited::new(body, MOST_BYTES).collect().await;
        let body = body.map_err(|source| AskError::Body { path: path.into(), source })?.to_bytes();
        if head.status.is_success() {
            return Ok(body);
        }
        let seconds = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let code = serde_json::from_slice::<ErrorBody>(&body).ok().and_then(|body| body.code);
        Err(AskError::Status {
            status: head.status,
            code: code.map(|code| code.escape_debug().take(64).collect::<String>().into()),
            path: path.into(),
            pause: seconds.map(Duration::from_secs),
        })
    }
}

fn http(secure: bool) -> Result<Http, HostedError> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let builder = HttpsConnectorBuilder::new();
    let builder = if secure {
        builder.with_provider_and_native_roots(provider).map_err(HostedError::Roots)?
    } else {
        let config = ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions()?;
        builder.with_tls_config(config.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
    };
    let connector = builder.https_or_http().enable_http1().build();
    let mut client = legacy::Client::builder(TokioExecutor::new());
    client.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(30)).pool_max_idle_per_host(LANES);
    Ok(client.build(connector))
}
