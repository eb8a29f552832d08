//! Generated images in a folder, by the digest of their bytes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use provenance::Digest;

/// Images below a folder: `ab/abcd….png`, the first two digits of the digest as a folder.
#[derive(Debug, Clone)]
pub struct ImageStore {
    folder: PathBuf,
}

impl ImageStore {
    /// Opens the store, making its folder where it is missing.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// Stores an image durably and returns its digest. It blocks on the disk.
    ///
    /// # Errors
    /// When the disk refuses: nothing is left then but, at worst, a temporary file.
    pub fn put(&self, image: &[u8]) -> io::Result<Digest> {
        let digest = Digest::of(image);
        let path = self.path(&digest);
        if path.is_file() && self.get(&digest).is_ok() {
            return Ok(digest);
        }
        store_durably(&self.folder, &path, image)?;
        Ok(digest)
    }

    /// Reads an image and checks that it is the one that was stored. It blocks on the disk.
    ///
    /// # Errors
    /// `NotFound`, `InvalidData` when the bytes are not those of the digest any more, or what
    /// the disk says.
    pub fn get(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        let image = fs::read(self.path(digest))?;
        if Digest::of(&image) != *digest {
            let reason = format!("stored image {digest} has been changed");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(image)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.folder.join(&name[..2]).join(format!("{name}.png"))
    }
}

/// Beginning of the names of files that are being written.
pub(crate) const TEMPORARY: &str = ".new-";

/// Writes a file of a store so that it is there whole or not at all, even after a crash. `path` lies
/// in the store's folder or in a folder of it, which is made where it is missing.
pub(crate) fn store_durably(store: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().expect("a file of a store lies in a folder");
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    // A crash here leaves a temporary file that nothing names: waste, not damage.
    file.persist(path).map_err(|refused| refused.error)?;
    sync_folder(folder)?;
    sync_folder(store)
}

/// Makes renames and new files in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_comes_back_and_storing_it_twice_is_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(folder.path().join("images")).unwrap();
        let digest = store.put(b"picture").unwrap();
        assert_eq!(store.put(b"picture").unwrap(), digest);
        assert_eq!(store.get(&digest).unwrap(), b"picture");
    }

    #[test]
    fn a_changed_image_is_not_handed_out_and_storing_repairs_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(folder.path().to_path_buf()).unwrap();
        let digest = store.put(b"picture").unwrap();
        fs::write(store.path(&digest), b"another").unwrap();
        assert_eq!(
            store.get(&digest).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        store.put(b"picture").unwrap();
        assert_eq!(store.get(&digest).unwrap(), b"picture");
    }

    #[test]
    fn an_unknown_digest_is_not_found() {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(folder.path().to_path_buf()).unwrap();
        let error = store.get(&Digest::of(b"never stored")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
