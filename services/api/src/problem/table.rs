//! Which error becomes which problem.
//!
//! Errors about the request keep their message. Errors about the service are logged here and
//! answered without their cause.

use std::io;

use credentials::CredentialsError;
use ledger::LedgerError;
use onnx::OnnxError;
use provenance::{ProvenanceError, SigningFailure};

use super::{Kind, Problem, kinds};
use crate::engine::EngineError;
use crate::sandbox::SandboxError;
use crate::turns::NoTurn;
use crate::work::WorkError;
use crate::work::jobs::JobProblem;

/// Seconds after which a busy or failing ledger is worth another try.
const LEDGER_RETRY_S: u64 = 2;
/// Seconds after which a full queue is worth another try.
const TURN_RETRY_S: u64 = 5;

impl From<WorkError> for Problem {
    fn from(error: WorkError) -> Self {
        let detail = error.to_string();
        match error {
            WorkError::Invalid { parameter, detail } => Problem::invalid(parameter, detail),
            WorkError::UnknownModel { .. } => Problem {
                parameter: Some("model"),
                ..Problem::new(kinds::UNKNOWN_MODEL, detail)
            },
            WorkError::IdempotencyConflict { .. } => {
                Problem::new(kinds::IDEMPOTENCY_CONFLICT, detail)
            }
            WorkError::NoTurn(no_turn) => no_turn.into(),
            WorkError::JobFailed(problem) => problem.into(),
            WorkError::JobCancelled => Problem::new(kinds::CANCELLED, detail),
            WorkError::Upload(error) => error.into(),
            WorkError::Label(error) => Problem::new(upload_kind(error.code()), detail),
            WorkError::Engine(error) => error.into(),
            WorkError::Model(error) => error.into(),
            WorkError::Ledger(error) => error.into(),
            WorkError::NoImage { .. } | WorkError::NoUpload { .. } => {
                Problem::new(kinds::NOT_FOUND, detail)
            }
            WorkError::ForeignCase { .. } => Problem::new(kinds::MISSING_SCOPE, detail),
            WorkError::Images(ref cause) if is_full(cause) => Problem::hidden(
                kinds::STORAGE_FULL,
                "the disk of the image store is full",
                &error,
            )
            .retry_after(LEDGER_RETRY_S),
            WorkError::Credentials(CredentialsError::TimeStamp { .. }) => Problem::hidden(
                kinds::NO_TIME_STAMP,
                "no image is made without a time stamp, and the authority gives none",
                &error,
            )
            .retry_after(LEDGER_RETRY_S),
            WorkError::Signing(ProvenanceError::NotSigned {
                failure: SigningFailure::Unavailable(_) | SigningFailure::Wrong,
                ..
            }) => Problem::hidden(
                kinds::SIGNER_UNAVAILABLE,
                "the signer of entries does not answer; nothing was signed or recorded",
                &error,
            )
            .retry_after(LEDGER_RETRY_S),
            WorkError::Signing(_)
            | WorkError::Columns(_)
            | WorkError::Images(_)
            | WorkError::Encode(_)
            | WorkError::Credentials(_)
            | WorkError::Interrupted => Problem::internal(&error),
        }
    }
}

/// Whether a disk or a quota has no room left.
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl From<NoTurn> for Problem {
    fn from(error: NoTurn) -> Self {
        let problem = match error {
            NoTurn::ClientFull { .. } => Problem::new(kinds::TOO_MANY_REQUESTS, error.to_string()),
            NoTurn::QueueFull { .. } | NoTurn::TimedOut { .. } => {
                let detail = format!("the service is busy: {error}");
                Problem::new(kinds::OVERLOADED, detail)
            }
        };
        problem.retry_after(TURN_RETRY_S)
    }
}

/// Parameters of a generation that a worker may refuse.
const PARAMETERS: [&str; 17] = [
    "prompt",
    "negative_prompt",
    "prompt_weights",
    "class_label",
    "model",
    "n",
    "size",
    "seed",
    "noise_source",
    "num_inference_steps",
    "guidance_scale",
    "scheduler",
    "sigmas",
    "eta",
    "image",
    "mask",
    "strength",
];

