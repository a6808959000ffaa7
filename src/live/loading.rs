//! Organizations in and out of memory, on behalf of whoever loads them.

use std::sync::Arc;
use std::time::Duration;

use super::World;
use super::generation::Preloaded;
use super::moment::Moment;
use super::residents::{Order, Use};
use crate::domain::record::{Delta, OrganizationRecord, OrganizationRows};
use crate::domain::{BuildError, Digest, MembershipId, OrganizationId, Shard};
use crate::telemetry::OrganizationLoad;

/// An organization as it was read.
#[derive(Debug)]
pub struct Arrival {
    /// Its facts; `None` when there is no such organization.
    pub shard: Option<Shard>,
    /// Uptime at which they were proven to be the newest, for sources that prove it for each organization; `None` = with the world.
    pub proven: Option<Duration>,
}

impl World {
    /// Which generation is in force: what is fetched now belongs to it or a later one.
    pub fn generation(&self) -> u64 {
        self.current.load().number
    }

    /// Answers an order with what was fetched while `generation` was in force: rows, `None` for an organization that does not exist, or an
    /// error that was reported elsewhere. Returns the order when another generation has come into force since: fetch again.
    ///
    /// # Errors
    /// The order.
    pub fn deliver(
        &self,
        order: Order,
        generation: u64,
        fetched: Result<Option<OrganizationRows>, ()>,
    ) -> Result<(), Order> {
        let organization = order.organization();
        let build = |rows: OrganizationRows| {
            let refused = |error| tracing::error!(%organization, %error, "organization is refused");
            self.build(organization, &rows).map_err(refused)
        };
        let shard = fetched.and_then(|rows| rows.map(build).transpose());
        self.settle(order, generation, shard.map(|shard| Arrival { shard, proven: None }))
    }

    /// The shard of these rows.
    ///
    /// # Errors
    /// [`BuildError`]
    pub fn build(&self, organization: &OrganizationId, rows: &OrganizationRows) -> Result<Shard, BuildError> {
        let catalog = Arc::clone(&self.current.load().catalog);
        Shard::build(&catalog, organization, rows, self.settings.keep).map(|built| self.noted(built))
    }

    /// Answers an order with what it asked for. Returns the order when another generation than `generation` is in force.
    ///
    /// # Errors
    /// The order.
    pub fn settle(&self, order: Order, generation: u64, arrival: Result<Arrival, ()>) -> Result<(), Order> {
        let _turn = self.installing();
        if self.current.load().number != generation {
            return Err(order);
        }
        if let Ok(Arrival { proven: Some(proven), .. }) = &arrival {
            self.histories.prove(Moment::at(*proven));
        }
        let load = self.residents.settle(order, generation, arrival.map_err(|()| OrganizationLoad::Failed));
        self.metrics.organization_loaded(load);
        if self.current.load().former.is_some() {
            // What was decided on former facts may be decided otherwise now.
            self.changed.send_replace(());
        }
        Ok(())
    }

    /// Answers an order for what is in memory already, or gives it back.
    ///
    /// # Errors
    /// The order.
    pub fn settle_resident(&self, order: Order) -> Result<(), Order> {
        if !self.is_resident(order.organization()) {
            return Err(order);
        }
        self.residents.done(order, Ok(()));
        Ok(())
    }

    /// The next shard after these changes of an organization that is not resident yet.
    ///
    /// # Errors
    /// [`BuildError`]; it has to be read again.
    pub fn advance(&self, shard: Shard, deltas: &[Delta<OrganizationRecord>]) -> Result<Shard, BuildError> {
        let catalog = Arc::clone(&self.current.load().catalog);
        let next = |shard: Shard, delta| shard.advance(&catalog, delta).map(|built| self.noted(built));
        deltas.iter().try_fold(shard, next)
    }

    /// An order for `organization` that no request waits for; `None` when it is resident, or on order already.
    pub fn preload(&self, organization: &OrganizationId) -> Option<Order> {
        if self.is_resident(organization) { None } else { self.residents.preload(organization) }
    }

    /// Replaces a resident by what was read of it while `generation` was in force. Nothing happens when another generation is, when it is
    /// not resident any more, or when what it has was read later. Says whether it was replaced. What waits for changes hears of it only when
    /// the facts are others than before.
    pub fn renew(&self, organization: &OrganizationId, generation: u64, arrival: Arrival) -> bool {
        let before = self.residents.find(organization, generation).and_then(|resident| resident.shard().clone());
        let is_same = before.as_deref().zip(arrival.shard.as_ref()).is_some_and(|(before, now)| {
            let catalog = Arc::clone(&self.current.load().catalog);
            before.digest(&catalog) == now.digest(&catalog)
        });
        let _turn = self.installing();
        if self.current.load().number != generation {
            return false;
        }
        let Some(resident) = self.residents.find(organization, generation) else { return false };
        let proven = arrival.proven.map(Moment::at);
        if resident.proven() > proven {
            return false;
        }
        // Whatever was put there meanwhile was not compared.
        let was = resident.shard().as_ref().map(Arc::as_ptr);
        let is_same = is_same && was == before.as_ref().map(Arc::as_ptr);
        match arrival.shard {
            Some(shard) => {
                self.turn.write(|| resident.renew(Arc::new(shard), proven));
                self.residents.weigh(organization, resident);
            }
            None => self.residents.end(organization, generation, proven),
        }
        if !is_same {
            self.changed.send_replace(());
        }
        true
    }

    /// The residents, and which of them were used since the last call.
    pub fn take_uses(&self) -> Vec<Use> {
        self.residents.take_uses()
    }

    /// The residents that have this membership.
    pub fn residents_having(&self, membership: &MembershipId) -> Vec<OrganizationId> {
        self.residents.having(membership)
    }

    /// Whether `organization` is in memory, or known not to exist; [former](super::View::is_former) facts are not meant.
    pub fn is_resident(&self, organization: &OrganizationId) -> bool {
        match &self.current.load().organizations {
            Preloaded::All(_) => true,
            Preloaded::OnDemand => self.residents.find(organization, self.generation()).is_some(),
        }
    }

    /// Whether `organization` is in memory as it was before everything began anew.
    pub fn is_former(&self, organization: &OrganizationId) -> bool {
        let former = self.current.load().former.clone();
        former.is_some_and(|former| self.residents.find(organization, former.number).is_some())
    }

    /// The organizations that are in memory as they were before everything began anew, those first that requests looked at.
    pub fn former(&self) -> Vec<OrganizationId> {
        let former = self.current.load().former.clone();
        former.map(|former| self.residents.of(former.number)).unwrap_or_default()
    }

    /// The most bytes that residents take.
    pub fn max_memory(&self) -> u64 {
        self.settings.max_memory
    }

    /// The digest of a resident's facts; `None` when it is not resident.
    pub fn digest(&self, organization: &OrganizationId) -> Option<Digest> {
        let (catalog, shard) = self.turn.read(|| {
            let current = self.current.load();
            let resident = self.residents.find(organization, current.number)?;
            Some((Arc::clone(&current.catalog), resident.shard().clone()?))
        })?;
        Some(shard.digest(&catalog))
    }

    /// Forgets a resident: it has to be loaded again.
    pub fn forget(&self, organization: &OrganizationId) {
        self.residents.remove(organization);
    }
}
