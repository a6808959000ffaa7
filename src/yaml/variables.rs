//! `${NAME}` in values.

/// What is wrong with a reference to a variable. Never holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum VariableError {
    /// Nothing is known by that name.
    #[error("variable `{name}` is not set")]
    Missing {
        /// The name asked for.
        name: String,
    },
    /// The name is no name: letters, digits and `_`, not beginning with a digit.
    #[error("`${{{name}}}` is not a reference to a variable; write `$${{` for a literal `${{`")]
    Name {
        /// What stands between the braces.
        name: String,
    },
    /// The closing brace is missing.
    #[error("`${{` without a closing `}}`; write `$${{` for a literal `${{`")]
    Open,
}

/// Replaces `${NAME}` by its value and `$${` by `${`; `None` when there is nothing to replace. Values are not looked at again.
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
        if !is_name(name) {
            errors.push(VariableError::Name { name: name.to_owned() });
        } else if let Some(value) = variables(name) {
            result.push_str(&value);
        } else {
            errors.push(VariableError::Missing { name: name.to_owned() });
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
