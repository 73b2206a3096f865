//! Where output goes and how it looks: data on standard output, tables and colour only where they can be seen.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use owo_colors::OwoColorize;
use serde::Serialize;

use crate::{
    args::{ColorChoice, Global},
    failure::Failure,
};

/// The two outputs of a command.
#[derive(Debug, Clone)]
pub(crate) struct Terminal {
    /// JSON instead of words.
    pub json: bool,
    /// Whether standard output may have colour.
    pub color: bool,
    /// Whether standard output is a terminal.
    pub interactive: bool,
    /// Whether standard error is a terminal, for progress.
    pub progress: bool,
    /// Whether standard error may have colour.
    pub progress_color: bool,
}

impl Terminal {
    /// As the options and the environment want it.
    pub fn new(global: &Global) -> Self {
        let interactive = io::stdout().is_terminal();
        let progress = io::stderr().is_terminal();
        // The conventions (NO_COLOR, CLICOLOR_FORCE, TERM=dumb) are the crate's to know.
        let wanted = |stream| match global.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => "x".if_supports_color(stream, |x| x.red()).to_string() != "x",
        };
        Self {
            json: global.json,
            color: wanted(owo_colors::Stream::Stdout),
            interactive,
            progress,
            progress_color: wanted(owo_colors::Stream::Stderr),
        }
    }

    /// Prints a text as it is.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// Prints one line.
    pub fn line(&self, line: &str) -> Result<(), Failure> {
        self.text(&format!("{line}\n"))
    }

    /// Prints one JSON document, for programs and people alike.
    pub fn document(&self, value: &impl Serialize) -> Result<(), Failure> {
        self.line(&serde_json::to_string_pretty(value).map_err(anyhow::Error::new)?)
    }

    /// Prints one JSON object on a line.
    pub fn object(&self, value: &impl Serialize) -> Result<(), Failure> {
        self.line(&serde_json::to_string(value).map_err(anyhow::Error::new)?)
    }

    /// That something is done: a line for people, the object for programs.
    pub fn done(&self, value: &impl Serialize, line: &str) -> Result<(), Failure> {
        if self.json { self.object(value) } else { self.line(&crate::figures::clean(line)) }
    }

    /// A word for people who see nothing else: why the output is empty and what to do. Never among data.
    pub fn hint(&self, text: &str) {
        if !self.json {
            say(text);
        }
    }

    /// A table with these heads, in capitals.
    pub fn table(&self, heads: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        if self.color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        if self.interactive {
            table.set_width(width());
        }
        table.set_header(heads.iter().map(|head| {
            let cell = Cell::new(head.to_uppercase());
            if self.color { cell.add_attribute(Attribute::Bold) } else { cell }
        }));
        table
    }

    /// Prints a table.
    pub fn print(&self, table: &mut Table) -> Result<(), Failure> {
        // Nothing stands left of the first column and right of the last one.
        let last = table.column_count().saturating_sub(1);
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, if index == last { 0 } else { 2 }));
        }
        let text = table.to_string();
        self.text(&text.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>())
    }

    /// A text in a colour, where there is colour.
    pub fn paint(&self, text: &str, tone: Tone) -> String {
        if self.color { tone.paint(text) } else { text.to_owned() }
    }
}

/// Says a line on standard error. A terminal that is gone hears nothing, and that must not end anything: with
/// `eprintln!` it would.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// The terminal's width in columns. One that does not say is taken to be as wide as most.
pub(crate) fn width() -> u16 {
    const USUAL: u16 = 80;
    let told = ratatui::crossterm::terminal::size().ok().map(|(width, _)| width);
    told.filter(|width| *width >= 20).unwrap_or(USUAL)
}

/// What a colour means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// Look here.
    Warning,
    /// Something is wrong.
    Bad,
    /// Less important.
    Dim,
    /// Nothing special.
    Plain,
}

impl Tone {
    /// The tone of a host's state or a pod's phase.
    pub fn of(word: &str) -> Self {
        match word {
            "online" | "running" | "succeeded" | "admitted" => Self::Good,
            "degraded" | "pending" | "placing" | "provisioning" | "starting" | "stopping" | "waking"
            | "hibernating" | "deleting" | "waiting" => Self::Warning,
            "offline" | "failed" | "lost" => Self::Bad,
            "unknown" | "stopped" | "deleted" | "hibernated" | "paused" => Self::Dim,
            _ => Self::Plain,
        }
    }

    /// The text between escape sequences.
    pub fn paint(self, text: &str) -> String {
        match self {
            Self::Good => text.green().to_string(),
            Self::Warning => text.yellow().to_string(),
            Self::Bad => text.red().to_string(),
            Self::Dim => text.dimmed().to_string(),
            Self::Plain => text.to_owned(),
        }
    }

    /// A table's cell.
    pub fn cell(self, text: impl ToString) -> Cell {
        let cell = Cell::new(text);
        match self {
            Self::Good => cell.fg(Color::Green),
            Self::Warning => cell.fg(Color::Yellow),
            Self::Bad => cell.fg(Color::Red),
            Self::Dim => cell.add_attribute(Attribute::Dim),
            Self::Plain => cell,
        }
    }
}

/// A number in a table.
pub(crate) fn number(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}