impl From<JobProblem> for Problem {
    fn from(kept: JobProblem) -> Self {
        let kind = kinds::of_job(&kept.code);
        let known = |name: &&str| kept.parameter.as_deref() == Some(*name);
        Problem {
            parameter: PARAMETERS.into_iter().find(known),
            retry_after_s: (kind.status == 503).then_some(LEDGER_RETRY_S),
            ..Problem::new(kind, kept.detail.clone())
        }
    }
}

/// The kind for a stable word of the media crate.
fn upload_kind(code: &str) -> Kind {
    match code {
        "too-many-bytes" => kinds::TOO_LARGE,
        "unknown-format" | "unsupported-format" | "mislabelled" => kinds::UNSUPPORTED_MEDIA,
        _ => kinds::UNREADABLE_FILE,
    }
}

impl From<SandboxError> for Problem {
    fn from(error: SandboxError) -> Self {
        match &error {
            SandboxError::Refused { code, message } => {
                Problem::new(upload_kind(code), message.clone())
            }
            SandboxError::TimedOut { .. } | SandboxError::Died => {
                // Worth a line in the log: somebody may be probing the decoders.
                tracing::warn!(%error, "the parser of an upload was stopped");
                Problem::new(kinds::UNREADABLE_FILE, error.to_string())
            }
            SandboxError::BadReply | SandboxError::NotStarted { .. } => Problem::internal(&error),
        }
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::NoGenerator { .. } => {
                Problem::hidden(kinds::NOT_INSTALLED, "no generator is installed", &error)
            }
            EngineError::NoDetector { .. } => {
                Problem::hidden(kinds::NOT_INSTALLED, "no detector is installed", &error)
            }
            EngineError::Onnx(error) => error.into(),
            _ => Problem::internal(&error),
        }
    }
}

