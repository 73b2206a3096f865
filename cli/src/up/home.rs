//! The data folder of one `pinacle up`: made, locked, cleared of what a killed one left, filled with secrets.
//!
//! While a [`Home`] lives no other `pinacle up` has the folder.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::{signal, statvfs::statvfs},
    unistd::Pid,
};
use pinacle_bus::crypto::Key;
use rand::RngExt;
use tokio::time::{Instant, sleep};

use super::ports;
use crate::{failure::Failure, local::Folder};

/// Folders within, and who may look: others must get through to Postgres' own.
const FOLDERS: [(&str, u32); 5] = [("", 0o755), ("secrets", 0o700), ("run", 0o755), ("logs", 0o755), ("bin", 0o755)];
/// Docker ends its containers first.
const GOODBYE: Duration = Duration::from_secs(60);

/// The locked data folder.
pub(super) struct Home {
    pub folder: Folder,
    _lock: Flock<File>,
}

impl Home {
    /// Makes the folder if need be, locks it, and ends what an earlier `up` left running.
    pub async fn open(folder: Folder, min_free_mib: u64) -> Result<Self, Failure> {
        for (inside, mode) in FOLDERS {
            let path = folder.path(inside);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(&path)
                .map_err(|error| Failure::failed(format!("cannot make the folder {}: {error}", path.display())))?;
        }
        let lock = lock(&folder)?;
        require_space(folder.root(), min_free_mib)?;
        end_leftovers(&folder).await?;
        Ok(Self { folder, _lock: lock })
    }

    /// A secret that is made the first time and then stays. The file is its owner's alone.
    pub fn secret(&self, name: &str) -> Result<String, Failure> {
        let path = self.folder.secret(name);
        match fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::failed(format!("cannot read {}: {error}", path.display()))),
        }
        let bytes: [u8; 24] = rand::rng().random();
        // A letter in front: NATS reads variables as values of its own language, where digits begin a number.
        let secret = bytes.iter().fold(String::from("p"), |text, byte| format!("{text}{byte:02x}"));
        self.write_secret(name, &secret)?;
        Ok(secret)
    }

    /// A key for encryption that is made the first time and then stays.
    pub fn key(&self, name: &str) -> Result<(), Failure> {
        if self.has_secret(name) {
            return Ok(());
        }
        self.write_secret(name, &Key::random().to_hex()).map(drop)
    }

    /// Writes a secret, whole or not at all.
    pub fn write_secret(&self, name: &str, value: &str) -> Result<PathBuf, Failure> {
        let path = self.folder.secret(name);
        write_private(&path, &format!("{value}\n"))?;
        Ok(path)
    }

    /// Whether a secret has been made.
    pub fn has_secret(&self, name: &str) -> bool {
        self.folder.secret(name).exists()
    }

    /// `file:` and the path, as settings take a secret.
    pub fn secret_setting(&self, name: &str) -> String {
        format!("file:{}", self.folder.secret(name).display())
    }
}

/// Writes a file that only its owner reads, whole or not at all.
pub(super) fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let temporary = path.with_extension("new");
    let write = || -> anyhow::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        Ok(())
    };
    Ok(write().with_context(|| format!("cannot write {}", path.display()))?)
}

fn lock(folder: &Folder) -> Result<Flock<File>, Failure> {
    let path = folder.path("run/up.lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            // The number is for the line below, in another process.
            let noted =
                lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| write!(lock, "{}", std::process::id()));
            noted.map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
            Ok(lock)
        }
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            // Without the number the line still says enough.
            let _ = file.read_to_string(&mut pid);
            let who = if pid.is_empty() { String::new() } else { format!(" (pid {})", pid.trim()) };
            Err(Failure::failed(format!(
                "another pinacle up{who} runs on {}: stop it first, or choose another folder with --data-dir",
                folder.root().display()
            )))
        }
        Err((_, error)) => Err(Failure::failed(format!("cannot lock {}: {error}", path.display()))),
    }
}

/// Free space for ordinary users, in MiB.
pub(super) fn free_mib(path: &Path) -> Option<u64> {
    let disk = statvfs(path).ok()?;
    Some(disk.blocks_available().saturating_mul(disk.fragment_size()) / (1024 * 1024))
}

fn require_space(root: &Path, min_free_mib: u64) -> Result<(), Failure> {
    match free_mib(root) {
        Some(free) if free < min_free_mib => Err(Failure::failed(format!(
            "the disk of {} has {free} MiB left, {min_free_mib} are needed: make room, or choose another folder with --data-dir",
            root.display()
        ))),
        _ => Ok(()),
    }
}

/// The file that tells a later `up` about a child.
pub(super) fn pid_file(folder: &Folder, name: &str) -> PathBuf {
    folder.path(&format!("run/{name}.pid"))
}

/// Notes a child for a later `up`, in case this one is killed.
pub(super) fn note_pid(folder: &Folder, name: &str, pid: i32) -> std::io::Result<()> {
    fs::write(pid_file(folder, name), format!("{pid} {}", ports::started_at(pid).unwrap_or(0)))
}

/// Children die with the `up` that started them; where that did not work they are ended here, so that nothing runs twice.
async fn end_leftovers(folder: &Folder) -> Result<(), Failure> {
    for entry in fs::read_dir(folder.path("run")).map_err(anyhow::Error::new)?.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "pid") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut words = text.split_whitespace();
        let (pid, start) =
            (words.next().and_then(|word| word.parse::<i32>().ok()), words.next().and_then(|word| word.parse().ok()));
        if let (Some(pid), Some(start)) = (pid, start) {
            end(pid, start).await.map_err(|()| {
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                Failure::failed(format!(
                    "{name} (pid {pid}) is left from an earlier pinacle up and does not end: kill it"
                ))
            })?;
        }
        // A file that stays is looked at again next time.
        let _ = fs::remove_file(&path);
    }
    Ok(())
}

async fn end(pid: i32, start: u64) -> Result<(), ()> {
    let runs = || start != 0 && ports::started_at(pid) == Some(start);
    let began = Instant::now();
    let mut signals =
        [(Duration::ZERO, signal::Signal::SIGINT), (GOODBYE / 2, signal::Signal::SIGKILL)].into_iter().peekable();
    while runs() {
        if let Some((_, signal)) = signals.next_if(|(after, _)| began.elapsed() >= *after) {
            // It may have ended meanwhile; the loop looks.
            let _ = signal::kill(Pid::from_raw(pid), signal);
        }
        if began.elapsed() > GOODBYE {
            return Err(());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
