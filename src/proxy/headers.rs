//! The header policy towards the upstream: forged headers out, verified ones in.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use pingora::http::RequestHeader;
use smallvec::SmallVec;

use crate::gate::{Forward, MIN_REVISION};
use crate::rules::{Misleading, fold_byte, fold_header, misleading};

/// The most bytes a header of ours may carry; longer values are left out.
const MAX_VALUE_BYTES: usize = 4 * 1024;

/// What is percent-encoded in our values: everything a header cannot carry, and `%` and `,` so that values and lists read back.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b',').add(b'"');

/// The header that names a request, towards upstream and client.
pub const REQUEST_ID: &str = "x-request-id";
/// How many fields besides the identity are set on every request: the request id, and `x-forwarded-…`.
const HOP_FIELDS: usize = 4;

/// Which identity headers exist, in the order of [`HeaderPolicy`]'s names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdentityHeader {
    /// The person (`sub`).
    User,
    /// The organization of the token.
    Organization,
    /// The membership: from the token, or as found in the facts.
    Membership,
    /// The highest-priority organization role.
    Role,
    /// All organization roles, separated by commas.
    Roles,
    /// The id of the route rule.
    Route,
    /// The revision of the facts that were consulted.
    Revision,
    /// The organization-wide permissions of the token, separated by commas; only on request.
    Permissions,
}

impl IdentityHeader {
    /// All but the permissions, which can be long.
    pub const DEFAULT: [Self; 7] =
        [Self::User, Self::Organization, Self::Membership, Self::Role, Self::Roles, Self::Route, Self::Revision];

    fn suffix(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Organization => "organization",
            Self::Membership => "membership",
            Self::Role => "role",
            Self::Roles => "roles",
            Self::Route => "route",
            Self::Revision => "revision",
            Self::Permissions => "permissions",
        }
    }
}

/// Which headers are taken away and which are added.
#[derive(Debug, Clone)]
pub struct HeaderPolicy {
    prefix: String,
    identity: Vec<(IdentityHeader, HeaderName)>,
    forward_token: bool,
}

/// Who is at the other end of the client connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Its address; `None` for a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether it is listed in `trusted_proxies`.
    pub is_trusted: bool,
    /// Whether the connection is encrypted.
    pub is_tls: bool,
}

impl HeaderPolicy {
    /// What identity headers begin with unless something else is configured.
    pub const PREFIX: &'static str = "x-portcullis";

    /// A policy whose identity headers are `<prefix>-user` and so on.
    ///
    /// # Errors
    /// [`http::header::InvalidHeaderName`] when `prefix` cannot begin a header name.
    pub fn new(
        prefix: &str,
        identity: &[IdentityHeader],
        forward_token: bool,
    ) -> Result<Self, http::header::InvalidHeaderName> {
        let identity = identity
            .iter()
            .map(|&header| Ok((header, HeaderName::try_from(format!("{prefix}-{}", header.suffix()))?)))
            .collect::<Result<_, http::header::InvalidHeaderName>>()?;
        let prefix = format!("{}-", fold_header(prefix));
        Ok(Self { prefix, identity, forward_token })
    }

    /// The names that are ours alone with such a prefix, folded; one that ends in `-` is how several begin.
    pub fn own(prefix: &str) -> [String; 3] {
        [format!("{}-", fold_header(prefix)), MIN_REVISION.to_owned(), REQUEST_ID.to_owned()]
    }

    /// Turns `request`, a copy of the client's, into what the upstream is sent.
    ///
    /// # Errors
    /// Pingora's error when the target cannot be set again, which it was before.
    pub fn apply(
        &self,
        request: &mut RequestHeader,
        forward: &Forward,
        peer: Peer,
        request_id: &HeaderValue,
    ) -> pingora::Result<()> {
        edit(request, |headers| {
            self.strip(headers, forward, peer);
            headers.reserve(self.identity.len() + HOP_FIELDS);
            if !forward.is_preflight() {
                for (kind, name) in &self.identity {
                    if let Some(value) = identity_value(*kind, forward) {
                        headers.insert(name.clone(), value);
                    }
                }
            }
            headers.insert(const { HeaderName::from_static(REQUEST_ID) }, request_id.clone());
            forwarded(headers, peer);
        })
    }

    /// Removes what the client must not say: our own names in every spelling, whatever could make the upstream see another request, from
    /// peers that are not trusted what tells of the hop before, and credentials that the upstream is not to have.
    fn strip(&self, headers: &mut HeaderMap, forward: &Forward, peer: Peer) {
        let forged: SmallVec<[HeaderName; 4]> =
            headers.keys().filter(|name| self.is_forged(name.as_str(), peer.is_trusted)).cloned().collect();
        for name in &forged {
            headers.remove(name);
        }
        if !self.forward_token {
            headers.remove(&header::AUTHORIZATION);
        }
        if forward.is_preflight() {
            // Nobody was verified, and the upstream must not be told otherwise.
            headers.remove(&header::AUTHORIZATION);
            headers.remove(&header::COOKIE);
            for name in forward.credential_headers() {
                headers.remove(name);
            }
        }
    }

    fn is_forged(&self, name: &str, is_trusted: bool) -> bool {
        let folded = || name.bytes().map(fold_byte);
        let is = |other: &str| name.len() == other.len() && folded().eq(other.bytes());
        let begins = |prefix: &str| name.len() >= prefix.len() && folded().take(prefix.len()).eq(prefix.bytes());
        if begins(&self.prefix) || is(MIN_REVISION) || is(REQUEST_ID) {
            return true;
        }
        match misleading(name) {
            Some(Misleading::Request) => true,
            Some(Misleading::Hop) => !is_trusted,
            None => false,
        }
    }
}

