//! The two file locks by which processes share one private cluster.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::LedgerError;

/// Held only while somebody starts, joins or leaves: one process at a time decides.
const DOOR: &str = "door.lock";
/// Held shared by everyone who uses the cluster. The kernel releases it when a process dies.
const USERS: &str = "users.lock";

/// The lock files of one cluster.
#[derive(Debug)]
pub(super) struct Locks {
    folder: PathBuf,
}

/// While this lives, no other process starts, joins or leaves.
#[derive(Debug)]
pub(super) struct Door {
    _file: File,
}

/// While this lives, the last one to leave is somebody else.
#[derive(Debug)]
pub(super) struct UserLock {
    file: File,
}

impl Locks {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Waits until this process alone may decide. Blocks.
    pub(super) fn enter(&self) -> Result<Door, LedgerError> {
        let file = self.open(DOOR)?;
        self.lock(&file, FlockOperation::LockExclusive, DOOR)?;
        Ok(Door { _file: file })
    }

    /// Joins the users. The door must be held, so that nobody stops the cluster meanwhile.
    pub(super) fn join(&self, _door: &Door) -> Result<UserLock, LedgerError> {
        let file = self.open(USERS)?;
        self.lock(&file, FlockOperation::LockShared, USERS)?;
        Ok(UserLock { file })
    }

    fn open(&self, name: &str) -> Result<File, LedgerError> {
        let path = self.folder.join(name);
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| LedgerError::io("open the lock file", &path, source))
    }

    fn lock(&self, file: &File, operation: FlockOperation, name: &str) -> Result<(), LedgerError> {
        flock(file, operation).map_err(|errno| {
            LedgerError::io("lock", &self.folder.join(name), std::io::Error::from(errno))
        })
    }
}

impl UserLock {
    /// Whether nobody else uses the cluster. The door must be held, so that the answer stays true.
    pub(super) fn is_last(&self, _door: &Door) -> bool {
        flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_ok()
    }
}
