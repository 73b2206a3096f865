//! The picture of `host top`: bars, small curves, pods. It fits 80 columns and 24 lines, and uses more if there is more.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Cell, Paragraph, Row, Sparkline, Table},
};

use super::Picture;
use crate::{
    api::{Disk, Pod, Sample},
    figures::{ago, bytes, clean, count, percent, rate, share, span},
};

const CURVE_LINES: u16 = 3;
/// More cores than this share a line less each; the rest are left out, since the bar above has them all.
const MOST_CORE_LINES: u16 = 4;
const CORE_WIDTH: u16 = 20;
const MOST_DISKS: usize = 3;

/// Draws all of it.
pub(super) fn picture(frame: &mut Frame<'_>, picture: &Picture) {
    let area = frame.area();
    let Some(sample) = &picture.host.sample else {
        let lines = vec![head(picture), Line::raw(""), Line::raw("no sample has come yet"), foot(picture)];
        frame.render_widget(Paragraph::new(lines), area);
        return;
    };
    let disks = u16::try_from(sample.disks.len().min(MOST_DISKS)).unwrap_or(0);
    let cores = core_lines(sample, area.width);
    let swap = u16::from(sample.swap_total_bytes > 0);
    let [top, bars, core_area, curves, pods, bottom] = area.layout(&Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(2 + swap + disks),
        Constraint::Length(cores),
        Constraint::Length(CURVE_LINES + 1),
        Constraint::Min(3),
        Constraint::Length(1),
    ]));
    frame.render_widget(Paragraph::new(vec![head(picture), second_line(picture, sample)]), top);
    frame.render_widget(Paragraph::new(bar_lines(picture, sample, bars.width)), bars);
    frame.render_widget(Paragraph::new(cores_text(picture, sample, core_area)), core_area);
    draw_curves(frame, picture, sample, curves);
    draw_pods(frame, picture, pods);
    frame.render_widget(Paragraph::new(foot(picture)), bottom);
}

fn tone(picture: &Picture, color: Color) -> Style {
    if picture.color { Style::new().fg(color) } else { Style::new() }
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn head(picture: &Picture) -> Line<'static> {
    let host = &picture.host.host;
    let color = match host.state.as_str() {
        "online" => Color::Green,
        "degraded" => Color::Yellow,
        "offline" => Color::Red,
        _ => Color::Gray,
    };
    let up = picture.host.heartbeat.as_ref().map(|beat| format!("  up {}", span(beat.uptime_seconds)));
    Line::from(vec![
        Span::styled(clean(&host.name), Style::new().add_modifier(Modifier::BOLD)),
        Span::raw("  "),
        Span::styled(host.state.clone(), tone(picture, color)),
        Span::raw(format!(" for {}", ago(host.state_since))),
        Span::raw(up.unwrap_or_default()),
        Span::styled(format!("  {}", clean(&picture.host.facts.os)), dim()),
    ])
}

fn second_line(picture: &Picture, sample: &Sample) -> Line<'static> {
    let age = picture.sampled_at().map(ago).unwrap_or_default();
    let load = format!("load {:.2} {:.2} {:.2}", sample.load_1, sample.load_5, sample.load_15);
    let disk = format!(
        "disk {} read, {} written",
        rate(sample.disk_read_bytes_per_second),
        rate(sample.disk_write_bytes_per_second)
    );
    Line::from(vec![Span::raw(format!("{load}   {disk}")), Span::styled(format!("   sample {age} old"), dim())])
}

fn bar_lines(picture: &Picture, sample: &Sample, width: u16) -> Vec<Line<'static>> {
    let cores = sample.cpu_cores_percent.len().max(1);
    let cpu = sample.cpu_percent / cores as f64;
    let mut lines =
        vec![bar(picture, "cpu", cpu, &format!("{} of {}%", percent(sample.cpu_percent), cores * 100), width)];
    let used = |part: u64, whole: u64| format!("{} of {}", bytes(part), bytes(whole));
    let (part, whole) = (sample.memory_used_bytes, sample.memory_total_bytes);
    lines.push(bar(picture, "memory", share(part, whole), &used(part, whole), width));
    if sample.swap_total_bytes > 0 {
        let (part, whole) = (sample.swap_used_bytes, sample.swap_total_bytes);
        lines.push(bar(picture, "swap", share(part, whole), &used(part, whole), width));
    }
    for Disk { mount, used_bytes, total_bytes, .. } in sample.disks.iter().take(MOST_DISKS) {
        let text = used(*used_bytes, *total_bytes);
        lines.push(bar(picture, &clean(mount), share(*used_bytes, *total_bytes), &text, width));
    }
    lines
}

/// A name, a bar and what it means.
fn bar(picture: &Picture, name: &str, filled: f64, text: &str, width: u16) -> Line<'static> {
    const NAME: usize = 9;
    const TEXT: usize = 24;
    let name: String = name.chars().take(NAME - 1).collect();
    let room = usize::from(width).saturating_sub(NAME + TEXT + 2).max(4);
    let full = ((filled / 100.0).clamp(0.0, 1.0) * room as f64).round() as usize;
    let color = if filled >= 90.0 {
        Color::Red
    } else if filled >= 70.0 {
        Color::Yellow
    } else {
        Color::Green
    };
    Line::from(vec![
        Span::raw(format!("{name:<NAME$}")),
        Span::styled("█".repeat(full), tone(picture, color)),
        Span::styled("░".repeat(room - full), dim()),
        Span::raw(format!("  {text:<TEXT$}")),
    ])
}

