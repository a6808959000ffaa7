//! The header policy towards the upstream: forged headers out, verified ones in.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use pingora::http::RequestHeader;
use smallvec::SmallVec;

use crate::gate::{Forward, MIN_REVISION};

/// The most bytes a header of ours may carry; longer values are left out.
const MAX_VALUE_BYTES: usize = 4 * 1024;

/// What is percent-encoded in our values: everything a header cannot carry, and `%` and `,` so that values and lists read back.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b',').add(b'"');

/// Headers by which a client could make an upstream see another request than the one judged, folded (`-` for `_`, lower-case).
/// `x-forwarded-…` goes as a whole.
const MISLEADING: [&str; 24] = [
    "cluster-client-ip",
    "forwarded",
    "front-end-https",
    "proxy",
    "true-client-ip",
    "x-arr-ssl",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-original-path",
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-method",
    "x-original-path",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-uri",
    "x-rewrite-url",
];
const MISLEADING_SCHEMES: [&str; 2] = ["x-scheme", "x-url-scheme"];
const FORWARDED: &str = "x-forwarded-";
/// The header that names a request, towards upstream and client.
pub const REQUEST_ID: &str = "x-request-id";

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
    /// Names as bytes that are shared, not copied, into each request.
    identity: Vec<(IdentityHeader, Bytes)>,
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
            .map(|&header| {
                let name = HeaderName::try_from(format!("{prefix}-{}", header.suffix()))?;
                Ok((header, Bytes::copy_from_slice(name.as_str().as_bytes())))
            })
            .collect::<Result<_, http::header::InvalidHeaderName>>()?;
        let prefix = fold(prefix.as_bytes()).chain([b'-']).map(char::from).collect();
        Ok(Self { prefix, identity, forward_token })
    }

    /// Turns `request`, a copy of the client's, into what the upstream is sent.
    ///
    /// # Errors
    /// Pingora's error when a value cannot stand in a header, which their encoding rules out.
    pub fn apply(
        &self,
        request: &mut RequestHeader,
        forward: &Forward,
        peer: Peer,
        request_id: &HeaderValue,
    ) -> pingora::Result<()> {
        self.strip(request, peer);
        if !self.forward_token {
            request.remove_header(&header::AUTHORIZATION);
        }
        if forward.is_preflight() {
            // Nobody was verified, and the upstream must not be told otherwise.
            request.remove_header(&header::AUTHORIZATION);
            request.remove_header(&header::COOKIE);
            for name in forward.credential_headers() {
                request.remove_header(name);
            }
        } else {
            for (kind, name) in &self.identity {
                if let Some(value) = identity_value(*kind, forward) {
                    request.insert_header(name.clone(), value)?;
                }
            }
        }
        request.insert_header(REQUEST_ID, request_id.clone())?;
        forwarded(request, peer)
    }

    /// Removes what the client must not say: our own names in every spelling, and, from peers that are not trusted, whatever
    /// could make the upstream see another request.
    fn strip(&self, request: &mut RequestHeader, peer: Peer) {
        let forged: SmallVec<[HeaderName; 4]> =
            request.headers.keys().filter(|name| self.is_forged(name.as_str(), peer.is_trusted)).cloned().collect();
        for name in &forged {
            request.remove_header(name);
        }
    }

    fn is_forged(&self, name: &str, is_trusted: bool) -> bool {
        let is = |other: &str| name.len() == other.len() && fold(name.as_bytes()).eq(other.bytes());
        let begins =
            |prefix: &str| name.len() >= prefix.len() && fold(name.as_bytes()).take(prefix.len()).eq(prefix.bytes());
        if begins(&self.prefix) || is(MIN_REVISION) || is(REQUEST_ID) {
            return true;
        }
        if is_trusted {
            return false;
        }
        let suspicious = matches!(name.as_bytes().first(), Some(b'x' | b'f' | b'c' | b't' | b'p'));
        suspicious && (begins(FORWARDED) || MISLEADING.iter().chain(&MISLEADING_SCHEMES).any(|other| is(other)))
    }
}

/// `x-forwarded-for`, `-proto` and `-host` as this hop knows them; behind a trusted proxy its word on the outer hop stands.
fn forwarded(request: &mut RequestHeader, peer: Peer) -> pingora::Result<()> {
    const FOR: &str = "x-forwarded-for";
    const PROTO: &str = "x-forwarded-proto";
    const HOST: &str = "x-forwarded-host";
    if let Some(address) = peer.address {
        let earlier: Vec<&[u8]> = request.headers.get_all(FOR).iter().map(HeaderValue::as_bytes).collect();
        let value = if earlier.is_empty() {
            HeaderValue::try_from(address.to_string())
        } else {
            let mut chain = earlier.join(&b", "[..]);
            chain.extend_from_slice(format!(", {address}").as_bytes());
            HeaderValue::from_bytes(&chain)
        };
        if let Ok(value) = value {
            request.insert_header(FOR, value)?;
        }
    }
    if !request.headers.contains_key(PROTO) {
        let scheme = HeaderValue::from_static(if peer.is_tls { "https" } else { "http" });
        request.insert_header(PROTO, scheme)?;
    }
    if !request.headers.contains_key(HOST)
        && let Some(host) = request.headers.get(header::HOST).cloned()
    {
        request.insert_header(HOST, host)?;
    }
    Ok(())
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
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'%' | b',' | b'"'));
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

/// A header name as careless upstreams read it: CGI, WSGI and PHP cannot tell `_` from `-`, nor upper case from lower.
fn fold(name: &[u8]) -> impl Iterator<Item = u8> + '_ {
    name.iter().map(|&byte| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() })
}
