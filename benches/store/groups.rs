//! A role for a group: does its cost depend on how many members the group has?

use std::time::{Duration, Instant};

use serde_json::json;

use super::target::{Client, Target, clients};
use super::{Scale, company, statistics};

pub fn measure(database: &str, members: usize, scale: Scale) {
    let company = company::make(database, members, 1, 0);
    let target = Target::start(database, 1);
    let (assign, remove) = clients().block_on(async {
        let mut client = Client::connect(target.address).await;
        let path = format!("/authorization/groups/{}/role_assignments", company.group);
        let (mut assign, mut remove): (Vec<Duration>, Vec<Duration>) = (Vec::new(), Vec::new());
        let end = Instant::now() + scale.span / 2;
        while Instant::now() < end {
            let begin = Instant::now();
            let made = client.send("POST", &path, &json!({"role_slug": "auditor"})).await;
            assign.push(begin.elapsed());
            let begin = Instant::now();
            client.send("DELETE", &format!("{path}/{}", made["id"].as_str().unwrap()), &json!(null)).await;
            remove.push(begin.elapsed());
        }
        (assign, remove)
    });
    println!("role for a group of {members}: {}", statistics::spread(assign));
    println!("and taken away again: {}", statistics::spread(remove));
}
