//! From publication to a WebSocket's client.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use pinacle_bus::{
    client::Bus,
    contract::{HostId, Subject, Timestamp},
};
use pinacle_tests::{Launch, Nats, Postgres, Process, User, machine, stack::MASTER_KEY};
use tokio::{task::JoinSet, time::Instant};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::{
    fleet::{self, Host},
    report::Report,
    usage::pass,
};

const TOKEN: &str = "a-token-of-the-benchmark-and-of-nothing-else";
const HOSTS: usize = 100;
const PODS: usize = 10;
const MEASURED: Duration = Duration::from_secs(30);

/// When each sample was published.
type Published = Arc<Mutex<HashMap<(HostId, Timestamp), Instant>>>;

pub async fn run() -> Report {
    let nats = Nats::start().await;
    let postgres = Postgres::start().await;
    let database = postgres.database().await;
    let bus = nats.bus_with_topology().await;
    let fleet = fleet::admit(&bus, HOSTS, PODS).await;
    let listen = machine::free_address();
    let _gateway: Process = Launch::service("pinacle-gateway")
        .envs(nats.env(User::GATEWAY))
        .env("PINACLE__DATABASE__URL", &database)
        .env("PINACLE__GATEWAY__LISTEN", listen.to_string())
        .env("PINACLE__GATEWAY__ADMIN_TOKEN", TOKEN)
        .env("PINACLE__GATEWAY__MASTER_KEY", MASTER_KEY)
        .ready_on_admin_port()
        .start()
        .await;
    let mut table = Vec::new();
    let mut worst = 0.0_f64;
    for clients in [1, 200] {
        let lags = measure(&bus, &fleet, &format!("ws://{listen}/api/v1/live"), clients).await;
        let ms = |quantile: f64| lags.value_at_quantile(quantile) as f64 / 1000.0;
        println!("{clients} clients: p50 {:.1} ms, p99 {:.1} ms of {} frames", ms(0.5), ms(0.99), lags.len());
        worst = worst.max(ms(0.99));
        table.push(vec![
            clients.to_string(),
            lags.len().to_string(),
            format!("{:.1} ms", ms(0.5)),
            format!("{:.1} ms", ms(0.99)),
            format!("{:.1} ms", lags.max() as f64 / 1000.0),
        ]);
    }
    let mut report = Report::new(
        "From publication to a WebSocket's client",
        &format!(
            "{HOSTS} hosts with {PODS} pods publish a sample every 5 s, spread evenly; each client follows the topic `hosts` and so gets \
             all of them. The clock runs from just before the publication to the client's having read the frame; publisher and clients \
             are one process beside the gateway, {} s each.",
            MEASURED.as_secs()
        ),
    );
    report.table(&["clients", "samples received", "p50", "p99", "longest"], &table);
    report.goal("p99, ms", worst, 100.0, false);
    report
}

async fn measure(bus: &Bus, fleet: &[Host], url: &str, clients: usize) -> Histogram<u64> {
    let published = Published::default();
    let lags = Arc::new(Mutex::new(Histogram::<u64>::new(3).unwrap()));
    let mut tasks = JoinSet::new();
    let ready = Arc::new(tokio::sync::Barrier::new(clients + 1));
    for _ in 0..clients {
        let (url, published, lags, ready) = (url.to_owned(), published.clone(), lags.clone(), ready.clone());
        tasks.spawn(async move { follow(&url, &published, &lags, &ready).await });
    }
    ready.wait().await;
    let template = fleet::template();
    let pause = Duration::from_secs(5) / u32::try_from(fleet.len()).unwrap();
    let mut timer = tokio::time::interval(pause);
    let end = Instant::now() + MEASURED;
    let mut number = 0;
    while Instant::now() < end {
        for host in fleet {
            timer.tick().await;
            let metrics = fleet::sample(&template, host, number, Timestamp::now());
            published.lock().insert((host.id, metrics.sampled_at), Instant::now());
            bus.publish(&Subject::Metrics(host.id), &metrics.message_id(), &metrics).await.unwrap();
        }
        number += 1;
    }
    pass(Duration::from_secs(1)).await;
    tasks.abort_all();
    while tasks.join_next().await.is_some() {}
    lags.lock().clone()
}

async fn follow(url: &str, published: &Published, lags: &Mutex<Histogram<u64>>, ready: &tokio::sync::Barrier) {
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    socket.send(Message::text(r#"{"op":"subscribe","topic":"hosts"}"#)).await.unwrap();
    let mut waiting = Some(ready);
    while let Some(Ok(message)) = socket.next().await {
        let arrived = Instant::now();
        let Ok(text) = message.to_text() else { continue };
        if let Some(ready) = waiting.take_if(|_| text.contains("subscribed")) {
            ready.wait().await;
        }
        let Ok(frame) = serde_json::from_str::<serde_json::Value>(text) else { continue };
        for item in frame["items"].as_array().into_iter().flatten() {
            let (Some(host), Some(at)) = (item["host_id"].as_str(), sampled_at(item)) else { continue };
            let (Ok(host), Ok(at)) = (host.parse(), at.parse()) else { continue };
            if let Some(sent) = published.lock().get(&(host, at)) {
                let lag = u64::try_from((arrived - *sent).as_micros()).unwrap();
                lags.lock().record(lag).unwrap();
            }
        }
    }
}

/// The time of a host's newest sample, wherever the item has it.
fn sampled_at(item: &serde_json::Value) -> Option<&str> {
    match item {
        serde_json::Value::Object(fields) => {
            fields.get("sampled_at").and_then(|at| at.as_str()).or_else(|| fields.values().find_map(sampled_at))
        }
        _ => None,
    }
}
