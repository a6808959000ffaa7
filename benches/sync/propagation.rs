//! From the answer to a write, which comes after its commit, to the moment its revision is in force in one sidecar.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use super::sidecar::Sidecar;
use super::target::{Client, Target, clients};
use super::{Scale, company, statistics};

pub fn measure(database: &str, scale: Scale) {
    let company = Arc::new(company::make(database, 1_000, 1_000, 1_000));
    let target = Target::start(database, 2);
    for rate in scale.rates {
        let times = run(target.address, &company, rate, scale.span);
        println!(
            "from commit to in force, {rate} changes a second, {} of them: {}",
            times.len(),
            statistics::spread(times)
        );
    }
}

fn run(store: std::net::SocketAddr, company: &Arc<company::Company>, rate: u32, span: Duration) -> Vec<Duration> {
    let runtime = clients();
    let committed: Arc<Mutex<VecDeque<(u64, Instant)>>> = Arc::default();
    runtime.block_on(async {
        let sidecar = Sidecar::start(store);
        sidecar.ready().await;
        sidecar.load(&company.organization).await;
        let writers = (rate / 50).clamp(1, 16);
        let begin = Instant::now();
        let mut writing = JoinSet::new();
        for writer in 0..writers {
            let (company, committed) = (Arc::clone(company), Arc::clone(&committed));
            let mut client = Client::connect(store).await;
            writing.spawn(async move {
                let mut due = tokio::time::interval(Duration::from_secs_f64(f64::from(writers) / f64::from(rate)));
                let mut given = false;
                while begin.elapsed() < span {
                    due.tick().await;
                    let seq = flip(&mut client, &company, writer as usize, given).await;
                    given = !given;
                    committed.lock().unwrap().push_back((seq, Instant::now()));
                }
            });
        }
        let mut times = Vec::new();
        let mut changes = sidecar.world.changes();
        loop {
            let arrived = take_arrived(&committed, sidecar.seq(), &mut times);
            if arrived && writing.is_empty() {
                return times;
            }
            tokio::select! {
                _ = changes.changed() => {}
                Some(_) = writing.join_next() => {}
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
        }
    })
}

/// Notes how long the changes took that are in force at `seq`; whether those were all.
fn take_arrived(committed: &Mutex<VecDeque<(u64, Instant)>>, seq: u64, times: &mut Vec<Duration>) -> bool {
    let now = Instant::now();
    let mut waiting = committed.lock().unwrap();
    waiting.retain(|(number, at)| {
        let arrived = *number <= seq;
        if arrived {
            times.push(now.saturating_duration_since(*at));
        }
        !arrived
    });
    waiting.is_empty()
}

/// Gives a membership a role, or takes it away; the number of the write.
async fn flip(client: &mut Client, company: &company::Company, writer: usize, given: bool) -> u64 {
    let membership = &company.members[500 + writer];
    let path = format!("/authorization/organization_memberships/{membership}/role_assignments");
    let body = json!({"role_slug": "viewer", "resource_id": company.projects[0]});
    client.write(if given { "DELETE" } else { "POST" }, &path, &body).await.unwrap()
}
