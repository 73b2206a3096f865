//! What cannot be stored: a dead letter with its reason, and the rest unharmed.

use std::time::Duration;

use pinacle_bus::contract::{
    HostId, SCHEMA_VERSION, Timestamp, encode, metrics::Metrics, pod::PodRecord, topology::StreamName,
};
use pinacle_tests::{Process, eventually};

use super::stage::{Host, LONG, Stage, Tables, golden, times};

/// An ingest whose patience with unknown hosts is short.
async fn impatient(stage: &Stage) -> Process {
    stage.launch("ingest").env("PINACLE__INGEST__UNKNOWN_HOST_GRACE_S", "2").start().await
}

#[tokio::test]
async fn each_bad_message_becomes_a_dead_letter_with_its_reason_and_the_rest_are_stored() {
    let stage = Stage::start().await;
    let ingest = impatient(&stage).await;
    let host = stage.admitted(2).await;
    let now = Timestamp::now();
    let mut wanted = Tables::default();
    let good: Vec<Metrics> = times(20, 1000).into_iter().map(|at| host.sample(at)).collect();
    good.iter().for_each(|sample| wanted.expect(sample));
    stage.publish_all(&good[..10]).await;

    let bytes = |sample: &Metrics| encode(sample).unwrap();
    let spoilt = |spoil: &dyn Fn(&mut Metrics)| {
        let mut sample = host.sample(now);
        spoil(&mut sample);
        bytes(&sample)
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("not a valid metrics", b"{\"host_id\": 12".to_vec()),
        ("cpu_percent is -1", spoilt(&|sample| sample.host.cpu_percent = -1.0)),
        ("more than any machine has", spoilt(&|sample| sample.pods[1].memory_bytes = u64::MAX)),
        ("names a pod twice", spoilt(&|sample| sample.pods[1].pod_id = sample.pods[0].pod_id)),
        ("at most 524288 are accepted", vec![b' '; 600_000]),
        ("ahead; is the host's clock wrong?", bytes(&host.sample(now.plus(Duration::from_secs(3 * 3600))))),
        ("samples are kept for 7 days", bytes(&host.sample(now.minus(Duration::from_secs(8 * 86_400))))),
        ("but it says that it is of", bytes(&Host::with_pods(1).sample(now))),
    ];
    let kinds = cases.len();
    for (reason, bytes) in &cases {
        stage.publish_raw(host.id, reason, bytes.clone()).await;
    }
    let stranger = Host::with_pods(1);
    stage.publish(&stranger.sample(now)).await;
    publish_with_schema(&stage, host.id, SCHEMA_VERSION + 1, bytes(&host.sample(now))).await;
    stage.publish_all(&good[10..]).await;

    for (reason, bytes) in &cases {
        stage.dead_letter(reason).await;
        let kept: (Vec<u8>, i64, String) =
            sqlx::query_as("SELECT payload, payload_bytes, consumer FROM dead_letter WHERE position($1 IN reason) > 0")
                .bind(reason)
                .fetch_one(&stage.pool)
                .await
                .unwrap();
        assert_eq!((&kept.0, kept.1, kept.2.as_str()), (bytes, bytes.len() as i64, "ingest-metrics"), "{reason}");
    }
    stage.dead_letter(&format!("nobody knows the host {}", stranger.id)).await;
    stage.dead_letter(&format!("schema {}", SCHEMA_VERSION + 1)).await;
    stage.settles_at(&wanted).await;
    stage.count_becomes(kinds as i64 + 2, "SELECT count(*) FROM dead_letter").await;
    let counted = ingest.metric("pinacle_ingest_dead_letters_total", &[]).await;
    assert_eq!(counted, Some(kinds as f64 + 2.0));
    // Nothing comes back as a sample: they are done with.
    assert_eq!(stage.unfinished("METRICS", "ingest-metrics").await, Ok((0, 0)));
}

async fn publish_with_schema(stage: &Stage, host: HostId, schema: u32, bytes: Vec<u8>) {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Pinacle-Schema", schema.to_string());
    let subject = pinacle_bus::contract::Subject::Metrics(host).to_string();
    stage.nats.jetstream().await.publish_with_headers(subject, headers, bytes.into()).await.unwrap().await.unwrap();
}

