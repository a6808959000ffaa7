//! What narrows a rule beyond its path: methods, hosts, header values.

use std::borrow::Cow;
use std::fmt;

use hashbrown::HashMap;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use smallvec::SmallVec;

use crate::domain::{Denial, DenyReason};

/// The methods of the IANA registry (RFC 9110 §16.1), the frequent ones first. `CONNECT` and `PRI` never reach a rule.
const REGISTERED: [&str; 38] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "ORDERPATCH",
    "PROPFIND",
    "PROPPATCH",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// The methods that requests may have: registered or configured.
#[derive(Debug, Clone, Default)]
pub struct Methods {
    configured: Vec<Box<str>>,
}

/// One of [`Methods`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodIndex(u8);

/// A set of [`Methods`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodSet(u64);

impl Methods {
    /// The most methods that may be configured beside the registered ones.
    pub const MOST_CONFIGURED: usize = 64 - REGISTERED.len();

    /// Adds a configured method; `false` when it is no upper-case token or there are too many.
    pub(super) fn add(&mut self, name: &str) -> bool {
        let token = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'));
        if !token || matches!(name, "CONNECT" | "PRI") || self.configured.len() >= Self::MOST_CONFIGURED {
            return false;
        }
        if self.named(name).is_none() {
            self.configured.push(name.into());
        }
        true
    }

    /// The method called `name`.
    pub fn named(&self, name: &str) -> Option<MethodIndex> {
        self.names().position(|other| other == name).and_then(|index| u8::try_from(index).ok()).map(MethodIndex)
    }

    /// The method of a request; `None` when it is unknown or not written in upper case.
    pub fn of(&self, method: &Method) -> Option<MethodIndex> {
        match *method {
            Method::GET => Some(MethodIndex::GET),
            Method::HEAD => Some(MethodIndex::HEAD),
            Method::POST => Some(MethodIndex::POST),
            _ => self.named(method.as_str()),
        }
    }

    /// The names in `set`, in the order of the registry.
    pub fn names_in(&self, set: MethodSet) -> impl Iterator<Item = &str> {
        self.names().zip(0_u8..).filter_map(move |(name, index)| set.contains(MethodIndex(index)).then_some(name))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        REGISTERED.into_iter().chain(self.configured.iter().map(AsRef::as_ref))
    }
}

impl MethodIndex {
    const GET: Self = Self(0);
    const HEAD: Self = Self(1);
    const POST: Self = Self(2);
}

impl MethodSet {
    /// None.
    pub(super) const NONE: Self = Self(0);
    /// All, configured ones included.
    pub(super) const ALL: Self = Self(u64::MAX);
    /// What a gRPC call uses.
    pub(super) const POST: Self = Self(1 << MethodIndex::POST.0);

    /// Whether `method` is one of these.
    pub fn contains(self, method: MethodIndex) -> bool {
        self.0 & (1 << method.0) != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn with(self, method: MethodIndex) -> Self {
        Self(self.0 | 1 << method.0)
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// Which methods a rule covers, and how closely it names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MethodCondition {
    /// What the rule lists; `None` = all.
    listed: Option<MethodSet>,
}

/// How closely a rule names a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Closeness {
    /// The rule lists no methods.
    Any,
    /// `HEAD`, because the rule lists `GET`.
    Implied,
    /// The rule lists it.
    Listed,
}

impl MethodCondition {
    pub(super) fn new(listed: Option<MethodSet>) -> Self {
        Self { listed }
    }

    pub(super) fn closeness(self, method: MethodIndex) -> Option<Closeness> {
        match self.listed {
            None => Some(Closeness::Any),
            Some(listed) if listed.contains(method) => Some(Closeness::Listed),
            Some(listed) if method == MethodIndex::HEAD && listed.contains(MethodIndex::GET) => {
                Some(Closeness::Implied)
            }
            Some(_) => None,
        }
    }

    /// Every method covered.
    pub(super) fn covered(self) -> MethodSet {
        match self.listed {
            None => MethodSet::ALL,
            Some(listed) if listed.contains(MethodIndex::GET) => listed.with(MethodIndex::HEAD),
            Some(listed) => listed,
        }
    }

