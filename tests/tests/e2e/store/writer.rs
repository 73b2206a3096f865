//! Samples by `COPY`: every column as given, nothing twice, whoever else writes.

use chrono::{TimeDelta, Utc};
use pinacle_store::{MetricsBatch, MetricsWriter, PageRequest, Scope, StoreErrorKind, Written};
use serde_json::json;

use super::fixture::{HostSample, PodSample, Stage, host_id, host_record, past_hour, pod_id, pod_record};

/// `count` samples of a host and of two pods each, a second apart.
fn samples(count: u64) -> (Vec<HostSample>, Vec<PodSample>) {
    let (host, pods, start) = (host_id(), [pod_id(), pod_id()], past_hour());
    let time = |at: u64| start + TimeDelta::seconds(at as i64);
    let hosts = (0..count).map(|at| HostSample::new(&host, time(at), at)).collect();
    let pods = (0..count).flat_map(|at| pods.iter().map(move |pod| (at, pod)));
    (hosts, pods.map(|(at, pod)| PodSample::new(pod, &host, time(at), at)).collect())
}

fn batch(hosts: &[HostSample], pods: &[PodSample]) -> MetricsBatch {
    let mut batch = MetricsBatch::new();
    hosts.iter().for_each(|sample| batch.push_host(&sample.row()).unwrap());
    pods.iter().for_each(|sample| batch.push_pod(&sample.row()).unwrap());
    batch
}

#[tokio::test]
async fn every_column_comes_back_as_it_was_written() {
    let stage = Stage::new().await;
    let (host, pod) = (host_id(), pod_id());
    stage.database.host_project(host_record(&host, "one", 1)).await.unwrap();
    stage.database.pod_project(pod_record(&pod, "ann", 1)).await.unwrap();
    let time = past_hour() + TimeDelta::microseconds(123_456);
    let mut bare = HostSample::new(&host, time + TimeDelta::seconds(1), 2);
    (bare.cores, bare.pressure, bare.disks, bare.sensors) = (Vec::new(), None, json!([]), json!([]));
    let hosts = [HostSample::new(&host, time, 3), bare];
    let pods = [PodSample::new(&pod, &host, time, 6), PodSample::new(&pod, &host, time + TimeDelta::seconds(1), 7)];
    MetricsWriter::new(stage.database.clone())
        .write(&hosts.each_ref().map(HostSample::row), &pods.each_ref().map(PodSample::row))
        .await
        .unwrap();

    let range = (past_hour(), Utc::now());
    let page = PageRequest::first(10);
    let found = stage.database.host_sample_list(&Scope::All, &host, range, &page).await.unwrap();
    let redacted =
        [("[].host_id", "[host]"), ("[].pod_id", "[pod]"), ("[].time", "[time]"), ("[].received_at", "[time]")];
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    for (selector, instead) in redacted {
        settings.add_redaction(selector, instead);
    }
    settings.bind(|| insta::assert_json_snapshot!("host_samples", found.items));
    assert_eq!(found.items.iter().map(|row| row.time).collect::<Vec<_>>(), hosts.each_ref().map(|it| it.time));
    assert_eq!(found.items[0].received_at, hosts[0].row().received_at);
    assert_eq!(found.items[0].host_id, host);
    let found = stage.database.pod_sample_list(&Scope::All, &pod, range, &page).await.unwrap();
    settings.bind(|| insta::assert_json_snapshot!("pod_samples", found.items));
    assert_eq!(found.items.iter().map(|row| row.time).collect::<Vec<_>>(), pods.each_ref().map(|it| it.time));
    assert_eq!((&found.items[0].host_id, &found.items[0].pod_id), (&host, &pod));
    let newest = stage.database.pod_sample_newest(&Scope::All, &pod).await.unwrap();
    assert_eq!(newest.as_ref(), found.items.last());
}

