//! A folder for one test: removed at its end, and by the next test when its own was killed.
//!
//! Whoever lives holds a lock on the folder's lock file, and the kernel lets go of it whatever way the process ends;
//! so a folder whose lock is free belongs to nobody.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::leftovers;

const LOCK: &str = "lock";

/// A folder of a test's own. Clones share it; the last one removes it.
#[derive(Clone)]
pub struct Sandbox(Arc<Inner>);

struct Inner {
    path: PathBuf,
    _lock: File,
}

impl Sandbox {
    /// A new, empty folder.
    ///
    /// Short on purpose: Unix sockets in it must not exceed 107 bytes.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        sweep();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = base().join(format!("{}-{number}", std::process::id()));
        // Under the same lock as the sweep, or another test takes the folder for a dead one's before it is locked.
        let guard = base_lock();
        fs::create_dir(&path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        let lock = File::create(path.join(LOCK)).unwrap();
        lock.try_lock().unwrap();
        drop(guard);
        Self(Arc::new(Inner { path, _lock: lock }))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// A new folder in it, or the one that is there.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.0.path.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if std::env::var_os("PINACLE_TEST_KEEP").is_some() {
            eprintln!("kept {}", self.path.display());
        } else {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Clears away what killed tests and labs left, and touches nothing of those that run.
pub fn clear_leftovers() {
    sweep();
}

/// Where all folders of this user's tests are.
pub(crate) fn base() -> PathBuf {
    let base = std::env::temp_dir().join(format!("pinacle-tests-{}", nix::unistd::geteuid()));
    fs::create_dir_all(&base).unwrap_or_else(|error| panic!("cannot make {}: {error}", base.display()));
    base
}

fn base_lock() -> File {
    let lock = File::create(base().join(LOCK)).unwrap();
    lock.lock().unwrap();
    lock
}

/// Removes what tests left that were killed.
fn sweep() {
    let _guard = base_lock();
    for entry in fs::read_dir(base()).unwrap().flatten() {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().contains('-') {
            continue;
        }
        // Without a lock file it was removed while something still wrote into it.
        if let Ok(lock) = File::options().write(true).open(path.join(LOCK))
            && lock.try_lock().is_err()
        {
            continue;
        }
        leftovers::release(&path);
        let _ = fs::remove_dir_all(&path);
    }
}
