//! The tree of path segments: which rules a path can belong to, the most specific first.

use std::borrow::Cow;
use std::ops::ControlFlow;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::fold::fold_case;
use super::host::HostId;
use super::path::CanonicalPath;
use super::pattern::{PathPattern, Segment};
use super::spec::{PathCase, PathReading, TrailingSlash};

/// The patterns of a table, as an upstream of one [`PathReading`] tells paths apart.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    reading: PathReading,
    nodes: Vec<TreeNode>,
}

/// Where the paths are that share their first segments.
#[derive(Debug, Clone, Default)]
struct TreeNode {
    literals: HashMap<Box<str>, usize, foldhash::fast::FixedState>,
    capture: Option<usize>,
    /// The rules that end here.
    end: Leaf,
    /// The rules that end here with a slash.
    slash: Leaf,
    /// The rules that take all the rest.
    rest: Leaf,
}

/// The rules of one path pattern, by host.
#[derive(Debug, Clone, Default)]
pub(super) struct Leaf {
    /// Sorted by host.
    hosts: Vec<(HostId, SmallVec<[usize; 2]>)>,
}

impl Leaf {
    fn insert(&mut self, host: HostId, route: usize) {
        match self.hosts.binary_search_by_key(&host, |(id, _)| *id) {
            Ok(found) => {
                if let Some((_, routes)) = self.hosts.get_mut(found) {
                    routes.push(route);
                }
            }
            Err(place) => self.hosts.insert(place, (host, SmallVec::from_slice(&[route]))),
        }
    }

    /// The numbers of the rules for `host`.
    pub(super) fn of(&self, host: HostId) -> &[usize] {
        let found = self.hosts.binary_search_by_key(&host, |(id, _)| *id).ok();
        found.and_then(|found| self.hosts.get(found)).map_or(&[], |(_, routes)| routes)
    }

    /// The rules of each host.
    pub(super) fn groups(&self) -> impl Iterator<Item = &[usize]> {
        self.hosts.iter().map(|(_, routes)| routes.as_slice())
    }

    /// All rules; one with several hosts comes several times.
    fn routes(&self) -> impl Iterator<Item = usize> {
        self.hosts.iter().flat_map(|(_, routes)| routes.iter().copied())
    }
}

impl Tree {
    pub(super) fn new(reading: PathReading) -> Self {
        Self { reading, nodes: vec![TreeNode::default()] }
    }

    pub(super) fn reading(&self) -> PathReading {
        self.reading
    }

    /// Adds rule number `route` for `host`.
    pub(super) fn insert(&mut self, pattern: &PathPattern, host: HostId, route: usize) {
        let mut place = 0;
        for segment in pattern.segments() {
            match segment {
                Segment::Literal(text) => place = self.literal(place, text),
                Segment::Capture(_) => place = self.capture(place),
                Segment::Rest(_) => {
                    if let Some(node) = self.nodes.get_mut(place) {
                        node.rest.insert(host, route);
                    }
                    return;
                }
            }
        }
        let slash = pattern.trailing_slash() && self.reading.trailing_slash == TrailingSlash::Distinct;
        if let Some(node) = self.nodes.get_mut(place) {
            let leaf = if slash { &mut node.slash } else { &mut node.end };
            leaf.insert(host, route);
        }
    }

    fn literal(&mut self, place: usize, text: &str) -> usize {
        let next = self.nodes.len();
        let text = self.folded(Cow::Borrowed(text)).into();
        let Some(node) = self.nodes.get_mut(place) else { return place };
        let child = *node.literals.entry(text).or_insert(next);
        if child == next {
            self.nodes.push(TreeNode::default());
        }
        child
    }

    fn capture(&mut self, place: usize) -> usize {
        let next = self.nodes.len();
        let Some(node) = self.nodes.get_mut(place) else { return place };
        let child = *node.capture.get_or_insert(next);
        if child == next {
            self.nodes.push(TreeNode::default());
        }
        child
    }

