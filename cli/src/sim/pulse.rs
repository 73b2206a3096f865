//! Heartbeats, in a task of their own as in an agent: no sample that waits for its acknowledgement holds one up.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc, time::Duration};

use pinacle_bus::{client::Bus, contract::Subject};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    flush,
    host::Pulse,
    plan::Plan,
    tally::{Tally, count},
};

const HEARTBEAT: Duration = Duration::from_secs(5);

/// The heartbeats of one connection's hosts.
pub(super) struct Pulses {
    bus: Bus,
    hosts: Vec<(Pulse, Option<Instant>)>,
    turns: BinaryHeap<Reverse<(Instant, usize)>>,
    tally: Arc<Tally>,
}

impl Pulses {
    pub fn new(bus: Bus, plan: &Plan, tally: Arc<Tally>) -> Self {
        let (mut hosts, mut turns) = (Vec::new(), BinaryHeap::new());
        for (index, number) in plan.numbers().enumerate() {
            hosts.push((Pulse::new(plan.seed, number), plan.vanishes_at(number)));
            turns.push(Reverse((plan.phase(number, HEARTBEAT), index)));
        }
        Self { bus, hosts, turns, tally }
    }

    /// Beats until `stop`, then says farewell for every host that is there.
    pub async fn run(mut self, stop: CancellationToken) {
        while let Some(Reverse((due, index))) = self.turns.pop() {
            tokio::select! {
                // cancel-safe: a timer.
                () = sleep_until(due) => {}
                // cancel-safe: only observed.
                () = stop.cancelled() => break,
            }
            let now = Instant::now();
            let Some((host, gone_at)) = self.hosts.get_mut(index) else { continue };
            if gone_at.is_some_and(|gone_at| gone_at <= now) {
                continue;
            }
            self.turns.push(Reverse(((due + HEARTBEAT).max(now), index)));
            let heartbeat = host.heartbeat(false);
            // While the bus is away there is nobody to tell.
            if self.bus.publish_unacked(&Subject::Heartbeat(heartbeat.host_id), &heartbeat).await.is_ok() {
                count(&self.tally.heartbeats);
            }
        }
        // All of them may have vanished before the end.
        stop.cancelled().await;
        let now = Instant::now();
        for (host, gone_at) in &mut self.hosts {
            if gone_at.is_some_and(|gone_at| gone_at <= now) {
                count(&self.tally.gone);
                continue;
            }
            let farewell = host.heartbeat(true);
            if self.bus.publish_unacked(&Subject::Heartbeat(farewell.host_id), &farewell).await.is_ok() {
                count(&self.tally.farewells);
            }
        }
        flush(&self.bus).await;
    }
}
