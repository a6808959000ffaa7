//! Whatever our verifier accepts, `jose` (npm) and `pyjwt` accept as well, with the same key and the same pinned algorithm: thousands of tokens,
//! each a good one that was changed and signed again, or changed after it was signed.
//!
//! Node: `npm install --no-package-lock --prefix tests/sdk`; Python: `pip install -r tests/sdk/requirements.txt` into `target/sdk-venv` or the
//! system. What is not there is reported as skipped; the gate sees to both. `PORTCULLIS_TOKENS` says how many tokens, and
//! `PORTCULLIS_TOKENS_SEED` which. With no judge at all, every accepted token is still held against what it was made from.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and says what it skipped"
)]

mod judge;
mod mutants;
#[path = "../token_support/mod.rs"]
mod token_support;

use std::collections::HashMap;

use portcullis::domain::TokenFault;
use portcullis::token::{TokenError, TokenVerifier};

use self::judge::Judge;
use self::mutants::Mutants;
use self::token_support::{NOW, verifier};

/// Unless something else is said: what a plain `cargo test` has time for.
const TOKENS: usize = 3_000;

/// So many are judged at once.
const BATCH: usize = 2_000;

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn what_is_accepted_here_is_accepted_by_jose_and_by_pyjwt() {
    let tokens = number("PORTCULLIS_TOKENS").unwrap_or(TOKENS);
    let mut mutants = Mutants::new(number("PORTCULLIS_TOKENS_SEED").unwrap_or(1) as u64);
    let mut judges: Vec<Judge> = Judge::installed();
    let verifier = verifier(|_| {});
    let (mut compared, mut refused) = (0, HashMap::<TokenFault, usize>::new());
    let mut batch = Vec::new();
    for at in 0..tokens {
        let mutant = mutants.next();
        match verifier.verify(&mutant.token, NOW) {
            Ok(_) => {
                assert!(
                    mutant.is_signed,
                    "{} is accepted, though changed after it was signed: {}",
                    mutant.token, mutant.how
                );
                batch.push(mutant);
            }
            Err(TokenError::Fault(fault, _)) => *refused.entry(fault).or_default() += 1,
            Err(error) => panic!("{error}: {}", mutant.token),
        }
        if batch.len() == BATCH || at + 1 == tokens {
            compared += batch.len();
            for judge in &mut judges {
                judge.accepts_all(&batch);
            }
            batch.clear();
        }
    }
    eprintln!("{tokens} tokens, {compared} accepted here and by {} judges; refused: {refused:?}", judges.len());
    assert!(compared * 10 >= tokens, "only {compared} of {tokens} tokens were accepted: nothing was compared");
    assert!(refused.len() >= 8, "the changes lead to few faults: {refused:?}");
}

#[test]
fn a_judge_refuses_what_is_forged() {
    for judge in &mut Judge::installed() {
        let mut mutants = Mutants::new(7);
        let mut good = std::iter::repeat_with(|| mutants.good()).take(2);
        let (one, other) = (good.next().unwrap(), good.next().unwrap());
        judge.accepts_all(&[one.clone(), other.clone()]);
        let (head, _) = one.token.rsplit_once('.').unwrap();
        let (_, signature) = other.token.rsplit_once('.').unwrap();
        let mut forged = one.clone();
        forged.token = format!("{head}.{signature}");
        let refused = judge.refusals(&[one, forged]);
        assert_eq!(refused.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1], "{refused:?}");
    }
}
