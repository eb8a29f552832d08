//! The programs of the workspace, as cargo builds them for the tests.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex};

use anyhow::{Context, Result, bail};

use crate::house::root;

static BUILT: LazyLock<Mutex<BTreeMap<String, PathBuf>>> = LazyLock::new(Mutex::default);

/// The path of a program, built from the sources as they are now. Where it is fresh, cargo only says where it lies.
///
/// # Errors
/// When the program is not known or does not build.
pub fn program(name: &str) -> Result<PathBuf> {
    let mut built = BUILT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(path) = built.get(name) {
        return Ok(path.clone());
    }
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(root())
        .args([
            "build",
            "--quiet",
            "--message-format=json",
            "--workspace",
            "--bin",
            name,
        ])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be started")?;
    if !output.status.success() {
        bail!("cargo build of {name} failed with {}", output.status);
    }
    let path = String::from_utf8(output.stdout)?
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo did not say where {name} lies"))?;
    built.insert(name.to_owned(), path.clone());
    Ok(path)
}
