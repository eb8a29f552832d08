//! `retrace ledger`

use clap::{Args, Subcommand};

use super::Outcome;
use super::environment::EnvironmentArgs;

const EXAMPLES: &str = "\
Examples:
  retrace ledger check
  retrace ledger check --json

Every entry is read again, its signature verified and the Merkle tree built anew; the roots of all
checkpoints must come out of it. Exit code 1 when anything does not hold.";

/// Arguments of `retrace ledger`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub struct LedgerArgs {
    #[command(subcommand)]
    command: LedgerCommand,
}

#[derive(Debug, Subcommand)]
enum LedgerCommand {
    /// Verify the whole ledger from its entries
    #[command(after_help = EXAMPLES)]
    Check {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
}
