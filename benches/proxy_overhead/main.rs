//! What does the whole sidecar cost beside the bare framework it is built on?
//!
//! Against one upstream, in interleaved rounds: the whole of Portcullis, a bare Pingora pass-through on the same
//! allocator, and one on the system's allocator. The proxies run on one core, client and upstream on another. The
//! figure that counts is processor time per request of the proxy, and its ratio within a round: throughput and tail
//! latencies on a shared machine say more about the machine. `docs/performance.md` has the method and the results.
//!
//! `cargo bench --bench proxy_overhead -- --rounds 15 --seconds 1`

#![expect(clippy::print_stdout, reason = "the tables are what this program is for")]
#![expect(clippy::indexing_slicing, clippy::expect_used, reason = "a benchmark may stop by panicking")]

mod instructions;
mod load;
mod process;
mod scenarios;
mod sidecar;
mod statistics;
mod tokens;
mod upstream;

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tokio::task::JoinSet;

use self::load::{Load, Pace};
use self::process::Proxy;
use self::scenarios::Scenario;
use self::statistics::Spread;
use self::tokens::Mint;

/// Measures the sidecar against bare Pingora.
#[derive(Parser)]
struct Options {
    /// How often every scenario is measured on every proxy
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// How long one measurement takes
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Keep-alive connections of the client
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Requests per second of the second table, which shows latencies
    #[arg(long, default_value_t = 4_000)]
    rate: u32,
    /// Only scenarios whose name contains this
    #[arg(long)]
    scenario: Option<String>,
    /// Leave the sidecar out and compare the bare proxies with each other
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// Count instructions with callgrind instead of measuring time, and leave its files in this folder
    #[arg(long)]
    instructions: Option<PathBuf>,
    /// One short round: does it run at all?
    #[arg(long, alias = "test")]
    smoke: bool,
    /// What `cargo bench` says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    Bare,
}

/// A proxy under test.
struct Target {
    name: &'static str,
    proxy: Proxy,
    /// Where it tells its metrics, if it does.
    status: Option<SocketAddr>,
}

/// What one measurement found.
struct Sample {
    requests_per_second: f64,
    processor_microseconds: f64,
    median_latency_microseconds: Option<f64>,
    /// Tokens found in the sidecar's cache, and not found.
    cached_tokens: [u64; 2],
}

fn main() -> Result<()> {
    let mut options = Options::parse();
    if options.smoke {
        options.rounds = 1;
        options.seconds = 0.2;
    }
    // One thread for client and upstream: they share a core, and switching between threads would only add noise.
    tokio::runtime::Builder::new_current_thread().enable_all().event_interval(16).build()?.block_on(measure(&options))
}

async fn measure(options: &Options) -> Result<()> {
    let mint = Mint::new()?;
    let wanted = |name: &str| options.scenario.as_ref().is_none_or(|part| name.contains(part.as_str()));
    let fresh = ((options.seconds + WARM_UP.as_secs_f64()) * FRESH_TOKENS_PER_SECOND) as usize;
    // Signing them takes minutes.
    let mut scenarios = scenarios::all(&mint, if wanted(scenarios::FRESH) { fresh } else { 1 })?;
    scenarios.retain(|scenario| wanted(scenario.name));
    let pinned = process::pin_this_process();

    let wrapper = |name: &str| {
        options.instructions.as_deref().map(|folder| instructions::wrapper(folder, name)).unwrap_or_default()
    };

    let mut background = JoinSet::new();
    let upstream = upstream::start(&mut background).await?;
    let mut targets = start_bare(upstream, &wrapper).await?;
    // The sidecar's files are kept until the end: it reads its facts again when they change.
    let mut files = None;
    if options.only != Some(Only::Bare) {
        let (sidecar, written) = start_sidecar(&mint, upstream, &wrapper).await?;
        files.replace(written);
        refuses_what_it_should(&scenarios, &sidecar.proxy).await?;
        targets.push(sidecar);
    }

    if let Some(folder) = &options.instructions {
        return instructions::count(folder, options.connections, &scenarios, &targets).await;
    }
    println!(
        "{} rounds of {} s, {} connections, {}",
        options.rounds,
        options.seconds,
        options.connections,
        if pinned { "proxy and client each on a core of their own" } else { "not pinned: figures will scatter" }
    );
    println!("\nAs fast as the proxy answers:");
    run_rounds(options, &scenarios, &targets, Pace::Closed, options.rounds).await?;
    println!("\nAt {} requests per second:", options.rate);
    run_rounds(options, &scenarios, &targets, Pace::Fixed(options.rate), options.rounds.div_ceil(3)).await
}

