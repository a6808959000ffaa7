//! Path patterns: what the `path` of a route says.

use std::fmt;

use super::path::{BadPath, CanonicalPath};

/// A path as a route writes it: literal segments, `{name}` for one segment, `{name...}` for one or more at the end.
///
/// A slash at the end is distinct: `/a/` and `/a` are two patterns. `{name...}` takes at least one segment, so `/a/{rest...}` covers
/// neither `/a` nor `/a/`; a trailing slash of the request belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    segments: Box<[Segment]>,
    trailing_slash: bool,
}

/// One part of a [`PathPattern`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// This text, once decoded.
    Literal(Box<str>),
    /// Any one segment, by name.
    Capture(Box<str>),
    /// One or more segments, by name. The last of a pattern only.
    Rest(Box<str>),
}

/// Where a capture's text stands in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capture {
    /// The number of the segment, from 0.
    pub segment: usize,
    /// Whether it goes on to the end of the path.
    pub rest: bool,
}

/// Why a text is not a path pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Not beginning with `/`.
    #[error("path `{text}` does not begin with `/`")]
    NotAbsolute {
        /// What was given.
        text: String,
    },
    /// No request could ever have this segment.
    #[error("segment `{segment}` can never match: {bad}")]
    Literal {
        /// The segment.
        segment: String,
        /// What a request with it would be refused for.
        bad: BadPath,
    },
    /// Braces within a segment.
    #[error("segment `{segment}` mixes text and braces; a capture is a whole segment, such as `{{name}}`")]
    Braces {
        /// The segment.
        segment: String,
    },
    /// A star where other products have wildcards.
    #[error("segment `{segment}` is no wildcard here; write `{{name}}` for one segment or `{{name...}}` for the rest")]
    Star {
        /// The segment.
        segment: String,
    },
    /// A capture without a proper name.
    #[error("capture `{{{name}}}` needs a name of letters, digits and `_`, beginning with a letter")]
    Name {
        /// What stands between the braces.
        name: String,
    },
    /// Two captures of one name.
    #[error("capture `{name}` stands twice in the path")]
    Repeated {
        /// The name.
        name: String,
    },
    /// More segments than [`PathPattern::MOST_SEGMENTS`].
    #[error("path has more than {} segments", PathPattern::MOST_SEGMENTS)]
    TooLong,
    /// Something after `{name...}`.
    #[error("`{{{name}...}}` takes the rest of the path and has to be its last segment")]
    NotLast {
        /// The name.
        name: String,
    },
}

impl PathPattern {
    /// The most segments a pattern may have.
    pub const MOST_SEGMENTS: usize = 64;

