//! Everything but the port: what the service and the command line share.

use std::sync::Arc;

use ledger::cluster::PrivateCluster;
use ledger::sequencer::{CheckpointSigners, Sequencer};
use ledger::{Ledger, LedgerError, NearWatch};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::workers::Workers;
use super::{StartupError, Storage, storage};
use crate::checkpoint_stamps::CheckpointStamper;
use crate::config::{Config, Limits, Role};
use crate::cosigning::Cosigner;
use crate::credential_keys::CredentialKeys;
use crate::engine::Engine;
use crate::images::ImageStore;
use crate::kept_uploads::KeptUploads;
use crate::keys::{self, Keys, Vault};
use crate::metrics;
use crate::sandbox::Sandbox;
use crate::signer::{KeyPurpose, SignerLook};
use crate::state::{AppState, SequencerStatus};
use crate::time_stamps::HttpAuthority;
use crate::turns::{InFlight, Turns};
use crate::watermarking::Watermarker;
use crate::work::{BatchTerms, Batches, Idempotency, now_ms};

/// Models, ledger and sequencer, ready for journeys.
pub struct Services {
    state: Arc<AppState>,
    ledger: Ledger,
    cluster: Option<PrivateCluster>,
    sequencer: Option<RunningSequencer>,
    cosigner: Option<Box<Cosigner>>,
    stamper: Option<Box<CheckpointStamper>>,
    /// Keeps the index of near matches fresh, where pictures are scored.
    near: Option<NearWatch>,
    stopping: watch::Sender<bool>,
    workers: Workers,
}

impl Services {
    /// Opens everything in the documented order.
    ///
    /// # Errors
    /// See [`StartupError`].
    pub async fn open(config: Config) -> Result<Self, StartupError> {
        config.check()?;
        let engine = open_engine(&config).await?;
        let Storage {
            keys,
            ledger,
            cluster,
            vault,
        } = Storage::open(&config).await?;
        check_signer(&config, &keys)?;
        let credentials = open_credentials(&config, &vault)?;
        let watermarker = open_watermarker(&config, &vault)?;
        let anchors = credentials.anchors(&config.credentials)?;
        let sandbox = Sandbox::new(config.parser.as_deref(), &config.limits).trusting(&anchors);
        let confinement = sandbox.probe().await?;
        if !confinement.system_call_filter {
            tracing::warn!(
                "the kernel grants no system call filter; uploads are parsed without it"
            );
        }
        let (images, cases) = open_stores(&config)?;
        let (sequencer, status) = match config.role {
            // Two sequencers need one checkpoint store, and a worker may run on any machine.
            Role::Worker => (None, watch::channel(SequencerStatus::Elsewhere).1),
            Role::All | Role::Api => {
                let store = config.state.join(super::CHECKPOINT_STORE);
                let signers = keys.checkpoint_signers(&config);
                let (started, status) = RunningSequencer::start(&ledger, signers, store);
                (Some(started), status)
            }
        };
        let (stopping, stops) = watch::channel(false);
        let witnesses = ledger.witnesses();
        let cosigner = (!witnesses.witnesses().is_empty())
            .then(|| Cosigner::new(ledger.clone(), witnesses, config.witnesses.clone()))
            .map(Box::new);
        let stamper = CheckpointStamper::new(ledger.clone(), &config.time_stamps).map(Box::new);
        let limits = &config.limits;
        let [generations, scores, uploads, event_streams] = turns(limits);
        let state = AppState {
            engine: Arc::new(engine),
            ledger: ledger.clone(),
            signer_look: SignerLook::new(
                &config.signer,
                keys.entries.verifier(),
                needed(config.role),
            ),
            signer: keys.entries,
            credentials,
            time_stamps: HttpAuthority::of_files(&config.time_stamps).map(Arc::new),
            watermarker,
            public_keys: keys.public,
            images,
            cases,
            sandbox,
            confinement,
            generations: generations.counted_in(&metrics::GENERATIONS),
            batches: Arc::new(Batches::new(BatchTerms::of(limits))),
            scores: scores.counted_in(&metrics::SCORES),
            uploads,
            idempotency: Idempotency::new(limits.idempotent_answers_max),
            runs: Arc::default(),
            in_flight: InFlight::new(limits.generations_per_client_max),
            event_streams,
            jobs: ledger.watch_jobs(),
            stopping: stops,
            sequencer: status,
            runtime: Handle::current(),
            config,
        };
        Ok(Self {
            state: Arc::new(state),
            ledger,
            cluster,
            sequencer,
            cosigner,
            stamper,
            near: None,
            stopping,
            workers: Workers::default(),
        })
    }

