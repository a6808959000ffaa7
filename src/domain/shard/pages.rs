//! Arrays in pages: copying one costs its pages, changing one element costs one page.

use std::sync::Arc;

const PAGE: usize = 256;

/// An array of `T` in pages of 256, shared between copies until one of them changes a page.
#[derive(Debug, Clone)]
pub struct Pages<T> {
    full: Arc<Vec<Arc<[T]>>>,
    /// What does not fill a page yet: fewer than 256.
    tail: Arc<Vec<T>>,
}

impl<T: Copy> Pages<T> {
    pub fn new() -> Self {
        Self { full: Arc::default(), tail: Arc::default() }
    }

    pub fn of(elements: &[T]) -> Self {
        let (full, tail) = elements.as_chunks::<PAGE>();
        Self {
            full: Arc::new(full.iter().map(|page| Arc::from(page.as_slice())).collect()),
            tail: Arc::new(tail.to_vec()),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> u32 {
        u32::try_from(self.full.len() * PAGE + self.tail.len()).unwrap_or(u32::MAX)
    }

    #[inline]
    pub fn get(&self, place: u32) -> Option<T> {
        let (page, at) = (place as usize / PAGE, place as usize % PAGE);
        match self.full.get(page) {
            Some(page) => page.get(at).copied(),
            None if page == self.full.len() => self.tail.get(at).copied(),
            None => None,
        }
    }

    /// Replaces an element; nothing happens past the end.
    pub fn set(&mut self, place: u32, value: T) {
        let (page, at) = (place as usize / PAGE, place as usize % PAGE);
        let element = if page < self.full.len() {
            Arc::make_mut(&mut self.full).get_mut(page).and_then(|page| Arc::make_mut(page).get_mut(at))
        } else {
            Arc::make_mut(&mut self.tail).get_mut(at).filter(|_| page == self.full.len())
        };
        if let Some(element) = element {
            *element = value;
        }
    }

    pub fn push(&mut self, value: T) {
        let tail = Arc::make_mut(&mut self.tail);
        tail.push(value);
        if tail.len() == PAGE {
            Arc::make_mut(&mut self.full).push(tail.as_slice().into());
            tail.clear();
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = T> {
        self.full.iter().flat_map(|page| page.iter()).chain(self.tail.iter()).copied()
    }

    /// Gives back what was reserved for growth.
    pub fn settle(&mut self) {
        Arc::make_mut(&mut self.full).shrink_to_fit();
        Arc::make_mut(&mut self.tail).shrink_to_fit();
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let pages = self.full.capacity() * size_of::<Arc<[T]>>() + self.full.len() * (16 + PAGE * size_of::<T>());
        pages + self.tail.capacity() * size_of::<T>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_does_not_see_what_happens_to_the_original() {
        let mut pages = Pages::new();
        (0..600_u32).for_each(|value| pages.push(value));
        let copy = pages.clone();
        pages.set(3, 1_000);
        pages.set(599, 1_001);
        pages.set(600, 1_002);
        pages.push(1_003);
        assert_eq!(copy.iter().collect::<Vec<_>>(), (0..600).collect::<Vec<_>>());
        assert_eq!(
            (pages.get(3), pages.get(599), pages.get(600), pages.get(601)),
            (Some(1_000), Some(1_001), Some(1_003), None)
        );
        assert_eq!((copy.len(), pages.len()), (600, 601));
        assert_eq!(pages.get(600 + PAGE as u32), None, "a page later there is nothing");
    }
}
