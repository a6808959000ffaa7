//! Revocations as the store lists them: tokens that are refused although they have not ended.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::UnixSeconds;

/// The answer of `GET /sync/v1/revocations`: the complete list as of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationList {
    /// Of which history: sixteen lower-case hexadecimal digits.
    pub epoch: String,
    /// As of which transaction of it.
    pub seq: u64,
    /// Every entry that has not expired.
    pub revocations: Vec<Revocation>,
}

/// One entry: tokens that name this, issued at `not_before` or earlier, are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// What `id` names. A kind that is not known here makes the whole list unreadable: what it revokes would pass.
    pub kind: RevocationKind,
    /// The id.
    pub id: Box<str>,
    /// A token issued at this second or before it is refused; one issued later is not.
    pub not_before: UnixSeconds,
    /// From this second on the entry says nothing: every token that it is about has ended.
    pub expires: UnixSeconds,
    /// Whose membership it was, when that is known: tokens need not name the membership itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
}

/// Whose membership it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Holder {
    /// The user.
    pub user: Box<str>,
    /// The organization.
    pub organization: Box<str>,
}

impl Revocation {
    /// The longest that a token may be valid where revocations are to count: what is revoked is not remembered for longer.
    pub const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
    /// For so long a revocation is kept: until the last token that it is about has ended, by a clock that is a minute late.
    pub const KEPT: Duration = Duration::from_secs(24 * 60 * 60 + 60);
}

/// What a revocation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationKind {
    /// A login session that was ended.
    Session,
    /// A membership that was deleted or switched off.
    Membership,
    /// A user who was deleted.
    User,
    /// An organization that was deleted.
    Organization,
}

impl RevocationKind {
    /// Every kind once.
    pub const ALL: [Self; 4] = [Self::Session, Self::Membership, Self::User, Self::Organization];

    /// Its name, as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Membership => "membership",
            Self::User => "user",
            Self::Organization => "organization",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_back_as_written_and_an_unknown_kind_refuses_it() {
        let text = r#"{"epoch":"00000000000000ab","seq":7,"revocations":[{"kind":"session","id":"session_1","not_before":5,"expires":9}]}"#;
        let list: RevocationList = serde_json::from_str(text).unwrap();
        assert_eq!(list.revocations[0].kind, RevocationKind::Session);
        assert_eq!(serde_json::to_string(&list).unwrap(), text);
        assert!(serde_json::from_str::<RevocationList>(&text.replace("\"session\"", "\"device\"")).is_err());
        let text =
            r#"{"kind":"membership","id":"om_1","not_before":5,"expires":9,"holder":{"user":"u","organization":"o"}}"#;
        let entry: Revocation = serde_json::from_str(text).unwrap();
        assert_eq!(entry.holder, Some(Holder { user: "u".into(), organization: "o".into() }));
        assert_eq!(serde_json::to_string(&entry).unwrap(), text);
        for kind in RevocationKind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.as_str()));
        }
    }
}
