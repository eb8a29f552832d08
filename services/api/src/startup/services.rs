//! Everything but the port: what the service and the command line share.

use std::sync::Arc;

use ledger::cluster::PrivateCluster;
use ledger::sequencer::Sequencer;
use ledger::{Ledger, LedgerError};
use provenance::CheckpointSigner;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::{StartupError, Storage, storage};
use crate::config::Config;
use crate::engine::Engine;
use crate::images::ImageStore;
use crate::sandbox::Sandbox;
use crate::state::{AppState, SequencerStatus};
use crate::turns::Turns;
use crate::work::Idempotency;

/// Models, ledger and sequencer, ready for journeys.
pub struct Services {
    state: Arc<AppState>,
    ledger: Ledger,
    cluster: Option<PrivateCluster>,
    sequencer: RunningSequencer,
}

impl Services {
    /// Opens everything in the documented order.
    ///
    /// # Errors
    /// See [`StartupError`].
    pub async fn open(config: Config) -> Result<Self, StartupError> {
        config.limits.check()?;
        let options = config.engine.clone();
        let engine = tokio::task::spawn_blocking(move || Engine::open(&options));
        let engine = engine.await.map_err(|_| StartupError::Interrupted)??;
        let Storage {
            keys,
            ledger,
            cluster,
        } = Storage::open(&config).await?;
        let sandbox = Sandbox::new(config.parser.as_deref(), &config.limits);
        let confinement = sandbox.probe().await?;
        if !confinement.system_call_filter {
            tracing::warn!(
                "the kernel grants no system call filter; uploads are parsed without it"
            );
        }
        let folder = config.state.join("images");
        let images = ImageStore::open(folder.clone()).map_err(|source| StartupError::State {
            path: folder,
            source,
        })?;
        let store = config.state.join("checkpoint-store");
        let (sequencer, status) = RunningSequencer::start(&ledger, keys.checkpoint, store);
        let limits = &config.limits;
        let wait_max = limits.turn_wait_max();
        let state = AppState {
            engine: Arc::new(engine),
            ledger: ledger.clone(),
            signer: keys.entries,
            public_keys: keys.public,
            images,
            sandbox,
            confinement,
            generations: Turns::new(
                limits.generations_running_max,
                limits.generations_waiting_max,
                wait_max,
            ),
            scores: Turns::new(
                limits.scores_running_max,
                limits.scores_waiting_max,
                wait_max,
            ),
            uploads: Turns::new(
                limits.uploads_reading_max,
                limits.scores_waiting_max,
                wait_max,
            ),
            idempotency: Idempotency::new(limits.idempotent_answers_max),
            sequencer: status,
            runtime: Handle::current(),
            config,
        };
        Ok(Self {
            state: Arc::new(state),
            ledger,
            cluster,
            sequencer,
        })
    }

    /// What the journeys need.
    #[must_use]
    pub fn state(&self) -> &Arc<AppState> {
        &self.state
    }

    /// Completes when the sequencer stops by itself, which it does on failures that only a
    /// person can repair.
    pub(super) async fn sequencer_stopped(&mut self) -> StartupError {
        match (&mut self.sequencer.task).await {
            Ok(Err(error)) => StartupError::Sequencer(error),
            Ok(Ok(())) | Err(_) => StartupError::Interrupted,
        }
    }

    /// Lets the sequencer finish its batch, closes the connections, leaves the private cluster.
    ///
    /// # Errors
    /// What the sequencer or the cluster said at the end.
    pub async fn close(self) -> Result<(), StartupError> {
        let sequenced = self.sequencer.stop().await;
        storage::close(self.ledger, self.cluster).await?;
        sequenced.map_err(StartupError::Sequencer)
    }
}

/// The sequencer as a task of this process.
struct RunningSequencer {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), LedgerError>>,
}

impl RunningSequencer {
    fn start(
        ledger: &Ledger,
        signer: CheckpointSigner,
        store: std::path::PathBuf,
    ) -> (Self, watch::Receiver<SequencerStatus>) {
        let (stop, stopped) = oneshot::channel::<()>();
        let (status, watched) = watch::channel(SequencerStatus::Running);
        let sequencer = Sequencer::new(ledger.clone(), signer, store);
        let task = tokio::spawn(async move {
            // A dropped sender stops it as well.
            let shutdown = async move { drop(stopped.await) };
            let result = sequencer.run(shutdown).await;
            status.send_replace(SequencerStatus::Ended);
            result
        });
        (Self { stop, task }, watched)
    }

    async fn stop(self) -> Result<(), LedgerError> {
        // It may have ended by itself.
        let _ = self.stop.send(());
        if self.task.is_finished() {
            // Its result was taken, or is told by the log.
            return Ok(());
        }
        self.task.await.unwrap_or(Ok(()))
    }
}
