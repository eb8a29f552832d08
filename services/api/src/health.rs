//! How the service is: what is used, what is missing.

use onnx::{Provider, ProviderStatus};
use serde::Serialize;
use utoipa::ToSchema;

use crate::sandbox::Confinement;
use crate::state::{AppState, SequencerStatus};

/// How the service is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Health {
    /// `ok`, or `degraded` when a warning stands below.
    pub status: String,
    /// Version of the service.
    pub version: String,
    /// Execution provider.
    pub provider: ProviderBody,
    /// A GPU was asked for and is not used.
    pub gpu_missing: bool,
    /// The generator; null when none is installed.
    pub generator: Option<ModelBody>,
    /// The detector; null when none is installed.
    pub detector: Option<ModelBody>,
    /// Which fences the processes get that parse uploads.
    pub sandbox: SandboxBody,
    /// `running` or `ended`.
    pub sequencer: String,
    /// What should be looked at.
    pub warnings: Vec<String>,
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

/// Looks at the parts of the service. It reads no database; see `/readyz` for that.
#[must_use]
pub fn health(state: &AppState) -> Health {
    let provider = state.engine.provider_status();
    let generator = state.engine.generator().ok();
    let detector = state.engine.detector().ok();
    let ended = *state.sequencer.borrow() == SequencerStatus::Ended;
    let missing = |condition: bool, warning: &str| condition.then(|| warning.to_owned());
    let warnings: Vec<String> = [
        provider.warning.clone(),
        missing(generator.is_none(), "no generator is installed"),
        missing(detector.is_none(), "no detector is installed"),
        missing(
            !state.confinement.system_call_filter,
            "uploads are parsed without a system call filter",
        ),
        missing(
            !state.confinement.resource_limits,
            "uploads are parsed without resource limits",
        ),
        missing(ended, "the sequencer has stopped: nothing is recorded"),
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
        sequencer: if ended { "ended" } else { "running" }.to_owned(),
        warnings,
    }
}
