//! The wiring of the bundled store: opens the keys and the database, applies the model, serves until it is told to stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::Value;

use super::{Interruption, Stop};
use crate::config::store::{IssuerSettings, StoreFile};
use crate::domain::Clock;
use crate::socket::BindError;
use crate::store::{DatabaseError, Server, Settings, Signing, Store, StoreError};
use crate::telemetry::{MetricsError, StoreMetrics};
use crate::token::{Algorithm, Issuer, IssuerError};
use crate::wire::{Model, PermissionSpec, RoleSpec};

const MODEL: &str = "/portcullis/v1/model";

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum StoreAppError {
    /// The signing key cannot be used.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// A key that has to be the same in several stores is missing.
    #[error(
        "signing key `{path}` is missing, and every store on this database has to have the same one: make it once, with \
         `portcullis token keys --config FILE`, and copy it"
    )]
    NoSigningKey {
        /// Its file.
        path: PathBuf,
    },
    /// A key cannot be published.
    #[error("the key set cannot be written")]
    KeySet(#[from] serde_json::Error),
    /// The database cannot be opened.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The address is taken, or not ours.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The model cannot be applied.
    #[error("the model is refused: {0}")]
    Model(String),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A store, ready to serve: its socket is bound.
pub struct StoreApp {
    store: Store,
    server: Server,
    address: SocketAddr,
    stop: Stop,
    interrupted: Interruption,
}

/// What became of the model of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelAtStart {
    /// It is in force already.
    InForce,
    /// It was applied.
    Applied,
    /// It changes or removes something: `portcullis model apply` does that.
    NeedsApply,
}

/// All series of a store of this build, at zero.
///
/// # Errors
/// [`MetricsError`], never in a tested build.
pub fn metrics() -> Result<StoreMetrics, MetricsError> {
    StoreMetrics::new(super::build())
}

/// Opens the database of `config`, and the signing keys, which are created when they are missing and no other store could need the same.
///
/// # Errors
/// [`StoreAppError`]
pub async fn open(
    config: &StoreFile,
    clock: Arc<dyn Clock>,
    metrics: Arc<StoreMetrics>,
) -> Result<Store, StoreAppError> {
    super::descriptors::raise();
    let is_shared = !config.database.expose().starts_with("sqlite:");
    let issuer = config.issuer.as_ref().map(|settings| signing(settings, is_shared)).transpose()?.map(Arc::new);
    let settings = Settings {
        readers: config.connections,
        max_resources_of_type: config.max_resources_of_type,
        max_depth: config.max_depth,
        max_memory: config.max_memory,
        api_keys: config.api_keys.clone(),
        sync_keys: config.sync_keys.clone(),
        request_timeout: config.request_timeout,
        issuer,
        ..Settings::of(config.database.expose(), metrics)
    };
    Ok(Store::open(settings, clock).await?)
}

/// The keys that the tokens of `settings` are verified by, as a key set. A signing key that is missing is created: the one that all stores
/// on one database share is made like that.
///
/// # Errors
/// [`StoreAppError::Issuer`]
pub fn key_set(settings: &IssuerSettings) -> Result<String, StoreAppError> {
    Ok(serde_json::to_string(signing(settings, false)?.key_set())?)
}

/// What signs. Where stores share a database, a key that is missing is not made: each would make another.
fn signing(settings: &IssuerSettings, is_shared: bool) -> Result<Signing, StoreAppError> {
    let open = |file: &PathBuf| match is_shared && !file.exists() {
        true => Err(StoreAppError::NoSigningKey { path: file.clone() }),
        false => Ok(Issuer::open(&settings.url, Path::new(file), Algorithm::RS256)?),
    };
    let current = open(&settings.signing_key)?;
    let next = settings.next_signing_key.as_ref().map(open).transpose()?;
    Ok(Signing::new(settings.client_id.clone(), settings.token_lifetime, current, next.as_ref())?)
}

