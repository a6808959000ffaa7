//! Many sidecars, each with one organization in memory, while the organizations change: how long it takes, and what the store pays for each
//! change that it hands on.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::sidecar::Sidecar;
use super::target::{Client, Target, clients};
use super::{Scale, statistics};

pub fn measure(database: &str, scale: Scale) {
    let target = Target::start(database, 2);
    let followers = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let organizations = clients().block_on(organizations(target.address, scale.organizations));
    let sidecars: Vec<Sidecar> = followers.block_on(async {
        let mut sidecars = Vec::new();
        for number in 0..scale.sidecars {
            let sidecar = Sidecar::start(target.address);
            sidecar.ready().await;
            sidecar.load(&organizations[number % organizations.len()]).await;
            sidecars.push(sidecar);
        }
        sidecars
    });
    let begin = Instant::now();
    let mut times = Vec::new();
    let mut changes = 0u32;
    clients().block_on(async {
        let mut client = Client::connect(target.address).await;
        while begin.elapsed() < scale.span {
            let organization = &organizations[changes as usize % organizations.len()];
            let path = format!("/organizations/{organization}/groups");
            let body = json!({"name": format!("group {changes}")});
            let seq = client.write("POST", &path, &body).await.unwrap();
            let committed = Instant::now();
            changes += 1;
            // Those that have this organization; the others only have to know that it does not concern them.
            let concerned =
                sidecars.iter().skip((changes as usize - 1) % organizations.len()).step_by(organizations.len());
            for sidecar in concerned {
                while sidecar.seq() < seq && committed.elapsed() < Duration::from_secs(10) {
                    tokio::time::sleep(Duration::from_micros(200)).await;
                }
                times.push(committed.elapsed());
            }
        }
    });
    println!(
        "{} sidecars with 1 of {} organizations each, {:.0} changes a second: {} changes handed on, {}",
        sidecars.len(),
        organizations.len(),
        f64::from(changes) / begin.elapsed().as_secs_f64(),
        times.len(),
        statistics::spread(times.clone()),
    );
    followers.shutdown_timeout(Duration::from_secs(1));
}

async fn organizations(store: SocketAddr, count: usize) -> Vec<String> {
    let mut client = Client::connect(store).await;
    let mut ids = Vec::new();
    for number in 0..count {
        let made: Value = client.send("POST", "/organizations", &json!({"name": format!("o{number}")})).await;
        ids.push(made["id"].as_str().unwrap().to_owned());
    }
    ids
}
