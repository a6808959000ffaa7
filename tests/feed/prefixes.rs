//! Whatever happens on the line and to the log: what is in force is a state that the store had, it never goes back, what came later is not
//! seen without what came before, and in the end it is what the store has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis::domain::{OrganizationId, ResourceRef};
use portcullis::live::{Lookup, World};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::company::{Company, on_every_engine};
use crate::line::{Line, Mode};
use crate::sidecar::{Sidecar, eventually};
use crate::support::Running;

/// Things that happen in one run, unless `PORTCULLIS_TURNS` says otherwise.
const TURNS: u64 = 60;

/// A company, and from which number of the log on its member could edit or could not.
struct Told {
    company: Company,
    assignment: Option<String>,
    states: BTreeMap<u64, bool>,
}

impl Told {
    async fn turn(&mut self, store: &Running) -> u64 {
        let seq = match self.assignment.take() {
            Some(assignment) => self.company.shut_out(store, &assignment).await,
            None => {
                let (assignment, seq) = self.company.let_in(store).await;
                self.assignment = Some(assignment);
                seq
            }
        };
        self.states.insert(seq, self.assignment.is_some());
        seq
    }
}

/// What was seen of a company at one moment: the number of what was in force, and whether its member could edit.
type Seen = (usize, u64, bool, bool);

/// Looks as requests do, as often as it can, until it is told to stop.
fn look(world: &World, companies: &[(OrganizationId, Company)], stop: &AtomicBool) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    let mut last = 0;
    let permission = "project:edit".parse().unwrap();
    while !stop.load(Ordering::Relaxed) {
        for (index, (organization, company)) in companies.iter().enumerate() {
            let known = world.revision().map_or(0, |revision| revision.seq);
            assert!(known >= last, "facts went back from {last} to {known}");
            last = known;
            let Lookup::Ready(view) = world.view(organization) else { continue };
            let seq = view.revision().seq;
            assert!(view.is_former() || seq >= known, "{seq} is decided on while {known} is in force");
            let project = ResourceRef::Id(company.project.as_str().into());
            let may = view.shard().is_some_and(|shard| {
                shard.check(view.catalog(), &company.membership.parse().unwrap(), &permission, &project)
            });
            let seen = (index, seq, may, view.is_former());
            if all.iter().rev().find(|(other, ..)| *other == index) != Some(&seen) {
                all.push(seen);
            }
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    all
}

fn fault(random: &mut StdRng) -> Mode {
    match random.random_range(0..12) {
        0 => Mode::Cut,
        1 => Mode::Silent,
        2 => Mode::CutAfter(random.random_range(0..6000)),
        3..6 => Mode::Slow(Duration::from_millis(random.random_range(1..30))),
        _ => Mode::Open,
    }
}

#[test]
fn what_is_in_force_is_always_a_state_that_the_store_had() {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let (turns, seed) = (number("PORTCULLIS_TURNS").unwrap_or(TURNS), number("PORTCULLIS_SEED").unwrap_or(1));
    on_every_engine(async |store| {
        println!("seed {seed}, {turns} turns");
        let mut random = StdRng::seed_from_u64(seed);
        let mut told = Vec::new();
        for name in ["Acme", "Globex", "Initech"] {
            told.push(Told { company: Company::found(store, name).await, assignment: None, states: BTreeMap::new() });
        }
        let line = Line::to(store.address).await;
        let sidecar = Sidecar::start(line.address);
        sidecar.is_fresh().await;
        let (world, stop) = (Arc::clone(&sidecar.world), Arc::new(AtomicBool::new(false)));
        let companies: Vec<_> = told
            .iter()
            .map(|told| {
                let Company { organization, membership, project } = &told.company;
                let [organization, membership, project] = [organization, membership, project].map(Clone::clone);
                (organization.parse().unwrap(), Company { organization, membership, project })
            })
            .collect();
        let looking = std::thread::spawn({
            let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
            move || look(&world, &companies, &stop)
        });
        let mut last = 0;
        for turn in 0..turns {
            line.set(fault(&mut random));
            for _ in 0..random.random_range(0..6) {
                let one = random.random_range(0..told.len());
                last = told[one].turn(store).await;
            }
            let one = told[random.random_range(0..told.len())].company.organization.parse().unwrap();
            match random.random_range(0..12) {
                0 => line.break_off().await,
                1 => world.forget(&one),
                2 if turn % 4 == 0 => store.store.tidy().await.unwrap(),
                3..7 => tokio::time::sleep(Duration::from_millis(random.random_range(0..150))).await,
                _ => drop(world.load(&one).await),
            }
        }
        line.set(Mode::Open);
        sidecar.reaches(last).await;
        sidecar.is_fresh().await;
        for told in &told {
            let Company { organization, membership, project } = &told.company;
            let may = async || sidecar.may(organization, membership, "project:edit", project).await;
            eventually(async || may().await.is_some()).await;
            assert_eq!(may().await, Some(told.assignment.is_some()));
        }
        stop.store(true, Ordering::Relaxed);
        let seen = looking.join().unwrap();
        for (at, &(index, seq, may, _)) in seen.iter().enumerate() {
            let told = &told[index].states;
            let is_told = told.range(..=seq).next_back().is_some_and(|(_, may)| *may);
            let around = &seen[at.saturating_sub(12)..seen.len().min(at + 12)];
            assert_eq!(may, is_told, "company {index} at {seq}: {told:?}\n{around:?}");
        }
        println!("{} states seen, of {last} transactions", seen.len());
        assert!(seen.len() > usize::try_from(turns).unwrap() / 4, "too little was seen: {}", seen.len());
        assert_eq!(sidecar.divergence(), 0);
        sidecar.stop().await;
    });
}
