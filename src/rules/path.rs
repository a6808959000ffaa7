//! The one canonical form of a request's path: what is matched is what is forwarded.
//!
//! RFC 3986 §6.2.2: percent-encoded unreserved characters are decoded, the hexadecimal digits of all other escapes are upper-case.
//! Nothing else is changed. Whatever two readers could take for two different paths is refused, never repaired: dot segments, empty
//! segments, encoded slashes and backslashes, path parameters (`;`), control characters, escapes of escapes, text that is not UTF-8.

use std::borrow::Cow;
use std::ops::Range;

use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

use crate::domain::{Denial, DenyReason};

/// The most bytes a path may have; a longer one is answered 414.
pub const MAX_PATH_BYTES: usize = 8 * 1024;

/// A path in canonical form, cut into segments. ASCII; begins with `/`; no empty segments but a last one (the trailing slash).
///
/// Borrowed from the request when that was canonical already, which is the common case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanonicalPath<'p> {
    text: Cow<'p, str>,
    /// Where each non-empty segment ends in `text`. INVARIANT: ascending, within `text`, and one byte `/` stands between two segments.
    ends: SmallVec<[u16; 12]>,
    encoded_slash: bool,
}

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// Not beginning with `/`: `*`, an authority, nothing at all.
    #[error("path does not begin with `/`")]
    NotAbsolute,
    /// More than [`MAX_PATH_BYTES`].
    #[error("path has more than {MAX_PATH_BYTES} bytes")]
    TooLong,
    /// `//`.
    #[error("path has an empty segment")]
    EmptySegment,
    /// `.` or `..`, in any encoding.
    #[error("path has a dot segment")]
    DotSegment,
    /// `\` or `%5C`.
    #[error("path has a backslash")]
    Backslash,
    /// `%2F` where the route does not allow it.
    #[error("path has an encoded slash")]
    EncodedSlash,
    /// `;` or `%3B`.
    #[error("path has a semicolon")]
    Semicolon,
    /// A byte below 0x20 or 0x7F, raw or encoded.
    #[error("path has a control character")]
    Control,
    /// `%` without two hexadecimal digits.
    #[error("path has a malformed escape")]
    MalformedEscape,
    /// `%25` before two hexadecimal digits: an escape of an escape.
    #[error("path has an escape of an escape")]
    DoubleEncoding,
    /// Decodes to something that is not UTF-8.
    #[error("path does not decode to UTF-8")]
    NotUtf8,
    /// A raw byte that may not stand in a path (RFC 3986 §3.3): a space, a quote, a fragment, a byte beyond ASCII.
    #[error("path has a byte 0x{0:02X} that has to be percent-encoded")]
    Byte(u8),
    /// The upstream reads this path as another one, for which another rule stands.
    #[error("path is read by the upstream as one that another route covers")]
    Equivalent,
}

impl From<BadPath> for Denial {
    fn from(bad: BadPath) -> Self {
        let reason = if bad == BadPath::TooLong { DenyReason::TargetTooLong } else { DenyReason::BadPath };
        Self { reason, detail: Some(bad.to_string().into()) }
    }
}