async fn start_bare(upstream: SocketAddr, wrapper: &dyn Fn(&str) -> Vec<String>) -> Result<Vec<Target>> {
    let binaries = build_bare_proxies()?;
    let mut targets = Vec::new();
    for (name, example) in [("bare, mimalloc", "bare_pingora_mimalloc"), ("bare, system", "bare_pingora")] {
        let address = process::free_address()?;
        let arguments = [address.to_string(), upstream.to_string()];
        let arguments = arguments.each_ref().map(String::as_str);
        let mut proxy = Proxy::start(&wrapper(name), &binaries.join(example), &arguments, address)?;
        proxy.ready(address, "/").await?;
        targets.push(Target { name, proxy, status: None });
    }
    Ok(targets)
}

async fn start_sidecar(
    mint: &Mint,
    upstream: SocketAddr,
    wrapper: &dyn Fn(&str) -> Vec<String>,
) -> Result<(Target, sidecar::Files)> {
    let (address, status) = (process::free_address()?, process::free_address()?);
    let files = sidecar::Files::write(mint, address, status, upstream)?;
    let configuration = files.configuration_file();
    let configuration = configuration.to_str().context("the temporary folder has a name in UTF-8")?;
    let binary = Path::new(env!("CARGO_BIN_EXE_portcullis"));
    let name = "portcullis";
    let arguments = ["proxy", "--config", configuration, "--log-level", "warn"];
    let mut proxy = Proxy::start(&wrapper(name), binary, &arguments, address)?;
    proxy.ready(status, "/ready").await?;
    Ok((Target { name, proxy, status: Some(status) }, files))
}

/// A sidecar that lets everything pass would be fast and worth nothing.
async fn refuses_what_it_should(scenarios: &[Scenario], sidecar: &Proxy) -> Result<()> {
    for scenario in scenarios {
        let Some((request, expected)) = &scenario.refused else { continue };
        let status = load::ask_once(sidecar.address, request.clone()).await?;
        ensure!(status == *expected, "{}: the sidecar answered {status}, expected {expected}", scenario.name);
    }
    Ok(())
}

/// Requests before each measurement that are not counted: connections, caches, branch predictors.
const WARM_UP: Duration = Duration::from_millis(100);

/// More than a proxy that verifies every token can answer on one core.
const FRESH_TOKENS_PER_SECOND: f64 = 20_000.0;

async fn run_rounds(
    options: &Options,
    scenarios: &[Scenario],
    targets: &[Target],
    pace: Pace,
    rounds: usize,
) -> Result<()> {
    // samples[scenario][target][round]
    let mut samples: Vec<Vec<Vec<Sample>>> =
        scenarios.iter().map(|_| targets.iter().map(|_| Vec::new()).collect()).collect();
    for round in 0..rounds {
        for (scenario, of_targets) in scenarios.iter().zip(&mut samples) {
            for turn in 0..targets.len() {
                let turn = (turn + round) % targets.len();
                of_targets[turn].push(sample(options, scenario, &targets[turn], pace).await?);
            }
        }
    }
    for (scenario, of_targets) in scenarios.iter().zip(&samples) {
        print_table(scenario, targets, of_targets);
    }
    Ok(())
}