fn columns(width: u16) -> u16 {
    (width / CORE_WIDTH).max(1)
}

fn core_lines(sample: &Sample, width: u16) -> u16 {
    let cores = u16::try_from(sample.cpu_cores_percent.len()).unwrap_or(u16::MAX);
    cores.div_ceil(columns(width)).min(MOST_CORE_LINES)
}

fn cores_text(picture: &Picture, sample: &Sample, area: Rect) -> Vec<Line<'static>> {
    const BAR: usize = 7;
    let columns = usize::from(columns(area.width));
    let cells: Vec<Vec<Span<'static>>> = sample
        .cpu_cores_percent
        .iter()
        .enumerate()
        .map(|(number, used)| {
            let full = ((used / 100.0).clamp(0.0, 1.0) * BAR as f64).round() as usize;
            vec![
                Span::styled(format!("{number:>3} "), dim()),
                Span::styled("▪".repeat(full), tone(picture, Color::Cyan)),
                Span::styled("·".repeat(BAR - full), dim()),
                Span::raw(format!("{:>5.0}%   ", used)),
            ]
        })
        .collect();
    cells.chunks(columns).take(usize::from(area.height)).map(|row| Line::from(row.concat())).collect()
}

fn draw_curves(frame: &mut Frame<'_>, picture: &Picture, sample: &Sample, area: Rect) {
    let thirds = area.layout::<3>(&Layout::horizontal([Constraint::Fill(1); 3]).spacing(2));
    let (rx, tx) = (rate(sample.network_rx_bytes_per_second), rate(sample.network_tx_bytes_per_second));
    let curves = [
        (format!("cpu {}", percent(sample.cpu_percent)), &picture.cpu, Color::Green),
        (format!("network in {rx}"), &picture.rx, Color::Blue),
        (format!("network out {tx}"), &picture.tx, Color::Magenta),
    ];
    for (area, (title, values, color)) in thirds.into_iter().zip(curves) {
        let [title_area, curve] = area.layout(&Layout::vertical([Constraint::Length(1), Constraint::Min(1)]));
        frame.render_widget(Paragraph::new(Span::styled(title, dim())), title_area);
        // The newest stand at the right end.
        let newest: Vec<u64> = values.iter().rev().take(usize::from(curve.width)).rev().copied().collect();
        frame.render_widget(Sparkline::default().data(&newest).style(tone(picture, color)), curve);
    }
}

fn draw_pods(frame: &mut Frame<'_>, picture: &Picture, area: Rect) {
    let mut pods: Vec<&Pod> = picture.pods.values().collect();
    let used = |pod: &Pod| pod.metrics.as_ref().map_or(0.0, |figures| figures.cpu_percent);
    pods.sort_by(|a, b| used(b).total_cmp(&used(a)).then_with(|| a.label().cmp(b.label())));
    if pods.is_empty() {
        let text = "no pods: a container with the label pinacle.pod=<pod id> appears here";
        frame.render_widget(Paragraph::new(vec![Line::raw(""), Line::styled(text, dim())]), area);
        return;
    }
    let rows = pods.iter().map(|pod| {
        let phase = pod.phase.as_deref().unwrap_or("no record").to_owned();
        let mut cells = vec![clean(pod.label()), phase];
        match &pod.metrics {
            Some(figures) => cells.extend([
                percent(figures.cpu_percent),
                bytes(figures.memory_bytes),
                figures.memory_limit_bytes.map_or_else(|| "-".into(), bytes),
                figures.disk_bytes.map_or_else(|| "-".into(), bytes),
                figures.pids.to_string(),
            ]),
            None => cells.extend(["-"; 5].map(str::to_owned)),
        }
        Row::new(cells.into_iter().enumerate().map(|(column, text)| {
            Cell::from(if column < 2 { Line::raw(text) } else { Line::raw(text).right_aligned() })
        }))
    });
    let heads = ["POD", "PHASE", "CPU", "MEMORY", "LIMIT", "DISK", "PIDS"];
    let header =
        Row::new(heads.into_iter().enumerate().map(|(column, text)| {
            Cell::from(if column < 2 { Line::raw(text) } else { Line::raw(text).right_aligned() })
        }));
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(12),
        Constraint::Length(7),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(5),
    ];
    let table = Table::new(rows, widths).header(header.style(Style::new().add_modifier(Modifier::BOLD)));
    frame.render_widget(table, area);
}

fn foot(picture: &Picture) -> Line<'static> {
    match &picture.trouble {
        Some(trouble) => {
            Line::styled(format!("{}; connecting again   q quits", clean(trouble)), tone(picture, Color::Yellow))
        }
        None => Line::styled(format!("{}   q quits", count(picture.pods.len(), "pod")), dim()),
    }
}
