//! The files that hold secrets: who may read them, and that they are replaced whole or not at all.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::vault::is_wrapped;
use super::{KeyError, SECRET_FILES, Vault};
use crate::images::sync_folder;

/// Permission bits that a secret file must not have: any of group or others.
const FORBIDDEN_MODE: u32 = 0o077;
/// Above a key with a long chain of certificates.
const SECRET_BYTES_MAX: u64 = 1 << 20;
/// How the files begin that are not yet in their place.
const NEW_PREFIX: &str = ".new-";

/// Writes the secrets of a state folder, which one vault opens, as another one has them, and shows each that
/// is written to `on_written`: those that lie so already are left alone.
///
/// # Errors
/// See [`KeyError`]. A secret that neither vault opens is refused before any is written.
pub fn reseal(
    state: &Path,
    from: &Vault,
    to: &Vault,
    on_written: &mut dyn FnMut(&Path),
) -> Result<(), KeyError> {
    let folder = state.join("keys");
    let _turn = lock(&folder)?;
    remove_leftovers(&folder).map_err(at(&folder))?;
    let mut opened = Vec::new();
    for name in SECRET_FILES {
        let path = folder.join(name);
        if !path.try_exists().map_err(at(&path))? {
            continue;
        }
        let bytes = read_guarded(&path)?;
        if !to.has_sealed(name, &bytes) {
            let secret = from.unseal(name, bytes).map_err(sealed(&path))?;
            opened.push((path, secret));
        }
    }
    for (path, secret) in opened {
        let bytes = to.seal(&name_of(&path), &secret);
        write_whole(&path, &bytes, true).map_err(at(&path))?;
        // A crash here leaves some secrets as they were and the others as they shall be. The same call goes
        // on from there.
        on_written(&path);
    }
    Ok(())
}

/// Reads a secret that nobody else may read, wrapped or not.
pub(crate) fn read_secret(path: &Path, vault: &Vault) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let bytes = read_guarded(path)?;
    if vault.wraps() && !is_wrapped(&bytes) {
        let path = path.display();
        tracing::warn!(%path, "this secret is not wrapped; `retrace key wrap` does it");
    }
    vault.unseal(&name_of(path), bytes).map_err(sealed(path))
}

fn read_guarded(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    check_mode(path)?;
    let file = File::open(path).map_err(at(path))?;
    let length = file.metadata().map_err(at(path))?.len();
    // Reserved at once: growing would leave copies that nobody wipes.
    let room = usize::try_from(length.min(SECRET_BYTES_MAX)).unwrap_or_default() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(SECRET_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(at(path))?;
    Ok(bytes)
}

/// Refuses a secret that others may read.
pub(crate) fn check_mode(path: &Path) -> Result<(), KeyError> {
    let metadata = fs::metadata(path).map_err(at(path))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & FORBIDDEN_MODE != 0 {
        return Err(KeyError::TooOpen {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

/// The name under which a secret is wrapped.
pub(crate) fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Waits for the turn to write in the folder of keys, which ends when the answer is dropped, or the process
/// with it.
pub(crate) fn lock(folder: &Path) -> Result<File, KeyError> {
    let file = File::open(folder).map_err(at(folder))?;
    file.lock().map_err(at(folder))?;
    Ok(file)
}

/// Writes a file that nobody else may read, completely or not at all. Whoever calls it has the turn.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], replace: bool) -> io::Result<()> {
    let folder = path.parent().expect("a key lies in the folder of keys");
    // Temporary files are made with mode 600 and keep it.
    let mut file = tempfile::Builder::new()
        .prefix(NEW_PREFIX)
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    let persisted = match replace {
        true => file.persist(path),
        false => file.persist_noclobber(path),
    };
    persisted.map_err(|refused| refused.error)?;
    sync_folder(folder)
}

/// Removes what a crash left before it was in its place: it may hold a secret that was not wrapped.
fn remove_leftovers(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if name_of(&path).starts_with(NEW_PREFIX) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| KeyError::File { path, source }
}

fn sealed(path: &Path) -> impl FnOnce(super::SealError) -> KeyError {
    let path = path.to_owned();
    move |source| KeyError::Sealed { path, source }
}
