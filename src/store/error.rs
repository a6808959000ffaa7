//! The one table of what goes wrong in the store: error in, status and body out (WorkOS contract, section 0).

use std::borrow::Cow;
use std::error::Error;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::domain::{BuildError, IdError};

/// Why a request was not carried out. Nothing was written, unless the database failed or time ran out during the very commit.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No API key, or one that is not known.
    #[error("the API key is missing or not known")]
    Unauthorized,
    /// What the key, or anybody, may not do.
    #[error("{0}")]
    Forbidden(Cow<'static, str>),
    /// There is no such thing, or it belongs to another organization.
    #[error("{what} `{id}` not found")]
    NotFound {
        /// `permission`
        what: &'static str,
        /// What it was looked for by.
        id: String,
    },
    /// The request makes no sense as a whole.
    #[error("{message}")]
    BadRequest {
        /// For programs.
        code: &'static str,
        /// For people.
        message: Cow<'static, str>,
    },
    /// The request makes no sense, field by field.
    #[error("{message}")]
    Rejected {
        /// For programs.
        code: &'static str,
        /// For people.
        message: Cow<'static, str>,
        /// Which fields, and why.
        errors: Vec<FieldError>,
    },
    /// A role for resources below the organization was to be an organization role (WorkOS contract R15).
    #[error("role `{0}` is not for organizations: assign it on a resource")]
    NotOrganizationRole(String),
    /// It contradicts what is there.
    #[error("{message}")]
    Conflict {
        /// For programs.
        code: &'static str,
        /// For people.
        message: Cow<'static, str>,
    },
    /// The request is understood and its content cannot be accepted.
    #[error("{message}")]
    Unprocessable {
        /// For programs.
        code: &'static str,
        /// For people.
        message: Cow<'static, str>,
        /// Which fields, and why.
        errors: Vec<FieldError>,
    },
    /// The body is larger than is ever read.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// There is no such path.
    #[error("there is no such endpoint")]
    NoEndpoint,
    /// The path does not have this method.
    #[error("this endpoint does not have that method")]
    NoMethod,
    /// The database cannot be used now: full, read-only, locked or gone.
    #[error("the database cannot be used now")]
    Database(#[from] sqlx::Error),
    /// More is going on than can be taken on.
    #[error("the store is overloaded or shutting down")]
    Busy,
    /// It took too long.
    #[error("the request took too long; a write may have been kept at the last moment")]
    TimedOut,
    /// The rows contradict each other, which is a fault of ours.
    #[error("the facts cannot be built")]
    Facts(#[from] BuildError),
    /// What is in the database cannot be read, or an answer not be written.
    #[error("internal error")]
    Internal(#[source] Box<dyn Error + Send + Sync>),
}

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FieldError {
    /// `permissions.3`; empty when it is about the whole.
    pub field: String,
    /// `too_long`
    pub code: Cow<'static, str>,
    /// For people, where the hosted service has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Cow<'static, str>>,
}

/// The body of every error answer.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct ErrorBody {
    /// For people.
    pub message: String,
    /// For programs.
    pub code: Cow<'static, str>,
    /// Which fields, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub errors: Vec<FieldError>,
    /// The membership role that was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_slug: Option<String>,
}

impl FieldError {
    /// `code` says what is wrong with `field`.
    pub fn new(field: impl Into<String>, code: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), code: code.into(), message: None }
    }

    /// With words for people.
    pub fn saying(self, message: &'static str) -> Self {
        Self { message: Some(message.into()), ..self }
    }
}

impl StoreError {
    /// There is no such thing.
    pub fn not_found(what: &'static str, id: impl ToString) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }

    /// The request as a whole is refused.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::BadRequest { code: "bad_request", message: message.into() }
    }

    /// It contradicts what is there.
    pub fn conflict(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Conflict { code, message: message.into() }
    }

    /// One field cannot be accepted.
    pub fn invalid(field: &str, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Unprocessable { code, message: message.into(), errors: vec![FieldError::new(field, code)] }
    }

    /// Whether the database is to blame: what was asked for may work when tried again.
    pub(super) fn is_database(&self) -> bool {
        matches!(self, Self::Database(_))
    }

    /// The same for another request: nothing is wrong with either.
    pub(super) fn for_another(&self) -> Self {
        match self {
            Self::Database(error) => Self::Database(sqlx::Error::Protocol(error.to_string())),
            other => Self::Internal(other.to_string().into()),
        }
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound { .. } | Self::NoEndpoint => StatusCode::NOT_FOUND,
            Self::BadRequest { .. } | Self::Rejected { .. } => StatusCode::BAD_REQUEST,
            Self::Conflict { .. } => StatusCode::CONFLICT,
            Self::Unprocessable { .. } | Self::NotOrganizationRole(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Database(_) | Self::Busy | Self::TimedOut => StatusCode::SERVICE_UNAVAILABLE,
            Self::Facts(_) | Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What programs tell it by.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Forbidden(_) => "forbidden",
            Self::NotFound { .. } => "entity_not_found",
            Self::BadRequest { code, .. }
            | Self::Rejected { code, .. }
            | Self::Conflict { code, .. }
            | Self::Unprocessable { code, .. } => code,
            Self::NotOrganizationRole(_) => "sub_resource_scoped_role_not_allowed",
            Self::TooLarge(_) => "request_too_large",
            Self::NoEndpoint => "endpoint_not_found",
            Self::NoMethod => "method_not_allowed",
            Self::Database(_) => "database_unavailable",
            Self::Busy => "overloaded",
            Self::TimedOut => "timeout",
            Self::Facts(_) | Self::Internal(_) => "internal",
        }
    }
}

impl From<IdError> for StoreError {
    fn from(error: IdError) -> Self {
        Self::Internal(Box::new(error))
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::Internal(Box::new(error))
    }
}

impl IntoResponse for StoreError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            let source = self.source().map(ToString::to_string).unwrap_or_default();
            tracing::error!(code = self.code(), error = %self, source, "a request failed");
        }
        let (message, code) = (self.to_string(), self.code().into());
        let (errors, role_slug) = match self {
            Self::Unprocessable { errors, .. } | Self::Rejected { errors, .. } => (errors, None),
            Self::NotOrganizationRole(slug) => (Vec::new(), Some(slug)),
            _ => (Vec::new(), None),
        };
        let mut response = (status, Json(ErrorBody { message, code, errors, role_slug })).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
