//! Facts from any server that speaks the WorkOS API and nothing else (WorkOS contract, sections 1 to 7).
//!
//! That API has no bulk list and no change feed for grants: what is known is read again and again, each organization by itself, and is as
//! old as its last reading. Which roles a membership has organization-wide is what the server says is in effect; modes, defaults and
//! identity providers are the server's business, and nothing is added to its answer here.

mod budget;
mod client;
mod events;
mod objects;
mod organization;
mod pages;
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde_json::json;
use tokio::sync::Mutex;

pub use events::{Ended, Hint, News};
pub use server::{ApiKey, ServerUrl, ServerUrlError};

use self::client::{AskError, Client};
use self::events::Cursor;
use self::objects::{Checked, Permission, Role, RoleKind, Roles};
use super::{Check, Complete, Organizations, Source, SourceError, Update};
use crate::domain::record::{
    self, CatalogRows, EnvironmentRole, EnvironmentSettings, OrganizationRows, ResourceType, RoleMode,
};
use crate::domain::{Clock, Epoch, MembershipId, OrganizationId, PermissionSlug, ResourceRef, Revision};
use crate::telemetry::Metrics;

/// Where the server is, and how it is asked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it is.
    pub url: ServerUrl,
    /// What it is shown.
    pub key: ApiKey,
    /// The most requests in a second, of all kinds together.
    pub requests_per_second: u32,
    /// How long one check may take.
    pub check_within: Duration,
    /// Resource types, which the API does not tell.
    pub resource_types: Vec<ResourceType>,
}

/// Why nothing can be asked.
#[derive(Debug, thiserror::Error)]
pub enum HostedError {
    /// The system's root certificates cannot be read.
    #[error("the root certificates of this system cannot be read")]
    Roots(#[source] std::io::Error),
    /// The TLS library refuses its own defaults.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// No header can carry the key.
    #[error("the key holds a character that cannot be sent")]
    Key,
}

/// A server that speaks the WorkOS API.
///
/// Its revisions: the epoch is made of the URL and of the environment's roles when they were first read, and is another when the server
/// suddenly has none of the roles it had; the number counts accepted catalogs from 1.
pub struct WorkosSource {
    client: Client,
    clock: Arc<dyn Clock>,
    settings: Settings,
    /// Held while the catalog is read, so that what is accepted later was read later.
    accepted: Mutex<Option<(CatalogRows, Revision)>>,
    /// The environment's roles of the accepted catalog.
    roles: ArcSwapOption<Vec<Role>>,
    /// Whether an organization's list showed other roles of the environment than the catalog has.
    is_catalog_old: AtomicBool,
    cursor: Mutex<Cursor>,
}

impl WorkosSource {
    /// A source that asks as `settings` say. Nothing is asked yet.
    ///
    /// # Errors
    /// [`HostedError`]
    pub fn new(settings: Settings, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Result<Self, HostedError> {
        let client = Client::new(&settings, Arc::clone(&clock), metrics)?;
        Ok(Self {
            client,
            clock,
            settings,
            accepted: Mutex::default(),
            roles: ArcSwapOption::empty(),
            is_catalog_old: AtomicBool::new(false),
            cursor: Mutex::default(),
        })
    }

    /// Whether the last question was answered.
    pub fn is_answering(&self) -> bool {
        self.client.is_answering()
    }

    /// Whether the catalog has to be read again, as far as organizations that were read show; said once.
    pub fn takes_catalog_for_old(&self) -> bool {
        self.is_catalog_old.swap(false, Ordering::Relaxed)
    }

    /// What happened since the last call; the first one begins with now.
    ///
    /// # Errors
    /// [`SourceError`]; the same events are told next time.
    pub async fn news(&self) -> Result<News, SourceError> {
        let mut cursor = self.cursor.lock().await;
        events::poll(&self.client, &mut cursor, self.clock.unix_millis()).await.map_err(|error| self.failed(error))
    }

    async fn catalog(&self) -> Result<(CatalogRows, Vec<Role>), AskError> {
        const ROLES: &str = "/authorization/roles";
        // Before the permissions: a role that is listed has no permission then that is not.
        let roles: Roles = self.client.get(ROLES).await?;
        let roles: Vec<Role> = roles.data.into_iter().filter(|role| role.kind == RoleKind::EnvironmentRole).collect();
        let mut ids = std::collections::HashSet::new();
        if let Some(twice) = roles.iter().find(|role| !ids.insert(&role.id)) {
            return Err(AskError::implausible(ROLES, format!("role `{}` comes a second time", twice.id)));
        }
        let permissions: Vec<Permission> = pages::list(&self.client, "/authorization/permissions").await?;
        let rows = CatalogRows {
            permissions: permissions
                .into_iter()
                .map(|one| record::Permission { slug: one.slug, resource_type: one.resource_type_slug })
                .collect(),
            resource_types: self.settings.resource_types.clone(),
            roles: (0..).zip(&roles).map(|(priority, role)| environment_role(priority, role)).collect(),
            // What the server says is in effect is taken as it is: all of it, and nothing beside it.
            settings: Some(EnvironmentSettings { role_mode: RoleMode::Multiple, default_role: None }),
        };
        Ok((rows, roles))
    }

    /// The revision of a catalog: a new one, unless it is the one that was accepted last.
    fn revision_of(&self, rows: &CatalogRows, last: Option<&(CatalogRows, Revision)>) -> Revision {
        match last {
            Some((same, revision)) if same == rows => *revision,
            Some((before, Revision { epoch, seq })) if is_same_environment(before, rows) => {
                Revision { epoch: *epoch, seq: seq + 1 }
            }
            _ => {
                let ids = rows.roles.iter().map(|role| role.id.as_str());
                let text = ids.fold(self.settings.url.as_str().to_owned(), |text, id| format!("{text}\n{id}"));
                let hash = digest(&SHA256, text.as_bytes());
                let epoch = hash.as_ref().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
                Revision { epoch: Epoch(epoch), seq: 1 }
            }
        }
    }

    fn failed(&self, error: AskError) -> SourceError {
        let origin = self.client.url().to_owned();
        match error {
            AskError::Changed(what) => SourceError::Inconsistent { origin, what },
            error @ (AskError::Shape { .. } | AskError::Implausible { .. }) => {
                SourceError::Implausible { origin, source: Box::new(error) }
            }
            error => SourceError::Unavailable { origin, source: std::io::Error::other(error) },
        }
    }
}

#[async_trait]
impl Source for WorkosSource {
    async fn pull(&self, known: Option<&Revision>) -> Result<Update, SourceError> {
        let mut accepted = self.accepted.lock().await;
        let (rows, roles) = self.catalog().await.map_err(|error| self.failed(error))?;
        let revision = self.revision_of(&rows, accepted.as_ref());
        self.roles.store(Some(Arc::new(roles)));
        *accepted = Some((rows.clone(), revision));
        if known == Some(&revision) {
            return Ok(Update::Unchanged);
        }
        Ok(Update::Complete(Complete { revision, catalog: rows, organizations: Organizations::OnDemand }))
    }

