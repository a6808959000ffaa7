//! Other verifiers, each a script that is told keys once and tokens ever after.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::mutants::{ALGORITHMS, Mutant};
use super::token_support::{ISS, NOW, Signer};

/// A running script.
pub struct Judge {
    name: &'static str,
    child: Child,
    tell: Option<ChildStdin>,
    told: BufReader<ChildStdout>,
}

impl Judge {
    /// Those that are there; the others are reported.
    pub fn installed() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut judges = Vec::new();
        if root.join("tests/sdk/node_modules/jose").is_dir() {
            judges.push(Self::start("jose", Command::new("node").arg(root.join("tests/sdk/judge_jose.mjs"))));
        } else {
            skipped("jose is not installed (npm install --no-package-lock --prefix tests/sdk)");
        }
        let venv = root.join("target/sdk-venv/bin/python");
        let python = if venv.exists() { venv } else { PathBuf::from("python3") };
        let found = Command::new(&python).args(["-c", "import jwt, cryptography"]).stderr(Stdio::null()).status();
        if found.is_ok_and(|status| status.success()) {
            judges.push(Self::start("pyjwt", Command::new(python).arg(root.join("tests/sdk/judge_pyjwt.py"))));
        } else {
            skipped("pyjwt is not installed (pip install -r tests/sdk/requirements.txt)");
        }
        judges
    }

    fn start(name: &'static str, command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (tell, told) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let keys: Vec<_> = ALGORITHMS.iter().map(|algorithm| Signer::published(*algorithm).jwk.clone()).collect();
        let mut judge = Self { name, child, tell, told };
        // As the verifier of these tests has it.
        judge.say(&[json!({"keys": keys, "issuer": ISS, "now": NOW.0, "leeway": 30})]);
        judge
    }

    /// It accepts all of them.
    pub fn accepts_all(&mut self, tokens: &[Mutant]) {
        let refusals = self.refusals(tokens);
        let shown: Vec<String> = refusals
            .iter()
            .take(20)
            .map(|(at, why)| format!("{why}: {}: {}", tokens[*at].how, tokens[*at].token))
            .collect();
        assert!(
            refusals.is_empty(),
            "{} refuses {} that are accepted here:\n{}",
            self.name,
            refusals.len(),
            shown.join("\n")
        );
    }

    /// Those it refuses, and why.
    pub fn refusals(&mut self, tokens: &[Mutant]) -> Vec<(usize, String)> {
        let mut refusals = Vec::new();
        // Few enough at a time that neither side waits for the other to read.
        for (chunk, tokens) in tokens.chunks(16).enumerate() {
            let lines: Vec<Value> = tokens
                .iter()
                .map(|mutant| json!({"token": mutant.token, "algorithm": format!("{:?}", mutant.algorithm), "kid": mutant.kid}))
                .collect();
            self.say(&lines);
            for at in 0..tokens.len() {
                let mut said = String::new();
                assert!(self.told.read_line(&mut said).unwrap() > 0, "{} has ended", self.name);
                if !said.trim_end().is_empty() {
                    refusals.push((chunk * 16 + at, format!("{}: {}", self.name, said.trim_end())));
                }
            }
        }
        refusals
    }

    fn say(&mut self, lines: &[Value]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let tell = self.tell.as_mut().unwrap();
        tell.write_all(text.as_bytes()).unwrap();
        tell.flush().unwrap();
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        // It ends with what it is told.
        drop(self.tell.take());
        let _ = self.child.wait();
    }
}

/// Says that something was not compared, and why; a failure where `PORTCULLIS_NO_SKIPS` is set, as the gate does.
fn skipped(why: &str) {
    assert!(std::env::var_os("PORTCULLIS_NO_SKIPS").is_none(), "skipped: {why}");
    eprintln!("skipped: {why}");
}
