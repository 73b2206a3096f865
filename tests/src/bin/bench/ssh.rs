//! What a command costs over our connection to a host, against OpenSSH's multiplexing.

use std::sync::Arc;

use pinacle_bus::{
    contract::{OperationId, PodId},
    settings::{Secret, load},
};
use pinacle_orchestrator::{
    settings::OrchestratorSettings,
    ssh::{Command, Endpoint, ExecSink, Fence, HostConnection, SshSettings},
};
use pinacle_tests::lab::Lab;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    by_hand::Connection,
    report::{Report, quantile, rounds},
};

const ROUNDS: usize = 300;

pub async fn run() -> Report {
    let lab = Lab::builder().hosts(1).orchestrators(0).start().await;
    let host = &lab.hosts()[0];
    let record = lab.host_record(host.name()).await;
    let mut settings: OrchestratorSettings = load(None, []).unwrap();
    settings.orchestrator.ssh_key = Secret::new(std::fs::read_to_string(lab.key()).unwrap());
    let endpoint = Endpoint::of(&record, &settings.orchestrator.ssh_user).unwrap();
    let ours = HostConnection::new(endpoint, Arc::new(SshSettings::from(&settings.orchestrator)));
    let theirs = Connection::open(&lab, host, 0).await;
    let pod = PodId::new();
    let sink = ExecSink::new(&lab.bus(), OperationId::new(), record.host_id, Some(pod), 1);
    let (bare, cancel) = (Command::new("true"), CancellationToken::new());
    let fenced = Command::new("true").fence(Fence { pod_id: pod, number: 1 });

    let mut times: [Vec<f64>; 4] = Default::default();
    // The first one opens our connection.
    ours.run_unrecorded(&bare, &cancel).await.unwrap();
    for _ in 0..rounds(ROUNDS) {
        let began = Instant::now();
        assert!(ours.run_unrecorded(&bare, &cancel).await.unwrap().is_success());
        times[0].push(began.elapsed().as_secs_f64() * 1000.0);
        let began = Instant::now();
        assert!(ours.run_unrecorded(&fenced, &cancel).await.unwrap().is_success());
        times[1].push(began.elapsed().as_secs_f64() * 1000.0);
        let began = Instant::now();
        assert!(ours.run(&fenced, &sink, &cancel).await.unwrap().is_success());
        times[2].push(began.elapsed().as_secs_f64() * 1000.0);
        let began = Instant::now();
        theirs.run("true").await;
        times[3].push(began.elapsed().as_secs_f64() * 1000.0);
    }
    ours.close().await;
    report(times)
}

fn report(mut times: [Vec<f64>; 4]) -> Report {
    let mut report = Report::new(
        "A command over SSH",
        &format!(
            "`true` on one host, {} times in turn each way. Ours run over the orchestrator's connection: each with its process group told \
             and a deadline that the host keeps by itself; then with the fence as well; then with its record, acknowledged by the bus, as \
             all commands of operations are. The reference is `ssh` over an OpenSSH connection that is open already \
             (`ControlMaster`): a local program a command, a channel, a login shell.",
            times[0].len()
        ),
    );
    let reference = [0.5, 0.95].map(|share| quantile(&mut times[3], share));
    let names = ["ours", "ours, fenced", "ours, fenced and on record", "OpenSSH, multiplexed"];
    let rows = names.into_iter().zip(&mut times).map(|(name, times)| {
        let [p50, p95] = [0.5, 0.95].map(|share| quantile(times, share));
        let ratio = |got: f64, of: f64| format!("{:.2}", got / of);
        vec![
            name.to_owned(),
            format!("{p50:.1} ms"),
            format!("{p95:.1} ms"),
            ratio(p50, reference[0]),
            ratio(p95, reference[1]),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    report.table(&["", "p50", "p95", "ratio of p50", "ratio of p95"], &rows);
    report
}
