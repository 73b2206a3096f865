//! `pinacle host …`.

mod join;
mod membership;
mod terms;

use crate::{
    api::{Api, Host, HostDetail},
    args::{Global, HostCommand, HostList, HostStateArg},
    exec,
    failure::Failure,
    figures::{ago, bytes, clean, count, moment, percent, rate, share, span},
    people::People,
    terminal::{Terminal, Tone, number},
    top,
};

/// `pinacle host …`.
pub(crate) async fn run(global: &Global, terminal: &Terminal, command: HostCommand) -> Result<(), Failure> {
    match command {
        HostCommand::Ls(options) => list(global, terminal, options).await,
        HostCommand::Show { host } => show(global, terminal, &host).await,
        HostCommand::Top { host } => top::run(global, terminal, host.as_deref()).await,
        HostCommand::Cordon { host } => terms::cordon(global, terminal, &host).await,
        HostCommand::Uncordon { host } => terms::uncordon(global, terminal, &host).await,
        HostCommand::Label { host, labels } => terms::label(global, terminal, &host, labels).await,
        HostCommand::TrustKeys { host, yes } => terms::trust_keys(global, terminal, &host, yes).await,
        HostCommand::Enrol(terms) => join::enrol(global, terminal, terms).await,
        HostCommand::Tokens { revoke } => join::tokens(global, terminal, revoke.as_deref()).await,
        HostCommand::Provision(wanted) => join::provision(global, terminal, wanted).await,
        HostCommand::Disable { host } => membership::disable(global, terminal, &host).await,
        HostCommand::Enable { host } => membership::enable(global, terminal, &host).await,
        HostCommand::RotateKey { host } => membership::rotate_key(global, terminal, &host).await,
        HostCommand::Rm { host, delete_data, yes } => {
            membership::remove(global, terminal, &host, delete_data, yes).await
        }
        HostCommand::Note { host, text } => membership::note(global, terminal, &host, &text).await,
        HostCommand::Maintenance { host, window } => membership::maintenance(global, terminal, &host, window).await,
        HostCommand::Owners { host, owners, everybody } => {
            membership::owners(global, terminal, &host, owners, everybody).await
        }
        HostCommand::Transfer { host, owner } => terms::transfer(global, terminal, &host, &owner).await,
        HostCommand::ExecLog { host, exec } => exec::of_host(global, terminal, &host, exec).await,
    }
}

async fn list(global: &Global, terminal: &Terminal, list: HostList) -> Result<(), Failure> {
    let state = list.state.map(|state| match state {
        HostStateArg::Online => "online",
        HostStateArg::Degraded => "degraded",
        HostStateArg::Offline => "offline",
        HostStateArg::Unknown => "unknown",
    });
    let mut hosts = Api::open(global)?.hosts(state).await?;
    hosts.sort_by(|a, b| (&a.name, &a.host_id).cmp(&(&b.name, &b.host_id)));
    if terminal.json {
        return terminal.document(&hosts.iter().map(|host| &host.json).collect::<Vec<_>>());
    }
    if hosts.is_empty() {
        terminal.hint(&match state {
            Some(state) => format!("no host is {state}; see all with pinacle host ls"),
            None => "there are no hosts yet: pinacle up starts an agent for this machine, and pinacle-agent runs on any other".into(),
        });
        return Ok(());
    }
    let heads = ["name", "state", "for", "cpu", "memory", "disk", "load", "pods", "id"];
    let mut table = terminal.table(if list.ids { &heads } else { heads.split_last().map_or(&[], |(_, rest)| rest) });
    for host in &hosts {
        let mut row =
            vec![Tone::Plain.cell(clean(&host.name)), state_cell(host), Tone::Dim.cell(ago(host.state_since))];
        match &host.metrics {
            Some(figures) => row.extend([
                number(percent(figures.cpu_percent)),
                number(percent(share(figures.memory_used_bytes, figures.memory_total_bytes))),
                number(percent(share(figures.disk_used_bytes, figures.disk_total_bytes))),
                number(format!("{:.2}", figures.load_1)),
                number(figures.pods),
            ]),
            None => row.extend(["-"; 5].map(number)),
        }
        if list.ids {
            row.push(Tone::Dim.cell(&host.host_id));
        }
        table.add_row(row);
    }
    terminal.print(&mut table)
}

fn state_cell(host: &Host) -> comfy_table::Cell {
    let closed = match (host.disabled, host.cordoned) {
        (true, _) => ", disabled",
        (false, true) => ", cordoned",
        (false, false) => "",
    };
    Tone::of(&host.state).cell(format!("{}{}{closed}", host.state, because(host)))
}

/// The cause, where the state alone does not say it.
fn because(host: &Host) -> String {
    match (host.state.as_str(), host.cause.as_str()) {
        ("online", _) => String::new(),
        (_, cause) => format!(" ({})", cause.replace('_', " ")),
    }
}

async fn show(global: &Global, terminal: &Terminal, host: &str) -> Result<(), Failure> {
    let api = Api::open(global)?;
    let host = api.host(host).await?;
    if terminal.json {
        return terminal.document(&host.json);
    }
    print(terminal, &host, &People::known(&api).await)
}

