//! `cargo xtask test`: every test of the workspace.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::workspace::Workspace;
use crate::{client_packages, setup};

/// Brings the native parts and the client packages of the tests, and runs `cargo test --workspace`, documentation examples included. Further arguments go to
/// cargo.
pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    setup::run(workspace, setup::Options::default())?;
    client_packages::bring(workspace)?;
    // Some tests run the programs; built beforehand, no test waits for a compiler.
    workspace.build(&["retrace", "retrace-verify", "xtask"])?;
    let status = workspace
        .cargo()
        .args(["test", "--workspace"])
        .args(arguments)
        .status()
        .context("cargo cannot be started")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
