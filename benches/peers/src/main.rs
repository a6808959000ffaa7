//! One decision, in process, over 100,000 role assignments: Portcullis beside cedar-policy and casbin.
//!
//! Every engine answers every question right before it is measured. Questions are prepared outside the measured part;
//! looking up the ids in them is inside, for all. Rounds are interleaved, and the ratio is formed within a round.

mod casbin;
mod cedar;
mod ours;
mod world;

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use self::casbin::Casbin;
use self::cedar::Cedar;
use self::ours::Ours;
use self::world::{Question, World};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Questions of each kind.
const QUESTIONS: usize = 10_000;
const ROUNDS: usize = 9;
/// At least so long a measurement takes.
const LONG_ENOUGH: Duration = Duration::from_millis(300);

/// An engine with one kind of questions: answers the question with this number.
struct Entry<'a> {
    name: &'static str,
    answer: Box<dyn Fn(usize) -> bool + 'a>,
}

fn main() -> Result<()> {
    let world = World::generate();
    let questions = world.questions(QUESTIONS);

    let ours = timed("portcullis", || Ours::load(&world))?;
    let cedar = timed("cedar-policy", || Cedar::load(&world))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let casbin = timed("casbin", || runtime.block_on(Casbin::load(&world)))?;

    println!("\n| 100,000 assignments | question | ns/check | / portcullis |\n|---|---|---|---|");
    compare(
        "allowed, direct or inherited or through a group",
        true,
        vec![on_ours(&ours, &questions.allowed)?, on_cedar(&cedar, &questions.allowed)?],
    )?;
    compare(
        "allowed, by a role on the resource itself",
        true,
        vec![
            on_ours(&ours, &questions.allowed_directly)?,
            on_cedar(&cedar, &questions.allowed_directly)?,
            on_casbin(&casbin, &questions.allowed_directly),
        ],
    )?;
    compare(
        "denied",
        false,
        vec![
            on_ours(&ours, &questions.denied)?,
            on_cedar(&cedar, &questions.denied)?,
            on_casbin(&casbin, &questions.denied),
        ],
    )
}

fn timed<T>(name: &str, load: impl FnOnce() -> Result<T>) -> Result<T> {
    let begin = Instant::now();
    let loaded = load()?;
    println!("{name} loaded in {:.0} ms", begin.elapsed().as_secs_f64() * 1e3);
    Ok(loaded)
}

fn on_ours<'a>(engine: &'a Ours, questions: &[Question]) -> Result<Entry<'a>> {
    let prepared = questions.iter().map(|question| engine.prepare(question)).collect::<Result<Vec<_>>>()?;
    Ok(Entry { name: "portcullis", answer: Box::new(move |number| engine.allows(&prepared[number])) })
}

fn on_cedar<'a>(engine: &'a Cedar, questions: &[Question]) -> Result<Entry<'a>> {
    let prepared = questions.iter().map(|question| engine.prepare(question)).collect::<Result<Vec<_>>>()?;
    Ok(Entry { name: "cedar-policy 4.14", answer: Box::new(move |number| engine.allows(&prepared[number])) })
}

fn on_casbin<'a>(engine: &'a Casbin, questions: &[Question]) -> Entry<'a> {
    let prepared: Vec<_> = questions.iter().map(|question| engine.prepare(question)).collect();
    Entry { name: "casbin 2.20", answer: Box::new(move |number| engine.allows(&prepared[number])) }
}

/// Prints a row for each engine; the first one is what the others are compared with.
fn compare(question: &str, expected: bool, entries: Vec<Entry<'_>>) -> Result<()> {
    for Entry { name, answer } in &entries {
        let right = (0..QUESTIONS).filter(|number| answer(*number) == expected).count();
        ensure!(right == QUESTIONS, "{name} answers {right} of {QUESTIONS} right: {question}");
    }
    let rounds =
        (0..ROUNDS).map(|_| entries.iter().map(nanoseconds).collect::<Result<Vec<_>>>()).collect::<Result<Vec<_>>>()?;
    for (index, Entry { name, .. }) in entries.iter().enumerate() {
        let each = median(rounds.iter().map(|round| round[index]));
        let ratio = median(rounds.iter().map(|round| round[index] / round[0]));
        println!("| {name} | {question} | {each:.0} | {ratio:.1} |");
    }
    Ok(())
}

/// Processor time for one answer: on a shared machine the clock on the wall also counts others.
fn nanoseconds(entry: &Entry<'_>) -> Result<f64> {
    let (before, begin, mut asked) = (processor_time()?, Instant::now(), 0);
    while begin.elapsed() < LONG_ENOUGH {
        for _ in 0..100 {
            black_box((entry.answer)(asked % QUESTIONS));
            asked += 1;
        }
    }
    Ok((processor_time()? - before) as f64 / asked as f64)
}

/// Nanoseconds that this thread has run, exact to a tick of the scheduler.
fn processor_time() -> Result<u64> {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
