//! One command on one channel, from its start to its end.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use pinacle_bus::contract::Timestamp;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client};
use tokio::{
    fs::File,
    io::AsyncReadExt,
    sync::{OwnedSemaphorePermit, oneshot},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    Captured, Command, Fence, SshError,
    capture::Capture,
    command::Input,
    dial::Live,
    wrapper::{group, kill, refusal, wrapped},
};

/// The host's own deadline is that much later, so that it counts only when we cannot reach the host.
const REMOTE_GRACE: Duration = Duration::from_secs(1);
/// How long a killed command may take to be reported as ended.
const KILLED_WITHIN: Duration = Duration::from_secs(2);
/// Output may be on its way when a command ends; but what it left running in the background could keep it open for ever.
const LINGER: Duration = Duration::from_millis(500);
const CLOSES_WITHIN: Duration = Duration::from_secs(1);
const FILE_CHUNK: usize = 256 * 1024;
const STDERR: u32 = 1;
/// How much start-up files may say before the command's process group is told.
const LONGEST_OPENING: usize = 64 * 1024;

/// A command that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// `None` when a signal ended it.
    pub exit_code: Option<i32>,
    /// Such as `KILL`.
    pub signal: Option<String>,
    /// Standard output.
    pub stdout: Captured,
    /// Standard error.
    pub stderr: Captured,
    /// How long it ran, its way there and back included, but not the wait for its turn.
    pub duration: Duration,
}

impl Finished {
    /// Whether it ended with exit code 0.
    pub fn is_success(&self) -> bool {
        self.exit_code == Some(0)
    }
}

/// How long to wait, and what ends a wait early.
pub(super) struct Limit {
    pub deadline: Instant,
    /// The same as a duration, for people.
    pub after: Duration,
    pub cancel: CancellationToken,
    pub closed: CancellationToken,
}

impl Limit {
    /// Waits for `future` before the command runs.
    pub async fn hold<T>(&self, doing: &'static str, future: impl Future<Output = T>) -> Result<T, SshError> {
        tokio::select! {
            // cancel-safe: a wait that ends early is never taken up again.
            value = future => Ok(value),
            // cancel-safe: a timer.
            () = sleep_until(self.deadline) => Err(SshError::TimedOut { after: self.after, doing, ended: true }),
            // cancel-safe: only observed.
            () = self.stopped() => Err(SshError::Cancelled { ended: true }),
        }
    }

    async fn stopped(&self) {
        tokio::select! {
            // cancel-safe: only observed.
            () = self.cancel.cancelled() => {}
            // cancel-safe: only observed.
            () = self.closed.cancelled() => {}
        }
    }
}

/// A channel, and what it needs to live.
pub(super) struct Session {
    pub channel: Channel<client::Msg>,
    pub live: Arc<Live>,
    pub slot: OwnedSemaphorePermit,
    pub tasks: TaskTracker,
}

/// What a command has printed so far, for those who watch.
pub(super) struct Output {
    pub stdout: Mutex<Capture>,
    pub stderr: Mutex<Capture>,
}

/// A command that was started. Dropped, it is cancelled.
pub(super) struct Execution {
    task: JoinHandle<Result<Finished, SshError>>,
    pub output: Arc<Output>,
    _cancel: DropGuard,
}

impl Execution {
    pub fn new(task: JoinHandle<Result<Finished, SshError>>, output: Arc<Output>, cancel: CancellationToken) -> Self {
        Self { task, output, _cancel: cancel.drop_guard() }
    }

    /// Waits for its end; may be dropped and called again.
    pub async fn outcome(&mut self) -> Result<Finished, SshError> {
        let ended = (&mut self.task).await;
        ended.unwrap_or_else(|error| Err(SshError::ConnectionLost(format!("its task ended: {error}"))))
    }
}

/// A command ready to be sent.
pub(super) struct Job {
    line: String,
    input: Input,
    fence: Option<Fence>,
    began: oneshot::Sender<Timestamp>,
    pub output: Arc<Output>,
    pub allowed: Duration,
    pub deadline: Instant,
    pub cancel: CancellationToken,
}

