//! The service's own signing keys, in files that nobody else may read.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use credentials::CredentialsError;
use provenance::{
    CheckpointSigner, EntrySigner, ProvenanceError, PublicKeys, SecretSeed, WitnessSigner,
};

use crate::images::sync_folder;

const ENTRIES_FILE: &str = "entries.seed";
const CHECKPOINT_FILE: &str = "checkpoint.seed";
const WITNESS_FILE: &str = "witness.seed";
/// The public key file, in the state folder.
pub const PUBLIC_KEY_FILE: &str = "retrace.pub";

/// Permission bits that a seed file must not have: any of group or others.
const FORBIDDEN_MODE: u32 = 0o077;

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file cannot be read or written.
    #[error("{} cannot be used: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others can read a secret key.
    #[error("{} may be read by others (mode {mode:o}); set it to 600", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file holds no usable key, or the origin cannot name keys.
    #[error("{} cannot be used: {source}", path.display())]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: ProvenanceError,
    },
    /// Key or certificates of Content Credentials cannot be used.
    #[error("{} cannot be used: {source}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why: of certificates the rule that one breaks.
        source: CredentialsError,
    },
}

/// The signing keys of one log.
#[derive(Debug)]
pub struct Keys {
    /// Signs entries.
    pub entries: EntrySigner,
    /// Signs checkpoints.
    pub checkpoint: CheckpointSigner,
    /// Their public halves.
    pub public: PublicKeys,
    /// Whether a key was made just now.
    pub created: bool,
}

impl Keys {
    /// Whether a state folder holds keys.
    #[must_use]
    pub fn exist(state: &Path) -> bool {
        let folder = state.join("keys");
        [ENTRIES_FILE, CHECKPOINT_FILE]
            .iter()
            .all(|file| folder.join(file).is_file())
    }

    /// Reads the keys of a state folder, making those that are missing, and writes the public
    /// key file.
    ///
    /// # Errors
    /// See [`KeyError`]. No key is ever replaced.
    pub fn open(state: &Path, origin: &str) -> Result<Self, KeyError> {
        let folder = make_keys_folder(state)?;
        let (entries, entries_new) = seed(&folder.join(ENTRIES_FILE))?;
        let (checkpoint, checkpoint_new) = seed(&folder.join(CHECKPOINT_FILE))?;
        let unusable = |source| KeyError::Unusable {
            path: folder.clone(),
            source,
        };
        let entries = EntrySigner::from_seed(origin, entries).map_err(unusable)?;
        let checkpoint = CheckpointSigner::from_seed(origin, checkpoint).map_err(unusable)?;
        let public =
            PublicKeys::new(entries.verifier(), checkpoint.verifier()).map_err(unusable)?;
        write_public(&state.join(PUBLIC_KEY_FILE), &public)?;
        Ok(Self {
            entries,
            checkpoint,
            public,
            created: entries_new || checkpoint_new,
        })
    }
}

/// Reads the key of a witness in this folder, or makes it.
///
/// # Errors
/// See [`KeyError`]. No key is ever replaced.
pub fn open_witness(state: &Path, name: &str) -> Result<WitnessSigner, KeyError> {
    let folder = make_keys_folder(state)?;
    let (seed, _) = seed(&folder.join(WITNESS_FILE))?;
    WitnessSigner::from_seed(name, seed).map_err(|source| KeyError::Unusable {
        path: folder,
        source,
    })
}

/// Makes the folder of keys, which nobody else may enter.
pub(crate) fn make_keys_folder(state: &Path) -> Result<PathBuf, KeyError> {
    let folder = state.join("keys");
    let at_folder = |source| KeyError::File {
        path: folder.clone(),
        source,
    };
    fs::create_dir_all(&folder).map_err(at_folder)?;
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).map_err(at_folder)?;
    Ok(folder)
}

/// Refuses a secret that others may read.
pub(crate) fn check_mode(path: &Path) -> Result<(), KeyError> {
    let metadata = fs::metadata(path).map_err(|source| KeyError::File {
        path: path.to_owned(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & FORBIDDEN_MODE != 0 {
        return Err(KeyError::TooOpen {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

/// Reads a seed file or makes it; says whether it was made.
fn seed(path: &Path) -> Result<(SecretSeed, bool), KeyError> {
    match read_seed(path) {
        Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        read => return read.map(|seed| (seed, false)),
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    let seed = SecretSeed::from_bytes(bytes);
    match write_seed(path, &seed) {
        Ok(()) => Ok((seed, true)),
        // Another process was faster: its key is the key.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            read_seed(path).map(|seed| (seed, false))
        }
        Err(source) => Err(KeyError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

fn read_seed(path: &Path) -> Result<SecretSeed, KeyError> {
    let file = |source| KeyError::File {
        path: path.to_owned(),
        source,
    };
    check_mode(path)?;
    let text = fs::read_to_string(path).map_err(file)?;
    SecretSeed::parse_hex(&text).map_err(|source| KeyError::Unusable {
        path: path.to_owned(),
        source,
    })
}

/// Writes a seed completely or not at all, never over another one.
fn write_seed(path: &Path, seed: &SecretSeed) -> io::Result<()> {
    let folder = path.parent().expect("a seed lies in the folder of keys");
    // Temporary files are made with mode 600 and keep it.
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(folder)?;
    file.write_all(seed.to_hex().as_bytes())?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)
        .map_err(|refused| refused.error)?;
    sync_folder(folder)
}

fn write_public(path: &Path, public: &PublicKeys) -> Result<(), KeyError> {
    let text = public.to_string();
    if fs::read_to_string(path).is_ok_and(|written| written == text) {
        return Ok(());
    }
    fs::write(path, text).map_err(|source| KeyError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "test.local/log";

    #[test]
    fn keys_are_made_once_with_mode_600_and_read_again() {
        let state = tempfile::tempdir().unwrap();
        let first = Keys::open(state.path(), ORIGIN).unwrap();
        assert!(first.created);
        let path = state.path().join("keys").join(ENTRIES_FILE);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let second = Keys::open(state.path(), ORIGIN).unwrap();
        assert!(!second.created);
        assert_eq!(second.public, first.public);
        let written = fs::read_to_string(state.path().join(PUBLIC_KEY_FILE)).unwrap();
        assert_eq!(PublicKeys::parse(&written).unwrap(), first.public);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let state = tempfile::tempdir().unwrap();
        Keys::open(state.path(), ORIGIN).unwrap();
        let path = state.path().join("keys").join(CHECKPOINT_FILE);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = Keys::open(state.path(), ORIGIN).unwrap_err();
        assert!(error.to_string().contains("640"), "{error}");
    }

    #[test]
    fn a_damaged_key_is_refused_without_repeating_it_or_replacing_it() {
        let state = tempfile::tempdir().unwrap();
        Keys::open(state.path(), ORIGIN).unwrap();
        let path = state.path().join("keys").join(ENTRIES_FILE);
        fs::write(&path, "deadbeef").unwrap();
        let error = Keys::open(state.path(), ORIGIN).unwrap_err();
        assert!(!error.to_string().contains("deadbeef"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "deadbeef");
    }
}
