//! `pinacle op …`, and carrying out what any command asked for.

mod follow;

use std::{collections::HashMap, time::Duration};

use pinacle_bus::contract::OperationId;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{signal::ctrl_c, time::Instant};

use crate::{
    api::{Accepted, Api, Operation, OperationStep, Pod, Whole},
    args::{Global, OpCommand, Wait},
    failure::Failure,
    figures::{ago, clean, count, moment},
    host::Page,
    people::People,
    pod,
    progress::Console,
    terminal::{Terminal, Tone},
};

pub(crate) use follow::until_ended;

/// `pinacle op …`.
pub(crate) async fn run(global: &Global, terminal: &Terminal, command: OpCommand) -> Result<(), Failure> {
    let api = Api::open(global)?;
    match command {
        OpCommand::Ls { pod, progress, limit } => {
            list(&api, terminal, pod, progress.map(|progress| progress.as_str()), limit).await
        }
        OpCommand::Show { id, follow: false } => show(&api, terminal, &checked(&id)?).await,
        OpCommand::Show { id, follow: true } => {
            let id = checked(&id)?;
            let operation = attend(&api, terminal, &id).await?;
            conclude(&api, terminal, &operation, None).await
        }
        OpCommand::Cancel { id, wait } => cancel(&api, terminal, &checked(&id)?, wait).await,
    }
}

fn checked(id: &str) -> Result<String, Failure> {
    match id.parse::<OperationId>() {
        Ok(id) => Ok(id.to_string()),
        Err(error) => Err(Failure::input(format!("{id:?} is no operation's id: {error}; see pinacle op ls"))),
    }
}

/// What was asked for is followed to its end and told, unless nobody wants to wait.
pub(crate) async fn carry_out(api: &Api, terminal: &Terminal, answer: Value, wait: Wait) -> Result<(), Failure> {
    let accepted = Whole::<Accepted>::read(answer)?;
    let id = &accepted.operation_id;
    if wait.no_wait {
        if terminal.json {
            return terminal.object(&accepted.json);
        }
        return terminal.line(&format!("{id} is asked for; pinacle op show {id} --follow tells how it goes"));
    }
    let began = Instant::now();
    let operation = attend(api, terminal, id).await?;
    conclude(api, terminal, &operation, Some(began.elapsed())).await
}

/// Follows an operation. Ctrl-C ends that alone.
async fn attend(api: &Api, terminal: &Terminal, id: &str) -> Result<Whole<Operation>, Failure> {
    let console = Console::new(terminal);
    tokio::select! {
        // cancel-safe: nothing but what is on the screen is lost.
        operation = until_ended(api, &console, id) => operation,
        // cancel-safe: it ends the command.
        _ = ctrl_c() => Err(Failure::Interrupted(format!(
            "the operation goes on: pinacle op show {id} --follow comes back to it, pinacle op cancel {id} cancels it"
        ))),
    }
}

/// Says how it ended.
async fn conclude(
    api: &Api,
    terminal: &Terminal,
    operation: &Whole<Operation>,
    took: Option<Duration>,
) -> Result<(), Failure> {
    // A pod that is gone for good may have no page any more.
    let pod = if operation.kind == "pod" { api.pod(&operation.target_id).await.ok() } else { None };
    if terminal.json {
        terminal.object(&json!({ "operation": operation.json, "pod": pod.as_ref().map(|pod| &pod.json) }))?;
    }
    let name = pod.as_ref().map_or(operation.target_id.as_str(), |pod| pod.label());
    if operation.progress != "succeeded" {
        return Err(Failure::failed(regret(operation, name)));
    }
    if terminal.json {
        return Ok(());
    }
    let took = took.map_or_else(String::new, |took| format!(" after {:.1} s", took.as_secs_f64()));
    let line = match (&pod, operation.verb.as_str()) {
        (Some(pod), "create" | "start" | "restart" | "resume") => {
            let (host, address) = pod::whereabouts(api, pod).await;
            format!("{name} runs on {host}{took}: {address}")
        }
        (_, verb) => format!("{name} is {}{took}", participle(verb)),
    };
    terminal.line(&clean(&line))
}

/// Why it did not work, and what to do.
fn regret(operation: &Operation, name: &str) -> String {
    let (id, done) = (&operation.operation_id, participle(&operation.verb));
    let cause = operation.cause.as_deref().unwrap_or("no cause is known");
    let failed = operation.steps.iter().find(|step| step.progress == "failed").map(|step| step.label.as_str());
    let advice = match failed {
        _ if operation.progress == "cancelled" => return format!("{name} was not {done}: {cause}"),
        Some("place") => "pinacle host ls and pinacle host show NAME tell what the hosts have left".into(),
        Some(_) => format!("pinacle pod exec-log {name} --op {id} shows what was run"),
        None => format!("pinacle op show {id} tells more"),
    };
    format!("{name} could not be {done}: {}; {advice}", cause.trim_end_matches('.'))
}

fn participle(verb: &str) -> &str {
    match verb {
        "create" => "created",
        "start" => "started",
        "stop" => "stopped",
        "restart" => "restarted",
        "pause" => "paused",
        "resume" => "resumed",
        "transfer" => "given to its new owner",
        "delete" => "deleted",
        "clean" => "cleared away",
        "cordon" => "closed for new pods",
        "uncordon" => "opened for new pods",
        "label" => "labelled",
        "trust-keys" => "trusted with its new keys",
        other => other,
    }
}

