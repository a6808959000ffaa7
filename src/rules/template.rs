//! Values of a request, as a route names them: `{path.project}`, `{body:/target/project}`, with text around them.

use std::fmt;

use super::header::fold_header;
use super::pattern::{Capture, PathPattern};

/// Text with values of the request in it. Never empty.
#[derive(Debug, Clone)]
pub struct Template {
    pub(super) parts: Box<[Part]>,
}

/// A part of a [`Template`].
#[derive(Debug, Clone)]
pub(super) enum Part {
    Literal(Box<str>),
    Value(Value),
}

/// One value of the request.
#[derive(Debug, Clone)]
pub(super) struct Value {
    /// As the route writes it, for messages: `path.project`.
    pub(super) name: Box<str>,
    pub(super) source: Source,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Path(Capture),
    /// The name, decoded.
    Query(Box<str>),
    /// The folded name.
    Header(Box<str>),
    /// The number of the pointer among those of the route.
    Body(usize),
    Claim(Box<str>),
}

/// A JSON pointer (RFC 6901) to something inside a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    /// The reference tokens, unescaped. At least one.
    pub(super) tokens: Box<[Box<str>]>,
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Nothing there.
    #[error("the value is empty")]
    Empty,
    /// A brace without its partner.
    #[error("`{text}` has an unbalanced brace")]
    Unbalanced {
        /// What was given.
        text: String,
    },
    /// Not one of the five sources.
    #[error(
        "`{{{name}}}` is not a value of a request, expected `{{path.name}}`, `{{query.name}}`, `{{header.name}}`, \
         `{{body:/json/pointer}}` or `{{claim.name}}`"
    )]
    Source {
        /// What stands between the braces.
        name: String,
    },
    /// The path has no such capture.
    #[error("the path has no capture `{name}`, {}", Captures(.known))]
    Capture {
        /// The name.
        name: String,
        /// What it has.
        known: Vec<String>,
    },
    /// Not a JSON pointer, or one to the whole document, or deeper than a body may be.
    #[error("`{text}` is not a JSON pointer such as `/target/project`, at most {} levels deep", Pointer::MOST_TOKENS)]
    Pointer {
        /// What was given.
        text: String,
    },
}

struct Captures<'a>(&'a [String]);

impl fmt::Display for Captures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("it has none"),
            names => write!(f, "it has `{}`", names.join("`, `")),
        }
    }
}

impl Template {
    /// Parses `text` for a route with `pattern`; pointers into the body are added to `pointers`.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub(super) fn parse(text: &str, pattern: &PathPattern, pointers: &mut Vec<Pointer>) -> Result<Self, TemplateError> {
        let unbalanced = || TemplateError::Unbalanced { text: text.to_owned() };
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (literal, value) = rest.split_once('{').map_or((rest, None), |(literal, value)| (literal, Some(value)));
            if literal.contains('}') {
                return Err(unbalanced());
            }
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.into()));
            }
            let Some(value) = value else { break };
            let (name, after) = value.split_once('}').ok_or_else(unbalanced)?;
            parts.push(Part::Value(Value { name: name.into(), source: Source::parse(name, pattern, pointers)? }));
            rest = after;
        }
        if parts.is_empty() { Err(TemplateError::Empty) } else { Ok(Self { parts: parts.into() }) }
    }

    /// Whether the body has to be read first.
    pub(super) fn needs_body(&self) -> bool {
        self.sources().any(|source| matches!(source, Source::Body(_)))
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = &Source> {
        self.parts.iter().filter_map(|part| if let Part::Value(value) = part { Some(&value.source) } else { None })
    }

    /// Whether both mean the same value of the same request. Captures are the same when they stand at the same place.
    pub(super) fn same(&self, other: &Self) -> bool {
        let same = |(a, b): (&Part, &Part)| match (a, b) {
            (Part::Literal(a), Part::Literal(b)) => a == b,
            (Part::Value(a), Part::Value(b)) => match (&a.source, &b.source) {
                (Source::Body(_), Source::Body(_)) => a.name == b.name,
                (a, b) => a == b,
            },
            _ => false,
        };
        self.parts.len() == other.parts.len() && self.parts.iter().zip(&other.parts).all(same)
    }
}

