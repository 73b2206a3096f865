//! The log of one part: every line into a file of bounded size, warnings also to the person in front, not too many.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

use crate::progress::Console;

/// A file grows to this size; one older file is kept beside it.
const LARGEST_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Warnings shown of one part in [`WINDOW`]; the others are counted.
const MOST_SHOWN: u32 = 3;
const WINDOW: Duration = Duration::from_secs(10);
const REMEMBERED_LINES: usize = 20;
/// A part that dies is heard of from the others first; so long their words wait for the cause.
const SECOND_THOUGHT: Duration = Duration::from_millis(500);
const MOST_WAITING: usize = 20;

/// How a part marks its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Our services: a level as a word, or a JSON object a line.
    Service,
    /// `[WRN]`
    Nats,
    /// `WARNING:`
    Postgres,
    /// Programs whose warnings are about their own affairs: they go to the file alone.
    Other,
}

/// What a line is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    Ordinary,
    Warning,
    Error,
}

impl Dialect {
    /// A line's weight and what it says, without its time and level.
    pub fn read(self, line: &str) -> (Weight, String) {
        if let (Self::Service, Some(read)) = (self, read_json(line)) {
            return read;
        }
        let marks: &[(&str, Weight)] = match self {
            Self::Service => &[(" WARN ", Weight::Warning), (" ERROR ", Weight::Error)],
            Self::Other => &[],
            Self::Nats => &[("[WRN] ", Weight::Warning), ("[ERR] ", Weight::Error), ("[FTL] ", Weight::Error)],
            Self::Postgres => &[
                ("WARNING:  ", Weight::Warning),
                ("ERROR:  ", Weight::Error),
                ("FATAL:  ", Weight::Error),
                ("PANIC:  ", Weight::Error),
            ],
        };
        // The mark stands near the front; further on it is part of what is said.
        let found = marks.iter().filter_map(|(mark, weight)| Some((line.find(mark)?, mark.len(), *weight))).min();
        match found {
            Some((at, length, weight)) if at < 64 => {
                (weight, line.get(at + length..).unwrap_or_default().trim().to_owned())
            }
            _ => (Weight::Ordinary, line.trim().to_owned()),
        }
    }
}

fn read_json(line: &str) -> Option<(Weight, String)> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).ok()?;
    let weight = match object.get("level")?.as_str()? {
        "ERROR" => Weight::Error,
        "WARN" => Weight::Warning,
        _ => Weight::Ordinary,
    };
    Some((weight, object.get("message")?.as_str()?.to_owned()))
}

/// The log of one part, over all its starts.
pub(super) struct PartLog {
    name: &'static str,
    path: PathBuf,
    dialect: Dialect,
    console: Console,
    file: Option<File>,
    size: u64,
    newest: VecDeque<String>,
    waiting: VecDeque<(Instant, String)>,
    quiet: bool,
    window: Instant,
    shown: u32,
    hidden: u32,
}

