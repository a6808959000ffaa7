//! How long does it take to find the rule of a request, and to bring its path to canonical form?

#![expect(clippy::expect_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use portcullis::rules::{CanonicalPath, Context, RouteTable, Sources, compile};
use portcullis::yaml::parse;

/// `count` rules: services with collections, items, and actions on items.
fn table(count: usize) -> RouteTable {
    let mut routes = String::new();
    for index in 0..count {
        let (service, kind) = (index / 40, index % 40);
        let path = match kind % 4 {
            0 => format!("/service-{service}/things-{kind}"),
            1 => format!("/service-{service}/things-{kind}/{{id}}"),
            2 => format!("/service-{service}/things-{kind}/{{id}}/parts/{{part}}"),
            _ => format!("/service-{service}/files-{kind}/{{rest...}}"),
        };
        let method = if kind % 2 == 0 { "GET" } else { "PATCH" };
        let resource = if kind % 4 == 0 { "" } else { ", resource: {type: thing, id: '{path.%}'}" };
        let capture = if kind % 4 == 3 { "rest" } else { "id" };
        routes.push_str(&format!(
            "- {{id: r{index}, match: {{methods: [{method}], path: '{path}'}}, require: 'thing:edit'{}}}\n",
            resource.replace('%', capture)
        ));
    }
    let node = parse("routes.yaml", &routes, None).expect("the document is well-formed");
    let context = Context {
        upstreams: &[],
        issuers: &[],
        facts: true,
        max_staleness: Duration::from_secs(300),
        methods: &[],
        own_headers: &[],
    };
    compile(node.items(), None, &context).expect("the rules are good")
}

fn find(c: &mut Criterion) {
    let mut group = c.benchmark_group("find");
    for count in [10, 1_000, 10_000] {
        let table = table(count);
        let headers = HeaderMap::new();
        let service = (count - 1) / 40 / 2;
        let raw = format!("/service-{service}/things-5/proj_01HXYZ");
        let path = CanonicalPath::parse(raw.as_bytes()).expect("the path is canonical");
        group.bench_function(BenchmarkId::from_parameter(format!("{count}_rules")), |b| {
            b.iter(|| table.find(black_box(&Method::PATCH), "api.example.com", black_box(&path), &headers));
        });
    }
    group.finish();
}

fn whole(c: &mut Criterion) {
    let table = table(10_000);
    let headers = HeaderMap::new();
    c.bench_function("path_find_and_requirement/10000_rules", |b| {
        b.iter(|| {
            let path = table.path(black_box(b"/service-120/things-5/proj_01HXYZ")).expect("the path is canonical");
            let found = table.find(&Method::PATCH, "api.example.com", &path, &headers).expect("nothing is refused");
            let found = found.expect("a rule covers it");
            let sources = Sources { query: None, headers: &headers, claims: None, body: None };
            let requirement = found.requirement(&sources).expect("the value is there");
            black_box(requirement.asks().len())
        });
    });
}

fn path(c: &mut Criterion) {
    let mut group = c.benchmark_group("path");
    for (name, raw) in [
        ("canonical_32_bytes", "/service-120/things-5/proj_01HXY"),
        ("canonical_200_bytes", &*format!("/files/{}", "segment/".repeat(24))),
        ("canonical_escapes", "/service-120/things%3A5/proj%2001HXYZ"),
        ("with_escapes_to_decode", "/service%2D120/things-5/proj%5f01HXYZ"),
    ] {
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| CanonicalPath::parse(black_box(raw.as_bytes())).map(|path| path.len()));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = find, whole, path
}
criterion_main!(benches);
