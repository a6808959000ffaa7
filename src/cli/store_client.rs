//! Commands ask the store over HTTP where it runs, and on its database where it does not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::app::{self, SystemClock};
use crate::config::store::StoreFile;
use crate::config::{self, Environment, ProcessEnvironment};
use crate::store::Store;

/// The longest that a running store takes to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store to ask.
pub(super) enum StoreClient {
    /// It runs.
    Running { client: Client<HttpConnector, Full<Bytes>>, base: String, key: String },
    /// It does not, or cannot be asked.
    Here(Store),
}

impl StoreClient {
    /// The store of this configuration: the running one when it answers and the configuration has a key that may do everything, or the
    /// environment has one in `PORTCULLIS_API_KEY`.
    pub(super) async fn open(file: &Path) -> anyhow::Result<Self> {
        let config = config::store::load(file, &ProcessEnvironment)?;
        if let Some(running) = Self::running(&config).await {
            return Ok(running);
        }
        let metrics = Arc::new(app::store::metrics()?);
        Ok(Self::Here(app::store::open(&config, Arc::new(SystemClock), metrics).await?))
    }

    async fn running(config: &StoreFile) -> Option<Self> {
        let own = config.own_key.as_ref().map(|key| key.as_str().to_owned());
        let key = own.or_else(|| ProcessEnvironment.variable("PORTCULLIS_API_KEY"))?;
        if config.tls.is_some() || config.listen.port() == 0 {
            return None;
        }
        let mut address = config.listen;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let running = Self::at(format!("http://{address}"), key);
        running.ask(Method::GET, "/live", None).await.ok().map(|_| running)
    }

    /// The store that listens at `base`, asked with this key.
    pub(super) fn at(base: String, key: String) -> Self {
        Self::Running { client: Client::builder(TokioExecutor::new()).build_http(), base, key }
    }

    /// Status and body of the answer.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let (client, base, key) = match self {
            Self::Here(store) => return Ok(store.ask(method, path, body).await?),
            Self::Running { client, base, key } => (client, base, key),
        };
        let bytes = body.map(ToString::to_string).unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{base}{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(bytes)))?;
        let exchange = async {
            let response = client.request(request).await?;
            let status = response.status();
            anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
        };
        let (status, bytes) = tokio::time::timeout(PATIENCE, exchange)
            .await
            .with_context(|| format!("the store at `{base}` is silent"))??;
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes)? };
        Ok((status, body))
    }

    /// The body, if the answer is a success.
    pub(super) async fn expect(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let (status, body) = self.ask(method, path, body).await?;
        let message = body.get("message").and_then(Value::as_str).unwrap_or_default();
        anyhow::ensure!(status.is_success(), "the store answers {status}: {message}");
        Ok(body)
    }

    /// Lets go of the database.
    pub(super) async fn close(self) {
        if let Self::Here(store) = self {
            store.close().await;
        }
    }
}
