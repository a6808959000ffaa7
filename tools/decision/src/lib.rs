//! The lower floors of `src/` and the tests that judge them, as one crate.
//!
//! `cargo mutants` changes one expression, builds, and runs the tests: of the whole product that would be minutes for each. Here it is one
//! build of this crate. Nothing else uses it.

extern crate self as portcullis;

#[cfg(feature = "gate")]
pub use rooms::{gate, live};

/// Those with a file and a folder of one name.
#[cfg(feature = "gate")]
#[path = "../../../src"]
mod rooms {
    pub mod gate;
    pub mod live;
}

#[path = "../../../src/domain/mod.rs"]
pub mod domain;
#[cfg(feature = "token")]
#[path = "../../../src/files.rs"]
pub mod files;
#[cfg(feature = "rules")]
#[path = "../../../src/rules/mod.rs"]
pub mod rules;
#[cfg(feature = "gate")]
#[path = "../../../src/source/mod.rs"]
pub mod source;
#[cfg(feature = "gate")]
#[path = "../../../src/telemetry/mod.rs"]
pub mod telemetry;
#[cfg(feature = "token")]
#[path = "../../../src/token/mod.rs"]
pub mod token;
#[cfg(feature = "gate")]
#[path = "../../../src/wire/mod.rs"]
pub mod wire;
#[cfg(feature = "rules")]
#[path = "../../../src/yaml/mod.rs"]
pub mod yaml;

#[cfg(test)]
#[path = "../../../tests/advance.rs"]
mod advance;
#[cfg(test)]
#[path = "../../../tests/decisions.rs"]
mod decisions;
#[cfg(test)]
#[path = "../../../tests/metamorphic.rs"]
mod metamorphic;
#[cfg(test)]
#[path = "../../../tests/worked_examples/main.rs"]
mod worked_examples;

#[cfg(test)]
#[cfg(feature = "rules")]
#[path = "../../../tests/rules_errors.rs"]
mod rules_errors;
#[cfg(test)]
#[cfg(feature = "rules")]
#[path = "../../../tests/rules_paths.rs"]
mod rules_paths;
#[cfg(test)]
#[cfg(feature = "rules")]
#[path = "../../../tests/rules_routes.rs"]
mod rules_routes;
#[cfg(test)]
#[cfg(feature = "rules")]
#[path = "../../../tests/rules_values.rs"]
mod rules_values;

#[cfg(test)]
#[cfg(feature = "token")]
#[path = "../../../tests/token_attacks.rs"]
mod token_attacks;
#[cfg(test)]
#[cfg(feature = "token")]
#[path = "../../../tests/token_claims.rs"]
mod token_claims;
#[cfg(test)]
#[cfg(feature = "token")]
#[path = "../../../tests/token_keys.rs"]
mod token_keys;

#[cfg(test)]
#[cfg(feature = "gate")]
#[path = "../../../tests/gate/main.rs"]
mod gate_by_itself;

/// In place of the wiring: the clock of the machine, as the tests use it.
#[cfg(test)]
#[cfg(feature = "gate")]
pub mod app {
    use std::sync::OnceLock;
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    use crate::domain::{Clock, UnixSeconds};

    pub struct SystemClock;

    impl Clock for SystemClock {
        fn now(&self) -> UnixSeconds {
            UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap())
        }

        fn uptime(&self) -> Duration {
            static START: OnceLock<Instant> = OnceLock::new();
            START.get_or_init(Instant::now).elapsed()
        }
    }
}

/// The first of all tests, by its name. Once one has failed the mutant is caught: the others need not run to their end.
#[test]
fn a_failure_ends_the_run() {
    use std::io::Write;

    std::panic::set_hook(Box::new(|failure| {
        // Not `eprintln!`, which a test keeps to itself.
        let _ = writeln!(std::io::stderr(), "{failure}");
        std::process::exit(101);
    }));
}
