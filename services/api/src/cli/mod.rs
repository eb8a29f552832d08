//! The command line: arguments, exit codes, one line for what went wrong.
//!
//! Results go to standard output, everything else to standard error. A command returns a
//! [`Failure`] instead of printing and exiting, so that the exit code is decided in one place.

mod backup;
mod environment;
mod export;
mod failure;
mod generate;
mod generate_settings;
mod invert;
mod key;
mod ledger;
mod models;
mod npy;
mod output;
mod picture_file;
mod picture_list;
mod progress;
mod score;
mod score_table;
mod search;
mod serve;
mod signer;
mod trace;
mod train;
mod witness;
mod witnessed;

use std::fs::Permissions;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use onnx::TruncatedPrompt;
use tracing_subscriber::EnvFilter;

use failure::Failure;

/// The line under every help text.
const EXIT_CODES: &str = "\
Exit codes:
  0  done, and what was asked about holds
  1  what was asked about does not hold, or a file was refused
  2  the command line or a value in it was refused
  3  the environment lacks something: native parts, models, database, port, disk
  4  the work itself failed, for example a model that gave no numbers";

/// Makes, signs, records and scores images.
#[derive(Debug, Parser)]
#[command(
    name = "retrace",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = EXIT_CODES
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service: HTTP interface, pages and the ledger's sequencer
    Serve(serve::Serve),
    /// Generate images and record them in the ledger
    Generate(generate::Generate),
    /// Score images: verdict, calibrated probability and evidence
    Score(score::Score),
    /// Write the trace that an image's inversion leaves
    Trace(trace::TraceArgs),
    /// Train a detector on your own pictures
    Train(train::Train),
    /// Turn an image into noise and back with the generator
    Invert(invert::Invert),
    /// Make, list and revoke the keys of clients, show the public keys, make a certificate chain
    Key(key::Key),
    /// Check the whole ledger from its entries
    Ledger(ledger::LedgerArgs),
    /// Check the model files against their manifest
    Models(models::Models),
    /// Hold the signing keys in a process of its own, for services that ask over a local socket
    Signer(signer::SignerArgs),
    /// Cosign the checkpoints of logs that continue what was seen before
    Witness(witness::WitnessArgs),
}

/// Parses the arguments, runs the command and returns its exit code.
pub fn main() -> ExitCode {
    // Clap prints help and usage errors itself; its code for a usage error is 2, as documented.
    let cli = Cli::parse();
    start_log(&cli.command);
    let result = match cli.command {
        Command::Serve(command) => command.run(),
        Command::Generate(command) => command.run(),
        Command::Score(command) => command.run(),
        Command::Trace(command) => command.run(),
        Command::Train(command) => command.run(),
        Command::Invert(command) => command.run(),
        Command::Key(command) => command.run(),
        Command::Ledger(command) => command.run(),
        Command::Models(command) => command.run(),
        Command::Signer(command) => command.run(),
        Command::Witness(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// What every command returns.
type Outcome = Result<(), Failure>;

/// What a model did not see of a prompt.
fn truncation(truncated: &TruncatedPrompt) -> String {
    format!(
        "the prompt has {} tokens, the model reads {}; it did not see: {:?}",
        truncated.tokens, truncated.tokens_max, truncated.dropped
    )
}

/// The log on standard error: what the service does, or only what goes wrong in a command.
fn start_log(command: &Command) {
    let default = match command {
        // The runtime, the database driver and the web server tell every little thing at this level;
        // the last one calls a stranger's unreadable request line an error of the service.
        Command::Serve(_) => "info,ort=warn,sqlx=warn,c2pa=warn,actix_server=warn,actix_http=off",
        // What it refuses, somebody should know.
        Command::Signer(_) => "warn",
        _ => "error",
    };
    let filter = EnvFilter::try_from_env("RETRACE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal)
        .init();
}

/// The runtime for commands that wait for a child process or the ledger.
fn async_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Runtime::new().map_err(Failure::environment)
}

/// Standard output is closed or full.
fn cannot_write(error: std::io::Error) -> Failure {
    Failure::environment(format!("the output cannot be written: {error}"))
}

/// Makes the folder that a file is to lie in.
fn make_folder_of(path: &Path) -> Result<(), Failure> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    std::fs::create_dir_all(folder).map_err(|error| {
        Failure::environment(format!(
            "folder {} cannot be made: {error}",
            folder.display()
        ))
    })
}

/// Writes a file completely or not at all, with the permissions that the user's mask leaves.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = || {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let mut file = tempfile::Builder::new()
            .prefix(".retrace-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder.unwrap_or(Path::new(".")))?;
        file.write_all(bytes)?;
        file.persist(path).map_err(|refused| refused.error)
    };
    written().map(drop).map_err(|error| {
        Failure::environment(format!("{} cannot be written: {error}", path.display()))
    })
}

/// The end of a command over several files: 1 when some were refused.
fn all_files(refused: usize, files: usize) -> Outcome {
    match refused {
        0 => Ok(()),
        _ => Err(Failure::does_not_hold(format!(
            "{refused} of {files} files were refused"
        ))),
    }
}