/// One host for people.
pub(crate) fn print(terminal: &Terminal, host: &HostDetail, people: &People) -> Result<(), Failure> {
    let mut page = Page { terminal, text: String::new() };
    identity(&mut page, host, people);
    figures(&mut page, host);
    terminal.text(&page.text)
}

/// Lines of a name and a value.
pub(crate) struct Page<'a> {
    pub terminal: &'a Terminal,
    pub text: String,
}

impl Page<'_> {
    /// A line, unless there is nothing to say.
    pub fn line(&mut self, name: &str, value: impl AsRef<str>) {
        if !value.as_ref().is_empty() {
            let name = self.terminal.paint(&format!("{name:<14}"), Tone::Dim);
            self.text.push_str(&format!("{name}{}\n", value.as_ref()));
        }
    }

    /// A line that begins a part.
    pub fn head(&mut self, text: &str) {
        self.text.push_str(&format!("\n{text}\n"));
    }
}

fn identity(page: &mut Page<'_>, detail: &HostDetail, people: &People) {
    let (host, facts) = (&detail.host, &detail.facts);
    let state = page.terminal.paint(&host.state, Tone::of(&host.state));
    page.line("name", clean(&host.name));
    page.line("id", &host.host_id);
    page.line("state", format!("{state}{} for {}", because(host), ago(host.state_since)));
    if host.cordoned {
        page.line("", "closed for new pods");
    }
    if host.disabled {
        page.line("", "disabled: its agent may not connect; pods on it go on, unwatched");
    }
    page.line("owner", clean(people.name(detail.owner.as_deref().unwrap_or_default())));
    page.line("notes", clean(&detail.notes));
    for window in &detail.maintenance {
        let (from, until) = (moment(window.from), moment(window.until));
        page.line("maintenance", clean(&format!("from {from} until {until} UTC {}", window.reason)));
    }
    if let Some(beat) = &detail.heartbeat {
        page.line("heartbeat", format!("{} ago", ago(beat.received_at)));
        page.line("up for", span(beat.uptime_seconds));
    }
    let labels: Vec<String> = detail.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    page.line("labels", clean(&labels.join(" ")));
    page.line("admitted", format!("{} UTC", moment(detail.admitted_at)));
    page.head("machine");
    page.line("system", clean(&format!("{}, kernel {}, {}", facts.os, facts.kernel, facts.architecture)));
    page.line("cpu", clean(&format!("{} × {}", facts.cpu_count, facts.cpu_model)));
    let runtimes = facts.runtimes.join(", ");
    page.line(
        "docker",
        match &facts.docker_version {
            Some(version) => clean(&format!("{version}, runtimes {runtimes}")),
            None => "none".into(),
        },
    );
    page.line("addresses", clean(&facts.addresses.join(" ")));
    page.line("ssh", facts.ssh.as_ref().map_or_else(|| "none".into(), |ssh| format!("port {}", ssh.port)));
    page.line("lima", clean(facts.lima_name.as_deref().unwrap_or_default()));
    page.line("agent", clean(&facts.agent_version));
}

fn figures(page: &mut Page<'_>, detail: &HostDetail) {
    let Some(sample) = &detail.sample else {
        page.head("no sample has come yet");
        return;
    };
    let age = detail.host.metrics.as_ref().map(|metrics| ago(metrics.received_at)).unwrap_or_default();
    page.head(&format!("figures, {age} old"));
    page.line("cpu", format!("{} of {}%", percent(sample.cpu_percent), detail.facts.cpu_count * 100));
    page.line("load", format!("{:.2} {:.2} {:.2}", sample.load_1, sample.load_5, sample.load_15));
    let used = share(sample.memory_used_bytes, sample.memory_total_bytes);
    let (memory, total) = (bytes(sample.memory_used_bytes), bytes(sample.memory_total_bytes));
    page.line(
        "memory",
        format!("{memory} of {total} ({}), {} cached", percent(used), bytes(sample.memory_cached_bytes)),
    );
    if sample.swap_total_bytes > 0 {
        page.line("swap", format!("{} of {}", bytes(sample.swap_used_bytes), bytes(sample.swap_total_bytes)));
    }
    for disk in &sample.disks {
        let used = percent(share(disk.used_bytes, disk.total_bytes));
        let (part, whole) = (bytes(disk.used_bytes), bytes(disk.total_bytes));
        page.line("disk", clean(&format!("{} ({}): {part} of {whole} ({used})", disk.mount, disk.device)));
    }
    let (read, write) = (rate(sample.disk_read_bytes_per_second), rate(sample.disk_write_bytes_per_second));
    page.line("disk i/o", format!("{read} read, {write} written"));
    let (rx, tx) = (rate(sample.network_rx_bytes_per_second), rate(sample.network_tx_bytes_per_second));
    page.line("network", format!("{rx} in, {tx} out"));
    if let Some(pressure) = &sample.pressure {
        let (cpu, memory, io) = (pressure.cpu_some_percent, pressure.memory_some_percent, pressure.io_some_percent);
        page.line("pressure", format!("cpu {}, memory {}, disk {}", percent(cpu), percent(memory), percent(io)));
    }
    for sensor in &sample.temperatures {
        page.line("temperature", clean(&format!("{}: {:.0} °C", sensor.label, sensor.celsius)));
    }
    page.line("pods", count(detail.pod_ids.len(), "pod"));
}
