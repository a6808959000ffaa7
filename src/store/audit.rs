//! Who changed which grant, and when: `GET /portcullis/v1/audit`.

use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::Store;
use super::api::Operation;
use super::error::StoreError;
use super::extract::Query;
use super::page::{Listing, PageQuery};
use super::time::Millis;
use crate::domain::id::Epoch;
use crate::domain::{MembershipId, OrganizationId, Revision};
use crate::wire::api::{AuditEntry, List};

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/portcullis/v1/audit", "listAuditEntries", list)
            .asks::<AuditFilter>()
            .gives::<List<AuditEntry>>(200),
    ]
}

/// Which entries to list.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct AuditFilter {
    /// About this organization.
    organization_id: Option<OrganizationId>,
    /// About roles assigned to this membership itself.
    organization_membership_id: Option<MembershipId>,
    #[serde(flatten)]
    page: PageQuery,
}

async fn list(
    State(store): State<Store>,
    Query(filter): Query<AuditFilter>,
) -> Result<axum::Json<List<AuditEntry>>, StoreError> {
    const SELECT: &str = "SELECT id, epoch, seq, key_name, action, organization_id, details, created_at FROM audit";
    let mut conditions = Vec::new();
    let mut texts = Vec::new();
    if let Some(organization) = filter.organization_id {
        texts.push(organization.to_string());
        conditions.push(format!("organization_id = ${}", texts.len()));
    }
    if let Some(membership) = filter.organization_membership_id {
        // The details are JSON that we wrote, without spaces. `replace` finds bytes as they are, on both engines.
        texts.push(format!("\"organization_membership_id\":{}", serde_json::to_string(&membership)?));
        conditions.push(format!("replace(details, ${}, '') <> details", texts.len()));
    }
    let select = match conditions.is_empty() {
        true => SELECT.to_owned(),
        false => format!("{SELECT} WHERE {}", conditions.join(" AND ")),
    };
    let listing = texts.into_iter().fold(Listing::of(select), Listing::bind);
    let mut connection = store.read().await?;
    Ok(axum::Json(listing.page(&mut connection, &filter.page, read).await?))
}

fn read(row: &AnyRow) -> Result<AuditEntry, StoreError> {
    let epoch: Epoch = row.try_get::<String, _>("epoch")?.parse()?;
    let seq = u64::try_from(row.try_get::<i64, _>("seq")?).unwrap_or(0);
    Ok(AuditEntry {
        id: row.try_get("id")?,
        key: row.try_get("key_name")?,
        action: row.try_get("action")?,
        revision: Revision { epoch, seq }.to_string(),
        organization_id: row.try_get("organization_id")?,
        details: serde_json::from_str(&row.try_get::<String, _>("details")?)?,
        created_at: Millis(row.try_get("created_at")?).to_string(),
    })
}
