//! What the ledger does in a second, on a private cluster in a temporary folder or on `DATABASE_URL`,
//! whose database should be empty.
//!
//! ```text
//! cargo run --release -p ledger --example bench_ledger -- [--log N] [--appenders N] [--entries N]
//! ```
//!
//! 1. A log of `--log` signed entries is written, bypassing the queue: it only has to be there.
//! 2. `--appenders` callers at once sign an entry each, append it, and go on when they have the bundle,
//!    until there are `--entries` more. Every one waits for a published checkpoint.
//! 3. The same rows go into a table of the same shape and indexes, 512 a transaction and nothing else, the
//!    tables of hashes and marks left out: what Postgres alone would do.
//! 4. Pages of 100 are searched, the whole log is exported as NDJSON and verified anew.
//!
//! Prints one JSON object.

mod append;
mod bare;
mod log;
mod statement;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ledger::cluster::{ClusterOptions, PrivateCluster};
use ledger::sequencer::Sequencer;
use ledger::{Ledger, LedgerOptions};
use provenance::{CheckpointSigner, EntrySigner, PublicKeys};
use serde_json::json;

const ORIGIN: &str = "bench.local/log";

type Failure = Box<dyn Error + Send + Sync>;

struct Options {
    log: u64,
    appenders: usize,
    entries: usize,
}

impl Options {
    fn parse() -> Result<Self, Failure> {
        let mut options = Self {
            log: 0,
            appenders: 2_000,
            entries: 40_000,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or("each option takes a number")?;
            match name.as_str() {
                "--log" => options.log = value.parse()?,
                "--appenders" => options.appenders = value.parse()?,
                "--entries" => options.entries = value.parse()?,
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        Ok(options)
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse()?;
    let folder = tempfile::tempdir()?;
    let (cluster, database_url) = database(folder.path()).await?;
    let signer = Arc::new(EntrySigner::from_seed(ORIGIN, [1; 32])?);
    let checkpoints = CheckpointSigner::from_seed(ORIGIN, [2; 32])?;
    let public_keys = PublicKeys::new(signer.verifier(), checkpoints.verifier())?;
    let mut ledger_options = LedgerOptions::new(database_url.clone(), public_keys);
    ledger_options.append_timeout = Duration::from_secs(120);
    let ledger = Ledger::connect(&ledger_options).await?;
    let written = log::write(&database_url, options.log, &signer, &checkpoints).await?;

    let store = folder.path().join("checkpoint-store");
    let sequencer = Sequencer::new(ledger.clone(), checkpoints, store);
    if options.log > 0 {
        sequencer.adopt_published_checkpoint().await?;
    }
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let sequencer = tokio::spawn(sequencer.run(async {
        let _ = stopped.await;
    }));
    let appended = append::measure(&ledger, &signer, &options).await?;
    let _ = stop.send(());
    sequencer.await??;

    let bare_rows_per_s = bare::measure(&database_url, options.log).await?;
    let share = appended.entries_per_s / bare_rows_per_s;
    let pages = log::pages(&ledger).await?;
    let export = log::export(&ledger).await?;
    let check = log::check(&ledger).await?;
    let report = json!({
        "log_written": written,
        "append": appended.to_json(),
        "bare_rows_per_s": bare_rows_per_s,
        "append_share_of_bare": share,
        "bytes_on_disk_per_entry": log::bytes_on_disk_per_entry(&database_url).await?,
        "page_of_100": pages,
        "export": export,
        "check": check,
        "cores": std::thread::available_parallelism()?.get(),
        "load_average": std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
        "optimised": !cfg!(debug_assertions),
    });
    println!("{report:#}");
    ledger.close().await;
    if let Some(cluster) = cluster {
        cluster.stop().await?;
    }
    Ok(())
}

async fn database(folder: &Path) -> Result<(Option<PrivateCluster>, String), Failure> {
    if let Ok(url) = std::env::var("DATABASE_URL") {
        return Ok((None, url));
    }
    let runtime = std::env::var_os("RETRACE_RUNTIME").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.runtime"),
        PathBuf::from,
    );
    let options = ClusterOptions::new(runtime.join("postgres"), folder.join("postgres"));
    let cluster = PrivateCluster::start_or_attach(&options).await?;
    let url = cluster.database_url(PrivateCluster::DATABASE);
    Ok((Some(cluster), url))
}

/// The value below which this share of the sorted samples lies, in milliseconds.
fn quantile_ms(sorted: &[Duration], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = ((sorted.len() as f64 * share) as usize).min(last);
    Some(sorted[place].as_secs_f64() * 1e3)
}
