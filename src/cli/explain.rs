//! `portcullis explain`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;

use super::{Exit, Output, ask_admin, runtime, say, say_error};
use crate::app::SystemClock;
use crate::app::offline::{self, LoadKeys};
use crate::config::{self, ProcessEnvironment};
use crate::domain::MembershipId;
use crate::gate::explain::ExplainRequest;
use crate::token::KeyStatus;

/// Say what would become of one request, and why.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  portcullis explain --config portcullis.yaml --membership om_alice PATCH /projects/42\n  \
                  portcullis explain --admin http://127.0.0.1:9900 --token \"$TOKEN\" GET /billing\n\n\
                  Exit: 0 it would pass (also when only shadow mode lets it), 3 denied, 2 bad configuration, 1 a question without an answer."
)]
pub(super) struct Explain {
    /// The configuration.
    #[arg(long, value_name = "FILE", required_unless_present = "admin", conflicts_with = "admin")]
    config: Option<PathBuf>,
    /// Ask a running sidecar's admin listener instead; its answer is printed as JSON.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// The bearer token of the admin listener, where one is configured.
    #[arg(long, value_name = "TOKEN", env = "PORTCULLIS_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    /// Who asks: a token to verify.
    #[arg(long, value_name = "TOKEN", conflicts_with = "membership")]
    token: Option<String>,
    /// Who asks: a membership, with a token as it would be minted now.
    #[arg(long, value_name = "OM")]
    membership: Option<MembershipId>,
    /// A header field, `name: value`; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
    /// A file with the body.
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// How to print the answer.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    format: Output,
    /// The method.
    method: String,
    /// A URL, or a path and query.
    url: String,
}

impl Explain {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        let request = self.request()?;
        if let Some(admin) = &self.admin {
            let answer = ask_admin(admin, self.admin_token.as_deref(), "/explain", &request)?;
            say(&serde_json::to_string_pretty(&answer)?);
            return Ok(if answer.get("outcome").is_some_and(|outcome| outcome == "deny") {
                Exit::Denied
            } else {
                Exit::Good
            });
        }
        let config = config::load(self.config.as_deref().context("`--config` is missing")?, &ProcessEnvironment)?;
        let keys = if self.token.is_some() { LoadKeys::All } else { LoadKeys::Files };
        let explanation = runtime()?.block_on(async {
            let offline = offline::gate(config, Arc::new(SystemClock), keys).await?;
            for KeyStatus { issuer, error, .. } in offline.keys.iter().filter(|_| self.token.is_some()) {
                if let Some(error) = error {
                    say_error(&format!("warning: keys of issuer `{issuer}`: {error}"));
                }
            }
            anyhow::Ok(offline.gate.explain(&request).await?)
        })?;
        match self.format {
            Output::Text => say(&explanation.to_string()),
            Output::Json => say(&serde_json::to_string_pretty(&explanation)?),
        }
        Ok(if explanation.outcome == "deny" { Exit::Denied } else { Exit::Good })
    }

    fn request(&self) -> anyhow::Result<ExplainRequest> {
        let field = |field: &String| {
            let (name, value) = field.split_once(':').with_context(|| format!("`{field}` is not `name: value`"))?;
            anyhow::Ok((name.trim().to_owned(), value.trim().to_owned()))
        };
        let body = match &self.body {
            Some(file) => {
                Some(std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?)
            }
            None => None,
        };
        Ok(ExplainRequest {
            method: self.method.clone(),
            url: self.url.clone(),
            headers: self.headers.iter().map(field).collect::<anyhow::Result<_>>()?,
            token: self.token.clone(),
            membership: self.membership.clone(),
            body,
        })
    }
}
