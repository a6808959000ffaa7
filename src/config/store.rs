//! The configuration of the store (`portcullis store --config`): the same rules as for the sidecar's. Nothing is opened or created here
//! but the files of TLS and the model, which have to be read to be checked.

mod keys;

use std::cell::RefCell;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;

use self::keys::{ApiKeySpec, SyncKeySpec};
use super::raw::ListenTls;
use super::{ConfigError, Environment, references};
use crate::proxy::tls;
use crate::store::{ApiKeys, SyncKeys};
use crate::telemetry::Format;
use crate::wire::{self, Model, Revocation};
use crate::yaml::{self, Node, Placed, Problem, Problems, Secret, Size, Span};

/// The most levels that `max_depth` may allow (our decision D7).
const DEEPEST: usize = 64;

/// Everything a store runs by.
#[derive(Debug)]
pub struct StoreFile {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Encrypt with this.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// `sqlite://PATH`, absolute or relative to the working folder, or `postgres://…`.
    pub database: Secret,
    /// Connections that read.
    pub connections: u32,
    /// Who may call.
    pub api_keys: ApiKeys,
    /// The first key that is written in full and may do everything: for commands on this machine.
    pub own_key: Option<OwnKey>,
    /// Sidecars that may read the feed.
    pub sync_keys: SyncKeys,
    /// The model to begin with.
    pub model: Option<Model>,
    /// Who signs tokens.
    pub issuer: Option<IssuerSettings>,
    /// Bytes of organizations that are kept in memory for checks.
    pub max_memory: u64,
    /// How many resources of one type an organization may have.
    pub max_resources_of_type: u32,
    /// How many levels of resources there may be below the root.
    pub max_depth: usize,
    /// The longest that a request may take.
    pub request_timeout: Duration,
    /// How log lines look.
    pub log_format: Format,
}

/// An API key in full.
#[derive(Clone)]
pub struct OwnKey(String);

/// Who signs tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// `iss` of the tokens.
    pub url: String,
    /// Which application they are for.
    pub client_id: String,
    /// The file with the key that signs; created when it is missing.
    pub signing_key: PathBuf,
    /// The file with the key that will sign next; published already.
    pub next_signing_key: Option<PathBuf>,
    /// How long tokens are valid.
    pub token_lifetime: Duration,
}

impl OwnKey {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnKey")
    }
}

/// The store's configuration.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct File {
    /// The version of this format: 1.
    version: Placed<u32>,
    /// `host:port` to listen on; port 0 takes any free one.
    #[serde(default = "usual_address")]
    listen: Placed<String>,
    /// `sqlite://PATH` or `postgres://USER@HOST/NAME`.
    database: Placed<Secret>,
    /// Connections to the database that read.
    #[serde(default = "eight")]
    connections: Placed<u32>,
    /// Who may call the API.
    #[schemars(with = "Vec<ApiKeySpec>")]
    api_keys: Placed<Vec<IgnoredAny>>,
    /// Sidecars that may read the facts.
    #[serde(default)]
    #[schemars(with = "Vec<SyncKeySpec>")]
    #[expect(dead_code, reason = "read item by item, in `keys`")]
    sync_keys: Vec<IgnoredAny>,
    /// Encrypt with this certificate.
    tls: Option<ListenTls>,
    /// The model file; applied at start when it only adds.
    model: Option<Placed<PathBuf>>,
    /// Who signs tokens; absent = none are minted.
    issuer: Option<IssuerSpec>,
    /// The most memory that organizations may take.
    #[serde(default = "half_a_gibibyte")]
    max_memory: Size,
    /// How many resources of one type an organization may have.
    #[serde(default = "five_thousand")]
    max_resources_of_type: u32,
    /// How many levels of resources there may be below the root, 1 to 64.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 64))]
    max_depth: Placed<usize>,
    /// The longest that a request may take.
    #[serde(default = "thirty_seconds")]
    request_timeout: Span,
    /// What is logged.
    #[serde(default)]
    log: Log,
}

/// Who signs tokens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct IssuerSpec {
    /// `iss` of the tokens.
    url: Placed<String>,
    /// Which application they are for; the last part of the key set's address.
    client_id: Placed<String>,
    /// PEM file with the RSA key that signs; created when it is missing.
    signing_key: PathBuf,
    /// PEM file with the RSA key that will sign next; published beside the other, created when it is missing.
    next_signing_key: Option<Placed<PathBuf>>,
    /// How long tokens are valid.
    #[serde(default = "five_minutes")]
    token_lifetime: Placed<Span>,
}

