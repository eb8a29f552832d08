//! Checks bundles, checkpoints, proofs and ledgers offline, without trusting the service.
//!
//! The program needs the files and the public keys, and nothing else: no database, no network, no
//! model. Every check becomes one line of the report, with a reason that scripts can match on.

mod arguments;
mod bundle;
mod checkpoint;
mod completeness;
mod exit;
mod export;
mod image;
mod input;
mod keys;
mod ledger;
mod lookup;
mod manifest;
mod policy;
mod proofs;
mod report;
mod search;
mod source;
mod tile_folder;
mod time_stamp;
mod walk;
mod witnesses;

use std::io::{IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;

use arguments::{Arguments, Task};
use clap::Parser;
use input::InputError;
use report::Report;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match check(&arguments.task) {
        Ok(report) => show(&report, arguments.json),
        Err(error) => {
            // Nothing is left to be done when the error stream itself is gone.
            let _ = writeln!(stderr(), "retrace-verify: {error}");
            exit::UNREADABLE.into()
        }
    }
}

fn check(task: &Task) -> Result<Report, InputError> {
    match task {
        Task::Bundle(task) => bundle::check(task),
        Task::Checkpoint(task) => checkpoint::check(task),
        Task::Inclusion(task) => proofs::check_inclusion(task),
        Task::Consistency(task) => proofs::check_consistency(task),
        Task::Ledger(task) => ledger::check(task, stderr().is_terminal()),
        Task::Export(task) => export::check(task, stderr().is_terminal()),
        Task::Page(task) => completeness::check_page(task, stderr().is_terminal()),
        Task::Image(task) => lookup::check(task, stderr().is_terminal()),
    }
}

fn show(report: &Report, as_json: bool) -> ExitCode {
    let text = if as_json {
        report.to_json()
    } else {
        report.to_string()
    };
    // A report that could not be written in full must not look like a success.
    match stdout().write_all(text.as_bytes()) {
        Ok(()) => report.exit_code().into(),
        Err(_) => exit::UNREADABLE.into(),
    }
}
