//! What handlers, pages and commands share.

use std::sync::Arc;

use ledger::{JobHints, Ledger};
use provenance::{EntrySigner, PublicKeys};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::config::Config;
use crate::credential_keys::CredentialKeys;
use crate::engine::Engine;
use crate::images::ImageStore;
use crate::kept_uploads::KeptUploads;
use crate::request_id;
use crate::runs::Runs;
use crate::sandbox::{Confinement, Sandbox};
use crate::signer::SignerLook;
use crate::time_stamps::HttpAuthority;
use crate::turns::{InFlight, Turns};
use crate::watermarking::Watermarker;
use crate::work::{Batches, Idempotency, WorkError};

/// How the sequencer of this process fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SequencerStatus {
    /// It works, or waits for the lease that another process holds.
    Running,
    /// This process has none: another one sequences.
    Elsewhere,
    /// It ended: nothing more is recorded until the service starts again.
    Ended,
}

/// Everything that a journey needs. Shared, never changed.
#[derive(Debug)]
pub struct AppState {
    /// The configuration.
    pub config: Config,
    /// The models.
    pub engine: Arc<Engine>,
    /// The ledger. It belongs to the runtime it was connected on: use it inside [`AppState::run`].
    pub ledger: Ledger,
    /// Signs entries.
    pub signer: EntrySigner,
    /// Looks at whoever signs, where that is another process.
    pub signer_look: Option<SignerLook>,
    /// Signs the files that are made.
    pub credentials: CredentialKeys,
    /// Stamps the signatures of files; none where no authority is configured.
    pub time_stamps: Option<Arc<HttpAuthority>>,
    /// Marks the starting noise of images and reads such marks; none where that is switched off.
    pub watermarker: Option<Arc<Watermarker>>,
    /// The public halves of the service's keys.
    pub public_keys: PublicKeys,
    /// Generated images.
    pub images: ImageStore,
    /// Uploads that reviewers keep.
    pub cases: KeptUploads,
    /// Parses untrusted bytes.
    pub sandbox: Sandbox,
    /// Which fences the children get.
    pub confinement: Confinement,
    /// Turns for generations.
    pub generations: Turns,
    /// Generations that wait for their turn, to be made together.
    pub batches: Arc<Batches>,
    /// Turns for scores.
    pub scores: Turns,
    /// Turns for reading uploads from the network.
    pub uploads: Turns,
    /// Answers that are remembered for repeated requests.
    pub idempotency: Idempotency,
    /// How many generations of each client are under way.
    pub in_flight: InFlight,
    /// Places for clients that follow a job.
    pub event_streams: Turns,
    /// Tells when something happens to a job.
    pub jobs: JobHints,
    /// True when the service is about to stop: whoever follows or works lets go.
    pub stopping: watch::Receiver<bool>,
    /// Generations that their clients follow without naming them.
    pub runs: Arc<Runs>,
    /// How the sequencer fares.
    pub sequencer: watch::Receiver<SequencerStatus>,
    /// The runtime that the ledger belongs to; web workers have runtimes of their own.
    pub runtime: Handle,
}

impl AppState {
    /// Runs work on the runtime that the ledger belongs to, under the id of the present request.
    /// Dropping the future (a client that has left) aborts the work at its next await.
    ///
    /// # Errors
    /// Those of the work, and [`WorkError::Interrupted`] when it panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, WorkError>> + Send + 'static,
    ) -> Result<T, WorkError> {
        let work = request_id::scope(request_id::current(), work);
        let mut task = AbortOnDrop(self.runtime.spawn(work));
        match (&mut task.0).await {
            Ok(result) => result,
            Err(_) => Err(WorkError::Interrupted),
        }
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
