//! The `match` of a rule.

use super::{Compiler, taken_away};
use crate::rules::header::HeaderCondition;
use crate::rules::host::HostPattern;
use crate::rules::method::MethodSet;
use crate::rules::pattern::PathPattern;
use crate::rules::spec::MatchSpec;
use crate::yaml::Placed;

impl Compiler<'_> {
    pub(super) fn pattern(&mut self, matching: &Placed<MatchSpec>) -> Option<PathPattern> {
        match (&matching.path, &matching.grpc) {
            (Some(path), None) => match PathPattern::parse(path) {
                Ok(pattern) => Some(pattern),
                Err(error) => {
                    self.problem(&path.place, error.to_string());
                    None
                }
            },
            (None, Some(grpc)) => {
                if let Some(methods) = &matching.methods {
                    self.problem(&methods.place, "`methods` beside `grpc`, which is always `POST`");
                }
                let pattern = PathPattern::grpc(grpc);
                if pattern.is_none() {
                    let message =
                        format!("expected `package.Service/Method` or `package.Service/*`, found `{}`", grpc.value);
                    self.problem(&grpc.place, message);
                }
                pattern
            }
            (Some(_), Some(grpc)) => {
                self.problem(&grpc.place, "`grpc` beside `path`; a gRPC method is a path of its own");
                None
            }
            (None, None) => {
                self.problem(&matching.place, "missing key `path` or `grpc`");
                None
            }
        }
    }

    pub(super) fn methods(&mut self, matching: &MatchSpec) -> Option<MethodSet> {
        if matching.grpc.is_some() {
            return Some(MethodSet::POST);
        }
        let names = matching.methods.as_ref()?;
        if names.is_empty() {
            self.problem(&names.place, "no methods; leave the key out for all");
        }
        let mut set = MethodSet::NONE;
        for name in &names.value {
            match self.methods.named(name) {
                Some(method) => set = set.with(method),
                None if self.methods.named(&name.to_ascii_uppercase()).is_some() => {
                    self.problem(&name.place, format!("method `{}` is not written in upper case", name.value));
                }
                None => {
                    self.problem(&name.place, format!("method `{}` is neither registered nor configured", name.value))
                }
            }
        }
        Some(set)
    }

    pub(super) fn hosts(&mut self, matching: &MatchSpec) -> Box<[HostPattern]> {
        let Some(names) = &matching.hosts else { return Box::default() };
        if names.is_empty() {
            self.problem(&names.place, "no hosts; leave the key out for all");
        }
        let mut hosts = Vec::with_capacity(names.len());
        for name in &names.value {
            match HostPattern::parse(name) {
                Some(host) => hosts.push(host),
                None => self.problem(
                    &name.place,
                    format!("expected a host or `*.suffix` without port, found `{}`", name.value),
                ),
            }
        }
        hosts.sort();
        hosts.dedup();
        hosts.into()
    }

    pub(super) fn conditions(&mut self, matching: &MatchSpec) -> Box<[HeaderCondition]> {
        let mut conditions: Vec<HeaderCondition> = matching.grpc.iter().map(|_| HeaderCondition::grpc()).collect();
        let mut entries: Vec<_> = matching.headers.iter().flat_map(|headers| &headers.value).collect();
        entries.sort_by_key(|(_, value)| &value.place);
        for (name, value) in entries {
            match HeaderCondition::exact(name, value) {
                None => self.problem(&value.place, format!("`{name}: {}` is not a header and its value", value.value)),
                Some(condition) if condition.name() == "host" => {
                    self.problem(&value.place, "header `host` as a condition; use `hosts`");
                }
                Some(condition) if self.context.takes_away(condition.name()) => {
                    self.problem(&value.place, taken_away(name));
                }
                Some(condition) if conditions.iter().any(|other| other.name() == condition.name()) => {
                    self.problem(
                        &value.place,
                        format!("header `{name}` a second time; only letters and digits count, in any case"),
                    );
                }
                Some(condition) => conditions.push(condition),
            }
        }
        conditions.sort();
        conditions.into()
    }
}
