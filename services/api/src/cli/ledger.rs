//! `retrace ledger`

use api::config::EngineOptions;
use api::startup::Storage;
use clap::{Args, Subcommand};
use ledger::CheckReport;

use super::environment::StateArgs;
use super::failure::Failure;
use super::{Outcome, progress};

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
    /// Write all entries of a search to a file, with a signed manifest as its last line
    #[command(after_help = EXPORT)]
    Export(super::export::ExportArgs),
    /// Verify the whole ledger from its entries
    #[command(after_help = EXAMPLES)]
    Check {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        state: StateArgs,
    },
}

const EXPORT: &str = "\
Examples:
  retrace ledger export --output all.ndjson
  retrace ledger export --encoding csv --kind generation --client newsroom --output newsroom.csv
  retrace-verify export all.ndjson --public-key retrace.pub

An export ends in a line that signs for all lines before it and names the checkpoint that it is complete
for. One without it is not whole. The same search under the same checkpoint gives the same rows.";

impl LedgerArgs {
    /// Checks and reports.
    pub fn run(self) -> Outcome {
        let (json, state) = match self.command {
            LedgerCommand::Export(export) => return export.run(),
            LedgerCommand::Check { json, state } => (json, state),
        };
        let config = state.config(EngineOptions::default());
        super::async_runtime()?.block_on(async {
            let storage = Storage::open(&config).await?;
            let spinner = progress::spinner("checking every entry");
            let report = storage.ledger.check().await;
            spinner.finish_and_clear();
            storage.close().await?;
            let report = report.map_err(Failure::environment)?;
            print(&report, json)?;
            if report.is_sound() {
                return Ok(());
            }
            let problems = report.problems.len() as u64 + report.problems_left_out;
            Err(Failure::does_not_hold(format!(
                "the ledger does not hold: {problems} problems"
            )))
        })
    }
}

fn print(report: &CheckReport, json: bool) -> Outcome {
    if json {
        let mut value = serde_json::to_value(report).map_err(Failure::work)?;
        value["sound"] = report.is_sound().into();
        println!("{value}");
        return Ok(());
    }
    println!("entries      {}", report.entries);
    println!("root hash    {}", report.root_hash);
    println!("tree nodes   {}", report.nodes);
    println!(
        "checkpoints  {}, the newest covers {} entries",
        report.checkpoints, report.covered
    );
    for problem in &report.problems {
        println!("problem: {problem}");
    }
    if report.problems_left_out > 0 {
        println!("and {} problems more", report.problems_left_out);
    }
    if report.is_sound() {
        println!("Everything holds.");
    }
    Ok(())
}
