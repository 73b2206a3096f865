//! Samples into the tables: [`intake`] takes messages and encodes them into batches; while the next one is being filled,
//! each [`writer`] writes one, and acknowledges what is committed. No more batches than these are under way.
//!
//! A message is acknowledged after its rows are committed, never before; one that cannot be stored ends as a dead
//! letter with its reason, and the rows of the others are unharmed.

mod batch;
mod doubt;
mod encode;
mod figures;
mod intake;
mod judge;
mod writer;

use std::sync::Arc;

use anyhow::Context as _;
use pinacle_bus::client::Bus;
use pinacle_store::Database;
use tokio::{
    sync::{Mutex, Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{gate::Gate, known::Known, settings::IngestSettings};
use figures::Figures;
use judge::Limits;

/// What the pipeline works with. Cheap to clone.
#[derive(Clone)]
pub struct Pipeline {
    /// Where samples come from.
    pub bus: Bus,
    /// Where they go.
    pub database: Database,
    /// Whether they can go there now.
    pub gate: Gate,
    /// Whose samples are taken.
    pub known: Known,
    /// Sizes and limits.
    pub settings: IngestSettings,
    /// Take in nothing new, finish what is under way.
    pub shutdown: CancellationToken,
}

impl Pipeline {
    /// Runs until shutdown, when what was taken in is written and acknowledged.
    ///
    /// # Errors
    /// When one of its parts failed; what was under way is then delivered again.
    pub async fn run(self) -> anyhow::Result<()> {
        let figures = Figures::new();
        let limits = Limits::new(&self.settings);
        let writers = self.settings.writers;
        let (batches, filled) = mpsc::channel(writers);
        let (spent, spare) = mpsc::channel(writers + 1);
        let filled = Arc::new(Mutex::new(filled));
        // Held by the batches that are being written: the intake hands over the next one when it can get one.
        let writing = Arc::new(Semaphore::new(writers));
        let mut parts = JoinSet::new();
        for _ in 0..writers {
            parts.spawn(writer::Writer::new(self.clone(), figures.clone(), filled.clone(), spent.clone()).run());
        }
        drop((filled, spent));
        parts.spawn(intake::Intake::new(self, figures, limits, writing, batches, spare).run());
        // The intake ends at shutdown and closes the channel, which ends the writers after the last batch. When one of
        // them fails, dropping the set ends the others.
        while let Some(ended) = parts.join_next().await {
            ended.context("join a part of the pipeline")??;
        }
        Ok(())
    }
}