impl From<OnnxError> for Problem {
    fn from(error: OnnxError) -> Self {
        match &error {
            OnnxError::Request { .. } | OnnxError::Diffusion(_) if !error.is_cancelled() => {
                Problem::new(kinds::INVALID_REQUEST, error.to_string())
            }
            OnnxError::Tokenise { .. } => Problem::hidden(
                kinds::INVALID_REQUEST,
                "the prompt cannot be tokenised",
                &error,
            ),
            OnnxError::ImageNotFinite { .. } | OnnxError::ImageConstant { .. } => Problem::new(
                kinds::GENERATION_FAILED,
                format!("{error}; nothing was signed"),
            ),
            _ => Problem::internal(&error),
        }
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        match &error {
            LedgerError::NoSuchEntry { .. }
            | LedgerError::NoSuchCheckpoint { .. }
            | LedgerError::NoTimeStamp { .. }
            | LedgerError::NoSuchJob
            | LedgerError::NoCheckpoint => Problem::new(kinds::NOT_FOUND, error.to_string()),
            LedgerError::PageSize { .. } | LedgerError::CasePageSize { .. } => {
                Problem::invalid("limit", error.to_string())
            }
            LedgerError::NoSuchCase => Problem::new(kinds::NOT_FOUND, error.to_string()),
            LedgerError::CaseClosed => Problem::new(kinds::CASE_CLOSED, error.to_string()),
            LedgerError::CasesFull { .. } => Problem::new(kinds::CASES_FULL, error.to_string()),
            LedgerError::CaseNotesFull { .. } | LedgerError::NoteLength { .. } => {
                Problem::invalid("note", error.to_string())
            }
            LedgerError::UnknownDecision => Problem::invalid("decision", error.to_string()),
            LedgerError::Beyond { .. } => Problem::new(kinds::INVALID_REQUEST, error.to_string()),
            // Proofs between sizes in the wrong order, or from the empty tree.
            LedgerError::Provenance(cause)
                if matches!(cause.code(), "tree-shrank" | "consistency-from-empty-tree") =>
            {
                Problem::new(kinds::INVALID_REQUEST, cause.to_string())
            }
            // A request's id stands for its order too, so this is the same order again: its first
            // attempt, perhaps in another process or before a restart, is queued but not covered.
            LedgerError::RequestConflict => Problem::new(
                kinds::REQUEST_UNDER_WAY,
                "an earlier attempt with this key is not recorded to its end; try again for its answer",
            )
            .retry_after(LEDGER_RETRY_S),
            LedgerError::JobPageSize { .. } | LedgerError::TimeStampPageSize { .. } => {
                Problem::invalid("limit", error.to_string())
            }
            LedgerError::Distance { .. } | LedgerError::TooNear { .. } => {
                Problem::invalid("distance", error.to_string())
            }
            LedgerError::NoPerceptualHash { .. } => Problem::invalid("near_entry", error.to_string()),
            LedgerError::UnknownKey { .. } => Problem::invalid("key", error.to_string()),
            LedgerError::JobKeyConflict => {
                Problem::new(kinds::IDEMPOTENCY_CONFLICT, error.to_string())
            }
            LedgerError::JobOrderTooLarge { .. } => {
                Problem::new(kinds::TOO_LARGE, error.to_string())
            }
            LedgerError::ClientJobsFull { .. } => {
                Problem::new(kinds::TOO_MANY_REQUESTS, error.to_string()).retry_after(TURN_RETRY_S)
            }
            LedgerError::JobsFull { .. } => {
                Problem::new(kinds::OVERLOADED, error.to_string()).retry_after(TURN_RETRY_S)
            }
            LedgerError::KeyRetired => Problem::hidden(
                kinds::LEDGER_UNAVAILABLE,
                "another entry key has followed the one of this process; it must be started anew",
                &error,
            ),
            LedgerError::QueueFull { .. } => {
                Problem::new(kinds::OVERLOADED, error.to_string()).retry_after(LEDGER_RETRY_S)
            }
            LedgerError::DatabaseFull { .. } | LedgerError::DiskFull { .. } => Problem::hidden(
                kinds::LEDGER_UNAVAILABLE,
                "the ledger's disk is full",
                &error,
            )
            .retry_after(LEDGER_RETRY_S),
            LedgerError::NotYetPublished { .. } => Problem::hidden(
                kinds::LEDGER_UNAVAILABLE,
                "no checkpoint covered the entry in time; it stays queued, but is not answered",
                &error,
            )
            .retry_after(LEDGER_RETRY_S),
            _ if error.is_transient() => Problem::hidden(
                kinds::LEDGER_UNAVAILABLE,
                "the ledger does not answer",
                &error,
            )
            .retry_after(LEDGER_RETRY_S),
            _ => Problem::internal(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_over_a_cap_unknown_files_and_damaged_files_have_codes_of_their_own() {
        let status = |code: &str| {
            let error = SandboxError::Refused {
                code: code.to_owned(),
                message: "no".to_owned(),
            };
            Problem::from(error).kind.status
        };
        assert_eq!(status("too-many-bytes"), 413);
        assert_eq!(status("unknown-format"), 415);
        assert_eq!(status("truncated"), 422);
        assert_eq!(Problem::from(SandboxError::Died).kind.status, 422);
    }

    #[test]
    fn a_busy_service_says_when_to_come_back() {
        let problem = Problem::from(WorkError::NoTurn(NoTurn::QueueFull { waiting_max: 1 }));
        assert_eq!(
            (problem.kind.status, problem.retry_after_s),
            (503, Some(TURN_RETRY_S))
        );
        let problem = Problem::from(LedgerError::QueueFull { pending_max: 1 });
        assert_eq!(
            (problem.kind.status, problem.retry_after_s),
            (503, Some(LEDGER_RETRY_S))
        );
    }

    #[test]
    fn a_repetition_that_meets_its_own_first_attempt_is_told_to_come_back() {
        let problem = Problem::from(LedgerError::RequestConflict);
        assert_eq!(
            (problem.kind.status, problem.kind.code),
            (409, "request-under-way")
        );
        assert_eq!(problem.retry_after_s, Some(LEDGER_RETRY_S));
    }

    #[test]
    fn the_ledgers_own_failures_keep_their_causes_to_themselves() {
        let error = LedgerError::Damaged {
            detail: "tree node 7 is missing".to_owned(),
        };
        let problem = Problem::from(error);
        assert_eq!(problem.kind.status, 500);
        assert!(!problem.detail.contains("tree node"));
    }
}
