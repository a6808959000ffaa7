//! Assignment ids, beside the rows that decisions look at: kept only when somebody wants to read them.

use std::sync::Arc;

use super::RoleIndex;
use super::holders::Holders;

/// For each grant of some [`Holders`] a text, empty where there is none; page by page, in the order of the grants.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    pages: Arc<Vec<Arc<Page>>>,
}

#[derive(Debug, Clone, Default)]
struct Page {
    /// Where each text ends; it begins where the one before ends.
    ends: Box<[u32]>,
    text: Box<str>,
}

impl Labels {
    /// The `labels` of grants of `holders`, each with holder, resource and role of its grant; of two for one grant the later counts.
    pub fn pack<'a>(holders: &Holders, labels: impl Iterator<Item = ((u32, u32, RoleIndex), &'a str)>) -> Self {
        let mut pages: Vec<Vec<&str>> = Vec::new();
        for ((holder, on, role), label) in labels {
            let Some((page, place)) = holders.position(holder, on, role) else { continue };
            while pages.len() <= page {
                pages.push(vec![""; holders.page_len(pages.len())]);
            }
            if let Some(slot) = pages.get_mut(page).and_then(|page| page.get_mut(place)) {
                *slot = label;
            }
        }
        Self { pages: Arc::new(pages.iter().map(|labels| Arc::new(Page::new(labels))).collect()) }
    }

    /// The label of the grant at `place` of `page`.
    pub fn get(&self, (page, place): (usize, usize)) -> Option<&str> {
        self.pages.get(page)?.get(place).filter(|label| !label.is_empty())
    }

    /// Gives the `grant` that `holders` were just given its label; `new` when it was not there before.
    pub fn follow(&mut self, holders: &Holders, grant: (u32, u32, RoleIndex), new: bool, label: &str) {
        let Some(position) = holders.position(grant.0, grant.1, grant.2) else { return };
        if new || self.get(position).unwrap_or_default() != label {
            self.splice(position, usize::from(!new), Some(label));
        }
    }

    /// Follows the removal of a grant.
    pub fn remove(&mut self, position: (usize, usize)) {
        self.splice(position, 1, None);
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let page = |page: &Arc<Page>| 16 + size_of::<Page>() + size_of_val(&*page.ends) + page.text.len();
        self.pages.capacity() * size_of::<Arc<Page>>() + self.pages.iter().map(page).sum::<usize>()
    }

    /// Replaces `removed` labels from `place` on by `label`.
    fn splice(&mut self, (page, place): (usize, usize), removed: usize, label: Option<&str>) {
        let pages = Arc::make_mut(&mut self.pages);
        while pages.len() <= page {
            pages.push(Arc::default());
        }
        if let Some(page) = pages.get_mut(page) {
            let length = page.ends.len().max(place);
            let labels: Vec<&str> = (0..place)
                .map(|place| page.get(place).unwrap_or_default())
                .chain(label)
                .chain((place + removed..length).map(|place| page.get(place).unwrap_or_default()))
                .collect();
            *page = Arc::new(Page::new(&labels));
        }
    }
}

impl Page {
    fn new(labels: &[&str]) -> Self {
        let mut end = 0;
        let ends = labels.iter().map(|label| {
            end += label.len();
            u32::try_from(end).unwrap_or(u32::MAX)
        });
        Self { ends: ends.collect(), text: labels.concat().into() }
    }

    fn get(&self, place: usize) -> Option<&str> {
        let end = |place: usize| self.ends.get(place).map(|&end| end as usize);
        let start = match place.checked_sub(1) {
            None => 0,
            Some(before) => end(before)?,
        };
        self.text.get(start..end(place)?)
    }
}
