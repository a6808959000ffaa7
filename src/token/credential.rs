//! Finding the one credential of a request (RFC 6750 §2.1, RFC 6265 §5.4).
//!
//! A request that carries two says two things about who is asking; whichever we judged, the upstream might read the
//! other. So two are an error, even when they are equal. Tokens in the query string are never read.

use std::fmt;
use std::str::FromStr;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName};

use crate::rules::fold_byte;

/// A place where a credential may stand: `header:NAME` or `cookie:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CredentialSource {
    /// A header: `Bearer TOKEN` in `authorization`, the bare token in any other.
    Header(HeaderName),
    /// A cookie of exactly this name.
    Cookie(Box<str>),
}

/// Which kind of place a credential stood in. Browsers send cookies along by themselves, so cookies need protection
/// from other sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A header.
    Header,
    /// A cookie.
    Cookie,
}

/// What a request shows to say who is asking; not verified.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credential<'a> {
    bytes: &'a [u8],
    source: &'a CredentialSource,
}

/// Two credentials, or one that could be read in two ways.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Ambiguous(Box<str>);

/// Finds the credential of a request among `sources`: none, or exactly one.
///
/// Another scheme than `Bearer` and an empty value count as none.
///
/// # Errors
/// [`Ambiguous`] for two `authorization` headers, a repeated header or cookie, a header under another spelling of a
/// configured name (`x_token` for `x-token`, which many upstreams cannot tell apart), or credentials in two places.
pub fn find<'a>(headers: &'a HeaderMap, sources: &'a [CredentialSource]) -> Result<Option<Credential<'a>>, Ambiguous> {
    let mut found: Option<Credential<'a>> = None;
    for source in sources {
        let bytes = match source {
            CredentialSource::Header(name) => in_header(headers, name)?,
            CredentialSource::Cookie(name) => in_cookie(headers, name)?,
        };
        let Some(bytes) = bytes else {
            continue;
        };
        if let Some(other) = found.replace(Credential { bytes, source }) {
            return Err(Ambiguous(format!("a credential in `{}` and in `{source}`", other.source).into()));
        }
    }
    Ok(found)
}

impl<'a> Credential<'a> {
    /// The token. The empty text, which no verifier accepts, when it holds anything but visible ASCII.
    pub fn token(&self) -> &'a str {
        // Without an early exit the compiler looks at many bytes at once; one by one cost more than the whole cache look-up.
        let visible = self.bytes.iter().fold(true, |visible, byte| visible & byte.is_ascii_graphic());
        if visible { std::str::from_utf8(self.bytes).unwrap_or_default() } else { "" }
    }

    /// Where it stood.
    pub fn source(&self) -> &'a CredentialSource {
        self.source
    }

    /// Which kind of place it stood in.
    pub fn place(&self) -> Place {
        match self.source {
            CredentialSource::Header(_) => Place::Header,
            CredentialSource::Cookie(_) => Place::Cookie,
        }
    }
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("source", self.source).finish_non_exhaustive()
    }
}

fn in_header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Ambiguous> {
    if !name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric())
        && let Some(other) = headers.keys().find(|other| *other != name && is_spelling_of(other, name))
    {
        return Err(Ambiguous(format!("header `{other}` is another spelling of `{name}`").into()));
    }
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Ambiguous(format!("header `{name}` is there twice").into()));
    }
    let bytes = if *name == AUTHORIZATION { bearer(value.as_bytes()) } else { Some(value.as_bytes().trim_ascii()) };
    Ok(bytes.filter(|bytes| !bytes.is_empty()))
}

/// Whether two header names are one to an upstream that does not tell all of them apart, as CGI and its descendants do not.
fn is_spelling_of(name: &HeaderName, other: &HeaderName) -> bool {
    let (name, other) = (name.as_str(), other.as_str());
    name.len() == other.len() && name.bytes().map(fold_byte).eq(other.bytes().map(fold_byte))
}

/// What follows the scheme `Bearer`, which may be written in any case (RFC 9110 §11.1); `None` for other schemes.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"Bearer";
    let value = value.trim_ascii();
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(SCHEME) && rest.first().is_none_or(u8::is_ascii_whitespace);
    is_bearer.then(|| rest.trim_ascii())
}

fn in_cookie<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a [u8]>, Ambiguous> {
    let mut found = None;
    let pairs = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b';'));
    for pair in pairs {
        let mut halves = pair.splitn(2, |&byte| byte == b'=');
        let (Some(other), Some(value)) = (halves.next(), halves.next()) else {
            continue;
        };
        if other.trim_ascii() == name.as_bytes() && found.replace(value.trim_ascii()).is_some() {
            return Err(Ambiguous(format!("cookie `{name}` is there twice").into()));
        }
    }
    Ok(found.filter(|value| !value.is_empty()))
}

impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

/// Why a text names no [`CredentialSource`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no place for a credential, expected `header:NAME` or `cookie:NAME`")]
pub struct CredentialSourceError(String);

impl FromStr for CredentialSource {
    type Err = CredentialSourceError;

    fn from_str(text: &str) -> Result<Self, CredentialSourceError> {
        let error = || CredentialSourceError(text.to_owned());
        // A cookie's name is a token (RFC 6265 §4.1.1), as a header's is.
        let name = |name: &str| name.parse::<HeaderName>().map_err(|_| error());
        match text.split_once(':') {
            Some(("header", header)) => match name(header)? {
                COOKIE => Err(error()),
                header => Ok(Self::Header(header)),
            },
            Some(("cookie", cookie)) => name(cookie).map(|_| Self::Cookie(cookie.into())),
            _ => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests;
