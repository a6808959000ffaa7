//! `portcullis demo`: everything on this machine, and requests to try.

mod requests;
mod surroundings;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::{Exit, Logging, runtime, say, start_logging};
use crate::app::{self, App, SystemClock};
use crate::config::{self, Environment, Sidecar};
use crate::domain::{Clock, MembershipId};
use crate::telemetry::Format;
use crate::token::{Algorithm, Issuer, JwksUrl, KeySource};

use self::requests::REQUESTS;
use self::surroundings::Surroundings;

/// The demo's files, so that the program runs from anywhere.
const CONFIGURATION: &str = include_str!("../../../config/demo/portcullis.yaml");
const FACTS: &str = include_str!("../../../config/demo/facts.yaml");

/// How long the demo's tokens are valid.
const TOKEN_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// Run everything on this machine: sample company, issuer, upstream and sidecar. Prints requests to try, then serves until Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  portcullis demo\n  portcullis demo --check")]
pub(super) struct Demo {
    /// Make the requests, compare the answers with what they should be, and exit: 0 all as expected, 1 not.
    #[arg(long)]
    check: bool,
}

/// Nothing is taken from the environment.
struct NoEnvironment;

impl Environment for NoEnvironment {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

impl Demo {
    pub(super) fn run(self, logging: &Logging) -> anyhow::Result<Exit> {
        let folder = tempfile_folder()?;
        let result = self.run_in(&folder, logging);
        // Left behind at worst: a copy of the sample facts.
        let _ = std::fs::remove_dir_all(&folder);
        result
    }

    fn run_in(&self, folder: &Path, logging: &Logging) -> anyhow::Result<Exit> {
        let facts_file = folder.join("facts.yaml");
        std::fs::write(&facts_file, FACTS).context("cannot write the sample facts")?;
        let mut config = config::parse("config/demo/portcullis.yaml", CONFIGURATION, folder, &NoEnvironment)
            .context("the demo's own configuration is wrong")?;

        let runtime = runtime()?;
        let issuer_url = config.tokens.issuers.first().and_then(|issuer| issuer.issuers.first());
        let issuer = Issuer::ephemeral(issuer_url.context("the demo has no issuer")?, Algorithm::RS256)?;
        let facts = config::issuer::read_facts(&facts_file)?;
        let issuer = config::issuer::FactsIssuer::new(
            issuer,
            "client_demo".to_owned(),
            TOKEN_LIFETIME,
            &facts.catalog,
            facts.organizations,
        )?;
        let surroundings = Surroundings::start(&runtime, issuer.issuer().jwks()?, self.check)?;
        place(&mut config, &surroundings, self.check)?;
        let admin = config.admin.as_ref().map(|admin| admin.address.to_string()).unwrap_or_default();

        let metrics = Arc::new(app::metrics()?);
        config.log.format = logging.log_format.unwrap_or(Format::Text);
        let sink = start_logging(logging, config.log.format, &metrics)?;
        let clock = Arc::new(SystemClock);
        let app = App::build(config, None, clock.clone(), metrics, sink)?;
        let addresses = app.addresses().clone();
        let sidecar = *addresses.listeners.first().context("the demo has no listener")?;
        let status = addresses.status.context("the demo has no status listener")?;
        let stop = app.stop();
        // Pingora blocks the thread it runs on.
        let running = std::thread::spawn(move || app.run());
        runtime.block_on(surroundings::ready(status)).context("the sidecar does not get ready")?;

        let token = |membership: &str| anyhow::Ok(issuer.token_for(&MembershipId::new(membership)?, clock.now())?);
        if self.check {
            let failures = runtime.block_on(requests::check(sidecar, &token))?;
            stop.now();
            let _ = running.join();
            return Ok(if failures == 0 { Exit::Good } else { Exit::Failed });
        }
        greet(sidecar, status, addresses.admin.map_or(admin, |admin| admin.to_string()), &token)?;
        let _ = running.join();
        Ok(Exit::Good)
    }
}

/// Puts the configuration where there is room: at the addresses it names, or anywhere for `--check` and when those are taken.
fn place(config: &mut Sidecar, surroundings: &Surroundings, anywhere: bool) -> anyhow::Result<()> {
    for upstream in &mut config.upstreams {
        upstream.servers = vec![surroundings.upstream.to_string()];
    }
    for issuer in &mut config.tokens.issuers {
        issuer.keys = KeySource::Url(JwksUrl::new(&surroundings.jwks_url())?);
    }
    let elsewhere = |address: SocketAddr| -> SocketAddr {
        let taken = anywhere || std::net::TcpListener::bind(address).is_err();
        if taken { SocketAddr::new(address.ip(), 0) } else { address }
    };
    for listener in &mut config.listeners {
        listener.address = elsewhere(listener.address.parse()?).to_string();
    }
    config.status = config.status.map(elsewhere);
    if let Some(admin) = &mut config.admin
        && let crate::admin::Address::Tcp(address) = &mut admin.address
    {
        *address = elsewhere(*address);
    }
    Ok(())
}

fn greet(
    sidecar: SocketAddr,
    status: SocketAddr,
    admin: String,
    token: &dyn Fn(&str) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    say(
        "Acme's project application is running behind a sidecar. Paste these to become somebody (valid for an hour):\n",
    );
    let mut people: Vec<&str> = REQUESTS.iter().filter_map(|request| request.membership).collect();
    people.sort_unstable();
    people.dedup();
    for membership in people {
        if let Ok(token) = token(membership) {
            say(&format!("export {}={token}", requests::variable(membership)));
        }
    }
    say("\nThen try these; what the upstream receives comes back as JSON:\n");
    for request in REQUESTS {
        say(&format!("# {}: {}", request.expected(), request.title));
        say(&format!("{}\n", request.curl(sidecar)));
    }
    // The commands as they were found: a demo from `cargo run` is not on the path.
    let program = std::env::args().next().unwrap_or_else(|| "portcullis".to_owned());
    let url = format!("http://{admin}");
    say("And ask why, and who:\n");
    say(&format!("{program} explain --admin {url} --token \"$ALICE\" PATCH /projects/99"));
    say(&format!(
        "curl -s -H 'content-type: application/json' -d '{{\"method\":\"PATCH\",\"url\":\"/projects/42\"}}' {url}/who"
    ));
    say(&format!("curl -s {url}/world"));
    say(&format!("curl -s http://{status}/metrics"));
    say("\nDecisions are logged below. Ctrl-C ends everything.\n");
    Ok(())
}

fn tempfile_folder() -> anyhow::Result<std::path::PathBuf> {
    let folder = std::env::temp_dir().join(format!("portcullis-demo-{:016x}", rand::random::<u64>()));
    std::fs::create_dir(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    Ok(folder)
}
