//! Kills at random times. What was acknowledged to the publisher is in the tables, once.

use std::time::Duration;

use futures_util::StreamExt;
use pinacle_bus::{
    client::{Bus, ResendingPublisher},
    contract::{Subject, Timestamp, metrics::Metrics},
};
use pinacle_tests::{Process, eventually};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::sleep;

use super::stage::{Host, LONG, Stage, Tables, times};

/// Tells the seed, so that a failure can be played again.
fn random() -> StdRng {
    let seed = rand::rng().random();
    eprintln!("seed {seed}");
    StdRng::seed_from_u64(seed)
}

fn samples_of(hosts: &[Host], number: usize) -> Vec<Metrics> {
    let times = times(number, 1000);
    times.iter().flat_map(|at| hosts.iter().map(|host| host.sample(*at))).collect()
}

fn all(samples: &[Metrics]) -> Tables {
    let mut wanted = Tables::default();
    samples.iter().for_each(|sample| wanted.expect(sample));
    wanted
}

async fn hosts(stage: &Stage, number: usize, pods: usize) -> Vec<Host> {
    let mut hosts = Vec::new();
    for _ in 0..number {
        hosts.push(stage.admitted(pods).await);
    }
    hosts
}

/// Publishes at a steady pace until all are out, while `disturb` goes on.
async fn under_load(stage: &Stage, samples: &[Metrics], disturb: impl Future<Output = ()>) {
    let publish = async {
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        for chunk in samples.chunks(10) {
            pace.tick().await;
            futures_util::stream::iter(chunk).for_each_concurrent(10, |sample| stage.publish(sample)).await;
        }
    };
    tokio::join!(publish, disturb);
}

#[tokio::test]
async fn rows_equal_samples_though_ingest_is_killed_under_load() {
    let stage = Stage::start().await;
    let mut ingest = stage.launch("ingest").env("PINACLE__INGEST__BATCH_ROWS", "300").start().await;
    let mut random = random();
    let hosts = hosts(&stage, 10, 5).await;
    let samples = samples_of(&hosts, 700);
    under_load(&stage, &samples, async {
        for _ in 0..8 {
            // Random on purpose: the kill must hit every stage of a batch's life.
            sleep(Duration::from_millis(random.random_range(100..900))).await;
            ingest.kill9().await;
            ingest.restart_unready();
        }
    })
    .await;
    ingest.ready(LONG).await;
    stage.settles_at(&all(&samples)).await;
}

#[tokio::test]
async fn two_copies_of_which_one_is_killed_again_and_again_write_everything_once() {
    let stage = Stage::start().await;
    let small = |name| stage.launch(name).env("PINACLE__INGEST__BATCH_ROWS", "200");
    let mut copies = [small("ingest-1").start().await, small("ingest-2").start().await];
    let mut random = random();
    let hosts = hosts(&stage, 10, 5).await;
    let samples = samples_of(&hosts, 500);
    under_load(&stage, &samples, async {
        for round in 0..6 {
            sleep(Duration::from_millis(random.random_range(100..700))).await;
            let copy: &mut Process = &mut copies[round % 2];
            copy.kill9().await;
            copy.restart_unready();
        }
    })
    .await;
    stage.settles_at(&all(&samples)).await;
}

