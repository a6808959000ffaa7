//! Instructions instead of time: the proxies run under callgrind, which counts what their own code executes, the same on a busy machine
//! as on a quiet one. What the kernel does for them is not in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Target;
use crate::load::{Load, Pace};
use crate::process::Proxy;
use crate::scenarios::Scenario;

/// Long enough for every request of a cached scenario to be asked once, at the speed of a simulated processor.
const WARM_UP: Duration = Duration::from_secs(4);
/// How long requests are counted.
const COUNTED: Duration = Duration::from_secs(4);

/// The command line that a proxy called `name` is started with, in front of its own; callgrind's files go to `folder`.
pub fn wrapper(folder: &Path, name: &str) -> Vec<String> {
    let file = prefix(folder, name).display().to_string();
    vec![
        "valgrind".to_owned(),
        "--quiet".to_owned(),
        "--tool=callgrind".to_owned(),
        format!("--callgrind-out-file={file}"),
    ]
}

fn prefix(folder: &Path, name: &str) -> PathBuf {
    folder.join(name.replace([',', ' '], "-"))
}

/// Prints the instructions per request of every proxy in every scenario.
pub async fn count(folder: &Path, connections: usize, scenarios: &[Scenario], targets: &[Target]) -> Result<()> {
    let mut dumps = vec![0; targets.len()];
    println!("\n| scenario | {} |", targets.iter().map(|target| target.name).collect::<Vec<_>>().join(" | "));
    println!("|---|{}", "---|".repeat(targets.len()));
    for scenario in scenarios {
        let mut cells = Vec::new();
        for (target, dumps) in targets.iter().zip(&mut dumps) {
            let mut load = Load::open(target.proxy.address, connections, scenario.requests.clone()).await?;
            load.run(Pace::Closed, WARM_UP).await?;
            dump(&target.proxy)?;
            let outcome = load.run(Pace::Closed, COUNTED).await?;
            dump(&target.proxy)?;
            *dumps += 2;
            ensure!(outcome.unexpected.is_none(), "{}: answered {:?}", scenario.name, outcome.unexpected);
            let file = format!("{}.{dumps}", prefix(folder, target.name).display());
            cells.push((total(Path::new(&file))? / outcome.requests.max(1)).to_string());
        }
        println!("| {} | {} |", scenario.name, cells.join(" | "));
    }
    Ok(())
}

/// Has callgrind write down what it counted since the last time. Nothing is in flight while this waits.
fn dump(proxy: &Proxy) -> Result<()> {
    let mut command = Command::new("callgrind_control");
    let output = command.args(["--dump", &proxy.id().to_string()]).output();
    let output = output.context("callgrind_control, a part of valgrind, does not start")?;
    ensure!(output.status.success(), "callgrind_control: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn total(file: &Path) -> Result<u64> {
    let text = fs::read_to_string(file).with_context(|| format!("`{}`", file.display()))?;
    let line = text.lines().rev().find_map(|line| line.strip_prefix("totals:"));
    Ok(line.context("callgrind's file has no total")?.trim().parse()?)
}
