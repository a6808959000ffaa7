//! From Pingora's session to the one view of the request that everything else looks at, or a refusal.
//!
//! Pingora's parser is strict about framing but lets several ambiguities pass that our decision or the upstream could read in two
//! ways (`docs/threat-model`: one host, one framing, no nominated headers). They are refused here, before anything is decided.

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use crate::domain::{Denial, DenyReason};
use crate::gate::RequestView;
use crate::rules::is_host;

/// What a client may send before anything is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole request head.
    pub head_bytes: usize,
    /// Header fields.
    pub header_fields: usize,
    /// Bytes of the request target.
    pub target_bytes: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { head_bytes: 32 * 1024, header_fields: 100, target_bytes: 8 * 1024 }
    }
}

/// Reads the head of `session`'s request: a view that has one reading only, without a body.
///
/// # Errors
/// A [`Denial`] with a reason of status 400, 414 or 431 when the head is ambiguous, malformed or too large.
pub fn read<'a>(session: &'a Session, limits: &HeadLimits) -> Result<RequestView<'a>, Denial> {
    let request = session.req_header();
    let headers = &request.headers;
    if let Some(http1) = session.as_downstream().as_http1() {
        let raw = http1.get_headers_raw_bytes();
        if raw.len() > limits.head_bytes || headers.len() > limits.header_fields {
            return Err(refuse(DenyReason::HeadersTooLarge, "the head exceeds the configured limits"));
        }
        unambiguous_raw_head(&raw, headers)?;
    } else {
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if bytes > limits.head_bytes || headers.len() > limits.header_fields {
            return Err(refuse(DenyReason::HeadersTooLarge, "the head exceeds the configured limits"));
        }
    }
    let (authority, target) = split_target(request)?;
    if target.len() > limits.target_bytes {
        return Err(refuse(DenyReason::TargetTooLong, "the target exceeds the configured limit"));
    }
    let host = one_host(request, authority)?;
    one_framing(headers)?;
    harmless_connection(headers)?;
    let is_upgrade = headers.contains_key(header::UPGRADE);
    let is_absolute = authority.is_some();
    Ok(RequestView {
        method: &request.method,
        target,
        is_absolute,
        host,
        headers,
        is_upgrade,
        body: None,
        is_confirmed: false,
    })
}

/// The host that the client named, for the log: that of [`read`] where that finds one, and the first of several otherwise.
pub fn host_of(request: &RequestHeader) -> Option<&str> {
    let field = request.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    field.or_else(|| request.uri.authority().map(http::uri::Authority::as_str))
}

/// What can only be seen in the bytes as received: Pingora drops a fragment, and `Content-Length` beside `Transfer-Encoding`.
fn unambiguous_raw_head(raw: &[u8], headers: &HeaderMap) -> Result<(), Denial> {
    let request_line = memchr::memchr(b'\n', raw).and_then(|end| raw.get(..end)).unwrap_or(raw);
    if memchr::memchr(b'#', request_line).is_some() {
        return Err(refuse(DenyReason::BadPath, "the target has a fragment"));
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        let both = raw
            .split(|&byte| byte == b'\n')
            .any(|line| line.get(..15).is_some_and(|name| name.eq_ignore_ascii_case(b"content-length:")));
        if both {
            return Err(refuse(DenyReason::BadRequest, "`content-length` beside `transfer-encoding`"));
        }
    }
    Ok(())
}

/// The authority of an absolute-form target, and path and query (RFC 9112 §3.2).
fn split_target(request: &RequestHeader) -> Result<(Option<&[u8]>, &[u8]), Denial> {
    let raw = request.raw_path();
    if raw.first() == Some(&b'/') {
        return Ok((None, raw));
    }
    let rest = [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| strip_prefix_ignoring_case(raw, scheme));
    let Some(rest) = rest else {
        return Err(refuse(DenyReason::BadPath, "the target is neither a path nor an http URL"));
    };
    match rest.iter().position(|&byte| byte == b'/') {
        Some(slash) if !rest.get(..slash).is_some_and(|authority| authority.contains(&b'?')) => {
            let (authority, path) = rest.split_at(slash);
            Ok((Some(authority), path))
        }
        _ => Err(refuse(DenyReason::BadPath, "the target has no path")),
    }
}

fn strip_prefix_ignoring_case<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// The one host of the request: `Host`, `:authority` and an absolute-form target must agree (RFC 9112 §3.2, RFC 9113 §8.3.1).
fn one_host<'a>(request: &'a RequestHeader, authority: Option<&[u8]>) -> Result<&'a str, Denial> {
    let mut fields = request.headers.get_all(header::HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(refuse(DenyReason::BadRequest, "more than one host"));
    }
    let host = match (field.map(HeaderValue::to_str), request.uri.authority()) {
        (Some(Ok(host)), _) => host,
        (Some(Err(_)), _) => return Err(refuse(DenyReason::BadRequest, "the host is not text")),
        (None, Some(authority)) if request.version == Version::HTTP_2 => authority.as_str(),
        (None, _) => return Err(refuse(DenyReason::BadRequest, "no host")),
    };
    let pseudo = request.uri.authority().map(|authority| authority.as_str().as_bytes());
    if [authority, pseudo].into_iter().flatten().any(|other| !other.eq_ignore_ascii_case(host.as_bytes())) {
        return Err(refuse(DenyReason::BadRequest, "host and target name different authorities"));
    }
    if !is_host(host) {
        return Err(refuse(DenyReason::BadRequest, "the host is none, or ends elsewhere for some readers"));
    }
    Ok(host)
}

/// One way to tell where the body ends (RFC 9112 §6).
fn one_framing(headers: &HeaderMap) -> Result<(), Denial> {
    if let Some(encoding) = only(headers, &header::TRANSFER_ENCODING, "more than one `transfer-encoding`")?
        && !encoding.as_bytes().eq_ignore_ascii_case(b"chunked")
    {
        return Err(refuse(DenyReason::BadRequest, "a `transfer-encoding` other than `chunked`"));
    }
    if let Some(length) = only(headers, &header::CONTENT_LENGTH, "more than one `content-length`")?
        && !length.as_bytes().iter().all(u8::is_ascii_digit)
    {
        return Err(refuse(DenyReason::BadRequest, "a `content-length` that is not a number"));
    }
    if let Some(expectation) = only(headers, &header::EXPECT, "more than one `expect`")?
        && !expectation.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err(refuse(DenyReason::BadRequest, "an `expect` other than `100-continue`"));
    }
    Ok(())
}

fn only<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    repeated: &'static str,
) -> Result<Option<&'a HeaderValue>, Denial> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(refuse(DenyReason::BadRequest, repeated));
    }
    Ok(first)
}

/// `Connection` may not nominate a header that we judged by: an intermediary would take it away again (RFC 9110 §7.6.1).
fn harmless_connection(headers: &HeaderMap) -> Result<(), Denial> {
    const HARMLESS: [&[u8]; 5] = [b"keep-alive", b"close", b"upgrade", b"te", b"http2-settings"];
    for value in headers.get_all(header::CONNECTION) {
        for option in value.as_bytes().split(|&byte| byte == b',') {
            let option = option.trim_ascii();
            if !option.is_empty() && !HARMLESS.iter().any(|harmless| option.eq_ignore_ascii_case(harmless)) {
                return Err(refuse(DenyReason::BadRequest, "`connection` nominates another header"));
            }
        }
    }
    Ok(())
}

fn refuse(reason: DenyReason, detail: &str) -> Denial {
    Denial { reason, detail: Some(detail.into()) }
}
