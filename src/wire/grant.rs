//! Role assignments as people write them: `om_ada project-viewer project:42`, or the same as a mapping.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, DeserializeOwned, Deserializer};

use crate::domain::{AssignmentId, ExternalId, GroupId, IdError, MembershipId, ResourceTypeSlug, RoleSlug};

/// A role of a membership or of a group, organization-wide or on one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant<S> {
    /// Who gets it.
    pub subject: S,
    /// Which role, by slug.
    pub role: RoleSlug,
    /// On what.
    pub resource: ResourceName,
    /// Its id, where one was given.
    pub id: Option<AssignmentId>,
}

/// A resource of the organization at hand.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum ResourceName {
    /// `organization`: the root of all others.
    #[default]
    Organization,
    /// `project:42`: by type and external id.
    Named {
        /// The type; up to the first colon, for types have none.
        resource_type: ResourceTypeSlug,
        /// The upstream application's id; all that follows.
        external_id: ExternalId,
    },
}

/// Why a text is not a grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// One word, or none.
    #[error("expected `{subject} ROLE TYPE:ID` or `{subject} ROLE`, found `{text}`")]
    Shape {
        /// What stands first.
        subject: &'static str,
        /// What was found.
        text: String,
    },
    /// No colon.
    #[error("expected a resource such as `project:42`, or `organization`, found `{text}`")]
    Resource {
        /// What was found.
        text: String,
    },
    /// One of the words is not what it should be.
    #[error(transparent)]
    Id(#[from] IdError),
}

/// Who may be given a role.
pub trait Subject: FromStr<Err = IdError> {
    /// The word for the subject in messages.
    const WORD: &'static str;
    /// The grant written as a mapping.
    type Written: DeserializeOwned + Into<Grant<Self>> + schemars::JsonSchema;
}

/// A role assignment as a mapping.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WrittenAssignment {
    /// The membership that gets the role.
    membership: MembershipId,
    /// The slug of the role.
    role: RoleSlug,
    /// The resource, such as `project:42`; organization-wide when absent.
    #[serde(default)]
    resource: ResourceName,
    /// The id of the assignment; derived when absent.
    id: Option<AssignmentId>,
}

/// A group role assignment as a mapping.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WrittenGroupAssignment {
    /// The group whose members get the role.
    group: GroupId,
    /// The slug of the role.
    role: RoleSlug,
    /// The resource, such as `project:42`; organization-wide when absent.
    #[serde(default)]
    resource: ResourceName,
    /// The id of the assignment; derived when absent.
    id: Option<AssignmentId>,
}

impl Subject for MembershipId {
    const WORD: &'static str = "MEMBERSHIP";
    type Written = WrittenAssignment;
}

impl Subject for GroupId {
    const WORD: &'static str = "GROUP";
    type Written = WrittenGroupAssignment;
}

impl From<WrittenAssignment> for Grant<MembershipId> {
    fn from(written: WrittenAssignment) -> Self {
        Self { subject: written.membership, role: written.role, resource: written.resource, id: written.id }
    }
}

impl From<WrittenGroupAssignment> for Grant<GroupId> {
    fn from(written: WrittenGroupAssignment) -> Self {
        Self { subject: written.group, role: written.role, resource: written.resource, id: written.id }
    }
}

impl<S: Subject> FromStr for Grant<S> {
    type Err = GrantError;

    /// Three words; the third may hold spaces, because external ids may.
    fn from_str(text: &str) -> Result<Self, GrantError> {
        let mut words = text.splitn(3, ' ');
        let (Some(subject), Some(role), resource) = (words.next(), words.next(), words.next()) else {
            return Err(GrantError::Shape { subject: S::WORD, text: text.escape_debug().to_string() });
        };
        Ok(Self {
            subject: subject.parse()?,
            role: role.parse()?,
            resource: resource.map_or(Ok(ResourceName::Organization), str::parse)?,
            id: None,
        })
    }
}

impl FromStr for ResourceName {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        if text == ResourceTypeSlug::ORGANIZATION {
            return Ok(Self::Organization);
        }
        let (resource_type, external_id) =
            text.split_once(':').ok_or_else(|| GrantError::Resource { text: text.escape_debug().to_string() })?;
        Ok(Self::Named { resource_type: resource_type.parse()?, external_id: external_id.parse()? })
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Organization => f.write_str(ResourceTypeSlug::ORGANIZATION),
            Self::Named { resource_type, external_id } => write!(f, "{resource_type}:{external_id}"),
        }
    }
}

impl<'de> Deserialize<'de> for ResourceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl schemars::JsonSchema for ResourceName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Resource".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^organization$|^[a-z0-9_-]+:."})
    }
}

impl<'de, S: Subject> Deserialize<'de> for Grant<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<S>(PhantomData<S>);

        impl<'de, S: Subject> de::Visitor<'de> for Visitor<S> {
            type Value = Grant<S>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "`{} ROLE TYPE:ID` or a mapping", S::WORD)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Grant<S>, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Grant<S>, A::Error> {
                S::Written::deserialize(MapAccessDeserializer::new(map)).map(Into::into)
            }
        }

        deserializer.deserialize_any(Visitor(PhantomData))
    }
}

impl<S: Subject> schemars::JsonSchema for Grant<S> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("{}Grant", S::Written::schema_name()).into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let written = generator.subschema_for::<S::Written>();
        schemars::json_schema!({"anyOf": [{"type": "string", "examples": [format!("{} ROLE TYPE:ID", S::WORD)]}, written]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(text: &str) -> Result<String, String> {
        let grant: Grant<MembershipId> = text.parse().map_err(|error: GrantError| error.to_string())?;
        Ok(format!("{}|{}|{}", grant.subject, grant.role, grant.resource))
    }

    #[test]
    fn grants_are_read_as_written() {
        for (text, expected) in [
            ("om_1 project-viewer project:42", Ok("om_1|project-viewer|project:42")),
            ("om_1 admin", Ok("om_1|admin|organization")),
            ("om_1 admin organization", Ok("om_1|admin|organization")),
            ("om_1 editor file:a b:c", Ok("om_1|editor|file:a b:c")),
            ("om_1", Err("expected `MEMBERSHIP ROLE TYPE:ID` or `MEMBERSHIP ROLE`, found `om_1`")),
            ("", Err("expected `MEMBERSHIP ROLE TYPE:ID` or `MEMBERSHIP ROLE`, found ``")),
            ("om_1  project-viewer project:42", Err("role is empty")),
            ("om_1 editor 42", Err("expected a resource such as `project:42`, or `organization`, found `42`")),
            ("om_1 editor project:", Err("external id is empty")),
            ("om_1 Editor project:1", Err("role `Editor` contains 'E', which is not allowed there")),
        ] {
            assert_eq!(grant(text), expected.map(str::to_owned).map_err(str::to_owned), "{text:?}");
        }
    }
}