/// What is logged.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Log {
    /// How log lines look.
    format: Format,
}

/// Reads the store's configuration in `file`.
///
/// # Errors
/// [`ConfigError::Unreadable`], or every problem of the file with its place.
pub fn load(file: &Path, environment: &dyn Environment) -> Result<StoreFile, ConfigError> {
    let text =
        std::fs::read_to_string(file).map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
    let folder = file.parent().unwrap_or(Path::new(""));
    Ok(parse(&file.display().to_string(), &text, folder, environment)?)
}

/// Reads a configuration from `text`, which `file` names in messages; paths in it are relative to `folder`.
///
/// # Errors
/// Every problem with its place.
pub fn parse(file: &str, text: &str, folder: &Path, environment: &dyn Environment) -> Result<StoreFile, Problems> {
    let noted = RefCell::default();
    let document = yaml::parse(file, text, Some(&references::answers(environment, folder, &noted)))?;
    let (file, problems) = document.read_what_fits::<File>();
    let Some(file) = file else { return Err(problems) };
    Reader { document: &document, folder, problems: problems.0 }.store(file)
}

/// Whether `file` is a store's configuration rather than an issuer with facts of its own.
///
/// # Errors
/// [`ConfigError`] when it cannot be read at all.
pub fn is_store(file: &Path, environment: &dyn Environment) -> Result<bool, ConfigError> {
    let text =
        std::fs::read_to_string(file).map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
    let (folder, noted) = (file.parent().unwrap_or(Path::new("")), RefCell::default());
    let answers = references::answers(environment, folder, &noted);
    let document = yaml::parse(&file.display().to_string(), &text, Some(&answers))?;
    Ok(document.get("database").is_some())
}

/// Reads a model file.
///
/// # Errors
/// [`ConfigError::Unreadable`], or every problem of the file with its place.
pub fn load_model(file: &Path) -> Result<Model, ConfigError> {
    let text =
        std::fs::read_to_string(file).map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
    let document = yaml::parse(&file.display().to_string(), &text, None)?;
    Ok(read_model(&document)?)
}

/// The JSON Schema of a store's configuration.
pub fn schema() -> schemars::Schema {
    let mut schema = schemars::schema_for!(File);
    schema.insert("title".into(), "Portcullis store configuration".into());
    schema.insert("description".into(), "What `portcullis store --config` reads.".into());
    schema
}

fn read_model(document: &Node) -> Result<Model, Problems> {
    let model: Model = document.read_all()?;
    // For its problems only.
    wire::Environment::new(&model, document)?;
    match model.default_role() {
        Some(_) => Ok(model),
        None => Err(Problems::from(document.problem(wire::NO_DEFAULT_ROLE))),
    }
}