#[tokio::test]
async fn duplicates_are_counted_and_change_nothing() {
    let stage = Stage::new().await;
    let mut writer = MetricsWriter::new(stage.database.clone());
    let (hosts, pods) = samples(20);
    let written = writer.write_batch(&batch(&hosts[..10], &pods[..20])).await.unwrap();
    assert_eq!(written, Written { host_rows: 10, pod_rows: 20, duplicates: 0 });
    let written = writer.write_batch(&batch(&hosts[..10], &pods[..20])).await.unwrap();
    assert_eq!(written, Written { host_rows: 0, pod_rows: 0, duplicates: 30 });
    let written = writer.write_batch(&batch(&hosts[5..], &pods[15..])).await.unwrap();
    assert_eq!(written, Written { host_rows: 10, pod_rows: 20, duplicates: 10 });
    // The same sample with other figures is the same sample: the first stays.
    let mut changed = hosts[0].clone();
    changed.figure = 77;
    let written = writer.write_batch(&batch(&[changed.clone(), changed], &[])).await.unwrap();
    assert_eq!(written, Written { host_rows: 0, pod_rows: 0, duplicates: 2 });
    assert_eq!(stage.count("SELECT count(*) FROM host_metrics").await, 20);
    assert_eq!(stage.count("SELECT count(*) FROM pod_metrics").await, 40);
    assert_eq!(stage.count("SELECT count(*) FROM host_metrics WHERE memory_used_bytes = 77000").await, 0);
    // A batch with a duplicate within itself.
    let (hosts, _) = samples(1);
    let written = writer.write_batch(&batch(&[hosts[0].clone(), hosts[0].clone()], &[])).await.unwrap();
    assert_eq!(written, Written { host_rows: 1, pod_rows: 0, duplicates: 1 });
}

#[tokio::test]
async fn writers_with_the_same_rows_in_any_order_do_not_lock_each_other_out() {
    let stage = Stage::new().await;
    let (hosts, pods) = samples(300);
    let writers = (0..4_usize).map(|writer| {
        let (mut hosts, mut pods) = (hosts.clone(), pods.clone());
        if writer % 2 == 1 {
            hosts.reverse();
            pods.reverse();
        }
        hosts.rotate_left(writer * 40);
        let database = stage.database.clone();
        async move {
            let mut writer = MetricsWriter::new(database);
            let mut sum = Written::default();
            for part in 0..3 {
                let part = batch(&hosts[part * 100..][..100], &pods[part * 200..][..200]);
                let written = writer.write_batch(&part).await.unwrap();
                sum.host_rows += written.host_rows;
                sum.pod_rows += written.pod_rows;
                sum.duplicates += written.duplicates;
            }
            sum
        }
    });
    let sums = futures_util::future::join_all(writers).await;
    assert_eq!(sums.iter().map(|sum| sum.host_rows).sum::<u64>(), 300);
    assert_eq!(sums.iter().map(|sum| sum.pod_rows).sum::<u64>(), 600);
    assert_eq!(sums.iter().map(|sum| sum.duplicates).sum::<u64>(), 2700);
    assert_eq!(stage.count("SELECT count(*) FROM host_metrics").await, 300);
    assert_eq!(stage.count("SELECT count(*) FROM pod_metrics").await, 600);
}

#[tokio::test]
async fn a_batch_that_cannot_be_written_leaves_nothing() {
    let stage = Stage::new().await;
    let mut writer = MetricsWriter::new(stage.database.clone());
    let (mut hosts, pods) = samples(3);
    hosts[2].time = Utc::now() + TimeDelta::days(40);
    let error = writer.write_batch(&batch(&hosts, &pods)).await.unwrap_err();
    assert_eq!(error.kind(), &StoreErrorKind::NoPartition);
    hosts[2].time = hosts[0].time + TimeDelta::minutes(1);
    hosts[2].disks = json!("\u{0}");
    let error = writer.write_batch(&batch(&hosts, &pods)).await.unwrap_err();
    assert_eq!(error.kind(), &StoreErrorKind::Data);
    for table in ["SELECT count(*) FROM host_metrics", "SELECT count(*) FROM rollup_pending"] {
        assert_eq!(stage.count(table).await, 0);
    }
    // And the writer goes on.
    assert_eq!(writer.write_batch(&batch(&hosts[..2], &pods)).await.unwrap().host_rows, 2);
    assert_eq!(writer.write_batch(&MetricsBatch::new()).await.unwrap(), Written::default());
}

#[tokio::test]
async fn a_value_that_no_column_holds_is_refused_and_the_batch_is_as_before() {
    let stage = Stage::new().await;
    let (hosts, pods) = samples(1);
    let mut batch = batch(&hosts, &pods);
    let bytes = batch.bytes();
    let mut row = pods[0].row();
    row.oom_kills = u64::MAX;
    assert_eq!(batch.push_pod(&row).unwrap_err().kind(), &StoreErrorKind::Data);
    assert_eq!((batch.bytes(), batch.rows()), (bytes, 3));
    let written = MetricsWriter::new(stage.database.clone()).write_batch(&batch).await.unwrap();
    assert_eq!(written, Written { host_rows: 1, pod_rows: 2, duplicates: 0 });
}
