//! From a request to a running pod, against the same commands by hand.

use pinacle_bus::contract::pod::PodRecord;
use pinacle_tests::lab::Lab;
use tokio::time::Instant;

use crate::{
    by_hand::{self, Connection},
    pods::Pods,
    report::{Report, quantile, rounds},
};

const ROUNDS: usize = 30;
/// Not counted: connections open, and caches fill.
const WARM_UP: usize = 2;

/// One pod, made by a request and then by hand; milliseconds.
struct Round {
    asked: f64,
    on_host: f64,
    by_hand: f64,
    bare: f64,
}

pub async fn run() -> Report {
    let lab = Lab::builder().hosts(1).orchestrators(1).start().await;
    let connection = Connection::open(&lab, &lab.hosts()[0], 0).await;
    let mut pods = Pods::of(&lab).await;
    let wanted = rounds(ROUNDS);
    let mut measured = Vec::new();
    for number in 0..WARM_UP + wanted {
        let round = measure(&lab, &connection, &mut pods, number).await;
        println!(
            "{number}: {:.0} ms, of it {:.0} ms in commands; by hand {:.0} ms; Docker alone {:.0} ms",
            round.asked, round.on_host, round.by_hand, round.bare
        );
        measured.push(round);
    }
    report(measured.split_off(WARM_UP))
}

async fn measure(lab: &Lab, connection: &Connection, pods: &mut Pods, number: usize) -> Round {
    let began = Instant::now();
    let made = pods.create(&[format!("bench-{number}")]).await;
    let reached = pods.run(&made).await.remove(&made[0]).unwrap();
    let asked = reached.at - began;
    let commands = pods.commands(made[0]).await;
    pods.remove(&made).await;

    let by_hand = give(lab, connection, &by_hand::lines(&commands), &reached.record).await;
    let bare = give(lab, connection, &by_hand::bare_lines(&commands, &reached.record), &reached.record).await;
    let on_host = commands.iter().filter_map(|command| command.duration_ms).sum::<u64>() as f64;
    Round { asked: asked.as_secs_f64() * 1000.0, on_host, by_hand, bare }
}

/// Gives these lines one after the other, and removes what they made; milliseconds until the last one had ended.
async fn give(lab: &Lab, connection: &Connection, lines: &[String], record: &PodRecord) -> f64 {
    let began = Instant::now();
    for line in lines {
        connection.run(line).await;
    }
    let took = began.elapsed().as_secs_f64() * 1000.0;
    by_hand::remove(&lab.hosts()[0], record);
    took
}

fn report(rounds: Vec<Round>) -> Report {
    let mut report = Report::new(
        "From a request to a running pod",
        &format!(
            "One host with the image, one orchestrator; {} pods one after the other. The clock runs from just before the request's \
             publication to this client's hearing that the pod runs. The reference gives the very commands that are on record for that \
             pod (image, network with its packet filter, volume, container, start, question to the pod) by hand: `ssh` over one \
             OpenSSH connection that is open already, one command after the other, right after the pod has been deleted; without \
             fence, deadline, record or bus. The last columns are what Docker alone must do for a container that runs, in the same \
             way: network, volume, container, start; no packet filter, and nobody asks whether the pod answers. gVisor on `ptrace`, an image of busybox.",
            rounds.len()
        ),
    );
    let mut asked: Vec<f64> = rounds.iter().map(|round| round.asked).collect();
    let mut on_host: Vec<f64> = rounds.iter().map(|round| round.on_host).collect();
    let mut by_hand: Vec<f64> = rounds.iter().map(|round| round.by_hand).collect();
    let mut bare: Vec<f64> = rounds.iter().map(|round| round.bare).collect();
    let mut ratios: Vec<f64> = rounds.iter().map(|round| round.asked / round.by_hand).collect();
    let mut to_bare: Vec<f64> = rounds.iter().map(|round| round.asked / round.bare).collect();
    let rows = [("p50", 0.5), ("p95", 0.95), ("longest", 1.0)].map(|(name, share)| {
        vec![
            name.to_owned(),
            format!("{:.0} ms", quantile(&mut asked, share)),
            format!("{:.0} ms", quantile(&mut on_host, share)),
            format!("{:.0} ms", quantile(&mut by_hand, share)),
            format!("{:.2}", quantile(&mut ratios, share)),
            format!("{:.0} ms", quantile(&mut bare, share)),
            format!("{:.2}", quantile(&mut to_bare, share)),
        ]
    });
    report.table(
        &[
            "",
            "request → running",
            "of it in commands",
            "by hand",
            "ratio of each pair",
            "Docker alone",
            "ratio to that",
        ],
        &rows,
    );
    report.goal("ratio, median of all pairs", quantile(&mut ratios, 0.5), 1.3, false);
    report.goal("p95, s", quantile(&mut asked, 0.95) / 1000.0, 2.0, false);
    report
}
