//! Memberships whose organization roles follow from something else that is changed: a role that goes, the role mode, the identity provider.
//! Each whose roles are others afterwards has an event (WorkOS contract, section 6). Roles that come and go with groups have none (our
//! decision D21).

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::updated;
use crate::domain::{MembershipId, OrganizationId, RoleId};
use crate::store::database::Engine;
use crate::store::effective::{self, Roles};
use crate::store::error::StoreError;
use crate::store::rows::read_all;
use crate::store::transaction::Transaction;

/// Memberships by organization.
type Memberships = BTreeMap<OrganizationId, BTreeSet<MembershipId>>;

/// What memberships have before the change.
#[derive(Default)]
pub(in crate::store) struct Altered(BTreeMap<OrganizationId, BTreeMap<MembershipId, Roles>>);

impl Altered {
    /// Those that may be altered when environment roles go, or the role mode is switched.
    pub(in crate::store) async fn by_model(
        tx: &mut Transaction<'_>,
        roles_gone: &[RoleId],
        switches_mode: bool,
    ) -> Result<Self, StoreError> {
        let engine = tx.engine();
        let mut memberships = Memberships::new();
        if !roles_gone.is_empty() {
            holders(tx.connection, engine, roles_gone, &mut memberships).await?;
        }
        if switches_mode {
            holders_of_several(tx.connection, &mut memberships).await?;
        }
        Self::among(tx, memberships).await
    }

    /// Those among these.
    pub(in crate::store) async fn among(
        tx: &mut Transaction<'_>,
        memberships: BTreeMap<OrganizationId, BTreeSet<MembershipId>>,
    ) -> Result<Self, StoreError> {
        let mut before = BTreeMap::new();
        for (organization, memberships) in memberships {
            let memberships: Vec<MembershipId> = memberships.into_iter().collect();
            let roles = effective::roles_of(tx.connection, tx.engine(), &organization, &memberships).await?;
            before.insert(organization, roles.into_iter().collect());
        }
        Ok(Self(before))
    }

    /// Publishes which have other roles now. To be called when everything is changed.
    pub(in crate::store) async fn announce(self, tx: &mut Transaction<'_>) -> Result<(), StoreError> {
        for (organization, before) in self.0 {
            let memberships: Vec<MembershipId> = before.keys().cloned().collect();
            let after = effective::roles_of(tx.connection, tx.engine(), &organization, &memberships).await?;
            for (membership, _) in before.iter().filter(|(id, roles)| after.get(*id) != Some(*roles)) {
                updated(tx, membership).await?;
            }
        }
        Ok(())
    }
}

/// Whoever has one of these roles as an organization role, from wherever.
async fn holders(
    connection: &mut AnyConnection,
    engine: Engine,
    roles: &[RoleId],
    memberships: &mut Memberships,
) -> Result<(), StoreError> {
    let listed = engine.texts_of(1);
    let text = format!(
        "SELECT a.organization_id, a.membership_id FROM assignments a JOIN resources r ON r.id = a.resource_id \
         WHERE r.parent_id IS NULL AND a.role_id IN ({listed}) \
         UNION SELECT g.organization_id, m.membership_id FROM group_assignments g \
         JOIN resources r ON r.id = g.resource_id JOIN group_members m ON m.group_id = g.group_id \
         WHERE r.parent_id IS NULL AND g.role_id IN ({listed}) \
         UNION SELECT organization_id, id FROM memberships WHERE identity_provider_roles <> '[]' AND organization_id IN \
         (SELECT organization_id FROM identity_provider_roles WHERE role_id IN ({listed}))"
    );
    let roles = serde_json::to_string(roles)?;
    collect(connection, sqlx::query(AssertSqlSafe(text)).bind(roles), memberships).await
}

/// Whoever may have more than one organization role.
async fn holders_of_several(connection: &mut AnyConnection, memberships: &mut Memberships) -> Result<(), StoreError> {
    let statement = "SELECT a.organization_id, a.membership_id FROM assignments a \
                     JOIN resources r ON r.id = a.resource_id WHERE r.parent_id IS NULL \
                     GROUP BY a.organization_id, a.membership_id HAVING COUNT(*) > 1 \
                     UNION SELECT g.organization_id, m.membership_id FROM group_assignments g \
                     JOIN resources r ON r.id = g.resource_id JOIN group_members m ON m.group_id = g.group_id \
                     WHERE r.parent_id IS NULL \
                     UNION SELECT organization_id, id FROM memberships WHERE identity_provider_roles <> '[]'";
    collect(connection, sqlx::query(statement), memberships).await
}

async fn collect(
    connection: &mut AnyConnection,
    statement: crate::store::database::Statement<'_>,
    memberships: &mut Memberships,
) -> Result<(), StoreError> {
    let pairs = read_all(connection, statement, |row| {
        Ok((row.try_get::<OrganizationId, _>("organization_id")?, row.try_get::<MembershipId, _>("membership_id")?))
    });
    for (organization, membership) in pairs.await? {
        memberships.entry(organization).or_default().insert(membership);
    }
    Ok(())
}
