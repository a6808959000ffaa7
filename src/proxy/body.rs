//! Bodies that a rule reads before it decides, and how large a body says it is.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header;
use pingora::Error;
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use crate::domain::{Denial, DenyReason};

/// How long a client may take to send a body that a rule reads.
const DEADLINE: Duration = Duration::from_secs(10);

/// The length that the head announces: 0 where it announces none, the greatest where it is no number.
pub(super) fn announced(request: &RequestHeader) -> u64 {
    let Some(length) = request.headers.get(header::CONTENT_LENGTH) else { return 0 };
    length.to_str().ok().and_then(|length| length.parse().ok()).unwrap_or(u64::MAX)
}

/// Reads a whole body of at most `limit` bytes; Pingora keeps it and sends the same bytes to the upstream.
pub(super) async fn read(session: &mut Session, limit: usize) -> Result<Bytes, Denial> {
    let too_large = || Denial::because(DenyReason::BodyTooLarge, "the body is larger than the route reads");
    let request = session.req_header();
    if announced(request) > limit as u64 {
        return Err(too_large());
    }
    if request.headers.contains_key(header::EXPECT) && request.version < http::Version::HTTP_2 {
        let written = session.as_downstream_mut().write_continue_response().await;
        written.map_err(|_| Denial::because(DenyReason::Timeout, "the client left before its body was asked for"))?;
    }
    session.enable_retry_buffering();
    let mut body = BytesMut::new();
    let read = async {
        while let Some(chunk) = session.read_request_body().await? {
            body.extend_from_slice(&chunk);
            if body.len() > limit {
                break;
            }
        }
        Ok::<(), Box<Error>>(())
    };
    match tokio::time::timeout(DEADLINE, read).await {
        Err(_) => return Err(Denial::because(DenyReason::Timeout, "the body did not arrive in time")),
        Ok(Err(_)) => return Err(Denial::because(DenyReason::BadRequest, "the body could not be read")),
        Ok(Ok(())) => {}
    }
    if body.len() > limit || session.retry_buffer_truncated() {
        return Err(too_large());
    }
    Ok(body.freeze())
}
