//! `portcullis proxy`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::{Exit, Logging, start_logging};
use crate::app::{App, SystemClock, build};
use crate::config::{self, ProcessEnvironment};

/// Run the sidecar until it is told to stop; SIGTERM and Ctrl-C let requests in flight finish, SIGHUP reloads.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  portcullis proxy --config portcullis.yaml")]
pub(super) struct Proxy {
    /// The configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Proxy {
    pub(super) fn run(self, logging: &Logging) -> anyhow::Result<Exit> {
        let config = config::load(&self.config, &ProcessEnvironment)?;
        let metrics = Arc::new(build::metrics()?);
        let sink = start_logging(logging, config.log.format, &metrics)?;
        let app = App::build(config, Some(self.config), Arc::new(SystemClock), metrics, sink.clone())?;
        for address in app.addresses() {
            tracing::info!(%address, "listening");
        }
        app.run();
        sink.flush(std::time::Duration::from_secs(1));
        Ok(Exit::Good)
    }
}
