//! `pinacle pod …`.

mod act;
mod logs;

use std::collections::HashMap;

use crate::{
    api::{Api, Pod, Whole},
    args::{EventsArgs, Global, PodCommand, PodList},
    events, exec,
    failure::Failure,
    figures::{ago, bytes, clean, moment, percent},
    host::Page,
    op,
    people::People,
    terminal::{Terminal, Tone, number},
};

pub(crate) use act::new_key;

/// `pinacle pod …`.
pub(crate) async fn run(global: &Global, terminal: &Terminal, command: PodCommand) -> Result<(), Failure> {
    match command {
        PodCommand::Ls(options) => list(global, terminal, options).await,
        PodCommand::Show { pod } => show(global, terminal, &pod).await,
        PodCommand::Create(args) => act::create(global, terminal, *args).await,
        PodCommand::Start(action) => act::act(global, terminal, "start", action).await,
        PodCommand::Stop(action) => act::act(global, terminal, "stop", action).await,
        PodCommand::Restart(action) => act::act(global, terminal, "restart", action).await,
        PodCommand::Pause(action) => act::act(global, terminal, "pause", action).await,
        PodCommand::Resume(action) => act::act(global, terminal, "resume", action).await,
        PodCommand::Transfer { action, owner } => act::transfer(global, terminal, action, &owner).await,
        PodCommand::Rm { action, yes } => act::remove(global, terminal, action, yes).await,
        PodCommand::Logs(args) => logs::run(global, terminal, args).await,
        PodCommand::ExecLog { pod, exec, follow, container_only } => {
            exec::of_pod(global, terminal, &pod, exec::Wanted { exec, container_only, follow }).await
        }
        PodCommand::Events { pod, limit } => {
            let args = EventsArgs { since: None, host: None, pod: Some(pod), limit: Some(limit) };
            events::run(global, terminal, args).await
        }
    }
}

/// The name of a pod's host, and where the pod answers; `-` for what is not known.
pub(crate) async fn whereabouts(api: &Api, pod: &Pod) -> (String, String) {
    let unknown = || "-".to_owned();
    let Some(host) = &pod.host_id else { return (unknown(), unknown()) };
    let Ok(host) = api.host(host).await else { return (host.clone(), unknown()) };
    let address = host.facts.ssh.as_ref().and_then(|ssh| ssh.address.as_ref()).or(host.facts.addresses.first());
    let address = address.zip(pod.external_port).map(|(address, port)| match address.contains(':') {
        true => format!("http://[{address}]:{port}"),
        false => format!("http://{address}:{port}"),
    });
    (host.host.name.clone(), address.unwrap_or_else(unknown))
}

async fn list(global: &Global, terminal: &Terminal, options: PodList) -> Result<(), Failure> {
    let api = Api::open(global)?;
    let mut pods = api.pods(options.host.as_deref()).await?;
    pods.sort_by(|a, b| (a.label(), &a.pod_id).cmp(&(b.label(), &b.pod_id)));
    if terminal.json {
        return terminal.document(&pods.iter().map(|pod| &pod.json).collect::<Vec<_>>());
    }
    if pods.is_empty() {
        terminal.hint(match options.host {
            Some(_) => "there are no pods on this host",
            None => "there are no pods yet: pinacle pod create NAME makes one",
        });
        return Ok(());
    }
    let people = if options.ids { People::default() } else { People::known(&api).await };
    let names = host_names(&api).await?;
    print(terminal, &pods, Some(&names), &people, options.ids)
}

/// Pods as a table; without the hosts' names it has no column for hosts.
pub(crate) fn print(
    terminal: &Terminal,
    pods: &[Whole<Pod>],
    names: Option<&HashMap<String, String>>,
    people: &People,
    ids: bool,
) -> Result<(), Failure> {
    let mut heads = vec!["name", "phase", "cpu", "memory", "disk", "pids", "owner"];
    if names.is_some() {
        heads.insert(2, "host");
    }
    if ids {
        heads.push("id");
    }
    let mut table = terminal.table(&heads);
    for pod in pods {
        let phase = pod.phase.as_deref().unwrap_or("no record");
        let label = if terminal.interactive && !ids { short(pod.label()) } else { pod.label().to_owned() };
        let mut row = vec![Tone::Plain.cell(clean(&label)), Tone::of(phase).cell(phase)];
        if let Some(names) = names {
            let host = pod.host_id.as_ref().map_or("-", |id| names.get(id).unwrap_or(id));
            row.push(Tone::Plain.cell(clean(host)));
        }
        match &pod.metrics {
            Some(figures) => row.extend([
                number(percent(figures.cpu_percent)),
                number(bytes(figures.memory_bytes)),
                number(figures.disk_bytes.map_or_else(|| "-".into(), bytes)),
                number(figures.pids),
            ]),
            None => row.extend(["-"; 4].map(number)),
        }
        row.push(Tone::Dim.cell(clean(pod.owner.as_deref().map_or("-", |owner| people.name(owner)))));
        if ids {
            row.push(Tone::Dim.cell(&pod.pod_id));
        }
        table.add_row(row);
    }
    terminal.print(&mut table)
}

