use std::sync::Arc;

use super::*;
use crate::domain::DenyReason;
use crate::telemetry::{Ground, Outcome, RouteMeters};

const BUILD: Build = Build { version: "1.2.3", revision: "abc" };
const MILLISECOND: Duration = Duration::from_millis(1);

fn metrics() -> Metrics {
    Metrics::new(BUILD).unwrap()
}

#[test]
fn the_contract_names_are_there() {
    let metrics = metrics();
    let routes = RouteMeters::new(&metrics, [("edit-project", "app")]);
    routes.at(Some(0)).record(Outcome::Shadowed(DenyReason::NotGranted), MILLISECOND);
    routes.at(Some(0)).record_upstream(MILLISECOND);
    routes.at(None).record(Outcome::Denied(DenyReason::NoRoute), MILLISECOND);
    metrics.token_cache.hit.inc();
    metrics.token_rejected(TokenFault::Expired);
    metrics.jwks_refresh.with_label_values(&["authkit", "failed"]).inc();
    metrics.facts_updated(FactsUpdate::Complete, UpdateResult::Applied);
    metrics.organization_loaded(OrganizationLoad::Unknown);
    metrics.refused_connections(RefusedConnection::HeaderTimeout).inc();
    metrics.config_reloaded(false);
    metrics.decision_duration.observe(3e-6);
    metrics.facts.show(Some(Duration::from_millis(1500)), None, 2, 4096);
    metrics.load.show(3, 2);
    let text = metrics.render();
    for line in [
        "portcullis_build_info{revision=\"abc\",version=\"1.2.3\"} 1",
        "portcullis_requests_total{outcome=\"shadow\",reason=\"not_granted\",route=\"edit-project\"} 1",
        "portcullis_requests_total{outcome=\"deny\",reason=\"no_route\",route=\"none\"} 1",
        "portcullis_shadow_denied_total{reason=\"not_granted\",route=\"edit-project\"} 1",
        "portcullis_request_duration_seconds_count{upstream=\"app\"} 1",
        "portcullis_upstream_duration_seconds_count{upstream=\"app\"} 1",
        "portcullis_decision_duration_seconds_bucket{le=\"0.0000025\"} 0",
        "portcullis_decision_duration_seconds_bucket{le=\"0.000005\"} 1",
        "portcullis_token_cache_total{result=\"hit\"} 1",
        "portcullis_token_cache_total{result=\"miss\"} 0",
        "portcullis_token_rejected_total{fault=\"expired\"} 1",
        "portcullis_jwks_refresh_total{issuer=\"authkit\",result=\"failed\"} 1",
        "portcullis_facts_age_seconds 1.5",
        "portcullis_facts_revision 0",
        "portcullis_facts_updates_total{kind=\"complete\",result=\"applied\"} 1",
        "portcullis_facts_bytes 4096",
        "portcullis_organizations_resident 2",
        "portcullis_organization_loads_total{result=\"unknown\"} 1",
        "portcullis_organizations_evicted_total 0",
        "portcullis_refused_connections_total{reason=\"header_timeout\"} 1",
        "portcullis_config_reloads_total{result=\"refused\"} 1",
        "portcullis_connections_open 3",
        "portcullis_requests_in_flight 2",
        "portcullis_config_refused 1",
        "portcullis_degraded_decisions_total 0",
        "portcullis_log_lines_dropped_total 0",
        "portcullis_panics_total 0",
    ] {
        assert!(text.lines().any(|found| found == line), "`{line}` is missing in\n{text}");
    }
    assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
}

#[test]
fn facts_that_never_were_are_infinitely_old() {
    let metrics = metrics();
    metrics.facts.show(None, None, 0, 0);
    assert!(metrics.render().contains("\nportcullis_facts_age_seconds inf\n"), "{}", metrics.render());
}

#[test]
fn a_route_that_survives_a_reload_keeps_its_counts() {
    let metrics = metrics();
    let granted = Outcome::Allowed(Ground::Granted);
    let before = RouteMeters::new(&metrics, [("a", "app"), ("b", "app")]);
    before.at(Some(1)).record(granted, MILLISECOND);
    let after = RouteMeters::new(&metrics, [("b", "app")]);
    after.at(Some(0)).record(granted, MILLISECOND);
    before.at(Some(1)).record(granted, MILLISECOND);
    let line = "portcullis_requests_total{outcome=\"allow\",reason=\"granted\",route=\"b\"} 3";
    assert!(metrics.render().contains(line), "{}", metrics.render());
}

#[test]
fn the_number_of_series_is_bounded_by_the_configuration() {
    let metrics = metrics();
    let routes = RouteMeters::new(&metrics, [("a", "app")]);
    let outcomes = [
        Outcome::Allowed(Ground::Public),
        Outcome::Denied(DenyReason::BadToken(TokenFault::Expired)),
        Outcome::Denied(DenyReason::BadToken(TokenFault::Signature)),
        Outcome::Failed(DenyReason::UpstreamTimeout),
    ];
    let series = |rounds: usize| {
        for round in 0..rounds {
            routes.at(Some(round % 3)).record(outcomes[round % outcomes.len()], MILLISECOND);
        }
        metrics.render().lines().filter(|line| line.starts_with("portcullis_")).count()
    };
    assert_eq!(series(100), series(10_000));
}

#[test]
fn what_is_looked_at_is_looked_at_when_scraped() {
    let metrics = Arc::new(metrics());
    metrics.on_scrape(|metrics| metrics.facts.bytes.add(7));
    assert!(metrics.render().contains("portcullis_facts_bytes 7\n"));
    assert!(metrics.render().contains("portcullis_facts_bytes 14\n"));
}
