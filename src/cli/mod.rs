//! The commands: one file each. Results go to standard output, logs and errors to standard error.

mod demo;
mod explain;
mod model;
mod proxy;
mod schema;
mod store;
mod store_client;
mod token;
mod validate;
mod who;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use bytes::Bytes;
use clap::{Args, Parser, Subcommand, ValueEnum};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prometheus::IntCounter;

use crate::app::AppError;
use crate::app::offline::OfflineError;
use crate::config::ConfigError;
use crate::config::issuer::MintError;
use crate::telemetry::{self, Format, Sink};

/// Log lines that may wait for the writer.
const LOG_QUEUE: usize = 8 * 1024;

/// An authorization sidecar: verifies session tokens, decides every request by YAML rules, forwards what is permitted.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    logging: Logging,
    #[command(subcommand)]
    command: Command,
}

/// How the process logs; to standard error.
#[derive(Debug, Clone, Args)]
pub(crate) struct Logging {
    /// How log lines look: text or json; without it, as the configuration says.
    #[arg(long, value_name = "FORMAT", global = true, value_parser = parse_format)]
    pub(crate) log_format: Option<Format>,
    /// The least important level to log: error, warn, info, debug, trace, or `target=level` pairs.
    #[arg(long, value_name = "LEVEL", global = true, default_value = "info")]
    pub(crate) log_level: String,
}

fn parse_format(text: &str) -> Result<Format, String> {
    text.parse()
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on this machine: sample company, issuer, upstream and sidecar.
    Demo(demo::Demo),
    /// Run the sidecar.
    Proxy(proxy::Proxy),
    /// Run the bundled store.
    Store(store::Store),
    /// Compare or apply resource types, permissions and roles.
    Model(model::Model),
    /// Check a configuration, run its tests, print its routes.
    Validate(validate::Validate),
    /// Say what would become of one request, and why.
    Explain(explain::Explain),
    /// Say who can reach a route, and by what.
    Who(who::Who),
    /// Print the JSON Schema of a file format.
    Schema(schema::Schema),
    /// Make or read tokens.
    Token(token::Token),
}

/// How a command's result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How a command ended (`interfaces`: the exit codes of every command).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All as asked.
    Good,
    /// Something failed.
    Failed,
    /// The configuration is wrong; nothing was started.
    Configuration,
    /// `explain`: the request would be denied.
    Denied,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Good => Self::SUCCESS,
            Exit::Failed => Self::from(1),
            Exit::Configuration => Self::from(2),
            Exit::Denied => Self::from(3),
        }
    }
}

/// Keeps the keys in this process's memory out of core dumps, and out of reach of other processes of its user.
fn keep_memory_private() {
    let kept = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    if let Err(error) = kept {
        tracing::warn!(%error, "a core dump of this process would hold its keys");
    }
}

/// Parses the arguments of the process, runs the command, and says how it ended.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Demo(command) => command.run(&arguments.logging),
        Command::Proxy(command) => command.run(&arguments.logging),
        Command::Store(command) => command.run(&arguments.logging),
        Command::Model(command) => command.run(),
        Command::Validate(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Who(command) => command.run(),
        Command::Schema(command) => command.run(),
        Command::Token(command) => command.run(),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            let is_configuration = error.chain().any(|cause| {
                let no_issuer = matches!(cause.downcast_ref(), Some(MintError::Config(_)));
                let nowhere_to_meet = matches!(cause.downcast_ref(), Some(AppError::NowhereToMeet));
                no_issuer || nowhere_to_meet || cause.is::<ConfigError>() || cause.is::<OfflineError>()
            });
            say_error(&format!("error: {error:#}"));
            if is_configuration { Exit::Configuration.into() } else { Exit::Failed.into() }
        }
    }
}

/// Prints one line of a result. A reader that has gone, as in `| head`, is no error.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints one line to standard error.
pub(crate) fn say_error(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Starts logging to standard error.
pub(crate) fn start_logging(logging: &Logging, default: Format, metrics: &telemetry::Metrics) -> anyhow::Result<Sink> {
    log_to_standard_error(logging, default, &metrics.log_lines_dropped, &metrics.panics)
}

/// The same, counting in series that the caller names.
fn log_to_standard_error(
    logging: &Logging,
    default: Format,
    dropped: &IntCounter,
    panics: &IntCounter,
) -> anyhow::Result<Sink> {
    let sink = Sink::start(std::io::stderr(), LOG_QUEUE, dropped.clone())?;
    telemetry::install(logging.log_format.unwrap_or(default), &logging.log_level, sink.clone())?;
    telemetry::count_panics(panics.clone());
    Ok(sink)
}

/// A runtime for commands that wait for something.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

/// Asks the admin listener at `base` a question, showing it `token`, and returns its answer.
pub(crate) fn ask_admin(
    base: &str,
    token: Option<&str>,
    path: &str,
    question: &impl serde::Serialize,
) -> anyhow::Result<serde_json::Value> {
    let url: http::Uri = format!("{}{path}", base.trim_end_matches('/')).parse().context("`--admin` is not a URL")?;
    let body = Full::new(Bytes::from(serde_json::to_vec(question)?));
    let mut request = http::Request::post(url).header(http::header::CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(http::header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(body)?;
    runtime()?.block_on(async {
        let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let response =
            client.request(request).await.with_context(|| format!("cannot reach the sidecar at `{base}`"))?;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        let answer: serde_json::Value = serde_json::from_slice(&answer).context("the answer is not JSON")?;
        let detail = answer.get("detail").and_then(serde_json::Value::as_str).unwrap_or_default();
        anyhow::ensure!(status.is_success(), "the sidecar answers {status}: {detail}");
        Ok(answer)
    })
}
