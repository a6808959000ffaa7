//! The revocations in force: tokens that are refused although they have not ended.
//!
//! Every authenticated request asks, so reading takes no lock, and one load while nothing is revoked. What is added goes into a small
//! list in front of the large one and is folded into it from time to time, so that adding does not copy everything each time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use hashbrown::{Equivalent, HashMap};
use tokio::sync::watch;

use super::moment::{Moment, Proof};
use crate::domain::{Clock, Freshness, Principal, UnixSeconds};
use crate::wire::{Holder, Revocation, RevocationKind};

/// As many entries are added before they are folded into the rest.
const MOST_RECENT: usize = 1024;

/// The revocations in force.
pub struct Revocations {
    lists: ArcSwap<Lists>,
    /// How many entries there are: 0 spares every reader the rest.
    count: AtomicUsize,
    /// Held while something is added.
    adding: Mutex<()>,
    /// Whether there ever was a complete list.
    listed: AtomicBool,
    /// Whether a proof for the world is one for this list.
    follows_world: AtomicBool,
    /// The last proof of freshness.
    proven: Proof,
    clock: Arc<dyn Clock>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Lists {
    settled: Arc<Entries>,
    recent: Entries,
}

/// For each kind, ids and what is revoked of them.
#[derive(Default, Clone)]
struct Entries {
    sessions: Map,
    memberships: Map,
    users: Map,
    organizations: Map,
    /// What is revoked of memberships, by whose they were: for tokens that do not name them.
    holders: HashMap<Arc<Holder>, Entry, RandomState>,
}

type Map = HashMap<Box<str>, (Entry, Option<Arc<Holder>>), RandomState>;

#[derive(Debug, Clone, Copy)]
struct Entry {
    not_before: UnixSeconds,
    expires: UnixSeconds,
}

/// A [`Holder`] that owns nothing.
#[derive(Hash)]
struct Held<'a> {
    user: &'a str,
    organization: &'a str,
}

impl Equivalent<Arc<Holder>> for Held<'_> {
    fn equivalent(&self, holder: &Arc<Holder>) -> bool {
        *self.user == *holder.user && *self.organization == *holder.organization
    }
}

impl Revocations {
    /// Nothing is revoked, and nothing proves that. `changed` is told of every change.
    pub(super) fn new(clock: Arc<dyn Clock>, changed: watch::Sender<()>) -> Self {
        Self {
            lists: ArcSwap::default(),
            count: AtomicUsize::new(0),
            adding: Mutex::default(),
            listed: AtomicBool::new(false),
            follows_world: AtomicBool::new(false),
            proven: Proof::none(),
            clock,
            changed,
        }
    }

    /// What of `principal` is revoked at `now`; `None` when nothing is known to be. A token that does not say when it was issued may
    /// have been issued at any time.
    pub fn find(&self, principal: &Principal, now: UnixSeconds) -> Option<RevocationKind> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let lists = self.lists.load();
        let refuses = |entry: &Entry| {
            now < entry.expires && principal.issued_at.is_none_or(|issued_at| issued_at <= entry.not_before)
        };
        let is_revoked = |kind| {
            [&lists.recent, &*lists.settled].into_iter().filter_map(|list| list.about(principal, kind)).any(refuses)
        };
        RevocationKind::ALL.into_iter().find(|&kind| is_revoked(kind))
    }

    /// Puts a complete list in force, instead of whatever was.
    pub fn replace(&self, entries: impl IntoIterator<Item = Revocation>) {
        let adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut settled = Entries::default();
        let now = self.clock.now();
        entries.into_iter().for_each(|revocation| settled.add(revocation, now));
        self.put_in_force(Lists { settled: Arc::new(settled), recent: Entries::default() });
        self.listed.store(true, Ordering::Release);
        drop(adding);
        self.changed.send_replace(());
    }

    /// Adds to the list in force. What it says of the same id already is not weakened.
    pub fn add(&self, entries: impl IntoIterator<Item = Revocation>) {
        let adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.lists.load_full();
        let (mut settled, mut recent) = (Arc::clone(&before.settled), before.recent.clone());
        let now = self.clock.now();
        entries.into_iter().for_each(|revocation| recent.add(revocation, now));
        if recent.len() > MOST_RECENT {
            let mut folded = Entries::clone(&settled);
            folded.absorb(std::mem::take(&mut recent));
            folded.forget(now);
            settled = Arc::new(folded);
        }
        self.put_in_force(Lists { settled, recent });
        drop(adding);
        self.changed.send_replace(());
    }

    /// How many entries are kept.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Notes that the list in force was complete and the newest there is at `uptime`.
    pub fn prove(&self, uptime: Duration) {
        self.proven.note(Moment::at(uptime));
    }

    /// From now on a [proof](super::World::prove) for the world is one for this list: they come from one source, in one order.
    pub fn follow_world(&self) {
        self.follows_world.store(true, Ordering::Release);
    }

    /// How old the list in force is at `uptime`; without an age while there never was a complete one.
    pub fn freshness(&self, uptime: Duration) -> Freshness {
        let listed = self.listed.load(Ordering::Acquire);
        let proven = self.proven.get().filter(|_| listed);
        Freshness { age: proven.map(|proven| proven.age(uptime)) }
    }

    pub(super) fn world_proven(&self, moment: Moment) {
        if self.follows_world.load(Ordering::Acquire) {
            self.proven.note(moment);
        }
    }

    /// The complete list in force. Of one id there may be two entries.
    pub(super) fn entries(&self) -> Vec<Revocation> {
        let lists = self.lists.load();
        lists.settled.list().chain(lists.recent.list()).collect()
    }

    fn put_in_force(&self, lists: Lists) {
        let count = lists.settled.len() + lists.recent.len();
        self.lists.store(Arc::new(lists));
        self.count.store(count, Ordering::Release);
    }
}

