//! How long does one decision take, from texts to permit?
//!
//! `hot` asks one question again and again; `random` asks 200,000 different ones of a large organization, so that nearly every look-up
//! misses the caches.

#![allow(missing_docs, reason = "criterion's macros write items without documentation")]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::print_stderr, reason = "a bench may panic and print")]

mod company;

use std::hint::black_box;

use company::*;
use criterion::{Criterion, criterion_group, criterion_main};
use portcullis::domain::record::*;
use portcullis::domain::{Catalog, Keep, Shard};
use rand::SeedableRng;
use rand::rngs::SmallRng;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn ask(
    criterion: &mut Criterion,
    name: &str,
    catalog: &Catalog,
    shard: &Shard,
    questions: &[Question],
    allowed: Option<bool>,
) {
    let granted = questions.iter().filter(|question| question.ask(catalog, shard).is_allowed()).count();
    match allowed {
        Some(true) => assert_eq!(granted, questions.len(), "{name}"),
        Some(false) => assert!(granted * 50 < questions.len().max(51), "{name}: {granted} granted"),
        None => {}
    }
    criterion.bench_function(name, |bencher| {
        let mut next = questions.iter().cycle();
        bencher.iter(|| {
            let question = next.next().expect("a question");
            black_box(question.ask(catalog, shard).is_allowed())
        });
    });
}

fn hot(criterion: &mut Criterion) {
    let catalog = catalog();
    let company = Company::of(10_000);
    let shard = company.shard(&catalog);
    let mut random = SmallRng::seed_from_u64(1);
    ask(criterion, "decide/hot/allow", &catalog, &shard, &[Question::random(&company, &mut random, true)], Some(true));
    let denied = loop {
        let question = Question::random(&company, &mut random, false);
        if !question.ask(&catalog, &shard).is_allowed() {
            break question;
        }
    };
    ask(criterion, "decide/hot/deny", &catalog, &shard, &[denied], Some(false));
    let mixed: Vec<_> = (0..256).map(|place| Question::random(&company, &mut random, place % 2 == 0)).collect();
    ask(criterion, "decide/warm/256_mixed", &catalog, &shard, &mixed, None);
}

/// A membership in 20 groups, a resource five levels down: the longest usual walk.
fn deep(criterion: &mut Criterion) {
    let catalog = catalog();
    let mut company = Company::of(10_000);
    for place in 0..20 {
        company.rows.group_members.push(GroupMember { group: group(place), membership: membership(0) });
    }
    let level = |place: usize, parent: Option<usize>| Resource {
        id: resource(place),
        resource_type: kind(),
        external_id: external(place),
        parent: parent.map(resource),
    };
    company.rows.resources.extend((0..5).map(|depth| level(1_000_000 + depth, (depth > 0).then(|| 999_999 + depth))));
    let shard = Shard::build(&catalog, &organization(), &company.rows, Keep::default()).expect("a shard").value;
    let question = Question::new(0, permission(3), 1_000_004);
    ask(criterion, "decide/hot/deny_depth_5_groups_21", &catalog, &shard, &[question], Some(false));
}

fn random(criterion: &mut Criterion) {
    for (size, name) in [(1_000_000, "1M"), (10_000_000, "10M")] {
        let catalog = catalog();
        let company = Company::of(size);
        let shard = company.shard(&catalog);
        let mut random = SmallRng::seed_from_u64(2);
        let mut questions = |granted: fn(usize) -> bool| -> Vec<_> {
            (0..sized(200_000)).map(|place| Question::random(&company, &mut random, granted(place))).collect()
        };
        let (allow, deny, mixed) = (questions(|_| true), questions(|_| false), questions(|place| place % 2 == 0));
        drop(company);
        ask(criterion, &format!("decide/random_{name}/allow"), &catalog, &shard, &allow, Some(true));
        ask(criterion, &format!("decide/random_{name}/deny"), &catalog, &shard, &deny, Some(false));
        ask(criterion, &format!("decide/random_{name}/mixed"), &catalog, &shard, &mixed, None);
    }
}

criterion_group!(benches, hot, deep, random);
criterion_main!(benches);
