//! Where samples wait on disk while the bus is away.
//!
//! One file a sample, named after its time, so that the names alone give the order. A file is written beside, synced and
//! renamed: what has the name is whole. The newest samples win: beyond the bound the oldest are dropped and counted.
//! All calls block on the disk; callers run them where that delays nobody.

use std::{
    collections::VecDeque,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use metrics::{counter, gauge};
use pinacle_bus::contract::{SCHEMA_VERSION, decode, encode, metrics::Metrics};
use tracing::{info, warn};

use crate::identity::write_whole;

/// Samples on disk, oldest first.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    most_bytes: u64,
    /// By time; bounded by `most_bytes`, 16 bytes each.
    entries: VecDeque<Entry>,
    bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    at_ms: i64,
    bytes: u64,
}

/// What a small file takes on disk at least; without it a host without pods would fill the disk with small change.
const BLOCK: u64 = 4096;

impl Spool {
    /// Opens the spool in `directory` and finds what an earlier run left in it. What is not whole is removed.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(directory: &Path, most_bytes: u64) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mut entries = Vec::new();
        for file in fs::read_dir(directory)? {
            let file = file?;
            let name = file.file_name();
            match name.to_str().and_then(time_of) {
                Some(at_ms) => entries.push(Entry { at_ms, bytes: size_on_disk(file.metadata()?.len()) }),
                // A write that the end of the last run cut off.
                None => remove(&file.path()),
            }
        }
        entries.sort_unstable_by_key(|entry| entry.at_ms);
        let bytes = entries.iter().map(|entry| entry.bytes).sum();
        let mut spool = Self { directory: directory.to_owned(), most_bytes, entries: entries.into(), bytes };
        if !spool.entries.is_empty() {
            info!(samples = spool.entries.len(), bytes, "samples of an earlier run wait in the spool");
        }
        spool.make_room(0);
        spool.tell();
        Ok(spool)
    }

    /// Puts a sample by, marked late. Returns when it is safe on disk.
    ///
    /// # Errors
    /// When it cannot be written; it is then counted as dropped.
    pub fn push(&mut self, mut sample: Metrics) -> io::Result<()> {
        sample.late = true;
        let at_ms = sample.sampled_at.as_millis();
        let written = encode(&sample).map_err(io::Error::from).and_then(|payload| {
            let bytes = size_on_disk(payload.len() as u64);
            self.make_room(bytes);
            write_whole(&self.path(at_ms), &payload).map(|()| bytes)
        });
        match written {
            Ok(bytes) => {
                let entry = Entry { at_ms, bytes };
                match self.entries.binary_search_by_key(&at_ms, |entry| entry.at_ms) {
                    // The clock was set back between two runs, and the same millisecond came again.
                    Ok(position) => {
                        if let Some(old) = self.entries.get_mut(position) {
                            self.bytes = self.bytes.saturating_sub(old.bytes);
                            *old = entry;
                        }
                    }
                    Err(position) => self.entries.insert(position, entry),
                }
                self.bytes = self.bytes.saturating_add(bytes);
                counter!("pinacle_agent_spool_samples_total", "what" => "stored").increment(1);
            }
            Err(_) => dropped("unwritable"),
        }
        self.tell();
        written.map(|_| ())
    }

    /// The oldest sample that is whole. Broken ones before it are removed and counted. It stays until
    /// [`Spool::remove`].
    pub fn oldest(&mut self) -> Option<Metrics> {
        while let Some(entry) = self.entries.front().copied() {
            let path = self.path(entry.at_ms);
            let sample = fs::read(&path)
                .map_err(|error| error.to_string())
                .and_then(|payload| decode::<Metrics>(SCHEMA_VERSION, &payload).map_err(|error| error.to_string()));
            match sample {
                // The name is what it will be removed by.
                Ok(sample) if sample.sampled_at.as_millis() == entry.at_ms => return Some(sample),
                Ok(_) => warn!(path = %path.display(), "a sample in the spool has another time than its name; removed"),
                Err(reason) => warn!(path = %path.display(), reason, "a sample in the spool is broken; removed"),
            }
            dropped("broken");
            self.drop_front();
            self.tell();
        }
        None
    }

    /// Removes a sample that has arrived.
    pub fn remove(&mut self, sample: &Metrics) {
        let at_ms = sample.sampled_at.as_millis();
        if let Ok(position) = self.entries.binary_search_by_key(&at_ms, |entry| entry.at_ms)
            && let Some(entry) = self.entries.remove(position)
        {
            self.bytes = self.bytes.saturating_sub(entry.bytes);
            remove(&self.path(at_ms));
            counter!("pinacle_agent_spool_samples_total", "what" => "sent").increment(1);
            self.tell();
        }
    }

    fn make_room(&mut self, bytes: u64) {
        let before = self.entries.len();
        while self.bytes.saturating_add(bytes) > self.most_bytes && !self.entries.is_empty() {
            self.drop_front();
            dropped("oldest");
        }
        let gone = before - self.entries.len();
        if gone > 0 {
            warn!(samples = gone, most_bytes = self.most_bytes, "the spool is full; dropped the oldest samples");
        }
    }

    fn drop_front(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes = self.bytes.saturating_sub(entry.bytes);
            remove(&self.path(entry.at_ms));
        }
    }

    fn path(&self, at_ms: i64) -> PathBuf {
        self.directory.join(format!("{at_ms:015}.json"))
    }

    fn tell(&self) {
        gauge!("pinacle_agent_spool_samples").set(self.entries.len() as f64);
        gauge!("pinacle_agent_spool_bytes").set(self.bytes as f64);
    }
}

fn size_on_disk(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK) * BLOCK
}

fn time_of(name: &str) -> Option<i64> {
    let digits = name.strip_suffix(".json").filter(|digits| digits.len() == 15)?;
    digits.parse().ok().filter(|at_ms| *at_ms >= 0)
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        warn!(path = %path.display(), %error, "cannot remove a file of the spool");
    }
}

fn dropped(why: &'static str) {
    counter!("pinacle_agent_spool_dropped_total", "why" => why).increment(1);
}

#[cfg(test)]
mod tests;
