//! Bytes that nobody has written, into everything that reads bytes from others: each target replays its corpus, then changes it at random.
//!
//! A plain `cargo test` makes a few hundred changes for each target; `PORTCULLIS_FUZZ_SECONDS` says for how many seconds to go on with
//! each instead, and `PORTCULLIS_FUZZ_SEED` with which changes. What fails is written to `target/fuzz/TARGET/`: once it is mended, that
//! file belongs in `tests/fuzz/corpus/TARGET/`. The same targets run under cargo-fuzz, see `fuzz/`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and says which bytes made it"
)]

mod formats;
mod mutate;
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use self::mutate::Mutator;

/// The longest that a thread may compute for one input. Without optimisations everything takes several times as long.
const LONGEST: Duration = Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 50 });

/// How much a plain `cargo test` does: whichever comes first.
const MOST_CHANGES: u32 = 400;
const SHORT: Duration = Duration::from_millis(600);

fn fuzz(name: &str, target: fn(&[u8])) {
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has no corpus");
    for input in &corpus {
        attempt(name, target, input);
    }
    let number = |name| std::env::var(name).ok().map(|text: String| text.parse::<u64>().unwrap());
    let seconds = number("PORTCULLIS_FUZZ_SECONDS").unwrap_or(0);
    let mut mutator = Mutator::new(corpus, targets::words(name), number("PORTCULLIS_FUZZ_SEED").unwrap_or(1));
    let (begun, mut changes) = (Instant::now(), 0_u32);
    let goes_on = |changes: u32| match seconds {
        0 => changes < MOST_CHANGES && begun.elapsed() < SHORT,
        seconds => begun.elapsed() < Duration::from_secs(seconds),
    };
    while goes_on(changes) {
        attempt(name, target, &mutator.next());
        changes += 1;
    }
    eprintln!("{name}: {changes} inputs in {:?}", begun.elapsed());
}

/// The committed inputs, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

/// One input: no panic, no broken promise, no long computation.
fn attempt(name: &str, target: fn(&[u8]), input: &[u8]) {
    let run = || {
        let begun = computed();
        target(input);
        computed().saturating_sub(begun)
    };
    // What is made on first use, and what the machine did meanwhile, counts once.
    let judged = catch_unwind(AssertUnwindSafe(|| {
        let slow = (0..3).all(|_| run() > LONGEST);
        assert!(!slow, "{name} computes for more than {LONGEST:?}");
    }));
    if let Err(failure) = judged {
        let file = keep(name, input);
        eprintln!("{name} fails on {} bytes, kept in {}: {}", input.len(), file.display(), input.escape_ascii());
        resume_unwind(failure);
    }
}

/// How long this thread has computed.
fn computed() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

fn keep(name: &str, input: &[u8]) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz").join(name);
    fs::create_dir_all(&folder).unwrap();
    let sum = input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let file = folder.join(format!("{sum:016x}"));
    fs::write(&file, input).unwrap();
    file
}

/// One test for each target, under its name.
macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                fuzz(stringify!($name), targets::$name);
            }
        )*

        #[test]
        fn every_target_has_a_corpus_and_a_wrapper() {
            let names = [$(stringify!($name)),*];
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            let listed = |folder: &str| {
                let mut all: Vec<String> = fs::read_dir(root.join(folder)).unwrap()
                    .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
                all.sort();
                all
            };
            assert_eq!(listed("tests/fuzz/corpus"), names);
            assert_eq!(listed("fuzz/fuzz_targets"), names);
        }
    };
}

targets! {
    f01_token f02_key_set f03_claims f04_path f05_headers f06_configuration f07_feed f08_rows f09_disk f10_revision f11_store f12_ids
    f13_events f14_http1 f15_http2
}

#[test]
fn a_broken_promise_is_found() {
    fn fails_on_a_repetition(input: &[u8]) {
        assert!(!input.windows(2).any(|pair| pair == b"!!"), "found");
    }
    let mut mutator = Mutator::new(vec![b"a!b".to_vec()], &[], 1);
    assert!((0..100_000).any(|_| catch_unwind(AssertUnwindSafe(|| fails_on_a_repetition(&mutator.next()))).is_err()));
}
