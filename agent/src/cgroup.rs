//! What a container's control group says, in version 1 and 2 alike.
//!
//! Under gVisor the group holds the sandbox, which is all that the pod costs the host.
//! Invariant: a figure that the kernel does not have reads 0 or none; a group that is gone is an error, never zeros.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::reading::{Scratch, Source, keyed, number};

/// Counters and levels of one control group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time used since the group was made.
    pub cpu_nanoseconds: u64,
    /// In use, without page cache that can go at once.
    pub memory_bytes: u64,
    /// The limit; none = unlimited.
    pub memory_limit_bytes: Option<u64>,
    /// Read from block devices.
    pub block_read_bytes: u64,
    /// Written to block devices.
    pub block_write_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Time held back by the CPU limit.
    pub throttled_ms: u64,
    /// Processes killed for memory.
    pub oom_kills: u64,
}

/// Which interface the kernel offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller.
    One,
    /// One hierarchy for all.
    Two,
}

impl Version {
    /// What is mounted at `root`, usually `/sys/fs/cgroup`. A hybrid set-up has its controllers in version 1.
    pub fn at(root: &Path) -> Self {
        if root.join("cgroup.controllers").exists() { Self::Two } else { Self::One }
    }
}

/// The files of one container's group.
#[derive(Debug)]
pub enum Group {
    /// In version 1.
    One(Box<One>),
    /// In version 2.
    Two(Box<Two>),
}

/// Files in version 1.
#[derive(Debug)]
pub struct One {
    cpu_usage: Source,
    cpu_stat: Source,
    memory_usage: Source,
    memory_stat: Source,
    oom_control: Source,
    pids: Source,
    block: [Source; 2],
}

/// Files in version 2.
#[derive(Debug)]
pub struct Two {
    cpu_stat: Source,
    memory_current: Source,
    memory_max: Source,
    memory_stat: Source,
    memory_events: Source,
    pids: Source,
    io_stat: Source,
}

impl Group {
    /// Finds the group of process `pid`: `proc` and `root` are `/proc` and `/sys/fs/cgroup`, or recorded ones.
    ///
    /// # Errors
    /// The process is gone, or its groups are not where they should be.
    pub fn of(version: Version, root: &Path, proc: &Path, pid: u32) -> io::Result<Self> {
        let table = fs::read_to_string(proc.join(pid.to_string()).join("cgroup"))?;
        let missing = |what: &str| {
            io::Error::new(io::ErrorKind::NotFound, format!("process {pid} has no control group of {what}"))
        };
        match version {
            Version::One => {
                let within = |controller: &str| {
                    let path = path_of(&table, controller).ok_or_else(|| missing(controller))?;
                    Ok::<PathBuf, io::Error>(root.join(controller).join(path))
                };
                let memory = within("memory")?;
                let block = within("blkio")?;
                Ok(Self::One(Box::new(One {
                    cpu_usage: Source::new(within("cpuacct")?.join("cpuacct.usage")),
                    cpu_stat: Source::new(within("cpu")?.join("cpu.stat")),
                    memory_usage: Source::new(memory.join("memory.usage_in_bytes")),
                    memory_stat: Source::new(memory.join("memory.stat")),
                    oom_control: Source::new(memory.join("memory.oom_control")),
                    pids: Source::new(within("pids")?.join("pids.current")),
                    block: [
                        Source::new(block.join("blkio.throttle.io_service_bytes")),
                        Source::new(block.join("blkio.bfq.io_service_bytes")),
                    ],
                })))
            }
            Version::Two => {
                let path = root.join(path_of(&table, "").ok_or_else(|| missing("version 2"))?);
                Ok(Self::Two(Box::new(Two {
                    cpu_stat: Source::new(path.join("cpu.stat")),
                    memory_current: Source::new(path.join("memory.current")),
                    memory_max: Source::new(path.join("memory.max")),
                    memory_stat: Source::new(path.join("memory.stat")),
                    memory_events: Source::new(path.join("memory.events")),
                    pids: Source::new(path.join("pids.current")),
                    io_stat: Source::new(path.join("io.stat")),
                })))
            }
        }
    }

    /// Reads all of it. With `keep` the descriptors stay open for the next time.
    ///
    /// # Errors
    /// The group is gone, which is to say that the container has ended.
    pub fn read(&mut self, scratch: &mut Scratch, keep: bool) -> io::Result<Usage> {
        match self {
            Self::One(files) => files.read(scratch, keep),
            Self::Two(files) => files.read(scratch, keep),
        }
    }
}