async fn cancel(api: &Api, terminal: &Terminal, id: &str, wait: Wait) -> Result<(), Failure> {
    let answer = api.send(Method::POST, &format!("/operations/{id}/cancel"), &[]).await?;
    if wait.no_wait {
        return if terminal.json {
            terminal.object(&answer)
        } else {
            terminal.line(&format!("{id} is being cancelled"))
        };
    }
    let operation = attend(api, terminal, id).await?;
    if terminal.json {
        terminal.object(&operation.json)?;
    }
    match operation.progress.as_str() {
        "cancelled" if terminal.json => Ok(()),
        "cancelled" => terminal.line(&format!("{id} is cancelled, and what it had made is cleared away")),
        other => Err(Failure::failed(format!("{id} could not be cancelled any more: it {other} before"))),
    }
}

async fn list(
    api: &Api,
    terminal: &Terminal,
    pod: Option<String>,
    progress: Option<&str>,
    limit: u64,
) -> Result<(), Failure> {
    let mut query: Vec<_> = pod.map(|pod| ("pod", pod)).into_iter().collect();
    query.extend(progress.map(|progress| ("progress", progress.to_owned())));
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut operations: Vec<Whole<Operation>> = api.all("/operations", query, most).await?;
    operations.sort_by_key(|operation| operation.started_at.map(|at| at.as_millis()));
    if terminal.json {
        return terminal.document(&operations.iter().map(|operation| &operation.json).collect::<Vec<_>>());
    }
    if operations.is_empty() {
        terminal.hint("there are no such operations: pinacle pod create NAME begins one");
        return Ok(());
    }
    let pods: Vec<Whole<Pod>> = api.pods(None).await.unwrap_or_default();
    let names: HashMap<&str, &str> = pods.iter().map(|pod| (pod.pod_id.as_str(), pod.label())).collect();
    let mut table = terminal.table(&["began", "what", "of", "progress", "took", "id"]);
    for operation in &operations {
        let target = operation.target_id.as_str();
        table.add_row(vec![
            Tone::Dim.cell(operation.started_at.map(moment).unwrap_or_default()),
            Tone::Plain.cell(clean(&operation.verb)),
            Tone::Plain.cell(clean(names.get(target).unwrap_or(&target))),
            Tone::of(&operation.progress).cell(&operation.progress),
            Tone::Plain.cell(length(operation)),
            Tone::Dim.cell(&operation.operation_id),
        ]);
    }
    terminal.print(&mut table)
}

fn length(operation: &Operation) -> String {
    match (operation.started_at, operation.ended_at) {
        (Some(from), Some(to)) => format!("{:.1} s", (to.as_millis() - from.as_millis()) as f64 / 1000.0),
        (Some(from), None) => format!("{} so far", ago(from)),
        _ => String::new(),
    }
}

async fn show(api: &Api, terminal: &Terminal, id: &str) -> Result<(), Failure> {
    let operation = api.operation(id).await?;
    if terminal.json {
        return terminal.document(&operation.json);
    }
    let mut page = Page { terminal, text: String::new() };
    let progress = terminal.paint(&operation.progress, Tone::of(&operation.progress));
    // Names where they can be had, for people.
    let target = match operation.kind.as_str() {
        "pod" => api.pod(&operation.target_id).await.ok().map(|pod| pod.label().to_owned()),
        _ => None,
    };
    let host = match &operation.host_id {
        Some(id) => api.host(id).await.map_or_else(|_| id.clone(), |host| host.view.host.name),
        None => String::new(),
    };
    page.line("id", &operation.operation_id);
    let target = target.unwrap_or_else(|| operation.target_id.clone());
    page.line("what", clean(&format!("{} {} {target}", operation.verb, operation.kind)));
    page.line("progress", progress);
    page.line("cause", clean(operation.cause.as_deref().unwrap_or_default()));
    page.line("asked by", clean(People::known(api).await.name(operation.requested_by.as_deref().unwrap_or_default())));
    page.line("host", clean(&host));
    page.line("began", operation.started_at.map(|at| format!("{} UTC", moment(at))).unwrap_or_default());
    page.line("took", length(&operation));
    if let (None, Some(deadline)) = (operation.ended_at, operation.deadline_at) {
        page.line("at most until", format!("{} UTC", moment(deadline)));
    }
    if operation.takeovers > 0 {
        let times = count(usize::try_from(operation.takeovers).unwrap_or(usize::MAX), "time");
        page.line("taken over", format!("{times} by another copy of the orchestrator"));
    }
    page.head("steps");
    steps(&mut page, &operation);
    terminal.text(&page.text)
}

/// The steps, a line each.
pub(crate) fn steps(page: &mut Page<'_>, operation: &Operation) {
    for step in &operation.steps {
        let text = step_line(page.terminal, step);
        page.line(&follow::title(step), text);
    }
}

fn step_line(terminal: &Terminal, step: &OperationStep) -> String {
    let progress = terminal.paint(&format!("{:<9}", step.progress), Tone::of(&step.progress));
    let took = match (follow::took(step), step.started_at) {
        (Some(took), _) => format!("{:.1}s", took.as_secs_f64()),
        (None, Some(since)) if step.progress == "running" => ago(since),
        _ => String::new(),
    };
    let said = clean(step.cause.as_deref().or(step.note.as_deref()).unwrap_or_default());
    format!("{progress} {took:>7}  {said}").trim_end().to_owned()
}
