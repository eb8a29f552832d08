//! The service's own signing keys, in files that nobody else may read.

mod checkpoints;
mod elsewhere;
mod rotation;
mod secrets;
mod vault;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use credentials::CredentialsError;
use provenance::{
    CheckpointSigner, EntrySigner, KeyFile, ProvenanceError, PublicKeys, SecretSeed,
    SigningFailure, WitnessSigner,
};
use zeroize::Zeroizing;

use self::checkpoints::Held;
pub use self::secrets::reseal;
pub(crate) use self::secrets::{check_mode, lock, name_of, read_secret, write_whole};
pub use self::vault::{SealError, Vault};
use crate::signer::{KeyPurpose, SignerAddress};

const ENTRIES_FILE: &str = "entries.seed";
/// The entry key that is to follow, from when it is made until the log names it and it takes the other's place.
const ENTRIES_NEXT_FILE: &str = "entries.next.seed";
/// The public half of the log's first entry key, once another one has followed.
const ENTRIES_FIRST_FILE: &str = "entries.first.pub";
const CHECKPOINT_FILE: &str = "checkpoint.seed";
/// The checkpoint key that is to follow, until the log names it and it takes the other's place.
const CHECKPOINT_NEXT_FILE: &str = "checkpoint.next.seed";
/// The one before, while it signs as well.
const CHECKPOINT_OLD_FILE: &str = "checkpoint.old.seed";
/// The public half of the log's first checkpoint key, once another one has followed.
const CHECKPOINT_FIRST_FILE: &str = "checkpoint.first.pub";
const WITNESS_FILE: &str = "witness.seed";
const WATERMARK_FILE: &str = "watermark.seed";
/// The key of Content Credentials with its chain.
pub(crate) const CREDENTIALS_FILE: &str = "credentials.pem";
/// Every file of the folder of keys that holds a secret.
const SECRET_FILES: [&str; 8] = [
    ENTRIES_FILE,
    ENTRIES_NEXT_FILE,
    CHECKPOINT_FILE,
    CHECKPOINT_NEXT_FILE,
    CHECKPOINT_OLD_FILE,
    WITNESS_FILE,
    WATERMARK_FILE,
    CREDENTIALS_FILE,
];
/// The public key file, in the state folder.
pub const PUBLIC_KEY_FILE: &str = "retrace.pub";

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
    /// The log's entries are signed by a key that is not there.
    #[error("the log's entries are signed by {current}, and {} holds {found}: bring back the key", folder.display())]
    OtherEntryKey {
        /// The folder of keys.
        folder: PathBuf,
        /// The key that the log names, as `name+id`.
        current: String,
        /// The key that is there.
        found: String,
    },
    /// The log's checkpoints are signed by a key that is not there.
    #[error("the log's checkpoints are signed by {current}, and {} holds {found}: bring back the key", folder.display())]
    OtherCheckpointKey {
        /// The folder of keys.
        folder: PathBuf,
        /// The key that the log names, as `name+id`.
        current: String,
        /// The key that is there.
        found: String,
    },
    /// The log has keys, and their secrets are not here.
    #[error(
        "{} names the keys of this log, and {} is not there: bring the seed back, or name the signer that \
         holds it with --signer unix:PATH or RETRACE_SIGNER", public.display(), seed.display()
    )]
    SeedMissing {
        /// The public key file.
        public: PathBuf,
        /// The file of the seed.
        seed: PathBuf,
    },
    /// The signer does not say which keys it holds.
    #[error("the signer at {address} cannot be used: {failure}")]
    Signer {
        /// Where it should answer.
        address: SignerAddress,
        /// Why.
        failure: SigningFailure,
    },
    /// The signer says that it holds something that is no pair of keys.
    #[error("the keys of the signer at {address} cannot be used: {source}")]
    SignerKeys {
        /// Where it answers.
        address: SignerAddress,
        /// What is wrong with them.
        source: ProvenanceError,
    },
    /// The signer belongs to another log.
    #[error("the signer at {address} holds the keys of {found}, not of {origin}")]
    SignerOrigin {
        /// Where it answers.
        address: SignerAddress,
        /// The log's name here.
        origin: String,
        /// The log's name there.
        found: String,
    },
    /// A wrapped secret does not open, or a passphrase is none.
    #[error("{} cannot be used: {source}", path.display())]
    Sealed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SealError,
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

/// Where secrets lie, what opens them, and what time it is.
#[derive(Debug, Clone, Copy)]
pub struct KeyPlace<'a> {
    /// The state folder.
    pub state: &'a Path,
    /// What opens the secrets.
    pub vault: &'a Vault,
    /// Milliseconds since 1970 UTC.
    pub now_ms: u64,
}

