//! A way for another user to a file or folder that lies behind folders it may not enter, such as those below `/root`.
//!
//! The kernel checks no folder on the way to `/proc/self/fd/<number>`: whoever inherits the open file is there already.
//! Permissions of the file itself count as ever.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::part::Account;

/// A path that a child can use. The file stays open while this lives.
#[derive(Clone)]
pub(super) struct Door {
    path: PathBuf,
    _open: Option<Arc<File>>,
}

impl Door {
    /// To `path`: the path itself where `account` may go there, else by an open file that children inherit.
    pub fn to(path: &Path, account: Option<Account>) -> io::Result<Self> {
        if account.is_none_or(|account| may_pass(path, account)) {
            return Ok(Self { path: path.to_owned(), _open: None });
        }
        let open = File::open(path)?;
        fcntl(&open, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
        Ok(Self { path, _open: Some(Arc::new(open)) })
    }

    /// What the child is told.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether every folder above `path` lets a user through.
fn may_pass(path: &Path, account: Account) -> bool {
    path.ancestors().skip(1).filter_map(|folder| folder.metadata().ok()).all(|metadata| {
        let bit = if metadata.uid() == account.uid {
            0o100
        } else if metadata.gid() == account.gid {
            0o010
        } else {
            0o001
        };
        metadata.mode() & bit != 0
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_door_is_the_path_itself_unless_a_folder_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let closed = folder.path().join("closed");
        let inside = closed.join("inside");
        fs::create_dir_all(&inside).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let stranger = Some(Account { uid: 54_321, gid: 54_321 });
        assert_eq!(Door::to(&inside, stranger).unwrap().path(), inside);
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(Door::to(&inside, None).unwrap().path(), inside);
        let door = Door::to(&inside, stranger).unwrap();
        assert!(door.path().starts_with("/proc/self/fd"), "{:?}", door.path());
        assert_eq!(fs::canonicalize(door.path()).unwrap(), fs::canonicalize(&inside).unwrap());
    }
}
