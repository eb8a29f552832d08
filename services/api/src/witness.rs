//! A small witness (C2SP tlog-witness): it cosigns the checkpoints of the logs that it knows, as long as
//! each continues the last one that it saw.
//!
//! What it saw last lies in a folder for each log, and is replaced and flushed before the cosignature is
//! handed out. A crash between the two loses an answer: the log asks again, is told the newer size, and
//! proves from there.

use std::net::TcpListener;
use std::path::Path;

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{App, HttpResponse, HttpServer, dev::Server, web};
use jiff::Timestamp;
use ledger::LedgerError;
use ledger::sequencer::CheckpointStore;
use provenance::witness::ADD_CHECKPOINT_BYTES_MAX;
use provenance::{AddCheckpoint, CheckpointKeys, Digest, ProvenanceError, WitnessSigner};
use tokio::sync::Mutex;

/// The media type of the size in an answer to a log that is behind, by the specification.
pub(crate) const TREE_SIZE_TYPE: &str = "text/x.tlog.size";
/// One request is a few kilobytes of arithmetic.
const WORKERS: usize = 1;

/// The witness.
pub struct Witness {
    signer: WitnessSigner,
    logs: Vec<WatchedLog>,
}

/// A log whose checkpoints are cosigned.
struct WatchedLog {
    keys: CheckpointKeys,
    store: CheckpointStore,
    /// One request of a log at a time: comparing and remembering are one step.
    turn: Mutex<()>,
}

/// Why a request was not granted.
#[derive(Debug)]
enum Denial {
    Refused(ProvenanceError),
    Failed(LedgerError),
}

impl From<ProvenanceError> for Denial {
    fn from(refusal: ProvenanceError) -> Self {
        Self::Refused(refusal)
    }
}

impl From<LedgerError> for Denial {
    fn from(error: LedgerError) -> Self {
        Self::Failed(error)
    }
}

impl Witness {
    /// A witness of these logs that remembers in this folder. Whoever can set the folder back can make it
    /// cosign a second history.
    pub fn new(signer: WitnessSigner, logs: Vec<CheckpointKeys>, state: &Path) -> Self {
        let watch = |keys: CheckpointKeys| {
            // The first key names the log for good.
            let first = keys.keys().first().map(|key| key.verifier.to_string());
            let folder = Digest::of(first.unwrap_or_default().as_bytes());
            WatchedLog {
                store: CheckpointStore::new(state.join(folder.to_string())),
                keys,
                turn: Mutex::new(()),
            }
        };
        Self {
            signer,
            logs: logs.into_iter().map(watch).collect(),
        }
    }

    /// Cosigns a checkpoint at this time, in seconds since 1970 UTC. Answers the signature line.
    async fn add_checkpoint(&self, body: &str, time_s: u64) -> Result<String, Denial> {
        let request = AddCheckpoint::parse(body)?;
        let origin = &request.checkpoint.unverified().origin;
        let log = self.logs.iter().find(|log| log.keys.origin() == origin);
        let log = log.ok_or_else(|| ProvenanceError::OriginMismatch {
            expected: "a log that this witness knows".to_owned(),
            found: origin.clone(),
        })?;
        let _turn = log.turn.lock().await;
        let seen = log.store.read().await?;
        let witnessed = seen.as_ref().map(|seen| seen.unverified());
        if let Some(seen) = &seen {
            log.store.verify(seen, &log.keys)?;
        }
        request.admit(&log.keys, witnessed)?;
        if seen.as_ref() != Some(&request.checkpoint) {
            log.store
                .replace(seen.as_ref(), &request.checkpoint)
                .await?;
        }
        // A crash here leaves a checkpoint that was remembered and not cosigned; see above.
        Ok(self.signer.cosign(&request.checkpoint, time_s))
    }

    /// Serves `POST /add-checkpoint` on a bound port.
    ///
    /// # Errors
    /// When the port cannot be served.
    pub fn serve(self, listener: TcpListener) -> std::io::Result<Server> {
        let witness = web::Data::new(self);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(witness.clone())
                .app_data(web::PayloadConfig::new(ADD_CHECKPOINT_BYTES_MAX))
                .route("/add-checkpoint", web::post().to(add_checkpoint))
        });
        Ok(server.workers(WORKERS).listen(listener)?.run())
    }
}

async fn add_checkpoint(witness: web::Data<Witness>, body: web::Bytes) -> HttpResponse {
    let time_s = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
    let Ok(body) = str::from_utf8(&body) else {
        return refuse(StatusCode::BAD_REQUEST, "the request is not UTF-8 text");
    };
    match witness.add_checkpoint(body, time_s).await {
        Ok(line) => HttpResponse::Ok().body(format!("{line}\n")),
        Err(Denial::Refused(refusal)) => denied(&refusal),
        Err(Denial::Failed(error)) => {
            tracing::error!(%error, "the witness cannot remember what it saw");
            refuse(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the witness cannot remember what it saw",
            )
        }
    }
}

/// The status codes of the specification.
fn denied(refusal: &ProvenanceError) -> HttpResponse {
    let status = match refusal {
        ProvenanceError::WitnessedSize { witnessed, .. } => {
            return HttpResponse::Conflict()
                .insert_header((CONTENT_TYPE, TREE_SIZE_TYPE))
                .body(format!("{witnessed}\n"));
        }
        ProvenanceError::WitnessedRoot { .. } => StatusCode::CONFLICT,
        ProvenanceError::OriginMismatch { .. } => StatusCode::NOT_FOUND,
        ProvenanceError::UnknownKey { .. }
        | ProvenanceError::SignatureInvalid { .. }
        | ProvenanceError::CheckpointKeyUnseen { .. }
        | ProvenanceError::CheckpointKeyOutsideWindow { .. }
        | ProvenanceError::CheckpointKeyRevoked { .. } => StatusCode::FORBIDDEN,
        ProvenanceError::ProofLength { .. }
        | ProvenanceError::RootMismatch { .. }
        | ProvenanceError::OldRootMismatch { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::BAD_REQUEST,
    };
    refuse(status, &refusal.to_string())
}

fn refuse(status: StatusCode, detail: &str) -> HttpResponse {
    HttpResponse::build(status).body(format!("{detail}\n"))
}
