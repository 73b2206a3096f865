//! The image that pods are made from by default: built once by the project's script, kept in the data folder.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{sys::signal::Signal, unistd::Pid};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, timeout_at},
};

use super::home::Home;
use crate::{
    figures::{bytes, clean},
    progress::Console,
};

const SCRIPT: &str = "scripts/base-image";
const BUILDS_WITHIN: Duration = Duration::from_secs(900);

/// Where the archive is, or will be.
pub(super) fn archive(home: &Home) -> PathBuf {
    home.folder.path("images/base.tar")
}

/// Builds the archive if it is missing; in one line why that cannot be.
pub(super) async fn ensure(home: &Home, console: &Console) -> Result<(), String> {
    let archive = archive(home);
    if archive.exists() {
        return Ok(());
    }
    let script = find().ok_or_else(|| format!("{SCRIPT} is not where this program is: start with make up"))?;
    let step = console.step("base image");
    step.note("building it, the first time only");
    match build(home, &script, &archive, |line| step.note(&clean(line))).await {
        Ok(()) => {
            let size = fs::metadata(&archive).map(|file| file.len()).unwrap_or_default();
            step.done(&format!("built, {}", bytes(size)));
            Ok(())
        }
        Err(reason) => {
            step.failed();
            Err(reason)
        }
    }
}

fn find() -> Option<PathBuf> {
    let here = std::env::current_dir().unwrap_or_default();
    let me = std::env::current_exe().unwrap_or_default();
    here.ancestors().chain(me.ancestors()).map(|folder| folder.join(SCRIPT)).find(|file| file.is_file())
}

async fn build(home: &Home, script: &Path, archive: &Path, note: impl Fn(&str)) -> Result<(), String> {
    let told = |error: std::io::Error| error.to_string();
    let unfinished = archive.with_extension("new.tar");
    fs::create_dir_all(home.folder.path("images")).map_err(told)?;
    let path = home.folder.path("logs/base-image.log");
    let mut log = OpenOptions::new().create(true).append(true).open(&path).map_err(told)?;
    let errors = log.try_clone().map_err(told)?;
    let mut command = Command::new(script);
    // A group of its own, with all that it starts.
    command.arg(&unfinished).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).process_group(0);
    let mut group = Group(command.spawn().map_err(|error| format!("cannot start {}: {error}", script.display()))?);
    let deadline = Instant::now() + BUILDS_WITHIN;
    if let Some(stdout) = group.0.stdout.take() {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Ok(Some(line))) = timeout_at(deadline, lines.next_line()).await {
            note(&line);
            writeln!(log, "{line}").map_err(told)?;
        }
    }
    match timeout_at(deadline, group.0.wait()).await {
        Ok(Ok(status)) if status.success() => fs::rename(&unfinished, archive).map_err(told),
        Ok(Ok(status)) => Err(format!("{SCRIPT} ended with {status}: see {}", path.display())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => {
            Err(format!("{SCRIPT} took longer than {} minutes: see {}", BUILDS_WITHIN.as_secs() / 60, path.display()))
        }
    }
}

/// A child whose whole group is told to end with this.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Nobody else has the number while the child has not been waited for.
        if let Some(pid) = self.0.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = nix::sys::signal::killpg(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}