/// The signing keys of one log.
#[derive(Debug)]
pub struct Keys {
    /// Signs entries.
    pub entries: EntrySigner,
    /// Signs checkpoints.
    pub checkpoint: CheckpointSigner,
    /// Sign checkpoints once the log names them, or beside the key that has followed.
    pub other_checkpoints: Vec<CheckpointSigner>,
    /// Signs entries once the log names it.
    pub next: Option<EntrySigner>,
    /// The keys that name the log: the first entry key and the first checkpoint key.
    pub public: PublicKeys,
    /// Whether a key was made just now.
    pub created: bool,
    /// What is signed for, here or by the signer that holds the keys.
    purposes: Vec<KeyPurpose>,
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
    /// key file. What the vault wraps is wrapped when it is made.
    ///
    /// # Errors
    /// See [`KeyError`]. No key is ever replaced, and none is made for a log that has others.
    pub fn open(state: &Path, origin: &str, vault: &Vault) -> Result<Self, KeyError> {
        let folder = make_keys_folder(state)?;
        check_not_lost(state, &folder)?;
        let (entries, entries_new) = seed(&folder.join(ENTRIES_FILE), vault)?;
        let checkpoints = Held::open(&folder, origin, vault)?;
        let unusable = |source| KeyError::Unusable {
            path: folder.clone(),
            source,
        };
        let entries = EntrySigner::from_seed(origin, entries).map_err(unusable)?;
        let next = rotation::next(&folder, origin, vault)?;
        let first = rotation::first(&folder)?.unwrap_or_else(|| entries.verifier());
        let checkpoint = checkpoints::first(&folder)?;
        let checkpoint = checkpoint.unwrap_or_else(|| checkpoints.placed.verifier());
        let public = PublicKeys::new(first, checkpoint).map_err(unusable)?;
        keep_public(state, &public)?;
        Ok(Self {
            entries,
            next,
            checkpoint: checkpoints.placed,
            other_checkpoints: checkpoints.others,
            public,
            created: entries_new || checkpoints.created,
            purposes: vec![KeyPurpose::Entries, KeyPurpose::Checkpoints],
        })
    }
}

/// Reads the key of a witness in this folder, or makes it.
///
/// # Errors
/// See [`KeyError`]. No key is ever replaced.
pub fn open_witness(state: &Path, name: &str, vault: &Vault) -> Result<WitnessSigner, KeyError> {
    let folder = make_keys_folder(state)?;
    let (seed, _) = seed(&folder.join(WITNESS_FILE), vault)?;
    WitnessSigner::from_seed(name, seed).map_err(|source| KeyError::Unusable {
        path: folder,
        source,
    })
}

/// Whether a state folder holds the seed of the watermark.
#[must_use]
pub fn has_watermark(state: &Path) -> bool {
    state.join("keys").join(WATERMARK_FILE).is_file()
}

/// Reads the seed of the watermark in this folder, or makes it.
///
/// # Errors
/// See [`KeyError`]. No key is ever replaced.
pub fn open_watermark(state: &Path, vault: &Vault) -> Result<SecretSeed, KeyError> {
    let folder = make_keys_folder(state)?;
    seed(&folder.join(WATERMARK_FILE), vault).map(|(seed, _)| seed)
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

/// Reads a seed file or makes it; says whether it was made.
fn seed(path: &Path, vault: &Vault) -> Result<(SecretSeed, bool), KeyError> {
    match read_seed(path, vault) {
        Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        read => return read.map(|seed| (seed, false)),
    }
    let _turn = lock(path.parent().expect("a seed lies in the folder of keys"))?;
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).expect("the operating system has randomness");
    let seed = SecretSeed::from_bytes(*bytes);
    let text = Zeroizing::new(format!("{}\n", *seed.to_hex()));
    match write_whole(path, &vault.seal(&name_of(path), text.as_bytes()), false) {
        Ok(()) => Ok((seed, true)),
        // Another process was faster: its key is the key.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            read_seed(path, vault).map(|seed| (seed, false))
        }
        Err(source) => Err(KeyError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The public half of a key in a file, where there is one.
fn public_half<K: FromStr<Err = ProvenanceError>>(path: &Path) -> Result<Option<K>, KeyError> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(at(path))?,
    };
    let key = text.trim_end_matches('\n').parse();
    key.map(Some).map_err(|source| KeyError::Unusable {
        path: path.to_owned(),
        source,
    })
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| KeyError::File { path, source }
}

fn read_seed(path: &Path, vault: &Vault) -> Result<SecretSeed, KeyError> {
    let bytes = read_secret(path, vault)?;
    // What is no text is no seed either.
    let text = str::from_utf8(&bytes).unwrap_or_default();
    SecretSeed::parse_hex(text).map_err(|source| KeyError::Unusable {
        path: path.to_owned(),
        source,
    })
}

/// Refuses to make other keys for a log whose keys are known: its seeds are lost, or a signer has them.
fn check_not_lost(state: &Path, folder: &Path) -> Result<(), KeyError> {
    let public = state.join(PUBLIC_KEY_FILE);
    let seeds = [ENTRIES_FILE, CHECKPOINT_FILE].map(|file| folder.join(file));
    let missing = seeds.into_iter().find(|seed| !seed.exists());
    match missing {
        Some(seed) if public.exists() => Err(KeyError::SeedMissing { public, seed }),
        _ => Ok(()),
    }
}

