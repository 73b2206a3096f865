//! Random sequences of everything that can happen to samples, against a model of what the tables must hold.

use std::time::Duration;

use pinacle_bus::contract::{PodId, Timestamp, metrics::Metrics};
use pinacle_tests::Process;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};

use super::stage::{Host, LONG, Stage, Tables};

const HOSTS: usize = 3;
const STEPS: usize = 50;
const SEQUENCES: u32 = 2;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    /// New samples of a host, a second apart.
    Publish {
        host: usize,
        number: u8,
    },
    /// Samples that were in the spool for so many minutes.
    Late {
        host: usize,
        minutes: u16,
    },
    /// Samples published before come again: under their id, which the stream drops, or another, which it does not.
    Again {
        back: prop::sample::Index,
        number: u8,
        same_id: bool,
    },
    /// Several new samples, newest first.
    Reversed {
        host: usize,
        number: u8,
    },
    /// A sample of a host that is never admitted, or one that is broken.
    Bad {
        broken: bool,
    },
    /// A pod of the host comes, or goes.
    Pods {
        host: usize,
        add: bool,
    },
    /// kill -9.
    KillIngest {
        copy: usize,
    },
    KillPostgres,
    /// A stop in order, and a start.
    RestartIngest {
        copy: usize,
    },
    /// All that was published is written before the next step.
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let host = 0..HOSTS;
    prop_oneof![
        8 => (host.clone(), 1_u8..20).prop_map(|(host, number)| Step::Publish { host, number }),
        3 => (host.clone(), 1_u16..3000).prop_map(|(host, minutes)| Step::Late { host, minutes }),
        4 => (any::<prop::sample::Index>(), 1_u8..20, any::<bool>())
            .prop_map(|(back, number, same_id)| Step::Again { back, number, same_id }),
        3 => (host.clone(), 2_u8..20).prop_map(|(host, number)| Step::Reversed { host, number }),
        1 => any::<bool>().prop_map(|broken| Step::Bad { broken }),
        2 => (host, any::<bool>()).prop_map(|(host, add)| Step::Pods { host, add }),
        2 => (0_usize..2).prop_map(|copy| Step::KillIngest { copy }),
        1 => Just(Step::KillPostgres),
        1 => (0_usize..2).prop_map(|copy| Step::RestartIngest { copy }),
        1 => Just(Step::Settle),
    ]
}

struct Play {
    stage: Stage,
    copies: Vec<Process>,
    hosts: Vec<Host>,
    clock: Timestamp,
    published: Vec<Metrics>,
    wanted: Tables,
    bad: i64,
    numbered: u64,
}

impl Play {
    async fn start() -> Self {
        let stage = Stage::start().await;
        let launch = |name| {
            stage
                .launch(name)
                .env("PINACLE__INGEST__BATCH_ROWS", "50")
                .env("PINACLE__INGEST__UNKNOWN_HOST_GRACE_S", "1")
        };
        let copies = vec![launch("ingest-1").start().await, launch("ingest-2").start().await];
        let mut hosts = Vec::new();
        for _ in 0..HOSTS {
            hosts.push(stage.admitted(2).await);
        }
        let clock = Timestamp::now().minus(Duration::from_secs(3600));
        Self { stage, copies, hosts, clock, published: Vec::new(), wanted: Tables::default(), bad: 0, numbered: 0 }
    }

    fn new_sample(&mut self, host: usize) -> Metrics {
        self.clock = self.clock.plus(Duration::from_secs(1));
        self.hosts[host].sample(self.clock)
    }

    async fn publish(&mut self, samples: Vec<Metrics>) {
        for sample in samples {
            self.stage.publish(&sample).await;
            self.wanted.expect(&sample);
            self.published.push(sample);
        }
    }

    async fn play(&mut self, step: Step) {
        match step {
            Step::Publish { host, number } => {
                let samples = (0..number).map(|_| self.new_sample(host)).collect();
                self.publish(samples).await;
            }
            Step::Late { host, minutes } => {
                // Odd milliseconds, so that no other sample has this time.
                let back = Duration::from_millis(u64::from(minutes) * 60_000 + 1 + self.published.len() as u64);
                let sample = Metrics { late: true, ..self.hosts[host].sample(self.clock.minus(back)) };
                let key = (sample.host_id.to_string(), sample.sampled_at.as_millis());
                if !self.wanted.hosts.contains_key(&key) {
                    self.publish(vec![sample]).await;
                }
            }
            Step::Again { back, number, same_id } => {
                if self.published.is_empty() {
                    return;
                }
                let from = back.index(self.published.len());
                for sample in self.published.iter().skip(from).take(number.into()) {
                    self.numbered += 1;
                    let id = if same_id { sample.message_id() } else { format!("again {}", self.numbered) };
                    self.stage.publish_as(sample, &id).await;
                }
            }
            Step::Reversed { host, number } => {
                let mut samples: Vec<Metrics> = (0..number).map(|_| self.new_sample(host)).collect();
                samples.reverse();
                self.publish(samples).await;
            }
            Step::Bad { broken } => {
                self.bad += 1;
                let id = format!("bad {}", self.bad);
                if broken {
                    self.stage.publish_raw(self.hosts[0].id, &id, "{").await;
                } else {
                    self.stage.publish_as(&Host::with_pods(1).sample(self.clock), &id).await;
                }
            }
            Step::Pods { host, add: true } => self.hosts[host].pods.push(PodId::new()),
            Step::Pods { host, add: false } => drop(self.hosts[host].pods.pop()),
            Step::KillIngest { copy } => {
                self.copies[copy].kill9().await;
                self.copies[copy].restart_unready();
            }
            Step::KillPostgres => {
                self.stage.postgres.kill9().await;
                self.stage.postgres.restart().await;
            }
            Step::RestartIngest { copy } => {
                self.copies[copy].ready(LONG).await;
                let status = self.copies[copy].sigterm(Duration::from_secs(20)).await;
                assert!(status.success(), "{status}\n{}", self.copies[copy].tail());
                self.copies[copy].restart_unready();
            }
            Step::Settle => self.settled().await,
        }
    }

    async fn settled(&self) {
        self.stage.settles_at(&self.wanted).await;
        let letters = "SELECT count(*) FROM dead_letter";
        self.stage.count_becomes(self.bad, letters).await;
    }
}

#[tokio::test]
async fn the_tables_hold_what_a_model_says_after_random_sequences() {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    for sequence in 0..SEQUENCES {
        let steps = prop::collection::vec(step(), STEPS).new_tree(&mut runner).unwrap().current();
        // Told before, so that a failure shows what was played; shrinking would take minutes a try.
        eprintln!("sequence {sequence}: {steps:?}");
        let mut play = Play::start().await;
        for step in steps {
            play.play(step).await;
        }
        play.settled().await;
    }
}
