//! What organizations amount to, some at a time and in turns, so that a sidecar that went astray notices.
//!
//! Made beside the stream: an organization that takes long to read holds up no change and no echo.

use std::collections::HashSet;
use std::pin::Pin;
use std::time::Duration;

use sqlx::Row;
use tokio::time::sleep;

use super::access::Subscriber;
use super::follow::Wanted;
use crate::domain::OrganizationId;
use crate::store::error::StoreError;
use crate::store::{Store, rows};
use crate::wire::feed::Down;

/// Time between two rounds.
const INTERVAL: Duration = Duration::from_secs(10);
/// The most organizations of a round.
const MOST_IN_A_ROUND: usize = 32;

/// The digests for one sidecar.
pub(super) struct Digests {
    store: Store,
    /// The uptime of the next round.
    next: Duration,
    /// The last organization that had its turn.
    last: Option<OrganizationId>,
    round: Option<Round>,
}

/// The digests of a round, and the last organization that had its turn.
type Round = Pin<Box<dyn Future<Output = Result<(Vec<Down>, Option<OrganizationId>), StoreError>> + Send>>;

impl Digests {
    /// The first round is at a random time, so that a fleet that came together does not ask together.
    pub(super) fn new(store: Store) -> Self {
        let next = store.0.clock.uptime() + INTERVAL.mul_f64(rand::random());
        Self { store, next, last: None, round: None }
    }

    /// The digests of the next round, when that is over. To be asked again when it was given up before.
    pub(super) async fn made(&mut self, wanted: &Wanted, subscriber: &Subscriber) -> Vec<Down> {
        let round = match &mut self.round {
            Some(round) => round,
            None => {
                sleep(self.next.saturating_sub(self.store.0.clock.uptime())).await;
                self.next = self.store.0.clock.uptime() + INTERVAL;
                let among = match wanted {
                    Wanted::All => None,
                    Wanted::Only(organizations) => Some(turn(organizations, self.last.as_ref())),
                };
                self.round.insert(Box::pin(round(self.store.clone(), subscriber.clone(), among, self.last.clone())))
            }
        };
        let made = round.await;
        self.round = None;
        match made {
            Ok((digests, last)) => {
                self.last = last;
                digests
            }
            Err(error) => {
                tracing::warn!(%error, "digests cannot be made");
                Vec::new()
            }
        }
    }
}

/// The organizations that have their turn after `last`; from the beginning after the last of all.
fn turn(organizations: &HashSet<OrganizationId>, last: Option<&OrganizationId>) -> Vec<OrganizationId> {
    let mut later: Vec<_> = organizations.iter().filter(|id| last.is_none_or(|last| *id > last)).collect();
    if later.len() > MOST_IN_A_ROUND {
        later.select_nth_unstable(MOST_IN_A_ROUND);
        later.truncate(MOST_IN_A_ROUND);
    }
    later.sort_unstable();
    later.into_iter().cloned().collect()
}

/// `among`: whose turn it is, where that is known already.
async fn round(
    store: Store,
    subscriber: Subscriber,
    among: Option<Vec<OrganizationId>>,
    last: Option<OrganizationId>,
) -> Result<(Vec<Down>, Option<OrganizationId>), StoreError> {
    let organizations = match among {
        Some(organizations) => organizations,
        None => page(&store, last.as_ref()).await?,
    };
    let mut may_load = true;
    let mut digests = Vec::new();
    for organization in organizations.iter().filter(|id| subscriber.may_read(id)) {
        // One that nobody asked the store about is read for this: one in a round, and one at a time for all streams together.
        let turn = match store.0.facts.has(organization) {
            true => None,
            false if !std::mem::take(&mut may_load) => continue,
            false => match store.0.digesting.try_acquire() {
                Ok(turn) => Some(turn),
                Err(_) => continue,
            },
        };
        let (seq, digest) = store.0.facts.digest(organization).await?;
        drop(turn);
        let digest = digest.map(|digest| digest.to_string());
        digests.push(Down::Digest { organization: organization.clone(), seq, digest });
    }
    Ok((digests, organizations.last().cloned()))
}

async fn page(store: &Store, last: Option<&OrganizationId>) -> Result<Vec<OrganizationId>, StoreError> {
    let statement = sqlx::query("SELECT id FROM organizations WHERE id > $1 ORDER BY id LIMIT $2")
        .bind(last.map(ToString::to_string).unwrap_or_default())
        .bind(i64::try_from(MOST_IN_A_ROUND).unwrap_or(i64::MAX));
    rows::read_all(&mut *store.read().await?, statement, |row| Ok(row.try_get("id")?)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn() {
        let organizations: HashSet<OrganizationId> = (0..150).map(|n| format!("org_{n:03}").parse().unwrap()).collect();
        let (mut last, mut seen, mut rounds) = (None, Vec::new(), 0);
        loop {
            let now = turn(&organizations, last.as_ref());
            last = now.last().cloned();
            seen.extend(now);
            if last.is_none() {
                break;
            }
            rounds += 1;
        }
        assert_eq!((seen.len(), rounds), (150, 5));
        assert!(seen.is_sorted());
    }
}
