//! The values of one request put into a route's templates.

use std::borrow::Cow;

use http::HeaderMap;
use serde_json::{Map, Value as Json};

use super::body::BodyValues;
use super::header::single_header;
use super::path::CanonicalPath;
use super::query;
use super::route::{AskTemplate, ResourceTemplate};
use super::template::{Part, Source, Template, Value};
use crate::domain::{Ask, Denial, DenyReason, ResourceRef};

/// Where the values of one request come from, beside its path.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'r> {
    /// The query string as it came, without the `?`.
    pub query: Option<&'r str>,
    /// The headers as they came.
    pub headers: &'r HeaderMap,
    /// The claims of the verified token; `None` without one.
    pub claims: Option<&'r Map<String, Json>>,
    /// What was read from the body; `None` while it was not.
    pub body: Option<&'r BodyValues>,
}

/// A request seen through a route's eyes.
#[derive(Clone, Copy)]
pub(super) struct Filling<'r> {
    pub(super) path: &'r CanonicalPath<'r>,
    pub(super) sources: Sources<'r>,
}

impl<'r> Filling<'r> {
    pub(super) fn ask(self, ask: &'r AskTemplate) -> Result<Ask<'r>, Denial> {
        let resource = match &ask.resource {
            None => None,
            Some(ResourceTemplate::Id(id)) => Some(ResourceRef::Id(self.text(id)?)),
            Some(ResourceTemplate::External { resource_type, id }) => {
                Some(ResourceRef::External { resource_type, external_id: self.text(id)? })
            }
        };
        Ok(Ask { permission: &ask.permission, resource, grants: ask.grants })
    }

    /// The text of a template. Borrowed when it is one value without escapes, which is the common case.
    pub(super) fn text(self, template: &'r Template) -> Result<Cow<'r, str>, Denial> {
        match &*template.parts {
            [Part::Value(value)] => self.value(value),
            [Part::Literal(text)] => Ok(Cow::Borrowed(text)),
            parts => {
                let mut text = String::new();
                for part in parts {
                    match part {
                        Part::Literal(literal) => text.push_str(literal),
                        Part::Value(value) => text.push_str(&self.value(value)?),
                    }
                }
                Ok(Cow::Owned(text))
            }
        }
    }

    fn value(self, value: &Value) -> Result<Cow<'r, str>, Denial> {
        let text = match &value.source {
            Source::Path(capture) if capture.rest => self.rest(capture.segment),
            Source::Path(capture) => Ok(self.path.decoded(capture.segment)),
            Source::Query(name) => {
                query::single(self.sources.query.unwrap_or_default(), name).map_err(|error| error.to_string())
            }
            Source::Header(name) => self.header(name),
            Source::Body(index) => match self.sources.body {
                None => Err("the body was not read".to_owned()),
                Some(body) => body.get(*index).map(Cow::Borrowed).map_err(str::to_owned),
            },
            Source::Claim(name) => self.claim(name),
        };
        let text = text.and_then(|text| if text.is_empty() { Err("empty".to_owned()) } else { Ok(text) });
        text.map_err(|problem| Denial {
            reason: DenyReason::BadValue,
            detail: Some(format!("{}: {problem}", value.name).into()),
        })
    }

    /// An encoded slash would look like a real one, so that two paths would have one value.
    fn rest(self, segment: usize) -> Result<Cow<'r, str>, String> {
        let encoded = |index: usize| self.path.segment(index).contains("%2F");
        if self.path.encoded_slash() && (segment..self.path.len()).any(encoded) {
            return Err("has an encoded slash".to_owned());
        }
        Ok(self.path.rest(segment))
    }

    fn header(self, name: &str) -> Result<Cow<'r, str>, String> {
        let value =
            single_header(self.sources.headers, name).map_err(|repeated| repeated.to_string())?.ok_or("missing")?;
        value.to_str().map(Cow::Borrowed).map_err(|_| "not visible ASCII".to_owned())
    }

    fn claim(self, name: &str) -> Result<Cow<'r, str>, String> {
        match self.sources.claims.and_then(|claims| claims.get(name)) {
            None => Err("missing".to_owned()),
            Some(Json::String(text)) => Ok(Cow::Borrowed(text)),
            Some(Json::Number(number)) if number.is_i64() || number.is_u64() => Ok(Cow::Owned(number.to_string())),
            Some(_) => Err("neither a string nor an integer".to_owned()),
        }
    }
}
