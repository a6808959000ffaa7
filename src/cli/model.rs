//! `portcullis model`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::Method;

use super::store_client::StoreClient;
use super::{Exit, runtime, say};
use crate::config::store::load_model;

/// Compare the model file with what the store has, or put it in force.
#[derive(Debug, Args)]
pub(super) struct Model {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// Say what `apply` would change.
    #[command(after_help = "Example:\n  portcullis model plan --config store.yaml model.yaml")]
    Plan(Target),
    /// Put the model in force.
    #[command(after_help = "Example:\n  portcullis model apply --config store.yaml model.yaml")]
    Apply(Target),
}

#[derive(Debug, Args)]
struct Target {
    /// The store's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The model file.
    #[arg(value_name = "FILE")]
    model: PathBuf,
}

impl Model {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        let (method, path, target) = match self.command {
            ModelCommand::Plan(target) => (Method::POST, "/portcullis/v1/model/plan", target),
            ModelCommand::Apply(target) => (Method::PUT, "/portcullis/v1/model", target),
        };
        let model = serde_json::to_value(load_model(&target.model)?)?;
        let answer = runtime()?.block_on(async {
            let store = StoreClient::open(&target.config).await?;
            let answer = store.expect(method, path, Some(&model)).await;
            store.close().await;
            answer
        })?;
        say(&serde_json::to_string_pretty(&answer)?);
        Ok(Exit::Good)
    }
}