/// Cuts a request target in origin form into path and query; the query takes no part in matching and is forwarded as it came.
pub fn split_target(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

impl<'p> CanonicalPath<'p> {
    /// Brings `raw`, a path without query, to canonical form; an encoded slash is refused.
    ///
    /// # Errors
    /// [`BadPath`] for whatever could be read in two ways.
    pub fn parse(raw: &'p [u8]) -> Result<Self, BadPath> {
        let path = Self::parse_with_encoded_slashes(raw)?;
        if path.encoded_slash { Err(BadPath::EncodedSlash) } else { Ok(path) }
    }

    /// As [`Self::parse`], but `%2F` may stand in a segment, undecoded: for routes that say `encoded_slash: allow`.
    ///
    /// # Errors
    /// [`BadPath`] for whatever else could be read in two ways; a dot segment between encoded slashes is one.
    pub fn parse_with_encoded_slashes(raw: &'p [u8]) -> Result<Self, BadPath> {
        if raw.len() > MAX_PATH_BYTES {
            return Err(BadPath::TooLong);
        }
        let Some((b'/', rest)) = raw.split_first() else { return Err(BadPath::NotAbsolute) };
        let mut ends = SmallVec::new();
        let mut start = 1;
        for (byte, position) in rest.iter().zip(1_u16..) {
            match class(*byte) {
                Class::Plain => {}
                Class::Slash => {
                    end_segment(raw, start, position, &mut ends)?;
                    start = position + 1;
                }
                Class::Percent => return Canonicalizer::new(raw).run(),
                Class::Refused(bad) => return Err(bad),
            }
        }
        // INVARIANT: at most MAX_PATH_BYTES, which fits.
        let length = u16::try_from(raw.len()).map_err(|_| BadPath::TooLong)?;
        if start < length {
            end_segment(raw, start, length, &mut ends)?;
        }
        let text = str::from_utf8(raw).map_err(|_| BadPath::NotUtf8)?;
        Ok(Self { text: Cow::Borrowed(text), ends, encoded_slash: false })
    }

    /// The canonical text: what is forwarded.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How many segments there are, a trailing slash not counted; `/` has none.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether this is `/`.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether a slash follows the last segment. Not so for `/`.
    pub fn trailing_slash(&self) -> bool {
        self.ends.last().is_some_and(|end| usize::from(*end) < self.text.len())
    }

    /// Whether `%2F` stands in a segment.
    pub fn encoded_slash(&self) -> bool {
        self.encoded_slash
    }

    /// Segment number `index` as it stands in the canonical text; empty beyond the last.
    pub fn segment(&self, index: usize) -> &str {
        let range = self.ends.get(index).map(|end| self.start(index)..usize::from(*end));
        range.and_then(|range| self.slice(range)).unwrap_or_default()
    }

    /// Segment number `index`, decoded once.
    pub fn decoded(&self, index: usize) -> Cow<'_, str> {
        decode(self.segment(index))
    }

    /// Everything from segment `index` to the end, a trailing slash included, decoded once; empty beyond the last.
    pub fn rest(&self, index: usize) -> Cow<'_, str> {
        decode(self.slice(self.start(index)..self.text.len()).unwrap_or_default())
    }

    /// The segments as they stand in the canonical text.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|index| self.segment(index))
    }

    fn start(&self, index: usize) -> usize {
        let before = index.checked_sub(1).and_then(|before| self.ends.get(before));
        before.map_or(1, |end| usize::from(*end) + 1)
    }

    fn slice(&self, range: Range<usize>) -> Option<&str> {
        self.text.get(range)
    }
}

/// Decodes what [`CanonicalPath`] has found to decode to UTF-8.
fn decode(text: &str) -> Cow<'_, str> {
    if memchr::memchr(b'%', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    percent_decode_str(text).decode_utf8_lossy()
}

/// Notes the segment `start..end` of a text without escapes.
fn end_segment(raw: &[u8], start: u16, end: u16, ends: &mut SmallVec<[u16; 12]>) -> Result<(), BadPath> {
    match raw.get(usize::from(start)..usize::from(end)) {
        None | Some([]) => Err(BadPath::EmptySegment),
        Some([b'.'] | [b'.', b'.']) => Err(BadPath::DotSegment),
        Some(_) => {
            ends.push(end);
            Ok(())
        }
    }
}

/// What a raw byte of a path is.
#[derive(Clone, Copy)]
enum Class {
    Plain,
    Slash,
    Percent,
    Refused(BadPath),
}

/// RFC 3986 §3.3: `pchar` without `;`, and what is not.
static CLASSES: [Class; 256] = {
    let mut classes = [Class::Plain; 256];
    let mut index = 0_u8;
    loop {
        #[expect(clippy::indexing_slicing, reason = "a table of 256 indexed by a byte, at compile time")]
        {
            classes[index as usize] = match index {
                b'/' => Class::Slash,
                b'%' => Class::Percent,
                b';' => Class::Refused(BadPath::Semicolon),
                b'\\' => Class::Refused(BadPath::Backslash),
                0..=0x1F | 0x7F => Class::Refused(BadPath::Control),
                b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' => Class::Plain,
                _ if is_unreserved(index) => Class::Plain,
                _ => Class::Refused(BadPath::Byte(index)),
            };
        }
        if index == u8::MAX {
            break;
        }
        index += 1;
    }
    classes
};

