//! Changes inputs at random, without knowing what they do: whoever knows is libFuzzer, in `fuzz/`.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// No input grows beyond this.
const LONGEST: usize = 8 * 1024;

/// What often makes a difference, wherever it stands.
const WORDS: [&str; 24] = [
    "\0",
    "\r\n",
    "\n",
    " ",
    "\"",
    "\\",
    "%2e",
    "%2F",
    "%00",
    "%",
    "..",
    "//",
    "0",
    "-1",
    "18446744073709551616",
    "9007199254740993",
    "1e400",
    "null",
    "{}",
    "[]",
    "\u{feff}",
    "\u{202e}é",
    "\\u0000",
    "${A}",
];

/// An endless row of inputs, the same for the same seed.
pub struct Mutator {
    corpus: Vec<Vec<u8>>,
    words: &'static [&'static str],
    chance: StdRng,
}

impl Mutator {
    pub fn new(corpus: Vec<Vec<u8>>, words: &'static [&'static str], seed: u64) -> Self {
        Self { corpus, words, chance: StdRng::seed_from_u64(seed) }
    }

    /// One of the corpus, changed in one to eight places.
    pub fn next(&mut self) -> Vec<u8> {
        let mut input = self.any_input();
        for _ in 0..1 << self.chance.random_range(0..4) {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn any_input(&mut self) -> Vec<u8> {
        self.corpus[self.chance.random_range(0..self.corpus.len())].clone()
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.chance.random_range(0..=input.len());
        let span = at..(at + self.chance.random_range(0..=16)).min(input.len());
        match self.chance.random_range(0..10) {
            0 => change_byte(input, at, |byte, chance| byte ^ 1 << chance.random_range(0..8), &mut self.chance),
            1 => change_byte(input, at, |_, chance| chance.random(), &mut self.chance),
            2 => drop(input.drain(span)),
            3 => {
                let copy = input[span].to_vec();
                let times = self.chance.random_range(1..=if copy.len() < 4 { 64 } else { 3 });
                drop(input.splice(at..at, copy.repeat(times)));
            }
            4 => input.truncate(at),
            5 => drop(input.splice(at..at, [self.chance.random()])),
            6 => {
                // The beginning of this one and the end of another.
                let other = self.any_input();
                let from = self.chance.random_range(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            7 => {
                // A piece moves.
                let piece: Vec<u8> = input.drain(span).collect();
                let to = self.chance.random_range(0..=input.len());
                drop(input.splice(to..to, piece));
            }
            8 => drop(input.splice(span, self.word().bytes())),
            _ => drop(input.splice(at..at, self.word().bytes())),
        }
    }

    fn word(&mut self) -> &'static str {
        let at = self.chance.random_range(0..WORDS.len() + self.words.len() * 3);
        WORDS.get(at).copied().unwrap_or_else(|| self.words[(at - WORDS.len()) % self.words.len()])
    }
}

fn change_byte(input: &mut [u8], at: usize, change: impl Fn(u8, &mut StdRng) -> u8, chance: &mut StdRng) {
    if let Some(byte) = input.get_mut(at) {
        *byte = change(*byte, chance);
    }
}
