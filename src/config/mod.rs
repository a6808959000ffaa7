//! The only reader of configuration: text in, typed settings out, and every problem at once with its place.
//!
//! The file is read part by part, so that a mistake in one part does not hide one in another. Paths in it are relative to the folder
//! that it is in.

mod facts;
pub mod issuer;
mod limits;
mod listeners;
mod raw;
mod references;
mod restart;
pub mod store;
mod tests_in_file;
mod tokens;
mod upstreams;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use crate::admin;
use crate::files::Noted;
use crate::proxy;
use crate::proxy::headers::{HeaderPolicy, IdentityHeader};
use crate::proxy::intake::HeadLimits;
use crate::proxy::listen::Listener;
use crate::proxy::patience::Patience;
use crate::proxy::upstream::UpstreamSettings;
use crate::rules::{self, RouteTable};
use crate::telemetry::LogSettings;
use crate::token;
use crate::wire::Revocation;
use crate::yaml::{self, Node, Placed, Problem, Problems};

pub use self::facts::{Facts, Origin, Store, Workos};
pub use self::limits::Limits;
pub use self::raw::Reload;
pub use self::restart::BuiltIn;
pub use self::tests_in_file::{Expectation, RuleTest};

/// Everything a sidecar runs by.
#[derive(Debug)]
pub struct Sidecar {
    /// Addresses that clients connect to.
    pub listeners: Vec<Listener>,
    /// Where liveness, readiness and metrics are served; `None` = on the admin listener.
    pub status: Option<SocketAddr>,
    /// Where explain, who, world, routes and reload are served.
    pub admin: Option<admin::Settings>,
    /// How one process takes the place of another; `None` = not at all.
    pub upgrade: Option<Upgrade>,
    /// The proxy.
    pub proxy: proxy::Settings,
    /// The upstreams, in the order in which the rules count them.
    pub upstreams: Vec<UpstreamSettings>,
    /// Tokens.
    pub tokens: token::Settings,
    /// Memory for verified tokens, bytes.
    pub token_cache_bytes: u64,
    /// Facts.
    pub facts: Facts,
    /// The rules.
    pub rules: RouteTable,
    /// Origins whose unsafe requests may carry a cookie credential.
    pub csrf_origins: Vec<String>,
    /// Tests of the rules.
    pub tests: Vec<RuleTest>,
    /// What is logged.
    pub log: LogSettings,
    /// Limits on connections.
    pub limits: Limits,
    /// Worker threads of the proxy; `None` = one for each processor.
    pub threads: Option<usize>,
    /// When the configuration is read again.
    pub reload: Reload,
    /// The files that it was read from.
    pub noted: Noted,
    /// What of all this takes a restart.
    pub built_in: BuiltIn,
}

/// How one process takes the place of another.
#[derive(Debug, Clone)]
pub struct Upgrade {
    /// Where they meet: a Unix socket in a folder of its own.
    pub socket: PathBuf,
    /// The longest that either waits for the other.
    pub timeout: Duration,
}

/// What configuration may take from its environment.
pub trait Environment {
    /// The value of the variable `name`.
    fn variable(&self, name: &str) -> Option<String>;
}

/// The environment of the process.
#[derive(Debug, Clone, Copy)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of configuration")]
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read `{}`", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error(transparent)]
    Problems(#[from] Problems),
}

/// Reads the configuration in `file`.
///
/// # Errors
/// [`ConfigError::Unreadable`], or every problem of the file with its place.
pub fn load(file: &Path, environment: &dyn Environment) -> Result<Sidecar, ConfigError> {
    load_noting(file, environment, &mut Noted::default())
}

/// As [`load`]; notes the file and every file that is read because it says so, also when something is wrong with them. Facts and key sets
/// are not read here.
///
/// # Errors
/// As [`load`].
pub fn load_noting(file: &Path, environment: &dyn Environment, noted: &mut Noted) -> Result<Sidecar, ConfigError> {
    noted.note(file);
    let text =
        std::fs::read_to_string(file).map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
    let folder = file.parent().unwrap_or(Path::new(""));
    Ok(parse_noting(&file.display().to_string(), &text, folder, environment, noted)?)
}

