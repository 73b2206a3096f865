//! Series: the right resolution, nothing missing at its edges, rates that survive a restart.

use chrono::{DateTime, TimeDelta, Utc};
use pinacle_store::{MetricsWriter, Partitioned, Resolution, Scope, SeriesQuery, StoreErrorKind};

use super::{
    fixture::{HostSample, PodSample, Stage, host_id, host_record, past_hour, pod_id, pod_record},
    rollups::roll_all,
};

/// A host and its pod, with a sample of each every ten seconds.
struct Sampled {
    stage: Stage,
    host: String,
    pod: String,
}

impl Sampled {
    async fn new(from: DateTime<Utc>, samples: u64) -> Self {
        let it = Self { stage: Stage::new().await, host: host_id(), pod: pod_id() };
        it.stage.database.host_project(host_record(&it.host, "one", 1)).await.unwrap();
        it.stage.database.pod_project(pod_record(&it.pod, "ann", 1)).await.unwrap();
        it.write(from, 0..samples).await;
        it
    }

    async fn write(&self, from: DateTime<Utc>, figures: std::ops::Range<u64>) {
        let time = |at: u64| from + TimeDelta::seconds(at as i64 * 10);
        let hosts: Vec<_> = figures.clone().map(|at| HostSample::new(&self.host, time(at), at)).collect();
        let pods: Vec<_> = figures.map(|at| PodSample::new(&self.pod, &self.host, time(at), at)).collect();
        let hosts: Vec<_> = hosts.iter().map(HostSample::row).collect();
        let pods: Vec<_> = pods.iter().map(PodSample::row).collect();
        MetricsWriter::new(self.stage.database.clone()).write(&hosts, &pods).await.unwrap();
    }

    /// Resolution, time of a point in seconds, samples of each point: of the host and of the pod, which agree.
    async fn shape(&self, from: DateTime<Utc>, to: DateTime<Utc>, step: i64) -> (Resolution, i64, Vec<i64>) {
        let query = SeriesQuery { from, to, step: Some(TimeDelta::seconds(step)) };
        let host = self.stage.database.host_metrics_series(&Scope::All, &self.host, query).await.unwrap();
        let pod = self.stage.database.pod_metrics_series(&Scope::All, &self.pod, query).await.unwrap();
        let samples: Vec<i64> = host.points.iter().map(|point| point.samples).collect();
        assert_eq!(samples, pod.points.iter().map(|point| point.samples).collect::<Vec<_>>());
        assert_eq!((host.resolution, host.step_seconds), (pod.resolution, pod.step_seconds));
        (host.resolution, host.step_seconds, samples)
    }
}

#[tokio::test]
async fn every_resolution_holds_all_samples_whether_they_are_rolled_up_or_not() {
    let start = past_hour() - TimeDelta::hours(1);
    let it = Sampled::new(start, 720).await;
    let end = start + TimeDelta::hours(2);
    for round in ["nothing rolled up", "all rolled up", "late samples not rolled up"] {
        let late = i64::from(round.starts_with("late"));
        let (resolution, step, samples) = it.shape(start, end, 30).await;
        assert_eq!((resolution, step, samples.len()), (Resolution::Raw, 30, 240), "{round}");
        assert_eq!(samples.iter().sum::<i64>(), 720 + 6 * late, "{round}");
        let (resolution, step, samples) = it.shape(start, end, 100).await;
        assert_eq!((resolution, step), (Resolution::Minute, 120), "{round}");
        let mut expected = vec![12; 60];
        expected[30] += 6 * late;
        assert_eq!(samples, expected, "{round}");
        let (resolution, step, samples) = it.shape(start, end, 3600).await;
        assert_eq!((resolution, step), (Resolution::Hour, 3600), "{round}");
        assert_eq!(samples, [360, 360 + 6 * late], "{round}");
        // A part of it, by the middle of steps: whole steps come back.
        let part = start + TimeDelta::seconds(90);
        assert_eq!(it.shape(part, part + TimeDelta::seconds(60), 60).await.2, [6, 6], "{round}");
        if round.starts_with("nothing") {
            roll_all(&it.stage.database).await;
        } else if late == 0 {
            it.write(start + TimeDelta::seconds(3605), 0..6).await;
        }
    }
}