impl PartLog {
    pub fn new(folder: &Path, name: &'static str, dialect: Dialect, console: Console) -> Self {
        Self {
            name,
            path: folder.join(format!("{name}.log")),
            dialect,
            console,
            file: None,
            size: 0,
            newest: VecDeque::new(),
            waiting: VecDeque::new(),
            quiet: false,
            window: Instant::now(),
            shown: 0,
            hidden: 0,
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on warnings go to the file alone: the part is being stopped, or its failure is told otherwise.
    pub fn quieten(&mut self, quiet: bool) {
        self.quiet = quiet;
    }

    /// Forgets the lines of the last start.
    pub fn begin(&mut self) {
        self.newest.clear();
    }

    /// Takes in one line.
    pub fn take(&mut self, line: &str) {
        if let Err(error) = self.write(line) {
            // Losing a log line must not take a service down; the person is told, not too often.
            self.file = None;
            self.show(&format!("cannot write {}: {error}", self.path.display()));
        }
        if self.newest.len() == REMEMBERED_LINES {
            self.newest.pop_front();
        }
        self.newest.push_back(line.to_owned());
        let (weight, text) = self.dialect.read(line);
        if weight > Weight::Ordinary && !self.quiet {
            self.waiting.push_back((Instant::now(), text));
            if self.waiting.len() > MOST_WAITING {
                self.waiting.pop_front();
                self.hidden += 1;
            }
        }
    }

    /// The line that most likely says why it ended: the last error, else the last line.
    pub fn last_words(&self) -> Option<String> {
        let said = |line: &String| self.dialect.read(line);
        let error = self.newest.iter().rev().map(said).find(|(weight, _)| *weight == Weight::Error);
        let any = || self.newest.iter().rev().find(|line| !line.trim().is_empty()).map(said);
        error.or_else(any).map(|(_, text)| text)
    }

    /// Every line of the last start, for faults in settings, which come several at once.
    pub fn all_words(&self) -> String {
        self.newest.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
    }

    /// Shows warnings that have waited long enough, and tells of those that were not shown. To be called often.
    pub fn tick(&mut self) {
        while self.waiting.front().is_some_and(|(since, _)| since.elapsed() >= SECOND_THOUGHT) {
            let Some((_, text)) = self.waiting.pop_front() else { break };
            // What others say about a part that is known to be down is no news.
            if self.console.all_up() && !self.quiet {
                self.show(&text);
            }
        }
        if self.window.elapsed() >= WINDOW {
            if self.hidden > 0 && !self.quiet {
                self.console.warn(&format!("{}: {} more warnings in {}", self.name, self.hidden, self.path.display()));
            }
            self.window = Instant::now();
            self.shown = 0;
            self.hidden = 0;
        }
    }

    fn show(&mut self, text: &str) {
        if self.shown < MOST_SHOWN {
            self.shown += 1;
            self.console.warn(&format!("{}: {text}", self.name));
        } else {
            self.hidden += 1;
        }
    }

    fn write(&mut self, line: &str) -> std::io::Result<()> {
        if self.file.is_none() {
            let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            self.size = file.metadata()?.len();
            self.file = Some(file);
        }
        if self.size >= LARGEST_FILE_BYTES {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
            self.file = Some(OpenOptions::new().create(true).append(true).open(&self.path)?);
            self.size = 0;
        }
        if let Some(file) = self.file.as_mut() {
            let line = format!("{line}\n");
            file.write_all(line.as_bytes())?;
            self.size += line.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_found_in_every_dialect() {
        for (dialect, line, weight, text) in [
            (
                Dialect::Service,
                "2026-11-21T09:15:40.123456Z  WARN not ready condition=\"bus\"",
                Weight::Warning,
                "not ready condition=\"bus\"",
            ),
            (Dialect::Service, "2026-11-21T09:15:40.123456Z ERROR task failed", Weight::Error, "task failed"),
            (
                Dialect::Service,
                "2026-11-21T09:15:40.123456Z  INFO says WARN",
                Weight::Ordinary,
                "2026-11-21T09:15:40.123456Z  INFO says WARN",
            ),
            (Dialect::Service, r#"{"timestamp":"x","level":"WARN","message":"slow"}"#, Weight::Warning, "slow"),
            (Dialect::Nats, "[4711] 2026/11/21 09:15:40.123456 [FTL] cannot bind", Weight::Error, "cannot bind"),
            (Dialect::Postgres, "2026-11-21 09:15:40 UTC [4711] FATAL:  no room", Weight::Error, "no room"),
            (
                Dialect::Postgres,
                "2026-11-21 09:15:40 UTC [4711] LOG:  started",
                Weight::Ordinary,
                "2026-11-21 09:15:40 UTC [4711] LOG:  started",
            ),
        ] {
            assert_eq!(dialect.read(line), (weight, text.to_owned()), "{line}");
        }
    }

    #[test]
    fn a_log_is_bounded_and_remembers_why_its_part_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = PartLog::new(folder.path(), "part", Dialect::Service, Console::hidden());
        let line = "x".repeat(1024 * 1024);
        for _ in 0..40 {
            log.take(&line);
        }
        log.take("2026-11-21T09:15:40Z ERROR pinacle-x failed: no bus");
        log.take("good night");
        assert_eq!(log.last_words().unwrap(), "pinacle-x failed: no bus");
        let sizes: u64 = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(sizes <= 2 * LARGEST_FILE_BYTES + 2 * 1024 * 1024, "{sizes}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
