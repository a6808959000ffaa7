//! Internet domains of organizations: kept for clients that ask for them, nothing follows from them.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::OrganizationId;
use crate::store::error::StoreError;
use crate::store::transaction::Transaction;
use crate::wire::api::OrganizationDomain;

/// A domain in lower case: letters, digits, hyphens and dots.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub(super) struct Domain(String);

/// A domain and whether it is proven to be the organization's.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(super) struct NewDomain {
    domain: Domain,
    state: DomainState,
}

/// Whether a domain is proven to be the organization's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum DomainState {
    /// Not yet.
    Pending,
    /// It is.
    #[serde(rename = "verified")]
    Proven,
}

impl TryFrom<String> for Domain {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let text = text.to_ascii_lowercase();
        let allowed = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.');
        match text.len() {
            1..=253 if text.chars().all(allowed) => Ok(Self(text)),
            _ => Err("invalid domain: expected at most 253 letters, digits, hyphens and dots"),
        }
    }
}

/// How the domain stands in the column.
pub(super) fn stored(domain: &str) -> Result<String, StoreError> {
    let domain = Domain::try_from(domain.to_owned())
        .map_err(|message| StoreError::invalid("domains", "invalid_request_parameters", Cow::Borrowed(message)))?;
    Ok(format!("\"domain\":\"{}\"", domain.0))
}

/// What was given, each domain once; one that was there before keeps its id.
pub(super) fn merge(
    tx: &mut Transaction<'_>,
    organization: &OrganizationId,
    before: &[OrganizationDomain],
    named: &[Domain],
    given: &[NewDomain],
) -> Result<Vec<OrganizationDomain>, StoreError> {
    let named = named.iter().map(|domain| (domain, None));
    let given = given.iter().map(|new| (&new.domain, Some(new.state)));
    let mut all: Vec<OrganizationDomain> = Vec::new();
    for (Domain(domain), state) in given.chain(named) {
        if all.iter().any(|other| other.domain == *domain) {
            continue;
        }
        let known = before.iter().find(|other| other.domain == *domain);
        let state = match (state, known) {
            (Some(DomainState::Proven), _) => "verified",
            (Some(DomainState::Pending), _) | (None, None) => "pending",
            (None, Some(known)) => known.state.as_str(),
        };
        if let Some(known) = known.filter(|known| known.state == state) {
            all.push(known.clone());
            continue;
        }
        let now = tx.now().to_string();
        all.push(OrganizationDomain {
            id: known.map_or_else(|| tx.id("org_domain_"), |known| known.id.clone()),
            organization_id: organization.to_string(),
            domain: domain.clone(),
            state: state.to_owned(),
            created_at: known.map_or_else(|| now.clone(), |known| known.created_at.clone()),
            updated_at: now,
        });
    }
    Ok(all)
}
