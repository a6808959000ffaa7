//! Acknowledged writes per second: each gives one membership one role on one project.

use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::target::{Client, Target, clients};
use super::{Scale, company};

pub fn measure(engine: &str, database: &str, scale: Scale) {
    let company = Arc::new(company::make(database, 1_000, 1_000, 0));
    let target = Target::start(database, 2);
    for (round, writers) in [1, 8, 64].into_iter().enumerate() {
        let (count, seconds) = clients().block_on(async {
            let begin = Instant::now();
            let mut writing = tokio::task::JoinSet::new();
            for writer in 0..writers {
                let company = Arc::clone(&company);
                let mut client = Client::connect(target.address).await;
                writing.spawn(async move {
                    let mut count = 0;
                    while begin.elapsed() < scale.span {
                        let membership = &company.members[(round * 100 + writer) % company.members.len()];
                        let project = &company.projects[count % company.projects.len()];
                        let path = format!("/authorization/organization_memberships/{membership}/role_assignments");
                        let body = json!({"role_slug": "viewer", "resource_id": project});
                        client.send("POST", &path, &body).await;
                        count += 1;
                        if count == company.projects.len() {
                            break;
                        }
                    }
                    count
                });
            }
            let count: usize = writing.join_all().await.into_iter().sum();
            (count, begin.elapsed().as_secs_f64())
        });
        println!("writes, {engine}, {writers} at once: {:.0} per second", count as f64 / seconds);
    }
}
