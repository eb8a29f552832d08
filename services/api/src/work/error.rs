//! Why a journey did not reach its end.

use credentials::CredentialsError;
use ledger::LedgerError;
use onnx::OnnxError;
use provenance::ProvenanceError;

use super::jobs::JobProblem;
use crate::engine::EngineError;
use crate::sandbox::SandboxError;
use crate::turns::NoTurn;

/// Everything that can stop a journey.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// A value of the request was refused.
    #[error("{detail}")]
    Invalid {
        /// The field or parameter.
        parameter: &'static str,
        /// What was refused and which limit it broke.
        detail: String,
    },
    /// The model asked for is not the one that is installed.
    #[error("model {asked:?} is not known, the installed one is {installed:?}")]
    UnknownModel {
        /// The name in the request.
        asked: String,
        /// The name of the installed model.
        installed: String,
    },
    /// The Idempotency-Key came with another request before.
    #[error("{detail}")]
    IdempotencyConflict {
        /// What the key belongs to.
        detail: String,
    },
    /// The job that was waited for failed.
    #[error("{}", .0.detail)]
    JobFailed(JobProblem),
    /// The job that was waited for was cancelled.
    #[error("the job was cancelled; nothing was recorded")]
    JobCancelled,
    /// No turn came.
    #[error("the service is busy: {0}")]
    NoTurn(#[from] NoTurn),
    /// The upload gave no picture.
    #[error(transparent)]
    Upload(#[from] SandboxError),
    /// The upload's label contradicts its bytes.
    #[error(transparent)]
    Label(#[from] media::MediaError),
    /// Something is not installed, or the models cannot be used.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A model refused or failed.
    #[error(transparent)]
    Model(#[from] OnnxError),
    /// The ledger refused or failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// An entry could not be signed.
    #[error("the entry cannot be signed: {0}")]
    Signing(#[from] ProvenanceError),
    /// An export could not be written as columns.
    #[error(transparent)]
    Columns(#[from] columnar::ColumnarError),
    /// There is no image for this entry.
    #[error("entry {leaf_index} has no image: {reason}")]
    NoImage {
        /// The entry.
        leaf_index: u64,
        /// Why not.
        reason: &'static str,
    },
    /// The upload of a case is not there.
    #[error("case {case} has no upload: {reason}")]
    NoUpload {
        /// The case.
        case: i64,
        /// Why not.
        reason: &'static str,
    },
    /// Somebody may read a case and not change it.
    #[error(
        "case {case} belongs to another client: adding to it, deciding it and erasing its upload \
         need its client's key with the scope score, or the scope admin"
    )]
    ForeignCase {
        /// The case.
        case: i64,
    },
    /// Images cannot be written or read.
    #[error("the image store failed: {0}")]
    Images(#[source] std::io::Error),
    /// The picture that was made cannot be encoded.
    #[error("the image cannot be encoded: {0}")]
    Encode(#[source] media::MediaError),
    /// The file that was made cannot be signed.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The work panicked or was aborted.
    #[error("the work was interrupted")]
    Interrupted,
}

impl WorkError {
    /// A refused field or parameter.
    pub(crate) fn invalid(parameter: &'static str, detail: impl Into<String>) -> Self {
        Self::Invalid {
            parameter,
            detail: detail.into(),
        }
    }
}
