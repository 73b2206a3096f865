//! Random samples in random batches, some twice, some late, with rollups in between, against a plain model: a map from
//! a sample's key to its first figures.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use pinacle_store::{MetricsBatch, MetricsWriter, Written};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use sqlx::Row;

use super::{
    fixture::{HostSample, PodSample, Stage, past_hour},
    rollups::{roll_all, wrong_rows},
};

const HOSTS: [&str; 2] = ["host_a", "host_b"];
const PODS: [&str; 3] = ["pod_a", "pod_b", "pod_c"];

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    /// A batch: hosts' samples and pods' samples as (which, when in seconds, figure).
    Write(Vec<(usize, i64, u64)>, Vec<(usize, i64, u64)>),
    /// The last batch comes again, the wrong way round.
    Again,
    /// A bounded run of the rollups.
    Roll(u32),
}

fn step() -> impl Strategy<Value = Step> {
    // Three minutes on both sides of an hour's end, with few enough times that many come twice.
    let sample = |which: usize| (0..which, (0..18_i64).prop_map(|at| at * 10 - 90), 0..1000_u64);
    prop_oneof![
        4 => (vec(sample(HOSTS.len()), 0..12), vec(sample(PODS.len()), 0..20)).prop_map(|(h, p)| Step::Write(h, p)),
        1 => Just(Step::Again),
        2 => (1..40_u32).prop_map(Step::Roll),
    ]
}

type Key = (String, DateTime<Utc>);

#[derive(Default)]
struct Model {
    hosts: BTreeMap<Key, f64>,
    pods: BTreeMap<Key, f64>,
}

impl Model {
    /// Adds what is new, and says what a write of this must report.
    fn write(&mut self, hosts: &[HostSample], pods: &[PodSample]) -> Written {
        let mut written = Written::default();
        for sample in hosts {
            let key = (sample.host_id.clone(), sample.time);
            match self.hosts.insert(key.clone(), sample.row().cpu_percent) {
                None => written.host_rows += 1,
                Some(first) => {
                    self.hosts.insert(key, first);
                    written.duplicates += 1;
                }
            }
        }
        for sample in pods {
            let key = (sample.pod_id.clone(), sample.time);
            match self.pods.insert(key.clone(), sample.row().cpu_percent) {
                None => written.pod_rows += 1,
                Some(first) => {
                    self.pods.insert(key, first);
                    written.duplicates += 1;
                }
            }
        }
        written
    }
}

async fn table(stage: &Stage, sql: &'static str) -> BTreeMap<Key, f64> {
    let rows = sqlx::query(sql).fetch_all(&stage.sql).await.unwrap();
    rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect()
}

async fn play(stage: &Stage, steps: Vec<Step>) {
    sqlx::raw_sql(
        "TRUNCATE host_metrics, pod_metrics, host_metrics_1m, pod_metrics_1m, host_metrics_1h, pod_metrics_1h, \
         rollup_pending, rollup_pending_hour",
    )
    .execute(&stage.sql)
    .await
    .unwrap();
    let mut writer = MetricsWriter::new(stage.database.clone());
    let (mut model, mut batch) = (Model::default(), MetricsBatch::new());
    let (mut hosts, mut pods): (Vec<HostSample>, Vec<PodSample>) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Roll(limit) => {
                stage.database.rollup_run(limit).await.unwrap();
                continue;
            }
            Step::Again => {
                hosts.reverse();
                pods.reverse();
            }
            Step::Write(next_hosts, next_pods) => {
                let time = |seconds| past_hour() + TimeDelta::seconds(seconds);
                hosts = next_hosts.iter().map(|it| HostSample::new(HOSTS[it.0], time(it.1), it.2)).collect();
                // A pod may be on either host.
                let host = |figure: u64| HOSTS[usize::from(figure.is_multiple_of(2))];
                let pod = |it: &(usize, i64, u64)| PodSample::new(PODS[it.0], host(it.2), time(it.1), it.2);
                pods = next_pods.iter().map(pod).collect();
            }
        }
        batch.clear();
        hosts.iter().for_each(|sample| batch.push_host(&sample.row()).unwrap());
        pods.iter().for_each(|sample| batch.push_pod(&sample.row()).unwrap());
        // Of equal keys within a batch any may stay, so the model takes only batches without.
        if has_equal_keys(&hosts, &pods) {
            hosts.clear();
            pods.clear();
            continue;
        }
        assert_eq!(writer.write_batch(&batch).await.unwrap(), model.write(&hosts, &pods));
    }
    assert_eq!(table(stage, "SELECT host_id, time, cpu_percent FROM host_metrics").await, model.hosts);
    assert_eq!(table(stage, "SELECT pod_id, time, cpu_percent FROM pod_metrics").await, model.pods);
    roll_all(&stage.database).await;
    assert_eq!(wrong_rows(&stage.sql).await, Vec::<String>::new());
}

fn has_equal_keys(hosts: &[HostSample], pods: &[PodSample]) -> bool {
    let mut keys: Vec<Key> = hosts.iter().map(|it| (it.host_id.clone(), it.time)).collect();
    keys.extend(pods.iter().map(|it| (it.pod_id.clone(), it.time)));
    keys.sort();
    keys.windows(2).any(|pair| pair[0] == pair[1])
}

#[test]
fn tables_and_rollups_equal_a_plain_model() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stage = runtime.block_on(Stage::new());
    let config = Config { cases: 40, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    TestRunner::new(config)
        .run(&vec(step(), 1..12), |steps| {
            runtime.block_on(play(&stage, steps));
            Ok(())
        })
        .unwrap();
}
