//! The end of environment roles (WorkOS contract R25): whoever has no other direct organization role left gets the default one, all other
//! assignments go without replacement, and mappings of the identity provider go with them.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::stored::StoredRole;
use super::{default_of, settings};
use crate::domain::record::CatalogKey;
use crate::domain::{MembershipId, OrganizationId, RoleId};
use crate::store::database::Engine;
use crate::store::effective::{self, Before};
use crate::store::error::StoreError;
use crate::store::rows::read_all;
use crate::store::transaction::Transaction;
use crate::store::{assignments, group_assignments, identity_provider, resources};

/// Environment roles on their way out.
pub(in crate::store) struct Removal {
    roles: Vec<StoredRole>,
    /// What those have who lose a role through a group.
    before: Vec<Before>,
}

impl Removal {
    /// Remembers what there is, before anything is changed.
    pub(in crate::store) async fn prepare(
        tx: &mut Transaction<'_>,
        roles: Vec<StoredRole>,
    ) -> Result<Self, StoreError> {
        let text = format!(
            "SELECT DISTINCT g.organization_id, m.membership_id FROM group_assignments g \
             JOIN resources r ON r.id = g.resource_id JOIN group_members m ON m.group_id = g.group_id \
             WHERE r.parent_id IS NULL AND g.role_id IN ({}) ORDER BY g.organization_id, m.membership_id",
            tx.engine().texts_of(1)
        );
        let statement = sqlx::query(AssertSqlSafe(text)).bind(serde_json::to_string(&ids(&roles))?);
        let pairs = read_all(tx.connection, statement, |row| {
            Ok((row.try_get::<OrganizationId, _>("organization_id")?, row.try_get::<MembershipId, _>("membership_id")?))
        })
        .await?;
        let mut members: BTreeMap<OrganizationId, Vec<MembershipId>> = BTreeMap::new();
        for (organization, membership) in pairs {
            members.entry(organization).or_default().push(membership);
        }
        let mut before = Vec::with_capacity(members.len());
        for (organization, memberships) in &members {
            before.push(effective::before(tx, organization, memberships).await?);
        }
        Ok(Self { roles, before })
    }

    /// Leaves the direct roles of those alone who lose a role through a group: there are several roles for each from now on.
    pub(in crate::store) fn without_reset(self) -> Self {
        Self { before: Vec::new(), ..self }
    }

    /// Takes them away from everybody and deletes them. The default role must be one that stays.
    pub(in crate::store) async fn carry_out(self, tx: &mut Transaction<'_>) -> Result<(), StoreError> {
        let roles = ids(&self.roles);
        settings::forget(tx, &roles).await?;
        let left = left_without(tx.connection, tx.engine(), &roles).await?;
        for role in &roles {
            let held = assignments::of(tx, assignments::Of::Role(role)).await?;
            assignments::remove(tx, &held).await?;
            let held = group_assignments::of(tx, group_assignments::Of::Role(role)).await?;
            group_assignments::remove(tx, &held).await?;
        }
        for (organization, memberships) in &left {
            let Some(default) = default_of(tx.connection, organization).await? else { continue };
            let root = resources::root(tx.connection, organization).await?.resource.id;
            for membership in memberships {
                assignments::insert(tx, organization, membership, &default, &root).await?;
            }
        }
        identity_provider::forget_roles(tx, &roles).await?;
        for role in &self.roles {
            role.delete(tx).await?;
            tx.delete_catalog(CatalogKey::Role(role.id.clone()));
        }
        for before in self.before {
            before.settle(tx).await?;
        }
        Ok(())
    }
}

fn ids(roles: &[StoredRole]) -> Vec<RoleId> {
    roles.iter().map(|role| role.id.clone()).collect()
}

/// The memberships that have no direct organization role but these, by organization.
async fn left_without(
    connection: &mut AnyConnection,
    engine: Engine,
    roles: &[RoleId],
) -> Result<BTreeMap<OrganizationId, Vec<MembershipId>>, StoreError> {
    let listed = engine.texts_of(1);
    let text = format!(
        "SELECT DISTINCT a.organization_id, a.membership_id FROM assignments a JOIN resources r ON r.id = a.resource_id \
         WHERE r.parent_id IS NULL AND a.role_id IN ({listed}) AND NOT EXISTS (SELECT 1 FROM assignments b \
         JOIN resources s ON s.id = b.resource_id WHERE s.parent_id IS NULL AND b.membership_id = a.membership_id \
         AND b.role_id NOT IN ({listed})) ORDER BY a.organization_id, a.membership_id"
    );
    let statement = sqlx::query(AssertSqlSafe(text)).bind(serde_json::to_string(roles)?);
    let pairs = read_all(connection, statement, |row| {
        Ok((row.try_get::<OrganizationId, _>("organization_id")?, row.try_get::<MembershipId, _>("membership_id")?))
    })
    .await?;
    let mut left: BTreeMap<OrganizationId, Vec<MembershipId>> = BTreeMap::new();
    for (organization, membership) in pairs {
        left.entry(organization).or_default().push(membership);
    }
    Ok(left)
}
