//! Where binaries, data and socket lie, so that the user that Postgres runs as can reach them.

use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use provenance::Digest;

use super::ClusterOptions;
use crate::LedgerError;

/// Postgres refuses to run as root, so a service started by root runs it as `nobody`.
pub(super) const UNPRIVILEGED_ID: u32 = 65_534;
/// `sun_path` holds 108 bytes with the closing zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// The name that Postgres gives the socket for the port 5432, which names nothing else here.
const SOCKET_FILE: &str = ".s.PGSQL.5432";
/// Tells where the data went when it could not lie where it was asked for.
const ELSEWHERE: &str = "ELSEWHERE";

/// Where one private cluster lives.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Holds `bin`, `lib` and `share`.
    pub binaries: PathBuf,
    /// Holds the locks, the log and `pgdata`.
    pub home: PathBuf,
    /// Holds the socket.
    pub socket: PathBuf,
    /// The user and group to run Postgres as, when this process is root.
    pub run_as: Option<u32>,
}

impl Place {
    /// The folder that `initdb` fills.
    pub(super) fn pgdata(&self) -> PathBuf {
        self.home.join("pgdata")
    }

    /// Output of the postmaster.
    pub(super) fn log(&self) -> PathBuf {
        self.home.join("postgres.log")
    }
}

/// Chooses and makes the folders. Blocks.
pub(super) fn choose(options: &ClusterOptions) -> Result<Place, LedgerError> {
    let binaries = absolute(&options.binaries)?;
    let asked = absolute(&options.data)?;
    for part in ["bin/postgres", "bin/initdb", "share/postgres.bki"] {
        let path = binaries.join(part);
        if !path.is_file() {
            return Err(LedgerError::MissingNativePart { path });
        }
    }
    make_folder(&asked, 0o700)?;
    let run_as = rustix::process::geteuid()
        .is_root()
        .then_some(UNPRIVILEGED_ID);
    let (binaries, home) = match run_as {
        None => (binaries, asked),
        Some(id) => (
            reachable_binaries(&binaries, &options.system, id)?,
            reachable_home(&asked, &options.system, id)?,
        ),
    };
    if run_as.is_some() {
        // Postgres passes through to `pgdata`; nobody else finds anything to list here.
        set_mode(&home, 0o711)?;
    }
    let socket = socket_folder(&home);
    make_private(&socket, run_as)?;
    Ok(Place {
        binaries,
        home,
        socket,
        run_as,
    })
}

/// Whether a user without any group reaches the folder: each ancestor lets it pass.
fn is_reachable(folder: &Path, id: u32) -> bool {
    folder.ancestors().all(|ancestor| {
        fs::metadata(ancestor).is_ok_and(|metadata| {
            let bit = if metadata.uid() == id { 0o100 } else { 0o001 };
            metadata.mode() & bit != 0
        })
    })
}

fn reachable_home(asked: &Path, system: &Path, id: u32) -> Result<PathBuf, LedgerError> {
    let note = asked.join(ELSEWHERE);
    if let Ok(text) = fs::read_to_string(&note) {
        return Ok(PathBuf::from(text.trim_end()));
    }
    let parent = asked.parent().unwrap_or(Path::new("/"));
    if is_reachable(parent, id) {
        return Ok(asked.to_owned());
    }
    if asked.join("pgdata/PG_VERSION").exists() {
        // Starting an empty cluster elsewhere would look like a lost ledger.
        return Err(LedgerError::ClosedPlace {
            path: asked.to_owned(),
            id,
        });
    }
    let name = &Digest::of(asked.as_os_str().as_bytes()).to_string()[..16];
    let home = system.join(name);
    make_folder(system, 0o755)?;
    make_folder(&home, 0o711)?;
    if !is_reachable(&home, id) {
        return Err(LedgerError::ClosedPlace { path: home, id });
    }
    fs::write(&note, format!("{}\n", home.display()))
        .map_err(|source| LedgerError::io("write", &note, source))?;
    tracing::info!(asked = %asked.display(), home = %home.display(),
        "the folder is closed to the user that postgres runs as; its data lies elsewhere");
    Ok(home)
}

