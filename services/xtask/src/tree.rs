//! One digest over a folder: the SHA-256 of the text that `sha256sum` prints for its files, sorted by path.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// The files below a folder, as paths relative to it, sorted by their bytes. A link is refused: a part is plain files.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in
            fs::read_dir(&next).with_context(|| format!("{} cannot be read", next.display()))?
        {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                let path = entry.path();
                let relative = path
                    .strip_prefix(folder)
                    .context("an entry lies below the folder that lists it")?;
                found.push(relative.to_path_buf());
            } else {
                bail!("{} is neither a file nor a folder", entry.path().display());
            }
        }
    }
    found.sort_by(|left, right| {
        left.as_os_str()
            .as_encoded_bytes()
            .cmp(right.as_os_str().as_encoded_bytes())
    });
    Ok(found)
}

/// The digest of a file's bytes, as 64 lower-case hex digits.
pub fn file_digest(path: &Path) -> Result<String> {
    let mut file =
        File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex::encode(hasher.finalize())),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be read", path.display()));
            }
        }
    }
}

/// The digest of a folder, as 64 lower-case hex digits. File modes do not enter it.
pub fn folder_digest(folder: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    for path in files(folder)? {
        hasher.update(file_digest(&folder.join(&path))?);
        hasher.update(b"  ");
        hasher.update(path.as_os_str().as_encoded_bytes());
        hasher.update(b"\n");
    }
    Ok(hex::encode(hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected value is what `sha256sum` prints for the same two files, through `sha256sum` once more.
    #[test]
    fn a_folders_digest_is_that_of_the_sorted_sha256sum_listing() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        fs::write(folder.path().join("bin/tool"), b"tool\n").unwrap();
        fs::write(folder.path().join("a.txt"), b"a\n").unwrap();
        let listing = format!(
            "{}  a.txt\n{}  bin/tool\n",
            hex::encode(Sha256::digest(b"a\n")),
            hex::encode(Sha256::digest(b"tool\n"))
        );
        assert_eq!(
            folder_digest(folder.path()).unwrap(),
            hex::encode(Sha256::digest(listing))
        );
    }

    #[test]
    fn any_changed_byte_or_name_changes_a_folders_digest() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), b"one").unwrap();
        let before = folder_digest(folder.path()).unwrap();
        fs::write(folder.path().join("a"), b"two").unwrap();
        assert_ne!(folder_digest(folder.path()).unwrap(), before);
        fs::write(folder.path().join("a"), b"one").unwrap();
        fs::rename(folder.path().join("a"), folder.path().join("b")).unwrap();
        assert_ne!(folder_digest(folder.path()).unwrap(), before);
    }

    #[test]
    fn a_link_inside_a_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join("link")).unwrap();
        assert!(folder_digest(folder.path()).is_err());
    }
}
