//! A whole list, page by page. A page that repeats, a cursor that does not lead on, more objects than were asked for: the list is refused
//! as a whole.

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::client::{AskError, Client};

/// The most objects of a page (WorkOS contract, section 3).
pub(super) const LIMIT: usize = 100;

/// An object that can be told from others.
pub(super) trait Listed {
    fn id(&self) -> &str;
}

#[derive(Deserialize)]
struct Page<T> {
    data: Vec<T>,
    list_metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    after: Option<String>,
}

/// Every object of the list at `path`, oldest first: what is added meanwhile moves nothing that is still to be read.
pub(super) async fn list<T: DeserializeOwned + Listed>(client: &Client, path: &str) -> Result<Vec<T>, AskError> {
    let separator = if path.contains('?') { '&' } else { '?' };
    let first = format!("{path}{separator}limit={LIMIT}&order=asc");
    let (mut all, mut seen) = (Vec::new(), HashSet::new());
    let mut next = first.clone();
    loop {
        let page: Page<T> = client.get(&next).await?;
        let implausible = |what: String| Err(AskError::implausible(&next, what));
        if page.data.len() > LIMIT {
            return implausible(format!("{} objects, {LIMIT} were asked for", page.data.len()));
        }
        for object in &page.data {
            if !seen.insert(object.id().to_owned()) {
                return implausible(format!("`{}` comes a second time", object.id().escape_debug()));
            }
        }
        let after = page.list_metadata.after;
        let last = page.data.last().map(|object| object.id().to_owned());
        all.extend(page.data);
        let Some(after) = after else { return Ok(all) };
        if last.as_ref() != Some(&after) {
            let after = after.escape_debug();
            return implausible(format!("it goes on after `{after}`, which is not the last object of the page"));
        }
        next = format!("{first}&after={}", super::encoded(&after));
    }
}