    /// Starts what a service does beside answering, which a command that runs once has no use for: the
    /// workers of this role, the asking of witnesses and of the time-stamping authority where checkpoints are
    /// published, and the reading of new fingerprints where pictures are scored.
    pub(super) fn start_workers(&mut self) {
        if self.state.config.role != Role::Worker {
            self.near = Some(self.ledger.watch_near());
        }
        if let (Some(cosigner), Some(sequencer)) = (self.cosigner.take(), &self.sequencer) {
            let (leading, stopping) = (sequencer.leading.clone(), self.state.stopping.clone());
            tokio::spawn(cosigner.run(leading, stopping));
        }
        if let (Some(stamper), Some(sequencer)) = (self.stamper.take(), &self.sequencer) {
            let (leading, stopping) = (sequencer.leading.clone(), self.state.stopping.clone());
            tokio::spawn(stamper.run(leading, stopping));
        }
        if self.state.config.role != Role::Api {
            self.workers = Workers::start(&self.state, &self.state.stopping);
        }
    }

    /// Tells workers and those who follow jobs that the service is about to stop.
    pub(super) fn begin_stop(&self) {
        self.stopping.send_replace(true);
    }

    /// What the journeys need.
    #[must_use]
    pub fn state(&self) -> &Arc<AppState> {
        &self.state
    }

    /// Completes when the sequencer stops by itself, which it does on failures that only a
    /// person can repair.
    pub(super) async fn sequencer_stopped(&mut self) -> StartupError {
        let Some(sequencer) = &mut self.sequencer else {
            return std::future::pending().await;
        };
        match (&mut sequencer.task).await {
            Ok(Err(error)) => StartupError::Sequencer(error),
            Ok(Ok(())) | Err(_) => StartupError::Interrupted,
        }
    }

    /// Lets workers hand their jobs back and the sequencer finish its batch, closes the connections, leaves the private cluster.
    ///
    /// # Errors
    /// What the sequencer or the cluster said at the end.
    pub async fn close(self) -> Result<(), StartupError> {
        self.begin_stop();
        drop(self.near);
        self.workers.ended().await;
        let sequenced = match self.sequencer {
            Some(sequencer) => sequencer.stop().await,
            None => Ok(()),
        };
        storage::close(self.ledger, self.cluster).await?;
        sequenced.map_err(StartupError::Sequencer)
    }
}

/// What a role needs signatures for: workers sign entries alone.
fn needed(role: Role) -> &'static [KeyPurpose] {
    match role {
        Role::Worker => &[KeyPurpose::Entries],
        Role::All | Role::Api => &[KeyPurpose::Entries, KeyPurpose::Checkpoints],
    }
}

/// Whether somebody signs what this role needs.
fn check_signer(config: &Config, keys: &Keys) -> Result<(), StartupError> {
    match needed(config.role)
        .iter()
        .find(|purpose| !keys.sign_for(**purpose))
    {
        Some(purpose) => Err(StartupError::NotSigned { purpose: *purpose }),
        None => Ok(()),
    }
}

/// The secrets of the watermark, where images are to carry one.
fn open_watermarker(
    config: &Config,
    vault: &Vault,
) -> Result<Option<Arc<Watermarker>>, StartupError> {
    if !config.watermark {
        return Ok(None);
    }
    if config.role == Role::Worker && !keys::has_watermark(&config.state) {
        let folder = config.state.join("keys");
        return Err(StartupError::NoWatermarkSeed { folder });
    }
    let seed = keys::open_watermark(&config.state, vault)?;
    Ok(Some(Arc::new(Watermarker::new(&seed))))
}