fn class(byte: u8) -> Class {
    #[expect(clippy::indexing_slicing, reason = "a table of 256 indexed by a byte, for every byte of every path")]
    CLASSES[usize::from(byte)]
}

/// RFC 3986 §2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The slower way, for paths with escapes: looks at every segment both as it stands and decoded.
struct Canonicalizer<'p> {
    raw: &'p [u8],
    /// The canonical text so far, once it differs from the raw one.
    changed: Option<Vec<u8>>,
    ends: SmallVec<[u16; 12]>,
    /// The current segment, decoded once.
    decoded: SmallVec<[u8; 64]>,
    encoded_slash: bool,
}

impl<'p> Canonicalizer<'p> {
    fn new(raw: &'p [u8]) -> Self {
        Self { raw, changed: None, ends: SmallVec::new(), decoded: SmallVec::new(), encoded_slash: false }
    }

    fn run(mut self) -> Result<CanonicalPath<'p>, BadPath> {
        let mut position = 1;
        while let Some(&byte) = self.raw.get(position) {
            match class(byte) {
                Class::Plain => {
                    self.decoded.push(byte);
                    self.keep(&[byte]);
                    position += 1;
                }
                Class::Slash => {
                    self.end_segment(position)?;
                    self.keep(b"/");
                    position += 1;
                }
                Class::Percent => {
                    self.escape(position)?;
                    position += 3;
                }
                Class::Refused(bad) => return Err(bad),
            }
        }
        if !self.decoded.is_empty() {
            self.end_segment(position)?;
        }
        let text = match self.changed {
            None => Cow::Borrowed(str::from_utf8(self.raw).map_err(|_| BadPath::NotUtf8)?),
            Some(text) => Cow::Owned(String::from_utf8(text).map_err(|_| BadPath::NotUtf8)?),
        };
        Ok(CanonicalPath { text, ends: self.ends, encoded_slash: self.encoded_slash })
    }

    /// Adds what stands in the raw text.
    fn keep(&mut self, bytes: &[u8]) {
        if let Some(text) = &mut self.changed {
            text.extend_from_slice(bytes);
        }
    }

    /// Adds `bytes` in place of what stands at `position` of the raw text.
    fn replace(&mut self, position: usize, bytes: &[u8]) {
        let raw = self.raw;
        let text = self.changed.get_or_insert_with(|| {
            let mut text = Vec::with_capacity(raw.len());
            text.extend_from_slice(raw.get(..position).unwrap_or_default());
            text
        });
        text.extend_from_slice(bytes);
    }

    fn escape(&mut self, position: usize) -> Result<(), BadPath> {
        let Some(&[_, high, low]) = self.raw.get(position..position + 3) else { return Err(BadPath::MalformedEscape) };
        let byte = match (hexadecimal(high), hexadecimal(low)) {
            (Some(high), Some(low)) => high << 4 | low,
            _ => return Err(BadPath::MalformedEscape),
        };
        match byte {
            0..=0x1F | 0x7F => return Err(BadPath::Control),
            b'\\' => return Err(BadPath::Backslash),
            b';' => return Err(BadPath::Semicolon),
            b'/' => self.encoded_slash = true,
            _ => {}
        }
        self.decoded.push(byte);
        if is_unreserved(byte) {
            self.replace(position, &[byte]);
        } else if high.is_ascii_lowercase() || low.is_ascii_lowercase() {
            self.replace(position, &[b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]);
        } else {
            self.keep(&[b'%', high, low]);
        }
        Ok(())
    }

    /// Judges the decoded segment; `position` is where it ends in the raw text.
    fn end_segment(&mut self, position: usize) -> Result<(), BadPath> {
        if self.decoded.is_empty() {
            return Err(BadPath::EmptySegment);
        }
        if str::from_utf8(&self.decoded).is_err() {
            return Err(BadPath::NotUtf8);
        }
        let escape = |window: &[u8]| matches!(window, [b'%', a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
        if self.decoded.windows(3).any(escape) {
            return Err(BadPath::DoubleEncoding);
        }
        // A reader that decodes before it splits sees these as ends of a segment, of the path or of the target.
        if self.decoded.split(|byte| matches!(byte, b'/' | b'?' | b'#')).any(|part| matches!(part, b"." | b"..")) {
            return Err(BadPath::DotSegment);
        }
        let end = self.changed.as_ref().map_or(position, Vec::len);
        self.ends.push(u16::try_from(end).map_err(|_| BadPath::TooLong)?);
        self.decoded.clear();
        Ok(())
    }
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(raw: &str) -> Result<String, BadPath> {
        CanonicalPath::parse(raw.as_bytes()).map(|path| path.as_str().to_owned())
    }

    #[test]
    fn a_canonical_path_is_borrowed() {
        for raw in ["/", "/a", "/a/", "/a/b.c/~d_e-f", "/a%20b/%C3%A9", "/a:b@c/!$&'()*+,=", "/..a/.b/c.../%25zz"] {
            let path = CanonicalPath::parse(raw.as_bytes()).unwrap();
            assert!(matches!(path.text, Cow::Borrowed(_)), "{raw}");
            assert_eq!(path.as_str(), raw);
        }
    }

    #[test]
    fn unreserved_characters_are_decoded_and_digits_are_upper_case() {
        assert_eq!(canonical("/%61%2Db%7e/x%2e%5Fy/%3a"), Ok("/a-b~/x._y/%3A".to_owned()));
        assert_eq!(canonical("/a/%c3%a9/b"), Ok("/a/%C3%A9/b".to_owned()));
    }

    #[test]
    fn segments_are_cut_in_the_canonical_text() {
        let path = CanonicalPath::parse(b"/%61/b%3ac/d%20e/").unwrap();
        assert_eq!(path.segments().collect::<Vec<_>>(), ["a", "b%3Ac", "d%20e"]);
        assert_eq!((path.decoded(1), path.rest(1), path.segment(3)), ("b:c".into(), "b:c/d e/".into(), ""));
        assert!(path.trailing_slash() && !path.is_empty());
        let root = CanonicalPath::parse(b"/").unwrap();
        assert!(root.is_empty() && !root.trailing_slash() && root.rest(0).is_empty());
    }

    #[test]
    fn an_encoded_slash_stays_in_its_segment_where_it_is_allowed() {
        assert_eq!(canonical("/a%2fb/c"), Err(BadPath::EncodedSlash));
        let path = CanonicalPath::parse_with_encoded_slashes(b"/a%2fb/c").unwrap();
        assert_eq!((path.as_str(), path.decoded(0), path.len()), ("/a%2Fb/c", "a/b".into(), 2));
        assert!(path.encoded_slash());
        for raw in ["/a%2f..", "/..%2Fa", "/a%2f%2e%2e%2fb", "/a%2f."] {
            assert_eq!(CanonicalPath::parse_with_encoded_slashes(raw.as_bytes()), Err(BadPath::DotSegment), "{raw}");
        }
    }

    #[test]
    fn length_is_bounded() {
        let longest = format!("/{}", "a".repeat(MAX_PATH_BYTES - 1));
        assert!(canonical(&longest).is_ok());
        assert_eq!(canonical(&format!("{longest}a")), Err(BadPath::TooLong));
        assert_eq!(Denial::from(BadPath::TooLong).reason, DenyReason::TargetTooLong);
        assert_eq!(Denial::from(BadPath::Control).reason, DenyReason::BadPath);
    }

    #[test]
    fn the_query_is_no_part_of_the_path() {
        assert_eq!(split_target("/private?x=/public?y"), ("/private", Some("x=/public?y")));
        assert_eq!(split_target("/a"), ("/a", None));
    }
}