/// Changes the header fields of `request` as one map.
///
/// Through Pingora every field set means parsing its name again and keeping a second map in step, of the spellings that the client used;
/// that was a fifth of the instructions of a request (`docs/performance.md`). So the spellings are given up, and names reach the upstream
/// in lower case, or in Pingora's own spelling (RFC 9110 §5.1: they are the same names).
fn edit(request: &mut RequestHeader, change: impl FnOnce(&mut HeaderMap)) -> pingora::Result<()> {
    // The parts hold the target as a URI only, which cannot hold every target.
    let by_uri = request.uri.path_and_query().map(|target| target.as_str().as_bytes());
    let target = (by_uri != Some(request.raw_path())).then(|| request.raw_path().to_vec());
    let nothing = RequestHeader::from(http::Request::new(()).into_parts().0);
    let mut parts = http::request::Parts::from(std::mem::replace(request, nothing));
    change(&mut parts.headers);
    *request = RequestHeader::from(parts);
    target.map_or(Ok(()), |target| request.set_raw_path(&target))
}

/// `x-forwarded-for`, `-proto` and `-host` as this hop knows them; behind a trusted proxy its word on the outer hop stands.
fn forwarded(headers: &mut HeaderMap, peer: Peer) {
    const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
    const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
    if let Some(address) = peer.address {
        let mut chain = Vec::with_capacity(48);
        for earlier in headers.get_all(FOR) {
            chain.extend_from_slice(earlier.as_bytes());
            chain.extend_from_slice(b", ");
        }
        put_address(&mut chain, address);
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(chain)) {
            headers.insert(FOR, value);
        }
    }
    if !headers.contains_key(PROTO) {
        headers.insert(PROTO, HeaderValue::from_static(if peer.is_tls { "https" } else { "http" }));
    }
    if !headers.contains_key(HOST)
        && let Some(host) = headers.get(header::HOST).cloned()
    {
        headers.insert(HOST, host);
    }
}

/// Writes `address` as text. The formatting of the standard library costs as much as three header fields.
fn put_address(text: &mut Vec<u8>, address: IpAddr) {
    let IpAddr::V4(address) = address else {
        text.extend_from_slice(address.to_string().as_bytes());
        return;
    };
    for (at, octet) in address.octets().into_iter().enumerate() {
        if at > 0 {
            text.push(b'.');
        }
        if octet >= 100 {
            text.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            text.push(b'0' + octet / 10 % 10);
        }
        text.push(b'0' + octet % 10);
    }
}

/// The value of one identity header: what the decision used, percent-encoded where needed; `None` when there is none, or when it
/// would be longer than [`MAX_VALUE_BYTES`].
fn identity_value(kind: IdentityHeader, forward: &Forward) -> Option<HeaderValue> {
    let principal = forward.principal();
    let value = match kind {
        IdentityHeader::Route => encoded(forward.route_id()),
        IdentityHeader::Revision => HeaderValue::try_from(forward.revision()?.to_string()).ok(),
        IdentityHeader::Membership => encoded(forward.membership()?.as_str()),
        IdentityHeader::User => encoded(principal?.user.as_str()),
        IdentityHeader::Organization => encoded(principal?.organization.as_ref()?.as_str()),
        IdentityHeader::Role => encoded(principal?.role.as_ref()?.as_str()),
        IdentityHeader::Roles => list(principal?.roles.iter().map(AsRef::as_ref)),
        IdentityHeader::Permissions => list(principal?.permissions.iter().map(AsRef::as_ref)),
    };
    let value = value?;
    if value.len() > MAX_VALUE_BYTES {
        tracing::warn!(header = kind.suffix(), bytes = value.len(), "identity header left out: too long");
        return None;
    }
    Some(value)
}

fn encoded(text: &str) -> Option<HeaderValue> {
    // Without an early exit the compiler looks at many bytes at once.
    let plain = text
        .bytes()
        .fold(true, |plain, byte| plain & byte.is_ascii_graphic() & (byte != b'%') & (byte != b',') & (byte != b'"'));
    if plain {
        return HeaderValue::from_str(text).ok();
    }
    HeaderValue::try_from(utf8_percent_encode(text, ENCODED).to_string()).ok()
}

fn list<'a>(items: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let mut value = String::new();
    for item in items {
        if !value.is_empty() {
            value.push(',');
        }
        value.extend(utf8_percent_encode(item, ENCODED));
    }
    if value.is_empty() { None } else { HeaderValue::try_from(value).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_the_standard_library_writes_it() {
        for address in ["0.0.0.0", "1.20.99.100", "10.0.109.255", "::1", "2001:db8::a0"] {
            let mut text = Vec::new();
            put_address(&mut text, address.parse().unwrap());
            assert_eq!(String::from_utf8(text).unwrap(), address);
        }
    }

    #[test]
    fn a_change_of_headers_keeps_the_rest_of_the_request() {
        for target in [&b"/a?b=c"[..], b"/a?b=\xff", b"http://app.example/a", b"*"] {
            let mut request = RequestHeader::build("PATCH", target, None).unwrap();
            request.set_version(http::Version::HTTP_10);
            request.append_header("X-Twice", "1").unwrap();
            request.append_header("x-twice", "2").unwrap();
            edit(&mut request, |headers| _ = headers.insert("x-new", HeaderValue::from_static("3"))).unwrap();
            assert_eq!((request.method.as_str(), request.raw_path()), ("PATCH", target));
            assert_eq!(request.version, http::Version::HTTP_10);
            let mut wire = Vec::new();
            request.header_to_h1_wire(&mut wire);
            assert_eq!(String::from_utf8(wire).unwrap(), "x-twice: 1\r\nx-twice: 2\r\nx-new: 3\r\n");
        }
    }
}
