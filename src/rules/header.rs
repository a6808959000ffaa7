//! Headers: one name under many spellings, and the values that a rule wants to see.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::{Denial, DenyReason};

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

/// A byte of a header name as careless upstreams read it: CGI and WSGI cannot tell `_` from `-` nor upper case from lower, PHP takes `.`
/// for `_`, some gateways take whatever is no letter and no digit for it.
pub fn fold_byte(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

/// A header name with every byte folded ([`fold_byte`]): two that fold to the same are one.
pub fn fold_header(name: &str) -> String {
    name.bytes().map(fold_byte).map(char::from).collect()
}

/// The one value of the header that folds to `folded`.
///
/// # Errors
/// [`RepeatedHeader`] when there are several, under whatever spelling.
pub fn single_header<'h>(headers: &'h HeaderMap, folded: &str) -> Result<Option<&'h HeaderValue>, RepeatedHeader> {
    let same = |name: &HeaderName| {
        let name = name.as_str().as_bytes();
        name.len() == folded.len() && name.iter().copied().map(fold_byte).eq(folded.bytes())
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

/// A number that is greater for conditions that are narrower than others ([`Relation::Narrower`]).
pub(super) fn weight(conditions: &[HeaderCondition]) -> usize {
    conditions.iter().map(|condition| if condition.is_grpc() { 1 } else { 2 }).sum()
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
    fn headers_are_folded_and_may_not_be_repeated() {
        let condition = HeaderCondition::exact("X_Api-Version", "2").unwrap();
        let mut headers = HeaderMap::new();
        assert_eq!(condition.holds(&headers), Ok(false));
        headers.append("x-api_version", HeaderValue::from_static("2"));
        assert_eq!(condition.holds(&headers), Ok(true));
        headers.append("x_api.version", HeaderValue::from_static("2"));
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
