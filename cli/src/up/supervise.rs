//! Keeps parts running: started once with a deadline, started again whenever they end, stopped when told.

use std::{sync::Arc, time::Duration};

use nix::{sys::signal, unistd::Pid};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    home,
    log::PartLog,
    part::{Part, Running},
};
use crate::{failure::Failure, local::Folder, progress::Console};

const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A part that ran for so long starts again after the shortest pause.
const RAN_WELL: Duration = Duration::from_secs(30);
const LOG_EVERY: Duration = Duration::from_millis(250);
const PROBE_EVERY: Duration = Duration::from_millis(50);
const AFTER_SIGKILL: Duration = Duration::from_secs(5);
/// What a new Postgres says while the processes of a killed one are still ending.
const STILL_ENDING: [&str; 2] = ["pre-existing shared memory block", "lock file \"postmaster.pid\" already exists"];

/// Where a part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Started, not ready; what it waits for.
    Starting(String),
    /// At work.
    Ready,
    /// It never came up.
    Failed(String),
    /// It ended as it was told; how, if not by itself.
    Stopped(Option<String>),
}

/// All parts, in the order in which they were started.
pub(super) struct Parts {
    folder: Folder,
    console: Console,
    tasks: JoinSet<()>,
    parts: Vec<Handle>,
}

struct Handle {
    name: &'static str,
    stop: CancellationToken,
    state: watch::Receiver<State>,
}

impl Parts {
    pub fn new(folder: Folder, console: Console) -> Self {
        Self { folder, console, tasks: JoinSet::new(), parts: Vec::new() }
    }

    /// Begins to run a part; the returned state tells how it goes.
    pub fn start(&mut self, part: Part) -> watch::Receiver<State> {
        let (sender, state) = watch::channel(State::Starting("it has just been started".into()));
        let stop = CancellationToken::new();
        let log = PartLog::new(&self.folder.path("logs"), part.name, part.dialect, self.console.clone());
        let keeper = Keeper {
            folder: self.folder.clone(),
            console: self.console.clone(),
            log: Arc::new(Mutex::new(log)),
            stop: stop.clone(),
            state: sender,
            was_ready: false,
            part: part.clone(),
        };
        self.parts.push(Handle { name: part.name, stop, state: state.clone() });
        self.tasks.spawn(keeper.keep());
        state
    }

    /// Stops one part and waits for its end, which its own deadlines bound. Says how it went.
    pub async fn stop(&mut self, name: &str) -> Option<Result<(), String>> {
        let at = self.parts.iter().position(|part| part.name == name)?;
        let mut handle = self.parts.remove(at);
        handle.stop.cancel();
        let ended = handle.state.wait_for(|state| matches!(state, State::Stopped(_) | State::Failed(_))).await;
        Some(match ended.as_deref() {
            Ok(State::Stopped(Some(how))) => Err(how.clone()),
            _ => Ok(()),
        })
    }
}

/// Waits until a part is ready for the first time; `note` is told what it waits for meanwhile.
pub(super) async fn first_ready(mut state: watch::Receiver<State>, note: impl Fn(&str)) -> Result<(), Failure> {
    loop {
        match &*state.borrow_and_update() {
            State::Ready => return Ok(()),
            State::Failed(reason) => return Err(Failure::failed(reason.clone())),
            State::Stopped(_) => return Err(Failure::failed("it was stopped")),
            State::Starting(waits_for) => note(waits_for),
        }
        if state.changed().await.is_err() {
            return Err(Failure::failed("nobody runs it any more"));
        }
    }
}

struct Keeper {
    folder: Folder,
    console: Console,
    log: Arc<Mutex<PartLog>>,
    stop: CancellationToken,
    state: watch::Sender<State>,
    was_ready: bool,
    part: Part,
}

enum End {
    Stopped(Option<String>),
    Died(String),
}