/// Reads a configuration from `text`, which `file` names in messages; paths in it are relative to `folder`.
///
/// # Errors
/// Every problem with its place.
pub fn parse(file: &str, text: &str, folder: &Path, environment: &dyn Environment) -> Result<Sidecar, Problems> {
    parse_noting(file, text, folder, environment, &mut Noted::default())
}

fn parse_noting(
    file: &str,
    text: &str,
    folder: &Path,
    environment: &dyn Environment,
    noted: &mut Noted,
) -> Result<Sidecar, Problems> {
    let secrets = RefCell::new(std::mem::take(noted));
    let document = yaml::parse(file, text, Some(&references::answers(environment, folder, &secrets)));
    *noted = secrets.into_inner();
    Reader { document: &document?, folder, noted, contents: Vec::new(), problems: Vec::new() }.sidecar()
}

/// The JSON Schema of a sidecar's configuration.
pub fn schema() -> schemars::Schema {
    let mut schema = schemars::schema_for!(raw::Sidecar);
    schema.insert("title".into(), "Portcullis sidecar configuration".into());
    schema.insert("description".into(), "What `portcullis proxy --config` reads.".into());
    schema
}

/// The keys that may stand at the top.
const KEYS: [&str; 22] = [
    "version",
    "listen",
    "status",
    "admin",
    "upgrade",
    "upstreams",
    "tokens",
    "facts",
    "defaults",
    "routes",
    "tests",
    "model",
    "trusted_proxies",
    "csrf",
    "identity_headers",
    "header_prefix",
    "forward_token",
    "methods",
    "limits",
    "threads",
    "reload",
    "log",
];

struct Reader<'a> {
    document: &'a Node,
    folder: &'a Path,
    /// Files that were read.
    noted: &'a mut Noted,
    /// What stands in files that are built in, with the top-level keys under which they are named.
    contents: Vec<(&'static str, Vec<u8>)>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn sidecar(mut self) -> Result<Sidecar, Problems> {
        self.top_level();
        let listeners = self.listeners();
        let status = self.status();
        let admin = self.admin();
        let upgrade = self.upgrade();
        if listeners.is_empty() {
            self.problem("`listen` is missing or empty, expected at least one address");
        }
        let upstreams = self.upstreams();
        let tokens = self.tokens();
        let facts = self.facts();
        let limits = self.limits();
        let rules = self.rules(&upstreams, &tokens, &facts);
        let csrf: raw::Csrf = self.part("csrf").unwrap_or_default();
        let tests = self.tests(&tokens);
        let proxy = self.proxy(&limits);
        let log = self.part("log").unwrap_or_default();
        let threads = self.part::<usize>("threads");
        if threads == Some(0) {
            self.problem_at("threads", "`threads` is 0, expected at least 1");
        }
        let reload = self.part("reload").unwrap_or_default();
        Problems(self.problems).into_result()?;
        let (Some(rules), Some(proxy)) = (rules, proxy) else {
            // Whatever is missing was reported.
            return Err(Problems(Vec::new()));
        };
        let mut tokens = tokens;
        for issuer in &mut tokens.issuers {
            issuer.keep = rules.claim_names().map(str::to_owned).collect();
        }
        Ok(Sidecar {
            listeners,
            status,
            admin,
            upgrade,
            proxy,
            upstreams: upstreams.into_iter().map(|(settings, _)| settings).collect(),
            tokens,
            token_cache_bytes: limits.token_cache.0,
            facts,
            rules,
            csrf_origins: csrf.origins,
            tests,
            log,
            limits: Limits::from(&limits),
            threads,
            reload,
            noted: self.noted.clone(),
            built_in: BuiltIn::of(self.document, &self.contents),
        })
    }
}

