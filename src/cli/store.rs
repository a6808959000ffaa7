//! `portcullis store`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Exit, Logging, keep_memory_private, log_to_standard_error, runtime, say};
use crate::app::store::StoreApp;
use crate::app::{self, SystemClock};
use crate::config::{self, ProcessEnvironment};

/// Run the bundled store until it is told to stop; SIGTERM and Ctrl-C let requests in flight finish.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Example:\n  portcullis store --config store.yaml"
)]
pub(super) struct Store {
    /// The configuration.
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<StoreCommand>,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Begin a new epoch after the database was restored from a backup, so that every sidecar starts over.
    #[command(after_help = "Example:\n  portcullis store new-epoch --config store.yaml")]
    NewEpoch {
        /// The configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

impl Store {
    pub(super) fn run(self, logging: &Logging) -> anyhow::Result<Exit> {
        match (self.command, self.config) {
            (Some(StoreCommand::NewEpoch { config }), _) => new_epoch(&config),
            (None, Some(config)) => serve(&config, logging),
            (None, None) => anyhow::bail!("`--config` is missing"),
        }
    }
}

fn serve(file: &Path, logging: &Logging) -> anyhow::Result<Exit> {
    let config = config::store::load(file, &ProcessEnvironment)?;
    let metrics = Arc::new(app::store::metrics()?);
    let sink = log_to_standard_error(logging, config.log_format, &metrics.log_lines_dropped, &metrics.panics)?;
    keep_memory_private();
    let result = store_runtime()?.block_on(async {
        let app = StoreApp::build(config, Arc::new(SystemClock), metrics).await?;
        tracing::info!(address = %app.address(), "listening");
        app.run().await?;
        anyhow::Ok(())
    });
    sink.flush(Duration::from_secs(1));
    result.map(|()| Exit::Good)
}

fn store_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

fn new_epoch(file: &Path) -> anyhow::Result<Exit> {
    let config = config::store::load(file, &ProcessEnvironment)?;
    runtime()?.block_on(async {
        let store = app::store::open(&config, Arc::new(SystemClock), Arc::new(app::store::metrics()?)).await?;
        let revision = store.new_epoch().await?;
        store.close().await;
        say(&format!("the log goes on at {revision}"));
        Ok(Exit::Good)
    })
}
