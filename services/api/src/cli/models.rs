//! `retrace models`

use clap::{Args, Subcommand};

use super::Outcome;
use super::environment::EnvironmentArgs;

const EXAMPLES: &str = "\
Examples:
  retrace models check
  retrace models check --models ./models --json

The digest of every file is computed and compared with models/manifest.toml. Exit code 1 when a file
is missing or differs.";

/// Arguments of `retrace models`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub struct Models {
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// Compare every model file with the manifest
    #[command(after_help = EXAMPLES)]
    Check {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
}
