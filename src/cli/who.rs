//! `portcullis who`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::{Exit, Output, runtime, say};
use crate::app::SystemClock;
use crate::app::offline::{self, LoadKeys};
use crate::config::{self, ProcessEnvironment};
use crate::gate::WhoRequest;

/// Say who can make a request, and by which role, group or claim.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  portcullis who --config portcullis.yaml PATCH /projects/42")]
pub(super) struct Who {
    /// The configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Ask about this route, whatever the URL matches.
    #[arg(long, value_name = "ID")]
    route: Option<String>,
    /// Ask about this resource, `type:external id`, whatever the rule takes from the request.
    #[arg(long, value_name = "RESOURCE")]
    resource: Option<String>,
    /// How to print the answer.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    format: Output,
    /// The method.
    method: String,
    /// A URL, or a path and query.
    url: String,
}

impl Who {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        let config = config::load(&self.config, &ProcessEnvironment)?;
        let request = WhoRequest { method: self.method, url: self.url, route: self.route, resource: self.resource };
        let answer = runtime()?.block_on(async {
            let offline = offline::gate(config, Arc::new(SystemClock), LoadKeys::Files).await?;
            anyhow::Ok(offline.gate.who(&request)?)
        })?;
        match self.format {
            Output::Text => say(&answer.to_string()),
            Output::Json => say(&serde_json::to_string_pretty(&answer)?),
        }
        Ok(Exit::Good)
    }
}