/// One after the other, and again what a server that died may have lost.
async fn publish_as_agents_do(bus: &Bus, samples: &[Metrics], pause: Duration) {
    let mut publisher = ResendingPublisher::new(bus);
    for sample in samples {
        eventually(LONG, "the bus to take a sample", async || {
            publisher.publish(&Subject::Metrics(sample.host_id), &sample.message_id(), sample).await
        })
        .await;
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
    eventually(LONG, "the last ones to be sent again", async || publisher.catch_up().await).await;
}

#[tokio::test]
async fn rows_equal_samples_though_bus_database_and_ingest_are_killed_in_any_order() {
    let mut stage = Stage::start().await;
    let mut ingest = stage.launch("ingest").env("PINACLE__INGEST__BATCH_ROWS", "300").start().await;
    let mut random = random();
    let hosts = hosts(&stage, 8, 4).await;
    let samples = samples_of(&hosts, 400);
    let bus = stage.bus.clone();
    let publish = publish_as_agents_do(&bus, &samples, Duration::from_millis(2));
    let disturb = async {
        for _ in 0..9 {
            sleep(Duration::from_millis(random.random_range(100..1200))).await;
            match random.random_range(0..3) {
                0 => {
                    stage.nats.kill9().await;
                    sleep(Duration::from_millis(random.random_range(0..500))).await;
                    stage.nats.restart().await;
                }
                1 => {
                    stage.postgres.kill9().await;
                    sleep(Duration::from_millis(random.random_range(0..500))).await;
                    stage.postgres.restart().await;
                }
                _ => {
                    ingest.kill9().await;
                    ingest.restart_unready();
                }
            }
        }
    };
    tokio::join!(publish, disturb);
    ingest.ready(LONG).await;
    stage.settles_at(&all(&samples)).await;
}

#[tokio::test]
async fn rows_equal_samples_though_the_bus_is_killed_again_and_again() {
    let mut stage = Stage::start().await;
    let mut ingest = stage.ingest("ingest").await;
    let mut random = random();
    let hosts = hosts(&stage, 4, 2).await;
    let samples = samples_of(&hosts, 1500);
    let bus = stage.bus.clone();
    let disturb = async {
        for _ in 0..10 {
            // At full speed the server dies with samples that it acknowledged, that are committed, and not on its disk:
            // their places in the stream are given anew.
            sleep(Duration::from_millis(random.random_range(200..700))).await;
            stage.nats.kill9().await;
            stage.nats.restart().await;
        }
    };
    tokio::join!(publish_as_agents_do(&bus, &samples, Duration::ZERO), disturb);
    ingest.ready(LONG).await;
    stage.settles_at(&all(&samples)).await;
}

#[tokio::test]
async fn postgres_may_be_away_for_an_hour_of_samples() {
    let mut stage = Stage::start().await;
    let ingest = stage.launch("ingest").env("PINACLE__INGEST__BATCH_ROWS", "2000").start().await;
    let hosts = hosts(&stage, 5, 4).await;
    let before: Vec<Metrics> =
        hosts.iter().map(|host| host.sample(Timestamp::now().minus(Duration::from_secs(3700)))).collect();
    stage.publish_all(&before).await;
    stage.settles_at(&all(&before)).await;

    stage.postgres.kill9().await;
    // An hour, one sample each five seconds.
    let mut samples = samples_of_hour(&hosts);
    stage.publish_all(&samples).await;
    eventually(LONG, "ingest to say that Postgres is away", async || match ingest.get("/readyz").await {
        Ok((503, body)) if body.contains("database") => Ok(()),
        other => Err(other),
    })
    .await;
    let (left, _) = stage.unfinished("METRICS", "ingest-metrics").await.unwrap();
    assert!(left > 0, "the bus keeps what ingest does not take in");
    // Longer than the server waits for an acknowledgement: what is in hand must be prolonged.
    sleep(Duration::from_secs(35)).await;
    stage.postgres.restart().await;
    samples.extend(before);
    stage.settles_at(&all(&samples)).await;
    assert_eq!(ingest.get("/readyz").await.unwrap().0, 200);
    stage.count_becomes(0, "SELECT count(*) FROM dead_letter").await;
    let duplicates = ingest.metric("pinacle_ingest_duplicates_total", &[]).await;
    assert_eq!(duplicates, Some(0.0), "nothing was delivered again that was in hand");
}

fn samples_of_hour(hosts: &[Host]) -> Vec<Metrics> {
    times(720, 5000).iter().flat_map(|at| hosts.iter().map(|host| host.sample(*at))).collect()
}

#[tokio::test]
async fn a_database_that_swallows_everything_is_noticed_and_waited_for() {
    let stage = Stage::start().await;
    let proxy = pinacle_tests::Proxy::start(stage.postgres.address()).await;
    let ingest = stage
        .launch("ingest")
        .env("PINACLE__DATABASE__URL", pinacle_tests::Postgres::url_at(&stage.url, proxy.address()))
        .env("PINACLE__DATABASE__STATEMENT_TIMEOUT_MS", "1000")
        .start()
        .await;
    let hosts = hosts(&stage, 2, 2).await;
    proxy.stall();
    let samples = samples_of(&hosts, 50);
    stage.publish_all(&samples).await;
    eventually(LONG, "ingest to say that Postgres is away", async || match ingest.get("/readyz").await {
        Ok((503, body)) if body.contains("database") => Ok(()),
        other => Err(other),
    })
    .await;
    proxy.heal();
    stage.settles_at(&all(&samples)).await;
}

#[tokio::test]
async fn a_database_without_tables_is_waited_for_until_it_is_migrated() {
    let mut stage = Stage::start().await;
    stage.url = stage.postgres.empty_database().await;
    stage.pool = sqlx::PgPool::connect(&stage.url).await.unwrap();
    let mut ingest = stage.launch("ingest").start().await;
    let hosts = hosts(&stage, 2, 2).await;
    let samples = samples_of(&hosts, 50);
    stage.publish_all(&samples).await;
    eventually(LONG, "ingest to say what is missing", async || match ingest.get("/readyz").await {
        Ok((503, body)) if body.contains("run the migrations") => Ok(()),
        other => Err(other),
    })
    .await;
    let database = sea_orm::Database::connect(&stage.url).await.unwrap();
    pinacle_migrations::migrate(&database).await.unwrap();
    stage.settles_at(&all(&samples)).await;
    ingest.ready(LONG).await;
    stage.count_becomes(0, "SELECT count(*) FROM dead_letter").await;
}
