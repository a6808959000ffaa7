//! `portcullis token`.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use http::Method;

use super::store_client::StoreClient;
use super::{Exit, runtime, say, say_error};
use crate::app::{self, SystemClock};
use crate::config::issuer::MintError;
use crate::config::{self, ProcessEnvironment};
use crate::domain::{Clock, MembershipId};
use crate::token::inspect::inspect;

/// Make development tokens, or look into one.
#[derive(Debug, Args)]
pub(super) struct Token {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Sign a token for a membership, with the claims that AuthKit would set.
    #[command(
        after_help = "Examples:\n  portcullis token mint --config store.yaml --membership om_01J…\n  portcullis token mint --config config/demo/issuer.yaml --membership om_alice"
    )]
    Mint {
        /// The store's configuration, or a file that names an issuer and its facts.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Whom the token is for.
        #[arg(long, value_name = "OM")]
        membership: MembershipId,
    },
    /// Print the public keys that the minted tokens verify against: a key set for `jwks_file`. A signing key that is missing is made.
    #[command(
        after_help = "Examples:\n  portcullis token keys --config config/quickstart/issuer.yaml > config/quickstart/keys.json\n  portcullis token keys --config store.yaml"
    )]
    Keys {
        /// The store's configuration, or a file that names an issuer and its facts.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Show what a token says, without verifying it.
    #[command(after_help = "Example:\n  portcullis token inspect \"$TOKEN\"")]
    Inspect {
        /// The token, or `-` to read it from standard input.
        token: String,
    },
}

impl Token {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        match self.command {
            TokenCommand::Mint { config, membership } if config::store::is_store(&config, &ProcessEnvironment)? => {
                let body = serde_json::json!({"organization_membership_id": membership.as_str()});
                let minted = runtime()?.block_on(async {
                    let store = StoreClient::open(&config).await?;
                    let minted = store.expect(Method::POST, "/portcullis/v1/tokens", Some(&body)).await;
                    store.close().await;
                    minted
                })?;
                let text = |key: &str| minted.get(key).and_then(serde_json::Value::as_str);
                if let Some(warning) = text("warning") {
                    say_error(&format!("warning: {warning}"));
                }
                say(text("access_token").context("the store's answer has no token")?);
            }
            TokenCommand::Mint { config, membership } => {
                let issuer = config::issuer::load(&config, &ProcessEnvironment).map_err(|error| match error {
                    // What is wrong with a file has an exit code of its own.
                    MintError::Config(error) => error.into(),
                    other => anyhow::Error::from(other),
                })?;
                let token = issuer.token_for(&membership, SystemClock.now())?;
                if token.len() > config::issuer::LARGE_TOKEN_BYTES {
                    say_error("warning: the token is larger than browsers keep in a cookie");
                }
                say(&token);
            }
            TokenCommand::Keys { config } if config::store::is_store(&config, &ProcessEnvironment)? => {
                let settings = config::store::load(&config, &ProcessEnvironment)?.issuer;
                say(&app::store::key_set(&settings.context("the configuration has no `issuer`")?)?);
            }
            TokenCommand::Keys { config } => {
                say(&config::issuer::load(&config, &ProcessEnvironment)?.issuer().jwks()?);
            }
            TokenCommand::Inspect { token } => {
                let token = if token == "-" { from_standard_input()? } else { token };
                say_error("not verified: anybody could have written this");
                say(&serde_json::to_string_pretty(&inspect(token.trim())?)?);
            }
        }
        Ok(Exit::Good)
    }
}

fn from_standard_input() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read the token from standard input")?;
    Ok(text)
}
