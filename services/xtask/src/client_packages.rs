//! The Python packages with which the tests call the service as its users do: unmodified, pinned by
//! version and digest in `tests/clients/requirements.txt`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::progress::Step;
use crate::workspace::Workspace;
use crate::{setup, tree, wheel};

/// The list of pinned packages, below the root of the checkout.
const REQUIREMENTS: &str = "tests/clients/requirements.txt";
/// Folder of the packages below the runtime folder.
const FOLDER: &str = "clients";
/// File in that folder that says for which list and which Python it was filled.
const STAMP: &str = "installed";

/// Installs the packages unless they are there for this list and this Python. Where they are,
/// nothing is written and the network is not touched.
pub fn bring(workspace: &Workspace) -> Result<()> {
    let requirements = workspace.root().join(REQUIREMENTS);
    let runtime = workspace.runtime();
    let wanted = stamp(&requirements)?;
    let in_place =
        || fs::read_to_string(runtime.join(FOLDER).join(STAMP)).is_ok_and(|found| found == wanted);
    if in_place() {
        return Ok(());
    }
    let _lock = setup::lock(&runtime)?;
    // Another start may have brought them while this one waited.
    if in_place() {
        return Ok(());
    }
    let incoming = runtime.join(setup::INCOMING);
    setup::remove(&incoming)?;
    wheel::make_folder(&incoming)?;
    let ready = incoming.join(FOLDER);
    install(&requirements, &ready)?;
    fs::write(ready.join(STAMP), &wanted).context("the installed packages cannot be marked")?;
    let place = runtime.join(FOLDER);
    // A crash between the two leaves no packages behind, which the next start repairs.
    setup::remove(&place)?;
    fs::rename(&ready, &place)
        .with_context(|| format!("{} cannot be put in place", place.display()))?;
    setup::remove(&incoming)
}

/// What the packages depend on: the list, and the Python that compiled parts are chosen for.
fn stamp(requirements: &Path) -> Result<String> {
    let program = "import platform, sys; print(sys.implementation.cache_tag, platform.machine())";
    let output = Command::new("python3")
        .args(["-c", program])
        .stdin(Stdio::null())
        .output()
        .map_err(wheel::python_missing)?;
    if !output.status.success() {
        bail!(
            "python3 does not run: {}",
            wheel::last_lines(&output.stderr)
        );
    }
    let python = String::from_utf8_lossy(&output.stdout);
    Ok(format!("{} {python}", tree::file_digest(requirements)?))
}

/// Lets pip install the list into a folder; it refuses every file whose digest is not pinned.
fn install(requirements: &Path, folder: &Path) -> Result<()> {
    let step = Step::spinner("installing the client packages of the tests".to_owned());
    let output = Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--require-hashes",
            "--only-binary=:all:",
        ])
        .args([
            "--no-input",
            "--disable-pip-version-check",
            "--quiet",
            "--no-warn-conflicts",
        ])
        .args(["--progress-bar", "off", "--target"])
        .arg(folder)
        .arg("--requirement")
        .arg(requirements)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(wheel::python_missing)?;
    if !output.status.success() {
        bail!(
            "the client packages of the tests cannot be installed (pip's own settings for index and \
             proxy apply):\n{}",
            wheel::last_lines(&output.stderr)
        );
    }
    step.done("digests as pinned");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn every_package_of_the_tests_is_pinned_by_version_and_digest() {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let list = fs::read_to_string(root.join(REQUIREMENTS)).unwrap();
        let mut packages = 0;
        for block in list.replace("\\\n", " ").lines() {
            let (package, digests) = block.split_once("--hash=").unwrap();
            assert!(package.contains("=="), "{package}");
            assert!(digests.starts_with("sha256:"), "{package}");
            packages += 1;
        }
        for package in ["c2pa-python==", "openai==", "webuiapi=="] {
            assert!(
                list.lines().any(|line| line.starts_with(package)),
                "{package}"
            );
        }
        assert!(packages > 10);
    }
}