/// Opens the key and certificates that sign files, making the service's own where none are set. A
/// worker makes none: all processes sign files under one root.
fn open_credentials(config: &Config, vault: &Vault) -> Result<CredentialKeys, StartupError> {
    if config.role == Role::Worker && !CredentialKeys::exist(&config.state, &config.credentials) {
        let folder = config.state.join("keys");
        return Err(StartupError::NoKeys { folder });
    }
    let now_s = i64::try_from(now_ms() / 1_000).expect("the clock is within the calendar");
    let opened = CredentialKeys::open(&config.state, &config.credentials, now_s, vault)?;
    let chain = opened.signer.chain();
    if opened.own_root {
        let (signer, made) = (chain.subject(), opened.created);
        tracing::info!(
            signer,
            made,
            "content credentials are signed under a root of our own, which nobody else trusts; give \
             out retrace-root.pem, or set a certificate chain that others know"
        );
    } else {
        tracing::info!(
            signer = chain.subject(),
            issuer = chain.issuer(),
            "content credentials"
        );
    }
    Ok(opened)
}

/// Opens the stores of generated images and of kept uploads.
fn open_stores(config: &Config) -> Result<(ImageStore, KeptUploads), StartupError> {
    let (images, cases) = (config.state.join("images"), config.state.join("cases"));
    let unusable = |path| |source| StartupError::State { path, source };
    Ok((
        ImageStore::open(images.clone()).map_err(unusable(images))?,
        KeptUploads::open(cases.clone()).map_err(unusable(cases))?,
    ))
}

/// Opens the models that the role needs: a service that hands every generation to workers opens no
/// generator, and a worker no detector.
async fn open_engine(config: &Config) -> Result<Engine, StartupError> {
    let (options, role) = (config.engine.clone(), config.role);
    let opened = tokio::task::spawn_blocking(move || match role {
        Role::All => Engine::open(&options),
        Role::Api => Engine::open_detector(&options),
        Role::Worker => Engine::open_generator(&options),
    });
    let engine = opened.await.map_err(|_| StartupError::Interrupted)??;
    if role == Role::Worker {
        engine.generator()?;
    }
    Ok(engine)
}

/// Turns for generations, scores, uploads and followers of jobs.
fn turns(limits: &Limits) -> [Turns; 4] {
    let wait_max = limits.turn_wait_max();
    [
        (
            limits.generations_running_max,
            limits.generations_waiting_max,
        ),
        (limits.scores_running_max, limits.scores_waiting_max),
        (limits.uploads_reading_max, limits.scores_waiting_max),
        // Who follows a job stays long: nobody waits for a place.
        (limits.event_streams_max, 0),
    ]
    .map(|(running_max, waiting_max)| Turns::new(running_max, waiting_max, wait_max))
}

/// The sequencer as a task of this process.
pub(super) struct RunningSequencer {
    stop: oneshot::Sender<()>,
    /// Whether this process's sequencer holds the lease.
    leading: watch::Receiver<bool>,
    task: JoinHandle<Result<(), LedgerError>>,
}

impl RunningSequencer {
    pub(super) fn start(
        ledger: &Ledger,
        signers: CheckpointSigners,
        store: std::path::PathBuf,
    ) -> (Self, watch::Receiver<SequencerStatus>) {
        let (stop, stopped) = oneshot::channel::<()>();
        let (status, watched) = watch::channel(SequencerStatus::Running);
        let sequencer = Sequencer::new(ledger.clone(), signers, store);
        let leading = sequencer.leading();
        let task = tokio::spawn(async move {
            // A dropped sender stops it as well.
            let shutdown = async move { drop(stopped.await) };
            let result = sequencer.run(shutdown).await;
            status.send_replace(SequencerStatus::Ended);
            result
        });
        let started = Self {
            stop,
            leading,
            task,
        };
        (started, watched)
    }

    /// Whether this process keeps the log after at most so long.
    pub(super) async fn leads_within(&self, patience: std::time::Duration) -> bool {
        let mut leading = self.leading.clone();
        let led = tokio::time::timeout(patience, leading.wait_for(|leads| *leads)).await;
        matches!(led, Ok(Ok(_)))
    }

    pub(super) async fn stop(self) -> Result<(), LedgerError> {
        // It may have ended by itself.
        let _ = self.stop.send(());
        if self.task.is_finished() {
            // Its result was taken, or is told by the log.
            return Ok(());
        }
        self.task.await.unwrap_or(Ok(()))
    }
}