impl Job {
    pub fn new(
        command: &Command,
        cancel: CancellationToken,
        began: oneshot::Sender<Timestamp>,
    ) -> Result<Self, SshError> {
        let capture = || Mutex::new(Capture::new(&command.masks));
        Ok(Self {
            line: command.line()?,
            input: command.input.clone(),
            fence: command.fence,
            began,
            output: Arc::new(Output { stdout: capture(), stderr: capture() }),
            allowed: command.deadline,
            deadline: Instant::now() + command.deadline,
            cancel,
        })
    }

    /// Runs it. Returns shortly after the deadline at the latest, whatever the host does.
    pub async fn run(self, session: Session, limit: &Limit) -> Result<Finished, SshError> {
        let _ = self.began.send(Timestamp::now());
        let Session { channel, live, slot: _slot, tasks } = session;
        let (reader, writer) = channel.split();
        let left = self.deadline.saturating_duration_since(Instant::now());
        let line = wrapped(&self.line, self.fence, left + REMOTE_GRACE);
        let mut run = Run {
            began: Instant::now(),
            reader,
            writer: &writer,
            live: &live,
            tasks: &tasks,
            output: &self.output,
            group: Group::Untold(Vec::new()),
            exit_code: None,
            signal: None,
        };
        let outcome = match timeout_at(self.deadline, writer.exec(true, line)).await {
            Err(_) => Err(SshError::TimedOut { after: self.allowed, doing: RUNNING, ended: false }),
            Ok(Err(_)) => Err(SshError::ConnectionLost(live.end())),
            Ok(Ok(())) => run.until_its_end(self.input, limit).await,
        };
        // Also when the host has closed it: that is a message to ourselves then.
        let _ = timeout(CLOSES_WITHIN, writer.close()).await;
        let finished = outcome?;
        match finished.exit_code.and_then(|code| refusal(self.fence, code, &finished.stderr.text())) {
            Some(refused) => Err(refused),
            None => Ok(finished),
        }
    }
}

const RUNNING: &str = "the command ran";

/// A command under way.
struct Run<'a> {
    began: Instant,
    reader: ChannelReadHalf,
    writer: &'a ChannelWriteHalf<client::Msg>,
    live: &'a Arc<Live>,
    tasks: &'a TaskTracker,
    output: &'a Output,
    group: Group,
    exit_code: Option<i32>,
    signal: Option<String>,
}

/// The command's process group on the host.
enum Group {
    /// It is told first; this came so far.
    Untold(Vec<u8>),
    Told(u32),
    Unknown,
}

/// What a message from the host means.
enum Told {
    Goes,
    Ended,
    Closed,
    Refused,
}