    async fn fetch(&self, organization: &OrganizationId) -> Result<Option<OrganizationRows>, SourceError> {
        let known = self.roles.load_full().unwrap_or_default();
        let read = organization::read(&self.client, organization, &known).await;
        let Some(read) = read.map_err(|error| self.failed(error))? else { return Ok(None) };
        if read.environment_roles.iter().any(|role| !known.iter().any(|known| is_same_role(known, role))) {
            self.is_catalog_old.store(true, Ordering::Relaxed);
        }
        Ok(Some(read.rows))
    }

    fn proves_each_organization(&self) -> bool {
        true
    }
}

#[async_trait]
impl Check for WorkosSource {
    async fn check(
        &self,
        membership: &MembershipId,
        permission: &PermissionSlug,
        resource: &ResourceRef<'_>,
    ) -> Result<bool, SourceError> {
        let path = format!("/authorization/organization_memberships/{}/check", encoded(membership.as_str()));
        let body = match resource {
            ResourceRef::Id(id) => json!({"permission_slug": permission, "resource_id": id}),
            ResourceRef::External { resource_type, external_id } => json!({
                "permission_slug": permission,
                "resource_type_slug": resource_type,
                "resource_external_id": external_id,
            }),
        };
        let asked = self.client.post(&path, body.to_string().into_bytes(), self.settings.check_within).await;
        match asked {
            Ok(Checked { authorized }) => Ok(authorized),
            // There is no such membership, resource or permission.
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }
}

fn environment_role(priority: u32, role: &Role) -> EnvironmentRole {
    EnvironmentRole {
        id: role.id.clone(),
        slug: role.slug.clone(),
        resource_type: role.resource_type_slug.clone(),
        priority,
        permissions: role.permissions.clone(),
    }
}

/// Whether these are catalogs of one environment: ids of roles are never given twice.
fn is_same_environment(before: &CatalogRows, now: &CatalogRows) -> bool {
    before.roles.is_empty() || before.roles.iter().any(|role| now.roles.iter().any(|other| other.id == role.id))
}

/// Whether two lists say the same of a role; the order of its permissions means nothing.
fn is_same_role(one: &Role, other: &Role) -> bool {
    one.id == other.id
        && one.slug == other.slug
        && one.permissions.len() == other.permissions.len()
        && one.permissions.iter().all(|slug| other.permissions.contains(slug))
}

/// Everything but what RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `text` as one segment of a path, or one value of a query.
fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}
