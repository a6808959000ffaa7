//! The official SDKs against a running store. They cannot tell it from the hosted service: each script calls every method of the areas
//! that the store serves and asserts what comes back.
//!
//! Node: `npm install --no-package-lock --prefix tests/sdk`; Python: `pip install -r tests/sdk/requirements.txt` into `target/sdk-venv` or the
//! system; Rust: `CARGO_TARGET_DIR=target cargo build --locked --manifest-path tests/sdk/rust/Cargo.toml`. What is not there is reported as
//! skipped; the gate sees to all three.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::support::{KEY, Running, on_sqlite, skipped};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

async fn drive(store: &Running, mut command: Command, script: &str) {
    store.usual_model("multiple").await;
    let command = command.arg(format!("http://{}", store.address)).arg(KEY);
    let output = command.stdin(Stdio::null()).output().await.unwrap();
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} failed\n{said}\n{complained}");
    let methods = said.lines().filter(|line| line.contains('.')).count();
    println!("{said}");
    assert!(methods >= 70, "{script} exercised only {methods} methods");
}

fn script(interpreter: impl AsRef<OsStr>, file: &str) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(root().join("tests/sdk").join(file));
    command
}

#[test]
fn the_node_sdk_works_against_the_store() {
    if !root().join("tests/sdk/node_modules/@workos-inc/node").is_dir() {
        skipped("the Node SDK is not installed (npm install --no-package-lock --prefix tests/sdk)");
        return;
    }
    on_sqlite(async |store| drive(store, script("node", "node_sdk.mjs"), "node_sdk.mjs").await);
}

#[test]
fn the_python_sdk_works_against_the_store() {
    let venv = root().join("target/sdk-venv/bin/python");
    let python = if venv.exists() { venv } else { PathBuf::from("python3") };
    let found = std::process::Command::new(&python).args(["-c", "import workos"]).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        skipped("the Python SDK is not installed (pip install -r tests/sdk/requirements.txt)");
        return;
    }
    on_sqlite(async |store| drive(store, script(&python, "python_sdk.py"), "python_sdk.py").await);
}

#[test]
fn the_rust_sdk_works_against_the_store() {
    let program = root().join("target/debug/rust_sdk");
    if !program.exists() {
        skipped(
            "the Rust SDK is not built \
             (CARGO_TARGET_DIR=target cargo build --locked --manifest-path tests/sdk/rust/Cargo.toml)",
        );
        return;
    }
    on_sqlite(async |store| drive(store, Command::new(&program), "rust_sdk").await);
}
