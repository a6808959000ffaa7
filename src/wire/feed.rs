//! What the sync feed carries between a store and its sidecars: the look-ups, and both directions of the stream.
//!
//! Look-ups are HTTP with JSON bodies under `/sync/v1`. The stream is the gRPC method [`FOLLOW`], whose messages are JSON as well, so that
//! the very bytes that the log holds are handed on.

mod codec;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use codec::JsonCodec;

use super::Revocation;
use crate::domain::{CatalogRows, Delta, Epoch, OrganizationId, OrganizationRows, Part, Transaction};

/// The path of the stream.
pub const FOLLOW: &str = "/portcullis.sync.v1.Sync/Follow";

/// `GET /sync/v1/head`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadAnswer {
    /// Which history.
    pub epoch: Epoch,
    /// The number of the last transaction.
    pub head: u64,
    /// The number of the first transaction that is still in the log.
    pub oldest: u64,
    /// What the log amounts to at `head`.
    pub chain: String,
    /// The store's clock, RFC 3339.
    pub time: String,
}

/// `GET /sync/v1/catalog`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogAnswer {
    /// Which history.
    pub epoch: Epoch,
    /// As of which transaction.
    pub seq: u64,
    /// What the log amounts to there: with it, the stream goes on from here.
    pub chain: String,
    /// What the environment declares.
    #[serde(flatten)]
    pub rows: CatalogRows,
}

/// `GET /sync/v1/organizations/{id}`, and a line of `POST /sync/v1/organizations:batch`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrganizationAnswer {
    /// Whose.
    pub id: OrganizationId,
    /// Which history.
    pub epoch: Epoch,
    /// As of which transaction.
    pub seq: u64,
    /// Its facts; `null` when there is no such organization, or none that this key may see.
    pub facts: Option<OrganizationRows>,
    /// What they amount to.
    pub digest: Option<String>,
}

/// The body of `POST /sync/v1/organizations:batch`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// Whose facts to read; at most 256.
    pub ids: Vec<OrganizationId>,
}

/// `GET /sync/v1/organizations`: ids in ascending order, a page of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrganizationsAnswer {
    /// The ids.
    pub ids: Vec<OrganizationId>,
    /// Where the next page begins (`?after=`); `null` on the last page.
    pub after: Option<OrganizationId>,
}

/// From the sidecar to the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Up {
    /// The first message, and only the first: where the sidecar stands, and what it wants to hear of.
    Resume {
        /// Which history.
        epoch: Epoch,
        /// The last transaction it knows.
        seq: u64,
        /// What the log amounted to there.
        chain: String,
        /// The organizations it wants to hear of.
        organizations: Filter,
    },
    /// A change of what it wants to hear of.
    Subscribe {
        /// Comes back with the confirmation.
        number: u64,
        /// From now on these too.
        add: Vec<OrganizationId>,
        /// From now on these no more.
        remove: Vec<OrganizationId>,
    },
    /// A question whether it knows everything: comes back when it does.
    Nonce(u64),
}

/// Which organizations a sidecar wants to hear of. It always hears of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// All of them.
    All,
    /// These.
    Only(Vec<OrganizationId>),
}

/// From the store to the sidecar.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Down {
    /// The first message: the stream goes on where the sidecar stands.
    Resumed {
        /// The number of the last transaction.
        head: u64,
        /// The organizations that the key may read, if those are not all: no other exists for the sidecar, not even one that it has in memory.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        only: Option<Vec<OrganizationId>>,
    },
    /// Instead of it, or at any time: the stream cannot go on, start over. It is the last message.
    Resync {
        /// Why.
        reason: ResyncReason,
    },
    /// What happened.
    Frame(Frame),
    /// A change of the filter is in force.
    Subscribed {
        /// The one with this number.
        number: u64,
        /// Transactions after this one are sent accordingly.
        at: u64,
    },
    /// Everything up to `head` has been sent, and `head` was read from the database after this nonce arrived.
    Echo {
        /// The nonce.
        nonce: u64,
        /// The number of the last transaction then.
        head: u64,
    },
    /// What an organization amounts to.
    Digest {
        /// Which one.
        organization: OrganizationId,
        /// After this transaction.
        seq: u64,
        /// The digest, 32 hexadecimal digits; `null` when there is no such organization.
        digest: Option<String>,
    },
}

/// Why a sidecar has to start over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResyncReason {
    /// The history is another one.
    Epoch,
    /// What it knows last is not in the log any more.
    TooOld,
    /// It knows more than the store does: the store went back in time.
    Ahead,
    /// The log says something else about what it knows: the history split.
    Chain,
}

/// A run of transactions, those that concern the subscriber.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Frame {
    /// Which history.
    pub epoch: Epoch,
    /// It begins after this transaction.
    pub from: u64,
    /// It ends with this one, whether it concerns the subscriber or not.
    pub to: u64,
    /// The number of the last transaction there is.
    pub head: u64,
    /// What the log amounts to at `to`.
    pub chain: String,
    /// The transactions that concern the subscriber, in order.
    pub transactions: Vec<Packed>,
    /// Revocations since `from`, whatever the filter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revocations: Vec<Revocation>,
}

/// One transaction, its parts as they stand in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Packed {
    /// Its number.
    pub seq: u64,
    /// The parts that concern the subscriber.
    pub parts: Vec<Box<RawValue>>,
}

/// As much of a part as tells whose it is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    /// The environment's.
    Catalog(IgnoredAny),
    /// An organization's.
    Organization {
        /// Whose.
        id: OrganizationId,
        /// Whatever it says.
        delta: IgnoredAny,
    },
}

impl Packed {
    /// What it says. What it says of an organization in words that this program does not know becomes: read it anew.
    ///
    /// # Errors
    /// It says something of the catalog, or of nobody knows whom, in words that this program does not know: everything has to be read anew.
    pub fn unpack(&self) -> Result<Transaction, serde_json::Error> {
        let read = |part: &RawValue| {
            serde_json::from_str(part.get()).or_else(|error| match serde_json::from_str(part.get()) {
                Ok(Label::Organization { id, .. }) => {
                    Ok(Part::Organization { id, delta: Delta::Reset(Box::default()) })
                }
                Ok(Label::Catalog(_)) | Err(_) => Err(error),
            })
        };
        Ok(Transaction { seq: self.seq, parts: self.parts.iter().map(|part| read(part)).collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(part: &str) -> Packed {
        Packed { seq: 7, parts: vec![RawValue::from_string(part.to_owned()).unwrap()] }
    }

    #[test]
    fn what_is_not_understood_is_read_anew() {
        let unknown = packed(r#"{"organization":{"id":"org_1","delta":{"changes":[{"paint":{"member":"om_1"}}]}}}"#);
        let [Part::Organization { id, delta: Delta::Reset(_) }] = &*unknown.unpack().unwrap().parts else { panic!() };
        assert_eq!(id.as_str(), "org_1");
        assert!(packed(r#"{"catalog":{"changes":[{"paint":"permission"}]}}"#).unpack().is_err());
        assert!(packed(r#"{"galaxy":{}}"#).unpack().is_err());
        let known = packed(r#"{"organization":{"id":"org_1","delta":{"changes":[{"delete":{"member":"om_1"}}]}}}"#);
        assert!(matches!(&*known.unpack().unwrap().parts, [Part::Organization { delta: Delta::Changes(_), .. }]));
    }
}
