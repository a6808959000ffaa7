//! `portcullis validate`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::{Exit, Output, runtime, say, say_error};
use crate::app::SystemClock;
use crate::app::offline::{self, LoadKeys};
use crate::config::{self, ConfigError, Expectation, ProcessEnvironment, RuleTest, Sidecar};
use crate::gate::{Explanation, RouteSummary};
use crate::rules::Revocations;
use crate::token::KeyStatus;

/// Check a configuration as `proxy` would load it, run its tests, print its routes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  portcullis validate --config portcullis.yaml\n\nExit: 0 good, 1 a rule test failed, 2 bad configuration."
)]
pub(super) struct Validate {
    /// The configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    format: Output,
}

/// What there is to say about a configuration.
#[derive(Debug, Serialize)]
struct Report {
    good: bool,
    problems: Vec<String>,
    warnings: Vec<String>,
    routes: Vec<RouteSummary>,
    public: Vec<String>,
    authenticated_only: Vec<String>,
    shadow: Vec<String>,
    revocations_not_required: Vec<String>,
    tests: Vec<TestReport>,
}

#[derive(Debug, Serialize)]
struct TestReport {
    name: String,
    place: String,
    passed: bool,
    expected: String,
    found: String,
}

impl Validate {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        let config = match config::load(&self.config, &ProcessEnvironment) {
            Ok(config) => config,
            Err(ConfigError::Problems(problems)) => {
                let problems = problems.into_iter().map(|problem| problem.to_string()).collect();
                return Ok(self.refuse(problems));
            }
            Err(unreadable @ ConfigError::Unreadable { .. }) => return Err(unreadable.into()),
        };
        let report = runtime()?.block_on(Report::of(config));
        match report {
            Ok(report) => {
                self.print(&report)?;
                Ok(report.exit())
            }
            Err(error) => Ok(self.refuse(vec![format!("{error:#}")])),
        }
    }

    fn refuse(&self, problems: Vec<String>) -> Exit {
        match self.format {
            Output::Text => problems.iter().for_each(|problem| say_error(problem)),
            Output::Json => say(&serde_json::json!({"good": false, "problems": problems}).to_string()),
        }
        Exit::Configuration
    }

    fn print(&self, report: &Report) -> anyhow::Result<()> {
        match self.format {
            Output::Json => say(&serde_json::to_string_pretty(report)?),
            Output::Text => report.print(),
        }
        Ok(())
    }
}

impl Report {
    async fn of(config: Sidecar) -> anyhow::Result<Self> {
        let clock = Arc::new(SystemClock);
        let table = config.rules.clone();
        let tests = config.tests.clone();
        let offline = offline::gate(config, clock.clone(), LoadKeys::Files).await?;
        let mut problems = Vec::new();
        for KeyStatus { issuer, keys, error } in &offline.keys {
            if *keys == 0 {
                let error = error.as_deref().unwrap_or("no key in it can be used");
                problems.push(format!("keys of issuer `{issuer}`: {error}"));
            }
        }
        let ids = |wanted: &dyn Fn(&crate::rules::Route) -> bool| {
            table.routes().iter().filter(|route| wanted(route)).map(|route| route.id.to_string()).collect::<Vec<_>>()
        };
        let mut reports = Vec::new();
        for test in &tests {
            let explanation = offline::run_test(&table, test, clock.clone()).await?;
            reports.push(TestReport::of(test, &explanation));
        }
        Ok(Self {
            good: problems.is_empty() && reports.iter().all(|report| report.passed),
            problems,
            warnings: table.warnings().iter().map(ToString::to_string).collect(),
            routes: offline.gate.routes(),
            public: ids(&|route| route.is_public()),
            authenticated_only: ids(&|route| matches!(route.access, crate::rules::Access::Authenticated)),
            shadow: ids(&|route| route.mode == crate::rules::Mode::Shadow),
            revocations_not_required: ids(&|route| !route.is_public() && route.revocations != Revocations::Require),
            tests: reports,
        })
    }

    fn exit(&self) -> Exit {
        match (self.problems.is_empty(), self.good) {
            (false, _) => Exit::Configuration,
            (true, false) => Exit::Failed,
            (true, true) => Exit::Good,
        }
    }

    fn print(&self) {
        for problem in &self.problems {
            say_error(problem);
        }
        let width = |text: &dyn Fn(&RouteSummary) -> usize| self.routes.iter().map(text).max().unwrap_or_default();
        let methods = |route: &RouteSummary| match route.methods.as_slice() {
            [] => "any".to_owned(),
            methods => methods.join(","),
        };
        let (ids, verbs, paths) =
            (width(&|route| route.id.len()), width(&|route| methods(route).len()), width(&|route| route.path.len()));
        for route in &self.routes {
            let RouteSummary { id, path, requires, .. } = route;
            let mode = if route.mode == "shadow" { "  (shadow)" } else { "" };
            say(&format!("{id:ids$}  {:verbs$}  {path:paths$}  {requires}{mode}", methods(route)));
        }
        for (what, routes) in [
            ("public", &self.public),
            ("authenticated only", &self.authenticated_only),
            ("shadow", &self.shadow),
            ("revocations not required", &self.revocations_not_required),
        ] {
            if !routes.is_empty() {
                say(&format!("{what}: {}", routes.join(", ")));
            }
        }
        for warning in &self.warnings {
            say(&format!("warning: {warning}"));
        }
        for test in &self.tests {
            let TestReport { name, place, expected, found, .. } = test;
            match test.passed {
                true => say(&format!("test ok      {name}")),
                false => say(&format!("test FAILED  {name} ({place}): expected {expected}, found {found}")),
            }
        }
        let passed = self.tests.iter().filter(|test| test.passed).count();
        say(&format!("{} routes, {passed} of {} tests passed", self.routes.len(), self.tests.len()));
    }
}

impl TestReport {
    fn of(test: &RuleTest, explanation: &Explanation) -> Self {
        let Expectation { deny, route } = &test.expect;
        let found_route = explanation.route.as_ref().map(|route| route.id.as_str());
        let decided = match deny {
            None => explanation.outcome == "allow",
            Some(code) => {
                explanation.outcome != "allow" && (explanation.reason == code || explanation.code == Some(code))
            }
        };
        let routed = route.as_deref().is_none_or(|route| found_route == Some(route));
        let by = |route: Option<&str>| route.map(|route| format!(" by {route}")).unwrap_or_default();
        let expected = deny.as_ref().map_or_else(|| "allow".to_owned(), |code| format!("deny {code}"));
        Self {
            name: test.name.clone(),
            place: test.place.to_string(),
            passed: decided && routed,
            expected: expected + &by(route.as_deref()),
            found: format!("{} {}{}", explanation.outcome, explanation.reason, by(found_route)),
        }
    }
}
