//! What looks after the servers of upstreams: names are looked up and health is checked for the upstreams in force, and for no others.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::lb::LoadBalancer;
use pingora::lb::selection::RoundRobin;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::task::JoinSet;

use super::upkeep::restarted;
use crate::gate::Gate;
use crate::proxy::Terms;

/// Follows what is in force.
pub(super) struct Lookouts {
    gate: Arc<Gate>,
}

/// One upstream that is looked after, until this is dropped.
struct Lookout {
    balancer: Arc<LoadBalancer<RoundRobin>>,
    _task: JoinSet<()>,
}

impl Lookouts {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }

    fn wanted(&self) -> Vec<Arc<LoadBalancer<RoundRobin>>> {
        let in_force = self.gate.in_force();
        let upstreams = in_force.door::<Terms>().map_or(&[][..], Terms::upstreams);
        upstreams.iter().filter_map(|upstream| upstream.balancer()).collect()
    }
}

impl Lookout {
    fn post(balancer: Arc<LoadBalancer<RoundRobin>>, shutdown: &ShutdownWatch) -> Self {
        let mut task = JoinSet::new();
        let (looked_after, shutdown) = (Arc::clone(&balancer), shutdown.clone());
        task.spawn(restarted("upstreams", move || {
            let (balancer, shutdown) = (Arc::clone(&looked_after), shutdown.clone());
            async move { balancer.start(shutdown).await }
        }));
        Self { balancer, _task: task }
    }
}

#[async_trait]
impl BackgroundService for Lookouts {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut replaced = self.gate.replacements();
        let mut posted: Vec<Lookout> = Vec::new();
        loop {
            let wanted = self.wanted();
            posted.retain(|lookout| wanted.iter().any(|wanted| Arc::ptr_eq(wanted, &lookout.balancer)));
            for balancer in wanted {
                if !posted.iter().any(|lookout| Arc::ptr_eq(&balancer, &lookout.balancer)) {
                    posted.push(Lookout::post(balancer, &shutdown));
                }
            }
            tokio::select! {
                // The sender is the gate's, which we hold.
                _ = replaced.changed() => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
        }
    }
}