impl Source {
    fn parse(name: &str, pattern: &PathPattern, pointers: &mut Vec<Pointer>) -> Result<Self, TemplateError> {
        let unknown = || TemplateError::Source { name: name.to_owned() };
        if let Some(text) = name.strip_prefix("body:") {
            let pointer = Pointer::parse(text).ok_or_else(|| TemplateError::Pointer { text: text.to_owned() })?;
            let known = pointers.iter().position(|other| *other == pointer);
            return Ok(Self::Body(known.unwrap_or_else(|| {
                pointers.push(pointer);
                pointers.len() - 1
            })));
        }
        let (kind, name) = name.split_once('.').filter(|(_, name)| !name.is_empty()).ok_or_else(unknown)?;
        match kind {
            "path" => pattern.capture(name).map(Self::Path).ok_or_else(|| TemplateError::Capture {
                name: name.to_owned(),
                known: pattern.captures().map(str::to_owned).collect(),
            }),
            "query" => Ok(Self::Query(name.into())),
            "header" if http::HeaderName::from_bytes(name.as_bytes()).is_ok() => {
                Ok(Self::Header(fold_header(name).into()))
            }
            "claim" => Ok(Self::Claim(name.into())),
            _ => Err(unknown()),
        }
    }
}

impl Pointer {
    /// As deep as a body may be nested, see `body.rs`.
    pub const MOST_TOKENS: usize = 32;

    fn parse(text: &str) -> Option<Self> {
        let token = |text: &str| {
            let escapes = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
            escapes.then(|| text.replace("~1", "/").replace("~0", "~").into_boxed_str())
        };
        let tokens: Option<Box<[_]>> = text.strip_prefix('/')?.split('/').map(token).collect();
        tokens.filter(|tokens| tokens.len() <= Self::MOST_TOKENS).map(|tokens| Self { tokens })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Literal(text) => f.write_str(text),
            Part::Value(value) => write!(f, "{{{}}}", value.name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Template, TemplateError> {
        Template::parse(text, &PathPattern::parse("/a/{b}/{c...}").unwrap(), &mut Vec::new())
    }

    #[test]
    fn templates_are_read_and_written_back() {
        for text in
            ["{path.b}", "x-{path.c}-{query.q}", "{header.X-Team}", "{body:/a~1b/0}", "{claim.https://x/y.z}", "text"]
        {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert!(parse("{body:/a}").unwrap().needs_body() && !parse("{path.b}").unwrap().needs_body());
    }

    #[test]
    fn what_names_no_value_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "the value is empty"),
            ("{path.b", "`{path.b` has an unbalanced brace"),
            ("path.b}", "`path.b}` has an unbalanced brace"),
            ("{path.x}", "the path has no capture `x`, it has `b`, `c`"),
            ("{body:a}", "`a` is not a JSON pointer such as `/target/project`, at most 32 levels deep"),
            ("{body:}", "`` is not a JSON pointer such as `/target/project`, at most 32 levels deep"),
            ("{body:/a~2}", "`/a~2` is not a JSON pointer such as `/target/project`, at most 32 levels deep"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), reason, "{text}");
        }
        for text in ["{}", "{path}", "{path.}", "{cookie.x}", "{header.a b}", "{{path.b}}"] {
            assert!(matches!(parse(text), Err(TemplateError::Source { .. })), "{text}");
        }
    }

    #[test]
    fn equal_pointers_are_read_once() {
        let mut pointers = Vec::new();
        let pattern = PathPattern::parse("/").unwrap();
        let template = Template::parse("{body:/a/b}{body:/c}{body:/a/b}", &pattern, &mut pointers).unwrap();
        assert_eq!(pointers.len(), 2);
        assert_eq!(
            template.sources().cloned().collect::<Vec<_>>(),
            [Source::Body(0), Source::Body(1), Source::Body(0)]
        );
    }

    #[test]
    fn captures_are_the_same_where_they_stand_at_the_same_place() {
        let at = |path, text| Template::parse(text, &PathPattern::parse(path).unwrap(), &mut Vec::new()).unwrap();
        assert!(at("/a/{x}", "p:{path.x}").same(&at("/a/{y}", "p:{path.y}")));
        assert!(!at("/a/{x}/{y}", "{path.x}").same(&at("/a/{x}/{y}", "{path.y}")));
        assert!(!at("/a/{x}", "{path.x}").same(&at("/a/{x...}", "{path.x}")));
    }
}
