//! Thousands of sidecars that have little to do: what each costs the store, and how long they take to come back after it was killed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use portcullis::app::SystemClock;
use portcullis::domain::Clock;
use serde_json::json;

use super::Scale;
use super::process::{Process, free, resident};
use super::sidecar::Sidecar;
use super::target::{Client, clients};

const PATIENCE: Duration = Duration::from_secs(240);

/// A process with sidecars, and what it says: the uptime of the machine for which all of them have proof that their facts are the newest.
/// Nothing while one has none.
struct Fleet(Child, Receiver<Duration>);

pub fn measure(scale: Scale) {
    let folder = tempfile::tempdir().unwrap();
    let address = free();
    let store = Process::store(folder.path(), address);
    clients().block_on(async {
        Client::connect(address).await.send("POST", "/organizations", &json!({"name": "Bench"})).await;
    });
    let before = resident(store.id());
    let (processes, each) = scale.sidecars;
    let begin = Instant::now();
    let fleets: Vec<Fleet> = (0..processes).map(|_| Fleet::start(&address.to_string(), each)).collect();
    fleets.iter().for_each(|fleet| fleet.proves(Duration::ZERO));
    println!(
        "{} sidecars are fresh {:.1} s after the first was started",
        processes * each,
        begin.elapsed().as_secs_f64()
    );
    thread::sleep(scale.span);
    let (time, used) = (Instant::now(), store.processor_time());
    thread::sleep(scale.span);
    let share = (store.processor_time() - used).as_secs_f64() / time.elapsed().as_secs_f64();
    let bytes = resident(store.id()).saturating_sub(before) / (processes * each) as u64;
    println!(
        "each takes {bytes} bytes of the store's memory; all together {:.0} % of a core while nothing happens",
        share * 100.0
    );
    let killed = Instant::now();
    drop(store);
    let gone = SystemClock.uptime();
    let store = Process::store(folder.path(), address);
    let up = killed.elapsed();
    fleets.iter().for_each(|fleet| fleet.proves(gone));
    println!(
        "killed, and ready again after {:.1} s; all are fresh {:.1} s after the kill",
        up.as_secs_f64(),
        killed.elapsed().as_secs_f64()
    );
    drop(fleets);
    drop(store);
}

impl Fleet {
    fn start(store: &str, count: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--subscribe", store, &count.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (say, heard) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if say.send(Duration::from_nanos(line.parse().unwrap())).is_err() {
                    return;
                }
            }
        });
        Self(child, heard)
    }

    /// Waits until what all have was the newest at some later moment.
    fn proves(&self, moment: Duration) {
        let begin = Instant::now();
        while self.1.recv_timeout(PATIENCE).unwrap() <= moment {
            assert!(begin.elapsed() < PATIENCE, "it does not come to hold");
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // One that is gone needs no ending.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What such a process does: follows `count` times, and says again and again, in nanoseconds, what all have proof for.
pub fn subscribe(store: &str, count: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let address = store.parse().unwrap();
        let mut sidecars = Vec::new();
        for number in 0..count {
            sidecars.push(Sidecar::start(address));
            if number % 50 == 49 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        loop {
            let now = SystemClock.uptime();
            let proven = |sidecar: &Sidecar| {
                sidecar.world.freshness(now).age.map_or(Duration::ZERO, |age| now.saturating_sub(age))
            };
            println!("{}", sidecars.iter().map(proven).min().unwrap_or_default().as_nanos());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}
