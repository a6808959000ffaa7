//! Where the server is, and what it is shown.

use std::fmt;

use http::Uri;

/// The beginning of every URL of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    text: String,
    secure: bool,
}

/// An API key. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(pub(super) String);

/// Why a text is not the URL of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` {problem}")]
pub struct ServerUrlError {
    url: String,
    problem: &'static str,
}

impl ServerUrl {
    /// Parses `text`; `insecure` accepts plain http to other machines.
    ///
    /// # Errors
    /// [`ServerUrlError`] when it is not an absolute URL without password and query, or would send the key unencrypted.
    pub fn new(text: &str, insecure: bool) -> Result<Self, ServerUrlError> {
        let refuse = |problem| ServerUrlError { url: text.to_owned(), problem };
        let url: Uri = text.parse().map_err(|_| refuse("is not a URL"))?;
        let authority = url.authority().ok_or_else(|| refuse("is not an absolute URL"))?;
        if authority.as_str().contains('@') {
            let problem = "carries a user name or password, which is not supported";
            return Err(ServerUrlError { url: "…".to_owned(), problem });
        }
        if url.query().is_some() {
            return Err(refuse("has a query, expected the URL that all paths are below"));
        }
        let secure = match url.scheme_str() {
            Some("https") => true,
            Some("http") if insecure || is_loopback(authority.host()) => false,
            Some("http") => {
                return Err(refuse("is plain http to another host, expected https; `insecure: true` accepts it"));
            }
            _ => return Err(refuse("has another scheme than https")),
        };
        Ok(Self { text: text.trim_end_matches('/').to_owned(), secure })
    }

    /// The URL, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn is_secure(&self) -> bool {
        self.secure
    }
}

impl ApiKey {
    /// Keeps `text`.
    pub fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_does_not_travel_unencrypted_unless_somebody_says_so() {
        for (url, insecure, good) in [
            ("https://api.workos.com", false, true),
            ("https://api.example.com/workos/", false, true),
            ("http://127.0.0.1:9902", false, true),
            ("http://[::1]:9902", false, true),
            ("http://store.internal", false, false),
            ("http://store.internal", true, true),
            ("http://127.0.0.1.example.com", false, false),
            ("ftp://store.internal", true, false),
            ("https://key@api.workos.com", false, false),
            ("https://api.workos.com?key=1", false, false),
            ("/workos", true, false),
        ] {
            assert_eq!(ServerUrl::new(url, insecure).is_ok(), good, "{url}");
        }
        assert_eq!(ServerUrl::new("https://a.test/b//", false).unwrap().as_str(), "https://a.test/b");
        assert!(!format!("{:?}", ApiKey::new("sk_1".to_owned())).contains("sk_1"));
    }
}