    /// The methods that both name equally closely.
    pub(super) fn contested(self, other: Self) -> MethodSet {
        match (self.listed, other.listed) {
            (None, None) => MethodSet::ALL,
            (Some(a), Some(b)) => {
                let implied = |set: MethodSet| set.contains(MethodIndex::GET) && !set.contains(MethodIndex::HEAD);
                let both = a.and(b);
                if implied(a) && implied(b) { both.with(MethodIndex::HEAD) } else { both }
            }
            _ => MethodSet::NONE,
        }
    }
}

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
        if text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'))
            .is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok())
        {
            return Some(Self::Exact(text.into()));
        }
        let (name, below) = text.strip_prefix('*').map_or((text, false), |name| (name, true));
        let labels = if below { name.strip_prefix('.')? } else { name };
        let label = |label: &str| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if text.len() > 255 || !labels.split('.').all(label) {
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

/// One header that a rule wants to see.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HeaderCondition {
    /// As [`fold_header`] has it.
    name: Box<str>,
    expected: Expected,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Expected {
    /// Exactly these bytes.
    Value(Box<[u8]>),
    /// A content type of gRPC: `application/grpc`, `application/grpc+proto`.
    Grpc,
}

/// How the requests of two lists of header conditions relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// No request meets both.
    Disjoint,
    /// They are the same.
    Same,
    /// The first asks for all that the second does, and more.
    Narrower,
    /// The other way round.
    Wider,
    /// Some request meets both, and each asks for something that the other does not.
    Crossing,
}

/// Header names are one when they differ in case or in `-` and `_` only: many upstreams cannot tell them apart.
pub fn fold_header(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// The one value of the header that folds to `folded`.
///
/// # Errors
/// [`RepeatedHeader`] when there are several, under whatever spelling.
pub fn single_header<'h>(headers: &'h HeaderMap, folded: &str) -> Result<Option<&'h HeaderValue>, RepeatedHeader> {
    let same = |name: &HeaderName| {
        let name = name.as_str().as_bytes();
        let fold = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        name.len() == folded.len() && name.iter().map(fold).eq(folded.bytes())
    };
    let mut values = headers.iter().filter_map(|(name, value)| same(name).then_some(value));
    let first = values.next();
    if values.next().is_some() { Err(RepeatedHeader { name: folded.to_owned() }) } else { Ok(first) }
}

/// A header that was to have one value has several.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("header `{name}` is repeated")]
pub struct RepeatedHeader {
    /// The folded name.
    pub name: String,
}

impl HeaderCondition {
    /// `None` when `name` is no header name, or `value` could never be the value of one.
    pub(super) fn exact(name: &str, value: &str) -> Option<Self> {
        HeaderName::from_bytes(name.as_bytes()).ok()?;
        let visible = value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if !visible || value.trim() != value {
            return None;
        }
        Some(Self { name: fold_header(name).into(), expected: Expected::Value(value.as_bytes().into()) })
    }

    pub(super) fn grpc() -> Self {
        Self { name: "content-type".into(), expected: Expected::Grpc }
    }

    pub(super) fn is_grpc(&self) -> bool {
        self.expected == Expected::Grpc
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn holds(&self, headers: &HeaderMap) -> Result<bool, Denial> {
        match single_header(headers, &self.name) {
            Ok(value) => Ok(value.is_some_and(|value| self.expected.accepts(value.as_bytes()))),
            Err(repeated) => Err(Denial { reason: DenyReason::BadRequest, detail: Some(repeated.to_string().into()) }),
        }
    }

    fn relation(&self, other: &Self) -> Relation {
        match (&self.expected, &other.expected) {
            (a, b) if a == b => Relation::Same,
            (Expected::Value(value), Expected::Grpc) if other.expected.accepts(value) => Relation::Narrower,
            (Expected::Grpc, Expected::Value(value)) if self.expected.accepts(value) => Relation::Wider,
            _ => Relation::Disjoint,
        }
    }
}

impl Expected {
    fn accepts(&self, value: &[u8]) -> bool {
        match self {
            Self::Value(expected) => value == expected.as_ref(),
            Self::Grpc => {
                let media_type = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
                let kind = b"application/grpc";
                media_type.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind))
                    && matches!(media_type.get(kind.len()), None | Some(b'+'))
            }
        }
    }
}

