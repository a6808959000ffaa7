//! One value of a query string, read so strictly that every upstream reads the same.
//!
//! Pairs are separated by `&` only, and a `;` anywhere is refused, because some readers split there. Names are decoded and compared
//! without case; `+` is a space. A name that some reader would turn into the one asked for (`id[]`, `id[0]`, ` id`; `team.id` for
//! `team_id`) is refused, and so is whatever does not decode.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::fold::fold_case;

/// Why a query has no single value of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// No such name.
    #[error("missing")]
    Missing,
    /// Nothing behind the `=`.
    #[error("empty")]
    Empty,
    /// The name, or one that some readers take for it, more than once.
    #[error("repeated, or given under a name that can be taken for it")]
    Ambiguous,
    /// A `;`.
    #[error("query has a `;`, which some readers take for a separator")]
    Semicolon,
    /// A malformed escape, a control character in a name, text that is not UTF-8, or a value with bytes beyond ASCII that are not escaped.
    #[error("query does not decode")]
    Malformed,
}

/// The one value of `name` in `query`.
///
/// # Errors
/// [`QueryError`].
pub(super) fn single<'q>(query: &'q str, name: &str) -> Result<Cow<'q, str>, QueryError> {
    if query.contains(';') {
        return Err(QueryError::Semicolon);
    }
    let wanted = loose(name);
    let mut found = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (raw_name, raw_value) = pair.split_once('=').unwrap_or((pair, ""));
        let given = decode(raw_name)?;
        if given.chars().any(char::is_control) {
            return Err(QueryError::Malformed);
        }
        if loose(&given) != wanted {
            continue;
        }
        if found.is_some() || fold_case(&given) != fold_case(name) {
            return Err(QueryError::Ambiguous);
        }
        found = Some(raw_value);
    }
    let found = found.ok_or(QueryError::Missing)?;
    // Some read a byte beyond ASCII as Latin-1.
    if !found.is_ascii() {
        return Err(QueryError::Malformed);
    }
    let value = decode(found)?;
    if value.is_empty() { Err(QueryError::Empty) } else { Ok(value) }
}

/// What the most generous reader makes of a name: no case, no leading spaces, nothing from a bracket on, `.` and spaces as `_`.
fn loose(name: &str) -> String {
    let name = name.trim_start_matches(' ');
    let name = name.split_once('[').map_or(name, |(name, _)| name);
    fold_case(name).replace([' ', '.'], "_")
}

fn decode(raw: &str) -> Result<Cow<'_, str>, QueryError> {
    let mut parts = raw.split('%');
    parts.next();
    let escape = |part: &str| part.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    if !parts.all(escape) {
        return Err(QueryError::Malformed);
    }
    if !raw.contains('+') {
        return percent_decode(raw.as_bytes()).decode_utf8().map_err(|_| QueryError::Malformed);
    }
    let spaced = raw.replace('+', " ");
    let decoded = percent_decode(spaced.as_bytes()).decode_utf8().map_err(|_| QueryError::Malformed)?;
    Ok(Cow::Owned(decoded.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_however_its_name_is_written() {
        for query in ["id=a+b%21", "x=1&ID=a%20b%21&y", "i%64=a+b!", "&&id=a b!", "idx=1&id=a+b!"] {
            assert_eq!(single(query, "id").as_deref(), Ok("a b!"), "{query}");
        }
        assert_eq!(single("id=a=b", "id").as_deref(), Ok("a=b"));
        assert_eq!(single("x=\u{e9}&id=%C3%A9", "id").as_deref(), Ok("\u{e9}"));
    }

    #[test]
    fn whatever_two_readers_could_read_differently_is_refused() {
        use QueryError::{Ambiguous, Empty, Malformed, Missing, Semicolon};
        for (query, error) in [
            ("", Missing),
            ("x=1", Missing),
            ("id", Empty),
            ("id=", Empty),
            ("id=1&id=1", Ambiguous),
            ("id=1&ID=2", Ambiguous),
            ("id=1&%69d=2", Ambiguous),
            ("id[]=1", Ambiguous),
            ("id=1&id[]=2", Ambiguous),
            ("id=1&id%5B0%5D=2", Ambiguous),
            ("id=1&id[=2", Ambiguous),
            ("id=1&+id=2", Ambiguous),
            ("%20id=2", Ambiguous),
            ("id=1&\u{131}d=2", Ambiguous),
            ("id=1;id=2", Semicolon),
            ("x=;&id=1", Semicolon),
            ("id=%", Malformed),
            ("id=%4", Malformed),
            ("id=%zz", Malformed),
            ("id=%+4", Malformed),
            ("id=%ff", Malformed),
            ("id=\u{e9}", Malformed),
            ("id=1&x=\u{e9}&id[]=\u{e9}", Ambiguous),
            ("%zz=1&id=1", Malformed),
            ("id%00=1&id=2", Malformed),
            ("id=1&%ff=1", Malformed),
        ] {
            assert_eq!(single(query, "id"), Err(error), "{query}");
        }
        assert_eq!(single("team_id=1&team.id=2", "team_id"), Err(Ambiguous));
        assert_eq!(single("team%20id=2", "team_id"), Err(Ambiguous));
    }
}