/// The value that a part is read as, and the helpers that every reader of a part uses.
impl Reader<'_> {
    /// Reads the value at the top-level key `key`; `None` when it is missing or wrong, and then the problem is noted.
    fn part<T: serde::de::DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let node = self.document.get(key).filter(|node| !node.is_null())?;
        self.read(node)
    }

    fn read<T: serde::de::DeserializeOwned>(&mut self, node: &Node) -> Option<T> {
        match node.read_all() {
            Ok(value) => Some(value),
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }

    /// Notes a problem with the document as a whole.
    fn problem(&mut self, message: impl Into<String>) {
        self.problems.push(self.document.problem(message));
    }

    /// Notes a problem with the value at the top-level key `key`.
    fn problem_at(&mut self, key: &str, message: impl Into<String>) {
        let node = self.document.get(key).unwrap_or(self.document);
        self.problems.push(node.problem(message));
    }

    /// Notes the error of `result` at `place`.
    fn accept<T, E: std::fmt::Display>(&mut self, place: &yaml::Place, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.problems.push(place.problem(error.to_string()))).ok()
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// The file at `path`, which is read now.
    fn file(&mut self, path: &Path) -> PathBuf {
        let path = self.path(path);
        self.noted.note(&path);
        path
    }

    fn top_level(&mut self) {
        if !self.document.is_mapping() {
            self.problem("the configuration is not a mapping");
        }
        let unknown: Vec<Problem> = self
            .document
            .entries()
            .filter(|(key, ..)| !KEYS.contains(key))
            .map(|(key, place, _)| place.problem(format!("unknown key `{key}`, expected one of {}", KEYS.join(", "))))
            .collect();
        self.problems.extend(unknown);
        match self.document.get("version") {
            None => self.problem("`version` is missing, expected `version: 1`"),
            Some(node) => match node.read::<u32>() {
                Ok(1) => {}
                Ok(other) => self.problem_at("version", format!("version is {other}, this program reads version 1")),
                Err(problem) => self.problems.push(problem),
            },
        }
    }

    fn rules(
        &mut self,
        upstreams: &[(UpstreamSettings, rules::PathReading)],
        tokens: &token::Settings,
        facts: &Facts,
    ) -> Option<RouteTable> {
        let upstreams: Vec<rules::Upstream> = upstreams
            .iter()
            .map(|(settings, reading)| rules::Upstream { name: settings.name.clone(), paths: *reading })
            .collect();
        let issuers: Vec<String> = tokens.issuers.iter().map(|issuer| issuer.name.to_string()).collect();
        let methods: Vec<Placed<String>> = self.part("methods").unwrap_or_default();
        let own_headers = HeaderPolicy::own(&self.header_prefix());
        let context = rules::Context {
            upstreams: &upstreams,
            issuers: &issuers,
            facts: facts.exist(),
            max_staleness: facts.max_staleness,
            methods: &methods,
            own_headers: &own_headers,
        };
        let Some(routes) = self.document.get("routes").filter(|routes| routes.is_sequence()) else {
            self.problem_at("routes", "`routes` is missing, expected a list of rules");
            return None;
        };
        match rules::compile(routes.items(), self.document.get("defaults"), &context) {
            Ok(table) => {
                self.unkept_promises(&table, facts);
                self.lives_longer_than_revocations(&table, tokens, facts);
                Some(table)
            }
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }

    /// What a rule asks for and the source of facts cannot keep is refused, not ignored.
    fn unkept_promises(&mut self, table: &RouteTable, facts: &Facts) {
        for route in table.routes() {
            let promises = [
                (
                    !route.is_public()
                        && route.revocations == rules::Revocations::Require
                        && !facts.lists_revocations(),
                    "`revocations: require` needs a source of facts that lists revocations, which only `store` does",
                ),
                (
                    route.verify == rules::Verify::Live && !facts.can_be_checked(),
                    "`verify: live` needs a source of facts that can be asked, which only `workos` is",
                ),
            ];
            for (_, message) in promises.iter().filter(|(is_made, _)| *is_made) {
                self.problems.push(route.place.problem(format!("route `{}`: {message}", route.id)));
            }
        }
    }

    /// How the identity headers begin; what is wrong with it is said by [`Self::proxy`].
    fn header_prefix(&self) -> String {
        let prefix = self.document.get("header_prefix").and_then(|node| node.read().ok());
        prefix.unwrap_or_else(|| HeaderPolicy::PREFIX.to_owned())
    }

    /// A revocation is not remembered for longer than tokens may live: one that lived longer would count again.
    fn lives_longer_than_revocations(&mut self, table: &RouteTable, tokens: &token::Settings, facts: &Facts) {
        let longest = Revocation::LONGEST_LIFETIME;
        let is_bounded = |issuer: &token::IssuerSettings| issuer.max_lifetime.is_some_and(|most| most <= longest);
        if !facts.hear_of_revocations() {
            return;
        }
        for issuer in tokens.issuers.iter().filter(|issuer| !is_bounded(issuer)) {
            let respects = |route: &&rules::Route| {
                !route.is_public()
                    && route.revocations != rules::Revocations::Ignore
                    && route.tokens.as_ref().is_none_or(|names| names.iter().any(|name| **name == *issuer.name))
            };
            let Some(route) = table.routes().iter().find(respects) else { continue };
            let issuers = self.document.get("tokens").map_or(&[][..], Node::items);
            let named = |node: &&Node| node.get("name").and_then(Node::as_str) == Some(&*issuer.name);
            let node = issuers.iter().find(named).unwrap_or(self.document);
            self.problems.push(node.get("max_lifetime").unwrap_or(node).problem(format!(
                "`max_lifetime` is 0 or longer than {}: its tokens would count again when their revocation is forgotten, \
                 unless route `{}` says `revocations: ignore`",
                humantime::format_duration(longest),
                route.id,
            )));
        }
    }

    fn proxy(&mut self, limits: &raw::Limits) -> Option<proxy::Settings> {
        let prefix: Option<Placed<String>> = self.part("header_prefix");
        let identity: Vec<IdentityHeader> =
            self.part("identity_headers").unwrap_or_else(|| IdentityHeader::DEFAULT.to_vec());
        let forward_token = self.part("forward_token").unwrap_or(true);
        let name = prefix.as_ref().map_or(HeaderPolicy::PREFIX, |prefix| prefix.as_str());
        let headers = HeaderPolicy::new(name, &identity, forward_token);
        let place = prefix.as_ref().map_or(self.document.place(), |prefix| &prefix.place).clone();
        let headers = headers.map_err(|_| format!("`{name}` is not what the name of a header can begin with"));
        let headers = self.accept(&place, headers);
        let networks: Vec<Placed<String>> = self.part("trusted_proxies").unwrap_or_default();
        let mut trusted_proxies = Vec::new();
        for network in networks {
            match IpNet::from_str(&network)
                .or_else(|_| network.parse().map(|address: std::net::IpAddr| IpNet::from(address)))
            {
                Ok(parsed) => trusted_proxies.push(parsed),
                Err(_) => {
                    self.problems.push(network.problem(format!("`{}` is not an address or network", network.value)))
                }
            }
        }
        let head = HeadLimits {
            head_bytes: usize::try_from(limits.head.0).unwrap_or(usize::MAX),
            header_fields: limits.header_fields,
            target_bytes: usize::try_from(limits.target.0).unwrap_or(usize::MAX),
        };
        let client_timeout = Some(limits.client_timeout.0).filter(|timeout| !timeout.is_zero());
        let patience = Patience { client_timeout, body_rate: limits.body_rate };
        let max_body = limits.max_body.0;
        Some(proxy::Settings { head, headers: headers?, trusted_proxies, patience, max_body })
    }
}
