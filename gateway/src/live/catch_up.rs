//! A client that is behind the recent events is served from the stream itself, until it is there.
//!
//! A task of its own reads, so that a client's other topics go on, and hands over through a channel of few places: what
//! the client does not take is not read.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use pinacle_bus::{
    client::{BusError, Start, Stored},
    contract::topology::StreamName,
};
use tokio::{sync::mpsc, time::sleep};
use tracing::debug;

use super::{Live, events::LiveEvent, feed};

/// What the client gets.
pub enum Step {
    /// Events, in order; the client goes on with this sequence.
    Events(Vec<LiveEvent>, u64),
    /// What it asked for is gone from the stream; it goes on with this sequence.
    Reset(u64),
}

const BATCH: usize = 64;
const PAUSE: Duration = Duration::from_millis(500);

/// Reads from sequence `from` on, until the recent events can take over or nobody listens any more.
pub async fn run(live: Arc<Live>, mut from: u64, steps: mpsc::Sender<Step>) {
    while !steps.is_closed() {
        match read(&live, &mut from, &steps).await {
            Ok(()) => return,
            Err(error) => {
                debug!(%error, from, "cannot read events from the bus; trying again");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn read(live: &Live, from: &mut u64, steps: &mpsc::Sender<Step>) -> Result<(), BusError> {
    // As many clients as come back at once would else be as many consumers on the server.
    let Ok(_turn) = live.catch_ups.acquire().await else { return Ok(()) };
    let (first, last) = live.bus.stream_bounds(StreamName::Events).await?;
    if *from < first || *from > last + 1 {
        // Older than the stream keeps, or the stream was made anew.
        *from = first;
        if steps.send(Step::Reset(first)).await.is_err() {
            return Ok(());
        }
    }
    if *from > live.events.next() {
        // The client has heard of it elsewhere before we have; we will in a moment.
        let mut follow = live.events.follow();
        let _ = tokio::time::timeout(PAUSE, follow.wait_for(|next| *next >= *from)).await;
        return Ok(());
    }
    let mut reader = live.bus.read(StreamName::Events, Start::Sequence(*from), None);
    // Read already, but not taken: there is something to tell before it.
    let mut in_hand = None;
    while in_hand.is_some() || *from < live.events.base() {
        let stored = match in_hand.take() {
            Some(stored) => stored,
            None => reader.next().await?,
        };
        let mut batch = Vec::new();
        if skipped(live, *from, &stored).await? && steps.send(Step::Reset(stored.sequence)).await.is_err() {
            return Ok(());
        }
        take(&stored, from, &mut batch);
        while batch.len() < BATCH
            && let Some(Ok(stored)) = reader.next().now_or_never()
        {
            if stored.sequence > *from {
                in_hand = Some(stored);
                break;
            }
            take(&stored, from, &mut batch);
        }
        if steps.send(Step::Events(batch, *from)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether events before `stored` were dropped by the stream, and not merely deleted by hand.
async fn skipped(live: &Live, expected: u64, stored: &Stored) -> Result<bool, BusError> {
    if stored.sequence <= expected {
        return Ok(false);
    }
    let (first, _) = live.bus.stream_bounds(StreamName::Events).await?;
    Ok(first > expected)
}

fn take(stored: &Stored, from: &mut u64, batch: &mut Vec<LiveEvent>) {
    *from = stored.sequence + 1;
    match LiveEvent::read(stored) {
        Ok(event) => batch.extend(event),
        Err(error) => feed::skip("event", &error),
    }
}
