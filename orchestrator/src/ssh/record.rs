//! Commands on record: one exec record each, published when it begins and when it ends, and while it runs at most each
//! second, so that people can watch.

use std::{
    convert::Infallible,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use pinacle_bus::{
    client::{Bus, BusError, BusErrorKind},
    contract::{HostId, OperationId, PodId, Subject, Timestamp, exec::ExecRecord},
};
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use tracing::debug;

use super::{
    Command, Finished, SshError,
    capture::{Capture, for_record, masked},
    execute::{Execution, Output},
};

const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How long a record is offered to the bus before the command's result is given up.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);
/// Bytes of JSON that a stream, and a command, may take in a record; together they stay within what its readers take.
const STREAM_BYTES: usize = 256 * 1024;
const COMMAND_BYTES: usize = 32 * 1024;
/// The same for a stream while the command runs: enough to see where it is, each second.
const WATCH_BYTES: usize = 32 * 1024;

/// Where the records of an operation's commands go. Cheap to clone; clones count on together.
#[derive(Clone)]
pub struct ExecSink {
    bus: Bus,
    operation_id: OperationId,
    host_id: HostId,
    pod_id: Option<PodId>,
    step: String,
    next: Arc<AtomicU32>,
}

impl ExecSink {
    /// For an operation's commands on a host. `first` is the sequence of the first one: see [`ExecRecord::sequence`].
    pub fn new(bus: &Bus, operation_id: OperationId, host_id: HostId, pod_id: Option<PodId>, first: u32) -> Self {
        let next = Arc::new(AtomicU32::new(first));
        Self { bus: bus.clone(), operation_id, host_id, pod_id, step: "none".into(), next }
    }

    /// The same for a step of the operation, and perhaps another host.
    #[must_use]
    pub fn at(&self, step: &str, host_id: HostId) -> Self {
        Self { step: step.into(), host_id, ..self.clone() }
    }

    /// Publishes what becomes of a command, and returns that.
    pub(super) async fn record(
        &self,
        command: &Command,
        mut execution: Execution,
        begun: oneshot::Receiver<Timestamp>,
    ) -> Result<Finished, SshError> {
        let Ok(started_at) = begun.await else {
            // It never ran.
            return execution.outcome().await;
        };
        let began = Instant::now();
        let record = self.begin(command, started_at);
        let output = execution.output.clone();
        let outcome = tokio::select! {
            // cancel-safe: the command runs in a task of its own.
            outcome = execution.outcome() => outcome,
            // cancel-safe: what was sent of it is in the stream before the end, which says all of it again.
            never = self.watch(&record, &output) => match never {},
        };
        let record = ended(record, &outcome, &output, began.elapsed());
        self.publish(&record, "end").await.map_err(SshError::Unrecorded)?;
        outcome
    }

    fn begin(&self, command: &Command, started_at: Timestamp) -> ExecRecord {
        let container_command = command.container_command.as_deref();
        ExecRecord {
            operation_id: self.operation_id,
            sequence: self.next.fetch_add(1, Ordering::Relaxed),
            host_id: self.host_id,
            pod_id: self.pod_id,
            step: self.step.clone(),
            label: command.label.chars().take(60).collect(),
            command: for_record(&command.shown(), COMMAND_BYTES),
            container_command: container_command.map(|text| for_record(&masked(text, &command.masks), COMMAND_BYTES)),
            stdout: String::new(),
            stderr: String::new(),
            exit_code: None,
            started_at,
            duration_ms: None,
        }
    }

    /// Tells that the command has begun, and what it has printed so far. What cannot be told is left to the end.
    async fn watch(&self, record: &ExecRecord, output: &Output) -> Infallible {
        if let Err(error) = self.publish(record, "begin").await {
            debug!(%error, operation = %self.operation_id, "the beginning of a command was not published");
        }
        let mut ticks = interval_at(Instant::now() + WATCH_INTERVAL, WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut told, mut number) = ((0, 0), 0_u64);
        loop {
            ticks.tick().await;
            let seen = (output.stdout.lock().seen(), output.stderr.lock().seen());
            if seen == told {
                continue;
            }
            told = seen;
            let record = ExecRecord {
                stdout: for_record(&output.stdout.lock().snapshot().text(), WATCH_BYTES),
                stderr: for_record(&output.stderr.lock().snapshot().text(), WATCH_BYTES),
                ..record.clone()
            };
            number += 1;
            if let Err(error) = self.offer(&record, &number.to_string()).await {
                debug!(%error, operation = %self.operation_id, "what a command has printed so far was not published");
            }
        }
    }

    /// Publishes until it is acknowledged.
    async fn publish(&self, record: &ExecRecord, moment: &str) -> Result<(), BusError> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            match self.offer(record, moment).await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= give_up || is_final(&error) => return Err(error),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    async fn offer(&self, record: &ExecRecord, moment: &str) -> Result<(), BusError> {
        let target = self.pod_id.map_or_else(|| record.host_id.to_string(), |pod| pod.to_string());
        let subject = Subject::Exec { target, operation: record.operation_id };
        let message_id = format!("exec-{}-{}-{moment}", record.operation_id, record.sequence);
        self.bus.publish(&subject, &message_id, record).await.map(drop)
    }
}

/// Whether another try would end the same.
fn is_final(error: &BusError) -> bool {
    matches!(error.kind(), BusErrorKind::TooLarge | BusErrorKind::Malformed)
}

fn ended(record: ExecRecord, outcome: &Result<Finished, SshError>, output: &Output, duration: Duration) -> ExecRecord {
    let text = |capture: &Mutex<Capture>| capture.lock().finish().text().into_owned();
    let (stdout, mut stderr) = (text(&output.stdout), text(&output.stderr));
    let (exit_code, duration) = match outcome {
        Ok(finished) => (finished.exit_code, finished.duration),
        Err(error) => {
            let line_end = if stderr.is_empty() || stderr.ends_with('\n') { "" } else { "\n" };
            let _ = writeln!(stderr, "{line_end}pinacle: {error}");
            (None, duration)
        }
    };
    ExecRecord {
        stdout: for_record(&stdout, STREAM_BYTES),
        stderr: for_record(&stderr, STREAM_BYTES),
        exit_code,
        duration_ms: Some(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
        ..record
    }
}
