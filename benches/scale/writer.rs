//! Checks while somebody writes: does that slow them down?

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use portcullis::domain::record::Assignment;
use portcullis::domain::{Catalog, Change, Delta, OrganizationRecord, ResourceRef, Shard};

use super::Scale;
use super::company::{Company, ROLES, catalog, membership, permission, resource, role};
use super::statistics::quantile;

/// Changes a second.
const RATE: u32 = 200;
/// Checks that are timed together.
const TOGETHER: u32 = 100;
const ROUNDS: usize = 5;

pub fn measure(scale: Scale) {
    let (catalog, company) = (catalog(), Company::of(scale.large.1));
    let shard = ArcSwap::from_pointee(company.shard(&catalog));
    let mut ratios = Vec::new();
    let mut medians = (Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        let alone = check(&catalog, &shard, company.members, scale.span / 10);
        let stop = AtomicBool::new(false);
        let beside = thread::scope(|scope| {
            scope.spawn(|| write(&catalog, &shard, &company, &stop));
            let beside = check(&catalog, &shard, company.members, scale.span / 10);
            stop.store(true, Ordering::Relaxed);
            beside
        });
        ratios.push(beside.as_secs_f64() / alone.as_secs_f64());
        medians = (alone, beside);
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "check among {} assignments, p50 beside {RATE} changes a second over p50 alone: {:.2} ({:.2} to {:.2}); last {:?} and {:?}",
        scale.large.1,
        ratios[ROUNDS / 2],
        ratios[0],
        ratios[ROUNDS - 1],
        medians.1,
        medians.0,
    );
}

/// The median time of a check.
fn check(catalog: &Catalog, shard: &ArcSwap<Shard>, members: usize, span: Duration) -> Duration {
    let (begin, mut times, mut number) = (Instant::now(), Vec::new(), 0usize);
    while begin.elapsed() < span {
        let start = Instant::now();
        for _ in 0..TOGETHER {
            number += 7919;
            let (who, what) = (membership(number % members), resource(number * 31 % members));
            let shard = shard.load();
            black_box(shard.check(catalog, &who, &permission(number % 8), &ResourceRef::Id(what.as_str().into())));
        }
        times.push(start.elapsed() / TOGETHER);
    }
    times.sort_unstable();
    quantile(&times, 0.5)
}

fn write(catalog: &Catalog, shard: &ArcSwap<Shard>, company: &Company, stop: &AtomicBool) {
    let begin = Instant::now();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let place = number as usize * 7919 % company.members;
        let present = company.rows.assignments[place * 8].clone();
        let assignment = Assignment { role: role(number as usize % ROLES), resource: Some(resource(place)), ..present };
        let delta = Delta::Changes(vec![Change::Put(OrganizationRecord::Assignment(assignment))]);
        let next = shard.load().advance(catalog, &delta).unwrap().value;
        shard.store(Arc::new(next));
        thread::sleep((begin + Duration::from_secs(1) / RATE * number).saturating_duration_since(Instant::now()));
    }
}
