//! `portcullis demo`: everything on this machine, and requests to try.

mod requests;
mod revocation;
mod seed;
mod surroundings;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::store_client::StoreClient;
use super::{Exit, Logging, runtime, say, start_logging};
use crate::app::{self, App, SystemClock};
use crate::config::{self, Environment, Origin, Sidecar};
use crate::socket::Address;
use crate::source::FeedSettings;
use crate::telemetry::Format;
use crate::token::{JwksUrl, KeySource};
use crate::yaml::Secret;

use self::requests::REQUESTS;
use self::seed::Ids;
use self::surroundings::Surroundings;

/// The demo's files, so that the program runs from anywhere.
const CONFIGURATION: &str = include_str!("../../../config/demo/portcullis.yaml");
const STORE: &str = include_str!("../../../config/demo/store.yaml");
const FACTS: &str = include_str!("../../../config/demo/facts.yaml");
/// Where the store publishes its keys.
const JWKS_PATH: &str = "/sso/jwks/client_demo";

/// Run everything on this machine: sample company, issuer, upstream and sidecar. Prints requests to try, then serves until Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  portcullis demo\n  portcullis demo --check")]
pub(super) struct Demo {
    /// Make the requests, compare the answers with what they should be, and exit: 0 all as expected, 1 not.
    #[arg(long)]
    check: bool,
}

/// Keys that are good for this run only; nothing else is taken from the environment.
struct Keys {
    api: String,
    sync: String,
}

impl Keys {
    fn new() -> Self {
        let key = |word| format!("{word}_{:032x}", rand::random::<u128>());
        Self { api: key("sk_demo"), sync: key("sync_demo") }
    }
}

impl Environment for Keys {
    fn variable(&self, name: &str) -> Option<String> {
        match name {
            "PORTCULLIS_API_KEY" => Some(self.api.clone()),
            "PORTCULLIS_SYNC_KEY" => Some(self.sync.clone()),
            _ => None,
        }
    }
}

impl Demo {
    pub(super) fn run(self, logging: &Logging) -> anyhow::Result<Exit> {
        let folder = tempfile_folder()?;
        let result = self.run_in(&folder, logging);
        // Left behind at worst: the database of the sample company.
        let _ = std::fs::remove_dir_all(&folder);
        result
    }

    fn run_in(&self, folder: &Path, logging: &Logging) -> anyhow::Result<Exit> {
        std::fs::write(folder.join("facts.yaml"), FACTS).context("cannot write the sample facts")?;
        let keys = Keys::new();
        let wrong = "the demo's own configuration is wrong";
        let mut config = config::parse("config/demo/portcullis.yaml", CONFIGURATION, folder, &keys).context(wrong)?;
        let mut store = config::store::parse("config/demo/store.yaml", STORE, folder, &keys).context(wrong)?;
        store.database = Secret::new(format!("sqlite://{}", folder.join("store.db").display()));
        store.listen = elsewhere(store.listen, self.check);

        let metrics = Arc::new(app::metrics()?);
        config.log.format = logging.log_format.unwrap_or(Format::Text);
        let sink = start_logging(logging, config.log.format, &metrics)?;
        let runtime = runtime()?;
        let surroundings = runtime.block_on(Surroundings::start(store, self.check))?;
        let store = format!("http://{}", surroundings.store);
        let client = StoreClient::at(store.clone(), keys.api.clone());
        let ids = runtime.block_on(seed::seed(&client, FACTS)).context("the sample company cannot be put in")?;
        let people = runtime.block_on(People::of(&client, &ids))?;
        place(&mut config, &surroundings, self.check)?;
        let feed = FeedSettings { url: store.parse()?, key: keys.sync.clone(), ca: None };
        config.facts.origin = Origin::Store(config::Store { feed, everything: false, persist: None });

        let admin = config.admin.as_ref().map(|admin| admin.address.to_string()).unwrap_or_default();
        let app = App::build(config, None, Arc::new(SystemClock), metrics, sink)?;
        let addresses = app.addresses().clone();
        let sidecar = *addresses.listeners.first().context("the demo has no listener")?;
        let status = addresses.status.context("the demo has no status listener")?;
        let stop = app.stop();
        // Pingora blocks the thread it runs on.
        let running = std::thread::spawn(move || app.run());
        runtime.block_on(surroundings::ready(status)).context("the sidecar does not get ready")?;

        if self.check {
            let failures = runtime.block_on(requests::check(sidecar, &people))?;
            let shown = runtime.block_on(revocation::show(sidecar, people.token("om_alice")?, &client, &ids))?;
            stop.now();
            let _ = running.join();
            return Ok(if failures == 0 && shown { Exit::Good } else { Exit::Failed });
        }
        let addresses =
            Places { sidecar, status, admin: addresses.admin.map_or(admin, |admin| admin.to_string()), store };
        greet(&addresses, &people, &keys.api)?;
        runtime.block_on(revocation::show(sidecar, people.token("om_alice")?, &client, &ids))?;
        say("\nDecisions are logged below. Ctrl-C ends everything.\n");
        let _ = running.join();
        Ok(Exit::Good)
    }
}

