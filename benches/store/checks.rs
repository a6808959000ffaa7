//! Checks at a fixed rate: does their time depend on how many assignments the organization has?

use std::time::{Duration, Instant};

use serde_json::json;

use super::target::{Client, Target, clients};
use super::{Scale, company, statistics};

/// Connections that take turns, so that a slow answer does not hold up the next question.
const CONNECTIONS: u32 = 16;

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
        let begin = tokio::time::Instant::now();
        for place in 0..CONNECTIONS {
            let company = std::sync::Arc::clone(&company);
            let mut client = Client::connect(target.address).await;
            asked.spawn(async move {
                let apart = Duration::from_secs(1) * CONNECTIONS / scale.rate;
                let mut due = begin + Duration::from_secs(1) / scale.rate * place;
                let (mut times, mut number) = (Vec::new(), place as usize);
                while due < begin + scale.span {
                    tokio::time::sleep_until(due).await;
                    ask(&mut client, &company, number).await;
                    times.push(due.elapsed());
                    due += apart;
                    number += 7919;
                }
                times
            });
        }
        asked.join_all().await.concat()
    });
    println!("check, {assignments} assignments, {} per second: {}", scale.rate, statistics::spread(times));
}

async fn ask(client: &mut Client, company: &company::Company, number: usize) {
    let membership = &company.members[number % company.members.len()];
    let project = &company.projects[number % company.projects.len()];
    let path = format!("/authorization/organization_memberships/{membership}/check");
    client.send("POST", &path, &json!({"permission_slug": "project:view", "resource_id": project})).await;
}
