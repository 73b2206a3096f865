//! Who this host is, over restarts: an id in the state directory, which belongs to one agent at a time.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use pinacle_bus::contract::HostId;

/// The state directory, held for this process alone until it is dropped.
#[derive(Debug)]
pub struct Identity {
    /// The host's id.
    pub host_id: HostId,
    /// Kept for its lock, which the system lifts when the process ends, however it ends.
    _lock: File,
}

/// Why the agent has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The directory or a file in it cannot be used.
    #[error("cannot use {} (agent.state_dir)", .path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another agent has it.
    #[error("another agent runs with {} (agent.state_dir); stop it or give this one a directory of its own", .path.display())]
    Taken {
        /// The directory.
        path: PathBuf,
    },
    /// The file with the id holds something else.
    #[error("{} holds no host id; restore it, or remove it to become a new host", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: pinacle_bus::contract::InvalidId,
    },
}

/// The state directory, taken for this process, before it is known who the host is.
#[derive(Debug)]
pub struct Taken {
    directory: PathBuf,
    lock: File,
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> IdentityError + use<> {
    let path = path.to_owned();
    move |source| IdentityError::Unusable { path, source }
}

impl Taken {
    /// Takes the directory for this process.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn new(directory: &Path) -> Result<Self, IdentityError> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(unusable(directory))?;
        let path = directory.join("agent.lock");
        let lock = private().open(&path).map_err(unusable(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(IdentityError::Taken { path: directory.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(IdentityError::Unusable { path, source }),
        }
        Ok(Self { directory: directory.to_owned(), lock })
    }

    /// Who the host is: `given` where its credentials name it, and then kept for whoever looks; else it is read from the
    /// directory, or made at the first start.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn identity(self, given: Option<HostId>) -> Result<Identity, IdentityError> {
        let path = self.directory.join("host_id");
        let found = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(IdentityError::Unusable { path, source }),
        };
        let host_id = match (given, &found) {
            (Some(given), _) => given,
            (None, Some(text)) => {
                text.trim().parse().map_err(|source| IdentityError::Damaged { path: path.clone(), source })?
            }
            (None, None) => HostId::new(),
        };
        let text = format!("{host_id}\n");
        if found.as_ref() != Some(&text) {
            write_whole(&path, text.as_bytes()).map_err(unusable(&path))?;
        }
        Ok(Identity { host_id, _lock: self.lock })
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
}

/// Writes a file so that it is there whole or not at all, whenever the power goes.
///
/// # Errors
/// What the system says; a file of that name is then as it was.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let written = (|| {
        let mut file = private().open(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        // The new name lives in the directory, which is a file of its own.
        path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    })();
    if written.is_err() {
        // A full disk shall not stay full for our sake; that it is gone already is as good.
        let _ = fs::remove_file(&partial);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn take(directory: &Path, given: Option<HostId>) -> Result<Identity, IdentityError> {
        Taken::new(directory)?.identity(given)
    }

    #[test]
    fn a_second_start_finds_the_same_id() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let first = take(&path, None).unwrap().host_id;
        assert_eq!(take(&path, None).unwrap().host_id, first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn credentials_say_who_a_host_is_and_the_directory_remembers() {
        let directory = tempfile::tempdir().unwrap();
        let first = take(directory.path(), None).unwrap().host_id;
        let given = HostId::new();
        assert_eq!(take(directory.path(), Some(given)).unwrap().host_id, given);
        assert_ne!(take(directory.path(), None).unwrap().host_id, first);
        assert_eq!(take(directory.path(), None).unwrap().host_id, given);
    }

    #[test]
    fn two_agents_cannot_share_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let first = take(directory.path(), None).unwrap();
        assert!(matches!(take(directory.path(), None), Err(IdentityError::Taken { .. })));
        drop(first);
        assert!(take(directory.path(), None).is_ok());
    }

    #[test]
    fn a_damaged_id_is_never_replaced_silently() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("host_id"), "host_short").unwrap();
        assert!(matches!(take(directory.path(), None), Err(IdentityError::Damaged { .. })));
        assert_eq!(fs::read_to_string(directory.path().join("host_id")).unwrap(), "host_short");
    }
}