struct Reader<'a> {
    document: &'a Node,
    folder: &'a Path,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn store(mut self, file: File) -> Result<StoreFile, Problems> {
        if *file.version != 1 {
            let message = format!("version is {}, this program reads version 1", file.version.value);
            self.problems.push(file.version.problem(message));
        }
        let listen = self.address(&file.listen);
        let database = self.database(&file.database);
        if *file.connections == 0 {
            self.problems.push(file.connections.problem("`connections` is 0, expected at least 1"));
        }
        if !(1..=DEEPEST).contains(&*file.max_depth) {
            let message = format!("`max_depth` is {}, expected 1 to {DEEPEST}", file.max_depth.value);
            self.problems.push(file.max_depth.problem(message));
        }
        let (api_keys, own_key) = self.api_keys(&file.api_keys);
        let sync_keys = SyncKeys::new(self.sync_keys());
        let tls = file.tls.and_then(|tls| self.tls(tls));
        let model = file.model.and_then(|model| self.model(&model));
        let issuer = file.issuer.and_then(|issuer| self.issuer(issuer));
        Problems(self.problems).into_result()?;
        let (Some(listen), Some(database)) = (listen, database) else {
            // Whatever is missing was reported.
            return Err(Problems(Vec::new()));
        };
        Ok(StoreFile {
            listen,
            tls,
            database,
            connections: file.connections.value,
            max_resources_of_type: file.max_resources_of_type,
            max_depth: file.max_depth.value,
            api_keys: ApiKeys::new(api_keys),
            own_key,
            sync_keys,
            model,
            issuer,
            max_memory: file.max_memory.0,
            request_timeout: file.request_timeout.0,
            log_format: file.log.format,
        })
    }

    fn address(&mut self, address: &Placed<String>) -> Option<SocketAddr> {
        let found = address.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        if found.is_none() {
            let message = format!("`{}` is not an address, expected `host:port`", address.value);
            self.problems.push(address.problem(message));
        }
        found
    }

    /// The path of an SQLite file is relative to the configuration.
    fn database(&mut self, database: &Placed<Secret>) -> Option<Secret> {
        match database.expose().split_once("://") {
            Some(("sqlite", path)) if !path.is_empty() => {
                Some(Secret::new(format!("sqlite://{}", self.folder.join(path).display())))
            }
            Some(("postgres" | "postgresql", rest)) if !rest.is_empty() => Some(database.value.clone()),
            // It may hold a password, so it is not repeated.
            _ => {
                let message = "the database is neither `sqlite://PATH` nor `postgres://USER@HOST/NAME`";
                self.problems.push(database.problem(message));
                None
            }
        }
    }

    fn tls(&mut self, tls: ListenTls) -> Option<Arc<rustls::ServerConfig>> {
        let here = |path: PathBuf| self.folder.join(path);
        let (certificate, key) = (tls.certificate.map(here), tls.key.map(here));
        let client_ca = tls.client_ca.map(|file| file.map(here));
        match tls::server_config(&certificate, &key, client_ca.as_ref()) {
            Ok(config) => Some(Arc::new(config)),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    fn model(&mut self, file: &Placed<PathBuf>) -> Option<Model> {
        match load_model(&self.folder.join(file.as_path())) {
            Ok(model) => Some(model),
            Err(ConfigError::Problems(problems)) => {
                self.problems.extend(problems);
                None
            }
            Err(unreadable @ ConfigError::Unreadable { .. }) => {
                self.problems.push(file.problem(unreadable.to_string()));
                None
            }
        }
    }

    fn issuer(&mut self, spec: IssuerSpec) -> Option<IssuerSettings> {
        if spec.url.is_empty() {
            self.problems.push(spec.url.problem("`url` is empty"));
        }
        let fits = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
        if spec.client_id.is_empty() || !spec.client_id.chars().all(fits) {
            let message = format!("`client_id` is `{}`, expected letters, digits, `-`, `_`, `.`", spec.client_id.value);
            self.problems.push(spec.client_id.problem(message));
        }
        if spec.token_lifetime.0.as_secs() == 0 {
            self.problems.push(spec.token_lifetime.problem("`token_lifetime` is below one second"));
        }
        if spec.token_lifetime.0 > Revocation::LONGEST_LIFETIME {
            let message = "`token_lifetime` is longer than 24h: tokens would outlive the memory of their revocation";
            self.problems.push(spec.token_lifetime.problem(message));
        }
        let next = spec.next_signing_key.map(|file| {
            if *file == spec.signing_key {
                self.problems.push(file.problem("`next_signing_key` is the same file as `signing_key`"));
            }
            self.folder.join(file.as_path())
        });
        Some(IssuerSettings {
            url: spec.url.value,
            client_id: spec.client_id.value,
            signing_key: self.folder.join(spec.signing_key),
            next_signing_key: next,
            token_lifetime: spec.token_lifetime.0,
        })
    }
}

fn default_place() -> yaml::Place {
    yaml::Place::new("default".into(), 1, 1)
}

fn usual_address() -> Placed<String> {
    Placed { value: "127.0.0.1:9902".to_owned(), place: default_place() }
}

fn eight() -> Placed<u32> {
    Placed { value: 8, place: default_place() }
}

fn five() -> Placed<usize> {
    Placed { value: 5, place: default_place() }
}

fn five_thousand() -> u32 {
    5000
}

fn five_minutes() -> Placed<Span> {
    Placed { value: Span(Duration::from_secs(300)), place: default_place() }
}

fn thirty_seconds() -> Span {
    Span(Duration::from_secs(30))
}

fn half_a_gibibyte() -> Size {
    Size(512 * 1024 * 1024)
}
