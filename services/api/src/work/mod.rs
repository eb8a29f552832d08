//! The journeys as plain functions: HTTP handlers, pages and commands call the same ones.
//!
//! A journey takes domain values, waits for its turn, works, appends to the ledger and answers
//! with domain values. It knows nothing of HTTP.

mod audit;
mod batches;
mod cases;
mod checkpoint_stamps;
mod conditions;
mod error;
mod export;
mod file;
mod generate;
mod idempotency;
pub(crate) mod infotext;
pub mod jobs;
mod log;
mod models;
mod order;
mod own;
mod pace;
mod painting;
mod picture;
mod plan;
mod report;
mod score;
mod signing;
mod source;
mod worker;

pub use audit::{
    EntryProof, consistency, entry, entry_bundle, entry_image, entry_manifests, entry_proof,
    latest_checkpoint, manifest_bundle, marked_entries, near_entries, search, witnessed_checkpoint,
};
pub use batches::Batches;
pub use cases::{
    CaseList, OpenedCase, add_case_note, case, case_picture, case_upload, close_case,
    erase_case_upload, examine_case, list_cases, may_change, open_case,
};
pub use checkpoint_stamps::{checkpoint, time_stamp, time_stamps};
pub use conditions::Conditions;
pub use error::WorkError;
pub use export::{Export, ExportOrder, export};
pub use file::{fingerprint_algorithm, unsigned_file, watermark_algorithm};
pub use generate::{GenerateAnswer, OnProgress, RecordedPicture, generate, generate_once, render};
pub use idempotency::{Idempotency, IdempotencyKey};
pub use log::{gauges, key_file, key_history, tile, walk};
pub(crate) use models::announce_model;
pub use models::{ModelFacts, model, models};
pub use order::{FileOptions, GenerateOrder};
pub use pace::BatchTerms;
pub use painting::{MaskPainting, MaskedContent};
pub use picture::{heatmap_picture, to_picture};
pub use plan::Plan;
pub(crate) use plan::takes_eta;
pub use report::{ReadPicture, ScoreReport, TraceCurve};
pub use score::{
    Examination, InversionStrip, RecordedScore, ScoreAnswer, ScoreTimings, Upload, examine, score,
};
use signing::sign_entries;
pub use source::{
    LatentsSink, MaskReading, OwnLatents, SourceFile, SourceMask, SourcePicture, open_mask,
    open_picture, read_metadata,
};
pub(crate) use worker::{forget_old_jobs, work_off_jobs};

use std::time::{SystemTime, UNIX_EPOCH};

/// The time in milliseconds since 1970 UTC, as entries state it.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// 32 random bytes for a commitment.
fn draw_salt() -> [u8; 32] {
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).expect("the operating system has randomness");
    salt
}
