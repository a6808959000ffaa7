//! What `${NAME}` and `${file:PATH}` lead to.

use std::cell::RefCell;
use std::path::Path;

use super::Environment;
use crate::files::{self, Noted};
use crate::yaml::Reference;

/// Answers references by `environment` and by files, relative to `folder`, which are noted in `files`.
pub(super) fn answers<'a>(
    environment: &'a dyn Environment,
    folder: &'a Path,
    noted: &'a RefCell<Noted>,
) -> impl Fn(Reference<'_>) -> Result<String, String> + 'a {
    move |reference| match reference {
        Reference::Variable(name) => environment.variable(name).ok_or_else(|| format!("variable `{name}` is not set")),
        Reference::File(path) => {
            let path = folder.join(path);
            noted.borrow_mut().note(&path);
            files::secret(&path).map_err(|error| format!("`{}` {error}", path.display()))
        }
    }
}
