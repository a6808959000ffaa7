//! What does it cost to build a shard, to advance it by one change, and to keep it in memory?

#![allow(missing_docs, reason = "criterion's macros write items without documentation")]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::print_stderr, reason = "a bench may panic and print")]

mod company;

use std::hint::black_box;
use std::time::{Duration, Instant};

use company::*;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use portcullis::domain::record::*;
use portcullis::domain::{Change, Delta};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [(usize, &str); 4] = [(500, "500"), (1_000, "1k"), (100_000, "100k"), (2_000_000, "2M")];

fn build(criterion: &mut Criterion) {
    let catalog = catalog();
    let mut group = criterion.benchmark_group("shard/build");
    group.sample_size(10).measurement_time(Duration::from_secs(4));
    for (size, name) in [(1_000, "1k"), (100_000, "100k"), (2_000_000, "2M"), (10_000_000, "10M")] {
        let company = Company::of(size);
        let memory = company.shard(&catalog).memory();
        eprintln!(
            "shard/memory/{name}: {:.2} bytes per assignment; {:.1} bytes and {:.1} of text per named row (two ids each, mostly); {} in all",
            memory.decision as f64 / memory.assignments as f64,
            (memory.names - memory.text) as f64 / memory.rows as f64,
            memory.text as f64 / memory.rows as f64,
            memory.total(),
        );
        group.bench_function(name, |bencher| bencher.iter_with_large_drop(|| company.shard(&catalog)));
    }
    group.finish();
}

/// One role assignment put, on a shard that shares everything with its predecessor; its drop counts, as it does in the sidecar.
fn advance(criterion: &mut Criterion) {
    let catalog = catalog();
    for (size, name) in SIZES {
        let company = Company::of(size);
        let shard = company.shard(&catalog);
        shard.digest(&catalog);
        let middle = company.members / 2;
        let present = company.rows.assignments[middle * 8].clone();
        let absent = Assignment { role: role(ROLES - 1), resource: Some(resource(middle)), ..present.clone() };
        let changes = [
            ("put", Change::Put(OrganizationRecord::Assignment(absent))),
            ("delete", Change::Delete(OrganizationKey::Assignment(present.key()))),
            (
                "put_member",
                Change::Put(OrganizationRecord::Member(Member {
                    id: membership(company.members + 1),
                    user: user(company.members + 1),
                    status: MembershipStatus::Active,
                    identity_provider_roles: Vec::new(),
                })),
            ),
        ];
        for (what, change) in changes {
            let delta = Delta::Changes(vec![change]);
            criterion.bench_function(&format!("shard/advance/{name}/{what}"), |bencher| {
                bencher.iter_batched(|| (), |()| shard.advance(&catalog, &delta), BatchSize::SmallInput);
            });
        }
    }
}

/// The digest of all rows from nothing, once per shard.
fn digest(criterion: &mut Criterion) {
    let catalog = catalog();
    let company = Company::of(100_000);
    let mut group = criterion.benchmark_group("shard/digest");
    group.sample_size(10);
    group.bench_function("100k", |bencher| {
        bencher.iter_custom(|times| {
            (0..times)
                .map(|_| {
                    let shard = company.shard(&catalog);
                    let start = Instant::now();
                    black_box(shard.digest(&catalog));
                    start.elapsed()
                })
                .sum()
        });
    });
    group.finish();
}

criterion_group!(benches, advance, digest, build);
criterion_main!(benches);
