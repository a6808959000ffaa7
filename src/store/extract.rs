//! Requests in: body, query and path, each either what the handler asks for or an error that names the field.

use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::BODY_LIMIT;
use super::error::{FieldError, StoreError};

/// Bytes of a body that are read at most, to be polite.
const DRAINED: usize = 16 * BODY_LIMIT;

/// A JSON body.
pub struct Body<T>(pub T);

/// The query string. A list is one value with commas.
pub struct Query<T>(pub T);

/// The captured segments of the path, decoded one by one.
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = StoreError;

    async fn from_request(request: Request, _: &S) -> Result<Self, StoreError> {
        let bytes = read(request.into_body()).await?;
        let body: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        // Syntax first, so that what is not JSON at all is told from what has the wrong shape.
        let value: serde_json::Value = serde_json::from_slice(body)
            .map_err(|error| StoreError::bad_request(format!("the body is not JSON: {error}")))?;
        // Serde would take an array for the fields in their order.
        if !value.is_object() {
            return Err(unprocessable("", "invalid type: expected an object"));
        }
        serde_path_to_error::deserialize(value).map(Self).map_err(|error| {
            let field = error.path().to_string();
            unprocessable(field.trim_matches('.'), &error.into_inner().to_string())
        })
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = StoreError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StoreError> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes());
        // Where SQLite ends a text, and what PostgreSQL has in none.
        if let Some((name, _)) = pairs.into_iter().find(|(name, value)| name.contains('\0') || value.contains('\0')) {
            return Err(unprocessable(&name, "control_character"));
        }
        let deserializer = serde_urlencoded::Deserializer::new(pairs);
        serde_path_to_error::deserialize(deserializer).map(Self).map_err(|error| {
            let field = error.path().to_string();
            unprocessable(field.trim_matches('.'), &error.into_inner().to_string())
        })
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = StoreError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, StoreError> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(captured)) => Ok(Self(captured)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => Err(match error.into_kind() {
                // An id that nothing can have: whatever it names, it is not there.
                ErrorKind::DeserializeError { value, .. } | ErrorKind::ParseErrorAtKey { value, .. } => {
                    StoreError::not_found("object", value)
                }
                other => StoreError::NotFound { what: "object", id: other.to_string() },
            }),
            Err(other) => Err(StoreError::Internal(Box::new(other))),
        }
    }
}

/// The whole of a body. One that is too large is read on for a while and dropped: whoever still sends would not see the answer.
pub(super) async fn read(mut body: axum::body::Body) -> Result<Bytes, StoreError> {
    let (mut bytes, mut length) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| StoreError::bad_request("the body ends before its end"))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length > DRAINED {
            break;
        }
        if length <= BODY_LIMIT {
            bytes.extend_from_slice(&data);
        }
    }
    if length > BODY_LIMIT { Err(StoreError::TooLarge(BODY_LIMIT)) } else { Ok(bytes.freeze()) }
}

/// What serde found wrong. A message of ours is written `code: explanation`.
fn unprocessable(field: &str, message: &str) -> StoreError {
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    let (field, code) = match missing {
        Some(name) if field.is_empty() => (name.to_owned(), "required"),
        Some(name) => (format!("{field}.{name}"), "required"),
        None => (field.to_owned(), code(message)),
    };
    let place = if field.is_empty() { String::new() } else { format!("`{field}`: ") };
    StoreError::Unprocessable {
        code: "invalid_request_parameters",
        message: format!("{place}{message}").into(),
        errors: vec![FieldError::new(field, code)],
    }
}

fn code(message: &str) -> &'static str {
    const CODES: [(&str, &str); 9] = [
        ("empty", "empty"),
        ("too_long", "too_long"),
        ("out_of_range", "out_of_range"),
        ("control_character", "control_character"),
        ("invalid type", "invalid_type"),
        ("unknown variant", "unknown_value"),
        ("missing field", "required"),
        ("duplicate field", "duplicate"),
        ("invalid length", "invalid_length"),
    ];
    CODES.iter().find(|(start, _)| message.starts_with(start)).map_or("invalid", |(_, code)| code)
}
