//! `portcullis schema`.

use clap::{Args, ValueEnum};

use super::{Exit, say};
use crate::{config, wire};

/// Print the JSON Schema of a file format, for editors and CI.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  portcullis schema sidecar > portcullis.schema.json")]
pub(super) struct Schema {
    /// Which file.
    #[arg(value_enum, default_value_t = Format::Sidecar)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// The configuration of the sidecar.
    Sidecar,
    /// The configuration of the store.
    Store,
    /// Resource types, permissions, roles.
    Model,
    /// A file of facts.
    Facts,
}

impl Schema {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        let schema = match self.format {
            Format::Sidecar => config::schema(),
            Format::Store => config::store::schema(),
            Format::Model => schemars::schema_for!(wire::Model),
            Format::Facts => schemars::schema_for!(wire::FactsFile),
        };
        say(&serde_json::to_string_pretty(&schema)?);
        Ok(Exit::Good)
    }
}
