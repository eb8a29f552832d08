//! `retrace ledger`

use std::path::PathBuf;

use api::config::{Config, EngineOptions};
use api::startup::{CHECKPOINT_STORE, Storage};
use clap::{Args, Subcommand};
use ledger::sequencer::Sequencer;
use ledger::{CheckReport, CheckedCheckpointKey, CheckedKey, LedgerError};
use provenance::Digest;
use serde_json::json;

use super::environment::StateArgs;
use super::failure::Failure;
use super::witnessed::Witnessed;
use super::{Outcome, progress};

const EXAMPLES: &str = "\
Examples:
  retrace ledger check
  retrace ledger check --json
  retrace ledger check --witness-policy witnesses.txt
  retrace ledger adopt-checkpoint
  retrace ledger adopt-checkpoint --i-compared-root-hash 4f5e…
  retrace ledger export --encoding csv --output entries.csv
  retrace ledger backup /backups/2026-11-27

Every entry is read again, its signature verified and the Merkle tree built anew; the roots of all
checkpoints must come out of it. With a policy the cosignatures of its witnesses are verified too, and a
quorum in it must have cosigned a checkpoint. Exit code 1 when anything does not hold.";

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
    Export(Box<super::export::ExportArgs>),
    /// Write everything in the database into a new folder, in one snapshot
    #[command(after_help = super::backup::BACKUP)]
    Backup(super::backup::BackupArgs),
    /// Bring a backup into an empty database and verify the whole ledger
    #[command(after_help = super::backup::RESTORE)]
    Restore(super::backup::RestoreArgs),
    /// Verify the whole ledger from its entries
    #[command(after_help = EXAMPLES)]
    Check {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Witnesses whose cosignatures are verified, and the quorum that a checkpoint must have
        /// (C2SP tlog-policy)
        #[arg(long, env = "RETRACE_WITNESS_POLICY", value_name = "FILE")]
        witness_policy: Option<PathBuf>,
        #[command(flatten)]
        state: StateArgs,
    },
    /// Make the newest published checkpoint the last signed one of an empty checkpoint store
    #[command(after_help = ADOPT)]
    AdoptCheckpoint {
        /// Root hash of that checkpoint, as a copy says that the database's keeper cannot change
        #[arg(long, value_name = "HEX")]
        i_compared_root_hash: Option<Digest>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        state: StateArgs,
    },
}

const ADOPT: &str = "\
The checkpoint store is what shows a database that was rolled back. It lies in the state folder. When
it is lost, or the service moves to another machine without it, nothing is signed until a person says
that the newest checkpoint in the database is the newest one that was ever signed.

Without --i-compared-root-hash the command only shows that checkpoint. Compare it with an auditor's
copy, or with the newest bundle that a client holds. If a newer one exists anywhere, the database was
rolled back: adopting would sign a second history under the same name. Do not; restore the database.";

const EXPORT: &str = "\
Examples:
  retrace ledger export --output all.ndjson
  retrace ledger export --encoding csv --kind generation --client newsroom --output newsroom.csv
  retrace ledger export --encoding parquet --near-entry 7 --output like-7.parquet
  retrace-verify export all.ndjson --public-key retrace.pub

An export ends in a line that signs for all lines before it and names the checkpoint that it is complete
for; Parquet has the same in its metadata. One without it is not whole. The same search under the same checkpoint gives the same rows.";

impl LedgerArgs {
    /// Checks or adopts, and reports.
    pub fn run(self) -> Outcome {
        match self.command {
            LedgerCommand::Export(export) => export.run(),
            LedgerCommand::Backup(backup) => backup.run(),
            LedgerCommand::Restore(restore) => restore.run(),
            LedgerCommand::Check {
                json,
                witness_policy,
                state,
            } => {
                let mut config = state.config(EngineOptions::default());
                config.witnesses.witness_policy = witness_policy;
                Self::check(json, &config)
            }
            LedgerCommand::AdoptCheckpoint {
                i_compared_root_hash,
                json,
                state,
            } => super::async_runtime()?.block_on(adopt(i_compared_root_hash, json, &state)),
        }
    }

    fn check(json: bool, config: &Config) -> Outcome {
        super::async_runtime()?.block_on(async {
            let storage = Storage::open(config).await?;
            let spinner = progress::spinner("checking every entry");
            let checked = async {
                let report = storage.ledger.check().await?;
                let witnesses = Witnessed::of(&storage.ledger).await?;
                Ok((report, witnesses))
            };
            let checked: Result<_, LedgerError> = checked.await;
            spinner.finish_and_clear();
            storage.close().await?;
            let (report, witnesses) = checked.map_err(Failure::environment)?;
            print(&report, witnesses.as_ref(), json)?;
            require_sound(&report)?;
            witnesses.map_or(Ok(()), |witnesses| witnesses.require_quorum())
        })
    }
}

