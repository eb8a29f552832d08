//! The uploads of review cases in a folder of their own. They are bytes of strangers: nothing here
//! looks into them, and nothing but a case names them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use ledger::CaseId;
use provenance::Digest;

use crate::images::{TEMPORARY, store_durably, sync_folder};

/// Digits of the upload's digest in its file's name.
const DIGEST_DIGITS: usize = 16;

/// No upload takes this long to write: an older temporary file is what a crash left.
const WRITING_MAX: Duration = Duration::from_secs(3_600);

/// One upload of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadName {
    /// The case that keeps it.
    pub case: CaseId,
    /// Its SHA-256.
    pub sha256: Digest,
}

/// Uploads below a folder that only the service's own user can read: `17-0123456789abcdef.upload`,
/// the number of the case and the first digits of the digest.
#[derive(Debug, Clone)]
pub struct KeptUploads {
    folder: PathBuf,
}

impl KeptUploads {
    /// Opens the store, making its folder where it is missing, and removes what a crash left half
    /// written: no case names it.
    ///
    /// # Errors
    /// When the folder cannot be made, or not closed to others.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        for file in fs::read_dir(&folder)? {
            let file = file?;
            let is_temporary = file.file_name().to_string_lossy().starts_with(TEMPORARY);
            let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
            if is_temporary && age > WRITING_MAX {
                fs::remove_file(file.path())?;
            }
        }
        Ok(Self { folder })
    }

    /// Stores the upload of a case durably. It blocks on the disk.
    ///
    /// # Errors
    /// When the disk refuses: nothing is left then but, at worst, a temporary file, which a later
    /// start removes.
    pub fn put(&self, name: &UploadName, upload: &[u8]) -> io::Result<()> {
        store_durably(&self.folder, &self.path(name), upload)
    }

    /// Reads an upload and checks that it is the one that was stored. It blocks on the disk.
    ///
    /// # Errors
    /// `NotFound`, `InvalidData` when the bytes are not those of the digest, or what the disk says.
    pub fn get(&self, name: &UploadName) -> io::Result<Vec<u8>> {
        let upload = fs::read(self.path(name))?;
        if Digest::of(&upload) != name.sha256 {
            let reason = format!("the upload of case {} has been changed", name.case);
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(upload)
    }

    /// Removes an upload durably. One that is gone already is no error. It blocks on the disk.
    ///
    /// # Errors
    /// What the disk says.
    pub fn erase(&self, name: &UploadName) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync_folder(&self.folder),
        }
    }

    fn path(&self, name: &UploadName) -> PathBuf {
        let digits = name.sha256.to_string();
        let file = format!("{}-{}.upload", name.case, &digits[..DIGEST_DIGITS]);
        self.folder.join(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, KeptUploads) {
        let folder = tempfile::tempdir().unwrap();
        let store = KeptUploads::open(folder.path().join("cases")).unwrap();
        (folder, store)
    }

    fn name(case: i64, upload: &[u8]) -> UploadName {
        UploadName {
            case: CaseId::new(case),
            sha256: Digest::of(upload),
        }
    }

    #[test]
    fn an_upload_comes_back_until_it_is_erased_and_others_stay() {
        let (_folder, store) = store();
        let (first, second) = (name(1, b"upload"), name(2, b"upload"));
        store.put(&first, b"upload").unwrap();
        store.put(&second, b"upload").unwrap();
        assert_eq!(store.get(&first).unwrap(), b"upload");
        store.erase(&first).unwrap();
        store.erase(&first).unwrap();
        let error = store.get(&first).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(store.get(&second).unwrap(), b"upload");
    }

    #[test]
    fn a_changed_upload_is_not_handed_out() {
        let (_folder, store) = store();
        let name = name(1, b"upload");
        store.put(&name, b"upload").unwrap();
        fs::write(store.path(&name), b"another").unwrap();
        let error = store.get(&name).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_a_crash_left_half_written_is_removed_at_a_later_start() {
        let (folder, store) = store();
        let (old, new) = (store.folder.join(".new-old"), store.folder.join(".new-new"));
        for path in [&old, &new] {
            fs::write(path, b"half").unwrap();
        }
        let long_ago = std::time::SystemTime::now() - 2 * WRITING_MAX;
        let file = fs::File::options().write(true).open(&old).unwrap();
        file.set_modified(long_ago).unwrap();
        KeptUploads::open(folder.path().join("cases")).unwrap();
        assert!(!old.exists() && new.exists());
    }

    #[test]
    fn nobody_else_can_read_what_is_kept() {
        let (_folder, store) = store();
        let name = name(1, b"upload");
        store.put(&name, b"upload").unwrap();
        for (path, mode) in [(store.folder.clone(), 0o700), (store.path(&name), 0o600)] {
            let found = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode, "{}", path.display());
        }
    }
}
