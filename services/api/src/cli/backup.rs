//! `retrace ledger backup` and `retrace ledger restore`

use std::path::PathBuf;

use api::config::EngineOptions;
use api::startup::{Storage, restore};
use clap::Args;
use serde_json::json;

use super::environment::StateArgs;
use super::failure::Failure;
use super::{Outcome, ledger, progress};

/// Help behind the options of `retrace ledger backup`.
pub const BACKUP: &str = "\
Examples:
  retrace ledger backup /backups/2026-11-27
  retrace ledger restore /backups/2026-11-27

The service may go on working. The folder holds prompts and hashes of clients' keys: keep it as you keep
the database. It does not hold keys/, images/, cases/ and checkpoint-store/ of the state folder. Copy
keys/ and images/ beside it, and keep checkpoint-store/ apart: it is what shows that a backup was restored.
The command ends with a check of the whole ledger; --no-check leaves it to the restoring.";

/// Help behind the options of `retrace ledger restore`.
pub const RESTORE: &str = "\
Examples:
  cp -a old/keys retrace-state/ && retrace ledger restore /backups/2026-11-27
  retrace ledger restore /backups/2026-11-27 --state fresh/ --json

The database must be empty and keys/ must be in the state folder. All rows come in one transaction; then
every entry is verified, against the checkpoint of the backup and against checkpoint-store/, where that
is there. Exit code 1 when anything does not hold: also when the log went on after the backup was made.
Nothing is signed over such a log; see `retrace ledger adopt-checkpoint --help`.";

/// Arguments of `retrace ledger backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Folder to make
    folder: PathBuf,
    /// Do not verify the ledger afterwards
    #[arg(long)]
    no_check: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `retrace ledger restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Folder that `retrace ledger backup` made
    folder: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

impl BackupArgs {
    /// Writes the backup and verifies the ledger.
    pub fn run(self) -> Outcome {
        let config = self.state.config(EngineOptions::default());
        super::async_runtime()?.block_on(async {
            let storage = Storage::open(&config).await?;
            let spinner = progress::spinner("writing the backup");
            let backup = storage.ledger.backup(&self.folder).await;
            spinner.finish_and_clear();
            let report = match (&backup, self.no_check) {
                (Ok(_), false) => Some(storage.ledger.check().await),
                _ => None,
            };
            storage.close().await?;
            let backup = backup.map_err(Failure::environment)?;
            let report = report.transpose().map_err(Failure::environment)?;
            let bytes: u64 = backup.tables.iter().map(|table| table.bytes).sum();
            if self.json {
                let sound = report.as_ref().map(::ledger::CheckReport::is_sound);
                println!(
                    "{}",
                    json!({
                        "folder": self.folder,
                        "entries": backup.entries,
                        "tables": backup.tables.len(),
                        "bytes": bytes,
                        "sound": sound,
                    })
                );
            } else {
                println!(
                    "{} entries, {} tables, {bytes} bytes in {}",
                    backup.entries,
                    backup.tables.len(),
                    self.folder.display()
                );
                if let Some(report) = &report {
                    ledger::print(report, None, false)?;
                }
            }
            report.as_ref().map_or(Ok(()), ledger::require_sound)
        })
    }
}

impl RestoreArgs {
    /// Restores the backup and verifies the ledger.
    pub fn run(self) -> Outcome {
        let config = self.state.config(EngineOptions::default());
        super::async_runtime()?.block_on(async {
            let spinner = progress::spinner("restoring and verifying");
            let restored = restore(&config, &self.folder).await;
            spinner.finish_and_clear();
            let (_, report) = restored?;
            ledger::print(&report, None, self.json)?;
            ledger::require_sound(&report)
        })
    }
}
