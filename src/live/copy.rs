//! The world in force, taken out whole, and put in force again in another process.

use std::sync::Arc;
use std::time::Duration;

use super::generation::{Generation, InstallError, Preloaded};
use super::moment::Moment;
use super::residents::kibibytes;
use super::{OrganizationId, OrganizationRows, Revision, World};
use crate::domain::record::CatalogRows;
use crate::domain::{Catalog, Shard};
use crate::wire::Revocation;

/// The world in force at one moment.
pub struct Copy {
    /// The facts.
    pub revision: Revision,
    /// Permissions, environment roles, resource types, settings.
    pub catalog: Arc<Catalog>,
    /// The organizations in memory; those that do not exist are left out.
    pub organizations: Vec<(OrganizationId, Arc<Shard>)>,
    /// The revocations in force.
    pub revocations: Vec<Revocation>,
    /// How long ago all of it was proven to be the newest.
    pub age: Duration,
}

/// What is put in force again, organizations apart.
#[derive(Debug)]
pub struct Remains {
    /// The facts.
    pub revision: Revision,
    /// What the environment declares.
    pub catalog: CatalogRows,
    /// The complete list.
    pub revocations: Vec<Revocation>,
    /// How long ago, at `uptime`, all of it was proven to be the newest.
    pub age: Duration,
    /// Uptime now.
    pub uptime: Duration,
}

impl World {
    /// All that is in force at `uptime`; `None` where that is nothing, or what was never proven to be the newest.
    pub fn copy(&self, uptime: Duration) -> Option<Copy> {
        // Nothing comes into force meanwhile.
        let _turn = self.installing();
        let current = self.current.load();
        let Preloaded::OnDemand = current.organizations else { return None };
        Some(Copy {
            revision: current.revision?,
            catalog: Arc::clone(&current.catalog),
            organizations: self.residents.shards(current.number),
            revocations: self.revocations.entries(),
            age: self.freshness(uptime).age?,
        })
    }

    /// Puts in force what was in force in another process, as old as it is: nothing is proven by that. Organizations are let in up to
    /// [`max_memory`](super::Settings::max_memory). Says which.
    ///
    /// # Errors
    /// [`InstallError`], or what `organizations` failed with; nothing has changed.
    pub fn restore<E: From<InstallError>>(
        &self,
        remains: Remains,
        organizations: impl Iterator<Item = Result<(OrganizationId, OrganizationRows), E>>,
    ) -> Result<Vec<OrganizationId>, E> {
        let Remains { revision, catalog, revocations, age, uptime } = remains;
        let _turn = self.installing();
        let before = self.current.load();
        before.may_become(revision)?;
        let catalog = Arc::new(self.noted(Catalog::build(&catalog).map_err(InstallError::Catalog)?));
        let mut shards = Vec::new();
        let mut room = self.settings.max_memory / 1024;
        for organization in organizations {
            let (organization, rows) = organization?;
            let built = Shard::build(&catalog, &organization, &rows, self.settings.keep);
            let refused = |source| InstallError::Organization { organization: organization.clone(), source };
            let shard = self.noted(built.map_err(refused)?);
            // What does not fit is read when it is needed.
            if let Some(left) = room.checked_sub(u64::from(kibibytes(&shard))) {
                room = left;
                shards.push((organization, shard));
            }
        }
        let number = before.number + 1;
        let restored = shards.iter().map(|(organization, _)| organization.clone()).collect();
        for (organization, shard) in shards {
            self.residents.seat(organization, number, shard);
        }
        self.revocations.replace(revocations);
        self.note(Moment::before(uptime, age));
        let organizations = Preloaded::OnDemand;
        self.put_in_force(Generation { number, revision: Some(revision), catalog, organizations, former: None });
        Ok(restored)
    }
}
