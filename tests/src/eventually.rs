//! Waiting for a level: a state that holds once it is reached, asked for again and again until a deadline.

use std::{fmt::Debug, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// What a probe answers: whether the level is reached, and what is seen of it.
pub trait Level {
    /// What there is once it is reached.
    type Reached;
    /// What was seen instead.
    type Seen: Debug;

    /// Tells them apart.
    ///
    /// # Errors
    /// What was seen, while it is not reached.
    fn reached(self) -> Result<Self::Reached, Self::Seen>;
}

impl Level for bool {
    type Reached = ();
    type Seen = bool;

    fn reached(self) -> Result<(), bool> {
        if self { Ok(()) } else { Err(false) }
    }
}

impl<T> Level for Option<T> {
    type Reached = T;
    type Seen = ();

    fn reached(self) -> Result<T, ()> {
        self.ok_or(())
    }
}

impl<T, E: Debug> Level for Result<T, E> {
    type Reached = T;
    type Seen = E;

    fn reached(self) -> Result<T, E> {
        self
    }
}

/// Asks `probe` until it answers `Ok`, `Some` or `true`; what it holds is returned. `Err` carries what was seen instead,
/// which the panic shows: prefer it.
///
/// # Panics
/// After `deadline`, with `what` was waited for and what was last seen.
pub async fn eventually<L: Level>(deadline: Duration, what: &str, mut probe: impl AsyncFnMut() -> L) -> L::Reached {
    let end = Instant::now() + deadline;
    let mut pause = SHORTEST_PAUSE;
    let mut last: Option<L::Seen> = None;
    loop {
        match timeout_at(end, probe()).await.map(Level::reached) {
            Ok(Ok(value)) => return value,
            Ok(Err(seen)) => last = Some(seen),
            Err(_) => panic!("waited {deadline:?} for {what}; the last question got no answer; seen before: {last:?}"),
        }
        assert!(Instant::now() + pause < end, "waited {deadline:?} for {what}; last seen: {last:?}");
        sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// Asks `probe` for as long as `period` lasts; it must hold each time. For what must not happen.
///
/// # Panics
/// The first time that it does not hold, with what was seen.
pub async fn consistently<L: Level>(period: Duration, what: &str, mut probe: impl AsyncFnMut() -> L) {
    let start = Instant::now();
    while start.elapsed() < period {
        if let Err(seen) = probe().await.reached() {
            panic!("{what} did not hold for {period:?}: after {:?} there was {seen:?}", start.elapsed());
        }
        sleep(LONGEST_PAUSE).await;
    }
}