/// The people of the demo: the sample's names, and a token for each.
pub(super) struct People(Vec<(&'static str, String)>);

impl People {
    /// Mints a token for everybody whom a request is made as.
    async fn of(store: &StoreClient, ids: &Ids) -> anyhow::Result<Self> {
        let mut names: Vec<&str> = REQUESTS.iter().filter_map(|request| request.membership).collect();
        names.sort_unstable();
        names.dedup();
        let mut people = Vec::with_capacity(names.len());
        for name in names {
            let body = json!({"organization_membership_id": ids.of(name)?});
            let minted = store.expect(Method::POST, "/portcullis/v1/tokens", Some(&body)).await?;
            let token = minted.get("access_token").and_then(Value::as_str).context("the store gave no token")?;
            people.push((name, token.to_owned()));
        }
        Ok(Self(people))
    }

    /// The token of `om_alice`, and of others.
    pub(super) fn token(&self, name: &str) -> anyhow::Result<&str> {
        let found = self.0.iter().find(|(other, _)| *other == name);
        found.map(|(_, token)| token.as_str()).with_context(|| format!("nobody is called `{name}`"))
    }
}

/// Where everything can be reached.
struct Places {
    sidecar: SocketAddr,
    status: SocketAddr,
    admin: String,
    store: String,
}

/// This address, or any free port where it is taken or not wanted.
fn elsewhere(address: SocketAddr, anywhere: bool) -> SocketAddr {
    let taken = anywhere || std::net::TcpListener::bind(address).is_err();
    if taken { SocketAddr::new(address.ip(), 0) } else { address }
}

/// Puts the configuration where there is room: at the addresses it names, or anywhere for `--check` and when those are taken.
fn place(config: &mut Sidecar, surroundings: &Surroundings, anywhere: bool) -> anyhow::Result<()> {
    for upstream in &mut config.upstreams {
        upstream.servers = vec![surroundings.upstream.to_string()];
    }
    for issuer in &mut config.tokens.issuers {
        issuer.keys = KeySource::Url(JwksUrl::new(&format!("http://{}{JWKS_PATH}", surroundings.store))?);
    }
    for listener in &mut config.listeners {
        listener.address = elsewhere(listener.address.parse()?, anywhere).to_string();
    }
    config.status = config.status.map(|address| elsewhere(address, anywhere));
    if let Some(admin) = &mut config.admin
        && let Address::Tcp(address) = &mut admin.address
    {
        *address = elsewhere(*address, anywhere);
    }
    Ok(())
}

fn greet(places: &Places, people: &People, api_key: &str) -> anyhow::Result<()> {
    let Places { sidecar, status, admin, store } = places;
    say(
        "Acme's project application is running behind a sidecar. Paste these to become somebody (valid for an hour):\n",
    );
    for (name, token) in &people.0 {
        say(&format!("export {}={token}", requests::variable(name)));
    }
    say("\nThen try these; what the upstream receives comes back as JSON:\n");
    for request in REQUESTS {
        say(&format!("# {}: {}", request.expected(), request.title));
        say(&format!("{}\n", request.curl(*sidecar)));
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
    say("\nThe company lives in a store that speaks the WorkOS API:\n");
    say(&format!("curl -s -H 'authorization: Bearer {api_key}' {store}/organizations"));
    Ok(())
}

fn tempfile_folder() -> anyhow::Result<std::path::PathBuf> {
    let folder = std::env::temp_dir().join(format!("portcullis-demo-{:016x}", rand::random::<u64>()));
    std::fs::create_dir(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    Ok(folder)
}
