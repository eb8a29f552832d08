//! One log for each test: a database, keys, a checkpoint store, sequencers.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ledger::cluster::{ClusterOptions, PrivateCluster};
use ledger::sequencer::{CheckpointStore, Sequencer, SequencerOptions};
use ledger::{Ledger, LedgerError, LedgerOptions, PromptSecret};
use provenance::{
    CheckpointSigner, Decimal, Digest, Entry, EntrySigner, Envelope, GenerationEntry, PublicKeys,
    RecordedDetector, RecordedImage, RecordedModel, RecordedVerdict, ScoreEntry, commit,
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;

pub const ORIGIN: &str = "test.local/log";
const SALT: [u8; 32] = [7; 32];

/// The cluster that this process's tests share while any of them runs.
static SHARED: Mutex<Weak<PrivateCluster>> = Mutex::const_new(Weak::new());
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// Where `cargo xtask setup` put Postgres.
pub fn binaries() -> PathBuf {
    if let Some(runtime) = std::env::var_os("RETRACE_RUNTIME") {
        return PathBuf::from(runtime).join("postgres");
    }
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../.runtime/postgres")
        .canonicalize()
        .expect("cargo xtask setup was run")
}

async fn shared_cluster() -> Arc<PrivateCluster> {
    let mut shared = SHARED.lock().await;
    if let Some(cluster) = shared.upgrade() {
        return cluster;
    }
    let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ledger-postgres");
    let options = ClusterOptions::new(binaries(), data);
    let cluster = PrivateCluster::start_or_attach(&options).await.unwrap();
    let cluster = Arc::new(cluster);
    *shared = Arc::downgrade(&cluster);
    cluster
}

pub fn entry_signer() -> EntrySigner {
    EntrySigner::from_seed(ORIGIN, [1; 32]).unwrap()
}

pub fn checkpoint_signer() -> CheckpointSigner {
    CheckpointSigner::from_seed(ORIGIN, [2; 32]).unwrap()
}

pub fn public_keys() -> PublicKeys {
    PublicKeys::new(entry_signer().verifier(), checkpoint_signer().verifier()).unwrap()
}

/// A generation by this client for this request.
pub fn generation(client: &str, request_id: &str) -> GenerationEntry {
    GenerationEntry {
        request_id: request_id.to_owned(),
        image_index: 0,
        created_at_ms: 1_700_000_000_000,
        client: client.to_owned(),
        image: RecordedImage {
            sha256: Digest::of(request_id.as_bytes()),
            pixel_sha256: Digest::of(format!("pixels of {request_id}").as_bytes()),
            width: 64,
            height: 64,
            media_type: "image/png".to_owned(),
        },
        model: RecordedModel {
            name: "emoji".to_owned(),
            digest: Digest::of(b"model"),
            parts: [("unet/model.onnx".to_owned(), Digest::of(b"part"))].into(),
        },
        scheduler: "ddim".to_owned(),
        steps: 20,
        seed: u64::MAX,
        details: None,
        guidance_scale: Decimal::from_f32(3.5).unwrap(),
        prompt_commitment: commit(&SALT, b"a red heart"),
    }
}

/// What opens the commitment of every [`generation`].
pub fn secret() -> PromptSecret {
    PromptSecret {
        salt: SALT,
        prompt: "a red heart".to_owned(),
    }
}

/// A score by this client for this request.
pub fn score(client: &str, request_id: &str) -> ScoreEntry {
    ScoreEntry {
        request_id: request_id.to_owned(),
        created_at_ms: 1_700_000_500_000,
        client: client.to_owned(),
        upload_commitment: commit(&SALT, request_id.as_bytes()),
        detector: RecordedDetector {
            name: "photo-prior".to_owned(),
            version: "1".to_owned(),
            digest: Digest::of(b"detector"),
        },
        calibration_version: "1".to_owned(),
        thresholds_version: "1".to_owned(),
        verdict: RecordedVerdict::Inconclusive,
        probability: Some(Decimal::from_f32(0.5).unwrap()),
    }
}

pub fn signed(entry: impl Into<AnyEntry>) -> Envelope {
    Envelope::sign(&entry.into().0, &entry_signer()).unwrap()
}

/// Lets [`signed`] take each kind of entry as it is.
pub struct AnyEntry(Entry);

impl From<GenerationEntry> for AnyEntry {
    fn from(entry: GenerationEntry) -> Self {
        Self(Entry::Generation(entry))
    }
}

impl From<ScoreEntry> for AnyEntry {
    fn from(entry: ScoreEntry) -> Self {
        Self(Entry::Score(entry))
    }
}

/// A generation of this number, signed.
pub fn numbered(number: usize) -> Envelope {
    signed(generation("alice", &format!("request-{number}")))
}

/// A log with a database of its own.
pub struct TestLog {
    pub cluster: Arc<PrivateCluster>,
    pub database: String,
    pub ledger: Ledger,
    pub store: TempDir,
}

impl TestLog {
    /// A fresh log on the shared cluster.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A fresh log on the shared cluster with other limits.
    pub async fn with(change: impl FnOnce(&mut LedgerOptions)) -> Self {
        Self::on(shared_cluster().await, change).await
    }

    /// A fresh log on a cluster.
    pub async fn on(cluster: Arc<PrivateCluster>, change: impl FnOnce(&mut LedgerOptions)) -> Self {
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let database = format!("test_{}_{number}", std::process::id());
        cluster.drop_database(&database).await.unwrap();
        cluster.create_database(&database).await.unwrap();
        let mut options = LedgerOptions::new(cluster.database_url(&database), public_keys());
        options.connections_max = 8;
        options.poll_interval = Duration::from_millis(50);
        // A slow machine is no failure of the ledger.
        options.append_timeout = Duration::from_secs(60);
        options.connect_timeout = Duration::from_secs(30);
        change(&mut options);
        let ledger = Ledger::connect(&options).await.unwrap();
        Self {
            cluster,
            database,
            ledger,
            store: tempfile::tempdir().unwrap(),
        }
    }

    /// A fresh log with a running sequencer.
    pub async fn running() -> (Self, Running) {
        let log = Self::start().await;
        let sequencer = log.sequencer();
        (log, sequencer)
    }

    pub fn sequencer(&self) -> Running {
        self.sequencer_with(|_| {})
    }

    pub fn sequencer_with(&self, change: impl FnOnce(&mut SequencerOptions)) -> Running {
        let mut options = SequencerOptions {
            poll_interval: Duration::from_millis(20),
            retry_interval: Duration::from_millis(20),
            ..SequencerOptions::default()
        };
        change(&mut options);
        let sequencer = Sequencer::with_options(
            self.ledger.clone(),
            checkpoint_signer(),
            self.store.path().join("store"),
            options,
        );
        Running::start(sequencer)
    }

    pub fn checkpoint_store(&self) -> CheckpointStore {
        CheckpointStore::new(self.store.path().join("store"))
    }

    /// Records some numbered entries.
    pub async fn append_numbered(&self, numbers: std::ops::Range<usize>) {
        let appends: Vec<_> = numbers
            .map(|number| {
                let ledger = self.ledger.clone();
                tokio::spawn(async move { ledger.append(&numbered(number), None).await })
            })
            .collect();
        for append in appends {
            append.await.unwrap().unwrap();
        }
    }

    /// A connection that may do everything.
    pub async fn superuser(&self) -> PgConnection {
        let url = self.cluster.superuser_url(&self.database);
        PgConnection::connect(&url).await.unwrap()
    }

    /// Does what only somebody who broke in could do.
    pub async fn break_in(&self, statements: &str) {
        let mut connection = self.superuser().await;
        let fences = [
            "entries",
            "nodes",
            "checkpoints",
            "perceptual_hashes",
            "watermarks",
        ];
        for table in fences {
            let statement = format!("ALTER TABLE {table} DISABLE TRIGGER {table}_append_only");
            connection.execute(AssertSqlSafe(statement)).await.unwrap();
        }
        let statements = AssertSqlSafe(statements.to_owned());
        sqlx::raw_sql(statements)
            .execute(&mut connection)
            .await
            .unwrap();
        for table in fences {
            let statement =
                format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_append_only");
            connection.execute(AssertSqlSafe(statement)).await.unwrap();
        }
        connection.close().await.unwrap();
    }

    /// Verifies the whole ledger anew, against the checkpoint store too, and removes the database.
    pub async fn finish(self) {
        let stored = self.checkpoint_store().read().await.unwrap();
        let kept: Vec<_> = stored.into_iter().collect();
        let report = self.ledger.check_against(&kept).await.unwrap();
        assert!(report.is_sound(), "{:?}", report.problems);
        self.remove().await;
    }

    /// Removes the database of a ledger that was broken on purpose.
    pub async fn remove(self) {
        self.ledger.close().await;
        self.cluster.drop_database(&self.database).await.unwrap();
    }
}

/// A sequencer in a task of its own.
pub struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), LedgerError>>,
}

impl Running {
    pub fn start(sequencer: Sequencer) -> Self {
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        Self {
            stop,
            task: tokio::spawn(sequencer.run(shutdown)),
        }
    }

    /// Shuts it down in order.
    pub async fn stop(self) {
        self.stop.send(()).expect("the sequencer still runs");
        self.task.await.unwrap().unwrap();
    }

    /// Waits until it ends by itself.
    pub async fn failure(self) -> LedgerError {
        let failure = self.task.await.unwrap().unwrap_err();
        drop(self.stop);
        failure
    }
}

/// Repeats a look at something until it shows what is wanted.
pub async fn until(mut look: impl AsyncFnMut() -> bool) {
    while !look().await {
        tokio::task::yield_now().await;
    }
}
