//! Commands to agents: each is answered, by its result or a typed fault, before its deadline.

use std::time::Duration;

use pinacle_bus::{
    client::{AskError, Bus, respond},
    contract::{
        HostId, Timestamp,
        command::{Fault, FaultCode, Ping, Pong, Sample, SetInterval},
        subject::filter,
    },
};
use pinacle_tests::eventually;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{LONG, holds, start};

/// An agent that answers pings, and does by `set-interval` what the interval says.
fn answer(bus: &Bus, host: HostId, stop: CancellationToken, tasks: &mut JoinSet<()>) {
    let bus = bus.clone();
    tasks.spawn(async move {
        let deadline = |verb: &str| Duration::from_millis(if verb == "set-interval" { 1_500 } else { 10_000 });
        respond(&bus, filter::commands(host), 2, deadline, stop, move |ask| async move {
            match ask.verb() {
                "ping" => Ok(json!({ "host_id": host, "at": Timestamp::now() })),
                "set-interval" => match ask.parameters::<SetInterval>()?.interval_ms {
                    1_000 => panic!("as asked"),
                    2_000 => std::future::pending().await,
                    interval_ms => Err(Fault { code: FaultCode::NotFound, message: interval_ms.to_string() }),
                },
                other => Err(Fault { code: FaultCode::UnknownCommand, message: other.to_owned() }),
            }
        })
        .await
        .unwrap();
    });
}

fn code(result: Result<impl std::fmt::Debug, AskError>) -> FaultCode {
    match result {
        Err(AskError::Fault(fault)) => fault.code,
        other => panic!("expected a fault, got {other:?}"),
    }
}

#[tokio::test]
async fn every_command_is_answered_whatever_happens_to_its_handler() {
    let (_nats, bus) = start().await;
    let host = HostId::new();
    assert!(matches!(bus.ask(host, &Ping {}, LONG).await, Err(AskError::NoAgent)));

    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    answer(&bus, host, stop.clone(), &mut tasks);
    eventually(LONG, "the agent answers", async || holds(bus.ask(host, &Ping {}, LONG).await.is_ok())).await;
    let pong: Pong = bus.ask(host, &Ping {}, LONG).await.unwrap();
    assert_eq!(pong.host_id, host);

    let set = |interval_ms| SetInterval { interval_ms };
    assert_eq!(code(bus.ask(host, &set(5_000), LONG).await), FaultCode::NotFound);
    assert_eq!(code(bus.ask(host, &set(999), LONG).await), FaultCode::BadRequest);
    assert_eq!(code(bus.ask(host, &set(1_000), LONG).await), FaultCode::Internal);
    assert_eq!(code(bus.ask(host, &Sample {}, LONG).await), FaultCode::UnknownCommand);

    // Two that never end fill both places; a third is told so, and both get their answer at the deadline.
    let (first, second) = (set(2_000), set(2_000));
    let (first, second) = (bus.ask(host, &first, LONG), bus.ask(host, &second, LONG));
    let third = eventually(LONG, "the agent is busy", async || {
        holds(matches!(bus.ask(host, &Ping {}, LONG).await, Err(AskError::Fault(Fault { code: FaultCode::Busy, .. }))))
    });
    let (first, second, ()) = tokio::join!(first, second, third);
    assert_eq!((code(first), code(second)), (FaultCode::Timeout, FaultCode::Timeout));
    assert!(bus.ask(host, &Ping {}, LONG).await.is_ok());

    stop.cancel();
    tasks.join_all().await;
}

#[tokio::test]
async fn an_answer_that_does_not_come_ends_at_the_askers_deadline() {
    let (_nats, bus) = start().await;
    let host = HostId::new();
    let mut deaf = bus.subscribe(filter::commands(host)).await.unwrap();
    let asked = bus.ask(host, &Ping {}, Duration::from_millis(300));
    let (answer, heard) = tokio::join!(asked, deaf.next());
    assert!(heard.is_some());
    assert!(matches!(answer, Err(AskError::Timeout)));
}
