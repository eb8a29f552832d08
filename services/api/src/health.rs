//! How the service is: what is used, what is missing.

use ledger::JobQueue;
use onnx::{Provider, ProviderStatus};
use serde::Serialize;
use utoipa::ToSchema;

use crate::config::Role;
use crate::credential_keys::CredentialKeys;
use crate::sandbox::Confinement;
use crate::state::{AppState, SequencerStatus};

/// How the service is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Health {
    /// `ok`, or `degraded` when a warning stands below.
    pub status: String,
    /// Version of the service.
    pub version: String,
    /// What this process does: `all`, `api` or `worker`.
    pub role: String,
    /// How much work waits; null when the database does not answer.
    pub queue: Option<QueueBody>,
    /// Execution provider.
    pub provider: ProviderBody,
    /// A GPU was asked for and is not used.
    pub gpu_missing: bool,
    /// The generator; null when none is installed, or workers generate elsewhere.
    pub generator: Option<ModelBody>,
    /// The detector; null when none is installed, or this process only generates.
    pub detector: Option<ModelBody>,
    /// Which fences the processes get that parse uploads.
    pub sandbox: SandboxBody,
    /// Who signs the files that are made.
    pub content_credentials: CredentialsBody,
    /// Whether the signer answers that holds the entry key and the checkpoint key; null where they lie here.
    pub signer: Option<SignerBody>,
    /// `running`, `elsewhere` (in another process) or `ended`.
    pub sequencer: String,
    /// What should be looked at.
    pub warnings: Vec<String>,
}

/// How much work waits for workers.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct QueueBody {
    /// Jobs that wait.
    pub waiting: u64,
    /// Jobs that run.
    pub running: u64,
    /// How long the oldest waiting job has waited, in milliseconds; null when none waits.
    pub oldest_waiting_ms: Option<u64>,
}

impl From<JobQueue> for QueueBody {
    fn from(queue: JobQueue) -> Self {
        Self {
            waiting: queue.waiting,
            running: queue.running,
            oldest_waiting_ms: queue.oldest_waiting_ms,
        }
    }
}

/// Execution provider asked for and used.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProviderBody {
    /// `cpu` or `cuda`.
    pub asked: String,
    /// `cpu` or `cuda`.
    pub used: String,
}

/// A model.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ModelBody {
    /// Name.
    pub name: String,
    /// Version, for detectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Digest over all parts.
    pub digest: String,
}

/// The fences of the processes that parse uploads.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SandboxBody {
    /// Limits on memory, processor time, files and processes.
    pub resource_limits: bool,
    /// System calls outside a short list fail.
    pub system_call_filter: bool,
}

/// A signer in another process.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SignerBody {
    /// Whether it answers as it should. While it does not, nothing can be signed: requests that need it are refused.
    pub answers: bool,
    /// What is wrong with it.
    pub fault: Option<String>,
}

/// Who signs the files that are made (Content Credentials).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CredentialsBody {
    /// Subject of the signing certificate.
    pub signer: String,
    /// Its issuer.
    pub issuer: String,
    /// Whether the issuer is a root of this service's own, which nobody else trusts unless they take
    /// the file `retrace-root.pem`.
    pub own_root: bool,
    /// When the chain expires, in seconds since 1970.
    pub valid_until_s: i64,
}

impl From<&CredentialKeys> for CredentialsBody {
    fn from(keys: &CredentialKeys) -> Self {
        let chain = keys.signer.chain();
        Self {
            signer: chain.subject().to_owned(),
            issuer: chain.issuer().to_owned(),
            own_root: keys.own_root,
            valid_until_s: chain.valid_until_s(),
        }
    }
}

impl From<Confinement> for SandboxBody {
    fn from(confinement: Confinement) -> Self {
        let Confinement {
            resource_limits,
            system_call_filter,
        } = confinement;
        Self {
            resource_limits,
            system_call_filter,
        }
    }
}

fn name(provider: Provider) -> String {
    match provider {
        Provider::Cpu => "cpu".to_owned(),
        Provider::Cuda => "cuda".to_owned(),
    }
}

/// Whether a GPU was asked for and is not used.
fn gpu_missing(status: &ProviderStatus) -> bool {
    status.asked == Provider::Cuda && status.used != Provider::Cuda
}

/// Looks at the parts of the service, and asks the signer, where there is one, for at most `signer_wait_ms_max` and
/// half a second. It reads no database: the queue is not looked at here, and `/readyz` says whether the database
/// answers.
pub async fn health(state: &AppState) -> Health {
    let signer = match &state.signer_look {
        Some(look) => Some(look.fault().await),
        None => None,
    };
    let provider = state.engine.provider_status();
    let generator = state.engine.generator().ok();
    let detector = state.engine.detector().ok();
    let role = state.config.role;
    let sequencer = state.sequencer.borrow().clone();
    let ended = sequencer == SequencerStatus::Ended;
    let missing = |condition: bool, warning: &str| condition.then(|| warning.to_owned());
    let warnings: Vec<String> = [
        provider.warning.clone(),
        missing(
            generator.is_none() && role != Role::Api,
            "no generator is installed",
        ),
        missing(
            detector.is_none() && role != Role::Worker,
            "no detector is installed",
        ),
        missing(
            !state.confinement.system_call_filter,
            "uploads are parsed without a system call filter",
        ),
        missing(
            !state.confinement.resource_limits,
            "uploads are parsed without resource limits",
        ),
        missing(ended, "the sequencer has stopped: nothing is recorded"),
        signer.flatten().map(str::to_owned),
    ]
    .into_iter()
    .flatten()
    .collect();
    Health {
        status: if warnings.is_empty() {
            "ok"
        } else {
            "degraded"
        }
        .to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        role: role.as_str().to_owned(),
        queue: None,
        provider: ProviderBody {
            asked: name(provider.asked),
            used: name(provider.used),
        },
        gpu_missing: gpu_missing(provider),
        generator: generator.map(|slot| ModelBody {
            name: slot.model.name.clone(),
            version: None,
            digest: slot.model.digest.to_string(),
        }),
        detector: detector.map(|slot| ModelBody {
            name: slot.identity.name.clone(),
            version: Some(slot.identity.version.clone()),
            digest: slot.identity.digest.to_string(),
        }),
        sandbox: state.confinement.into(),
        content_credentials: (&state.credentials).into(),
        signer: signer.map(|fault| SignerBody {
            answers: fault.is_none(),
            fault: fault.map(str::to_owned),
        }),
        sequencer: match sequencer {
            SequencerStatus::Running => "running",
            SequencerStatus::Elsewhere => "elsewhere",
            SequencerStatus::Ended => "ended",
        }
        .to_owned(),
        warnings,
    }
}