impl Run<'_> {
    async fn until_its_end(&mut self, input: Input, limit: &Limit) -> Result<Finished, SshError> {
        let feeding = feed(self.writer, input);
        tokio::pin!(feeding);
        let mut is_fed = false;
        let mut linger = limit.deadline + LINGER;
        loop {
            tokio::select! {
                // cancel-safe: a receiver of a queue.
                message = self.reader.wait() => match self.take(message) {
                    Told::Goes => {}
                    Told::Ended => linger = Instant::now() + LINGER,
                    Told::Closed => break,
                    Told::Refused => return Err(SshError::Refused("it starts no commands for this user".into())),
                },
                // cancel-safe: the same future goes on in the next round.
                fed = &mut feeding, if !is_fed => match fed {
                    Ok(()) => is_fed = true,
                    Err(error) => {
                        // It must not take what it got for all there is.
                        self.kill().await;
                        return Err(SshError::Input(error));
                    }
                },
                // cancel-safe: a timer.
                () = sleep_until(linger), if self.has_ended() => break,
                // cancel-safe: a timer.
                () = sleep_until(limit.deadline), if !self.has_ended() => {
                    let ended = self.kill().await;
                    return Err(SshError::TimedOut { after: limit.after, doing: RUNNING, ended });
                }
                // cancel-safe: only observed.
                () = limit.stopped(), if !self.has_ended() => {
                    let ended = self.kill().await;
                    return Err(SshError::Cancelled { ended });
                }
            }
        }
        self.tell_rest();
        if !self.has_ended() {
            return Err(SshError::ConnectionLost(self.live.end()));
        }
        Ok(Finished {
            exit_code: self.exit_code,
            signal: self.signal.take(),
            stdout: self.output.stdout.lock().finish(),
            stderr: self.output.stderr.lock().finish(),
            duration: self.began.elapsed(),
        })
    }

    fn take(&mut self, message: Option<ChannelMsg>) -> Told {
        match message {
            Some(ChannelMsg::Data { data }) => self.output.stdout.lock().push(&data),
            Some(ChannelMsg::ExtendedData { data, ext: STDERR }) => self.take_stderr(&data),
            Some(ChannelMsg::ExitStatus { exit_status }) => {
                self.exit_code = Some(exit_status.cast_signed());
                return Told::Ended;
            }
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                self.signal = Some(format!("{signal_name:?}"));
                return Told::Ended;
            }
            Some(ChannelMsg::Failure) => return Told::Refused,
            Some(ChannelMsg::Close) | None => return Told::Closed,
            Some(_) => {}
        }
        Told::Goes
    }

    fn has_ended(&self) -> bool {
        self.exit_code.is_some() || self.signal.is_some()
    }

    fn take_stderr(&mut self, data: &[u8]) {
        let mut stderr = self.output.stderr.lock();
        let Group::Untold(opening) = &mut self.group else {
            stderr.push(data);
            return;
        };
        opening.extend_from_slice(data);
        if let Some((before, number, after)) = group(opening) {
            // Start-up files of the login shell may have had something to say.
            stderr.push(before);
            stderr.push(after);
            self.group = Group::Told(number);
        } else if opening.len() > LONGEST_OPENING {
            stderr.push(opening);
            self.group = Group::Unknown;
        }
    }

    /// What was taken for the opening of a command that then told no group.
    fn tell_rest(&mut self) {
        if let Group::Untold(opening) = &self.group {
            self.output.stderr.lock().push(opening);
            self.group = Group::Unknown;
        }
    }

    /// Kills the command's process group on the host. Returns whether the host says that it has ended.
    async fn kill(&mut self) -> bool {
        let killed = timeout(KILLED_WITHIN, async {
            let number = loop {
                if let Group::Told(number) = self.group {
                    break number;
                }
                if !self.goes_on().await {
                    return;
                }
            };
            self.tasks.spawn(kill_group(self.live.clone(), number));
            while self.goes_on().await {}
        });
        let _ = killed.await;
        self.tell_rest();
        self.has_ended()
    }

    /// Takes the next message; `false` when the command has ended.
    async fn goes_on(&mut self) -> bool {
        if self.has_ended() {
            return false;
        }
        let message = self.reader.wait().await;
        !matches!(self.take(message), Told::Closed | Told::Ended)
    }
}

/// Ends a process group over a channel of its own. A task, so that the channel is closed whoever still waits for it.
async fn kill_group(live: Arc<Live>, number: u32) {
    let _turn = live.kills.lock().await;
    let Ok(mut channel) = live.handle.channel_open_session().await else { return };
    let _ = timeout(KILLED_WITHIN, async {
        if channel.exec(true, kill(number)).await.is_ok() {
            while !matches!(channel.wait().await, None | Some(ChannelMsg::Close)) {}
        }
    })
    .await;
    let _ = timeout(CLOSES_WITHIN, channel.close()).await;
}

/// Sends a command what it reads, and that nothing more comes. That it stops reading before is none of our business; it
/// is seen by its end.
async fn feed(writer: &ChannelWriteHalf<client::Msg>, input: Input) -> std::io::Result<()> {
    match input {
        Input::Nothing => {}
        Input::Secret(secret) => {
            if writer.data_bytes(secret.expose().as_bytes().to_vec()).await.is_err() {
                return Ok(());
            }
        }
        Input::File { path, sent } => {
            let mut file = File::open(path).await?;
            loop {
                let mut chunk = vec![0; FILE_CHUNK];
                let length = file.read(&mut chunk).await?;
                if length == 0 {
                    break;
                }
                chunk.truncate(length);
                if writer.data_bytes(chunk).await.is_err() {
                    return Ok(());
                }
                sent.send_modify(|sent| *sent += length as u64);
            }
        }
    }
    let _ = writer.eof().await;
    Ok(())
}
