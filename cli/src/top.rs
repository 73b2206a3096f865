//! `pinacle host top`: one host, live. Where nobody watches, one picture.

mod draw;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use pinacle_bus::contract::Timestamp;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    api::{Api, HostDetail, Pod, Whole},
    args::Global,
    failure::Failure,
    host,
    live::{Live, Said},
    local::Folder,
    people::People,
    pod,
    terminal::Terminal,
};

/// Samples that the small curves remember.
const REMEMBERED: usize = 300;
const KEYS_EVERY: Duration = Duration::from_millis(50);
const DRAW_EVERY: Duration = Duration::from_secs(1);

/// What is on the screen.
pub(super) struct Picture {
    pub host: HostDetail,
    pub pods: BTreeMap<String, Pod>,
    pub cpu: VecDeque<u64>,
    pub rx: VecDeque<u64>,
    pub tx: VecDeque<u64>,
    /// Why nothing new comes, if so.
    pub trouble: Option<String>,
    pub color: bool,
}

/// `pinacle host top`.
pub(crate) async fn run(global: &Global, terminal: &Terminal, host: Option<&str>) -> Result<(), Failure> {
    let api = Api::open(global)?;
    let local = Folder::find(global.data_dir.as_deref())?.host();
    let detail = find(&api, host, local).await?;
    if terminal.json || !terminal.interactive {
        return once(&api, terminal, &detail).await;
    }
    let id = detail.host.host_id.clone();
    let mut picture = Picture::new(detail.view, terminal.color);
    let live = Live::open(api, vec![format!("host:{id}"), "pods".into()]).await?;
    let mut screen = ratatui::try_init()?;
    let outcome = follow(&mut screen, live, &mut picture).await;
    ratatui::restore();
    outcome
}

/// The host that was asked for, else this machine, else the first by name.
async fn find(api: &Api, host: Option<&str>, local: Option<String>) -> Result<Whole<HostDetail>, Failure> {
    if let Some(host) = host {
        return api.host(host).await;
    }
    let mut hosts = api.hosts(None).await?;
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    let here = hosts.iter().find(|host| Some(&host.host_id) == local.as_ref());
    match here.or(hosts.first()) {
        Some(host) => api.host(&host.host_id).await,
        None => Err(Failure::failed("there are no hosts yet: pinacle up starts an agent for this machine")),
    }
}

async fn once(api: &Api, terminal: &Terminal, detail: &Whole<HostDetail>) -> Result<(), Failure> {
    let pods = api.pods(Some(&detail.host.host_id)).await?;
    if terminal.json {
        let pods: Vec<&Value> = pods.iter().map(|pod| &pod.json).collect();
        return terminal.document(&json!({ "host": detail.json, "pods": pods }));
    }
    let people = People::known(api).await;
    host::print(terminal, detail, &people)?;
    if pods.is_empty() {
        return Ok(());
    }
    terminal.line("")?;
    pod::print(terminal, &pods, None, &people, false)
}

/// What the WebSocket's task tells.
enum News {
    Said(Said),
    Lost(String),
    Failed(Failure),
}

async fn listen(mut live: Live, news: mpsc::Sender<News>) {
    loop {
        // A full channel has newer things to tell than this.
        let lost = |reason: &str| drop(news.try_send(News::Lost(reason.to_owned())));
        let told = match live.next(lost).await {
            Ok(said) => news.send(News::Said(said)).await,
            Err(failure) => {
                // Nobody is there to hear it when this fails.
                let _ = news.send(News::Failed(failure)).await;
                return;
            }
        };
        if told.is_err() {
            return;
        }
    }
}

