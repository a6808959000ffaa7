//! The shape of `routes` and `defaults` in YAML: serde and JSON Schema only. Unknown keys are refused; what it means is `compile.rs`.

mod reading;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserialize, Deserializer, IntoDeserializer, MapAccess, SeqAccess};
use serde::{Deserialize as Derived, Serialize};

use crate::domain::{Grants, PermissionSlug, ResourceTypeSlug};
use crate::yaml::{Placed, Size, Span};

pub use self::reading::{PathCase, PathReading, TrailingSlash};

/// One rule: which requests it covers, and what they need to pass.
#[derive(Debug, Derived, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Route")]
pub struct RouteSpec {
    /// The name of the rule in answers, logs and metrics: letters, digits, `-`, `_`, `.`, `:` and `/`, at most 128.
    pub id: Placed<String>,
    /// Which requests this rule covers.
    #[serde(rename = "match")]
    pub matching: Placed<MatchSpec>,
    /// The permissions a caller needs. Exactly one of `require`, `authenticated` and `public` has to be there.
    pub require: Option<Placed<RequireSpec>>,
    /// `true`: any valid token will do.
    pub authenticated: Option<Placed<bool>>,
    /// `true`: no token is needed.
    pub public: Option<Placed<bool>>,
    /// The resource that the permissions are asked for on, unless a part of `require` names its own.
    pub resource: Option<Placed<ResourceSpec>>,
    /// A value that must equal the token's organization, such as `{path.org}`.
    pub organization: Option<Placed<String>>,
    /// Claims that the token must have, each with one of the given values.
    pub require_claims: Option<Placed<BTreeMap<String, OneOrMore<ClaimValue>>>>,
    /// What happens to cross-origin preflight requests; `deny` when absent.
    pub cors_preflight: Option<CorsPreflight>,
    /// Names of the issuers whose tokens are accepted; all when absent.
    pub tokens: Option<Placed<Vec<Placed<String>>>>,
    /// Header conditions of this rule may select a weaker requirement than the rule without them.
    pub weaker: Option<Placed<Weaker>>,
    /// Overrides `defaults.upstream`.
    pub upstream: Option<Placed<String>>,
    /// Overrides `defaults.mode`.
    pub mode: Option<Mode>,
    /// Overrides `defaults.grants`.
    pub grants: Option<Placed<Grants>>,
    /// Overrides `defaults.conceal`.
    pub conceal: Option<bool>,
    /// Overrides `defaults.on_stale`.
    pub on_stale: Option<OnStale>,
    /// Overrides `defaults.serve_until`.
    pub serve_until: Option<Placed<Span>>,
    /// Overrides `defaults.max_staleness`.
    pub max_staleness: Option<Placed<Span>>,
    /// Overrides `defaults.revocations`.
    pub revocations: Option<Revocations>,
    /// Overrides `defaults.encoded_slash`.
    pub encoded_slash: Option<EncodedSlash>,
    /// Overrides `defaults.body_limit`.
    pub body_limit: Option<Placed<Size>>,
    /// Overrides `defaults.max_body`.
    pub max_body: Option<Size>,
    /// Overrides `defaults.impersonation`.
    pub impersonation: Option<Placed<ImpersonationSpec>>,
    /// Overrides `defaults.max_stream_age`.
    pub max_stream_age: Option<Placed<Span>>,
    /// `facts` (default), or `live`: what the facts allow is asked again at the server they come from, which has the last word.
    pub verify: Option<Placed<Verify>>,
}

/// What holds for every rule that does not say otherwise.
#[derive(Debug, Default, Derived, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Defaults")]
pub struct DefaultsSpec {
    /// The upstream that requests go to. May be absent when there is only one.
    pub upstream: Option<Placed<String>>,
    /// `enforce` (default), or `shadow`: decide, count and log, then forward all the same.
    pub mode: Option<Mode>,
    /// Where the organization-wide answer comes from; `token` when absent.
    pub grants: Option<Placed<Grants>>,
    /// Whether a denial is answered 404 instead of 403; `false` when absent.
    pub conceal: Option<bool>,
    /// What happens when the facts are older than `max_staleness`; `deny` when absent.
    pub on_stale: Option<OnStale>,
    /// With `on_stale: serve`: the age at which facts are not served any more either. `1h` when absent, at most `24h`.
    pub serve_until: Option<Placed<Span>>,
    /// The age at which facts are stale for these rules; at most the global `facts.max_staleness`.
    pub max_staleness: Option<Placed<Span>>,
    /// What the list of revocations is worth; `best_effort` when absent.
    pub revocations: Option<Revocations>,
    /// Whether `%2F` may stand in a path; `reject` when absent.
    pub encoded_slash: Option<EncodedSlash>,
    /// The largest body that is read for `{body:…}` values: at most `64KiB`, which is also the default.
    pub body_limit: Option<Placed<Size>>,
    /// The largest body that is let through, read or not; `0B` = any. `limits.max_body` when absent.
    pub max_body: Option<Size>,
    /// Whether tokens with an `act` claim are accepted. Denied for unsafe methods when absent.
    pub impersonation: Option<Placed<ImpersonationSpec>>,
    /// The age at which a request that still goes on (WebSocket, events, up- and downloads) is cut: at least `1s`; never when absent.
    pub max_stream_age: Option<Placed<Span>>,
}