/// An id that stands for a name, so short that a line has room for more; its end differs most.
fn short(label: &str) -> String {
    const END: usize = 8;
    match label.strip_prefix("pod_").and_then(|rest| rest.len().checked_sub(END).and_then(|at| rest.get(at..))) {
        Some(end) => format!("pod_…{end}"),
        None => label.to_owned(),
    }
}

/// Names of all hosts by their ids.
pub(crate) async fn host_names(api: &Api) -> Result<HashMap<String, String>, Failure> {
    let hosts = api.hosts(None).await?;
    Ok(hosts.into_iter().map(|host| (host.view.host_id, host.view.name)).collect())
}

async fn show(global: &Global, terminal: &Terminal, pod: &str) -> Result<(), Failure> {
    let api = Api::open(global)?;
    let pod = api.pod(pod).await?;
    if terminal.json {
        return terminal.document(&pod.json);
    }
    let names = host_names(&api).await?;
    let mut page = Page { terminal, text: String::new() };
    identity(&mut page, &pod, &names, &People::known(&api).await);
    if pod.external_port.is_some() {
        page.line("address", clean(&whereabouts(&api, &pod).await.1));
    }
    // It may have ended between the two questions.
    if let Some(operation) = &pod.operation_id
        && let Ok(operation) = api.operation(operation).await
    {
        page.head(&format!("{} is under way: {}", operation.verb, operation.operation_id));
        op::steps(&mut page, &operation);
    }
    figures(&mut page, &pod);
    terminal.text(&page.text)
}

fn identity(page: &mut Page<'_>, pod: &Whole<Pod>, names: &HashMap<String, String>, people: &People) {
    page.line("name", clean(pod.name.as_deref().unwrap_or_default()));
    page.line("id", &pod.pod_id);
    match &pod.phase {
        Some(phase) => {
            let since = pod.phase_since.map(|since| format!(" for {}", ago(since))).unwrap_or_default();
            let cause = pod.cause.as_ref().map(|cause| format!(": {}", clean(cause))).unwrap_or_default();
            let phase = page.terminal.paint(phase, Tone::of(phase));
            page.line("phase", format!("{phase}{since}{cause}"));
        }
        None => page.line("phase", "it has no record: a host samples it all the same"),
    }
    let host = pod.host_id.as_ref().map(|id| names.get(id).unwrap_or(id).as_str());
    page.line("host", clean(host.unwrap_or_default()));
    page.line("owner", clean(people.name(pod.owner.as_deref().unwrap_or_default())));
    page.line("tier", clean(pod.tier.as_deref().unwrap_or_default()));
    page.line("image", clean(pod.image.as_deref().unwrap_or_default()));
    page.line("port", pod.external_port.map(|port| port.to_string()).unwrap_or_default());
    page.line("made", pod.created_at.map(|time| format!("{} UTC", moment(time))).unwrap_or_default());
}

fn figures(page: &mut Page<'_>, pod: &Whole<Pod>) {
    let Some(figures) = &pod.metrics else {
        page.head("no sample has come yet");
        return;
    };
    page.head(&format!("figures, {} old", ago(figures.received_at)));
    page.line("cpu", percent(figures.cpu_percent));
    let limit = figures.memory_limit_bytes.map_or_else(|| "no limit".into(), |limit| format!("limit {}", bytes(limit)));
    page.line("memory", format!("{}, {limit}", bytes(figures.memory_bytes)));
    page.line("disk", figures.disk_bytes.map_or_else(|| "not measured yet".into(), bytes));
    page.line("network", format!("{} in, {} out", bytes(figures.network_rx_bytes), bytes(figures.network_tx_bytes)));
    page.line(
        "block i/o",
        format!("{} read, {} written", bytes(figures.block_read_bytes), bytes(figures.block_write_bytes)),
    );
    page.line("pids", figures.pids.to_string());
    page.line("held back", format!("{:.1} s by its CPU limit", figures.throttled_ms as f64 / 1000.0));
    page.line("oom kills", figures.oom_kills.to_string());
}