    fn folded<'t>(&self, text: Cow<'t, str>) -> Cow<'t, str> {
        match self.reading.case {
            PathCase::Exact => text,
            PathCase::Ignore => Cow::Owned(fold_case(&text)),
        }
    }

    /// Calls `visit` with each leaf that `path` reaches, the most specific first: literal before capture before rest, segment by segment
    /// from the left. Every node of the tree is entered at most once.
    pub(super) fn walk<B>(
        &self,
        path: &CanonicalPath<'_>,
        mut visit: impl FnMut(&Leaf) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        self.step(0, path, 0, &mut visit)
    }

    fn step<B>(
        &self,
        place: usize,
        path: &CanonicalPath<'_>,
        depth: usize,
        visit: &mut impl FnMut(&Leaf) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let Some(node) = self.nodes.get(place) else { return ControlFlow::Continue(()) };
        if depth == path.len() {
            let slash = path.trailing_slash() && self.reading.trailing_slash == TrailingSlash::Distinct;
            return visit(if slash { &node.slash } else { &node.end });
        }
        if !node.literals.is_empty() {
            let text = self.folded(path.decoded(depth));
            if let Some(child) = node.literals.get(text.as_ref()) {
                self.step(*child, path, depth + 1, visit)?;
            }
        }
        if let Some(child) = node.capture {
            self.step(child, path, depth + 1, visit)?;
        }
        visit(&node.rest)
    }

    /// All leaves.
    pub(super) fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        self.nodes.iter().flat_map(|node| [&node.end, &node.slash, &node.rest])
    }

    /// Calls `visit` with every rule that stands behind `pattern`: that has the same pattern, or a less specific one that some paths of
    /// `pattern` match too. Where `pattern` has a literal, any other spelling of it reaches a rule that has a capture or the rest there.
    pub(super) fn behind(&self, pattern: &PathPattern, visit: &mut impl FnMut(usize, Behind)) {
        self.behind_step(0, pattern, 0, Behind::Same, visit);
    }

    fn behind_step(
        &self,
        place: usize,
        pattern: &PathPattern,
        depth: usize,
        so_far: Behind,
        visit: &mut impl FnMut(usize, Behind),
    ) {
        let Some(node) = self.nodes.get(place) else { return };
        let Some(segment) = pattern.segments().get(depth) else {
            let slash = pattern.trailing_slash() && self.reading.trailing_slash == TrailingSlash::Distinct;
            let leaf = if slash { &node.slash } else { &node.end };
            leaf.routes().for_each(|route| visit(route, so_far));
            return;
        };
        // The first difference from the left decides; once it has, anything that overlaps stands behind.
        let decided = so_far == Behind::LessSpecific;
        match segment {
            Segment::Literal(text) => {
                if let Some(child) = node.literals.get(self.folded(Cow::Borrowed(text)).as_ref()) {
                    self.behind_step(*child, pattern, depth + 1, so_far, visit);
                }
                if let Some(child) = node.capture {
                    self.behind_step(child, pattern, depth + 1, Behind::LessSpecific, visit);
                }
                node.rest.routes().for_each(|route| visit(route, Behind::LessSpecific));
            }
            Segment::Capture(_) => {
                if let Some(child) = node.capture {
                    self.behind_step(child, pattern, depth + 1, so_far, visit);
                }
                for child in node.literals.values().filter(|_| decided) {
                    self.behind_step(*child, pattern, depth + 1, so_far, visit);
                }
                node.rest.routes().for_each(|route| visit(route, Behind::LessSpecific));
            }
            Segment::Rest(_) => {
                node.rest.routes().for_each(|route| visit(route, so_far));
                if decided {
                    self.below(place, visit);
                }
            }
        }
    }

    fn below(&self, place: usize, visit: &mut impl FnMut(usize, Behind)) {
        let Some(node) = self.nodes.get(place) else { return };
        for child in node.literals.values().chain(&node.capture) {
            if let Some(node) = self.nodes.get(*child) {
                let leaves = [&node.end, &node.slash, &node.rest];
                leaves.into_iter().flat_map(Leaf::routes).for_each(|route| visit(route, Behind::LessSpecific));
            }
            self.below(*child, visit);
        }
    }
}

/// How a rule stands behind a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behind {
    /// Its path is the same pattern.
    Same,
    /// For paths that both match, the pattern wins.
    LessSpecific,
}
