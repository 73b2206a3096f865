//! Who does what when: the same for the heartbeats and the samples of a host.

use std::time::Duration;

use tokio::time::Instant;

use super::faults::Faults;

/// When hosts vanish, if the run has no end.
const VANISH_WITHIN: Duration = Duration::from_secs(60);

/// Every host has been heard of by then.
const FIRST_TURNS: Duration = Duration::from_millis(5100);

/// What a connection is to do.
pub(super) struct Plan {
    pub hosts: u32,
    pub pods: u32,
    pub seed: u64,
    pub interval: Duration,
    pub duration: Option<Duration>,
    pub faults: Faults,
    pub connection: u32,
    pub connections: u32,
    pub began: Instant,
}

impl Plan {
    /// The connection's hosts.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        let (connection, connections) = (self.connection, self.connections.max(1));
        (0..self.hosts).filter(move |number| number % connections == connection)
    }

    /// A host's first turn of those that come each `every`: spread evenly, so that there are no bursts.
    pub fn phase(&self, number: u32, every: Duration) -> Instant {
        self.began + every.mul_f64(f64::from(number) / f64::from(self.hosts.max(1)))
    }

    /// When a host vanishes, if it does. Of a hundred hosts exactly the wanted percentage, evenly among them.
    pub fn vanishes_at(&self, number: u32) -> Option<Instant> {
        let before = |number: f64| (number * self.faults.gone / 100.0).floor();
        let gone = before(f64::from(number) + 1.0) > before(f64::from(number));
        let within = self.duration.map_or(VANISH_WITHIN, |duration| duration / 2);
        // A step of the golden ratio scatters neighbours.
        let share = (f64::from(number) * 0.618_033_988_75).fract();
        // Who was never there cannot vanish.
        gone.then(|| self.phase(number, FIRST_TURNS) + within.mul_f64(share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(gone: f64) -> Plan {
        Plan {
            hosts: 1000,
            pods: 0,
            seed: 1,
            interval: Duration::from_secs(5),
            duration: Some(Duration::from_secs(60)),
            faults: Faults { gone, ..Faults::default() },
            connection: 0,
            connections: 1,
            began: Instant::now(),
        }
    }

    #[test]
    fn exactly_the_wanted_share_of_hosts_vanishes_after_it_was_there() {
        for (percent, wanted) in [(0.0, 0), (10.0, 100), (0.5, 5), (100.0, 1000), (33.3, 333)] {
            let plan = plan(percent);
            let at: Vec<_> = plan.numbers().filter_map(|number| plan.vanishes_at(number)).collect();
            assert_eq!(at.len(), wanted, "{percent} %");
            assert!(at.iter().all(|at| *at - plan.began <= Duration::from_secs(30) + FIRST_TURNS));
        }
    }

    #[test]
    fn every_host_belongs_to_one_connection() {
        let mut all: Vec<u32> = (0..7)
            .flat_map(|connection| Plan { connection, connections: 7, ..plan(0.0) }.numbers().collect::<Vec<_>>())
            .collect();
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
    }
}
