//! `cargo xtask faults`, `cargo xtask tamper` and `cargo xtask fuzz`: the tests that break things at random places, many
//! times instead of a few.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::setup;
use crate::workspace::Workspace;

/// Kills and injected errors.
pub fn faults(workspace: &Workspace, kills: u64, seed: u64) -> Result<ExitCode> {
    let settings = [("RETRACE_FAULT_KILLS", kills), ("RETRACE_FAULT_SEED", seed)];
    run(workspace, &["ledger"], "faults::", &settings)
}

/// Edits of a database and of a mirrored log.
pub fn tamper(workspace: &Workspace, edits: u64, seed: u64) -> Result<ExitCode> {
    let settings = [
        ("RETRACE_TAMPER_EDITS", edits),
        ("RETRACE_TAMPER_SEED", seed),
    ];
    run(workspace, &["ledger", "tiles"], "tamper::", &settings)
}

/// Mutated inputs of every parser of the log's formats.
pub fn fuzz(workspace: &Workspace, rounds: u64, seed: u64) -> Result<ExitCode> {
    let settings = [("RETRACE_FUZZ_ROUNDS", rounds), ("RETRACE_FUZZ_SEED", seed)];
    run(workspace, &["mutations"], "survive_mutation", &settings)
}

/// Runs the tests of this name, with what they print.
fn run(
    workspace: &Workspace,
    targets: &[&str],
    name: &str,
    settings: &[(&str, u64)],
) -> Result<ExitCode> {
    setup::run(workspace, setup::Options::default())?;
    let mut command = workspace.cargo();
    command.args(["test", "--workspace"]);
    for target in targets {
        command.args(["--test", target]);
    }
    command.args([name, "--", "--nocapture"]);
    for (variable, value) in settings {
        command.env(variable, value.to_string());
    }
    let status = command.status().context("cargo cannot be started")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
