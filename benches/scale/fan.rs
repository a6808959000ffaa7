//! Many sidecars, each with one organization in memory, while all organizations change at once: how long it takes until a change is in
//! force, and what the store pays for each that it hands on.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use super::process::{Process, free};
use super::sidecar::Sidecar;
use super::target::{Client, clients};
use super::{Scale, statistics};

const WRITERS: usize = 16;
/// What is on its way when the last write was answered arrives within this time, or counts as lost.
const LAST: Duration = Duration::from_secs(2);

/// A write that was answered: the organization, the number of the transaction, and when.
struct Write {
    organization: usize,
    seq: u64,
    answered: Instant,
}

/// The number of the last transaction in force in a sidecar, whenever it changed.
type Course = Arc<Mutex<Vec<(u64, Instant)>>>;

pub fn measure(scale: Scale) {
    let folder = tempfile::tempdir().unwrap();
    let address = free();
    let store = Process::store(folder.path(), address);
    let organizations = Arc::new(make(address, scale.followers.1));
    let begin = store.processor_time();
    let alone = write(address, &organizations, scale);
    let each_alone = (store.processor_time() - begin).as_secs_f64() / alone.len() as f64;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let followers = runtime.block_on(follow(address, &organizations, scale.followers.0));
    let begin = store.processor_time();
    let writes = write(address, &organizations, scale);
    let each = (store.processor_time() - begin).as_secs_f64() / writes.len() as f64;
    thread::sleep(LAST);
    let times = propagation(&writes, &followers, organizations.len());
    let wanted: usize = writes.iter().map(|write| concerned(&followers, write, organizations.len()).count()).sum();
    println!(
        "{} sidecars with 1 of {} organizations each, {} changes a second: {} of {wanted} changes handed on in time, {}; {:.0} µs of the store's \
         processor time for each, beside {:.0} µs for each write",
        followers.len(),
        organizations.len(),
        writes.len() as f64 / scale.span.as_secs_f64(),
        times.len(),
        statistics::spread(times),
        (each - each_alone) / (wanted as f64 / writes.len() as f64) * 1e6,
        each_alone * 1e6,
    );
    drop(followers);
    runtime.shutdown_timeout(Duration::from_secs(1));
}

fn make(store: SocketAddr, count: usize) -> Vec<String> {
    clients().block_on(async {
        let mut client = Client::connect(store).await;
        let mut ids = Vec::new();
        for number in 0..count {
            let made = client.send("POST", "/organizations", &json!({"name": format!("o{number}")})).await;
            ids.push(made["id"].as_str().unwrap().to_owned());
        }
        ids
    })
}

/// Sidecars, each with one organization in memory, and their courses.
async fn follow(store: SocketAddr, organizations: &[String], count: usize) -> Vec<(Sidecar, Course)> {
    let mut followers = Vec::new();
    for number in 0..count {
        let sidecar = Sidecar::start(store);
        sidecar.ready().await;
        sidecar.load(&organizations[number % organizations.len()]).await;
        let (world, course) = (Arc::clone(&sidecar.world), Course::default());
        let noted = Arc::clone(&course);
        tokio::spawn(async move {
            let mut changes = world.changes();
            while changes.changed().await.is_ok() {
                let seq = world.revision().map_or(0, |revision| revision.seq);
                noted.lock().unwrap().push((seq, Instant::now()));
            }
        });
        followers.push((sidecar, course));
    }
    followers
}

/// Writes to all organizations in turn, as often as `scale` wants or the store takes it.
fn write(store: SocketAddr, organizations: &Arc<Vec<String>>, scale: Scale) -> Vec<Write> {
    clients().block_on(async {
        let mut writers = JoinSet::new();
        let begin = Instant::now();
        for writer in 0..WRITERS {
            let (mut client, organizations) = (Client::connect(store).await, Arc::clone(organizations));
            writers.spawn(async move {
                let mut due = tokio::time::interval(Duration::from_secs(1) * WRITERS as u32 / scale.rates[2]);
                let mut writes = Vec::new();
                for number in 0.. {
                    due.tick().await;
                    if begin.elapsed() > scale.span {
                        break;
                    }
                    let organization = (writer * 7919 + number) % organizations.len();
                    let path = format!("/organizations/{}/groups", organizations[organization]);
                    let body = json!({"name": format!("group {writer} {number}")});
                    let seq = client.write("POST", &path, &body).await.unwrap();
                    writes.push(Write { organization, seq, answered: Instant::now() });
                }
                writes
            });
        }
        writers.join_all().await.into_iter().flatten().collect()
    })
}

/// The courses of those that have the organization of a write.
fn concerned<'a>(
    followers: &'a [(Sidecar, Course)],
    write: &Write,
    organizations: usize,
) -> impl Iterator<Item = &'a Course> {
    followers.iter().skip(write.organization).step_by(organizations).map(|(_, course)| course)
}

/// From the answer to a write to the moment that it is in force, for every sidecar that it concerns.
fn propagation(writes: &[Write], followers: &[(Sidecar, Course)], organizations: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for write in writes {
        for course in concerned(followers, write, organizations) {
            let course = course.lock().unwrap();
            let arrival = course.partition_point(|(seq, _)| *seq < write.seq);
            times.extend(course.get(arrival).map(|(_, at)| at.saturating_duration_since(write.answered)));
        }
    }
    times
}
