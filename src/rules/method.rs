//! Which methods there are, and which a rule covers.

use http::Method;

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

    /// Whether this lists methods and `other` does not, so that this wins whatever the headers are.
    pub(super) fn is_closer_than(self, other: Self) -> bool {
        self.listed.is_some() && other.listed.is_none()
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