async fn sample(options: &Options, scenario: &Scenario, target: &Target, pace: Pace) -> Result<Sample> {
    let context = || format!("{} on {}", scenario.name, target.name);
    let proxy = &target.proxy;
    let mut load =
        Load::open(proxy.address, options.connections, scenario.requests.clone()).await.with_context(context)?;
    load.run(pace, WARM_UP).await.with_context(context)?;

    let duration = Duration::from_secs_f64(options.seconds);
    let cached_before = cached_tokens(target).await?;
    let before = proxy.processor_time()?;
    let mut outcome = load.run(pace, duration).await.with_context(context)?;
    let used = proxy.processor_time()? - before;
    let cached_after = cached_tokens(target).await?;

    ensure!(outcome.unexpected.is_none(), "{}: answered {:?}", context(), outcome.unexpected);
    ensure!(outcome.requests > 0, "{}: nothing was answered", context());
    outcome.latencies.sort();
    Ok(Sample {
        requests_per_second: outcome.requests as f64 / options.seconds,
        processor_microseconds: used.as_secs_f64() * 1e6 / outcome.requests as f64,
        median_latency_microseconds: outcome
            .latencies
            .get(outcome.latencies.len() / 2)
            .map(|latency| latency.as_secs_f64() * 1e6),
        cached_tokens: [0, 1].map(|result| cached_after[result] - cached_before[result]),
    })
}

/// How many tokens the target has found in its cache so far, and how many it has not.
async fn cached_tokens(target: &Target) -> Result<[u64; 2]> {
    let Some(status) = target.status else { return Ok([0, 0]) };
    let metrics = load::page(status, "/metrics").await?;
    let counter = |result: &str| {
        let series = format!("portcullis_token_cache_total{{result=\"{result}\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
        value.with_context(|| format!("no metric {series}"))?.parse().context("a counter")
    };
    Ok([counter("hit")?, counter("miss")?])
}

/// One row per proxy: throughput, processor time, and the ratios to the bare proxies of the same rounds.
fn print_table(scenario: &Scenario, targets: &[Target], samples: &[Vec<Sample>]) {
    let figures =
        |target: usize| samples[target].iter().map(|sample| sample.processor_microseconds).collect::<Vec<_>>();
    let bare: Vec<usize> = (0..targets.len()).filter(|target| targets[*target].name.starts_with("bare")).collect();
    let mut columns = vec!["req/s".to_owned(), "CPU µs/req".to_owned()];
    columns.extend(bare.iter().map(|target| format!("/ {}", targets[*target].name)));
    let with_latency = samples[0].iter().all(|sample| sample.median_latency_microseconds.is_some());
    if with_latency {
        columns.push("p50 µs".to_owned());
    }
    println!("\n| {} | {} |\n|---|{}", scenario.name, columns.join(" | "), "---|".repeat(columns.len()));
    for (target, Target { name, .. }) in targets.iter().enumerate() {
        let throughput = Spread::of(samples[target].iter().map(|sample| sample.requests_per_second));
        let processor = Spread::of(figures(target));
        let mut cells = vec![format!("{:.0}", throughput.median), format!("{:.1}", processor.median)];
        for bare in &bare {
            let ratio = Spread::of_ratios(&figures(target), &figures(*bare));
            cells.push(format!("{:.3} ({:.3} to {:.3})", ratio.median, ratio.low, ratio.high));
        }
        if with_latency {
            let latency = Spread::of(samples[target].iter().filter_map(|sample| sample.median_latency_microseconds));
            cells.push(format!("{:.0} ({:.0} to {:.0})", latency.median, latency.low, latency.high));
        }
        println!("| {name} | {} |", cells.join(" | "));
    }
    let cached = |result: usize| samples.iter().flatten().map(|sample| sample.cached_tokens[result]).sum::<u64>();
    println!("\nTokens found in the cache: {}, not found: {}", cached(0), cached(1));
}

/// Has cargo build the examples in the profile of this benchmark, and returns the folder they are in.
fn build_bare_proxies() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_BIN_EXE_portcullis")).parent().context("the binary lies in a folder")?;
    let profile = match folder.file_name().and_then(OsStr::to_str) {
        Some("debug") => "dev",
        Some(profile) => profile,
        None => "release",
    };
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--examples", "--profile", profile]);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    // What the outer cargo says of this package; build scripts of dependencies watch it, and would all run again.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|ours| name.to_string_lossy().starts_with(ours)) {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status().context("cargo does not start")?;
    ensure!(status.success(), "the bare proxies do not build");
    Ok(folder.join("examples"))
}
