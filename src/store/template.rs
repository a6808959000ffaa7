//! JWT templates: the text of a JSON object in which `{{ path || fallback }}` stands for what is known of the user, the organization and
//! the membership (WorkOS contract, section 5).
//!
//! Outside of a string an expression becomes a JSON value, inside of one it becomes text; the first alternative that is not null counts.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// Bytes of the object that a template may become.
pub(super) const LONGEST: usize = 3072;
/// Bytes of a template.
const LONGEST_TEMPLATE: usize = 16 * 1024;
/// Claims that only the issuer sets.
const RESERVED: [&str; 6] = ["iss", "sub", "exp", "iat", "nbf", "jti"];
/// What a path may begin with.
const ROOTS: [&str; 3] = ["user", "organization", "organization_membership"];

/// A template whose syntax is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Expression { alternatives: Vec<Operand>, in_string: bool },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operand {
    Path(Vec<String>),
    Text(String),
}

/// Why a text is no template, or makes no claims.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TemplateError {
    #[error("the template has {0} bytes, at most {LONGEST_TEMPLATE} are allowed")]
    TooLong(usize),
    #[error("`{{{{` is not followed by `}}}}`")]
    Open,
    #[error(
        "`{0}` is neither a text in quotes nor a path that begins with `user`, `organization` or `organization_membership`"
    )]
    Operand(String),
    #[error("the template does not make a JSON object: {0}")]
    Json(String),
    #[error("an object or list stands inside a string")]
    Nested,
    #[error("the claim `{0}` is set by the issuer alone")]
    Reserved(String),
    #[error("the claims of the template have {0} bytes, at most {LONGEST} are allowed")]
    TooLarge(usize),
}

impl Template {
    /// Reads a template, and tries it on somebody of whom nothing is known.
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > LONGEST_TEMPLATE {
            return Err(TemplateError::TooLong(text.len()));
        }
        let template = Self(pieces(text)?);
        template.render(&Value::Null)?;
        Ok(template)
    }

    /// The claims for what is known. Those that are null are left out.
    pub(super) fn render(&self, known: &Value) -> Result<Map<String, Value>, TemplateError> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(part) => text.push_str(part),
                Piece::Expression { alternatives, in_string } => {
                    let value = alternatives.iter().map(|operand| operand.value(known)).find(|value| !value.is_null());
                    let value = value.unwrap_or(Cow::Owned(Value::Null));
                    text.push_str(&if *in_string { within_string(&value)? } else { value.to_string() });
                }
            }
        }
        let object: Map<String, Value> =
            serde_json::from_str(&text).map_err(|error| TemplateError::Json(error.to_string()))?;
        if let Some(name) = object.keys().find(|name| RESERVED.contains(&name.as_str())) {
            return Err(TemplateError::Reserved(name.clone()));
        }
        let claims: Map<String, Value> = object.into_iter().filter(|(_, value)| !value.is_null()).collect();
        let bytes = Value::Object(claims.clone()).to_string().len();
        if bytes > LONGEST { Err(TemplateError::TooLarge(bytes)) } else { Ok(claims) }
    }
}

/// Texts and expressions in turn.
fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut in_string = false;
    while let Some((before, after)) = rest.split_once("{{") {
        in_string = ends_in_string(before, in_string);
        let (expression, after) = split_expression(after).ok_or(TemplateError::Open)?;
        pieces.push(Piece::Text(before.to_owned()));
        let alternatives = alternatives(expression).map(operand).collect::<Result<_, _>>()?;
        pieces.push(Piece::Expression { alternatives, in_string });
        rest = after;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

/// Whether a JSON string is open after `text`.
fn ends_in_string(text: &str, mut in_string: bool) -> bool {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => in_string = !in_string,
            '\\' if in_string => _ = characters.next(),
            _ => {}
        }
    }
    in_string
}

/// What stands before the `}}` that is not in quotes, and what follows it.
fn split_expression(text: &str) -> Option<(&str, &str)> {
    let end = outside_quotes(text, "}}")?;
    let (expression, rest) = text.split_at_checked(end)?;
    Some((expression, rest.strip_prefix("}}")?))
}

/// The alternatives between `||`.
fn alternatives(expression: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(expression);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let cut = outside_quotes(text, "||").and_then(|at| text.split_at_checked(at));
        match cut {
            None => Some(text.trim()),
            Some((first, others)) => {
                rest = others.strip_prefix("||");
                Some(first.trim())
            }
        }
    })
}

