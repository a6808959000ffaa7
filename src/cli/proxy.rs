//! `portcullis proxy`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::{Exit, Logging, keep_memory_private, start_logging};
use crate::app::{self, App, SystemClock};
use crate::config::{self, ProcessEnvironment};

/// Run the sidecar until it is told to stop; SIGTERM and Ctrl-C let requests in flight finish, SIGHUP reloads, SIGQUIT hands over to a
/// process that was started with `--upgrade`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  portcullis proxy --config portcullis.yaml")]
pub(super) struct Proxy {
    /// The configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Take the place of a running sidecar, once keys and facts are there and that one is sent SIGQUIT.
    #[arg(long, short)]
    upgrade: bool,
}

impl Proxy {
    pub(super) fn run(self, logging: &Logging) -> anyhow::Result<Exit> {
        let mut config = config::load(&self.config, &ProcessEnvironment)?;
        config.log.format = logging.log_format.unwrap_or(config.log.format);
        let metrics = Arc::new(app::metrics()?);
        let sink = start_logging(logging, config.log.format, &metrics)?;
        keep_memory_private();
        let build = if self.upgrade { App::build_successor } else { App::build };
        let app = build(config, Some(self.config), Arc::new(SystemClock), metrics, sink.clone())?;
        let (addresses, failure) = (app.addresses(), app.failure());
        if self.upgrade {
            tracing::info!("keys and facts come first, then the place of another process");
        } else {
            for address in &addresses.listeners {
                tracing::info!(%address, "listening");
            }
            if let Some(address) = addresses.status.or(addresses.admin) {
                tracing::info!(%address, "status at /live, /ready, /metrics");
            }
        }
        app.run();
        sink.flush(std::time::Duration::from_secs(1));
        match failure.take() {
            Some(error) => Err(error.into()),
            None => Ok(Exit::Good),
        }
    }
}
