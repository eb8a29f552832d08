//! The last signed checkpoint, in a file outside the database.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;

use provenance::{CheckpointKeys, ProvenanceError, SignedCheckpoint, TreeSize};
use rustix::fs::{FlockOperation, flock};

use crate::LedgerError;
use crate::blocking::blocking;

/// A signed checkpoint has a few hundred bytes; a file over this is something else.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A folder with the last signed checkpoint. What stands here was signed or is about to be published,
/// and nothing smaller or contradicting is ever signed after it.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
}

impl CheckpointStore {
    /// The store in this folder, which is made when something is first stored.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            inner: Arc::new(Inner { folder }),
        }
    }

    /// The last signed checkpoint; none when nothing was ever stored. Its signature is not verified here: which
    /// key it needs, the log says.
    ///
    /// # Errors
    /// Refuses a file that is no checkpoint.
    pub async fn read(&self) -> Result<Option<SignedCheckpoint>, LedgerError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.read()).await
    }

    /// Verifies what was read, whatever was revoked since.
    ///
    /// # Errors
    /// Refuses a checkpoint that the log's keys have not signed.
    pub fn verify(
        &self,
        stored: &SignedCheckpoint,
        log: &CheckpointKeys,
    ) -> Result<(), LedgerError> {
        let verified = log.verify_signature(stored);
        verified.map(drop).map_err(|error| self.damaged(&error))
    }

    /// Verifies as [`verify`](Self::verify) does, under the keys of a log with so many recorded entries.
    pub(super) fn verify_recorded(
        &self,
        stored: &SignedCheckpoint,
        log: &CheckpointKeys,
        recorded: TreeSize,
    ) -> Result<(), LedgerError> {
        let signed = stored.unverified().tree_size;
        match log.verify_signature(stored) {
            Ok(_) => Ok(()),
            // A log that was set back may not know the key yet.
            Err(ProvenanceError::CheckpointKeyUnseen { .. }) if signed > recorded => {
                Err(LedgerError::RolledBack { recorded, signed })
            }
            Err(error) => Err(self.damaged(&error)),
        }
    }

    fn damaged(&self, error: &ProvenanceError) -> LedgerError {
        LedgerError::CheckpointStoreDamaged {
            path: self.path(),
            detail: error.to_string(),
        }
    }

    /// Replaces the checkpoint if it is still the expected one, and makes that durable. Whether the next
    /// one continues it is for the caller to ensure.
    ///
    /// # Errors
    /// [`LedgerError::CheckpointStoreChanged`] when it is not, and what the file system says.
    pub async fn replace(
        &self,
        expected: Option<&SignedCheckpoint>,
        next: &SignedCheckpoint,
    ) -> Result<(), LedgerError> {
        let inner = Arc::clone(&self.inner);
        let (expected, next) = (expected.cloned(), next.clone());
        blocking(move || inner.replace(expected.as_ref(), &next)).await
    }

    /// The file.
    pub(super) fn path(&self) -> PathBuf {
        self.inner.path()
    }
}

impl Inner {
    fn path(&self) -> PathBuf {
        self.folder.join("checkpoint")
    }

    fn read(&self) -> Result<Option<SignedCheckpoint>, LedgerError> {
        let path = self.path();
        let damaged = |detail: String| LedgerError::CheckpointStoreDamaged {
            path: path.clone(),
            detail,
        };
        match fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LedgerError::io("read", &path, source)),
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
                return Err(damaged(format!("it has more than {FILE_BYTES_MAX} bytes")));
            }
            Ok(_) => {}
        }
        let bytes = fs::read(&path).map_err(|source| LedgerError::io("read", &path, source))?;
        let text = String::from_utf8(bytes).map_err(|error| damaged(error.to_string()))?;
        let checkpoint = SignedCheckpoint::parse(&text);
        checkpoint
            .map(Some)
            .map_err(|error| damaged(error.to_string()))
    }

    /// Compare and swap, under a file lock. The file is written beside and renamed over, with all
    /// three made durable in this order, so that a crash leaves the old checkpoint or the new one.
    fn replace(
        &self,
        expected: Option<&SignedCheckpoint>,
        next: &SignedCheckpoint,
    ) -> Result<(), LedgerError> {
        let path = self.path();
        let beside = self.folder.join("checkpoint.next");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|source| LedgerError::io("make", &self.folder, source))?;
        let _lock = self.lock()?;
        if self.read()?.as_ref() != expected {
            return Err(LedgerError::CheckpointStoreChanged);
        }
        let failed = |source| LedgerError::io("write", &beside, source);
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)
            .map_err(failed)?;
        file.write_all(next.text().as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&beside, &path).map_err(|source| LedgerError::io("replace", &path, source))?;
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| LedgerError::io("make durable", &self.folder, source))
    }

    fn lock(&self) -> Result<File, LedgerError> {
        let path = self.folder.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| LedgerError::io("open", &path, source))?;
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|errno| LedgerError::io("lock", &path, errno.into()))?;
        Ok(file)
    }
}
