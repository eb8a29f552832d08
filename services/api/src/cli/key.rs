//! `retrace key`

use clap::{Args, Subcommand, ValueEnum};

use super::Outcome;
use super::environment::EnvironmentArgs;

const EXAMPLES: &str = "\
Examples:
  retrace key client newsroom --scope generate --scope score
  retrace key list
  retrace key revoke 3
  retrace key show > retrace.pub

A client's secret is shown once and stored only as a hash. As soon as one client exists, the service
asks every caller for a key.";

/// Arguments of `retrace key`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub struct Key {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key for a new client and print its secret once
    Client {
        /// Name of the client, as it will stand in its entries
        name: String,
        /// What the key is good for; give it several times for several
        #[arg(long = "scope", value_name = "SCOPE", required = true)]
        scopes: Vec<ScopeName>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
    /// List the clients
    List {
        /// Print one JSON object per client
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
    /// Revoke a client's key
    Revoke {
        /// Number of the client, as `retrace key list` shows it
        id: i64,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
    /// Print the public keys that auditors need (the file retrace.pub)
    Show {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
}

/// The scopes, as the command line spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ScopeName {
    /// Generate images
    Generate,
    /// Score images
    Score,
    /// Read the ledger
    Audit,
    /// Everything
    Admin,
}
