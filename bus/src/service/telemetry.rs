//! Logs and figures: started once, at the beginning of the process.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::settings::{LogFormat, LogSettings};

static FIGURES: OnceLock<PrometheusHandle> = OnceLock::new();

/// Bounds of every histogram whose name ends in `_seconds`: from 1 ms to a minute, each 1.5 times the one before, so that
/// a quantile read from them is off by a fifth at most.
fn bounds() -> Vec<f64> {
    std::iter::successors(Some(0.001), |bound| Some(bound * 1.5)).take_while(|bound| *bound < 60.0).collect()
}

/// Starts the log on standard error and the recorder of figures. A second call changes nothing.
pub(super) fn start(name: &'static str, settings: &LogSettings) {
    let (filter, fault) = match EnvFilter::try_new(&settings.filter) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = match settings.format {
        LogFormat::Human => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(colour).with_target(false)).try_init()
        }
        LogFormat::Json => {
            registry.with(fmt::layer().with_writer(std::io::stderr).json().flatten_event(true)).try_init()
        }
    };
    if let Some(fault) = fault {
        tracing::warn!(%fault, "log.filter cannot be read; logging from info on");
    }
    if started.is_err() {
        tracing::debug!("logging runs already");
    }
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!(service = name, "panicked: {panic}");
    }));
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &bounds())
        .unwrap_or_else(|_| PrometheusBuilder::new())
        .build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_ok() {
        // Ours is the one that was just installed, so the cell is empty.
        let _ = FIGURES.set(handle);
    }
}

/// All figures in Prometheus' text format.
pub(super) fn figures() -> String {
    FIGURES.get().map_or_else(String::new, |handle| {
        handle.run_upkeep();
        handle.render()
    })
}

/// Empties the buffers of histograms, which otherwise grow until somebody reads them.
pub(super) fn upkeep() {
    if let Some(handle) = FIGURES.get() {
        handle.run_upkeep();
    }
}
