//! `pinacle pod exec-log` and `pinacle host exec-log`: the commands that were run, and what they printed.

use std::collections::HashMap;

use serde_json::Value;

use crate::{
    api::{Api, ExecRecord, Whole, segment},
    args::{ExecArgs, Global},
    failure::Failure,
    figures::clock,
    live::{Live, Said},
    terminal::{Terminal, Tone},
};

/// What of a pod's commands is wanted.
pub(crate) struct Wanted {
    pub exec: ExecArgs,
    pub container_only: bool,
    pub follow: bool,
}

/// `pinacle pod exec-log`.
pub(crate) async fn of_pod(global: &Global, terminal: &Terminal, pod: &str, wanted: Wanted) -> Result<(), Failure> {
    let api = Api::open(global)?;
    let mut view = View { terminal, wanted, shown: HashMap::new() };
    // Subscribed before the history is read, so that nothing falls between.
    let live = if view.wanted.follow {
        let topic = format!("exec:{}", api.pod(pod).await?.pod_id);
        Some(Live::open(api.clone(), vec![topic]).await?)
    } else {
        None
    };
    view.history(&api, &format!("/pods/{}/exec", segment(pod))).await?;
    let Some(mut live) = live else { return Ok(()) };
    terminal.hint("following; Ctrl-C ends");
    loop {
        match live.next(|reason| terminal.hint(&format!("{reason}; connecting again"))).await? {
            Said::State { items, .. } => items.into_iter().try_for_each(|item| view.take(item))?,
            Said::Error { code, detail } => return Err(Failure::failed(format!("{detail} ({code})"))),
            _ => {}
        }
    }
}

/// `pinacle host exec-log`.
pub(crate) async fn of_host(global: &Global, terminal: &Terminal, host: &str, exec: ExecArgs) -> Result<(), Failure> {
    let wanted = Wanted { exec, container_only: false, follow: false };
    let mut view = View { terminal, wanted, shown: HashMap::new() };
    view.history(&Api::open(global)?, &format!("/hosts/{}/exec", segment(host))).await
}

struct View<'a> {
    terminal: &'a Terminal,
    wanted: Wanted,
    /// How much of each command's output has been shown; none of it once it has ended.
    shown: HashMap<(String, u32), Option<[usize; 2]>>,
}

impl View<'_> {
    async fn history(&mut self, api: &Api, path: &str) -> Result<(), Failure> {
        let mut query: Vec<_> = self.wanted.exec.op.iter().map(|op| ("operation", op.clone())).collect();
        if self.wanted.container_only {
            query.push(("container_only", "true".to_owned()));
        }
        let most = usize::try_from(self.wanted.exec.limit).unwrap_or(usize::MAX);
        let mut records: Vec<Whole<ExecRecord>> = api.all(path, query, most).await?;
        records.sort_by_key(|record| (record.started_at.as_millis(), record.sequence));
        if records.is_empty() && !self.wanted.follow {
            self.terminal.hint("no such command has been run yet");
        }
        records.into_iter().try_for_each(|record| self.show(&record))
    }

    fn take(&mut self, item: Value) -> Result<(), Failure> {
        let record = Whole::<ExecRecord>::read(item)?;
        let other = self.wanted.exec.op.as_ref().is_some_and(|op| *op != record.operation_id);
        let outside = self.wanted.container_only && record.container_command.is_none();
        if other || outside { Ok(()) } else { self.show(&record) }
    }

    /// What is new of a command.
    fn show(&mut self, record: &Whole<ExecRecord>) -> Result<(), Failure> {
        let key = (record.operation_id.clone(), record.sequence);
        let (known, seen) = match self.shown.get(&key) {
            Some(None) => return Ok(()),
            Some(Some(seen)) => (true, *seen),
            None => (false, [0, 0]),
        };
        let ended = record.duration_ms.is_some();
        self.shown.insert(key, (!ended).then_some([record.stdout.len(), record.stderr.len()]));
        if self.terminal.json {
            return self.terminal.object(&record.json);
        }
        let mut text = String::new();
        if !known {
            text.push_str(&self.head(record));
        }
        for (stream, seen) in [&record.stdout, &record.stderr].into_iter().zip(seen) {
            // What was cut in the middle is shown from its beginning again.
            text.push_str(&indented(stream.get(seen..).unwrap_or(stream)));
        }
        if ended {
            text.push_str(&self.end(record));
        }
        self.terminal.text(&text)
    }

    fn head(&self, record: &ExecRecord) -> String {
        let at = self.terminal.paint(&clock(record.started_at), Tone::Dim);
        let step = record.step.replace('_', " ");
        let inside = if record.container_command.is_some() { "  (in the pod)" } else { "" };
        let command = record.container_command.as_ref().unwrap_or(&record.command);
        format!("{at} {step}: {}{inside}\n{}", printable(&record.label), indented(&format!("$ {command}")))
    }

    fn end(&self, record: &ExecRecord) -> String {
        let took = record.duration_ms.map(|ms| format!("{:.2} s", ms as f64 / 1000.0)).unwrap_or_default();
        let (tone, how) = match record.exit_code {
            Some(0) => (Tone::Dim, "done".to_owned()),
            Some(code) => (Tone::Bad, format!("exit code {code}")),
            None => (Tone::Bad, "it was cut off".to_owned()),
        };
        format!("{}\n", self.terminal.paint(&format!("    {how}, {took}"), tone))
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {}\n", printable(line))).collect()
}

/// Without what a terminal would obey; tabs are harmless.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() && letter != '\t' { '\u{fffd}' } else { letter }).collect()
}
