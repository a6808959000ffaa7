//! The one table from a denial to what the client reads (RFC 9457, RFC 6750); the log reads more.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use crate::domain::{Denial, DenyReason, TokenFault};

/// How long the rest of a refused request is read before its connection is closed.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// What a client is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The machine-readable code.
    pub code: &'static str,
    /// One sentence for a person.
    pub detail: &'static str,
    /// What exactly is wrong with the token.
    pub token_fault: Option<TokenFault>,
}

impl Answer {
    /// The answer to `denial`; `conceal` turns every 403 into a 404 that says nothing else.
    pub fn to(denial: &Denial, conceal: bool) -> Self {
        let (status, detail) = status_and_detail(denial.reason);
        if conceal && status == 403 {
            return Self { status: 404, code: "not_found", detail: "there is nothing here", token_fault: None };
        }
        let token_fault = match denial.reason {
            DenyReason::BadToken(fault) => Some(fault),
            _ => None,
        };
        Self { status, code: denial.reason.code(), detail, token_fault }
    }

    /// Seconds after which trying again makes sense; every 503 says so.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        (self.status == 503).then_some(1)
    }

    fn challenge(&self) -> Option<String> {
        (self.status == 401).then(|| match self.token_fault {
            Some(fault) => {
                format!(r#"Bearer realm="portcullis", error="invalid_token", error_description="{}""#, fault.code())
            }
            None if self.code == "revoked" => {
                r#"Bearer realm="portcullis", error="invalid_token", error_description="revoked""#.to_owned()
            }
            None => r#"Bearer realm="portcullis""#.to_owned(),
        })
    }

    fn problem(&self, request_id: &str) -> Bytes {
        let mut body = serde_json::json!({
            "title": http::StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason()),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "request_id": request_id,
        });
        if let (Some(fault), Some(members)) = (self.token_fault, body.as_object_mut()) {
            members.insert("reason".to_owned(), fault.code().into());
        }
        Bytes::from(body.to_string())
    }

    fn grpc_status(&self) -> &'static str {
        match self.status {
            401 => "16",
            403 => "7",
            404 => "5",
            408 | 504 => "4",
            413 | 431 => "8",
            502 | 503 => "14",
            500 => "13",
            _ => "3",
        }
    }
}

/// Status and sentence of every reason. No `_` arm: a new reason has to find its place here.
fn status_and_detail(reason: DenyReason) -> (u16, &'static str) {
    match reason {
        DenyReason::BadPath => (400, "the request target is ambiguous or malformed"),
        DenyReason::BadRequest => (400, "the request is ambiguous or malformed"),
        DenyReason::AmbiguousCredentials => (400, "send one credential, in one place"),
        DenyReason::BadValue => (400, "a value this route needs is missing, repeated or malformed"),
        DenyReason::BadRevision => (400, "the minimum revision is malformed or lies ahead of the store"),
        DenyReason::MissingToken => (401, "this route needs a token"),
        DenyReason::BadToken(_) => (401, "the token is not valid here"),
        DenyReason::Revoked => (401, "the token was revoked"),
        DenyReason::NotGranted | DenyReason::UnknownResource | DenyReason::NotAccepted => {
            (403, "the caller does not hold what this route requires")
        }
        DenyReason::UnknownMembership => (403, "the caller is not a member of the organization"),
        DenyReason::MembershipInactive => (403, "the membership is not active"),
        DenyReason::WrongOrganization => (403, "the token is for another organization"),
        DenyReason::CrossSite => (403, "a cookie is not accepted on an unsafe request from another site"),
        DenyReason::NoRoute => (403, "no rule covers this request"),
        DenyReason::Timeout => (408, "the request took too long to arrive"),
        DenyReason::BodyTooLarge => (413, "the body is larger than this route takes"),
        DenyReason::TargetTooLong => (414, "the request target is too long"),
        DenyReason::UnsupportedBody => (415, "this route reads plain JSON bodies only"),
        DenyReason::HeadersTooLarge => (431, "too many or too large header fields"),
        DenyReason::Internal => (500, "something failed here; nothing was forwarded"),
        DenyReason::KeysUnavailable => (503, "the issuer's keys are not available yet"),
        DenyReason::FactsUnavailable => (503, "the facts needed to decide are not available"),
        DenyReason::FactsStale => (503, "the facts needed to decide are too old"),
        DenyReason::RevisionUnavailable => (503, "the requested minimum revision is not here yet"),
        DenyReason::Overloaded => (503, "too much work at once"),
        DenyReason::UpstreamUnreachable => (502, "the upstream cannot be reached"),
        DenyReason::UpstreamTimeout => (504, "the upstream did not answer in time"),
    }
}

