//! `retrace score`

use std::path::PathBuf;

use clap::Args;

use super::Outcome;
use super::environment::EnvironmentArgs;

const EXAMPLES: &str = "\
Examples:
  retrace score suspect.jpg
  retrace score --offline --json pictures/*.png
  retrace score --json suspect.jpg | jq .verdict

Each file gives one result. A file that cannot be read or is refused gives an error in its place,
the others are still scored, and the exit code is 1. Without --offline every score is signed and
appended to the ledger; the entry holds a salted digest of the file, not the file.";

/// Arguments of `retrace score`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Score {
    /// Images: PNG, JPEG or WebP
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// No ledger and no database: nothing is signed or recorded
    #[arg(long)]
    offline: bool,

    /// Print one JSON object per file, on one line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    environment: EnvironmentArgs,
}