/// Whether a request with `headers` meets all `conditions`.
///
/// # Errors
/// `bad_request` when a header in question is repeated.
pub(super) fn all_hold(conditions: &[HeaderCondition], headers: &HeaderMap) -> Result<bool, Denial> {
    for condition in conditions {
        if !condition.holds(headers)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How the requests that meet all of `a` relate to those that meet all of `b`; each names a header at most once.
pub(super) fn relation(a: &[HeaderCondition], b: &[HeaderCondition]) -> Relation {
    let mut narrower = false;
    let mut wider = false;
    for condition in a {
        match b.iter().find(|other| other.name == condition.name).map(|other| condition.relation(other)) {
            Some(Relation::Disjoint) => return Relation::Disjoint,
            Some(Relation::Same) => {}
            Some(Relation::Wider) => wider = true,
            Some(Relation::Narrower | Relation::Crossing) | None => narrower = true,
        }
    }
    wider |= b.iter().any(|other| a.iter().all(|condition| condition.name != other.name));
    match (narrower, wider) {
        (false, false) => Relation::Same,
        (true, false) => Relation::Narrower,
        (false, true) => Relation::Wider,
        (true, true) => Relation::Crossing,
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

    #[test]
    fn head_follows_get_unless_it_is_listed() {
        let methods = Methods::default();
        let set = |names: &[&str]| {
            let listed = names.iter().fold(MethodSet::NONE, |set, name| set.with(methods.named(name).unwrap()));
            MethodCondition::new(Some(listed))
        };
        assert_eq!(set(&["GET"]).closeness(MethodIndex::HEAD), Some(Closeness::Implied));
        assert_eq!(set(&["GET", "HEAD"]).closeness(MethodIndex::HEAD), Some(Closeness::Listed));
        assert_eq!(set(&["POST"]).closeness(MethodIndex::HEAD), None);
        assert_eq!(
            methods.names_in(set(&["GET"]).contested(set(&["GET", "PUT"]))).collect::<Vec<_>>(),
            ["GET", "HEAD"]
        );
        assert_eq!(methods.names_in(set(&["GET"]).contested(set(&["HEAD"]))).count(), 0);
        assert!(set(&["GET"]).contested(MethodCondition::new(None)).is_empty());
    }

    #[test]
    fn methods_are_upper_case_and_known() {
        let mut methods = Methods::default();
        assert!(methods.add("PURGE") && !methods.add("purge") && !methods.add("") && !methods.add("CONNECT"));
        assert!(methods.of(&Method::from_bytes(b"PURGE").unwrap()).is_some());
        assert_eq!(methods.of(&Method::from_bytes(b"get").unwrap()), None);
        assert_eq!(methods.of(&Method::CONNECT), None);
        assert_eq!(methods.of(&Method::from_bytes(b"BREW").unwrap()), None);
    }

    #[test]
    fn headers_are_folded_and_may_not_be_repeated() {
        let condition = HeaderCondition::exact("X_Api-Version", "2").unwrap();
        let mut headers = HeaderMap::new();
        assert_eq!(condition.holds(&headers), Ok(false));
        headers.append("x-api_version", HeaderValue::from_static("2"));
        assert_eq!(condition.holds(&headers), Ok(true));
        headers.append("x_api_version", HeaderValue::from_static("2"));
        assert_eq!(condition.holds(&headers).unwrap_err().reason, DenyReason::BadRequest);
        for (name, value) in [("a b", "c"), ("", "c"), ("a", " c"), ("a", "\n"), ("a", "é")] {
            assert_eq!(HeaderCondition::exact(name, value), None);
        }
    }

    #[test]
    fn grpc_is_a_content_type() {
        for (value, grpc) in [
            ("application/grpc", true),
            ("Application/GRPC+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpcx", false),
            ("text/plain", false),
        ] {
            assert_eq!(Expected::Grpc.accepts(value.as_bytes()), grpc, "{value}");
        }
    }

    #[test]
    fn lists_of_header_conditions_are_related_by_the_requests_they_meet() {
        let list = |text: &[(&str, &str)]| -> Vec<HeaderCondition> {
            text.iter().map(|(name, value)| HeaderCondition::exact(name, value).unwrap()).collect()
        };
        let (a, ab, b, a2) =
            (list(&[("a", "1")]), list(&[("a", "1"), ("b", "1")]), list(&[("b", "1")]), list(&[("a", "2")]));
        assert_eq!(relation(&a, &a), Relation::Same);
        assert_eq!(relation(&ab, &a), Relation::Narrower);
        assert_eq!(relation(&[], &a), Relation::Wider);
        assert_eq!(relation(&a, &b), Relation::Crossing);
        assert_eq!(relation(&a2, &ab), Relation::Disjoint);
        let (grpc, proto) = (vec![HeaderCondition::grpc()], list(&[("content-type", "application/grpc+proto")]));
        assert_eq!(relation(&proto, &grpc), Relation::Narrower);
        assert_eq!(relation(&grpc, &list(&[("content-type", "text/plain")])), Relation::Disjoint);
    }
}