/// A kernel that lacks a figure has no file for it. CPU and memory are asked first and must be there.
fn optional<T: Default>(value: io::Result<&str>, parse: impl FnOnce(&str) -> T) -> T {
    value.map(parse).unwrap_or_default()
}

fn required(text: &str, value: Option<u64>) -> io::Result<u64> {
    value.ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        io::Error::new(io::ErrorKind::InvalidData, format!("expected a number, got {shown:?}"))
    })
}

impl One {
    fn read(&mut self, scratch: &mut Scratch, keep: bool) -> io::Result<Usage> {
        let text = self.cpu_usage.read(scratch, keep)?;
        let cpu_nanoseconds = required(text, number(text))?;
        let text = self.memory_usage.read(scratch, keep)?;
        let memory = required(text, number(text))?;
        let (inactive, limit) = optional(self.memory_stat.read(scratch, keep), |text| {
            (keyed(text, "total_inactive_file").unwrap_or(0), keyed(text, "hierarchical_memory_limit"))
        });
        let [throttle, bfq] = &mut self.block;
        let (mut read, mut written) = optional(throttle.read(scratch, keep), block_one);
        if read == 0 && written == 0 {
            (read, written) = optional(bfq.read(scratch, keep), block_one);
        }
        Ok(Usage {
            cpu_nanoseconds,
            memory_bytes: memory.saturating_sub(inactive),
            // Unlimited is written as the largest number of whole pages.
            memory_limit_bytes: limit.filter(|limit| *limit < 1 << 60),
            block_read_bytes: read,
            block_write_bytes: written,
            pids: optional(self.pids.read(scratch, keep), |text| number(text).unwrap_or(0)),
            throttled_ms: optional(self.cpu_stat.read(scratch, keep), |text| {
                keyed(text, "throttled_time").unwrap_or(0) / 1_000_000
            }),
            oom_kills: optional(self.oom_control.read(scratch, keep), |text| keyed(text, "oom_kill").unwrap_or(0)),
        })
    }
}

impl Two {
    fn read(&mut self, scratch: &mut Scratch, keep: bool) -> io::Result<Usage> {
        let text = self.cpu_stat.read(scratch, keep)?;
        let cpu = required(text, keyed(text, "usage_usec"))?;
        let throttled = keyed(text, "throttled_usec").unwrap_or(0);
        let text = self.memory_current.read(scratch, keep)?;
        let memory = required(text, number(text))?;
        let inactive = optional(self.memory_stat.read(scratch, keep), |text| keyed(text, "inactive_file").unwrap_or(0));
        let (read, written) = optional(self.io_stat.read(scratch, keep), block_two);
        Ok(Usage {
            cpu_nanoseconds: cpu.saturating_mul(1000),
            memory_bytes: memory.saturating_sub(inactive),
            // Unlimited is written as the word max.
            memory_limit_bytes: optional(self.memory_max.read(scratch, keep), number).filter(|limit| *limit < 1 << 60),
            block_read_bytes: read,
            block_write_bytes: written,
            pids: optional(self.pids.read(scratch, keep), |text| number(text).unwrap_or(0)),
            throttled_ms: throttled / 1000,
            oom_kills: optional(self.memory_events.read(scratch, keep), |text| keyed(text, "oom_kill").unwrap_or(0)),
        })
    }
}

/// `8:0 Read 4096` and so on, a line for each device and direction.
fn block_one(text: &str) -> (u64, u64) {
    let (mut read, mut written) = (0_u64, 0_u64);
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (direction, bytes) = (words.next(), words.next().and_then(number).unwrap_or(0));
        match direction {
            Some("Read") => read = read.saturating_add(bytes),
            Some("Write") => written = written.saturating_add(bytes),
            _ => {}
        }
    }
    (read, written)
}

/// `8:0 rbytes=1 wbytes=2 rios=3 …`, a line for each device.
fn block_two(text: &str) -> (u64, u64) {
    let (mut read, mut written) = (0_u64, 0_u64);
    for word in text.split_ascii_whitespace() {
        match word.split_once('=') {
            Some(("rbytes", bytes)) => read = read.saturating_add(number(bytes).unwrap_or(0)),
            Some(("wbytes", bytes)) => written = written.saturating_add(number(bytes).unwrap_or(0)),
            _ => {}
        }
    }
    (read, written)
}

/// From `/proc/<pid>/cgroup`, lines of `7:cpu,cpuacct:/docker/…`: the path below the mount, without its first slash.
/// Version 2 stands behind an empty list of controllers.
fn path_of<'a>(table: &'a str, controller: &str) -> Option<&'a str> {
    table.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        controllers.split(',').any(|one| one == controller).then(|| path.trim_start_matches('/'))
    })
}

#[cfg(test)]
mod tests;