/// Where `wanted` begins first, outside of quotes.
fn outside_quotes(text: &str, wanted: &str) -> Option<usize> {
    let mut quote = None;
    for (at, character) in text.char_indices() {
        match quote {
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None if matches!(character, '\'' | '"') => quote = Some(character),
            None if text.get(at..).is_some_and(|rest| rest.starts_with(wanted)) => return Some(at),
            None => {}
        }
    }
    None
}

fn operand(text: &str) -> Result<Operand, TemplateError> {
    let quoted = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    if let Some(text) = quoted('\'').or_else(|| quoted('"')) {
        return Ok(Operand::Text(text.to_owned()));
    }
    let steps: Vec<String> = text.split('.').map(ToOwned::to_owned).collect();
    let fits = steps.first().is_some_and(|root| ROOTS.contains(&root.as_str()))
        && steps.iter().all(|step| !step.is_empty() && !step.contains(|c: char| c.is_whitespace() || c.is_control()));
    if fits { Ok(Operand::Path(steps)) } else { Err(TemplateError::Operand(text.escape_debug().to_string())) }
}

impl Operand {
    fn value<'a>(&'a self, known: &'a Value) -> Cow<'a, Value> {
        let step = |value: &'a Value, step: &String| match value {
            Value::Array(items) => step.parse::<usize>().ok().and_then(|place| items.get(place)),
            other => other.get(step.as_str()),
        };
        match self {
            Self::Text(text) => Cow::Owned(Value::String(text.clone())),
            Self::Path(steps) => match steps.iter().try_fold(known, step) {
                Some(value) => Cow::Borrowed(value),
                None => Cow::Owned(Value::Null),
            },
        }
    }
}

/// A value as a part of a JSON string, escaped.
fn within_string(value: &Value) -> Result<String, TemplateError> {
    let text = match value {
        Value::Null => return Ok(String::new()),
        Value::Array(_) | Value::Object(_) => return Err(TemplateError::Nested),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let quoted = Value::String(text).to_string();
    Ok(quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(text: &str) -> Result<Value, TemplateError> {
        let known = json!({
            "user": {"first_name": "A\"da", "last_name": null, "metadata": {"n": 1}, "email": "a@b.c"},
            "organization": {"domains": [{"domain": "b.c"}]},
        });
        Template::parse(text)?.render(&known).map(Value::Object)
    }

    #[test]
    fn expressions_become_values_and_texts() {
        for (template, claims) in [
            (r#"{"a": {{ user.email }}}"#, json!({"a": "a@b.c"})),
            (r#"{"a": "{{ user.first_name }} {{user.last_name || 'x }} || y'}}!"}"#, json!({"a": "A\"da x }} || y!"})),
            (r#"{"a": {{ user.last_name || user.nobody || "z" }}}"#, json!({"a": "z"})),
            (
                r#"{"a": {{ user.metadata }}, "b": {"c": {{ user.last_name }}}}"#,
                json!({"a": {"n": 1}, "b": {"c": null}}),
            ),
            (r#"{"a": "{{ organization.domains.0.domain }}"}"#, json!({"a": "b.c"})),
            (r#"{"gone": {{ user.last_name }}, "org_id": "mine"}"#, json!({"org_id": "mine"})),
            (r#"{"\"{{ user.metadata.n }}": 1}"#, json!({"\"1": 1})),
        ] {
            assert_eq!(render(template), Ok(claims), "{template}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for (template, error) in [
            (r#"{"sub": "me"}"#, "the claim `sub` is set by the issuer alone"),
            (r#"{"a": {{ user.email }"#, "`{{` is not followed by `}}`"),
            (r#"{"a": {{ process.env }}}"#, "`process.env` is neither"),
            (r#"{"a": {{ user..email }}}"#, "`user..email` is neither"),
            (r#"{"a": "{{ user.metadata }}"}"#, "an object or list stands inside a string"),
            (r#"["a"]"#, "the template does not make a JSON object"),
            (r#"{"a": }"#, "the template does not make a JSON object"),
        ] {
            let found = render(template).map_err(|error| error.to_string());
            assert!(found.as_ref().is_err_and(|message| message.starts_with(error)), "{template}: {found:?}");
        }
        let large = format!(r#"{{"a": "{}"}}"#, "x".repeat(LONGEST));
        assert_eq!(render(&large), Err(TemplateError::TooLarge(LONGEST + 8)));
    }
}
