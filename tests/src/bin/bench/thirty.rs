//! Thirty pods at once over three hosts, against the same commands by hand.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use pinacle_bus::{contract::PodId, settings::load};
use pinacle_orchestrator::settings::OrchestratorSettings;
use pinacle_tests::lab::Lab;
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    by_hand::{self, Connection},
    pods::{Pods, Reached},
    report::{Report, quantile, rounds},
};

const PODS: usize = 30;
const HOSTS: usize = 3;
const ORCHESTRATORS: usize = 2;
const ROUNDS: usize = 5;

/// A connection to a host, as each orchestrator has one, and as many turns on it.
struct Way {
    connection: Connection,
    turns: Semaphore,
}

/// When each pod ran, in seconds from the beginning; ascending.
struct Round {
    asked: Vec<f64>,
    by_hand: Vec<f64>,
}

pub async fn run() -> Report {
    let settings: OrchestratorSettings = load(None, []).unwrap();
    let at_once = settings.orchestrator.operations_per_host;
    let lab = Lab::builder()
        .hosts(HOSTS)
        .orchestrators(ORCHESTRATORS)
        // Thirty small pods take ten cores a host.
        .set("orchestrator.cpu_overcommit", "20")
        .start()
        .await;
    let mut ways = BTreeMap::new();
    for host in lab.hosts() {
        for number in 0..ORCHESTRATORS {
            let connection = Connection::open(&lab, host, number).await;
            ways.insert((host.name().to_owned(), number), Way { connection, turns: Semaphore::new(at_once) });
        }
    }
    let mut pods = Pods::of(&lab).await;
    let mut measured = Vec::new();
    // The first one opens connections and fills caches.
    for number in 0..=rounds(ROUNDS) {
        let round = measure(&lab, &ways, &mut pods, number).await;
        let last = |times: &[f64]| times.last().copied().unwrap_or_default();
        println!("round {number}: {:.1} s; by hand {:.1} s", last(&round.asked), last(&round.by_hand));
        measured.push(round);
    }
    report(measured.split_off(1), at_once)
}

async fn measure(lab: &Lab, ways: &BTreeMap<(String, usize), Way>, pods: &mut Pods, number: usize) -> Round {
    let names: Vec<String> = (0..PODS).map(|place| format!("bench-{number}-{place}")).collect();
    let began = Instant::now();
    let made = pods.create(&names, None).await;
    let reached = pods.run(&made).await;
    let asked = ascending(reached.values().map(|reached| (reached.at - began).as_secs_f64()));
    let mut lines = BTreeMap::new();
    for pod in &made {
        lines.insert(*pod, by_hand::lines(&pods.commands(*pod).await));
    }
    pods.remove(&made).await;

    let mut on_host: BTreeMap<String, usize> = BTreeMap::new();
    let began = Instant::now();
    let by_hand = join_all(reached.iter().map(|(pod, reached)| {
        let (host, lines) = (lab.host_of(reached.record.host_id.unwrap()), &lines[pod]);
        let place = on_host.entry(host.clone()).or_default();
        *place += 1;
        let way = &ways[&(host, *place % ORCHESTRATORS)];
        async move {
            let _turn = way.turns.acquire().await.unwrap();
            for line in lines {
                way.connection.give(line).await;
            }
            began.elapsed().as_secs_f64()
        }
    }))
    .await;
    remove(lab, &reached);
    Round { asked, by_hand: ascending(by_hand) }
}

fn ascending(times: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut times: Vec<f64> = times.into_iter().collect();
    times.sort_by(f64::total_cmp);
    times
}

fn remove(lab: &Lab, made: &BTreeMap<PodId, Reached>) {
    for Reached { record, .. } in made.values() {
        let name = lab.host_of(record.host_id.unwrap());
        let host = lab.hosts().iter().find(|host| host.name() == name).unwrap();
        by_hand::remove(host, record);
    }
}

fn report(rounds: Vec<Round>, at_once: usize) -> Report {
    let mut report = Report::new(
        "Thirty pods at once",
        &format!(
            "{PODS} requests at once, {HOSTS} hosts, {ORCHESTRATORS} orchestrators, all on the same machine; {} rounds. The reference gives \
             the very commands that are on record for those pods by hand: on the same hosts, pods side by side and the commands of each \
             one after the other, over as many OpenSSH connections a host as there are orchestrators, open already, with at most {at_once} \
             pods at once on each, as the orchestrators may. Each round the pods are made by requests, deleted, and made by hand. Times from the beginning to the \
             half of the pods running, to 95 % and to all; medians of the rounds.",
            rounds.len()
        ),
    );
    let middle = |side: fn(&Round) -> &Vec<f64>, share: f64| {
        let mut times: Vec<f64> = rounds.iter().map(|round| quantile(&mut side(round).clone(), share)).collect();
        quantile(&mut times, 0.5)
    };
    let rows = [("half", 0.5), ("95 %", 0.95), ("all", 1.0)].map(|(name, share)| {
        let (asked, by_hand) = (middle(|round| &round.asked, share), middle(|round| &round.by_hand, share));
        vec![name.to_owned(), format!("{asked:.2} s"), format!("{by_hand:.2} s"), format!("{:.2}", asked / by_hand)]
    });
    report.table(&["run", "after the requests", "by hand", "ratio"], &rows);
    report
}
