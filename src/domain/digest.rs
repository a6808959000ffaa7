//! The digest of a set of rows: a sum of row fingerprints modulo 2^128, so that order does not matter and one change costs one row.
//!
//! Store and sidecar compute it independently and compare; it detects divergence, not malice. It is the same on every machine and in
//! every version: a change of the encoding below is a change of the protocol.
//!
//! A fingerprint is the first half of SHA-256 over: the domain word, the organization, the kind of the row, its fields. Every text is
//! preceded by its length (32 bits, little-endian). Assignment ids are left out. Permission lists are sorted and without repetition,
//! and the root resource is encoded as absent, whether it was named or not.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

use super::id::{OrganizationId, PermissionSlug, ResourceId};
use super::record::{CatalogRecord, CatalogRows, MembershipStatus, OrganizationRecord, OrganizationRows, RoleMode};

/// The digest of a set of rows; 0 for the empty set. Written as 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest(pub u128);

impl Digest {
    /// The digest of the union of two disjoint sets.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// The digest without the rows of `other`, a subset.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }

    /// The fingerprint of one row of the catalog.
    pub fn of_catalog_row(record: &CatalogRecord) -> Self {
        let mut row = Row::new(None);
        match record {
            CatalogRecord::Permission(permission) => {
                row.kind(1).text(permission.slug.as_str()).text(permission.resource_type.as_str());
            }
            CatalogRecord::ResourceType(kind) => {
                row.kind(2).text(kind.slug.as_str());
                let mut parents: Vec<&str> = kind.parents.iter().map(AsRef::as_ref).collect();
                parents.sort_unstable();
                parents.dedup();
                row.texts(&parents);
            }
            CatalogRecord::Role(role) => {
                row.kind(3).text(role.id.as_str()).text(role.slug.as_str()).text(role.resource_type.as_str());
                row.number(role.priority).permissions(&role.permissions);
            }
            CatalogRecord::Settings(settings) => {
                row.kind(4).number(match settings.role_mode {
                    RoleMode::Single => 0,
                    RoleMode::Multiple => 1,
                });
                row.optional(settings.default_role.as_ref().map(AsRef::as_ref));
            }
        }
        row.fingerprint()
    }

    /// The fingerprint of one row of `organization`, whose root resource has the id `root` where it is known.
    pub fn of_organization_row(organization: &OrganizationId, root: Option<&str>, record: &OrganizationRecord) -> Self {
        let below_root = |resource: &Option<ResourceId>| resource.clone().filter(|id| Some(id.as_str()) != root);
        let mut row = Row::new(Some(organization));
        match record {
            OrganizationRecord::Member(member) => {
                row.kind(16).text(member.id.as_str()).text(member.user.as_str()).number(match member.status {
                    MembershipStatus::Active => 0,
                    MembershipStatus::Inactive => 1,
                    MembershipStatus::Pending => 2,
                });
                // Most memberships have none, and the fingerprint they had before there was such a field.
                if !member.identity_provider_roles.is_empty() {
                    let mut roles: Vec<&str> = member.identity_provider_roles.iter().map(AsRef::as_ref).collect();
                    roles.sort_unstable();
                    roles.dedup();
                    row.texts(&roles);
                }
            }
            OrganizationRecord::Group(group) => {
                row.kind(17).text(group.id.as_str());
            }
            OrganizationRecord::GroupMember(edge) => {
                row.kind(18).text(edge.group.as_str()).text(edge.membership.as_str());
            }
            OrganizationRecord::Resource(resource) => {
                row.kind(19).text(resource.id.as_str()).text(resource.resource_type.as_str());
                row.text(resource.external_id.as_str());
                row.optional(below_root(&resource.parent).as_ref().map(AsRef::as_ref));
            }
            OrganizationRecord::Role(role) => {
                row.kind(20).text(role.id.as_str()).text(role.slug.as_str()).text(role.resource_type.as_str());
                row.permissions(&role.permissions);
            }
            OrganizationRecord::Assignment(assignment) => {
                row.kind(21).text(assignment.membership.as_str()).text(assignment.role.as_str());
                row.optional(below_root(&assignment.resource).as_ref().map(AsRef::as_ref));
            }
            OrganizationRecord::GroupAssignment(assignment) => {
                row.kind(22).text(assignment.group.as_str()).text(assignment.role.as_str());
                row.optional(below_root(&assignment.resource).as_ref().map(AsRef::as_ref));
            }
            OrganizationRecord::Settings(settings) => {
                row.kind(23).optional(settings.default_role.as_ref().map(AsRef::as_ref));
                let priorities: Vec<&str> = settings.priorities.iter().map(AsRef::as_ref).collect();
                row.texts(&priorities);
            }
        }
        row.fingerprint()
    }

    /// The digest of a whole catalog, no row of which occurs twice.
    pub fn of_catalog(rows: &CatalogRows) -> Self {
        (rows.clone().into_records()).fold(Self::default(), |sum, record| sum.plus(Self::of_catalog_row(&record)))
    }

    /// The digest of a whole organization, no row of which occurs twice.
    pub fn of_organization(organization: &OrganizationId, rows: &OrganizationRows) -> Self {
        let root = rows.root().map(|resource| resource.id.as_str());
        (rows.clone().into_records())
            .fold(Self::default(), |sum, record| sum.plus(Self::of_organization_row(organization, root, &record)))
    }