/// Which requests a rule covers. The most specific rule wins; two that tie are an error.
#[derive(Debug, Derived, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Match")]
pub struct MatchSpec {
    /// Segments: literal text, `{name}` for one segment, `{name...}` for one or more at the end.
    pub path: Option<Placed<String>>,
    /// Methods in upper case; `GET` covers `HEAD`. All when absent.
    pub methods: Option<Placed<Vec<Placed<String>>>>,
    /// Hosts, exact or `*.suffix`, without port. All when absent.
    pub hosts: Option<Placed<Vec<Placed<String>>>>,
    /// Headers that must have exactly this value.
    pub headers: Option<Placed<BTreeMap<String, Placed<String>>>>,
    /// A gRPC method `package.Service/Method`, or `package.Service/*`; instead of `path` and `methods`.
    pub grpc: Option<Placed<String>>,
}

/// What a caller needs: one permission, or any or all of several.
#[derive(Debug)]
pub enum RequireSpec {
    /// One.
    One(AskSpec),
    /// At least one of these.
    Any(Vec<Placed<AskSpec>>),
    /// Every one of these.
    All(Vec<Placed<AskSpec>>),
}

/// One permission, on a resource of its own or on the rule's.
#[derive(Debug)]
pub struct AskSpec {
    /// The permission.
    pub permission: PermissionSlug,
    /// The resource; the rule's `resource` when absent.
    pub resource: Option<Placed<ResourceSpec>>,
}

/// One resource, by values of the request.
#[derive(Debug, Derived)]
#[serde(try_from = "RawResource")]
pub enum ResourceSpec {
    /// By its `authz_resource_` id.
    Id(Placed<String>),
    /// By type and external id.
    External {
        /// The resource type.
        resource_type: ResourceTypeSlug,
        /// The external id.
        id: Placed<String>,
    },
}

/// A value or a list of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMore<T>(pub Vec<T>);

/// A scalar that a claim may have to be.
#[derive(Debug, Clone, PartialEq, Eq, Derived, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ClaimValue {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(String),
}

/// Whether a denial is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Derived, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It is answered.
    #[default]
    Enforce,
    /// It is counted and logged; the request is forwarded.
    Shadow,
}

/// What happens when the facts are stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Derived, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnStale {
    /// 503.
    #[default]
    Deny,
    /// They are served until `serve_until`.
    Serve,
}

/// Who has the last word on what the facts allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Derived, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// The facts.
    #[default]
    Facts,
    /// The server that they come from, at the time of the request.
    Live,
}

/// What the list of revocations is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Derived, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Revocations {
    /// It is not looked at.
    Ignore,
    /// What is known to be revoked is refused.
    #[default]
    BestEffort,
    /// As `best_effort`, and a list older than `max_staleness` is a 503.
    Require,
}

/// Whether `%2F` may stand in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Derived, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EncodedSlash {
    /// 400.
    #[default]
    Reject,
    /// It is part of its segment, forwarded undecoded.
    Allow,
}

/// Whether tokens with an `act` claim are accepted, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Derived, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImpersonationSpec {
    /// Never.
    Deny,
    /// Always.
    Allow,
}

/// What happens to cross-origin preflight requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Derived, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CorsPreflight {
    /// They are judged like any other `OPTIONS` request.
    #[default]
    Deny,
    /// They are forwarded without token, cookies, body and identity headers.
    Forward,
}

/// That a header condition may select a weaker requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Derived, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Weaker {
    /// The author knows.
    Acknowledged,
}

#[derive(Derived)]
#[serde(deny_unknown_fields)]
struct RawRequire {
    permission: Option<PermissionSlug>,
    resource: Option<Placed<ResourceSpec>>,
    any: Option<Vec<Placed<AskSpec>>>,
    all: Option<Vec<Placed<AskSpec>>>,
}