impl StoreApp {
    /// Opens everything that `config` asks for and binds the socket.
    ///
    /// # Errors
    /// [`StoreAppError`]; nothing is served.
    pub async fn build(
        config: StoreFile,
        clock: Arc<dyn Clock>,
        metrics: Arc<StoreMetrics>,
    ) -> Result<Self, StoreAppError> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        // Before anybody is told that it is there.
        let interrupted = Interruption::expected();
        let store = open(&config, clock, metrics).await?;
        if let Some(model) = &config.model {
            match apply_additions(&store, model).await? {
                ModelAtStart::InForce => {}
                ModelAtStart::Applied => tracing::info!("the model was applied"),
                ModelAtStart::NeedsApply => tracing::warn!(
                    "the model file changes or removes what is in force, which stays: see `portcullis model plan`, then `portcullis model apply`"
                ),
            }
        }
        let server = Server::bind(store.clone(), config.listen, config.tls)?;
        let address = server.address().map_err(|source| BindError { address: config.listen.to_string(), source })?;
        Ok(Self { store, server, address, stop: Stop::new(), interrupted })
    }

    /// Where it can be reached, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The store itself.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A handle to stop it from elsewhere.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Serves until a signal or [`Stop::now`]; then requests in flight may finish.
    ///
    /// # Errors
    /// What the system says when the socket cannot be used.
    pub async fn run(self) -> std::io::Result<()> {
        let stop = self.stop.clone();
        let signals = async {
            self.interrupted.await;
            tracing::info!("stopping: requests in flight may finish");
            stop.now();
            std::future::pending::<()>().await;
        };
        let served = self.server.serve(self.stop.subscribe());
        tokio::select! {
            result = served => result,
            () = signals => Ok(()),
        }
    }
}

/// Puts `model` in force if it leaves everything as it is that is there.
///
/// # Errors
/// [`StoreAppError::Model`] when the store refuses it.
pub async fn apply_additions(store: &Store, model: &Model) -> Result<ModelAtStart, StoreAppError> {
    let (status, current) = store.ask(Method::GET, MODEL, None).await?;
    let current: Model =
        if status == StatusCode::OK { serde_json::from_value(current)? } else { return refused(&current) };
    let untouched = is_untouched(store, &current).await?;
    if !untouched && !only_adds(&current, model) {
        return Ok(ModelAtStart::NeedsApply);
    }
    if only_adds(&current, model) && only_adds(model, &current) {
        return Ok(ModelAtStart::InForce);
    }
    let (status, answer) = store.ask(Method::PUT, MODEL, Some(&serde_json::to_value(model)?)).await?;
    if status.is_success() { Ok(ModelAtStart::Applied) } else { refused(&answer) }
}

fn refused<T>(answer: &Value) -> Result<T, StoreAppError> {
    let message = answer.get("message").and_then(Value::as_str).unwrap_or("no reason was given");
    Err(StoreAppError::Model(message.to_owned()))
}

/// Whether nobody has used this environment yet: it is as it was made, and has no organizations.
async fn is_untouched(store: &Store, current: &Model) -> Result<bool, StoreAppError> {
    let as_made = current.resource_types.is_empty() && current.permissions.is_empty() && current.roles.len() <= 1;
    if !as_made {
        return Ok(false);
    }
    let (status, organizations) = store.ask(Method::GET, "/organizations?limit=1", None).await?;
    let is_empty = organizations.get("data").and_then(Value::as_array).is_some_and(Vec::is_empty);
    Ok(status == StatusCode::OK && is_empty)
}

/// Whether everything of `current` stands in `wanted` as it is, roles in the same order.
fn only_adds(current: &Model, wanted: &Model) -> bool {
    let types = current.resource_types.iter().all(|(slug, spec)| {
        let sorted = |parents: &[_]| {
            let mut parents = parents.to_vec();
            parents.sort_unstable();
            parents
        };
        wanted.resource_types.get(slug).is_some_and(|other| sorted(&other.parents) == sorted(&spec.parents))
    });
    let permissions =
        current.permissions.iter().all(|spec| wanted.permissions.iter().any(|other| same_permission(spec, other)));
    let mut others = wanted.roles.iter();
    let roles = current.roles.iter().all(|spec| others.any(|other| same_role(spec, other)));
    let settings = current.role_mode == wanted.role_mode
        && current.default_role() == wanted.default_role()
        && current.external_ids == wanted.external_ids;
    settings && types && permissions && roles
}

fn same_permission(one: &PermissionSpec, other: &PermissionSpec) -> bool {
    let name = |spec: &PermissionSpec| spec.name.clone().unwrap_or_else(|| spec.slug.as_str().to_owned());
    one.slug == other.slug
        && name(one) == name(other)
        && one.description == other.description
        && one.resource_type == other.resource_type
}

fn same_role(one: &RoleSpec, other: &RoleSpec) -> bool {
    let name = |spec: &RoleSpec| spec.name.clone().unwrap_or_else(|| spec.slug.as_str().to_owned());
    let permissions = |spec: &RoleSpec| {
        let mut permissions = spec.permissions.clone();
        permissions.sort_unstable();
        permissions
    };
    one.slug == other.slug
        && name(one) == name(other)
        && one.description == other.description
        && one.resource_type == other.resource_type
        && permissions(one) == permissions(other)
}