/// Fails when anything is wrong with the ledger.
pub(super) fn require_sound(report: &CheckReport) -> Outcome {
    if report.is_sound() {
        return Ok(());
    }
    let problems = report.problems.len() as u64 + report.problems_left_out;
    Err(Failure::does_not_hold(format!(
        "the ledger does not hold: {problems} problems"
    )))
}

/// Shows the newest published checkpoint, and adopts it when its root hash was given.
async fn adopt(compared: Option<Digest>, json: bool, state: &StateArgs) -> Outcome {
    let config = state.config(EngineOptions::default());
    let storage = Storage::open(&config).await?;
    let store = config.state.join(CHECKPOINT_STORE);
    let Storage {
        keys,
        ledger,
        cluster,
        ..
    } = storage;
    let adopted = async {
        let published = ledger
            .latest_checkpoint()
            .await
            .map_err(Failure::environment)?;
        let published = published.ok_or_else(|| {
            Failure::does_not_hold("the log has no checkpoint yet: there is nothing to adopt")
        })?;
        let head = published.unverified().clone();
        match compared {
            None => {
                eprintln!("{ADOPT}");
                eprint!("\n{}", published.text());
                return Err(Failure::usage(
                    "nothing was changed: say --i-compared-root-hash with the root hash above after comparing it",
                ));
            }
            Some(compared) if compared != head.root_hash => {
                return Err(Failure::does_not_hold(format!(
                    "nothing was changed: the newest checkpoint has the root hash {}, over {} entries",
                    head.root_hash, head.tree_size
                )));
            }
            Some(_) => {}
        }
        tracing::warn!(tree_size = head.tree_size.get(), root_hash = %head.root_hash,
            "a person adopts the published checkpoint as the last signed one");
        let sequencer = Sequencer::new(ledger.clone(), keys.checkpoint, store);
        sequencer
            .adopt_published_checkpoint()
            .await
            .map_err(Failure::environment)?;
        Ok(head)
    };
    let adopted = adopted.await;
    ledger.close().await;
    if let Some(cluster) = cluster {
        cluster.stop().await.map_err(Failure::environment)?;
    }
    let head = adopted?;
    if json {
        let (tree_size, root_hash) = (head.tree_size.get(), head.root_hash.to_string());
        println!(
            "{}",
            json!({ "tree_size": tree_size, "root_hash": root_hash })
        );
    } else {
        println!(
            "Adopted: the log goes on from {} entries with the root hash {}.",
            head.tree_size, head.root_hash
        );
    }
    Ok(())
}

/// A key, with the entries that it signs.
fn key_line(key: &CheckedKey) -> String {
    let mut line = match key.until {
        Some(until) => format!("{}, entries {} to {until}", key.key, key.from),
        None => format!("{}, from entry {} on", key.key, key.from),
    };
    if let Some(since) = key.revoked_since {
        line += &format!(", revoked from entry {since} on");
    }
    line
}

/// A key, with the sizes of the trees whose checkpoints it signs.
fn checkpoint_key_line(key: &CheckedCheckpointKey) -> String {
    let mut line = match key.until {
        Some(until) => format!("{}, of {} to {until} entries", key.key, key.from),
        None => format!("{}, from {} entries on", key.key, key.from),
    };
    if let Some(until_ms) = key.signs_along_until_ms {
        let until_s = i64::try_from(until_ms / 1_000).ok();
        let until = until_s.and_then(credentials::rfc3339).unwrap_or_default();
        line += &format!(", beside the next one until {until}");
    }
    if let Some(since) = key.revoked_since {
        line += &format!(", revoked where it alone signed over entry {since}");
    }
    line
}

pub(super) fn print(report: &CheckReport, witnesses: Option<&Witnessed>, json: bool) -> Outcome {
    if json {
        let mut value = serde_json::to_value(report).map_err(Failure::work)?;
        value["sound"] = report.is_sound().into();
        if let Some(witnesses) = witnesses {
            value["witnesses"] = witnesses.to_json();
        }
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
    if report.time_stamps > 0 {
        println!("time stamps  {} checkpoints", report.time_stamps);
    }
    if let Some(witnesses) = witnesses {
        println!("witnesses    {}", witnesses.words());
    }
    for key in &report.entry_keys {
        println!("entry key    {}", key_line(key));
    }
    for key in &report.checkpoint_keys {
        println!("checkpoint key  {}", checkpoint_key_line(key));
    }
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
