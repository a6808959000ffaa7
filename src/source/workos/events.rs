//! What happened, as a hint to read again early, and as word of what has ended (WorkOS contract, section 6).
//!
//! Nothing depends on events: there are none for grants on resources, and what they are about is read in any case within its time.

use std::time::{Duration, UNIX_EPOCH};

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::client::{AskError, Client};
use super::encoded;
use super::pages::LIMIT;
use crate::domain::{MembershipId, OrganizationId, SessionId, UserId};
use crate::wire::Revocation;

/// The events that say something about facts.
const KINDS: [&str; 21] = [
    "organization.updated",
    "organization.deleted",
    "organization_membership.created",
    "organization_membership.updated",
    "organization_membership.deleted",
    "group.created",
    "group.updated",
    "group.deleted",
    "group.member_added",
    "group.member_removed",
    "role.created",
    "role.updated",
    "role.deleted",
    "organization_role.created",
    "organization_role.updated",
    "organization_role.deleted",
    "permission.created",
    "permission.updated",
    "permission.deleted",
    "user.deleted",
    "session.revoked",
];

/// Those of them that say that something has ended.
const ENDS: [&str; 5] = [
    "organization.deleted",
    "organization_membership.updated",
    "organization_membership.deleted",
    "user.deleted",
    "session.revoked",
];

/// How far before now the first question reaches: what happened while the first facts were read.
const OVERLAP: Duration = Duration::from_secs(60);

/// How far events were read.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// In what happens; `None` = nothing was read yet, or its place is lost.
    present: Option<Place>,
    /// In what ended before, and tokens may still name; `None` = it was read.
    past: Option<Place>,
    /// Whether the next question is about the past. They take turns: neither waits for the other's end.
    past_is_next: bool,
}

/// A place in the list of events.
#[derive(Debug)]
struct Place {
    /// The event that was read last.
    after: Option<String>,
    /// Where it begins as long as none was read, in milliseconds since 1970.
    from: Duration,
}

/// What to read again early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// Permissions and environment roles.
    Catalog,
    /// One organization.
    Organization(OrganizationId),
    /// The organization of this membership, which the event does not name.
    Membership(MembershipId),
    /// Everything: events were missed.
    Everything,
}

/// What has ended, so that tokens of it must not count any more; for the list of revocations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// A login session was revoked.
    Session(SessionId),
    /// A membership was removed or switched off.
    Membership {
        /// Which one.
        id: MembershipId,
        /// The user whose it was, and in which organization, when the event says so.
        holder: Option<(UserId, OrganizationId)>,
    },
    /// A user was deleted.
    User(UserId),
    /// An organization was deleted.
    Organization(OrganizationId),
}

/// What events had to say.
#[derive(Debug, Default)]
pub struct News {
    /// What to read again early.
    pub hints: Vec<Hint>,
    /// What has ended, and when: the event's time, as it is written.
    pub ended: Vec<(Ended, String)>,
    /// Whether there is more to be asked for at once.
    pub more: bool,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Event>,
    list_metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    after: Option<String>,
}

#[derive(Deserialize)]
struct Event {
    id: String,
    event: String,
    data: Value,
    created_at: String,
}