impl<'de> Deserialize<'de> for RequireSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = RequireSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a permission, or a mapping with `any` or `all`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RequireSpec, E> {
                ask(text).map(RequireSpec::One)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RequireSpec, A::Error> {
                match RawRequire::deserialize(MapAccessDeserializer::new(map))? {
                    RawRequire { permission: Some(permission), resource, any: None, all: None } => {
                        Ok(RequireSpec::One(AskSpec { permission, resource }))
                    }
                    RawRequire { permission: None, resource: None, any: Some(asks), all: None } => {
                        Ok(RequireSpec::Any(asks))
                    }
                    RawRequire { permission: None, resource: None, any: None, all: Some(asks) } => {
                        Ok(RequireSpec::All(asks))
                    }
                    _ => Err(de::Error::custom("expected exactly one of `permission`, `any` and `all`")),
                }
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for AskSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Derived)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            permission: PermissionSlug,
            resource: Option<Placed<ResourceSpec>>,
        }

        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = AskSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a permission, or a mapping with `permission` and `resource`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<AskSpec, E> {
                ask(text)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AskSpec, A::Error> {
                let raw = Raw::deserialize(MapAccessDeserializer::new(map))?;
                Ok(AskSpec { permission: raw.permission, resource: raw.resource })
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

fn ask<E: de::Error>(text: &str) -> Result<AskSpec, E> {
    Ok(AskSpec { permission: PermissionSlug::new(text).map_err(E::custom)?, resource: None })
}

#[derive(Derived)]
#[serde(deny_unknown_fields)]
struct RawResource {
    r#type: Option<ResourceTypeSlug>,
    id: Option<Placed<String>>,
    resource_id: Option<Placed<String>>,
}

impl TryFrom<RawResource> for ResourceSpec {
    type Error = &'static str;

    fn try_from(raw: RawResource) -> Result<Self, Self::Error> {
        match raw {
            RawResource { r#type: Some(resource_type), id: Some(id), resource_id: None } => {
                Ok(Self::External { resource_type, id })
            }
            RawResource { r#type: None, id: None, resource_id: Some(id) } => Ok(Self::Id(id)),
            _ => Err("expected either `type` and `id`, or `resource_id` alone"),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = OneOrMore<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or a list of values")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<OneOrMore<T>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(items)).map(OneOrMore)
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<OneOrMore<T>, E> {
                T::deserialize(value.into_deserializer()).map(|value| OneOrMore(vec![value]))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<OneOrMore<T>, E> {
                T::deserialize(value.into_deserializer()).map(|value| OneOrMore(vec![value]))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<OneOrMore<T>, E> {
                T::deserialize(value.into_deserializer()).map(|value| OneOrMore(vec![value]))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<OneOrMore<T>, E> {
                T::deserialize(value.into_deserializer()).map(|value| OneOrMore(vec![value]))
            }
        }

        deserializer.deserialize_any(Visitor(std::marker::PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMore<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMore_{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]})
    }
}

impl JsonSchema for RequireSpec {
    fn schema_name() -> Cow<'static, str> {
        "Require".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<AskSpec>();
        let several = json_schema!({"type": "array", "items": one, "minItems": 1});
        json_schema!({
            "description": "A permission, or `any` or `all` of several.",
            "anyOf": [
                one,
                {"type": "object", "properties": {"any": several}, "required": ["any"], "additionalProperties": false},
                {"type": "object", "properties": {"all": several}, "required": ["all"], "additionalProperties": false}
            ]
        })
    }
}

impl JsonSchema for AskSpec {
    fn schema_name() -> Cow<'static, str> {
        "Ask".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let permission = generator.subschema_for::<PermissionSlug>();
        let resource = generator.subschema_for::<ResourceSpec>();
        json_schema!({
            "description": "A permission, on the rule's resource or on one of its own.",
            "anyOf": [
                permission,
                {
                    "type": "object",
                    "properties": {"permission": permission, "resource": resource},
                    "required": ["permission"],
                    "additionalProperties": false
                }
            ]
        })
    }
}

impl JsonSchema for ResourceSpec {
    fn schema_name() -> Cow<'static, str> {
        "Resource".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let resource_type = generator.subschema_for::<ResourceTypeSlug>();
        json_schema!({
            "description": "A resource by type and external id, or by its `authz_resource_` id. The ids are templates: \
                            `{path.name}`, `{query.name}`, `{header.name}`, `{body:/json/pointer}`, `{claim.name}`.",
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"type": resource_type, "id": {"type": "string"}},
                    "required": ["type", "id"],
                    "additionalProperties": false
                },
                {
                    "type": "object",
                    "properties": {"resource_id": {"type": "string"}},
                    "required": ["resource_id"],
                    "additionalProperties": false
                }
            ]
        })
    }
}
