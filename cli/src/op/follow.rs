//! Following an operation to its end: each step as it begins, what it waits for, how long it took.

use std::{future::pending, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::{
    api::{Api, Operation, OperationStep, Whole},
    failure::Failure,
    figures::clean,
    live::{Live, Said},
    progress::{Console, Step},
    terminal::Tone,
};

/// How often the gateway is asked, while it also tells by itself and while it does not.
const LOOK_EVERY: Duration = Duration::from_secs(3);
const LOOK_OFTEN: Duration = Duration::from_millis(400);
/// A gateway that is away for longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Shows an operation until it has ended. The WebSocket tells of changes at once; besides, the gateway is asked now and
/// then, so that a message that was lost is not missed.
pub(crate) async fn until_ended(api: &Api, console: &Console, id: &str) -> Result<Whole<Operation>, Failure> {
    let mut shown = Shown { console, steps: Vec::new(), turn: None };
    let mut newest = api.operation(id).await?;
    shown.update(&newest);
    let mut live = if newest.ended() { None } else { Live::open(api.clone(), vec![format!("op:{id}")]).await.ok() };
    let mut answered = Instant::now();
    let mut look_at = Instant::now() + LOOK_OFTEN;
    while !newest.ended() {
        tokio::select! {
            // cancel-safe: what it misses comes whole with the next look.
            told = told(&mut live) => newest = told.filter(|told| told.operation_id == id).unwrap_or(newest),
            // cancel-safe: a timer.
            () = sleep_until(look_at) => {
                match api.operation(id).await {
                    Ok(found) => {
                        newest = found;
                        answered = Instant::now();
                    }
                    Err(failure) if answered.elapsed() > PATIENCE => return Err(failure),
                    // It may be starting again.
                    Err(_) => {}
                }
                look_at = Instant::now() + if live.is_some() { LOOK_EVERY } else { LOOK_OFTEN };
            }
        }
        shown.update(&newest);
    }
    Ok(newest)
}

/// What the WebSocket says next; never anything where there is none.
async fn told(live: &mut Option<Live>) -> Option<Whole<Operation>> {
    let Some(open) = live else { return pending().await };
    match open.next(|_| ()).await {
        Ok(Said::State { items, .. }) => items.into_iter().last().and_then(|item| Whole::read(item).ok()),
        Ok(Said::Error { .. }) | Err(_) => {
            *live = None;
            None
        }
        Ok(_) => None,
    }
}

/// What of the operation stands on the screen.
struct Shown<'a> {
    console: &'a Console,
    steps: Vec<Line>,
    /// While it waits for its turn.
    turn: Option<Step>,
}

enum Line {
    Unseen,
    /// With the note that was last told.
    Open(Step, String),
    Ended,
}

impl Shown<'_> {
    fn update(&mut self, operation: &Operation) {
        if operation.progress == "waiting" {
            let turn = self.turn.get_or_insert_with(|| self.console.step("waiting"));
            turn.note(&clean(operation.cause.as_deref().unwrap_or("for its turn")));
        } else {
            self.turn = None;
        }
        self.steps.resize_with(operation.steps.len().max(self.steps.len()), || Line::Unseen);
        for (line, step) in self.steps.iter_mut().zip(&operation.steps) {
            line.update(self.console, step);
        }
    }
}

impl Line {
    fn update(&mut self, console: &Console, step: &OperationStep) {
        let tone = match step.progress.as_str() {
            "succeeded" => Tone::Good,
            "failed" => Tone::Bad,
            "cancelled" => Tone::Dim,
            "running" => return self.go_on(console, step),
            _ => return,
        };
        if matches!(self, Self::Ended) {
            return;
        }
        let took = took(step).unwrap_or_default();
        let detail = clean(step.cause.as_deref().or(step.note.as_deref()).unwrap_or_default());
        match std::mem::replace(self, Self::Ended) {
            Self::Open(open, _) => open.ended(tone, took, &detail),
            Self::Unseen | Self::Ended => console.past(&title(step), tone, took, &detail),
        }
    }

    fn go_on(&mut self, console: &Console, step: &OperationStep) {
        if !matches!(self, Self::Open(..)) {
            *self = Self::Open(console.step(&title(step)), String::new());
        }
        let Self::Open(open, told) = self else { return };
        let note = clean(step.note.as_deref().unwrap_or_default());
        if *told != note {
            open.tell(&note);
            *told = note;
        }
    }
}

/// A step's name for people.
pub(super) fn title(step: &OperationStep) -> String {
    step.label.replace('_', " ")
}

/// How long a step that has ended took.
pub(super) fn took(step: &OperationStep) -> Option<Duration> {
    let ms = step.ended_at?.as_millis() - step.started_at?.as_millis();
    Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}