/// Copies the binaries out of a closed folder, under a name that their digest gives.
fn reachable_binaries(binaries: &Path, system: &Path, id: u32) -> Result<PathBuf, LedgerError> {
    if is_reachable(&binaries.join("bin"), id) {
        return Ok(binaries.to_owned());
    }
    let postgres = binaries.join("bin/postgres");
    let bytes = fs::read(&postgres).map_err(|source| LedgerError::io("read", &postgres, source))?;
    let copy = system.join(format!(
        "postgres-{}",
        &Digest::of(&bytes).to_string()[..16]
    ));
    make_folder(system, 0o755)?;
    if !copy.join("bin/postgres").exists() {
        let half = system.join(format!("postgres-copying-{}", std::process::id()));
        for part in ["bin", "lib", "share"] {
            copy_tree(&binaries.join(part), &half.join(part))?;
        }
        // A crash before the rename leaves a folder that nobody uses; the next start copies again.
        if let Err(source) = fs::rename(&half, &copy)
            && !copy.join("bin/postgres").exists()
        {
            return Err(LedgerError::io("rename", &half, source));
        }
    }
    if !is_reachable(&copy.join("bin"), id) {
        return Err(LedgerError::ClosedPlace { path: copy, id });
    }
    Ok(copy)
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), LedgerError> {
    let failed = |source| LedgerError::io("copy", from, source);
    make_folder(to, 0o755)?;
    for item in fs::read_dir(from).map_err(failed)? {
        let item = item.map_err(failed)?;
        let target = to.join(item.file_name());
        if item.path().is_dir() {
            copy_tree(&item.path(), &target)?;
        } else {
            fs::copy(item.path(), &target).map_err(failed)?;
            let mode = fs::metadata(item.path()).map_err(failed)?.mode();
            set_mode(&target, (mode & 0o755) | 0o444 | ((mode & 0o100) >> 6))?;
        }
    }
    Ok(())
}

/// Beside the data where the path is short enough, else under `/tmp`, which every Unix has.
fn socket_folder(home: &Path) -> PathBuf {
    let beside = home.join("socket");
    if beside.join(SOCKET_FILE).as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return beside;
    }
    let name = &Digest::of(home.as_os_str().as_bytes()).to_string()[..16];
    Path::new("/tmp").join(format!("retrace-{name}"))
}

/// Makes a folder that only the user of Postgres may enter, and refuses one that somebody else made.
pub(super) fn make_private(folder: &Path, run_as: Option<u32>) -> Result<(), LedgerError> {
    let owner = run_as.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    if fs::symlink_metadata(folder).is_err() {
        put_private(folder, owner, run_as.is_some())?;
    }
    let metadata = fs::symlink_metadata(folder)
        .map_err(|source| LedgerError::io("look at", folder, source))?;
    if metadata.is_dir() && metadata.uid() == owner && metadata.mode() & 0o077 == 0 {
        Ok(())
    } else {
        Err(LedgerError::ForeignFolder {
            path: folder.to_owned(),
            id: owner,
        })
    }
}

/// Puts a finished folder in its place in one step, so that nobody who comes at the same moment sees it
/// before it is handed over. One that another process has put there meanwhile stays.
fn put_private(folder: &Path, owner: u32, hand_over: bool) -> Result<(), LedgerError> {
    let parent = folder.parent().unwrap_or(Path::new("/"));
    let fresh = tempfile::Builder::new()
        .prefix("private-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .map_err(|source| LedgerError::io("make", folder, source))?;
    if hand_over {
        std::os::unix::fs::chown(fresh.path(), Some(owner), Some(owner))
            .map_err(|source| LedgerError::io("hand over", folder, source))?;
    }
    match fs::rename(fresh.path(), folder) {
        Ok(()) => {
            // It is where it belongs; nothing is left to remove.
            let _ = fresh.keep();
            Ok(())
        }
        Err(_) if fs::symlink_metadata(folder).is_ok() => Ok(()),
        Err(source) => Err(LedgerError::io("make", folder, source)),
    }
}

/// Makes a folder and its parents; the mode is given to the last one when it is new.
fn make_folder(folder: &Path, mode: u32) -> Result<(), LedgerError> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(|source| LedgerError::io("make", folder, source))?;
    set_mode(folder, mode)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), LedgerError> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|source| LedgerError::io("set the mode of", path, source))
}

fn absolute(path: &Path) -> Result<PathBuf, LedgerError> {
    match fs::canonicalize(path) {
        Ok(path) => Ok(path),
        Err(_) => {
            std::path::absolute(path).map_err(|source| LedgerError::io("resolve", path, source))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_data_path_gets_a_short_socket_folder() {
        let short = Path::new("/srv/retrace/postgres");
        assert_eq!(socket_folder(short), short.join("socket"));
        let long = Path::new("/srv").join("x".repeat(100));
        let socket = socket_folder(&long);
        assert!(socket.starts_with("/tmp"), "{}", socket.display());
        assert!(socket.join(SOCKET_FILE).as_os_str().len() <= SOCKET_PATH_BYTES_MAX);
    }
}