/// Writes the public key file where it does not name these keys. What it says besides about later keys comes
/// from the log, see [`write_public`].
fn keep_public(state: &Path, public: &PublicKeys) -> Result<(), KeyError> {
    let written = fs::read_to_string(state.join(PUBLIC_KEY_FILE));
    if written.is_ok_and(|text| text.starts_with(&public.to_string())) {
        return Ok(());
    }
    write_public(state, &KeyFile::new(public.clone()))
}

/// Writes the public key file, unless it says the same already.
///
/// # Errors
/// When it cannot be written.
pub fn write_public(state: &Path, file: &KeyFile) -> Result<(), KeyError> {
    let (path, text) = (state.join(PUBLIC_KEY_FILE), file.to_string());
    if fs::read_to_string(&path).is_ok_and(|written| written == text) {
        return Ok(());
    }
    fs::write(&path, text).map_err(|source| KeyError::File { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "test.local/log";

    #[test]
    fn keys_are_made_once_with_mode_600_and_read_again() {
        let state = tempfile::tempdir().unwrap();
        let first = Keys::open(state.path(), ORIGIN, &Vault::default()).unwrap();
        assert!(first.created);
        let path = state.path().join("keys").join(ENTRIES_FILE);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let second = Keys::open(state.path(), ORIGIN, &Vault::default()).unwrap();
        assert!(!second.created);
        assert_eq!(second.public, first.public);
        let written = fs::read_to_string(state.path().join(PUBLIC_KEY_FILE)).unwrap();
        assert_eq!(PublicKeys::parse(&written).unwrap(), first.public);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let state = tempfile::tempdir().unwrap();
        Keys::open(state.path(), ORIGIN, &Vault::default()).unwrap();
        let path = state.path().join("keys").join(CHECKPOINT_FILE);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = Keys::open(state.path(), ORIGIN, &Vault::default()).unwrap_err();
        assert!(error.to_string().contains("640"), "{error}");
    }

    #[test]
    fn a_damaged_key_is_refused_without_repeating_it_or_replacing_it() {
        let state = tempfile::tempdir().unwrap();
        Keys::open(state.path(), ORIGIN, &Vault::default()).unwrap();
        let path = state.path().join("keys").join(ENTRIES_FILE);
        fs::write(&path, "deadbeef").unwrap();
        let error = Keys::open(state.path(), ORIGIN, &Vault::default()).unwrap_err();
        assert!(!error.to_string().contains("deadbeef"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "deadbeef");
    }

    /// How many secrets were wrapped.
    fn wrap(state: &Path, vault: &Vault) -> usize {
        let mut wrapped = 0;
        reseal(state, &Vault::default(), vault, &mut |_| wrapped += 1).unwrap();
        wrapped
    }

    fn passphrase(folder: &Path, text: &str) -> PathBuf {
        let path = folder.join("passphrase");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    #[test]
    fn keys_that_were_made_plain_are_wrapped_once_and_open_with_the_passphrase_alone() {
        let (state, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let plain = Keys::open(state.path(), ORIGIN, &Vault::default()).unwrap();
        let file = passphrase(elsewhere.path(), "correct horse battery\n");
        let vault = Vault::open(Some(&file)).unwrap();
        let still = Keys::open(state.path(), ORIGIN, &vault).unwrap();
        assert_eq!(still.public, plain.public);
        assert_eq!(wrap(state.path(), &vault), 2);
        assert_eq!(wrap(state.path(), &vault), 0);
        let path = state.path().join("keys").join(ENTRIES_FILE);
        assert!(
            fs::read_to_string(&path)
                .unwrap()
                .starts_with("retrace-wrapped@v1 ")
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let wrapped = Keys::open(state.path(), ORIGIN, &vault).unwrap();
        assert!(!wrapped.created && wrapped.public == plain.public);
        let error = Keys::open(state.path(), ORIGIN, &Vault::default()).unwrap_err();
        assert!(
            error.to_string().contains("--key-passphrase-file"),
            "{error}"
        );
        // One purpose's secret under the name of another.
        let swapped = state.path().join("keys").join(CHECKPOINT_FILE);
        fs::copy(&path, &swapped).unwrap();
        let error = Keys::open(state.path(), ORIGIN, &vault).unwrap_err();
        assert!(error.to_string().contains("renamed"), "{error}");
    }

    #[test]
    fn keys_are_made_wrapped_where_there_is_a_passphrase() {
        let (state, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = passphrase(elsewhere.path(), "correct horse battery");
        let vault = Vault::open(Some(&file)).unwrap();
        let made = Keys::open(state.path(), ORIGIN, &vault).unwrap();
        assert!(made.created && wrap(state.path(), &vault) == 0);
        let witness = open_witness(state.path(), "witness.test/w", &vault).unwrap();
        let again = open_witness(state.path(), "witness.test/w", &vault).unwrap();
        assert_eq!(witness.verifier(), again.verifier());
        fs::write(&file, "short").unwrap();
        assert!(Vault::open(Some(&file)).is_err());
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        let error = Vault::open(Some(&file)).unwrap_err();
        assert!(error.to_string().contains("644"), "{error}");
    }
}