impl Entry {
    fn absorb(&mut self, other: Self) {
        self.not_before = self.not_before.max(other.not_before);
        self.expires = self.expires.max(other.expires);
    }
}

impl Entries {
    fn of(&self, kind: RevocationKind) -> &Map {
        match kind {
            RevocationKind::Session => &self.sessions,
            RevocationKind::Membership => &self.memberships,
            RevocationKind::User => &self.users,
            RevocationKind::Organization => &self.organizations,
        }
    }

    fn of_mut(&mut self, kind: RevocationKind) -> &mut Map {
        match kind {
            RevocationKind::Session => &mut self.sessions,
            RevocationKind::Membership => &mut self.memberships,
            RevocationKind::User => &mut self.users,
            RevocationKind::Organization => &mut self.organizations,
        }
    }

    /// What is revoked of that which a token names as its `kind`. A membership that it does not name is found by whose it is.
    fn about(&self, principal: &Principal, kind: RevocationKind) -> Option<&Entry> {
        let organization = principal.organization.as_ref().map(AsRef::as_ref);
        let id: Option<&str> = match kind {
            RevocationKind::Session => principal.session.as_ref().map(AsRef::as_ref),
            RevocationKind::Membership => match &principal.membership {
                Some(membership) => Some(membership.as_ref()),
                None => return self.holders.get(&Held { user: principal.user.as_str(), organization: organization? }),
            },
            RevocationKind::User => Some(principal.user.as_str()),
            RevocationKind::Organization => organization,
        };
        self.of(kind).get(id?).map(|(entry, _)| entry)
    }

    fn add(&mut self, revocation: Revocation, now: UnixSeconds) {
        let Revocation { kind, id, not_before, expires, holder } = revocation;
        if now < expires {
            let holder = holder.filter(|_| kind == RevocationKind::Membership).map(Arc::new);
            self.merge(kind, id, Entry { not_before, expires }, holder);
        }
    }

    /// Of two entries for one id, whatever either refuses is refused.
    fn merge(&mut self, kind: RevocationKind, id: Box<str>, entry: Entry, holder: Option<Arc<Holder>>) {
        let (kept, held) = self.of_mut(kind).entry(id).or_insert((entry, None));
        kept.absorb(entry);
        *held = holder.or_else(|| held.take());
        let (kept, held) = (*kept, held.clone());
        if let Some(holder) = held {
            self.holders.entry(holder).or_insert(kept).absorb(kept);
        }
    }

    fn absorb(&mut self, mut other: Self) {
        for kind in RevocationKind::ALL {
            for (id, (entry, holder)) in std::mem::take(other.of_mut(kind)) {
                self.merge(kind, id, entry, holder);
            }
        }
    }

    fn forget(&mut self, now: UnixSeconds) {
        for kind in RevocationKind::ALL {
            self.of_mut(kind).retain(|_, (entry, _)| now < entry.expires);
        }
        self.holders.retain(|_, entry| now < entry.expires);
    }

    fn list(&self) -> impl Iterator<Item = Revocation> {
        let of = |kind| self.of(kind).iter().map(move |(id, entry)| (kind, id.clone(), entry));
        RevocationKind::ALL.into_iter().flat_map(of).map(|(kind, id, (entry, holder))| {
            let Entry { not_before, expires } = *entry;
            Revocation { kind, id, not_before, expires, holder: holder.as_deref().cloned() }
        })
    }

    fn len(&self) -> usize {
        RevocationKind::ALL.into_iter().map(|kind| self.of(kind).len()).sum()
    }
}

#[cfg(test)]
mod tests;