/// Writes `answer` to the client: `application/problem+json`, or a trailers-only response when a gRPC client asks.
///
/// # Errors
/// Pingora's error when the client is gone.
pub async fn write(session: &mut Session, answer: Answer, request_id: &HeaderValue) -> pingora::Result<()> {
    let request = session.req_header();
    let is_grpc =
        request.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let is_head = request.method == Method::HEAD;
    let expects_continue = request.headers.contains_key(header::EXPECT);
    if is_grpc {
        let mut response = ResponseHeader::build(200, Some(4))?;
        response.insert_header(header::CONTENT_TYPE, "application/grpc")?;
        response.insert_header("grpc-status", answer.grpc_status())?;
        response.insert_header("grpc-message", format!("{}: {}", answer.code, answer.detail))?;
        response.insert_header("x-request-id", request_id.clone())?;
        if !session.is_http2() {
            response.insert_header(header::CONTENT_LENGTH, "0")?;
        }
        return session.write_response_header(Box::new(response), true).await;
    }
    let body = answer.problem(request_id.to_str().unwrap_or_default());
    let mut response = ResponseHeader::build(answer.status, Some(7))?;
    response.insert_header(header::CONTENT_TYPE, "application/problem+json")?;
    response.insert_header(header::CONTENT_LENGTH, body.len())?;
    response.insert_header(header::CACHE_CONTROL, "no-store")?;
    response.insert_header("x-request-id", request_id.clone())?;
    if let Some(challenge) = answer.challenge() {
        response.insert_header(header::WWW_AUTHENTICATE, challenge)?;
    }
    if let Some(seconds) = answer.retry_after_seconds() {
        response.insert_header(header::RETRY_AFTER, seconds)?;
    }
    let may_go_on = !expects_continue && !matches!(answer.status, 400 | 408 | 413 | 431);
    if may_go_on {
        // Pingora would close whatever connection has a body to come; ours is read to its end below.
        session.as_downstream_mut().set_close_on_response_before_downstream_finish(false);
    } else {
        // What follows on this connection cannot be told from the body that was not read.
        session.set_keepalive(None);
    }
    session.write_response_header(Box::new(response), is_head).await?;
    if !is_head {
        session.write_response_body(Some(body), true).await?;
    }
    if may_go_on || answer.status == 413 {
        drain(session).await;
    }
    Ok(())
}

/// Reads what is left of a refused request, for a bounded time: so that its connection can carry the next request, and so that the
/// answer is not lost in the reset that closing on unread bytes causes.
async fn drain(session: &mut Session) {
    if session.is_http2() {
        return;
    }
    session.set_total_drain_timeout(Some(DRAIN_LIMIT));
    if session.as_downstream_mut().drain_request_body().await.is_err() {
        session.set_keepalive(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(reason: DenyReason, conceal: bool) -> Answer {
        Answer::to(&Denial { reason, detail: None }, conceal)
    }

    #[test]
    fn concealment_hides_which_refusal_it_was() {
        let hidden = answer(DenyReason::NotGranted, true);
        assert_eq!(hidden, answer(DenyReason::WrongOrganization, true));
        assert_eq!((hidden.status, hidden.code), (404, "not_found"));
        assert_eq!(answer(DenyReason::MissingToken, true).status, 401, "a missing token is not concealed");
    }

    #[test]
    fn an_unknown_resource_reads_like_a_missing_grant() {
        assert_eq!(answer(DenyReason::UnknownResource, false), answer(DenyReason::NotGranted, false));
    }

    #[test]
    fn challenges_name_the_fault_and_only_401_carries_one() {
        let expired = answer(DenyReason::BadToken(TokenFault::Expired), false);
        assert_eq!(
            expired.challenge().unwrap(),
            r#"Bearer realm="portcullis", error="invalid_token", error_description="expired""#
        );
        assert_eq!(answer(DenyReason::MissingToken, false).challenge().unwrap(), r#"Bearer realm="portcullis""#);
        assert_eq!(answer(DenyReason::NotGranted, false).challenge(), None);
    }

    #[test]
    fn every_503_says_when_to_try_again() {
        assert_eq!(answer(DenyReason::FactsStale, false).retry_after_seconds(), Some(1));
        assert_eq!(answer(DenyReason::Internal, false).retry_after_seconds(), None);
    }
}
