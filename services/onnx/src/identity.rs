//! Which model this is: the digests of every file that a pipeline may read.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::SystemTime;

use provenance::Digest;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::error::OnnxError;
use crate::folder::{ModelFolder, PART_FOLDERS, SINGLE_FILES};

/// Bytes read at a time while a file is digested.
const CHUNK_BYTES: usize = 1 << 20;

/// Name and digests of a model, as they go into every entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelIdentity {
    /// The last component of `_name_or_path` in `model_index.json`, or the folder's name.
    pub name: String,
    /// SHA-256 of the list that `sha256sum` prints for `parts`: lines of digest, two spaces, path,
    /// sorted by path.
    pub digest: Digest,
    /// SHA-256 of each file, by its path inside the model folder with `/` between components.
    pub parts: BTreeMap<String, Digest>,
}

impl ModelIdentity {
    /// Digests every file of the pipeline's folders and the single files beside them.
    pub(crate) fn of(folder: &ModelFolder) -> Result<Self, OnnxError> {
        let mut parts = BTreeMap::new();
        for name in SINGLE_FILES {
            let path = folder.root().join(name);
            if path.is_file() {
                parts.insert(name.to_owned(), digest_file(&path)?);
            }
        }
        for name in PART_FOLDERS {
            let path = folder.root().join(name);
            if path.is_dir() {
                digest_folder(&path, name, &mut parts)?;
            }
        }
        Ok(Self {
            name: folder.name().to_owned(),
            digest: digest_of_parts(&parts),
            parts,
        })
    }
}

/// The digest over all parts, see [`ModelIdentity::digest`].
pub fn digest_of_parts(parts: &BTreeMap<String, Digest>) -> Digest {
    let list: String = parts
        .iter()
        .map(|(path, digest)| format!("{digest}  {path}\n"))
        .collect();
    Digest::of(list.as_bytes())
}

fn digest_folder(
    folder: &Path,
    prefix: &str,
    parts: &mut BTreeMap<String, Digest>,
) -> Result<(), OnnxError> {
    let entries = std::fs::read_dir(folder).map_err(|error| OnnxError::from_io(folder, &error))?;
    for entry in entries {
        let path = entry
            .map_err(|error| OnnxError::from_io(folder, &error))?
            .path();
        let name = path.file_name().map(|name| name.to_string_lossy());
        let name = format!("{prefix}/{}", name.unwrap_or_default());
        if path.is_dir() {
            digest_folder(&path, &name, parts)?;
        } else {
            parts.insert(name, digest_file(&path)?);
        }
    }
    Ok(())
}

/// What tells that a file is still the one whose digest is known.
#[derive(PartialEq, Eq, Hash)]
struct FileState {
    path: PathBuf,
    bytes: u64,
    modified: Option<SystemTime>,
}

/// Digests known to this process, by path, length and time of change: weights are large, and a
/// model is opened more than once.
static KNOWN: LazyLock<Mutex<HashMap<FileState, Digest>>> = LazyLock::new(Mutex::default);

/// SHA-256 of a file, read in pieces, remembered while length and time of change stay the same.
///
/// # Errors
/// [`OnnxError::FileMissing`] and [`OnnxError::Read`].
pub fn digest_file(path: &Path) -> Result<Digest, OnnxError> {
    let refuse = |error: std::io::Error| OnnxError::from_io(path, &error);
    let absolute = path.canonicalize().map_err(refuse)?;
    let metadata = absolute.metadata().map_err(refuse)?;
    let state = FileState {
        path: absolute,
        bytes: metadata.len(),
        modified: metadata.modified().ok(),
    };
    if let Some(digest) = lock_known().get(&state) {
        return Ok(*digest);
    }
    let digest = stream_digest(&state.path).map_err(refuse)?;
    lock_known().insert(state, digest);
    Ok(digest)
}

fn lock_known() -> std::sync::MutexGuard<'static, HashMap<FileState, Digest>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stream_digest(path: &Path) -> std::io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok(Digest::from_bytes(hasher.finalize().into()));
        }
        hasher.update(&chunk[..count]);
    }
}