async fn follow(screen: &mut DefaultTerminal, live: Live, picture: &mut Picture) -> Result<(), Failure> {
    let (sender, mut news) = mpsc::channel(64);
    let mut listener = JoinSet::new();
    listener.spawn(listen(live, sender));
    let mut keys = interval(KEYS_EVERY);
    keys.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut drawn = None::<Instant>;
    loop {
        tokio::select! {
            // cancel-safe: a channel keeps what was not taken.
            told = news.recv() => match told {
                Some(News::Said(said)) => picture.take(said)?,
                Some(News::Lost(reason)) => picture.trouble = Some(reason),
                Some(News::Failed(failure)) => return Err(failure),
                None => return Err(Failure::failed("nobody listens to the gateway any more")),
            },
            // cancel-safe: a timer.
            _ = keys.tick() => match pressed()? {
                Pressed::Quit => return Ok(()),
                Pressed::Redraw => {}
                // Ages on the screen go on while nothing comes.
                Pressed::Nothing if drawn.is_none_or(|at| at.elapsed() >= DRAW_EVERY) => {}
                Pressed::Nothing => continue,
            },
        }
        drawn = Some(Instant::now());
        screen.draw(|frame| draw::picture(frame, picture))?;
    }
}

enum Pressed {
    Quit,
    Redraw,
    Nothing,
}

fn pressed() -> std::io::Result<Pressed> {
    while event::poll(Duration::ZERO)? {
        match event::read()? {
            Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
                KeyCode::Char('q' | 'Q') | KeyCode::Esc => return Ok(Pressed::Quit),
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(Pressed::Quit),
                _ => {}
            },
            Event::Resize(..) => return Ok(Pressed::Redraw),
            _ => {}
        }
    }
    Ok(Pressed::Nothing)
}

impl Picture {
    fn new(host: HostDetail, color: bool) -> Self {
        let mut picture = Self {
            host,
            pods: BTreeMap::new(),
            cpu: VecDeque::new(),
            rx: VecDeque::new(),
            tx: VecDeque::new(),
            trouble: None,
            color,
        };
        picture.remember();
        picture
    }

    /// Takes in what the gateway says; other hosts' pods are none of ours.
    fn take(&mut self, said: Said) -> Result<(), Failure> {
        self.trouble = None;
        match said {
            Said::State { topic, reset, items, removed } if topic == "pods" => {
                if reset {
                    self.pods.clear();
                }
                for item in items {
                    let pod = read::<Pod>(&item)?;
                    if pod.host_id.as_ref() == Some(&self.host.host.host_id) {
                        self.pods.insert(pod.pod_id.clone(), pod);
                    } else {
                        self.pods.remove(&pod.pod_id);
                    }
                }
                for id in removed {
                    self.pods.remove(&id);
                }
            }
            Said::State { items, removed, .. } => {
                if let Some(item) = items.last() {
                    let before = self.sampled_at();
                    self.host = read(item)?;
                    if self.sampled_at() != before {
                        self.remember();
                    }
                }
                if !removed.is_empty() {
                    self.trouble = Some("the host is gone".into());
                }
            }
            Said::Error { code, detail } => return Err(Failure::failed(format!("{detail} ({code})"))),
            Said::Events { .. } | Said::Reset {} | Said::Subscribed {} | Said::Unsubscribed {} | Said::Pong {} => {}
        }
        Ok(())
    }

    fn sampled_at(&self) -> Option<Timestamp> {
        self.host.host.metrics.as_ref().map(|metrics| metrics.received_at)
    }

    fn remember(&mut self) {
        let Some(sample) = &self.host.sample else { return };
        for (history, value) in [
            (&mut self.cpu, sample.cpu_percent),
            (&mut self.rx, sample.network_rx_bytes_per_second),
            (&mut self.tx, sample.network_tx_bytes_per_second),
        ] {
            if history.len() == REMEMBERED {
                history.pop_front();
            }
            // Figures were checked on the bus: never negative, and far below the largest integer.
            history.push_back(value as u64);
        }
    }
}

fn read<T: DeserializeOwned>(item: &Value) -> Result<T, Failure> {
    T::deserialize(item)
        .map_err(|error| Failure::failed(format!("the gateway sent what this release does not know: {error}")))
}

#[cfg(test)]
mod tests;