    /// Parses the `path` of a route. Literals may be written decoded or percent-encoded; they are compared decoded.
    ///
    /// # Errors
    /// [`PatternError`] when it could never match, or says something that patterns cannot say.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let Some(inner) = text.strip_prefix('/') else {
            return Err(PatternError::NotAbsolute { text: text.to_owned() });
        };
        let (inner, trailing_slash) = inner.strip_suffix('/').map_or((inner, false), |inner| (inner, true));
        let mut segments: Vec<Segment> = Vec::new();
        if !inner.is_empty() || trailing_slash {
            for text in inner.split('/') {
                if let Some(Segment::Rest(name)) = segments.last() {
                    return Err(PatternError::NotLast { name: name.to_string() });
                }
                let segment = Segment::parse(text)?;
                if let Some(name) =
                    segment.name().filter(|name| segments.iter().any(|other| other.name() == Some(name)))
                {
                    return Err(PatternError::Repeated { name: name.to_owned() });
                }
                segments.push(segment);
                if segments.len() > Self::MOST_SEGMENTS {
                    return Err(PatternError::TooLong);
                }
            }
        }
        if let (Some(Segment::Rest(name)), true) = (segments.last(), trailing_slash) {
            return Err(PatternError::NotLast { name: name.to_string() });
        }
        Ok(Self { segments: segments.into(), trailing_slash })
    }

    /// The pattern of a gRPC method, or of all methods of a service: `package.Service/Method`, `package.Service/*`.
    pub(super) fn grpc(text: &str) -> Option<Self> {
        let (service, method) = text.split_once('/')?;
        let name =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !service.split('.').all(name) {
            return None;
        }
        let method = match method {
            "*" => Segment::Capture("method".into()),
            method if name(method) => Segment::Literal(method.into()),
            _ => return None,
        };
        Some(Self { segments: [Segment::Literal(service.into()), method].into(), trailing_slash: false })
    }

    /// The parts in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether it ends in a slash; not so for `/`.
    pub fn trailing_slash(&self) -> bool {
        self.trailing_slash
    }

    /// Where the text of the capture `name` stands.
    pub fn capture(&self, name: &str) -> Option<Capture> {
        let segment = self.segments.iter().position(|segment| segment.name() == Some(name))?;
        Some(Capture { segment, rest: matches!(self.segments.get(segment), Some(Segment::Rest(_))) })
    }

    /// The names of all captures, in order.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(Segment::name)
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, PatternError> {
        if let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            let (name, rest) = name.strip_suffix("...").map_or((name, false), |name| (name, true));
            let letter = name.starts_with(|first: char| first.is_ascii_alphabetic());
            if !letter || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return Err(PatternError::Name { name: name.to_owned() });
            }
            return Ok(if rest { Self::Rest(name.into()) } else { Self::Capture(name.into()) });
        }
        if text.contains(['{', '}']) {
            return Err(PatternError::Braces { segment: text.to_owned() });
        }
        if matches!(text, "*" | "**") {
            return Err(PatternError::Star { segment: text.to_owned() });
        }
        Self::literal(text).map_err(|bad| PatternError::Literal { segment: text.to_owned(), bad })
    }

    /// What a request has to contain to match `text` is what its canonical path would decode to.
    fn literal(text: &str) -> Result<Self, BadPath> {
        if text.is_empty() {
            return Err(BadPath::EmptySegment);
        }
        let mut raw = String::with_capacity(text.len() + 1);
        raw.push('/');
        for character in text.chars() {
            if character.is_ascii_graphic()
                && !matches!(character, '"' | '<' | '>' | '[' | ']' | '^' | '`' | '|' | '?' | '#')
            {
                raw.push(character);
            } else {
                let mut buffer = [0; 4];
                let encoded = character.encode_utf8(&mut buffer).as_bytes();
                raw.extend(percent_encoding::percent_encode(encoded, percent_encoding::NON_ALPHANUMERIC));
            }
        }
        let path = CanonicalPath::parse(raw.as_bytes())?;
        Ok(Self::Literal(path.decoded(0).into()))
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Literal(_) => None,
            Self::Capture(name) | Self::Rest(name) => Some(name),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(f, "/{text}")?,
                Segment::Capture(name) => write!(f, "/{{{name}}}")?,
                Segment::Rest(name) => write!(f, "/{{{name}...}}")?,
            }
        }
        f.write_str(if self.trailing_slash || self.segments.is_empty() { "/" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_and_written_back() {
        for text in ["/", "/a", "/a/", "/a/{b}/c", "/a/{rest...}", "/{x}/", "/a.b-c/~d", "/.+[a-z]*(x)?/é"] {
            assert_eq!(PathPattern::parse(text).unwrap().to_string(), text);
        }
        let pattern = PathPattern::parse("/a/{b}/{c...}").unwrap();
        assert_eq!(pattern.capture("b"), Some(Capture { segment: 1, rest: false }));
        assert_eq!(pattern.capture("c"), Some(Capture { segment: 2, rest: true }));
        assert_eq!(pattern.capture("d"), None);
    }

    #[test]
    fn literals_are_kept_decoded() {
        assert_eq!(PathPattern::parse("/a%3ab/%7e"), PathPattern::parse("/a:b/~"));
        assert_eq!(PathPattern::parse("/a%20b"), PathPattern::parse("/a b"));
    }

    #[test]
    fn what_patterns_cannot_say_is_refused_with_the_reason() {
        for (text, reason) in [
            ("a", "path `a` does not begin with `/`"),
            ("", "path `` does not begin with `/`"),
            ("/a//b", "segment `` can never match: path has an empty segment"),
            ("//", "segment `` can never match: path has an empty segment"),
            ("/a/../b", "segment `..` can never match: path has a dot segment"),
            ("/a;b", "segment `a;b` can never match: path has a semicolon"),
            ("/a%2fb", "segment `a%2fb` can never match: path has an encoded slash"),
            ("/a%2541", "segment `a%2541` can never match: path has an escape of an escape"),
            ("/100%", "segment `100%` can never match: path has a malformed escape"),
            ("/a\\b", "segment `a\\b` can never match: path has a backslash"),
            ("/a/*", "segment `*` is no wildcard here; write `{name}` for one segment or `{name...}` for the rest"),
            ("/a-{b}", "segment `a-{b}` mixes text and braces; a capture is a whole segment, such as `{name}`"),
            ("/{}", "capture `{}` needs a name of letters, digits and `_`, beginning with a letter"),
            ("/{a.b}", "capture `{a.b}` needs a name of letters, digits and `_`, beginning with a letter"),
            ("/{a}/{a}", "capture `a` stands twice in the path"),
            ("/{a...}/b", "`{a...}` takes the rest of the path and has to be its last segment"),
            ("/{a...}/", "`{a...}` takes the rest of the path and has to be its last segment"),
        ] {
            assert_eq!(PathPattern::parse(text).unwrap_err().to_string(), reason, "{text}");
        }
        assert!(PathPattern::parse(&"/a".repeat(64)).is_ok());
        assert_eq!(PathPattern::parse(&"/a".repeat(65)), Err(PatternError::TooLong));
    }

    #[test]
    fn grpc_methods_are_paths() {
        assert_eq!(PathPattern::grpc("a.b.Svc/Get").unwrap().to_string(), "/a.b.Svc/Get");
        assert_eq!(PathPattern::grpc("Svc/*").unwrap().to_string(), "/Svc/{method}");
        for bad in ["Svc", "/Svc/Get", "a..b/Get", "Svc/", "Svc/Get/x", "*/Get", "Svc/G*", "Svc/{x}"] {
            assert_eq!(PathPattern::grpc(bad), None, "{bad}");
        }
    }
}
