//! Which hosts a rule covers.

use std::borrow::Cow;
use std::fmt;

use hashbrown::HashMap;
use smallvec::SmallVec;

/// One entry of a rule's `hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// This host.
    Exact(Box<str>),
    /// Every host below this one, at any depth, but not the host itself: `*.example.com`. Kept with its leading dot.
    Below(Box<str>),
}

impl HostPattern {
    /// Parses `example.com`, `*.example.com` or `[::1]`; case and a trailing dot do not count. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let text = text.strip_suffix('.').unwrap_or(&text);
        if text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).is_some_and(is_ipv6) {
            return Some(Self::Exact(text.into()));
        }
        let (name, below) = text.strip_prefix('*').map_or((text, false), |name| (name, true));
        let labels = if below { name.strip_prefix('.')? } else { name };
        if text.len() > 255 || !labels.split('.').all(is_label) {
            return None;
        }
        Some(if below { Self::Below(name.into()) } else { Self::Exact(name.into()) })
    }

    /// Whether every host of `other` is one of these too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Below(a), Self::Exact(b)) => b.len() > a.len() && b.ends_with(a.as_ref()),
            (Self::Below(a), Self::Below(b)) => b.ends_with(a.as_ref()),
            (Self::Exact(_), Self::Below(_)) => false,
        }
    }

    /// Whether some host is one of both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*{name}"),
        }
    }
}

/// The host of an authority as it is compared: lower-case, without port and trailing dot.
pub fn host_name(authority: &str) -> Cow<'_, str> {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) { name.to_ascii_lowercase().into() } else { name.into() }
}

/// Whether `authority` is a host as everybody reads one: labels with one dot between two, at most one behind them, or an IPv6 address in
/// brackets; and at most one port. `a..`, `a:80:80` and `a:b` are not: readers disagree on where the host ends.
pub fn is_host(authority: &str) -> bool {
    let (is_name, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((ip, port)) => (is_ipv6(ip), if port.is_empty() { Some("") } else { port.strip_prefix(':') }),
            None => (false, None),
        },
        None => {
            let (name, port) = authority.split_once(':').unwrap_or((authority, ""));
            let name = name.strip_suffix('.').unwrap_or(name);
            (name.len() <= 255 && name.split('.').all(is_label), Some(port))
        }
    };
    is_name && port.is_some_and(|port| port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<std::net::Ipv6Addr>().is_ok()
}

/// Whether two authorities (a target in absolute form and a `Host` header) name the same host and port.
pub fn same_authority(one: &str, other: &str) -> bool {
    let port = |authority: &str| match authority.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.to_owned(),
        _ => String::new(),
    };
    host_name(one) == host_name(other) && port(one) == port(other)
}

/// The number of a [`HostPattern`] in its [`HostIndex`]; 0 is "any host".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct HostId(u32);

impl HostId {
    pub(super) const ANY: Self = Self(0);
}

/// All host patterns of a table.
#[derive(Debug, Clone, Default)]
pub(super) struct HostIndex {
    ids: HashMap<HostPattern, HostId, foldhash::fast::FixedState>,
    exact: HashMap<Box<str>, HostId, foldhash::fast::FixedState>,
    below: HashMap<Box<str>, HostId, foldhash::fast::FixedState>,
}

impl HostIndex {
    /// The number of `pattern`, a new one if it has none.
    pub(super) fn id(&mut self, pattern: &HostPattern) -> HostId {
        let next = HostId(u32::try_from(self.ids.len() + 1).unwrap_or(u32::MAX));
        let id = *self.ids.entry(pattern.clone()).or_insert(next);
        match pattern {
            HostPattern::Exact(name) => self.exact.insert(name.clone(), id),
            HostPattern::Below(name) => self.below.insert(name.clone(), id),
        };
        id
    }

    /// The patterns that `authority` matches, the closest first, "any" last.
    pub(super) fn matching(&self, authority: &str) -> SmallVec<[HostId; 4]> {
        let mut ids = SmallVec::new();
        if !self.ids.is_empty() {
            let name = host_name(authority);
            ids.extend(self.exact.get(name.as_ref()).copied());
            if !self.below.is_empty() {
                let dots = memchr::memchr_iter(b'.', name.as_bytes()).filter(|dot| *dot > 0);
                ids.extend(dots.filter_map(|dot| self.below.get(name.get(dot..)?).copied()));
            }
        }
        ids.push(HostId::ANY);
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_without_case_port_and_trailing_dot() {
        for (authority, name) in [
            ("API.example.COM", "api.example.com"),
            ("api.example.com.", "api.example.com"),
            ("api.example.com:8080", "api.example.com"),
            ("api.example.com.:8080", "api.example.com"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(host_name(authority), name, "{authority}");
        }
        assert!(same_authority("A.b:1", "a.B.:1") && !same_authority("a:1", "a:2") && !same_authority("a", "a:80"));
    }

    #[test]
    fn a_host_that_could_end_elsewhere_is_none() {
        for good in ["a", "a.b", "a.b.", "A-1_x.b:80", "a:", "127.0.0.1:65535", "[::1]", "[::1]:80", "[2001:db8::1]:1"]
        {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a..",
            "a..b",
            ".a",
            ":80",
            "a:80:80",
            "a:b",
            "a:80b",
            "a:-1",
            "a:123456",
            "a b",
            "a,b",
            "a@b",
            "a/b",
            "a[b]",
            "[::1",
            "::1",
            "[::1]80",
            "[::1].b",
            "[::1]:x",
            "[a]",
            "[::1%eth0]",
            "[[::1]]",
            "a:[::1]",
            "é",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    #[test]
    fn the_closest_host_pattern_comes_first() {
        let mut index = HostIndex::default();
        let [exact, long, short] = ["a.b.example.com", "*.b.example.com", "*.example.com"]
            .map(|text| index.id(&HostPattern::parse(text).unwrap()));
        assert_eq!(index.matching("A.b.Example.com:1")[..], [exact, long, short, HostId::ANY]);
        assert_eq!(index.matching("x.a.b.example.com")[..], [long, short, HostId::ANY]);
        assert_eq!(index.matching("b.example.com")[..], [short, HostId::ANY]);
        assert_eq!(index.matching("example.com")[..], [HostId::ANY]);
        assert_eq!(index.matching(".example.com")[..], [HostId::ANY]);
        assert_eq!(index.matching("notexample.com")[..], [HostId::ANY]);
    }

    #[test]
    fn host_patterns_that_could_never_match_are_refused() {
        for bad in
            ["", "*", "*.", "a.*.b", "*a.b", "a..b", "a:80", "a/b", "http://a", "[::1", "[x]", "a b", "é.example"]
        {
            assert_eq!(HostPattern::parse(bad), None, "{bad}");
        }
        assert_eq!(HostPattern::parse("*.Example.com.").unwrap().to_string(), "*.example.com");
        assert!(HostPattern::parse("[::1]").is_some());
    }
}
