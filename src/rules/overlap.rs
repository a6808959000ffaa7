//! Rules judged against each other: ties, header conditions that weaken, spellings that slip past a literal.

use std::collections::HashSet;

use super::RouteTable;
use super::conditions::{HostPattern, MethodSet, Relation, relation};
use super::pattern::Segment;
use super::route::{Access, Route};
use super::spec::PathReading;
use super::strength::{implies, weaker};
use super::tree::{Behind, Tree};
use crate::yaml::{Problem, Problems};

impl RouteTable {
    /// Two rules that some request matches, neither more specific than the other.
    pub(super) fn ties(&self, problems: &mut Problems) {
        let mut known = HashSet::new();
        self.ties_of(&self.exact, &mut known, &|_, _| true, problems);
        for tree in &self.generous {
            let reads = |one: &Route, other: &Route| one.reading == tree.reading() && other.reading == tree.reading();
            self.ties_of(tree, &mut known, &reads, problems);
        }
    }

    fn ties_of(
        &self,
        tree: &Tree,
        known: &mut HashSet<(usize, usize)>,
        counts: &dyn Fn(&Route, &Route) -> bool,
        problems: &mut Problems,
    ) {
        for group in tree.leaves().flat_map(|leaf| leaf.groups()) {
            let routes: Vec<&Route> = group.iter().filter_map(|index| self.routes.get(*index)).collect();
            for (place, one) in routes.iter().enumerate() {
                for other in routes.iter().take(place) {
                    let contested = one.method_condition.contested(other.method_condition);
                    let related = relation(&one.conditions, &other.conditions);
                    if !contested.is_empty()
                        && matches!(related, Relation::Same | Relation::Crossing)
                        && counts(one, other)
                        && known.insert((other.index, one.index))
                    {
                        problems.0.push(self.tie(tree, one, other, contested, related));
                    }
                }
            }
        }
    }

    fn tie(&self, tree: &Tree, one: &Route, other: &Route, contested: MethodSet, related: Relation) -> Problem {
        let methods: Vec<&str> = self.methods.names_in(contested).collect();
        let methods = if contested == MethodSet::ALL { "any method".to_owned() } else { methods.join(" and ") };
        let headers = if related == Relation::Crossing { " and the headers of both" } else { "" };
        let read = if tree.reading() == PathReading::default() { "" } else { " as their upstream reads paths" };
        one.place.problem(format!(
            "route `{}` ties with route `{}` at {}: `{}` with {methods}{headers} matches both{read}, and neither is more specific",
            one.id, other.id, other.place, one.pattern
        ))
    }

    /// A rule with header conditions must not ask for less than what answers a request without these headers.
    pub(super) fn header_conditions(&self, problems: &mut Problems) {
        for route in self.routes.iter().filter(|route| !route.conditions.is_empty() && !route.weaker_acknowledged) {
            if let Some(other) = self.weakened_by_headers(route) {
                problems.0.push(route.place.problem(format!(
                    "route `{}` has header conditions and does not ask for at least what route `{}` at {} asks for, which covers the \
                     same requests without these headers; write `weaker: acknowledged` if that is meant",
                    route.id, other.id, other.place
                )));
            }
        }
    }

    fn weakened_by_headers(&self, route: &Route) -> Option<&Route> {
        // The content type of gRPC is part of the protocol: it is compared with rules for the very same path only.
        let only_grpc = route.conditions.iter().all(super::conditions::HeaderCondition::is_grpc);
        let mut same = Vec::new();
        let mut others = Vec::new();
        self.exact.behind(&route.pattern, &mut |index, behind| match (self.routes.get(index), behind) {
            (Some(other), Behind::Same) => same.push(other),
            (Some(other), Behind::LessSpecific) if !only_grpc => others.push(other),
            _ => {}
        });
        let without = |other: &&&Route| relation(&route.conditions, &other.conditions) == Relation::Narrower;
        let mut open = route.method_condition.covered();
        for other in same.iter().filter(without).filter(|other| hosts_overlap(route, other)) {
            if open.and(other.method_condition.covered()).is_empty() {
                continue;
            }
            if !implies(route, other) {
                return Some(other);
            }
            // What an unconditional rule of the same path covers never falls through to a less specific path.
            if other.conditions.is_empty() && hosts_cover(other, route) {
                open = open.without(other.method_condition.covered());
            }
        }
        let reached =
            |other: &&&Route| hosts_overlap(route, other) && !open.and(other.method_condition.covered()).is_empty();
        others.iter().filter(without).filter(reached).find(|other| !implies(route, other)).copied()
    }

    /// Where a literal stands in front of a capture, another spelling of it (case, a trailing slash) reaches the capture. That matters
    /// when the capture's rule asks for less and the upstream takes both spellings for one; where the configuration says that it does,
    /// requests are judged accordingly, otherwise this warns.
    pub(super) fn spellings(&self) -> Vec<Problem> {
        self.routes.iter().filter_map(|route| self.spelling(route)).collect()
    }

    fn spelling(&self, route: &Route) -> Option<Problem> {
        if route.is_public() || !route.pattern.segments().iter().any(|segment| matches!(segment, Segment::Literal(_))) {
            return None;
        }
        let mut found: Option<&Route> = None;
        self.exact.behind(&route.pattern, &mut |index, behind| {
            let Some(other) = self.routes.get(index).filter(|_| behind == Behind::LessSpecific) else { return };
            let methods = route.method_condition.covered().and(other.method_condition.covered());
            let counts = !methods.is_empty()
                && hosts_overlap(route, other)
                && !(other.reading == route.reading
                    && self.generous.iter().any(|tree| tree.reading() == route.reading))
                && weaker(other, route);
            if counts && found.is_none_or(|found| other.index < found.index) {
                found = Some(other);
            }
        });
        let other = found?;
        let asks = match other.access {
            Access::Public => "is public",
            Access::Authenticated => "asks for a valid token only",
            Access::All(_) | Access::Any(_) => "asks for less",
        };
        Some(other.place.problem(format!(
            "route `{}` covers other spellings of the path of route `{}` at {} and {asks}: if the upstream ignores case or trailing \
             slashes, say so with `paths` at the upstream",
            other.id, route.id, route.place
        )))
    }
}

fn hosts_overlap(one: &Route, other: &Route) -> bool {
    let some = |one: &[HostPattern], other: &[HostPattern]| {
        one.iter().any(|one| other.iter().any(|other| one.overlaps(other)))
    };
    one.hosts.is_empty() || other.hosts.is_empty() || some(&one.hosts, &other.hosts)
}

fn hosts_cover(one: &Route, other: &Route) -> bool {
    one.hosts.is_empty()
        || (!other.hosts.is_empty() && other.hosts.iter().all(|host| one.hosts.iter().any(|one| one.covers(host))))
}
