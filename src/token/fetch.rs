//! One key set document, from a URL or a file: bounded in size and time, redirects not followed.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt;

use super::jwks::SetError;
use super::settings::{JwksUrl, KeySource};

/// The largest document, in bytes.
const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;

/// Why nothing can be fetched over `https`.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The system's root certificates cannot be read.
    #[error("the root certificates of this system cannot be read")]
    Roots(#[source] std::io::Error),
    /// The TLS library refuses its own defaults.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// Why a key set could not be had, as the end of a sentence that begins with its source.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("did not answer completely within {0:?}")]
    Deadline(Duration),
    #[error("cannot be reached")]
    Unreachable(#[source] hyper_util::client::legacy::Error),
    #[error("answered {0}, expected 200; redirects are not followed")]
    Status(StatusCode),
    #[error("gave an answer that broke off, or has more than {MAX_DOCUMENT_BYTES} bytes")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot be read")]
    File(#[source] std::io::Error),
    #[error("has more than {MAX_DOCUMENT_BYTES} bytes")]
    FileSize,
    #[error("gave no usable key set")]
    Set(#[from] SetError),
}

impl LoadError {
    /// The message with those of its causes.
    pub(super) fn with_causes(&self) -> impl fmt::Display {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

/// Loads documents; cheap to clone.
#[derive(Clone)]
pub(super) struct Loader {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    deadline: Duration,
}

impl Loader {
    /// A loader for `sources`. Root certificates are read only when one of them is `https`.
    pub(super) fn new<'a>(
        sources: impl IntoIterator<Item = &'a KeySource>,
        deadline: Duration,
    ) -> Result<Self, KeysError> {
        let secure = sources
            .into_iter()
            .any(|source| matches!(source, KeySource::Url(url) if url.uri().scheme_str() == Some("https")));
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let builder = HttpsConnectorBuilder::new();
        let builder = if secure {
            builder.with_provider_and_native_roots(provider).map_err(KeysError::Roots)?
        } else {
            let config = ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions()?;
            builder.with_tls_config(config.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
        };
        let connector = builder.https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { client, deadline })
    }

    /// The document at `source`.
    pub(super) async fn load(&self, source: &KeySource) -> Result<Bytes, LoadError> {
        match source {
            KeySource::Url(url) => tokio::time::timeout(self.deadline, self.fetch(url))
                .await
                .unwrap_or(Err(LoadError::Deadline(self.deadline))),
            KeySource::File(path) => read(path).await,
        }
    }

    async fn fetch(&self, url: &JwksUrl) -> Result<Bytes, LoadError> {
        let answer = self.client.get(url.uri().clone()).await.map_err(LoadError::Unreachable)?;
        if answer.status() != StatusCode::OK {
            return Err(LoadError::Status(answer.status()));
        }
        let body = Limited::new(answer.into_body(), MAX_DOCUMENT_BYTES).collect().await;
        Ok(body.map_err(LoadError::Body)?.to_bytes())
    }
}

async fn read(path: &Path) -> Result<Bytes, LoadError> {
    let file = tokio::fs::File::open(path).await.map_err(LoadError::File)?;
    let mut document = Vec::new();
    file.take(MAX_DOCUMENT_BYTES as u64 + 1).read_to_end(&mut document).await.map_err(LoadError::File)?;
    if document.len() > MAX_DOCUMENT_BYTES {
        return Err(LoadError::FileSize);
    }
    Ok(document.into())
}
