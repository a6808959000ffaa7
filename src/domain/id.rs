//! Identifiers and slugs: parsed once, at the edge, and compared byte for byte ever after.
//!
//! Ids are opaque text that somebody else made up; slugs follow a character set (WorkOS contract, sections 1.1 to 1.3).
//! Nothing here folds case: `Foo` and `foo` are two resources.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What kind of thing an [`Id`] names, and which text may name it.
pub trait Kind {
    /// The word used in messages: `membership`, `permission`.
    const NAME: &'static str;
    /// The most bytes an identifier of this kind may have.
    const MAX_BYTES: usize;

    /// Whether `character` may stand in an identifier of this kind.
    fn allows(character: char) -> bool {
        !character.is_control()
    }
}

/// An identifier of kind `K`: non-empty text of bounded length, cheap to clone.
pub struct Id<K> {
    text: Arc<str>,
    kind: PhantomData<fn() -> K>,
}

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("{kind} is empty")]
    Empty {
        /// What was to be named.
        kind: &'static str,
    },
    /// More bytes than the kind allows.
    #[error("{kind} has {bytes} bytes, at most {limit} are allowed")]
    TooLong {
        /// What was to be named.
        kind: &'static str,
        /// Bytes given.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A character outside the kind's set.
    #[error("{kind} `{text}` contains {character:?}, which is not allowed there")]
    Character {
        /// What was to be named.
        kind: &'static str,
        /// The whole text, control characters escaped.
        text: String,
        /// The first character outside the set.
        character: char,
    },
    /// A revision that is not `r1.<epoch>.<seq>`.
    #[error("revision `{text}` is not of the form `r1.<epoch>.<seq>`")]
    Revision {
        /// The text given.
        text: String,
    },
}

impl<K: Kind> Id<K> {
    /// Parses `text`.
    ///
    /// # Errors
    /// [`IdError`] when it is empty, too long or holds a character outside the kind's set.
    pub fn new(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty { kind: K::NAME });
        }
        if text.len() > K::MAX_BYTES {
            return Err(IdError::TooLong { kind: K::NAME, bytes: text.len(), limit: K::MAX_BYTES });
        }
        if let Some(character) = text.chars().find(|&character| !K::allows(character)) {
            return Err(IdError::Character { kind: K::NAME, text: text.escape_debug().to_string(), character });
        }
        Ok(Self { text: text.into(), kind: PhantomData })
    }
}

impl<K> Id<K> {
    /// An identifier again, from the text of one.
    pub(super) fn known(text: &str) -> Self {
        Self { text: text.into(), kind: PhantomData }
    }

    /// The text of the identifier.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl<K: Kind> FromStr for Id<K> {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(text)
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        Self { text: Arc::clone(&self.text), kind: PhantomData }
    }
}

impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<K> Eq for Id<K> {}

impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl<K> Borrow<str> for Id<K> {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl<K> AsRef<str> for Id<K> {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl<K> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

impl<K: Kind> schemars::JsonSchema for Id<K> {
    fn schema_name() -> Cow<'static, str> {
        K::NAME.into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "minLength": 1, "maxLength": K::MAX_BYTES})
    }
}

fn slug_character(character: char) -> bool {
    character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-' || character == '_'
}

fn printable_ascii(character: char) -> bool {
    character.is_ascii_graphic() || character == ' '
}

/// Marker types: one for each [`Kind`].
pub mod kind {
    use super::{Kind, printable_ascii, slug_character};

    /// A customer of the upstream application; the tenant.
    pub enum Organization {}
    /// One user in one organization.
    pub enum Membership {}
    /// A person.
    pub enum User {}
    /// A login session.
    pub enum Session {}
    /// A set of memberships of one organization.
    pub enum Group {}
    /// A resource, by the store's own id.
    pub enum Resource {}
    /// A resource, by the upstream application's id, unique within (organization, type).
    pub enum External {}
    /// A role, by id: slugs may be reused, ids are not.
    pub enum Role {}
    /// A role assignment or group role assignment.
    pub enum Assignment {}
    /// A permission slug.
    pub enum PermissionSlug {}
    /// A role slug.
    pub enum RoleSlug {}
    /// A resource type slug.
    pub enum ResourceTypeSlug {}

    impl Kind for Organization {
        const NAME: &'static str = "organization";
        const MAX_BYTES: usize = 128;
    }
    impl Kind for Membership {
        const NAME: &'static str = "membership";
        const MAX_BYTES: usize = 128;
    }
    impl Kind for User {
        const NAME: &'static str = "user";
        const MAX_BYTES: usize = 256;
    }
    impl Kind for Session {
        const NAME: &'static str = "session";
        const MAX_BYTES: usize = 256;
    }
    impl Kind for Group {
        const NAME: &'static str = "group";
        const MAX_BYTES: usize = 128;
    }
    impl Kind for Resource {
        const NAME: &'static str = "resource";
        const MAX_BYTES: usize = 128;
    }
    impl Kind for External {
        const NAME: &'static str = "external id";
        const MAX_BYTES: usize = 128;

        fn allows(character: char) -> bool {
            printable_ascii(character)
        }
    }
    impl Kind for Role {
        const NAME: &'static str = "role id";
        const MAX_BYTES: usize = 128;
    }
    impl Kind for Assignment {
        const NAME: &'static str = "assignment";
        const MAX_BYTES: usize = 128;
    }
    impl Kind for PermissionSlug {
        const NAME: &'static str = "permission";
        const MAX_BYTES: usize = 48;

