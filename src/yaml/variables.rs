//! `${NAME}` and `${file:PATH}` in values.

/// What a value refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference<'a> {
    /// `${NAME}`: a variable.
    Variable(&'a str),
    /// `${file:PATH}`: what is in a file.
    File(&'a str),
}

/// What is wrong with a reference. Never holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum VariableError {
    /// There is nothing of that name, or it cannot be had.
    #[error("{0}")]
    Missing(String),
    /// The name is no name: letters, digits and `_`, not beginning with a digit; nor `file:` with a path.
    #[error("`${{{name}}}` is not a reference to a variable; write `$${{` for a literal `${{`")]
    Name {
        /// What stands between the braces.
        name: String,
    },
    /// The closing brace is missing.
    #[error("`${{` without a closing `}}`; write `$${{` for a literal `${{`")]
    Open,
}

impl<'a> Reference<'a> {
    /// The reference between the braces; `None` when it is none.
    fn parse(text: &'a str) -> Option<Self> {
        match text.strip_prefix("file:") {
            Some(path) => Some(Self::File(path)).filter(|_| !path.is_empty()),
            None => Some(Self::Variable(text)).filter(|_| is_name(text)),
        }
    }
}

/// Replaces references by what they refer to, and `$${` by `${`; `None` when there is nothing to replace. Values are not looked at again.
pub(super) fn substitute(text: &str, variables: super::Variables<'_>) -> Result<Option<String>, Vec<VariableError>> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut result = String::with_capacity(text.len());
    let mut errors = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(literal) = before.strip_suffix('$') {
            result.push_str(literal);
            result.push_str("${");
            rest = after;
            continue;
        }
        result.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            errors.push(VariableError::Open);
            return Err(errors);
        };
        match Reference::parse(name).map(variables) {
            Some(Ok(value)) => result.push_str(&value),
            Some(Err(error)) => errors.push(VariableError::Missing(error)),
            None => errors.push(VariableError::Name { name: name.to_owned() }),
        }
        rest = after;
    }
    result.push_str(rest);
    if errors.is_empty() { Ok(Some(result)) } else { Err(errors) }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
