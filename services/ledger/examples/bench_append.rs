//! Entries per second with proof, from many callers at once.
//!
//! ```text
//! cargo run --release -p ledger --example bench_append -- [APPENDERS] [ENTRIES]
//! ```
//!
//! Each caller signs an entry, appends it, and goes on when it has the bundle. Runs on a private
//! cluster in a temporary folder, or on `DATABASE_URL`, whose database should be empty. Prints one JSON
//! object. At its end the whole ledger is verified anew, outside of the measured time.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ledger::cluster::{ClusterOptions, PrivateCluster};
use ledger::sequencer::Sequencer;
use ledger::{Ledger, LedgerOptions, PromptSecret};
use provenance::{
    CheckpointSigner, Decimal, Digest, Entry, EntrySigner, Envelope, GenerationEntry, PublicKeys,
    RecordedImage, RecordedModel, commit,
};

const ORIGIN: &str = "bench.local/log";
const PROMPT: &str = "a red heart";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let appenders: usize = arguments.next().map_or(Ok(64), |text| text.parse())?;
    let entries: usize = arguments.next().map_or(Ok(5_000), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let (cluster, database_url) = database(folder.path()).await?;
    let signer = Arc::new(EntrySigner::from_seed(ORIGIN, [1; 32])?);
    let checkpoint_signer = CheckpointSigner::from_seed(ORIGIN, [2; 32])?;
    let public_keys = PublicKeys::new(signer.verifier(), checkpoint_signer.verifier())?;
    let ledger = Ledger::connect(&LedgerOptions::new(database_url, public_keys)).await?;
    let store = folder.path().join("checkpoint-store");
    let sequencer = Sequencer::new(ledger.clone(), checkpoint_signer, store);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let sequencer = tokio::spawn(sequencer.run(async {
        let _ = stopped.await;
    }));

    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let callers: Vec<_> = (0..appenders)
        .map(|_| {
            let caller = Caller {
                ledger: ledger.clone(),
                signer: Arc::clone(&signer),
                next: Arc::clone(&next),
                entries,
            };
            tokio::spawn(caller.run())
        })
        .collect();
    let mut latencies = Vec::with_capacity(entries);
    for caller in callers {
        latencies.extend(caller.await?.map_err(|error| error.to_string())?);
    }
    let elapsed = started.elapsed();
    let _ = stop.send(());
    sequencer.await??;
    report(&ledger, appenders, elapsed, latencies).await?;
    ledger.close().await;
    if let Some(cluster) = cluster {
        cluster.stop().await?;
    }
    Ok(())
}

/// One caller, who appends one entry after another.
struct Caller {
    ledger: Ledger,
    signer: Arc<EntrySigner>,
    next: Arc<AtomicUsize>,
    entries: usize,
}

impl Caller {
    async fn run(self) -> Result<Vec<Duration>, Box<dyn Error + Send + Sync>> {
        let mut latencies = Vec::new();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.entries {
                return Ok(latencies);
            }
            let (entry, secret) = entry(number)?;
            let began = Instant::now();
            let envelope = Envelope::sign(&entry, &self.signer)?;
            self.ledger.append(&envelope, Some(secret)).await?;
            latencies.push(began.elapsed());
        }
    }
}

async fn report(
    ledger: &Ledger,
    appenders: usize,
    elapsed: Duration,
    mut latencies: Vec<Duration>,
) -> Result<(), Box<dyn Error>> {
    latencies.sort_unstable();
    let milliseconds = |share: usize| {
        let place = (latencies.len() * share / 100).min(latencies.len().saturating_sub(1));
        latencies
            .get(place)
            .map(|latency| latency.as_secs_f64() * 1e3)
    };
    let checked = ledger.check().await?;
    let report = serde_json::json!({
        "appenders": appenders,
        "entries": latencies.len(),
        "seconds": elapsed.as_secs_f64(),
        "entries_per_s": latencies.len() as f64 / elapsed.as_secs_f64(),
        "p50_ms": milliseconds(50),
        "p95_ms": milliseconds(95),
        "checkpoints": checked.checkpoints,
        "is_sound": checked.is_sound(),
        "optimised": !cfg!(debug_assertions),
    });
    println!("{report}");
    Ok(())
}

async fn database(folder: &Path) -> Result<(Option<PrivateCluster>, String), Box<dyn Error>> {
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

fn entry(number: usize) -> Result<(Entry, PromptSecret), Box<dyn Error + Send + Sync>> {
    let mut salt = [0; 32];
    salt[..8].copy_from_slice(&(number as u64).to_be_bytes());
    let request_id = format!("request-{number}");
    let part = |name: &str| (name.to_owned(), Digest::of(name.as_bytes()));
    let entry = GenerationEntry {
        image_index: 0,
        created_at_ms: 1_700_000_000_000,
        client: "bench".to_owned(),
        image: RecordedImage {
            sha256: Digest::of(request_id.as_bytes()),
            pixel_sha256: Digest::of(&salt),
            width: 64,
            height: 64,
            media_type: "image/png".to_owned(),
        },
        model: RecordedModel {
            name: "emoji".to_owned(),
            digest: Digest::of(b"model"),
            // As many files as the built-in generator has.
            parts: (0..12)
                .map(|part_number| part(&format!("part/{part_number}.onnx")))
                .collect(),
        },
        scheduler: "ddim".to_owned(),
        steps: 20,
        seed: number as u64,
        details: None,
        guidance_scale: Decimal::from_f32(3.5)?,
        prompt_commitment: commit(&salt, PROMPT.as_bytes()),
        request_id,
    };
    let prompt = PROMPT.to_owned();
    Ok((Entry::Generation(entry), PromptSecret { salt, prompt }))
}
