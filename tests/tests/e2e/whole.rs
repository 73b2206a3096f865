//! All of Pinacle at once, with every part stopped, killed and started again, while a client counts what it is told.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::FutureExt;
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use pinacle_bus::{
    client::{Bus, Start},
    contract::{EventId, HostId, metrics::Metrics, topology::StreamName},
};
use pinacle_tests::{Stack, User, eventually, stack::ADMIN_TOKEN};
use sqlx::{Connection, PgConnection};
use tokio::{task::JoinSet, time::sleep};

use super::gateway::{resume::count, stage::publish_event};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn every_service_goes_up_and_down_while_a_client_counts_events_and_nothing_is_missing() {
    let mut stack =
        Stack::builder().orchestrator(2).ingest(2).gateway(1).agent(2).set("agent.interval_ms", "1000").start().await;
    let bus = stack.nats.bus(User::Tester, "whole").await;
    let (seen, connects) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
    let mut clients = JoinSet::new();
    clients.spawn(count(stack.gateway(1), ADMIN_TOKEN, seen.clone(), connects));
    let told = Arc::new(Mutex::new(0));
    let mut publisher = JoinSet::new();
    let (other, number) = (bus.clone(), told.clone());
    publisher.spawn(async move {
        let host = HostId::new();
        loop {
            // What is not acknowledged may be in the stream or not; the stream itself says in the end.
            if publish_event(&other, host, &EventId::new().to_string()).await.is_ok() {
                *number.lock() += 1;
            }
            sleep(Duration::from_millis(10)).await;
        }
    });

    let names: Vec<String> = stack.names().map(str::to_owned).collect();
    for (round, name) in names.iter().enumerate() {
        if round % 2 == 0 {
            stack.kill9(name).await;
        } else {
            stack.service(name).signal(Signal::SIGTERM);
            let status = stack.service(name).wait(LONG).await;
            assert!(status.success(), "{name} stopped with {status}");
        }
        stack.restart(name).await;
        more(&told).await;
    }
    stack.nats.kill9().await;
    stack.nats.restart().await;
    more(&told).await;
    stack.postgres.kill9().await;
    more(&told).await;
    stack.postgres.restart().await;
    more(&told).await;

    eventually(LONG, "samples after all of that", async || match bus.stream_bounds(StreamName::Metrics).await {
        Ok((_, last)) if last >= 20 => Ok(()),
        other => Err(other),
    })
    .await;
    // The agents stop first, so that the numbers stand still.
    for agent in ["agent-1", "agent-2"] {
        assert!(stack.service(agent).sigterm(LONG).await.success());
    }
    publisher.abort_all();
    every_event_was_seen_once(&bus, &seen).await;
    while let Some(Some(ended)) = clients.join_next().now_or_never() {
        ended.unwrap();
    }
    every_sample_is_a_row(&bus, &stack.database).await;
}

async fn more(told: &Mutex<u64>) {
    let before = *told.lock();
    eventually(LONG, "more events", async || if *told.lock() > before + 20 { Ok(()) } else { Err(*told.lock()) }).await;
}

async fn every_event_was_seen_once(bus: &Bus, seen: &Mutex<Vec<(u64, String)>>) {
    eventually(LONG, "the client to have seen all events", async || {
        let (first, last) = bus.stream_bounds(StreamName::Events).await.map_err(|error| error.to_string())?;
        let sequences: Vec<u64> = seen.lock().iter().map(|(sequence, _)| *sequence).collect();
        if sequences == (first..=last).collect::<Vec<_>>() {
            Ok(())
        } else {
            Err(format!("{} of {}: {:?} to {last}", sequences.len(), last - first + 1, sequences.last()))
        }
    })
    .await;
}

async fn every_sample_is_a_row(bus: &Bus, database: &str) {
    let mut samples = BTreeSet::new();
    let mut reader = bus.read(StreamName::Metrics, Start::Beginning, None);
    loop {
        let stored = reader.next().await.unwrap();
        let sample: Metrics = stored.decode().unwrap();
        samples.insert((sample.host_id.to_string(), sample.sampled_at.as_millis()));
        if stored.pending == 0 {
            break;
        }
    }
    assert!(samples.len() >= 20, "{} samples", samples.len());
    eventually(LONG, "every sample to be a row", async || {
        let mut connection = PgConnection::connect(database).await.map_err(|error| error.to_string())?;
        let sql = "SELECT host_id, (extract(epoch FROM time) * 1000)::bigint FROM host_metrics";
        let rows: Vec<(String, i64)> =
            sqlx::query_as(sql).fetch_all(&mut connection).await.map_err(|error| error.to_string())?;
        let (number, rows) = (rows.len(), rows.into_iter().collect::<BTreeSet<_>>());
        if number == samples.len() && rows == samples {
            Ok(())
        } else {
            Err(format!("{number} rows of {} samples", samples.len()))
        }
    })
    .await;
}