impl Keeper {
    async fn keep(mut self) {
        let first = Instant::now();
        let mut pause = SHORTEST_PAUSE;
        loop {
            let began = Instant::now();
            let reason = match self.run_once(first).await {
                End::Stopped(how) => {
                    self.state.send_replace(State::Stopped(how));
                    return;
                }
                End::Died(reason) => reason,
            };
            let passing =
                STILL_ENDING.iter().any(|text| reason.contains(text)) && first.elapsed() < self.part.start_deadline;
            if !self.was_ready && !passing {
                self.state.send_replace(State::Failed(format!("{} {reason}", self.part.name)));
                return;
            }
            if began.elapsed() >= RAN_WELL {
                pause = SHORTEST_PAUSE;
            }
            if self.was_ready {
                let line = format!("{} {reason}; starting it again in {:.1} s", self.part.name, pause.as_secs_f64());
                self.console.part_down(self.part.name);
                self.console.warn(&line);
            }
            self.state.send_replace(State::Starting(reason));
            tokio::select! {
                // cancel-safe: a timer.
                () = sleep(pause) => {}
                // cancel-safe: only observed.
                () = self.stop.cancelled() => {
                    self.state.send_replace(State::Stopped(None));
                    return;
                }
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// From one start to its end.
    async fn run_once(&mut self, first: Instant) -> End {
        self.log.lock().begin();
        let began = Instant::now();
        let mut running = match self.part.spawn(&self.log) {
            Ok(running) => running,
            Err(error) => return End::Died(format!("cannot start {}: {error}", self.part.program.display())),
        };
        if let Err(error) = home::note_pid(&self.folder, self.part.name, running.pid) {
            self.console.warn(&format!("{}: cannot note its process: {error}", self.part.name));
        }
        let end = self.watch(&mut running, began, first).await;
        // A file that stays names a process that has ended, which the next `up` sees.
        let _ = std::fs::remove_file(home::pid_file(&self.folder, self.part.name));
        end
    }

    async fn watch(&mut self, running: &mut Running, began: Instant, first: Instant) -> End {
        let mut ready = false;
        let mut tick = interval(PROBE_EVERY);
        let mut logged = interval(LOG_EVERY);
        // How a start goes is told in one line; its own warnings would say the same twice, or speak of a recovery.
        self.log.lock().quieten(true);
        loop {
            tokio::select! {
                // cancel-safe: waiting for a child is, and so is joining tasks.
                how = running.ended() => return End::Died(self.explain(&how)),
                // cancel-safe: only observed.
                () = self.stop.cancelled() => return self.stop_it(running).await,
                // cancel-safe: a timer; the probe runs in the arm.
                _ = tick.tick(), if !ready => {
                    match self.part.probe.ask(running.pid).await {
                        Ok(()) => {
                            ready = true;
                            self.came_up(began);
                        }
                        Err(waits_for) if !self.was_ready && first.elapsed() > self.part.start_deadline => {
                            let log = self.log.lock().path().display().to_string();
                            let waited = first.elapsed().as_secs();
                            let _ = self.stop_it(running).await;
                            return End::Died(format!("is not ready after {waited} s: {waits_for}; see {log}"));
                        }
                        Err(waits_for) => { self.state.send_replace(State::Starting(waits_for)); }
                    }
                }
                // cancel-safe: a timer.
                _ = logged.tick() => self.log.lock().tick(),
            }
        }
    }

    fn came_up(&mut self, began: Instant) {
        self.state.send_replace(State::Ready);
        self.console.part_up(self.part.name);
        if self.was_ready {
            self.console.say(&format!("{} is back after {:.1} s", self.part.name, began.elapsed().as_secs_f64()));
        }
        self.was_ready = true;
        self.log.lock().quieten(false);
    }

    fn explain(&self, how: &str) -> String {
        let log = self.log.lock();
        if how.ends_with("exit code 64") {
            // All faults of its settings, so that they can be mended in one go.
            return format!("has faults in its settings: {}", log.all_words());
        }
        match log.last_words() {
            Some(words) if !how.contains("SIGKILL") => format!("{how}: {words}"),
            _ => how.to_owned(),
        }
    }

    async fn stop_it(&mut self, running: &mut Running) -> End {
        self.log.lock().quieten(true);
        for (number, (signal, patience)) in self.part.stop.iter().enumerate() {
            // A child that has been waited for has no number any more.
            if let Some(pid) = running.child.id().and_then(|pid| i32::try_from(pid).ok()) {
                let _ = signal::kill(Pid::from_raw(pid), *signal);
            }
            if timeout(*patience, running.ended()).await.is_ok() {
                let how = (number > 0).then(|| format!("it took a {signal}"));
                return End::Stopped(how);
            }
        }
        let _ = running.child.start_kill();
        let _ = timeout(AFTER_SIGKILL, running.ended()).await;
        End::Stopped(Some("it had to be killed".into()))
    }
}