    /// The hash of a list of names that `name` was appended to, when it was `previous` before.
    pub(super) fn link(previous: u64, kind: u8, name: &str) -> u64 {
        let mut row = Row::new(None);
        row.kind(kind).text(name).0.extend_from_slice(&previous.to_le_bytes());
        u64::from_le_bytes(row.fingerprint().0.to_le_bytes().first_chunk().copied().unwrap_or_default())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Why a text is not a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 32 lower-case hexadecimal digits")]
pub struct DigestError;

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        if text.len() != 32 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(DigestError);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| DigestError)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The encoding of one row, as it grows.
struct Row(SmallVec<[u8; 256]>);

impl Row {
    fn new(organization: Option<&OrganizationId>) -> Self {
        let mut row = Self(SmallVec::new());
        row.text("portcullis row 1").text(organization.map_or("", AsRef::as_ref));
        row
    }

    fn kind(&mut self, kind: u8) -> &mut Self {
        self.0.push(kind);
        self
    }

    fn number(&mut self, number: u32) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.count(text.len());
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn optional(&mut self, text: Option<&str>) -> &mut Self {
        self.texts(text.as_slice())
    }

    fn texts(&mut self, texts: &[&str]) -> &mut Self {
        self.count(texts.len());
        texts.iter().fold(self, |row, text| row.text(text))
    }

    fn permissions(&mut self, permissions: &[PermissionSlug]) -> &mut Self {
        let mut slugs: Vec<&str> = permissions.iter().map(AsRef::as_ref).collect();
        slugs.sort_unstable();
        slugs.dedup();
        self.texts(&slugs)
    }

    /// Lengths are bounded by the identifiers' own bounds, far below 2^32.
    fn count(&mut self, count: usize) -> &mut Self {
        self.number(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn fingerprint(&self) -> Digest {
        let hash = digest(&SHA256, &self.0);
        let half = hash.as_ref().first_chunk::<16>().copied().unwrap_or_default();
        Digest(u128::from_be_bytes(half))
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Assignment, Member, Resource};
    use super::*;

    fn organization() -> OrganizationId {
        "org_1".parse().unwrap()
    }

    fn member(status: MembershipStatus) -> OrganizationRecord {
        OrganizationRecord::Member(Member {
            id: "om_1".parse().unwrap(),
            user: "user_1".parse().unwrap(),
            status,
            identity_provider_roles: Vec::new(),
        })
    }

    #[test]
    fn roles_of_the_identity_provider_count_as_a_set() {
        let with = |roles: &[&str]| {
            let OrganizationRecord::Member(member) = member(MembershipStatus::Active) else { unreachable!() };
            let identity_provider_roles = roles.iter().map(|role| role.parse().unwrap()).collect();
            let record = OrganizationRecord::Member(Member { identity_provider_roles, ..member });
            Digest::of_organization_row(&organization(), None, &record)
        };
        assert_eq!(with(&["role_a", "role_b"]), with(&["role_b", "role_a", "role_b"]));
        assert_ne!(with(&["role_a"]), with(&[]));
        assert_ne!(with(&["role_a"]), with(&["role_b"]));
    }

    #[test]
    fn a_fingerprint_never_changes_between_versions() {
        let fingerprint = Digest::of_organization_row(&organization(), None, &member(MembershipStatus::Active));
        assert_eq!(fingerprint.to_string(), "ae16df39af91a6c794d1ce05315b80eb");
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
    }

    #[test]
    fn a_digest_is_written_as_text_and_read_back() {
        let digest = Digest::of_organization_row(&organization(), None, &member(MembershipStatus::Active));
        let written = serde_json::to_string(&digest).unwrap();
        assert_eq!(written, "\"ae16df39af91a6c794d1ce05315b80eb\"");
        assert_eq!(serde_json::from_str::<Digest>(&written).unwrap(), digest);
        assert!(serde_json::from_str::<Digest>("\"ae16\"").is_err());
    }

    #[test]
    fn any_field_and_the_organization_change_the_fingerprint() {
        let active = Digest::of_organization_row(&organization(), None, &member(MembershipStatus::Active));
        let pending = Digest::of_organization_row(&organization(), None, &member(MembershipStatus::Pending));
        let elsewhere = Digest::of_organization_row(&"org_2".parse().unwrap(), None, &member(MembershipStatus::Active));
        assert_ne!(active, pending);
        assert_ne!(active, elsewhere);
    }

    #[test]
    fn the_root_is_the_same_named_or_not() {
        let root = Resource {
            id: "authz_resource_0".parse().unwrap(),
            resource_type: "organization".parse().unwrap(),
            external_id: "org_1".parse().unwrap(),
            parent: None,
        };
        let assignment = |resource| Assignment {
            id: None,
            membership: "om_1".parse().unwrap(),
            role: "role_1".parse().unwrap(),
            resource,
        };
        let rows = |resource| OrganizationRows {
            resources: vec![root.clone()],
            assignments: vec![assignment(resource)],
            ..OrganizationRows::default()
        };
        let unnamed = Digest::of_organization(&organization(), &rows(None));
        assert_eq!(Digest::of_organization(&organization(), &rows(Some(root.id.clone()))), unnamed);
        assert_ne!(Digest::of_organization(&organization(), &rows(Some("authz_resource_1".parse().unwrap()))), unnamed);
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        for text in ["", "0", "0000000000000000000000000000000G", "0000000000000000000000000000000A"] {
            assert_eq!(text.parse::<Digest>(), Err(DigestError), "{text}");
        }
    }
}
