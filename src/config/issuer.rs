//! `issuer`: who signs development tokens, and from which facts their claims are made.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ConfigError, Environment, references};
use crate::domain::claims::Claims;
use crate::domain::record::{CatalogRows, OrganizationRows};
use crate::domain::{Catalog, Keep, MembershipId, OrganizationId, SessionId, Shard, UnixSeconds};
use crate::token::{Algorithm, Issuer, IssuerError, NewToken};
use crate::wire::Facts;
use crate::yaml::{self, Node, Placed, Problem, Problems, Span};

/// Larger tokens do not fit into what browsers keep in a cookie, together with its name and attributes.
pub const LARGE_TOKEN_BYTES: usize = 3 * 1024;

/// A file that names an issuer and its facts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct File {
    /// The version of this format: 1.
    version: u32,
    /// Who signs.
    issuer: Section,
    /// Whose roles and permissions the tokens carry.
    facts: FactsSection,
}

/// Who signs tokens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Section {
    /// `iss` of the tokens.
    url: String,
    /// Which application they are for; the last part of the key set's address.
    client_id: String,
    /// PEM file with the RSA key; created when it is missing.
    signing_key: PathBuf,
    /// How long tokens are valid.
    token_lifetime: Span,
}

/// Facts to make claims from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FactsSection {
    /// `file`.
    source: Placed<String>,
    /// The file.
    file: Placed<PathBuf>,
}

/// Signs tokens for the memberships of some facts.
pub struct FactsIssuer {
    issuer: Issuer,
    client_id: String,
    lifetime: Duration,
    catalog: Catalog,
    shards: Vec<Shard>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// Nobody knows the membership.
    #[error("membership `{0}` is not in the facts")]
    Unknown(MembershipId),
    /// It may not sign in.
    #[error("membership `{0}` is not active")]
    Inactive(MembershipId),
    /// The issuer cannot sign.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The facts contradict each other.
    #[error("the facts cannot be used")]
    Facts(#[from] crate::domain::BuildError),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Reads the issuer that `file` describes.
///
/// # Errors
/// [`MintError`] when the file, the facts or the key cannot be used.
pub fn load(file: &Path, environment: &dyn Environment) -> Result<FactsIssuer, MintError> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let noted = RefCell::default();
    let node = read(file, Some(&references::answers(environment, folder, &noted)))?;
    let File { version, issuer: section, facts } = node.read_all().map_err(ConfigError::from)?;
    if version != 1 {
        let problem = node.problem(format!("version is {version}, this program reads version 1"));
        return Err(ConfigError::from(Problems::from(problem)).into());
    }
    if *facts.source != "file" {
        let problem = facts.source.problem(format!("source is `{}`, expected `file`", facts.source.value));
        return Err(ConfigError::from(Problems::from(problem)).into());
    }
    let facts = read_facts(&folder.join(facts.file.as_path()))?;
    let issuer = Issuer::open(&section.url, &folder.join(&section.signing_key), Algorithm::RS256)?;
    FactsIssuer::new(issuer, section.client_id, section.token_lifetime.0, &facts.catalog, facts.organizations)
}

/// Reads a facts file.
///
/// # Errors
/// [`ConfigError`] when it cannot be read or is wrong.
pub fn read_facts(file: &Path) -> Result<Facts, ConfigError> {
    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
    let model = |path: &str| {
        let path = folder.join(path);
        read(&path, None).map_err(|error| match error {
            ConfigError::Problems(problems) => problems,
            unreadable @ ConfigError::Unreadable { .. } => {
                let place = yaml::Place::new(path.display().to_string().into(), 1, 1);
                Problems::from(Problem { place, message: unreadable.to_string() })
            }
        })
    };
    Ok(Facts::read(&read(file, None)?, &model)?)
}

fn read(file: &Path, variables: Option<yaml::Variables<'_>>) -> Result<Node, ConfigError> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
    Ok(yaml::parse(&file.display().to_string(), &text, variables)?)
}

impl FactsIssuer {
    /// An issuer of tokens for the memberships of `organizations`.
    ///
    /// # Errors
    /// [`MintError::Facts`] when the facts contradict each other.
    pub fn new(
        issuer: Issuer,
        client_id: String,
        lifetime: Duration,
        catalog: &CatalogRows,
        organizations: Vec<(OrganizationId, OrganizationRows)>,
    ) -> Result<Self, MintError> {
        let catalog = Catalog::build(catalog)?.value;
        let build = |(id, rows): &(OrganizationId, OrganizationRows)| {
            Ok(Shard::build(&catalog, id, rows, Keep { assignment_ids: false })?.value)
        };
        let shards = organizations.iter().map(build).collect::<Result<_, MintError>>()?;
        Ok(Self { issuer, client_id, lifetime, catalog, shards })
    }

    /// Who signs.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// A token for `membership` with the claims that AuthKit would set at `now`.
    ///
    /// # Errors
    /// [`MintError`] when the membership is unknown or not active.
    pub fn token_for(&self, membership: &MembershipId, now: UnixSeconds) -> Result<String, MintError> {
        let claims = self.shards.iter().find_map(|shard| shard.claims(&self.catalog, membership));
        let claims = claims.ok_or_else(|| MintError::Unknown(membership.clone()))?;
        if claims.member.status != crate::domain::record::MembershipStatus::Active {
            return Err(MintError::Inactive(membership.clone()));
        }
        self.mint(claims, now)
    }

    fn mint(&self, claims: Claims, now: UnixSeconds) -> Result<String, MintError> {
        let mut token = NewToken::of(claims.member.user, now);
        token.session = SessionId::new(&format!("session_{:032x}", rand::random::<u128>())).ok();
        token.organization = Some(claims.organization);
        token.membership = Some(claims.member.id);
        token.role = claims.role;
        token.roles = claims.roles;
        token.permissions = claims.permissions;
        token.lifetime = self.lifetime;
        token.further.insert("client_id".to_owned(), self.client_id.clone().into());
        Ok(self.issuer.mint(&token)?)
    }
}
