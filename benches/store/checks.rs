//! Checks at a fixed rate: does their time depend on how many assignments the organization has?

use std::time::{Duration, Instant};

use serde_json::json;

use super::target::{Client, Target, clients};
use super::{Scale, company, statistics};

/// Connections that take turns, so that a slow answer does not hold up the next question.
const CONNECTIONS: usize = 16;

pub fn measure(database: &str, assignments: usize, scale: Scale) {
    let projects = assignments.isqrt().max(1);
    let company = company::make(database, assignments.div_ceil(projects), projects, assignments);
    let target = Target::start(database, 1);
    let times = clients().block_on(async {
        let mut client = Client::connect(target.address).await;
        let begin = Instant::now();
        ask(&mut client, &company, 0).await;
        println!("check, {assignments} assignments: first answer, which loads the organization, {:?}", begin.elapsed());
        let mut asked = tokio::task::JoinSet::new();
        let company = std::sync::Arc::new(company);
        let mut turns = Vec::new();
        for _ in 0..CONNECTIONS {
            let (turn, mut due) = tokio::sync::mpsc::unbounded_channel::<(usize, Instant)>();
            turns.push(turn);
            let company = std::sync::Arc::clone(&company);
            let mut client = Client::connect(target.address).await;
            asked.spawn(async move {
                let mut times = Vec::new();
                while let Some((number, due)) = due.recv().await {
                    ask(&mut client, &company, number).await;
                    times.push(due.elapsed());
                }
                times
            });
        }
        // A thread that sleeps is more punctual than the runtime's timers, which count in milliseconds.
        let pace = std::thread::spawn(move || {
            let begin = Instant::now();
            for (number, turn) in turns.iter().cycle().enumerate() {
                let due = begin + Duration::from_secs(1) / scale.rate * u32::try_from(number).unwrap();
                if due > begin + scale.span {
                    return;
                }
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                turn.send((number * 7919, due)).unwrap();
            }
        });
        let times = asked.join_all().await.concat();
        pace.join().unwrap();
        times
    });
    println!("check, {assignments} assignments, {} per second: {}", scale.rate, statistics::spread(times));
}

async fn ask(client: &mut Client, company: &company::Company, number: usize) {
    let membership = &company.members[number % company.members.len()];
    let project = &company.projects[number % company.projects.len()];
    let path = format!("/authorization/organization_memberships/{membership}/check");
    client.send("POST", &path, &json!({"permission_slug": "project:view", "resource_id": project})).await;
}
