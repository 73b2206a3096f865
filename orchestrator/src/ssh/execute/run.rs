//! A command under way: its messages, its end, and the ways to end it.

use std::{sync::Arc, time::Duration};

use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client::Msg};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::TaskTracker;

use super::{
    super::{
        SshError,
        command::Input,
        dial::Live,
        wrapper::{group, kill},
    },
    CLOSES_WITHIN, Finished, Limit, Output, RUNNING,
    feed::feed,
};

/// How long a killed command may take to be reported as ended.
const KILLED_WITHIN: Duration = Duration::from_secs(2);
/// Output may be on its way when a command ends; but what it left running in the background could keep it open for ever.
/// So the host may be silent for so long.
const LINGER: Duration = Duration::from_secs(1);
const STDERR: u32 = 1;
/// How much start-up files may say before the command's process group is told.
const LONGEST_OPENING: usize = 64 * 1024;

/// A command under way.
pub(super) struct Run<'a> {
    began: Instant,
    reader: ChannelReadHalf,
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

impl<'a> Run<'a> {
    pub fn new(reader: ChannelReadHalf, live: &'a Arc<Live>, tasks: &'a TaskTracker, output: &'a Output) -> Self {
        let group = Group::Untold(Vec::new());
        Self { began: Instant::now(), reader, live, tasks, output, group, exit_code: None, signal: None }
    }

    /// Carries output and input until it has ended, or ends it when it may go on no longer.
    pub async fn until_its_end(
        &mut self,
        writer: &ChannelWriteHalf<Msg>,
        input: Input,
        limit: &Limit,
    ) -> Result<Finished, SshError> {
        let feeding = feed(writer, input);
        tokio::pin!(feeding);
        let mut is_fed = false;
        let mut linger = limit.deadline;
        loop {
            tokio::select! {
                // cancel-safe: a receiver of a queue.
                message = self.reader.wait() => match self.take(message) {
                    Told::Goes | Told::Ended => linger = limit.deadline.min(Instant::now() + LINGER),
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
