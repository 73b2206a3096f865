//! From a request to a running pod, against the same commands by hand.

use std::collections::BTreeMap;

use pinacle_bus::contract::pod::PodRecord;
use pinacle_orchestrator::operation::plan::Verb;
use pinacle_tests::lab::{BASE_IMAGE, IMAGE, Lab, base_image};
use tokio::time::Instant;

use crate::{
    by_hand::{self, Connection, Line},
    pods::Pods,
    report::{Report, median, quantile, rounds},
};

const ROUNDS: usize = 25;
/// Not counted: connections open, and caches fill.
const WARM_UP: usize = 2;
/// What pods are made from: the image that they have by default, and next to nothing.
const IMAGES: [&str; 2] = [BASE_IMAGE, IMAGE];

/// Milliseconds of each step.
type Steps = BTreeMap<String, f64>;

/// One pod, made by a request and then by hand.
struct Round {
    /// Milliseconds.
    asked: f64,
    on_record: Steps,
    by_hand: Steps,
    bare: Steps,
}

pub async fn run() -> Report {
    let lab = Lab::builder().hosts(1).orchestrators(1).load(base_image().await).start().await;
    let connection = Connection::open(&lab, &lab.hosts()[0], 0).await;
    let mut pods = Pods::of(&lab).await;
    let wanted = rounds(ROUNDS);
    let mut measured: [Vec<Round>; IMAGES.len()] = Default::default();
    for number in 0..WARM_UP + wanted {
        for (image, rounds) in IMAGES.into_iter().zip(&mut measured) {
            let round = measure(&lab, &connection, &mut pods, &format!("bench-{number}"), image).await;
            let [on_record, by_hand, bare] = [&round.on_record, &round.by_hand, &round.bare].map(in_all);
            println!(
                "{number}, {image}: {:.0} ms, of it {on_record:.0} ms in commands; by hand {by_hand:.0} ms; Docker alone {bare:.0} ms",
                round.asked
            );
            if number >= WARM_UP {
                rounds.push(round);
            }
        }
    }
    report(&measured)
}

fn in_all(steps: &Steps) -> f64 {
    steps.values().sum()
}

async fn measure(lab: &Lab, connection: &Connection, pods: &mut Pods, name: &str, image: &str) -> Round {
    let began = Instant::now();
    let made = pods.create(&[name.to_owned()], Some(image)).await;
    let reached = pods.run(&made).await.remove(&made[0]).unwrap();
    let asked = (reached.at - began).as_secs_f64() * 1000.0;
    let commands = pods.commands(made[0]).await;
    pods.remove(&made).await;

    let by_hand = give(lab, connection, by_hand::lines(&commands), &reached.record).await;
    let bare = give(lab, connection, by_hand::bare_lines(&commands, &reached.record), &reached.record).await;
    let mut on_record = Steps::new();
    for command in commands {
        *on_record.entry(command.step).or_default() += command.duration_ms.unwrap() as f64;
    }
    Round { asked, on_record, by_hand, bare }
}

/// Gives these lines one after the other, and removes what they made.
async fn give(lab: &Lab, connection: &Connection, lines: Vec<Line>, record: &PodRecord) -> Steps {
    let mut steps = Steps::new();
    for line in lines {
        let began = Instant::now();
        connection.give(&line).await;
        *steps.entry(line.step).or_default() += began.elapsed().as_secs_f64() * 1000.0;
    }
    by_hand::remove(&lab.hosts()[0], record);
    steps
}

fn report(measured: &[Vec<Round>; IMAGES.len()]) -> Report {
    let mut report = Report::new(
        "From a request to a running pod",
        &format!(
            "One host that has the images, one orchestrator; {} pods of each image one after the other: `{BASE_IMAGE}`, which pods have \
             by default and which answers once its web server does, and one of busybox. The clock runs from just before the \
             request's publication to this client's hearing that the pod runs. The reference gives the very commands that are on \
             record for that pod by hand (image, network with its packet filter, volume, container, start, question to the pod): \
             `ssh` over one OpenSSH connection that is open already, one command after the other, right after the pod has been \
             deleted; without fence, deadline, record or bus. Docker alone: what it must do for a container that runs (network, \
             volume, container, start), given in the same way; no packet filter, and nobody asks whether the pod answers. gVisor on \
             `ptrace`.",
            measured[0].len()
        ),
    );
    let head = ["", "request → running", "by hand", "ratio of each pair", "Docker alone", "ratio to that"];
    for (image, rounds) in IMAGES.into_iter().zip(measured) {
        report.note(&format!("`{image}`:"));
        let of =
            |value: fn(&Round) -> f64, share: f64| quantile(&mut rounds.iter().map(value).collect::<Vec<f64>>(), share);
        let rows = [("p50", 0.5), ("p95", 0.95), ("longest", 1.0)].map(|(name, share)| {
            vec![
                name.to_owned(),
                format!("{:.0} ms", of(|round| round.asked, share)),
                format!("{:.0} ms", of(|round| in_all(&round.by_hand), share)),
                format!("{:.2}", of(|round| round.asked / in_all(&round.by_hand), share)),
                format!("{:.0} ms", of(|round| in_all(&round.bare), share)),
                format!("{:.2}", of(|round| round.asked / in_all(&round.bare), share)),
            ]
        });
        report.table(&head, &rows);
        report.note("Where the time goes, medians:");
        report.table(&["step", "on record", "by hand", "Docker alone"], &steps(rounds));
    }
    for (image, rounds) in IMAGES.into_iter().zip(measured) {
        let mut ratios: Vec<f64> = rounds.iter().map(|round| round.asked / in_all(&round.by_hand)).collect();
        let mut asked: Vec<f64> = rounds.iter().map(|round| round.asked / 1000.0).collect();
        report.goal(&format!("{image}, median of the ratios"), median(&mut ratios), 1.3, false);
        report.goal(&format!("{image}, p95, s"), quantile(&mut asked, 0.95), 2.0, false);
    }
    report
}

/// Medians, a row a step; what is left of the time from the request is the orchestrator's own and the bus's.
fn steps(rounds: &[Round]) -> Vec<Vec<String>> {
    let of = |value: &dyn Fn(&Round) -> f64| median(&mut rounds.iter().map(value).collect::<Vec<f64>>());
    let on_host = Verb::Create.steps().into_iter().map(|step| step.label()).filter(|step| *step != "place");
    let mut rows: Vec<Vec<String>> = on_host
        .map(|step| {
            let sides: [fn(&Round) -> &Steps; 3] =
                [|round| &round.on_record, |round| &round.by_hand, |round| &round.bare];
            let times = sides.map(|side| of(&|round| side(round).get(step).copied().unwrap_or_default()));
            [vec![step.to_owned()], times.map(|time| format!("{time:.0} ms")).to_vec()].concat()
        })
        .collect();
    let rest = of(&|round| round.asked - in_all(&round.on_record));
    rows.push(vec!["between them".into(), format!("{rest:.0} ms"), String::new(), String::new()]);
    rows
}