        fn allows(character: char) -> bool {
            slug_character(character) || matches!(character, ':' | '.' | '*')
        }
    }
    impl Kind for RoleSlug {
        const NAME: &'static str = "role";
        const MAX_BYTES: usize = 48;

        fn allows(character: char) -> bool {
            slug_character(character)
        }
    }
    impl Kind for ResourceTypeSlug {
        const NAME: &'static str = "resource type";
        const MAX_BYTES: usize = 48;

        fn allows(character: char) -> bool {
            slug_character(character)
        }
    }
}

/// `org_…`
pub type OrganizationId = Id<kind::Organization>;
/// `om_…`: the subject of every assignment.
pub type MembershipId = Id<kind::Membership>;
/// `user_…`
pub type UserId = Id<kind::User>;
/// `session_…`
pub type SessionId = Id<kind::Session>;
/// `group_…`
pub type GroupId = Id<kind::Group>;
/// `authz_resource_…`
pub type ResourceId = Id<kind::Resource>;
/// The upstream application's own id of a resource.
pub type ExternalId = Id<kind::External>;
/// `role_…`
pub type RoleId = Id<kind::Role>;
/// `role_assignment_…` or `gra_…`
pub type AssignmentId = Id<kind::Assignment>;
/// `project:edit`
pub type PermissionSlug = Id<kind::PermissionSlug>;
/// `project-viewer`
pub type RoleSlug = Id<kind::RoleSlug>;
/// `project`
pub type ResourceTypeSlug = Id<kind::ResourceTypeSlug>;

impl ResourceTypeSlug {
    /// The type of the root resource of every organization.
    pub const ORGANIZATION: &'static str = "organization";

    /// The type of the root resources, as a slug.
    pub fn organization() -> Self {
        Self { text: Self::ORGANIZATION.into(), kind: PhantomData }
    }

    /// Whether this is the type of the root resources.
    pub fn is_organization(&self) -> bool {
        self.as_str() == Self::ORGANIZATION
    }
}

/// One resource, as a request names it; not yet looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ResourceRef<'a> {
    /// By the store's id.
    Id(Cow<'a, str>),
    /// By type and the upstream application's id.
    External {
        /// The resource type.
        resource_type: &'a ResourceTypeSlug,
        /// The external id, unique within (organization, type).
        external_id: Cow<'a, str>,
    },
}

impl fmt::Display for ResourceRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => f.write_str(id),
            Self::External { resource_type, external_id } => write!(f, "{resource_type}:{external_id}"),
        }
    }
}

/// The identity of one history of a store: random, new at creation and after a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Epoch {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let epoch = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        epoch.map(Self).ok_or_else(|| not_a_revision(text))
    }
}

/// Written as sixteen lower-case hexadecimal digits.
impl serde::Serialize for Epoch {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Epoch {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A position in a store's change log, written `r1.<epoch>.<seq>`: sixteen lower-case hexadecimal digits and a decimal number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Revision {
    /// Which history.
    pub epoch: Epoch,
    /// How many transactions of that history are included.
    pub seq: u64,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r1.{}.{}", self.epoch, self.seq)
    }
}

impl FromStr for Revision {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let parts = || {
            let (epoch, seq) = text.strip_prefix("r1.")?.split_once('.')?;
            let canonical = seq.bytes().all(|byte| byte.is_ascii_digit()) && (seq == "0" || !seq.starts_with('0'));
            let seq = canonical.then(|| seq.parse().ok()).flatten()?;
            Some(Self { epoch: epoch.parse().ok()?, seq })
        };
        parts().ok_or_else(|| not_a_revision(text))
    }
}

fn not_a_revision(text: &str) -> IdError {
    IdError::Revision { text: text.chars().take(64).flat_map(char::escape_debug).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_of_an_id_stands_where_it_is_used_and_says_its_bounds() {
        let schema = schemars::schema_for!(Vec<PermissionSlug>);
        let items = serde_json::json!({"type": "string", "minLength": 1, "maxLength": 48});
        assert_eq!(schema.get("items"), Some(&items));
        assert_eq!(<PermissionSlug as schemars::JsonSchema>::schema_name(), "permission");
    }

    #[test]
    fn slugs_follow_their_character_set() {
        assert!(PermissionSlug::new("project:edit.all_*-1").is_ok());
        assert!(PermissionSlug::new("Project:edit").is_err());
        assert!(RoleSlug::new("project:edit").is_err());
        assert!(ResourceTypeSlug::new("work_space-1").is_ok());
        for bad in ["Workspace", "work space", "workspace:eu", "wörkspace"] {
            assert!(ResourceTypeSlug::new(bad).is_err(), "{bad}");
        }
        assert!(RoleSlug::new(&"a".repeat(49)).is_err());
    }

    #[test]
    fn ids_are_compared_byte_for_byte() {
        assert_ne!(ExternalId::new("Foo").unwrap(), ExternalId::new("foo").unwrap());
        assert!(MembershipId::new("om_\u{0}").is_err());
        assert!(ExternalId::new("naïve").is_err());
    }

    #[test]
    fn revisions_are_read_back_as_written_and_nothing_else_is() {
        let revision = Revision { epoch: Epoch(0xab), seq: 7 };
        assert_eq!(revision.to_string(), "r1.00000000000000ab.7");
        assert_eq!(revision.to_string().parse(), Ok(revision));
        for bad in [
            "",
            "r1.ab.7",
            "r1.00000000000000AB.7",
            "r1.00000000000000ab.07",
            "r1.00000000000000ab.-1",
            "r2.00000000000000ab.7",
        ] {
            assert!(bad.parse::<Revision>().is_err(), "{bad}");
        }
    }
}