#[tokio::test]
async fn the_minute_under_way_is_part_of_every_series() {
    let now = Utc::now();
    let it = Sampled::new(now - TimeDelta::seconds(40), 5).await;
    roll_all(&it.stage.database).await;
    for step in [5, 60, 3600] {
        let (_, _, samples) = it.shape(now - TimeDelta::minutes(5), now + TimeDelta::minutes(1), step).await;
        assert_eq!(samples.iter().sum::<i64>(), 5, "{step} s");
    }
}

#[tokio::test]
async fn what_is_gone_in_the_finer_resolution_comes_from_the_coarser() {
    let start = past_hour() - TimeDelta::days(2);
    let it = Sampled::new(start, 360).await;
    roll_all(&it.stage.database).await;
    let (end, today) = (start + TimeDelta::hours(1), Utc::now().date_naive());
    assert_eq!(it.shape(start, end, 10).await.0, Resolution::Raw);
    it.stage.database.partitions_drop(Partitioned::Raw, today - TimeDelta::days(1)).await.unwrap();
    assert_eq!(it.shape(start, end, 10).await, (Resolution::Minute, 60, vec![6; 60]));
    it.stage.database.partitions_drop(Partitioned::Minute, today - TimeDelta::days(1)).await.unwrap();
    assert_eq!(it.shape(start, end, 10).await, (Resolution::Hour, 3600, vec![360]));
    // Where nothing was ever, the finer one is as good.
    assert_eq!(it.shape(start - TimeDelta::days(2), start - TimeDelta::days(1), 10).await.2, Vec::<i64>::new());
}

#[tokio::test]
async fn rates_come_from_totals_and_survive_a_restart() {
    let start = past_hour();
    let it = Sampled::new(start, 60).await;
    // The container starts anew: totals from zero.
    it.write(start + TimeDelta::minutes(10), 0..60).await;
    for rolled in [false, true] {
        if rolled {
            roll_all(&it.stage.database).await;
        }
        let from = start + TimeDelta::minutes(5);
        let query = SeriesQuery { from, to: start + TimeDelta::minutes(20), step: Some(TimeDelta::minutes(1)) };
        let series = it.stage.database.pod_metrics_series(&Scope::All, &it.pod, query).await.unwrap();
        let rates: Vec<_> = series.points.iter().map(|point| point.network_rx_bytes_per_second.unwrap()).collect();
        // 100 bytes a sample, six samples a minute.
        let mut expected = vec![10.0; 15];
        // The first minute after the restart holds five steps from zero.
        expected[5] = 500.0 / 60.0;
        assert_eq!(rates, expected);
        assert_eq!(series.points[0].time, from);
        assert!((series.points[0].cpu_percent_avg - (30..36).sum::<u64>() as f64 / 48.0).abs() < 1e-9);
    }
}

#[tokio::test]
async fn a_series_is_only_for_who_may_see_it() {
    let start = past_hour();
    let it = Sampled::new(start, 6).await;
    let query = SeriesQuery { from: start, to: start + TimeDelta::minutes(1), step: None };
    let database = &it.stage.database;
    let (ann, bob) = (Scope::of("ann"), Scope::of("bob"));
    assert_eq!(database.pod_metrics_series(&ann, &it.pod, query).await.unwrap().points.len(), 6);
    let refused = database.pod_metrics_series(&bob, &it.pod, query).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::NotFound);
    let refused = database.host_metrics_series(&ann, &it.host, query).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::NotFound);
    let backwards = SeriesQuery { from: query.to, to: query.from, step: None };
    let refused = database.pod_metrics_series(&ann, &it.pod, backwards).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::Data);
}