/// What happened since `cursor`, which moves on.
pub(super) async fn poll(client: &Client, cursor: &mut Cursor, unix_millis: u64) -> Result<News, AskError> {
    let now = Duration::from_millis(unix_millis);
    let is_past = cursor.take_turn(now);
    let place = if is_past { &mut cursor.past } else { &mut cursor.present };
    let Some(read) = place else { return Ok(News::default()) };
    let kinds = if is_past { ENDS.join("%2C") } else { KINDS.join("%2C") };
    let path = format!("/events?events={kinds}&limit={LIMIT}{}", read.query(now));
    let page: Page = match client.get(&path).await {
        Err(error) if read.after.is_some() && is_lost(&error) => {
            if is_past {
                read.after = None;
                return Ok(News::default());
            }
            // What ended in between is in the past, which is read from its beginning.
            *cursor = Cursor::default();
            return Ok(News { hints: vec![Hint::Everything], ..News::default() });
        }
        other => other?,
    };
    if page.data.len() > LIMIT {
        return Err(AskError::implausible(&path, format!("{} events, {LIMIT} were asked for", page.data.len())));
    }
    if page.data.iter().any(|event| Some(&event.id) == read.after.as_ref()) {
        return Err(AskError::implausible(&path, "the event that was read last comes again"));
    }
    let mut news = News::default();
    for event in &page.data {
        event.tell(&mut news);
    }
    let goes_on = page.list_metadata.is_some_and(|metadata| metadata.after.is_some()) && !page.data.is_empty();
    read.after = page.data.into_iter().next_back().map(|last| last.id).or_else(|| read.after.take());
    if is_past {
        // Facts are read after that.
        news.hints.clear();
        cursor.past = cursor.past.take().filter(|_| goes_on);
        news.more = true;
    } else {
        news.more = goes_on || cursor.past.is_some();
    }
    news.hints.dedup();
    Ok(news)
}

impl Cursor {
    /// Whether the next question is about the past. Begins where nothing was read yet.
    fn take_turn(&mut self, now: Duration) -> bool {
        if self.present.is_none() {
            self.present = Some(Place { after: None, from: now.saturating_sub(OVERLAP) });
            self.past = Some(Place { after: None, from: now.saturating_sub(Revocation::KEPT) });
            self.past_is_next = false;
        }
        let is_past = self.past_is_next && self.past.is_some();
        self.past_is_next = !self.past_is_next;
        is_past
    }
}

impl Place {
    fn query(&self, now: Duration) -> String {
        match &self.after {
            Some(id) => format!("&after={}", encoded(id)),
            None => {
                // Servers keep events for a time only, and nothing is missed that anybody could still be told apart by.
                let start = UNIX_EPOCH + self.from.max(now.saturating_sub(Revocation::KEPT));
                format!("&range_start={}", encoded(&humantime::format_rfc3339_millis(start).to_string()))
            }
        }
    }
}

/// Whether the server does not know the event any more that was read last.
fn is_lost(error: &AskError) -> bool {
    matches!(
        error.status(),
        Some(StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::UNPROCESSABLE_ENTITY)
    )
}

impl Event {
    fn text(&self, key: &str) -> Option<&str> {
        self.data.get(key)?.as_str()
    }

    fn id<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.text(key)?.parse().ok()
    }

    /// The membership that the event is about.
    fn membership(&self) -> Option<Ended> {
        let holder = self.id("user_id").zip(self.id("organization_id"));
        Some(Ended::Membership { id: self.id("id")?, holder })
    }

    fn tell(&self, news: &mut News) {
        let (object, verb) = self.event.split_once('.').unwrap_or((&self.event, ""));
        let hint = match (object, verb) {
            ("role" | "permission", _) => Some(Hint::Catalog),
            ("organization", _) => self.id("id").map(Hint::Organization),
            ("group", "member_added" | "member_removed") => self.id("organization_membership_id").map(Hint::Membership),
            ("organization_membership" | "group" | "organization_role", _) => {
                self.id("organization_id").map(Hint::Organization)
            }
            _ => None,
        };
        news.hints.extend(hint);
        let is_off = self.text("status").is_some_and(|status| status != "active");
        let ended = match (object, verb) {
            ("session", "revoked") => self.id("id").map(Ended::Session),
            ("user", "deleted") => self.id("id").map(Ended::User),
            ("organization", "deleted") => self.id("id").map(Ended::Organization),
            ("organization_membership", "deleted") => self.membership(),
            ("organization_membership", "updated") if is_off => self.membership(),
            _ => None,
        };
        news.ended.extend(ended.map(|ended| (ended, self.created_at.clone())));
    }
}
