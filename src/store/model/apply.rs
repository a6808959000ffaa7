//! Putting a model in force, as a whole.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::Row;

use super::difference::{Difference, Step};
use crate::domain::record::{CatalogKey, EnvironmentSettings, ResourceType, RoleMode};
use crate::domain::{CatalogRecord, MembershipId, OrganizationId};
use crate::store::assignments::{self, AssignmentRow, Of};
use crate::store::error::StoreError;
use crate::store::memberships::Altered;
use crate::store::permissions;
use crate::store::roles::{Order, Removal, StoredRole};
use crate::store::rows::read_all;
use crate::store::transaction::Transaction;
use crate::wire::ExternalIds;

/// Carries out what was [checked](Difference::check).
pub(super) async fn apply(tx: &mut Transaction<'_>, difference: &Difference) -> Result<(), StoreError> {
    // Before anything changes: what memberships have now.
    let gone: Vec<_> = difference.roles_gone.iter().map(|role| role.id.clone()).collect();
    let switches_mode = difference.before.settings.role_mode != difference.settings.role_mode;
    let altered = Altered::by_model(tx, &gone, switches_mode).await?;
    let removal = match difference.roles_gone.as_slice() {
        [] => None,
        gone => Some(Removal::prepare(tx, gone.to_vec()).await?),
    };
    put_types(tx, difference).await?;
    put_permissions(tx, difference).await?;
    put_roles(tx, difference).await?;
    put_settings(tx, difference).await?;
    if let Some(removal) = removal {
        let removal = match difference.settings.role_mode {
            RoleMode::Single => removal,
            RoleMode::Multiple => removal.without_reset(),
        };
        removal.carry_out(tx).await?;
    }
    for (step, slug) in difference.permission_steps() {
        if step == Step::Delete {
            let permission = permissions::find(tx.connection, slug).await?;
            permissions::remove(tx, slug, &permission).await?;
        }
    }
    if difference.narrows() {
        keep_highest(tx).await?;
    }
    altered.announce(tx).await
}

async fn put_types(tx: &mut Transaction<'_>, difference: &Difference) -> Result<(), StoreError> {
    for (step, slug) in difference.type_steps() {
        let Some(parents) = difference.types.0.get(slug).filter(|_| step != Step::Delete) else {
            tx.execute(sqlx::query("DELETE FROM resource_types WHERE slug = $1").bind(slug.clone())).await?;
            tx.delete_catalog(CatalogKey::ResourceType(slug.clone()));
            continue;
        };
        let statement = "INSERT INTO resource_types (slug, parents, created_at) VALUES ($1, $2, $3) \
                         ON CONFLICT (slug) DO UPDATE SET parents = excluded.parents";
        let statement =
            sqlx::query(statement).bind(slug.clone()).bind(serde_json::to_string(parents)?).bind(tx.now().0);
        tx.execute(statement).await?;
        let record = ResourceType { slug: slug.clone(), parents: parents.clone() };
        tx.put_catalog(CatalogRecord::ResourceType(record));
    }
    Ok(())
}

async fn put_permissions(tx: &mut Transaction<'_>, difference: &Difference) -> Result<(), StoreError> {
    for (step, slug) in difference.permission_steps() {
        let Some(permission) = difference.permissions.get(slug) else { continue };
        let (name, description) = (permission.name.as_str(), permission.description.as_deref());
        if step == Step::Create {
            permissions::insert(tx, slug, name, description, &permission.resource_type).await?;
        } else {
            permissions::describe(tx, slug, name, description).await?;
        }
    }
    Ok(())
}

async fn put_roles(tx: &mut Transaction<'_>, difference: &Difference) -> Result<(), StoreError> {
    // Slugs that change hands are free first.
    let renamed = difference.roles.iter().filter_map(|(role, before)| Some((role, before.as_ref()?)));
    let renamed = renamed.filter(|(role, before)| role.slug != before.slug).map(|(_, before)| before);
    let parted: Vec<&StoredRole> = renamed.chain(&difference.roles_gone).collect();
    for role in parted {
        tx.execute(sqlx::query("UPDATE roles SET slug = '~' || id WHERE id = $1").bind(role.id.clone())).await?;
    }
    for (role, before) in &difference.roles {
        match before {
            None => role.insert(tx).await?,
            Some(before) => {
                role.clone().replace(tx, before).await?;
            }
        }
    }
    Ok(())
}

async fn put_settings(tx: &mut Transaction<'_>, difference: &Difference) -> Result<(), StoreError> {
    let (before, next) = (&difference.before.settings, &difference.settings);
    if before == next {
        return Ok(());
    }
    let role_mode = match next.role_mode {
        RoleMode::Single => "single",
        RoleMode::Multiple => "multiple",
    };
    let external_ids = match next.external_ids {
        ExternalIds::PerOrganization => "per_organization",
        ExternalIds::Global => "global",
    };
    let statement = "UPDATE settings SET role_mode = $1, default_role = $2, external_ids = $3 WHERE one = 1";
    let statement = sqlx::query(statement).bind(role_mode).bind(next.default_role.clone()).bind(external_ids);
    tx.execute(statement).await?;
    let details = json!({"role_mode": role_mode, "default_role": next.default_role, "external_ids": external_ids});
    tx.audit("settings.updated", None, details);
    if (before.role_mode, &before.default_role) != (next.role_mode, &next.default_role) {
        let settings = EnvironmentSettings { role_mode: next.role_mode, default_role: next.default_role.clone() };
        tx.put_catalog(CatalogRecord::Settings(settings));
    }
    Ok(())
}

/// Leaves each membership the one of its direct organization roles that has the highest priority in its organization.
async fn keep_highest(tx: &mut Transaction<'_>) -> Result<(), StoreError> {
    let statement = "SELECT a.organization_id, a.membership_id, a.resource_id FROM assignments a \
                     JOIN resources r ON r.id = a.resource_id WHERE r.parent_id IS NULL \
                     GROUP BY a.organization_id, a.membership_id, a.resource_id HAVING COUNT(*) > 1 \
                     ORDER BY a.organization_id, a.membership_id";
    let several = read_all(tx.connection, sqlx::query(statement), |row| {
        let organization: OrganizationId = row.try_get("organization_id")?;
        let membership: MembershipId = row.try_get("membership_id")?;
        Ok((organization, membership, row.try_get("resource_id")?))
    })
    .await?;
    let mut orders: BTreeMap<OrganizationId, Order> = BTreeMap::new();
    for (organization, membership, root) in several {
        let order = match orders.remove(&organization) {
            Some(order) => order,
            None => Order::of(tx.connection, &organization).await?,
        };
        let mut held = assignments::of(tx, Of::MembershipOn(&membership, &root)).await?;
        held.sort_by(|one, other| order.rank(role(one)).cmp(&order.rank(role(other))));
        assignments::remove(tx, held.get(1..).unwrap_or_default()).await?;
        orders.insert(organization, order);
    }
    Ok(())
}

fn role(row: &AssignmentRow) -> &crate::domain::RoleId {
    &row.assignment.role
}