#[tokio::test]
async fn samples_that_come_before_their_hosts_admission_wait_for_it() {
    let stage = Stage::start().await;
    let ingest = stage.ingest("ingest").await;
    let host = Host::with_pods(2);
    let mut wanted = Tables::default();
    let samples: Vec<Metrics> = times(10, 1000).into_iter().map(|at| host.sample(at)).collect();
    samples.iter().for_each(|sample| wanted.expect(sample));
    stage.publish_all(&samples).await;
    eventually(LONG, "ingest to put them off", async || {
        match ingest.metric("pinacle_bus_messages_total", &["ingest-metrics", "outcome=\"later\""]).await {
            Some(put_off) if put_off >= 10.0 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert_eq!(stage.tables().await.unwrap(), Tables::default());
    stage.admit(host.id).await;
    stage.settles_at(&wanted).await;
    stage.count_becomes(0, "SELECT count(*) FROM dead_letter").await;
}

#[tokio::test]
async fn a_pod_that_runs_elsewhere_is_left_out_and_the_rest_of_its_message_is_stored() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest("ingest").await;
    let (host, other) = (stage.admitted(3).await, stage.admitted(0).await);
    // One pod runs elsewhere, one runs here, and one has no record yet.
    for (pod, placed) in [(host.pods[0], other.id), (host.pods[1], host.id)] {
        let record = PodRecord { pod_id: pod, host_id: Some(placed), ..golden() };
        stage.pods.create(&pod.to_string(), &record).await.unwrap();
    }
    let sample = host.sample(Timestamp::now());
    let mut wanted = Tables::default();
    wanted.expect_without(&sample, &host.pods[..1]);
    stage.publish(&sample).await;
    stage.dead_letter(&format!("{} runs on {}", host.pods[0], other.id)).await;
    stage.settles_at(&wanted).await;

    // It moves here: the next sample is whole.
    let revision = stage.pods.get(&host.pods[0].to_string()).await.unwrap().unwrap().revision;
    let record = PodRecord { pod_id: host.pods[0], host_id: Some(host.id), ..golden() };
    stage.pods.update(&host.pods[0].to_string(), &record, revision).await.unwrap();
    let sample = host.sample(Timestamp::now().plus(Duration::from_secs(1)));
    wanted.expect(&sample);
    stage.publish(&sample).await;
    stage.settles_at(&wanted).await;
    stage.count_becomes(1, "SELECT count(*) FROM dead_letter").await;
}

#[tokio::test]
async fn a_removed_host_is_unknown_again() {
    let stage = Stage::start().await;
    let _ingest = impatient(&stage).await;
    let host = stage.admitted(1).await;
    let sample = host.sample(Timestamp::now());
    let mut wanted = Tables::default();
    wanted.expect(&sample);
    stage.publish(&sample).await;
    stage.settles_at(&wanted).await;
    let revision = stage.hosts.get(&host.id.to_string()).await.unwrap().unwrap().revision;
    stage.hosts.delete(&host.id.to_string(), revision).await.unwrap();
    stage.count_becomes(1, "SELECT count(*) FROM host WHERE deleted_at IS NOT NULL").await;
    stage.publish(&host.sample(Timestamp::now().plus(Duration::from_secs(1)))).await;
    stage.dead_letter("nobody knows the host").await;
    stage.settles_at(&wanted).await;
}

#[tokio::test]
async fn what_postgres_refuses_is_singled_out_of_its_batch() {
    let stage = Stage::start().await;
    // Something that the contract allows and this database does not.
    sqlx::query("ALTER TABLE pod_metrics ADD CONSTRAINT unlucky CHECK (oom_kills <> 13)")
        .execute(&stage.pool)
        .await
        .unwrap();
    let _ingest = stage.launch("ingest").env("PINACLE__INGEST__BATCH_AGE_MS", "1000").start().await;
    let host = stage.admitted(3).await;
    let mut wanted = Tables::default();
    let mut samples: Vec<Metrics> = times(40, 1000).into_iter().map(|at| host.sample(at)).collect();
    for (number, sample) in samples.iter_mut().enumerate() {
        if number % 17 == 5 {
            sample.pods[1].oom_kills = 13;
        } else {
            wanted.expect(sample);
        }
    }
    stage.publish_all(&samples).await;
    stage.settles_at(&wanted).await;
    stage.count_becomes(3, "SELECT count(*) FROM dead_letter WHERE reason LIKE 'Postgres refuses it%unlucky%'").await;
    stage.count_becomes(3, "SELECT count(*) FROM dead_letter").await;
}

#[tokio::test]
async fn a_dead_letter_that_is_none_is_kept_and_makes_no_endless_chain() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest("ingest").await;
    stage.bus.publish_bytes("pinacle.v1.dead.METRICS.ingest-metrics", "1", "no letter".into()).await.unwrap();
    stage.count_becomes(1, "SELECT count(*) FROM dead_letter WHERE stream = 'DEAD' AND payload = 'no letter'").await;
    // One that claims to be about dead letters is where the chain ends.
    stage.bus.publish_bytes("pinacle.v1.dead.DEAD.ingest-dead", "2", "none either".into()).await.unwrap();
    eventually(LONG, "both to be done with", async || match stage.unfinished("DEAD", "ingest-dead").await {
        Ok((0, 0)) => Ok(()),
        other => Err(other),
    })
    .await;
    // The two, and the letter about the first.
    assert_eq!(stage.bus.stream_bounds(StreamName::Dead).await.unwrap(), (1, 3));
    stage.count_becomes(1, "SELECT count(*) FROM dead_letter").await;
}

#[tokio::test]
async fn a_crowd_of_strangers_does_not_hold_up_the_samples_of_known_hosts() {
    let stage = Stage::start().await;
    let ingest = stage.ingest("ingest").await;
    let (host, stranger) = (stage.admitted(2).await, Host::with_pods(0));
    // More than the server gives out before anything is acknowledged.
    let strangers: Vec<Metrics> = times(21_000, 10).into_iter().map(|at| stranger.sample(at)).collect();
    stage.publish_all(&strangers).await;
    let mut wanted = Tables::default();
    let samples: Vec<Metrics> = times(50, 1000).into_iter().map(|at| host.sample(at)).collect();
    samples.iter().for_each(|sample| wanted.expect(sample));
    stage.publish_all(&samples).await;
    eventually(LONG, "the known host's samples to be stored", async || {
        let found = stage.tables().await.map_err(|error| error.to_string())?;
        if found == wanted { Ok(()) } else { Err(found.hosts.len().to_string()) }
    })
    .await;
    stage.dead_letter("too many samples of such hosts wait already").await;
    // Those that wait are stored all the same once their host is admitted.
    stage.admit(stranger.id).await;
    eventually(LONG, "the strangers that waited", async || match stage.unfinished("METRICS", "ingest-metrics").await {
        Ok((0, 0)) => Ok(()),
        other => Err(other),
    })
    .await;
    let refused = ingest.metric("pinacle_ingest_dead_letters_total", &["unknown_host"]).await.unwrap();
    let stored = stage.tables().await.unwrap().hosts.len();
    assert_eq!(stored, 50 + 21_000 - refused as usize);
}
