//! What a person sees while a command works: a spinner with its time for each step on a terminal, plain lines elsewhere.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::terminal::{Terminal, Tone, say, width};

/// After a part came back, the others may need so long to notice.
const CALM: Duration = Duration::from_secs(5);

/// Columns that a spinner, its title and its time take.
const BEFORE_NOTE: usize = 24;

/// Standard error, shared by all steps. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Console {
    spinners: MultiProgress,
    animated: bool,
    color: bool,
    said: Arc<Mutex<()>>,
    /// Steps under way.
    steps: Arc<AtomicUsize>,
    down: Arc<Mutex<Down>>,
}

/// Parts that are down, and when the last one came back.
#[derive(Default)]
struct Down {
    parts: BTreeSet<&'static str>,
    back: Option<Instant>,
}

/// A step under way.
pub(crate) struct Step {
    console: Console,
    title: String,
    spinner: ProgressBar,
    began: Instant,
}

impl Console {
    pub fn new(terminal: &Terminal) -> Self {
        let target = if terminal.progress { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self {
            spinners: MultiProgress::with_draw_target(target),
            animated: terminal.progress,
            color: terminal.progress_color,
            said: Arc::default(),
            steps: Arc::default(),
            down: Arc::default(),
        }
    }

    /// A console that nobody sees.
    pub fn hidden() -> Self {
        let spinners = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        Self {
            spinners,
            animated: true,
            color: false,
            said: Arc::default(),
            steps: Arc::default(),
            down: Arc::default(),
        }
    }

    /// Says one line above the spinners.
    pub fn say(&self, line: &str) {
        let _whole_lines = self.said.lock();
        // Without a spinner to draw around, the library would count on a cursor that a typed ^C has moved.
        if self.animated && self.steps.load(Ordering::Relaxed) > 0 {
            // A terminal that is gone reads nothing anyway.
            let _ = self.spinners.println(line);
        } else {
            say(line);
        }
    }

    /// Says one line that wants attention.
    pub fn warn(&self, line: &str) {
        self.say(&self.paint(line, Tone::Warning));
    }

    /// A part that was up is down.
    pub fn part_down(&self, name: &'static str) {
        self.down.lock().parts.insert(name);
    }

    /// A part is up.
    pub fn part_up(&self, name: &'static str) {
        let mut down = self.down.lock();
        if down.parts.remove(name) {
            down.back = Some(Instant::now());
        }
    }

    /// Whether every part is up, and has been for long enough that the others have noticed.
    pub fn all_up(&self) -> bool {
        let down = self.down.lock();
        down.parts.is_empty() && down.back.is_none_or(|back| back.elapsed() >= CALM)
    }

    /// A text in a colour, where standard error has colour.
    pub fn paint(&self, text: &str, tone: Tone) -> String {
        if self.color { tone.paint(text) } else { text.to_owned() }
    }

    /// A step that has ended.
    pub fn past(&self, title: &str, tone: Tone, took: Duration, detail: &str) {
        let mark = match tone {
            Tone::Good => "✔",
            Tone::Bad => "✘",
            _ => "–",
        };
        let (mark, time) = (self.paint(mark, tone), format!("{:.1}s", took.as_secs_f64()));
        self.say(format!("{mark} {title:<16} {time:>5}  {detail}").trim_end());
    }

    /// Begins a step.
    pub fn step(&self, title: &str) -> Step {
        let spinner = self.spinners.add(ProgressBar::new_spinner());
        self.steps.fetch_add(1, Ordering::Relaxed);
        // Both templates are constants that the tests draw.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:<16} {elapsed:>4} {wide_msg}") {
            spinner.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
        }
        spinner.set_prefix(title.to_owned());
        if self.animated {
            spinner.enable_steady_tick(Duration::from_millis(100));
        } else {
            say(&format!("{title}: starting"));
        }
        Step { console: self.clone(), title: title.to_owned(), spinner, began: Instant::now() }
    }
}

impl Step {
    /// What it is doing or waiting for just now.
    pub fn note(&self, text: &str) {
        if self.console.animated {
            self.spinner.set_message(text.to_owned());
        }
    }

    /// The same where it matters enough to have a line of its own when nothing moves on the screen.
    pub fn tell(&self, text: &str) {
        self.note(text);
        // Beside the spinner it would be cut.
        let room = usize::from(width()).saturating_sub(BEFORE_NOTE);
        if !text.is_empty() && (!self.console.animated || text.chars().count() > room) {
            self.console.say(&format!("  {}: {text}", self.title));
        }
    }

    /// It ended elsewhere, which took so long.
    pub fn ended(self, tone: Tone, took: Duration, detail: &str) {
        self.spinner.finish_and_clear();
        self.console.past(&self.title, tone, took, detail);
    }

    /// It is done; `detail` says with what.
    pub fn done(self, detail: &str) {
        let took = self.began.elapsed();
        self.ended(Tone::Good, took, detail);
    }

    /// It failed; the reason is said elsewhere, once.
    pub fn failed(self) {
        let took = self.began.elapsed();
        self.ended(Tone::Bad, took, "failed");
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        // A step that is cut off leaves no spinner behind.
        self.spinner.finish_and_clear();
        self.console.steps.fetch_sub(1, Ordering::Relaxed);
    }
}
